"""Values of AMQP as a hub reads them, and its refusals over AMQP."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from emulator.platform.amqp_conditions import ARGUMENT_ERROR, THROTTLED, rejected
from emulator.protocols.amqp import failures
from emulator.services.iot_hub import errors

if TYPE_CHECKING:
    from emulator.protocols.amqp.composites import Rejected
    from emulator.services.iot_hub.errors import HubError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CONDITIONS: Final = {
    "InvalidProtocolVersion": ARGUMENT_ERROR,
    "ArgumentInvalid": ARGUMENT_ERROR,
    "DeviceNotFound": failures.NOT_FOUND,
    "DeviceMaximumQueueDepthExceeded": failures.RESOURCE_LIMIT_EXCEEDED,
    "MessageTooLarge": failures.MESSAGE_SIZE_EXCEEDED,
    "ThrottlingException": THROTTLED,
    "NotImplemented": failures.NOT_IMPLEMENTED,
}


def condition(error: HubError) -> str:
    """Give what stands for a refusal of the hub."""
    return _CONDITIONS.get(error.code, failures.INTERNAL_ERROR)


def refusal(error: HubError) -> Rejected:
    """Say that the hub does not take a message."""
    return rejected(condition(error), f"ErrorCode:{error.code};{error.message}")


def path(address: str) -> str:
    """Give the path of a node's address, which may be a whole URL."""
    return re.sub(r"^amqps?://[^/]*", "", address, flags=re.IGNORECASE)


def text(name: Any, value: Any) -> str:
    """Give a property as the text that the other side gets.

    Raises:
        HubError: 400, it is neither text nor number.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise errors.bad_argument(f"the property {name!r} is not UTF-8.") from None
    if not isinstance(value, str | int | float | uuid.UUID):
        raise errors.bad_argument(f"the property {name!r} is neither text nor number.")
    return str(value)


def time(milliseconds: int | None) -> str | None:
    """Give a point in time as ISO 8601.

    Raises:
        HubError: 400, it is beyond the year 9999.
    """
    if milliseconds is None:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()
    except OverflowError:
        raise errors.bad_argument(f"absolute-expiry-time {milliseconds} is beyond the year 9999.") from None


def milliseconds(given: str) -> int:
    """Give a point in time, as ISO 8601, in milliseconds since 1970."""
    return (datetime.fromisoformat(given) - _EPOCH) // timedelta(milliseconds=1)
