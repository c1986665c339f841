"""DPS, hub, vault and lists in memory, with the semantics that the app relies on; each call is a step.

``tests/contract/in_memory/test_services.py`` holds DPS, hub and registrar against the app's adapters over the
emulator. Queues, tables and blobs are in :mod:`tests.world.storage`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceExistsError
from cryptography import x509

from shared.adapters.dps_service import ProvisioningService
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed
from shared.pki import names
from shared.ports.hubs import HubIdentity
from shared.ports.registrar import Assignment, RegistrationRefused
from shared.rules.etags import ANY_VERSION
from tests.world.conductor import Conductor
from tests.world.vault import OWNER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from shared.ledger.certificates import Certificates
    from shared.ports.registrar import ClientCredentials

HUB, OTHER = "hub-1", "hub-2"
"""The hub that the DPS in memory assigns devices to, and another one that may be linked to it."""

_ATTEMPTS, _SECRETS = 3, 25
"""Tries of a guarded write, and secrets of a page, as the vault gives them."""


@dataclass
class Secrets:
    """Secrets of the vault.

    Attributes:
        deleted: names of those that were deleted. They can be recovered, so none can be put in their place (Microsoft:
            "Azure Key Vault soft-delete overview").
    """

    conductor: Conductor = field(default_factory=Conductor)
    secrets: dict[str, str] = field(default_factory=dict)
    tags: dict[str, Mapping[str, str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    async def put(self, name: str, value: str, *, tags: Mapping[str, str], ends: datetime) -> None:
        del ends
        async with self.conductor.step("secrets.put", "vault"):
            if name in self.deleted:
                raise ResourceExistsError(f"secret {name} is currently in a deleted but recoverable state")
            self.secrets[name] = value
            self.tags[name] = dict(tags)

    async def get(self, name: str) -> str | None:
        async with self.conductor.step("secrets.get", "vault"):
            return self.secrets.get(name)

    async def page(self, *, continuation: str | None) -> tuple[dict[str, Mapping[str, str]], str | None]:
        async with self.conductor.step("secrets.page", "vault"):
            found = sorted(name for name in self.secrets if name > (continuation or ""))
            page = found[:_SECRETS]
            return {name: self.tags.get(name, {}) for name in page}, page[-1] if len(found) > _SECRETS else None

    async def delete(self, name: str) -> None:
        async with self.conductor.step("secrets.delete", "vault"):
            if self.secrets.pop(name, None) is not None:
                self.deleted.add(name)

    async def check(self) -> None:
        async with self.conductor.step("check", "vault"):
            pass

    async def close(self) -> None:
        pass


@dataclass
class Marks:
    """Tags of the vault's keys. Reading them is no step: what is read holds for seconds, whoever comes between.

    :class:`tests.world.vault.Vault` has all of a vault.
    """

    tagged: dict[str, dict[str, str]] = field(default_factory=dict)

    async def tags(self, name: str) -> Mapping[str, str] | None:
        return self.tagged.get(name)

    async def tag(self, name: str, tags: Mapping[str, str]) -> None:
        self.tagged.setdefault(name, dict(OWNER)).update(tags)


@dataclass
class Log:
    """The log: what is appended is one step."""

    conductor: Conductor = field(default_factory=Conductor)
    entries: list[bytes] = field(default_factory=list)

    async def append(self, entry: bytes) -> int:
        async with self.conductor.step("log.append", "log"):
            self.conductor.trace.note("log", changed=True)
            self.entries.append(entry)
            return len(self.entries) - 1

    def certificates(self) -> dict[str, str]:
        """Give what was logged of certificates: their serial numbers, and the hash of what was to be signed."""
        self.conductor.trace.note("log")
        read = [json.loads(each) for each in self.entries]
        return {each["serialNumber"]: each["tbs"] for each in read if each["type"] == "certificate"}

    def lists(self) -> set[str]:
        """Give the hashes of the CRLs that were logged."""
        read = [json.loads(each) for each in self.entries]
        return {each["sha256"] for each in read if each["type"] == "crl"}


@dataclass
class Topic:
    """A topic for events, which keeps them; it takes CloudEvents alone (CloudEvents 1.0, required attributes)."""

    conductor: Conductor = field(default_factory=Conductor)
    events: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, text: str) -> None:
        async with self.conductor.step("topic.send", "topic"):
            event: dict[str, Any] = json.loads(text)
            lacking = [each for each in ("source", "type") if not event.get(each)]
            if lacking or event.get("specversion") != "1.0":
                raise ValueError(f"it is not a CloudEvents event: {lacking}")
            self.events.append(event)


class Provisioning(ProvisioningService):
    """A DPS: the app's own adapter over entries and records in memory.

    The group takes every certificate of the issuing CA; an individual enrollment decides before it, enabled or disabled
    (Microsoft: "How to disenroll or revoke a device"). Ids are case-insensitive (Azure/azure-rest-api-specs,
    deviceprovisioningservices), and all dictionaries have them in lower case.

    Attributes:
        careless: whether it takes no notice of ETags, as no DPS does: to see that the auditor sees it.
        opened: is told of each write that lets a device in.
        writes: how often an entry was written.
    """

    def __init__(self, conductor: Conductor | None = None) -> None:
        self.conductor = conductor or Conductor()
        self.groups: dict[str, dict[str, Any]] = {}
        self.enrollments: dict[str, dict[str, Any]] = {}
        self.registrations: dict[str, dict[str, Any]] = {}
        self.group_enabled = True
        self.careless = False
        self.opened: Callable[[str], None] = lambda _door: None
        self.writes = 0

    # --- entries ---

    def _put(
        self, entries: dict[str, dict[str, Any]], key: str, body: Mapping[str, Any], etag: str | None
    ) -> dict[str, Any]:
        key = key.lower()
        present = entries.get(key)
        if not self.careless:
            if etag is None and present is not None:
                raise Conflict.because(f"{key!r} exists")
            if etag is not None and (present is None or etag not in {ANY_VERSION, present["etag"]}):
                raise PreconditionFailed.because(f"{key!r} has another ETag")
        self.writes += 1
        kept = {name: value for name, value in body.items() if name != "registrationState"}
        entries[key] = {**with_info(kept, present), "etag": f'"{self.writes}"'}
        return dict(entries[key])

    def _delete(self, entries: dict[str, dict[str, Any]], key: str, etag: str) -> bool:
        key = key.lower()
        present = entries.get(key)
        if present is None:
            return False
        if not self.careless and etag not in {ANY_VERSION, present["etag"]}:
            raise PreconditionFailed.because(f"{key!r} has another ETag")
        self.writes += 1
        del entries[key]
        return True

    async def get_group(self, group_id: str) -> dict[str, Any] | None:
        async with self.conductor.step("dps.get_group", "dps"):
            return _copied(self.groups.get(group_id.lower()))

    async def put_group(self, group: Mapping[str, Any], *, etag: str | None) -> dict[str, Any]:
        async with self.conductor.step("dps.put_group", "dps"):
            return self._put(self.groups, group["enrollmentGroupId"], group, etag)

    async def delete_group(self, group_id: str, *, etag: str) -> None:
        async with self.conductor.step("dps.delete_group", "dps"):
            self._delete(self.groups, group_id, etag)

    async def list_groups(self) -> AsyncIterator[dict[str, Any]]:
        async with self.conductor.step("dps.list_groups", "dps"):
            found = [dict(group) for group in self.groups.values()]
        for group in found:
            yield group

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        async with self.conductor.step("dps.get_enrollment", "dps"):
            return _copied(self.enrollments.get(registration_id.lower()))

    async def put_enrollment(self, enrollment: Mapping[str, Any], *, etag: str | None) -> dict[str, Any]:
        async with self.conductor.step(f"dps.put_enrollment {enrollment['provisioningStatus']}", "dps"):
            written = self._put(self.enrollments, enrollment["registrationId"], enrollment, etag)
            if written["provisioningStatus"] == "enabled":
                self.opened("DPS")
            return written

    async def delete_enrollment(self, registration_id: str, *, etag: str) -> None:
        async with self.conductor.step("dps.delete_enrollment", "dps"):
            if self._delete(self.enrollments, registration_id, etag):
                self.opened("DPS")

    # --- registration records ---

    async def get_registration(self, registration_id: str) -> dict[str, Any] | None:
        async with self.conductor.step("dps.get_registration", "dps"):
            return _copied(self.registrations.get(registration_id.lower()))

    async def delete_registration(self, registration_id: str, *, etag: str | None = None) -> None:
        async with self.conductor.step("dps.delete_registration", "dps"):
            present = self.registrations.get(registration_id.lower())
            if present is not None and etag is not None and present.get("etag") != etag:
                raise PreconditionFailed.because(f"{registration_id!r} has another ETag")
            self.registrations.pop(registration_id.lower(), None)

    def register(self, registration_id: str, **state: Any) -> None:
        """Write a registration record, which has another ETag from then on."""
        self.writes += 1
        self.registrations[registration_id] = {"registrationId": registration_id, **state, "etag": f'"{self.writes}"'}

    async def page_of_registrations(
        self, group_id: str, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        async with self.conductor.step("dps.page_of_registrations", "dps"):
            if group_id.lower() not in self.groups:
                return [], None
            begin = int(continuation or 0)
            found = [
                dict(each)
                for each in self.registrations.values()
                if (each.get("enrollmentGroupId") or "").lower() == group_id.lower()
            ]
            following = str(begin + size) if len(found) > begin + size else None
            return found[begin : begin + size], following

    async def page_of_enrollments(
        self, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        async with self.conductor.step("dps.page_of_enrollments", "dps"):
            begin, found = int(continuation or 0), [self._told(each) for each in self.enrollments.values()]
            following = str(begin + size) if len(found) > begin + size else None
            return found[begin : begin + size], following

    def _told(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Give an entry with how its device is registered (Azure/azure-rest-api-specs: ``registrationState``).

        DPS tells it of one that is read alone, too. Nobody reads it there, and the provers would try more orders.
        """
        state = self.registrations.get(entry["registrationId"].lower())
        return dict(entry) if state is None else {**entry, "registrationState": dict(state)}

    async def check(self) -> None:
        async with self.conductor.step("check", "dps"):
            pass

    async def close(self) -> None:
        pass

    # --- what it decides ---

    def admits(self, registration_id: str, certificate: x509.Certificate) -> bool:
        """Decide about a device as DPS does."""
        let_in = self.let_in_by_entry(registration_id)
        return self.group_admits(certificate) if let_in is None else names.sha256_thumbprint(certificate) in let_in

    def group_admits(self, _certificate: x509.Certificate) -> bool:
        """Tell whether a group lets a certificate in; here every group takes all of them."""
        return self.group_enabled

    def signing(self) -> Iterator[Mapping[str, Any]]:
        """Give the CAs that enabled groups hold, as their entries have them."""
        for group in self.groups.values():
            if group["provisioningStatus"] == "enabled":
                yield from filter(None, group["attestation"]["x509"]["signingCertificates"].values())

    def let_in_by_entry(self, registration_id: str) -> frozenset[str] | None:
        """Give the thumbprints that a device's own entry lets in; ``None`` if it has no entry."""
        entry = self.enrollments.get(registration_id)
        if entry is None:
            return None
        held = ((entry["attestation"].get("x509") or {}).get("clientCertificates") or {}).values()
        shut = entry.get("provisioningStatus") == "disabled"
        return frozenset(each["info"]["sha256Thumbprint"] for each in held if each and not shut)


