"""Orders of devices."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, AnyUrl, AwareDatetime, Field, UrlConstraints, model_validator
from pydantic_core import PydanticCustomError

from shared.contracts.base import TAKEN_OUT, Contract, with_example
from shared.contracts.ids import EnrollmentGroupId, RegistrationId, RequestId, SigningRequest
from shared.contracts.parsing import parse
from shared.domain.words import IssuedDevices, RegisterBy
from shared.redaction import is_marked
from shared.rules.key_algorithms import KeyAlgorithm
from shared.rules.twin_limits import DESIRED_LIMIT, TAGS_LIMIT, twin_fault


def _blob_url(url: AnyUrl) -> AnyUrl:
    # Never repeated: what stands behind '?' or before '@' lets whoever reads it in.
    if "?" in str(url) or url.username is not None or url.password is not None:
        raise PydanticCustomError(
            "devices_url",
            "the URL has a query ('?'), such as a shared access signature, or a password; leave it out: the app reads "
            "the blob by its own identity. A '?' in the name is '%3F'",
        )
    return url


BlobUrl = Annotated[AnyUrl, UrlConstraints(max_length=4096), AfterValidator(_blob_url)]


def _fit_for_twins(limit: int) -> AfterValidator:
    def check(content: dict[str, Any]) -> dict[str, Any]:
        if is_marked(content):
            raise PydanticCustomError("marked", TAKEN_OUT)
        fault = twin_fault(content, limit)
        if fault is not None:
            raise PydanticCustomError("twin", "no hub takes it: {fault}", {"fault": fault})
        return content

    return AfterValidator(check)


Tags = Annotated[dict[str, Any], _fit_for_twins(TAGS_LIMIT)]


DesiredProperties = Annotated[dict[str, Any], _fit_for_twins(DESIRED_LIMIT)]


class DeviceTwinProperties(Contract):
    """``properties`` of an initial twin."""

    desired: DesiredProperties | None = None


class InitialTwin(Contract):
    """What a device's twin holds when DPS creates it (DPS: ``initialTwin``)."""

    tags: Tags | None = None
    properties: DeviceTwinProperties | None = None

    @property
    def desired(self) -> dict[str, Any] | None:
        """Its desired properties, if it names any."""
        return self.properties.desired if self.properties else None


class DeviceRequest(Contract):
    """One device of an order.

    ``csr`` is a PKCS#10 request in PEM, the first choice: then the private key never leaves the device. Without it
    the service makes the key.
    """

    model_config = with_example({"registrationId": "press-1", "tags": {"plant": "Bremen"}})

    registration_id: RegistrationId
    csr: SigningRequest | None = None
    key_algorithm: KeyAlgorithm | None = None
    initial_twin: InitialTwin | None = None
    tags: Tags | None = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.csr is not None and self.key_algorithm is not None:
            raise PydanticCustomError(
                "one_key",
                "csr and keyAlgorithm can't be given together: the CSR brings the key; leave keyAlgorithm out",
            )
        return self


class ProgressEvents(Contract):
    """How often an order tells how far it is: after each ``every`` lines that are done."""

    model_config = with_example({"every": 1000})

    every: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class DeviceOrder(Contract):
    """An ERP's order of devices for one enrollment group (queue ``device-orders``).

    ``devices`` is read device by device, so that a bad one does not stop the others: its items are checked by
    :func:`device_request`.
    """

    read_later: ClassVar[frozenset[str]] = frozenset({"devices"})
    added_later: ClassVar[frozenset[str]] = frozenset({"progressEvents"})

    order_id: RequestId
    enrollment_group: EnrollmentGroupId
    devices: Annotated[list[Any], Field(min_length=1)] | None = None
    devices_url: BlobUrl | None = None
    register_by: RegisterBy = RegisterBy.SERVICE
    validity_days: Annotated[int, Field(strict=True, ge=1, le=3650)] | None = None
    progress_events: ProgressEvents | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.devices is None) == (self.devices_url is None):
            raise PydanticCustomError("one_source", "an order needs either devices or devicesUrl, and not both")
        return self


class DeviceOrderSchema(DeviceOrder):
    """The published schema of an order, in which each device shows its fields."""

    model_config = with_example(
        {
            "orderId": "order-1",
            "enrollmentGroup": "line-1",
            "devices": [{"registrationId": "press-1", "tags": {"plant": "Bremen"}}],
        }
    )

    devices: list[DeviceRequest] | None = None


class OrderWatch(Contract):
    """An accepted order that is seen to until it is complete (queue ``device-orders``; the app's own message).

    ``watch`` tells the message that sees to the order from those that did before.
    """

    model_config = with_example({"orderId": "order-1", "watch": "2026-05-01T12:00:00Z"})

    order_id: RequestId
    watch: AwareDatetime


class OrderAction(StrEnum):
    """Cancel an order, close one that waits for first boots, or try failed lines again."""

    CANCEL = "cancel"
    CLOSE = "close"
    RETRY = "retry"


class OrderAct(Contract):
    """A request about an order that exists (queue ``device-orders``). ``issued`` is for ``cancel``: keep by default.

    ``revoke`` is taken over HTTP alone.
    """

    model_config = with_example({"requestId": "cancel-1", "orderId": "order-1", "action": "cancel", "issued": "keep"})

    request_id: RequestId
    order_id: RequestId
    action: OrderAction
    issued: IssuedDevices | None = None

    @model_validator(mode="after")
    def _issued_of_cancel(self) -> Self:
        if self.action is not OrderAction.CANCEL and self.issued is not None:
            raise PydanticCustomError("issued", "issued is for the action 'cancel' only")
        return self


class OrderCancellation(Contract):
    """Body of ``POST /device-orders/{orderId}/cancel``: what becomes of devices that have their certificate."""

    model_config = with_example({"issued": "keep"})

    issued: IssuedDevices = IssuedDevices.KEEP


MESSAGE_LINES = 20
"""Lines of an order that one message stands for, at most."""


class DeviceRegistration(Contract):
    """Lines of an order on their way (queue ``device-registrations``; the app's own message).

    ``line`` is the first, ``lines`` how many there are with those that follow it; those that are done are passed over.
    """

    model_config = with_example({"orderId": "order-1", "line": 0, "lines": 20})

    order_id: RequestId
    line: Annotated[int, Field(strict=True, ge=0)]
    lines: Annotated[int, Field(strict=True, ge=1, le=MESSAGE_LINES)] = 1


def device_request(body: Any, *, index: int) -> DeviceRequest:
    """Check one device of an order; see :func:`parse`."""
    return parse(DeviceRequest, body, field=f"devices[{index}]")
