"""Which hub a device goes to (Microsoft, "How to use allocation policies" and "Understand custom allocation policies").

``hashed`` spreads devices by a hash of the registration id, so that each keeps its hub; ``static`` takes the first hub
listed. ``geoLatency`` is ``hashed`` here: every hub is as near as the other. ``custom`` asks a webhook of the user's.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from emulator.platform.certificates import certificate_info
from emulator.services.dps.entries import without_keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography import x509

    from emulator.services.dps.attestation import Match

LOG = logging.getLogger(__name__)
WEBHOOK_SECONDS = 5
"""How long the webhook may take; the emulator's own measure."""

WEBHOOK_FAILED = 400207
"""As the service says it of a webhook that answered with an error status (seen in device SDKs' own test data)."""


class AllocationFailed(Exception):
    """No hub can be chosen: the registration fails with this code, after it was accepted.

    Attributes:
        code: six digits.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """A device that needs a hub.

    Attributes:
        match: the entry that let it in.
        registration_id: in lower case.
        leaf: its certificate; None if it has shown a signature.
        payload: what it sent along.
        current: its registration record, if it has one.
    """

    match: Match
    registration_id: str
    leaf: x509.Certificate | None
    payload: Any
    current: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Where the device goes.

    Attributes:
        host_name: of the hub.
        initial_twin: from the webhook; it goes before whatever the entry says, migration included.
        payload: from the webhook, for the device.
    """

    host_name: str
    initial_twin: Mapping[str, Any] | None = None
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Allocation:
    """The policies, over the hubs that are linked.

    Attributes:
        linked: host names.
        ca_file: the emulator's own CA, trusted at webhooks beside the public ones.
    """

    linked: Sequence[str]
    ca_file: Path
    _tls: list[ssl.SSLContext] = field(default_factory=list)

    async def choose(self, request: Request) -> Choice:
        """Choose a hub; a device keeps the one it has when its entry never updates the assignment.

        Raises:
            AllocationFailed: the webhook is absent, fails, or names no hub that it may.
        """
        entry = request.match.entry
        names = list(entry.get("iotHubs") or self.linked)
        before = str((request.current or {}).get("assignedHub") or "")
        if before in self.linked and not policy_of(entry)["updateHubAssignment"]:
            return Choice(before)
        if entry["allocationPolicy"] == "custom":
            return await self._ask_webhook(request, names)
        digest = int.from_bytes(hashlib.sha256(request.registration_id.encode()).digest()[:8], "big")
        return Choice(names[0] if entry["allocationPolicy"] == "static" else names[digest % len(names)])

    async def _ask_webhook(self, request: Request, names: Sequence[str]) -> Choice:
        url = str((request.match.entry.get("customAllocationDefinition") or {}).get("webhookUrl") or "")
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(WEBHOOK_SECONDS)) as session,
                session.post(url, json=allocation_request(request, names), ssl=self._trust()) as response,
            ):
                if response.status >= 400:  # noqa: PLR2004 - the classes of errors
                    raise AllocationFailed(
                        WEBHOOK_FAILED, f"Custom allocation failed with status code: {response.status}"
                    )
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, ValueError, TimeoutError) as error:
            LOG.info("the custom allocation webhook failed for %s: %r", request.registration_id, error)
            raise AllocationFailed(WEBHOOK_FAILED, f"Custom allocation failed: {type(error).__name__}") from None
        return _choice(answer, names)

    def _trust(self) -> ssl.SSLContext:
        """Made at the first call: reading all public CAs takes a while."""
        if not self._tls:
            context = ssl.create_default_context()
            context.load_verify_locations(self.ca_file)
            self._tls.append(context)
        return self._tls[0]


def allocation_request(request: Request, names: Sequence[str]) -> dict[str, Any]:
    """Give the body that the webhook gets (``AllocationRequest``)."""
    kind = "individualEnrollment" if request.match.group_id is None else "enrollmentGroup"
    current = request.current or {}
    runtime: dict[str, Any] = {"registrationId": request.registration_id}
    if current.get("assignedHub"):
        runtime["currentIotHubHostName"] = current["assignedHub"]
        runtime["currentDeviceId"] = current["deviceId"]
    if request.leaf is None:
        runtime["symmetricKey"] = {}  # empty in the log of "Use custom allocation policies"
    else:
        runtime["x509"] = {"clientCertificates": {"primary": {"info": certificate_info(request.leaf)}}}
    if request.payload is not None:
        runtime["payload"] = request.payload
    return {kind: without_keys(request.match.entry), "deviceRuntimeContext": runtime, "linkedHubs": list(names)}


def _choice(answer: Any, names: Sequence[str]) -> Choice:
    """Read the webhook's answer (``AllocationResponse``)."""
    fields = answer if isinstance(answer, dict) else {}
    host_name = next((value for name, value in fields.items() if name.lower() == "iothubhostname"), None)
    if host_name not in names:
        raise AllocationFailed(
            WEBHOOK_FAILED, f"Custom allocation failed: IoT hub {host_name!r} is not one of {', '.join(names)}"
        )
    twin = fields.get("initialTwin")
    return Choice(str(host_name), twin if isinstance(twin, Mapping) else None, fields.get("payload"))


def policy_of(entry: Mapping[str, Any]) -> Mapping[str, bool]:
    """Give an entry's reprovision policy; left out, it is "re-provision and migrate data"."""
    return {"updateHubAssignment": True, "migrateDeviceData": True, **(entry.get("reprovisionPolicy") or {})}
