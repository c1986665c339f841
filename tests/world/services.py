"""Services in memory, with the semantics that the app relies on; each call is a step."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared.adapters.dps_service import ProvisioningService
from shared.errors import Conflict, PreconditionFailed, Rejected
from shared.ports.blobs import BlobDescription, StoredBlob
from shared.ports.hubs import HubIdentity
from shared.ports.registrar import Assignment
from shared.ports.rows import Insert, Merge, Replace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from shared.ledger.certificates import Certificates
    from shared.ports.registrar import ClientCredentials
    from shared.ports.rows import Step
    from tests.world.conductor import Conductor

type Key = tuple[str, str]


@dataclass(frozen=True)
class Row:
    values: Mapping[str, Any]
    etag: str


@dataclass
class Table:
    """A table: rows under ETags, transactions of one partition, filters of comparisons joined by ``and``."""

    name: str
    conductor: Conductor
    rows: dict[Key, Row] = field(default_factory=dict)
    writes: int = 0
    careless: bool = False
    """Whether it takes no notice of ETags, as no table does: to see that the auditor sees it."""

    async def get(self, partition: str, row: str) -> Row | None:
        async with self.conductor.step(f"{self.name}.get"):
            return self.rows.get((partition, row))

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        async with self.conductor.step(f"{self.name}.insert"):
            return None if _key(values) in self.rows else self._store(values)

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        async with self.conductor.step(f"{self.name}.replace"):
            present = self.rows.get(_key(values))
            return self._store(values) if present is not None and present.etag == etag else None

    async def put(self, values: Mapping[str, Any]) -> None:
        async with self.conductor.step(f"{self.name}.put"):
            self._store(values)

    async def delete(self, partition: str, row: str) -> None:
        async with self.conductor.step(f"{self.name}.delete"):
            self.rows.pop((partition, row), None)

    async def delete_unchanged(self, partition: str, row: str, etag: str) -> bool:
        async with self.conductor.step(f"{self.name}.delete"):
            present = self.rows.get((partition, row))
            if present is not None and present.etag != etag:
                return False
            self.rows.pop((partition, row), None)
            return True

    async def insert_together(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        return await self.write_together([Insert(row) for row in rows]) is not None

    async def write_together(self, steps: Sequence[Step]) -> list[str] | None:
        async with self.conductor.step(f"{self.name}.transaction"):
            assert len({_key(step.values)[0] for step in steps}) == 1, "a transaction has one partition"
            assert len({_key(step.values) for step in steps}) == len(steps) <= 100, "each row once, at most 100"
            if not all(self._possible(step) for step in steps):
                return None
            return [self._store(self._values(step)) for step in steps]

    def _possible(self, step: Step) -> bool:
        present = self.rows.get(_key(step.values))
        match step:
            case Insert():
                return present is None
            case Replace():
                return present is not None and (self.careless or present.etag == step.etag)
            case Merge():
                return present is not None

    def _values(self, step: Step) -> Mapping[str, Any]:
        return {**self.rows[_key(step.values)].values, **step.values} if isinstance(step, Merge) else step.values

    async def query(
        self, condition: str, parameters: Mapping[str, Any], *, select: Iterable[str] | None = None
    ) -> AsyncIterator[Row]:
        del select
        async with self.conductor.step(f"{self.name}.query"):
            found = self._matching(condition, parameters)
        for row in found:
            yield row

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[list[Row], str | None]:
        del size, continuation
        async with self.conductor.step(f"{self.name}.page"):
            return self._matching(condition, parameters), None

    def _matching(self, condition: str, parameters: Mapping[str, Any]) -> list[Row]:
        terms = [term.split() for term in condition.split(" and ")] if condition else []
        found = [self.rows[key] for key in sorted(self.rows)]
        return [
            row
            for row in found
            if all(_compare(row.values.get(name), verb, parameters[given[1:]]) for name, verb, given in terms)
        ]

    def _store(self, values: Mapping[str, Any]) -> str:
        self.writes += 1
        self.rows[_key(values)] = Row(dict(values), f"v{self.writes}")
        return f"v{self.writes}"


def _key(values: Mapping[str, Any]) -> Key:
    return values["PartitionKey"], values["RowKey"]


def _compare(value: Any, verb: str, given: Any) -> bool:
    if value is None:
        return False
    return bool({"eq": operator.eq, "le": operator.le, "lt": operator.lt, "ge": operator.ge}[verb](value, given))


@dataclass
class Blobs:
    """Block blobs under ETags."""

    conductor: Conductor
    blobs: dict[str, StoredBlob] = field(default_factory=dict)
    writes: int = 0

    async def create(
        self, container: str, name: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        del container, content_type
        async with self.conductor.step("blobs.create"):
            if name in self.blobs:
                return False
            self._store(name, content, metadata)
            return True

    async def get(self, container: str, name: str) -> StoredBlob | None:
        del container
        async with self.conductor.step("blobs.get"):
            return self.blobs.get(name)

    async def describe(self, container: str, name: str) -> BlobDescription | None:
        stored = await self.get(container, name)
        return BlobDescription(len(stored.content), stored.metadata, stored.etag) if stored else None

    async def replace(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> bool:
        del container, content_type
        async with self.conductor.step("blobs.replace"):
            present = self.blobs.get(name)
            if present is None or present.etag != blob.etag:
                return False
            self._store(name, blob.content, blob.metadata)
            return True

    async def delete(self, container: str, name: str) -> None:
        del container
        async with self.conductor.step("blobs.delete"):
            self.blobs.pop(name, None)

    def _store(self, name: str, content: bytes, metadata: Mapping[str, str]) -> None:
        self.writes += 1
        self.blobs[name] = StoredBlob(content, metadata, f"v{self.writes}")


@dataclass
class Queues:
    """Remembers what was sent."""

    conductor: Conductor
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def send(self, queue: str, text: str, *, delay: Any = None) -> None:
        del delay
        async with self.conductor.step(f"send {queue}"):
            self.sent.append((queue, json.loads(text)))


@dataclass
class Secrets:
    """Secrets of the vault."""

    conductor: Conductor
    secrets: dict[str, str] = field(default_factory=dict)

    async def put(self, name: str, value: str, *, tags: Mapping[str, str]) -> None:
        del tags
        async with self.conductor.step("secrets.put"):
            self.secrets[name] = value

    async def get(self, name: str) -> str | None:
        async with self.conductor.step("secrets.get"):
            return self.secrets.get(name)


class Provisioning(ProvisioningService):
    """A DPS: the app's own adapter over entries and records in memory.

    One group takes every certificate of the issuing CA; an individual enrollment decides before it, enabled or disabled
    (Microsoft: "How to disenroll or revoke a device").
    """

    def __init__(self, conductor: Conductor) -> None:
        self.conductor = conductor
        self.enrollments: dict[str, dict[str, Any]] = {}
        self.registrations: dict[str, dict[str, Any]] = {}
        self.group_enabled = True
        self.down = False
        self.careless = False
        self.opened: Callable[[str], None] = lambda _door: None
        self.writes = 0

    def _etag(self) -> str:
        self.writes += 1
        return f'"{self.writes}"'

    def _answers(self) -> None:
        if self.down:
            raise ConnectionError("DPS does not answer")

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        async with self.conductor.step("dps.get_enrollment"):
            self._answers()
            found = self.enrollments.get(registration_id)
            return dict(found) if found else None

    async def put_enrollment(self, enrollment: Mapping[str, Any], *, etag: str | None = None) -> dict[str, Any]:
        async with self.conductor.step(f"dps.put_enrollment {enrollment['provisioningStatus']}"):
            self._answers()
            key = enrollment["registrationId"]
            self._check(key, etag)
            self.enrollments[key] = {**_with_info(enrollment), "etag": self._etag()}
            if enrollment["provisioningStatus"] == "enabled":
                self.opened("DPS")
            return dict(self.enrollments[key])

    def _check(self, key: str, etag: str | None) -> None:
        present = self.enrollments.get(key)
        if self.careless:
            return
        if etag is None and present is not None:
            raise Conflict.because(f"{key!r} exists")
        if etag is not None and (present is None or etag not in {"*", present["etag"]}):
            raise PreconditionFailed.because(f"{key!r} has another ETag")

    async def delete_enrollment(self, registration_id: str, *, etag: str | None = None) -> None:
        async with self.conductor.step("dps.delete_enrollment"):
            self._answers()
            present = self.enrollments.get(registration_id)
            if present is None:
                return
            if not self.careless and etag not in {None, "*", present["etag"]}:
                raise PreconditionFailed.because(f"{registration_id!r} has another ETag")
            del self.enrollments[registration_id]
            self.opened("DPS")

    async def get_registration(self, registration_id: str) -> dict[str, Any] | None:
        async with self.conductor.step("dps.get_registration"):
            self._answers()
            found = self.registrations.get(registration_id)
            return dict(found) if found else None

    async def delete_registration(self, registration_id: str) -> None:
        async with self.conductor.step("dps.delete_registration"):
            self._answers()
            self.registrations.pop(registration_id, None)

    def admits(self, registration_id: str, certificate: x509.Certificate) -> bool:
        """Decide about a device as DPS does."""
        let_in = self.let_in_by_entry(registration_id)
        return self.group_enabled if let_in is None else sha256(certificate) in let_in

    def let_in_by_entry(self, registration_id: str) -> frozenset[str] | None:
        """Give the thumbprints that a device's own entry lets in; ``None`` if it has no entry."""
        entry = self.enrollments.get(registration_id)
        if entry is None:
            return None
        held = entry["attestation"]["x509"]["clientCertificates"].values()
        return frozenset(each["info"]["sha256Thumbprint"] for each in held if entry["provisioningStatus"] == "enabled")


