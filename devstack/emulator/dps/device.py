"""The device API over MQTT: register, and ask how it stands.

Topics (Microsoft, "Communicate with DPS using the MQTT protocol"): publish to
``$dps/registrations/PUT/iotdps-register/?$rid=`` and ``$dps/registrations/GET/iotdps-get-operationstatus/?$rid=
&operationId=``; answers come on ``$dps/registrations/res/{status}/?$rid=``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from devstack.emulator.dps import errors
from devstack.emulator.dps.errors import ProvisioningError
from devstack.emulator.mqtt import SUBSCRIPTION_REFUSED, Refused, ReturnCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devstack.emulator.context import Context
    from devstack.emulator.dps.state import Provisioning
    from devstack.emulator.mqtt import Acceptor, Connect, Connection, Will

LOG = logging.getLogger(__name__)
_SERVICE = "dps_device"
_RESPONSES = "$dps/registrations/res/"
_REGISTER = "$dps/registrations/PUT/iotdps-register/"
_STATUS = "$dps/registrations/GET/iotdps-get-operationstatus/"
_RETRY_AFTER = 3
"""Seconds, as the real service advises."""


def acceptor(context: Context, provisioning: Provisioning) -> Acceptor:
    """Give what decides about a device's CONNECT.

    Whether the device is let in is decided when it registers, since only then the service can say why not.
    """

    async def accept(connect: Connect, connection: Connection) -> RegistrationSession:
        parts = connect.username.split("/")  # {idScope}/registrations/{registrationId}/api-version=...
        registration_id = parts[2] if len(parts) > 2 else ""  # noqa: PLR2004 - three parts before the version
        if not registration_id or registration_id.lower() != connect.client_id.lower():
            raise Refused(
                ReturnCode.IDENTIFIER_REJECTED,
                f"client id {connect.client_id!r} and registration id {registration_id!r} differ",
            )
        return RegistrationSession(context, provisioning, connection, registration_id)

    return accept


class RegistrationSession:
    """One device that registers."""

    def __init__(
        self, context: Context, provisioning: Provisioning, connection: Connection, registration_id: str
    ) -> None:
        self._context = context
        self._provisioning = provisioning
        self._connection = connection
        self._registration_id = registration_id

    async def subscribed(self, filters: Sequence[tuple[str, int]]) -> list[int]:
        """Grant the answers' topic, and no other."""
        return [min(qos, 1) if topic.startswith(_RESPONSES) else SUBSCRIPTION_REFUSED for topic, qos in filters]

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
        status, body = self._outcome(operation, fields, payload)
        if lost != "response":
            await self._answer(status, fields.get("$rid", ""), body)

    async def _planned(self, operation: str, request_id: str) -> str | None:
        """Let planned faults happen; tell whether the request or its answer gets lost."""
        rule = self._context.faults.next(_SERVICE, operation)
        if rule is None:
            return None
        if rule.latency_ms:
            await asyncio.sleep(rule.latency_ms / 1000)
        if rule.status is not None:
            fault = ProvisioningError(rule.status, rule.status * 1000 + 1, "This fault was planned.")
            await self._answer(rule.status, request_id, fault.body(), rule.retry_after)
            return "request"
        if rule.drop is not None:
            self._connection.close()
        return rule.drop

    def _outcome(self, operation: str, fields: dict[str, str], payload: bytes) -> tuple[int, dict[str, Any]]:
        try:
            if operation == "register":
                return 200, self._register(payload)
            if operation == "operationStatus":
                record = self._provisioning.registration(self._registration_id)
                return 200, _assigned(record, fields.get("operationId", ""))
        except ProvisioningError as error:
            LOG.info("DPS refuses %s: %s (%s)", self._registration_id, error.message, error.hint)
            return error.status, error.body()
        return 404, errors.not_found("Operation").body()

    def _register(self, payload: bytes) -> dict[str, Any]:
        try:
            body = json.loads(payload) if payload.strip() else {}
        except ValueError:
            raise errors.bad_request("The registration is no JSON.") from None
        given = body.get("payload") if isinstance(body, dict) else None
        record = self._provisioning.register(self._connection.peer_chain, self._registration_id, given)
        return _assigned(record, f"5.{uuid.uuid4().hex}")

    async def _answer(
        self, status: int, request_id: str, body: dict[str, Any], retry_after: int | None = _RETRY_AFTER
    ) -> None:
        topic = f"{_RESPONSES}{status}/?$rid={request_id}"
        if status in {202, 429} or status >= 500:  # noqa: PLR2004 - those that are to be tried again
            topic += f"&retry-after={retry_after}"
        await self._connection.publish(topic, json.dumps(body).encode(), qos=1)

    async def closed(self, will: Will | None) -> None:
        """Nothing is left behind: the record is in the store."""


def _assigned(record: dict[str, Any], operation_id: str) -> dict[str, Any]:
    shown = {name: value for name, value in record.items() if name != "enrollmentGroupId"}
    return {
        "operationId": operation_id,
        "status": record["status"],
        "registrationState": {"x509": {}, **shown},
    }
