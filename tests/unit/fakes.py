"""Stand-ins of a few lines, for what the ledger and the workflows are given."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared.adapters.dps_service import ProvisioningService
from shared.errors import Conflict, PreconditionFailed, Rejected
from shared.pki import names
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.ports.blobs import BlobDescription, StoredBlob
from shared.ports.hubs import HubIdentity
from shared.ports.registrar import Assignment
from shared.ports.rows import Insert, Replace
from shared.threads import ThreadPool
from tests.unit.pki.hierarchy import vault_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from shared.pki.signing_keys import PrivateKey, PublicKey, SignatureAlgorithm
    from shared.ports.registrar import ClientCredentials
    from shared.ports.rows import Step

TRANSACTION_LIMIT = 100


@dataclass(frozen=True)
class FakeRow:
    values: Mapping[str, Any]
    etag: str


@dataclass
class FakeTable:
    """A table in memory. Of OData it knows what the queries of the test's subject need: comparisons joined by and."""

    rows: dict[tuple[str, str], FakeRow] = field(default_factory=dict)
    writes: int = 0
    step: Callable[[], None] = lambda: None

    def _store(self, values: Mapping[str, Any]) -> str:
        self.writes += 1
        etag = f"v{self.writes}"
        self.rows[values["PartitionKey"], values["RowKey"]] = FakeRow(dict(values), etag)
        self.step()
        return etag

    async def get(self, partition: str, row: str) -> FakeRow | None:
        return self.rows.get((partition, row))

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        return None if (values["PartitionKey"], values["RowKey"]) in self.rows else self._store(values)

    async def insert_together(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        if any((row["PartitionKey"], row["RowKey"]) in self.rows for row in rows):
            return False
        for row in rows:
            self._store(row)
        return True

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        present = self.rows.get((values["PartitionKey"], values["RowKey"]))
        return self._store(values) if present is not None and present.etag == etag else None

    async def put(self, values: Mapping[str, Any]) -> None:
        self._store(values)

    async def write_together(self, steps: Sequence[Step]) -> list[str] | None:
        assert len({each.values["PartitionKey"] for each in steps}) == 1, "a transaction has one partition"
        assert len({each.values["RowKey"] for each in steps}) == len(steps) <= TRANSACTION_LIMIT
        for each in steps:
            present = self.rows.get((each.values["PartitionKey"], each.values["RowKey"]))
            if isinstance(each, Insert) != (present is None):
                return None
            if isinstance(each, Replace) and present is not None and present.etag != each.etag:
                return None
        etags = [self._enter(each) for each in steps]
        self.step()
        return etags

    def _enter(self, step: Step) -> str:
        key = step.values["PartitionKey"], step.values["RowKey"]
        before = {} if isinstance(step, Insert | Replace) else self.rows[key].values
        self.writes += 1
        self.rows[key] = FakeRow({**before, **step.values}, f"v{self.writes}")
        return f"v{self.writes}"

    async def delete(self, partition: str, row: str) -> None:
        self.rows.pop((partition, row), None)

    async def delete_unchanged(self, partition: str, row: str, etag: str) -> bool:
        present = self.rows.get((partition, row))
        if present is not None and present.etag != etag:
            return False
        self.rows.pop((partition, row), None)
        return True

    async def query(
        self, condition: str, parameters: Mapping[str, Any], *, select: Iterable[str] | None = None
    ) -> AsyncIterator[FakeRow]:
        del select
        for row in sorted(self.rows.values(), key=lambda row: (row.values["PartitionKey"], row.values["RowKey"])):
            if not condition or all(_holds(row, term, parameters) for term in condition.split(" and ")):
                yield row

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[list[FakeRow], str | None]:
        del size, continuation
        return [row async for row in self.query(condition, parameters)], None


def _holds(row: FakeRow, term: str, parameters: Mapping[str, Any]) -> bool:
    name, comparison, parameter = term.split()
    compare: Callable[[Any, Any], bool] = {
        "eq": operator.eq,
        "ne": operator.ne,
        "le": operator.le,
        "lt": operator.lt,
        "ge": operator.ge,
    }[comparison]
    return name in row.values and compare(row.values[name], parameters[parameter.removeprefix("@")])


@dataclass
class FakeBlobs:
    """Blobs in memory; with ``lose_answer`` a write succeeds and looks as if another one had been there before it."""

    blobs: dict[str, StoredBlob] = field(default_factory=dict)
    lose_answer: bool = False

    async def create(
        self, container: str, name: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        del container, content_type
        if name in self.blobs:
            return False
        self.blobs[name] = StoredBlob(content, metadata, "v1")
        return not self.lose_answer

    async def get(self, container: str, name: str) -> StoredBlob | None:
        del container
        return self.blobs.get(name)

    async def part(self, container: str, name: str, *, etag: str, start: int, length: int) -> bytes | None:
        stored = await self.get(container, name)
        return stored.content[start : start + length] if stored and stored.etag == etag else None

    async def describe(self, container: str, name: str) -> BlobDescription | None:
        stored = await self.get(container, name)
        return BlobDescription(len(stored.content), stored.metadata, stored.etag) if stored else None

    async def replace(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> bool:
        del container, content_type
        if self.blobs[name].etag != blob.etag:
            return False
        self.blobs[name] = StoredBlob(blob.content, blob.metadata, blob.etag + "+")
        return not self.lose_answer

    async def names(self, container: str, prefix: str) -> list[str]:
        del container
        return sorted(name for name in self.blobs if name.startswith(prefix))

    async def delete(self, container: str, name: str) -> None:
        del container
        self.blobs.pop(name, None)


@dataclass
class FakeQueues:
    """Remembers what was sent."""

    sent: list[tuple[str, dict[str, Any], timedelta | None]] = field(default_factory=list)
    step: Callable[[], None] = lambda: None

    async def send(self, queue: str, text: str, *, delay: timedelta | None = None) -> None:
        self.sent.append((queue, json.loads(text), delay))
        self.step()

    since: dict[str, datetime] = field(default_factory=dict)
    """When the message at the front of a queue was put there."""

    async def waiting_since(self, queue: str) -> datetime | None:
        return self.since.get(queue)


@dataclass
class FakeVault:
    """A vault in memory; it wraps by adding a word, and names keys without regard to case."""

    keys: dict[str, PrivateKey] = field(default_factory=dict)
    threads: ThreadPool = field(default_factory=lambda: ThreadPool("vault", 1))

    foreign: set[str] = field(default_factory=set)
    """Names of others' keys, in lower case."""

    async def check_free(self, name: str, algorithm: str | None = None) -> None:
        del algorithm
        if name.lower() in self.foreign:
            raise Conflict.because(f"the vault has a key {name!r} already", field="name")

    async def get_or_create(self, name: str, algorithm: str) -> tuple[str, PublicKey]:
        await self.check_free(name)
        key = self.keys.setdefault(name.lower(), generate_key(KeyAlgorithm(algorithm)))
        return name, key.public_key()

    async def holds(self, name: str) -> bool:
        return name.lower() in self.keys

    async def public_key(self, key_id: str) -> PublicKey:
        return self.keys[key_id.lower()].public_key()

    async def import_key(self, name: str, key: PrivateKey) -> str:
        self.keys[name.lower()] = key
        return name

    signatures: int = 0

    def sign_digest(self, key_id: str, algorithm: SignatureAlgorithm, digest: bytes) -> bytes:
        self.signatures += 1
        return vault_of(self.keys[key_id.lower()])(algorithm, digest)

    async def wrapping_key(self, name: str) -> str:
        return name

    def wrap(self, _key_id: str, content: bytes) -> bytes:
        return b"wrapped " + content

    def unwrap(self, _key_id: str, content: bytes) -> bytes:
        return content.removeprefix(b"wrapped ")


class Killed(BaseException):
    """What a process ends of: nothing in it gets to handle this."""


@dataclass
class Trap:
    """Kills after so many steps; ``None`` for never."""

    after: int | None = None
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.after:
            raise Killed


@dataclass
class Gate:
    """Holds up one worker ahead of its n-th step, until it is opened; the event says that the worker stands there."""

    at: int
    steps: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.reached.set()
            await self.opened.wait()


class Gated:
    """A stand-in for one worker: each of its calls is a step that passes the worker's gate first."""

    def __init__(self, stands_for: object, gate: Gate) -> None:
        self._stands_for, self._gate = stands_for, gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stands_for, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **named: Any) -> Any:
            await self._gate()
            return await found(*args, **named)

        return call


@dataclass
class FakeProvisioning:
    """The entries of a DPS in memory, under ETags. It shows certificates, or ``info`` of them alone."""

    shows_certificates: ClassVar[bool] = True

    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    enrollments: dict[str, dict[str, Any]] = field(default_factory=dict)
    registrations: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: int = 0
    step: Callable[[], None] = lambda: None

    def _put(self, entries: dict[str, dict[str, Any]], key: str, body: Mapping[str, Any], etag: str | None) -> Any:
        present = entries.get(key)
        if present is not None and etag is None:
            raise Conflict.because(f"{key!r} exists")
        if etag is not None and (present is None or etag not in {"*", present["etag"]}):
            raise PreconditionFailed.because(f"{key!r} has another ETag")
        self.writes += 1
        entries[key] = {**_with_info(body, present), "etag": f'"{self.writes}"'}
        self.step()
        return entries[key]

    async def get_group(self, group_id: str) -> dict[str, Any] | None:
        return self._shown(self.groups.get(group_id))

    def _shown(self, entry: dict[str, Any] | None) -> dict[str, Any] | None:
        if entry is None or self.shows_certificates or not entry["attestation"].get("x509"):
            return entry
        x509_part = {
            kind: {place: {"info": held["info"]} for place, held in part.items()} if kind != "caReferences" else part
            for kind, part in entry["attestation"]["x509"].items()
        }
        return {**entry, "attestation": {**entry["attestation"], "x509": x509_part}}

    async def put_group(self, group: Mapping[str, Any], *, etag: str | None = None) -> Any:
        return self._put(self.groups, group["enrollmentGroupId"], group, etag)

    async def delete_group(self, group_id: str, *, etag: str | None = None) -> None:
        present = self.groups.get(group_id)
        if present is not None and etag not in {None, "*", present["etag"]}:
            raise PreconditionFailed.because(f"{group_id!r} has another ETag")
        self.groups.pop(group_id, None)
        self.step()

    async def list_groups(self) -> AsyncIterator[dict[str, Any]]:
        for group in self.groups.values():
            yield self._shown(group) or {}

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        return self._shown(self.enrollments.get(registration_id))

    async def put_enrollment(self, enrollment: Mapping[str, Any], *, etag: str | None = None) -> Any:
        return self._put(self.enrollments, enrollment["registrationId"], enrollment, etag)

    async def delete_enrollment(self, registration_id: str, *, etag: str | None = None) -> None:
        present = self.enrollments.get(registration_id)
        if present is not None and etag not in {None, "*", present["etag"]}:
            raise PreconditionFailed.because(f"{registration_id!r} has another ETag")
        self.enrollments.pop(registration_id, None)
        self.step()

    async def get_registration(self, registration_id: str) -> dict[str, Any] | None:
        return self.registrations.get(registration_id)

    async def delete_registration(self, registration_id: str) -> None:
        self.registrations.pop(registration_id, None)
        self.step()


class FakeDps(FakeProvisioning, ProvisioningService):
    """A DPS in memory: what the adapter does with entries runs as it is, on entries in memory.

    Attributes:
        down: whether every call fails.
    """

    down: bool = False

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        self._answer()
        return await super().get_enrollment(registration_id)

    async def put_enrollment(self, enrollment: Mapping[str, Any], *, etag: str | None = None) -> Any:
        self._answer()
        return await super().put_enrollment(enrollment, etag=etag)

    async def delete_enrollment(self, registration_id: str, *, etag: str | None = None) -> None:
        self._answer()
        await super().delete_enrollment(registration_id, etag=etag)

    async def get_registration(self, registration_id: str) -> dict[str, Any] | None:
        self._answer()
        return await super().get_registration(registration_id)

    async def delete_registration(self, registration_id: str) -> None:
        self._answer()
        await super().delete_registration(registration_id)

    def _answer(self) -> None:
        if self.down:
            raise ConnectionError("DPS is down")

    def admits(self, certificate: x509.Certificate) -> bool:
        """Tell whether a device gets in with a certificate of its group's CA: its own entry decides first."""
        entry = self.enrollments.get(names.common_name(certificate.subject))
        if entry is None:
            return True
        held = entry["attestation"]["x509"]["clientCertificates"]
        accepted = {each["info"]["sha256Thumbprint"] for each in held.values() if each}
        return entry["provisioningStatus"] != "disabled" and names.sha256_thumbprint(certificate) in accepted


@dataclass
class FakeHubs:
    """Identities in memory, under ETags.

    Attributes:
        identities: by hub and device id.
        bulk: the calls that shut out many.
        down: names of hubs that do not answer.
        refusal: what every change of a twin ends with.
    """

    identities: dict[tuple[str, str], HubIdentity] = field(default_factory=dict)
    twins: dict[str, dict[str, Any]] = field(default_factory=dict)
    bulk: list[tuple[str, list[str]]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    refusal: Rejected | None = None
    writes: int = 0
    step: Callable[[], None] = lambda: None

    def _answer(self, hub: str) -> None:
        if hub in self.down:
            raise ConnectionError(f"{hub} is down")

    def enter(self, hub: str, device_id: str, *thumbprints: str, enabled: bool = True, reason: str = "") -> HubIdentity:
        """Write an identity."""
        self.writes += 1
        identity = HubIdentity(device_id, enabled, frozenset(thumbprints), connected=False, etag=f"e{self.writes}")
        self.identities[hub, device_id] = dataclasses.replace(identity, reason=reason or None)
        self.step()
        return self.identities[hub, device_id]

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        self._answer(hub)
        return self.identities.get((hub, device_id))

    async def shut_out(self, hub: str, device_id: str, *, reason: str) -> HubIdentity | None:
        self._answer(hub)
        present = self.identities.get((hub, device_id))
        return self.enter(hub, device_id, *present.thumbprints, enabled=False, reason=reason) if present else None

    async def let_in(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        self._answer(hub)
        present = self.identities.get((hub, seen.device_id))
        if present is None or present.etag != seen.etag:
            return None
        return self.enter(hub, seen.device_id, *present.thumbprints, reason=reason)

    async def disable_many(self, hub: str, device_ids: Sequence[str], *, reason: str) -> int:
        self._answer(hub)
        self.bulk.append((hub, list(device_ids)))
        for device_id in device_ids:
            await self.shut_out(hub, device_id, reason=reason)
        return len(device_ids)

    async def delete(self, hub: str, device_id: str) -> None:
        self._answer(hub)
        self.identities.pop((hub, device_id), None)
        self.step()

    async def merge_twin(
        self, hub: str, device_id: str, *, tags: Mapping[str, Any], desired: Mapping[str, Any]
    ) -> None:
        self._answer(hub)
        if self.refusal is not None:
            raise self.refusal
        self.twins[device_id] = {"tags": dict(tags), "desired": dict(desired)}


@dataclass
class FakeRegistrar:
    """Registers devices at the DPS in memory, which puts them into one hub.

    Attributes:
        sha1: whether the hub enters SHA-1 thumbprints.
        refusal: what every registration ends with.
    """

    provisioning: FakeDps
    hubs: FakeHubs
    hub: str = "hub-1"
    sha1: bool = False
    refusal: Rejected | None = None

    async def register(self, registration_id: str, credentials: ClientCredentials) -> Assignment:
        if self.refusal is not None:
            raise self.refusal
        return self.boot(registration_id, x509.load_pem_x509_certificate(credentials.pem))

    def boot(self, registration_id: str, certificate: x509.Certificate) -> Assignment:
        """Register as a device with this certificate does.

        Raises:
            Rejected: DPS refuses it.
        """
        if not self.provisioning.admits(certificate):
            raise Rejected.because(f"DPS refuses {registration_id!r}: unauthorized (401)")
        entry = self.provisioning.enrollments.get(registration_id, {})
        device_id = entry.get("deviceId") or registration_id
        self.provisioning.registrations[registration_id] = {
            "registrationId": registration_id,
            "status": "assigned",
            "assignedHub": self.hub,
            "deviceId": device_id,
        }
        thumbprint = names.thumbprint(certificate) if self.sha1 else names.sha256_thumbprint(certificate)
        present = self.hubs.identities.get((self.hub, device_id))
        self.hubs.enter(self.hub, device_id, thumbprint, enabled=present is None or present.enabled)
        return Assignment(assigned_hub=self.hub, device_id=device_id)


def _with_info(body: Mapping[str, Any], present: Mapping[str, Any] | None) -> dict[str, Any]:
    """Describe the certificates of an entry as DPS does; ``info`` alone keeps the certificate that is there."""
    before = (present or {}).get("attestation", {}).get("x509", {})
    kept = {
        held["info"]["sha256Thumbprint"]: held["certificate"]
        for kind, part in before.items()
        if kind != "caReferences"
        for held in part.values()
    }
    attestation = {
        kind: {
            place: _described(held.get("certificate") or kept[held["info"]["sha256Thumbprint"]])
            for place, held in certificates.items()
        }
        if kind != "caReferences" and certificates
        else certificates
        for kind, certificates in body["attestation"]["x509"].items()
    }
    return {**body, "attestation": {"type": "x509", "x509": attestation}}


def _described(pem: str) -> dict[str, Any]:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    info = {
        "sha256Thumbprint": _sha256(pem),
        "subjectName": certificate.subject.rfc4514_string(),
        "serialNumber": f"{certificate.serial_number:X}",
    }
    return {"certificate": pem, "info": info}


def _sha256(pem: str) -> str:
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex().upper()