def _copied(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    return dict(entry) if entry is not None else None


_CERTIFICATES = frozenset({"clientCertificates", "signingCertificates"})


def with_info(body: Mapping[str, Any], present: Mapping[str, Any] | None) -> dict[str, Any]:
    """Describe the certificates of an entry as DPS does; ``info`` alone keeps the certificate that is there."""
    attestation: Mapping[str, Any] = body["attestation"].get("x509") or {}
    before = {
        held["info"]["sha256Thumbprint"]: held
        for kind, part in ((present or {}).get("attestation", {}).get("x509") or {}).items()
        if kind in _CERTIFICATES
        for held in (part or {}).values()
        if held
    }
    shown = {
        kind: {place: _described(held, before) for place, held in part.items() if held}
        if kind in _CERTIFICATES and part
        else part
        for kind, part in attestation.items()
    }
    return {**body, "attestation": {**body["attestation"], "x509": shown}}


def _described(held: Mapping[str, Any], before: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if not held.get("certificate"):
        return dict(before[held["info"]["sha256Thumbprint"]])
    return {"certificate": held["certificate"], "info": dict(_info(held["certificate"]))}


@lru_cache(4096)
def _info(pem: str) -> Mapping[str, str]:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return {
        "sha256Thumbprint": names.sha256_thumbprint(certificate),
        "subjectName": certificate.subject.rfc4514_string(),
        "issuerName": certificate.issuer.rfc4514_string(),
        "serialNumber": f"{certificate.serial_number:X}",
    }


def merged(present: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Merge as JSON merge patch does (RFC 7396)."""
    result = dict(present)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            inner = result.get(name)
            result[name] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            result[name] = value
    return result


def service_of(hub: str) -> str:
    """Give the name by which a hub is down, or answers."""
    return "hub" if hub == HUB else hub


@dataclass
class Hubs:
    """The registries of hubs: identities under ETags.

    Attributes:
        identities: by hub and device id.
        twins: what was merged into them, by hub and device id (Microsoft, "Understand and use device twins in IoT Hub":
            null removes, and the twin goes with its identity).
        opened: is told of each write that lets a device in.
        writes: how often an identity was written.
    """

    conductor: Conductor = field(default_factory=Conductor)
    identities: dict[tuple[str, str], HubIdentity] = field(default_factory=dict)
    twins: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    writes: int = 0
    opened: Callable[[str], None] = lambda _door: None

    def enter(
        self,
        hub: str,
        device_id: str,
        *thumbprints: str,
        enabled: bool = True,
        reason: str = "",
        authentication: str = "selfSigned",
    ) -> HubIdentity:
        """Write an identity, outside of all steps."""
        self.writes += 1
        identity = HubIdentity(
            device_id=device_id,
            enabled=enabled,
            authentication=authentication,
            thumbprints=frozenset(thumbprints),
            connected=False,
            etag=f"h{self.writes}",
            reason=reason or None,
        )
        self.identities[hub, device_id] = identity
        return identity

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        async with self.conductor.step("hub.get", service_of(hub)):
            return self.identities.get((hub, device_id))

    async def find(self, hub: str, device_ids: Sequence[str]) -> dict[str, HubIdentity]:
        async with self.conductor.step("hub.find", service_of(hub)):
            found = {each: self.identities.get((hub, each)) for each in device_ids}
            return {device_id: identity for device_id, identity in found.items() if identity is not None}

    async def page(self, hub: str, *, size: int, continuation: str | None) -> tuple[list[HubIdentity], str | None]:
        async with self.conductor.step("hub.page", service_of(hub)):
            begin = int(continuation or 0)
            found = [each for (where, _), each in sorted(self.identities.items()) if where == hub]
            following = str(begin + size) if len(found) > begin + size else None
            return found[begin : begin + size], following

    async def create(self, hub: str, device_id: str, thumbprints: Sequence[str], *, reason: str) -> HubIdentity | None:
        async with self.conductor.step("hub.create", service_of(hub)):
            if (hub, device_id) in self.identities:
                return None
            return self.enter(hub, device_id, *thumbprints, enabled=False, reason=reason)

    async def set_thumbprints(
        self, hub: str, seen: HubIdentity, thumbprints: Sequence[str], *, reason: str
    ) -> HubIdentity | None:
        async with self.conductor.step("hub.set_thumbprints", service_of(hub)):
            present = self.identities.get((hub, seen.device_id))
            if present is None or present.etag != seen.etag:
                return None
            return self.enter(hub, seen.device_id, *thumbprints, enabled=present.enabled, reason=reason)

    async def shut_out(self, hub: str, device_id: str, *, reason: str) -> HubIdentity | None:
        for _ in range(_ATTEMPTS):
            seen = await self.get(hub, device_id)
            if seen is None:
                return None
            written = await self._write(hub, seen, enabled=False, reason=reason)
            if written is not None:
                return written
        raise Deferred(f"device {device_id!r} in {hub} is being changed by others", retry_after=timedelta(seconds=2))

    async def let_in(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        return await self._write(hub, seen, enabled=True, reason=reason)

    async def disable(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        return await self._write(hub, seen, enabled=False, reason=reason)

    async def _write(self, hub: str, seen: HubIdentity, *, enabled: bool, reason: str) -> HubIdentity | None:
        async with self.conductor.step(f"hub.{'enable' if enabled else 'disable'}", service_of(hub)):
            found = self.identities.get((hub, seen.device_id))
            if found is None or found.etag != seen.etag:
                return None
            written = self._switched(hub, found, enabled=enabled, reason=reason)
            if enabled:
                self.opened("the hub")
            return written

    def _switched(self, hub: str, found: HubIdentity, *, enabled: bool, reason: str) -> HubIdentity:
        """Write an identity again; what it authenticates with stays."""
        kept = {"authentication": found.authentication, "reason": reason}
        return self.enter(hub, found.device_id, *found.thumbprints, enabled=enabled, **kept)

    async def disable_many(self, hub: str, device_ids: Sequence[str], *, reason: str) -> int:
        async with self.conductor.step("hub.disable_many", service_of(hub)):
            found = [self.identities.get((hub, device_id)) for device_id in device_ids]
            enabled = [each for each in found if each is not None and each.enabled]
            for each in enabled:
                self._switched(hub, each, enabled=False, reason=reason)
            return len(enabled)

    async def delete_unchanged(self, hub: str, seen: HubIdentity) -> bool:
        async with self.conductor.step("hub.delete_unchanged", service_of(hub)):
            present = self.identities.get((hub, seen.device_id))
            if present is not None and present.etag != seen.etag:
                return False
            if self.identities.pop((hub, seen.device_id), None) is not None:
                self.writes += 1
                self.twins.pop((hub, seen.device_id), None)
            return True

    async def merge_twin(
        self, hub: str, device_id: str, *, tags: Mapping[str, Any], desired: Mapping[str, Any]
    ) -> None:
        async with self.conductor.step("hub.merge_twin", service_of(hub)):
            if (hub, device_id) not in self.identities:
                raise NotFound.because(f"twin of {device_id!r} in {hub}: there is no such device")
            present = self.twins.get((hub, device_id), {"tags": {}, "desired": {}})
            self.twins[hub, device_id] = {
                "tags": merged(present["tags"], tags),
                "desired": merged(present["desired"], desired),
            }

    async def check(self, hub: str) -> None:
        async with self.conductor.step(f"check {hub}", service_of(hub)):
            pass

    def close(self) -> None:
        pass


@dataclass
class DpsResource:
    """The DPS as an Azure resource, which knows its linked hubs."""

    conductor: Conductor
    linked: tuple[str, ...]

    async def linked_hubs(self) -> tuple[str, ...]:
        async with self.conductor.step("arm.linked_hubs", "arm"):
            return self.linked


@dataclass
class Registrar:
    """Devices that come to the DPS: it decides, and some time later the identity is there.

    Attributes:
        begun: device ids and certificates of registrations that DPS is about to finish, by registration id.
        refuses: whether DPS lets nobody in.
        group: that it finds for every device without an entry of its own. One that has such is in no group's list
            (Azure/azure-rest-api-specs: "the registration state of devices in this enrollmentGroup").
        hub: that it assigns to every device; an identity in the hub before stays as it is.
    """

    conductor: Conductor
    provisioning: Provisioning
    hubs: Hubs
    begun: dict[str, tuple[str, x509.Certificate]] = field(default_factory=dict)
    refuses: bool = False
    group: str = "line"
    hub: str = HUB

    async def boot(self, registration_id: str, certificate: x509.Certificate) -> Assignment | None:
        """Register as a device does; ``None`` if DPS refuses."""
        async with self.conductor.step("dps decides about a device", "dps"):
            if self.refuses or not self.provisioning.admits(registration_id, certificate):
                return None
            entry = self.provisioning.enrollments.get(registration_id)
            device_id = str((entry or {}).get("deviceId") or registration_id)
            by_group = {"enrollmentGroupId": self.group} if entry is None else {}
            self.provisioning.register(registration_id, **by_group, status="assigning")
            self.begun[registration_id] = (device_id, certificate)
        async with self.conductor.step("dps makes the identity", "hub"):
            self._finish(registration_id)
        return Assignment(assigned_hub=self.hub, device_id=device_id)

    def finish(self) -> None:
        """Finish what was begun, whether or not who began it is there to be told."""
        for registration_id in list(self.begun):
            self._finish(registration_id)

    def _finish(self, registration_id: str) -> None:
        begun = self.begun.pop(registration_id, None)
        if begun is None:
            return
        device_id, certificate = begun
        present = self.hubs.identities.get((self.hub, device_id))
        enabled = present.enabled if present else True
        reason = (present.reason or "") if present else ""
        self.hubs.enter(self.hub, device_id, names.sha256_thumbprint(certificate), enabled=enabled, reason=reason)
        state = self.provisioning.registrations.get(registration_id)
        if state is not None:
            assigned = {"status": "assigned", "assignedHub": self.hub, "deviceId": device_id}
            self.provisioning.register(registration_id, **{**state, **assigned})

    async def register(self, registration_id: str, credentials: ClientCredentials) -> Assignment:
        """Register on a device's behalf."""
        assignment = await self.boot(registration_id, x509.load_pem_x509_certificate(credentials.pem))
        if assignment is None:
            raise RegistrationRefused(f"DPS refused to register {registration_id!r} with status 401", status=401)
        return assignment


@dataclass
class Lists:
    """The CA's list, in one step: made from what has changed, as the app's own is."""

    conductor: Conductor
    certificates: Certificates
    listed: set[str] = field(default_factory=set)
    published: int = 0

    async def publish(self, issuer: str) -> bool:
        async with self.conductor.step("publish the list", "blobs"):
            self.conductor.trace.note("lists", changed=True)
            with self.conductor.at_once():
                changes = await self.certificates.changes(issuer)
                for change in changes:
                    serial_number = change.revocation.serial_number
                    (self.listed.discard if change.ended else self.listed.add)(serial_number)
                await self.certificates.forget(changes)
            self.published += 1
        return True

    async def publish_all(self) -> int:
        return 0

    def copied(self, twin: Lists) -> None:
        """Give a twin what is listed."""
        twin.listed = set(self.listed)