def _with_info(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Show the certificates of an entry as DPS does: without themselves."""
    held = entry["attestation"]["x509"]["clientCertificates"]
    shown = {
        place: {"info": {"sha256Thumbprint": sha256(x509.load_pem_x509_certificate(each["certificate"].encode()))}}
        if "certificate" in each
        else each
        for place, each in held.items()
        if each
    }
    return {**entry, "attestation": {"type": "x509", "x509": {"clientCertificates": shown}}}


def sha256(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex().upper()


@dataclass
class Identity:
    enabled: bool
    thumbprint: str
    etag: str
    reason: str = ""


@dataclass
class Hubs:
    """The registry of one hub."""

    conductor: Conductor
    identities: dict[str, Identity] = field(default_factory=dict)
    writes: int = 0
    down: bool = False
    opened: Callable[[str], None] = lambda _door: None

    def _etag(self) -> str:
        self.writes += 1
        return f"h{self.writes}"

    def _answers(self) -> None:
        if self.down:
            raise ConnectionError("the hub does not answer")

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        del hub
        async with self.conductor.step("hub.get"):
            self._answers()
            found = self.identities.get(device_id)
            if found is None:
                return None
            thumbprints = frozenset({found.thumbprint})
            return HubIdentity(device_id, found.enabled, thumbprints, connected=False, etag=found.etag)

    async def shut_out(self, hub: str, device_id: str, *, reason: str) -> HubIdentity | None:
        for _ in range(3):
            seen = await self.get(hub, device_id)
            if seen is None:
                return None
            if await self._write(seen, enabled=False, reason=reason):
                return seen
        raise ConnectionError("others keep changing the identity")

    async def let_in(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        del hub
        return seen if await self._write(seen, enabled=True, reason=reason) else None

    async def _write(self, seen: HubIdentity, *, enabled: bool, reason: str) -> bool:
        async with self.conductor.step(f"hub.{'enable' if enabled else 'disable'}"):
            self._answers()
            found = self.identities.get(seen.device_id)
            if found is None or found.etag != seen.etag:
                return False
            self.identities[seen.device_id] = Identity(enabled, found.thumbprint, self._etag(), reason)
            if enabled:
                self.opened("the hub")
            return True

    async def disable_many(self, hub: str, device_ids: Sequence[str], *, reason: str) -> int:
        del hub
        async with self.conductor.step("hub.disable_many"):
            self._answers()
            for device_id in device_ids:
                found = self.identities.get(device_id)
                if found is not None:
                    self.identities[device_id] = Identity(
                        enabled=False, thumbprint=found.thumbprint, etag=self._etag(), reason=reason
                    )
            return len(device_ids)

    async def delete(self, hub: str, device_id: str) -> None:
        del hub
        async with self.conductor.step("hub.delete"):
            self._answers()
            self.identities.pop(device_id, None)

    async def merge_twin(self, *_: Any, **__: Any) -> None:
        async with self.conductor.step("hub.merge_twin"):
            self._answers()


@dataclass
class Devices:
    """Devices that come to the DPS: it decides, and some time later the identity is there."""

    conductor: Conductor
    provisioning: Provisioning
    hubs: Hubs

    async def boot(self, registration_id: str, certificate: x509.Certificate) -> bool:
        """Register as a device does; ``False`` if DPS refuses."""
        async with self.conductor.step("dps decides about a device"):
            self.provisioning._answers()  # noqa: SLF001 - a part of the same stand-in
            if not self.provisioning.admits(registration_id, certificate):
                return False
            self.provisioning.registrations[registration_id] = {"status": "assigning"}
        async with self.conductor.step("dps makes the identity"):
            present = self.hubs.identities.get(registration_id)
            enabled = present.enabled if present else True
            self.hubs.identities[registration_id] = Identity(enabled, sha256(certificate), self.hubs._etag())  # noqa: SLF001
            if registration_id in self.provisioning.registrations:
                self.provisioning.registrations[registration_id] = {
                    "status": "assigned",
                    "assignedHub": "hub",
                    "deviceId": registration_id,
                }
        return True

    async def register(self, registration_id: str, credentials: ClientCredentials) -> Assignment:
        """Register on a device's behalf."""
        if not await self.boot(registration_id, x509.load_pem_x509_certificate(credentials.pem)):
            raise Rejected.because(f"DPS refused to register {registration_id!r} with status 401")
        return Assignment("hub", registration_id)


@dataclass
class Lists:
    """The CA's list: made from what has changed, as the app's own is."""

    conductor: Conductor
    certificates: Certificates
    listed: set[str] = field(default_factory=set)
    published: int = 0

    async def publish(self, issuer: str) -> bool:
        async with self.conductor.step("publish the list"):
            with self.conductor.at_once():
                changes = await self.certificates.changes(issuer)
                for change in changes:
                    serial_number = change.revocation.serial_number
                    (self.listed.discard if change.ended else self.listed.add)(serial_number)
                await self.certificates.forget(changes)
            self.published += 1
        return True
