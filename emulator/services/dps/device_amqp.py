"""The device API over AMQP: register, and ask how it stands.

Both links of a device lead to ``{idScope}/registrations/{registrationId}``; a request says what it wants in
``iotdps-operation-type``, and is answered by its correlation id. A refusal rejects the request, with the service's JSON
body as the description. Sources: azure-iot-sdk-node (``azure-iot-provisioning-device-amqp``), azure-iot-sdk-csharp
(``ProvisioningTransportHandlerAmqp``) and azure-iot-sdk-c (``prov_transport_amqp_common``).
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from emulator.platform.amqp_conditions import PlannedFaults, condition_of, rejected
from emulator.protocols.amqp import failures
from emulator.protocols.amqp.composites import Accepted, Properties
from emulator.protocols.amqp.links import ReceivingLink, SendingLink
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import Int, Malformed, Symbol
from emulator.services.dps import errors
from emulator.services.dps.attestation import Proof
from emulator.services.dps.device_api import Answer, Device, planned_answer
from emulator.services.dps.errors import ProvisioningError

if TYPE_CHECKING:
    from emulator.platform.context import Context
    from emulator.protocols.amqp.composites import Composite
    from emulator.protocols.amqp.connection import Connection
    from emulator.protocols.amqp.links import Link, Session
    from emulator.services.dps.device_api import DeviceApi

_SERVICE: Final = "dps_device"
_ADDRESS: Final = re.compile(r"(?:amqps?://[^/]*)?/?(?P<scope>[^/]+)/registrations/(?P<id>[^/]+)/?", re.IGNORECASE)
_API_VERSION: Final = Symbol("com.microsoft:api-version")
_TYPE, _OPERATION_ID = "iotdps-operation-type", "iotdps-operation-id"
_RETRY_AFTER: Final = ("retry-after", "Retry-After")
"""The SDKs for Node and C read the first, that for C# the second: an answer has both."""

_OPERATIONS: Final = {"iotdps-register": "register", "iotdps-get-operationstatus": "operationStatus"}
"""By the names that a plan of faults has for them."""

_FIRST_ERROR: Final = 300


class Registration(NamedTuple):
    """Where a link leads."""

    id_scope: str
    registration_id: str


def registration_of(address: str) -> Registration | None:
    """Read the address of a link, or the user name of SASL PLAIN; None if it leads elsewhere."""
    found = _ADDRESS.fullmatch(address)
    return found and Registration(found["scope"], unquote(found["id"]))


class RegistrationNodes:
    """What the devices of one connection reach."""

    def __init__(self, context: Context, api: DeviceApi, connection: Connection) -> None:
        self._context = context
        self._api = api
        self._connection = connection
        self._faults = PlannedFaults(context, _SERVICE, connection)
        self._answers: dict[tuple[Session, str], SendingLink] = {}

    def attach(self, link: Link, registration: Registration, signature: str | None) -> None:
        """Take a link, whatever there is to be said against the device.

        azure-iot-provisioning-device-amqp 1.9 of Node waits for ever when a link is refused, and only the refusal of a
        request has a place for the service's own body.

        Args:
            link: the link.
            registration: where it leads.
            signature: the password of SASL PLAIN; None if the client came without.
        """
        if isinstance(link, SendingLink):
            self._answers[link.session, registration.registration_id] = link
        elif isinstance(link, ReceivingLink):
            version = link.properties.get(_API_VERSION)
            refused = _refusal(registration, version, self._context.configuration.id_scope)
            device = Device(Proof(self._connection.peer_chain, signature), registration.registration_id)
            link.take = partial(self._take, link.session, device, refused)

    def detached(self, link: Link) -> None:
        """Forget a link."""
        self._answers = {where: each for where, each in self._answers.items() if each is not link}

    async def _take(
        self, session: Session, device: Device, refused: ProvisioningError | None, octets: bytes
    ) -> Composite:
        answers = self._answers.get((session, device.registration_id))
        if answers is None:
            return rejected(failures.PRECONDITION_FAILED, "attach a link that receives from this address first")
        try:
            request = Message.of(octets)
        except Malformed as error:
            return rejected(failures.DECODE_ERROR, str(error))
        kind = str(request.application_properties.get(_TYPE))
        rule = await self._faults.before(_OPERATIONS.get(kind, "unknown"))
        if rule is not None and rule.status is not None:
            answer = planned_answer(rule)
        elif refused is not None:
            answer = Answer(refused.status, refused.body())
        else:
            answer = await self._outcome(kind, device, request)
        self._faults.after(rule)
        if answer.status >= _FIRST_ERROR:
            return rejected(condition_of(answer.status), json.dumps(answer.body), _wait(answer, Symbol))
        answers.send(_message(request, answer))
        return Accepted()

    async def _outcome(self, kind: str, device: Device, request: Message) -> Answer:
        body = request.body if request.has_data else b""
        match kind:
            case "iotdps-register":
                return await self._api.register(device, body)
            case "iotdps-get-operationstatus":
                operation_id = request.application_properties.get(_OPERATION_ID)
                return await self._api.operation_status(device, str(operation_id))
            case "iotdps-get-registration":
                return await self._api.registration_state(device, body)
            case _:
                error = errors.not_offered(f"the operation {kind!r} of a device")
                return Answer(error.status, error.body())


def _refusal(registration: Registration, version: object, id_scope: str) -> ProvisioningError | None:
    """Tell what is to be said against all requests of a link, if anything is."""
    if registration.id_scope != id_scope:
        return errors.unknown_scope(registration.id_scope, id_scope)
    try:
        errors.check_version(version if isinstance(version, str) else None)
    except ProvisioningError as error:
        return error
    return None


def _message(request: Message, answer: Answer) -> bytes:
    return Message(
        body=json.dumps(answer.body).encode(),
        properties=Properties(correlation_id=request.properties.correlation_id),
        application_properties=_wait(answer, str),
    ).encode()


def _wait(answer: Answer, kind: type[str]) -> dict[object, object]:
    """Say when to ask again, if at all."""
    return {} if answer.retry_after is None else {kind(name): Int(answer.retry_after) for name in _RETRY_AFTER}
