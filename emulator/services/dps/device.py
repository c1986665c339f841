"""The device API over MQTT: register, and ask how it stands.

Topics (Microsoft, "Communicate with DPS using the MQTT protocol"): publish to
``$dps/registrations/PUT/iotdps-register/?$rid=`` and ``$dps/registrations/GET/iotdps-get-operationstatus/?$rid=
&operationId=``; answers come on ``$dps/registrations/res/{status}/?$rid=``.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from emulator.protocols.mqtt import SUBSCRIPTION_REFUSED, Refused, ReturnCode
from emulator.services.dps import errors
from emulator.services.dps.attestation import Proof
from emulator.services.dps.device_api import Answer, Device, DeviceApi, planned_answer
from emulator.services.dps.errors import ProvisioningError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.platform.context import Context
    from emulator.protocols.mqtt import Acceptor, Connect, Connection, Will

_SERVICE = "dps_device"
_RESPONSES = "$dps/registrations/res/"
_REGISTER = "$dps/registrations/PUT/iotdps-register/"
_NOT_OFFERED = 501
_STATUS = "$dps/registrations/GET/iotdps-get-operationstatus/"


def acceptor(context: Context, api: DeviceApi) -> Acceptor:
    """Give what decides about a device's CONNECT.

    Whether the device is let in is decided when it registers, since only then the service can say why not.
    """

    async def accept(connect: Connect, connection: Connection) -> RegistrationSession:
        registration_id, _, parameters = connect.username.split("/", 2)[2].partition("/")
        if not registration_id or registration_id.lower() != connect.client_id.lower():
            raise Refused(
                ReturnCode.IDENTIFIER_REJECTED,
                f"client id {connect.client_id!r} and registration id {registration_id!r} differ",
            )
        _check_version(parameters)
        return RegistrationSession(context, api, connection, registration_id)

    return accept


def _check_version(parameters: str) -> None:
    """Read the end of a user name, ``{idScope}/registrations/{registrationId}/api-version=...``."""
    try:
        errors.check_version(parse_qs(parameters).get("api-version", [""])[0])
    except ProvisioningError as error:
        raise Refused(ReturnCode.NOT_AUTHORIZED, error.message) from None


class RegistrationSession:
    """One device that registers."""

    def __init__(self, context: Context, api: DeviceApi, connection: Connection, registration_id: str) -> None:
        self._context = context
        self._api = api
        self._connection = connection
        self._registration_id = registration_id
        self._qos = 0

    async def subscribed(self, filters: Sequence[tuple[str, int]]) -> list[int]:
        """Grant the answers' topic, and no other; answers come with the QoS that was granted (MQTT 3.1.1, 3.8.4)."""
        granted = [min(qos, 1) if topic.startswith(_RESPONSES) else SUBSCRIPTION_REFUSED for topic, qos in filters]
        self._qos = max((qos for qos in granted if qos != SUBSCRIPTION_REFUSED), default=self._qos)
        return granted

    async def settled(self) -> None:
        """Nothing waits for a device that registers."""

    async def unsubscribed(self, filters: Sequence[str]) -> None:
        """Answer on the topic all the same: a client that wants none ends the connection."""

    @property
    def present(self) -> bool:
        """Nothing of a device's session is kept."""
        return False

    async def acknowledged(self, identifier: int) -> None:
        """Answers are sent once."""

    async def published(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Answer a request."""
        del qos, retain
        path, _, query = topic.partition("?")
        fields = {name: values[0] for name, values in parse_qs(query).items()}
        operation = {_REGISTER: "register", _STATUS: "operationStatus"}.get(path, "unknown")
        lost = await self._planned(operation, fields.get("$rid", ""))
        if lost == "request":
            return
        answer = await self._outcome(operation, fields, payload)
        if answer.status == _NOT_OFFERED:
            # Microsoft's SDKs take every 5xx for passing, and ask again for ever.
            answer = replace(answer, status=400)
        if lost != "response":
            await self._answer(fields.get("$rid", ""), answer)

    async def _planned(self, operation: str, request_id: str) -> str | None:
        """Let planned faults happen; tell whether the request or its answer gets lost."""
        rule = self._context.faults.next(_SERVICE, operation)
        if rule is None:
            return None
        if rule.latency_ms:
            await asyncio.sleep(rule.latency_ms / 1000)
        if rule.status is not None:
            await self._answer(request_id, planned_answer(rule))
            return "request"
        if rule.drop is not None:
            self._connection.close()
        return rule.drop

    async def _outcome(self, operation: str, fields: dict[str, str], payload: bytes) -> Answer:
        connect = self._connection.connect
        signature = connect.password.decode(errors="replace") if connect is not None and connect.password else None
        device = Device(Proof(self._connection.peer_chain, signature), self._registration_id)
        if operation == "register":
            return await self._api.register(device, payload)
        if operation == "operationStatus":
            return await self._api.operation_status(device, fields.get("operationId", ""))
        return Answer(404, errors.not_found("Operation").body())

    async def _answer(self, request_id: str, answer: Answer) -> None:
        topic = f"{_RESPONSES}{answer.status}/?$rid={request_id}"
        if answer.retry_after is not None:
            topic += f"&retry-after={answer.retry_after}"
        await self._connection.publish(topic, json.dumps(answer.body).encode(), qos=self._qos)

    async def closed(self, will: Will | None) -> None:
        """Nothing is left behind: the record is in the store."""
