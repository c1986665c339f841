"""How Azure's services refuse over AMQP: by conditions, of which Microsoft's SDKs make exceptions.

Sources: azure-iot-sdk-csharp (``AmqpErrorMapper``, ``AmqpIotErrorAdapter``) and azure-iot-sdk-node
(``amqp_service_errors``, ``amqp_common_errors``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from emulator.protocols.amqp import failures
from emulator.protocols.amqp.composites import Error, Rejected
from emulator.protocols.amqp.failures import ConnectionFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.platform.context import Context
    from emulator.platform.faults import Rule
    from emulator.protocols.amqp.connection import Connection

LOG = logging.getLogger(__name__)
ARGUMENT_ERROR: Final = "com.microsoft:argument-error"
THROTTLED: Final = "com.microsoft:device-container-throttled"
TIMEOUT: Final = "com.microsoft:timeout"
_OF_STATUS: Final = {
    400: ARGUMENT_ERROR,
    401: failures.UNAUTHORIZED_ACCESS,
    403: failures.RESOURCE_LIMIT_EXCEEDED,
    404: failures.NOT_FOUND,
    413: failures.MESSAGE_SIZE_EXCEEDED,
    429: THROTTLED,
    501: failures.NOT_IMPLEMENTED,
    503: TIMEOUT,
    504: TIMEOUT,
}


def condition_of(status: int) -> str:
    """Give what stands for an HTTP status; ``amqp:internal-error`` for one that has nothing of its own."""
    return _OF_STATUS.get(status, failures.INTERNAL_ERROR)


def rejected(condition: str, description: str, info: Mapping[object, object] | None = None) -> Rejected:
    """Say that a message is not taken, and why."""
    LOG.info("a message is rejected: %s: %s", condition, description)
    return Rejected(error=Error(condition=condition, description=description, info=dict(info) if info else None))


def planned_text(status: int) -> str:
    """Describe a planned fault to a client."""
    return f"a planned fault: {status}"


class PlannedFaults:
    """The faults of one service that meet one connection.

    Args:
        context: of the emulator.
        service: as a plan names it.
        connection: what a fault may break off.
    """

    def __init__(self, context: Context, service: str, connection: Connection) -> None:
        self._context = context
        self._service = service
        self._connection = connection

    async def before(self, operation: str) -> Rule | None:
        """Give the fault that hits an operation; here it waits, and breaks off before anything took place."""
        rule = self._context.faults.next(self._service, operation)
        if rule is not None:
            await asyncio.sleep(rule.latency_ms / 1000)
            if rule.drop == "request":
                self._connection.close()
                raise ConnectionFailure(failures.INTERNAL_ERROR, "a planned fault breaks it off")
        return rule

    async def rejection(self, operation: str) -> tuple[Rule | None, Rejected | None]:
        """Give the fault that hits the sending of a message, and how the message is rejected by it, if it is."""
        rule = await self.before(operation)
        if rule is None or rule.status is None:
            return rule, None
        return rule, rejected(condition_of(rule.status), planned_text(rule.status))

    def after(self, rule: Rule | None) -> None:
        """Break off after the effect took place, if that is planned."""
        if rule is not None and rule.drop == "response":
            self._connection.close()
