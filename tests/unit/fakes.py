"""Stand-ins of a few lines, for what the ledger and the workflows are given."""

from __future__ import annotations

import asyncio
import inspect
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from cryptography import x509

from shared.pki import names
from shared.ports.registrar import Assignment, RegistrationRefused
from shared.threads import ThreadPool
from tests.world.services import Hubs, Provisioning
from tests.world.storage import Blobs, Queues, Table
from tests.world.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from shared.errors import Rejected
    from shared.ports.blobs import StoredBlob
    from shared.ports.hubs import HubIdentity
    from shared.ports.registrar import ClientCredentials


@dataclass
class FakeTable(Table):
    """The table of the tests' world; each write of it is told to a trap.

    Attributes:
        step: is called after each write, or transaction.
    """

    step: Callable[[], None] = lambda: None

    def _written(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        etags = super()._written(rows)
        self.step()
        return etags


@dataclass
class FakeBlobs(Blobs):
    """The blobs of the tests' world, whose answers can get lost.

    Attributes:
        lose_answer: a write succeeds, and looks as if another one had been there before it.
    """

    lose_answer: bool = False

    async def create(
        self, container: str, name: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        made = await super().create(container, name, content, content_type=content_type, metadata=metadata)
        return made and not self.lose_answer

    async def replace(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> bool:
        made = await super().replace(container, name, blob, content_type=content_type)
        return made and not self.lose_answer


@dataclass
class FakeQueues(Queues):
    """The queues of the tests' world, which remember what was sent.

    Attributes:
        sent: queue, body and delay of each message.
        step: called after each message.
        since: when the message at the front of a queue was put there, by its name.
    """

    sent: list[tuple[str, dict[str, Any], timedelta | None]] = field(default_factory=list)
    step: Callable[[], None] = lambda: None
    since: dict[str, datetime] = field(default_factory=dict)

    async def check(self, *_names: str) -> None:
        pass

    async def send(self, queue: str, text: str, *, delay: timedelta | None = None) -> None:
        await super().send(queue, text, delay=delay)
        self.sent.append((queue, json.loads(text), delay))
        self.step()

    async def waiting_since(self, queue: str) -> datetime | None:
        return self.since.get(queue)


@dataclass
class FakeVault(Vault):
    """The vault of the tests' world, which signs in a thread of its own.

    Attributes:
        signatures: how often it signed.
    """

    signatures: int = 0

    def __post_init__(self) -> None:
        self.threads = ThreadPool("vault", 1)

    def sign_digest(self, key_id: str, algorithm: str, digest: bytes) -> bytes:
        self.signatures += 1
        return super().sign_digest(key_id, algorithm, digest)


class Killed(BaseException):
    """What a process ends of: nothing in it gets to handle this."""


def kill(owner: Any, name: str, *, when: str) -> None:
    """Have the worker killed once, before or after a call, or lose the answer to it."""
    real, is_over = getattr(owner, name), False

    async def killing(*args: Any, **named: Any) -> Any:
        nonlocal is_over
        if is_over:
            return await real(*args, **named)
        is_over = True
        if when == "before":
            raise Killed
        await real(*args, **named)
        raise Killed if when == "after" else ConnectionError(f"the answer to {name} is lost")

    setattr(owner, name, killing)


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


class FakeProvisioning(Provisioning):
    """The DPS of the tests' world; each write of an entry is told to a trap.

    Attributes:
        shows_certificates: whether its entries show certificates, or ``info`` of them alone.
        step: is called after each write.
    """

    shows_certificates: ClassVar[bool] = True

    async def check(self, *_names: str) -> None:
        pass

    def __init__(self) -> None:
        super().__init__()
        self.step: Callable[[], None] = lambda: None

    @property
    def down(self) -> bool:
        """Whether every call fails."""
        return "dps" in self.conductor.down

    @down.setter
    def down(self, down: bool) -> None:
        self.conductor.down = {"dps"} if down else set()

    def _put(
        self, entries: dict[str, dict[str, Any]], key: str, body: Mapping[str, Any], etag: str | None
    ) -> dict[str, Any]:
        written = super()._put(entries, key, body, etag)
        self.step()
        return written

    def _delete(self, entries: dict[str, dict[str, Any]], key: str, etag: str) -> bool:
        deleted = super()._delete(entries, key, etag)
        self.step()
        return deleted

    async def get_group(self, group_id: str) -> dict[str, Any] | None:
        return self._shown(await super().get_group(group_id))

    async def list_groups(self) -> AsyncIterator[dict[str, Any]]:
        async for group in super().list_groups():
            yield self._shown(group) or {}

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        return self._shown(await super().get_enrollment(registration_id))

    async def page_of_enrollments(
        self, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        page, following = await super().page_of_enrollments(size=size, continuation=continuation)
        return [self._shown(each) or {} for each in page], following

    async def delete_registration(self, registration_id: str, *, etag: str | None = None) -> None:
        await super().delete_registration(registration_id, etag=etag)
        self.step()

    def _shown(self, entry: dict[str, Any] | None) -> dict[str, Any] | None:
        if entry is None or self.shows_certificates or not entry["attestation"].get("x509"):
            return entry
        x509_part = {
            kind: {place: {"info": held["info"]} for place, held in part.items()} if kind != "caReferences" else part
            for kind, part in entry["attestation"]["x509"].items()
        }
        return {**entry, "attestation": {**entry["attestation"], "x509": x509_part}}


@dataclass
class FakeHubs(Hubs):
    """The hubs of the tests' world; each write of an identity is told to a trap.

    Attributes:
        bulk: the calls that shut out many.
        down: names of hubs that do not answer.
        refusal: what every change of a twin ends with.
        step: is called after each write.
    """

    bulk: list[tuple[str, list[str]]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    refusal: Rejected | None = None
    step: Callable[[], None] = lambda: None

    def _answer(self, hub: str) -> None:
        if hub in self.down:
            raise ConnectionError(f"{hub} is down")

    def enter(self, hub: str, device_id: str, *thumbprints: str, **fields: Any) -> HubIdentity:
        """Write an identity."""
        identity = super().enter(hub, device_id, *thumbprints, **fields)
        self.step()
        return identity

    async def get(self, hub: str, device_id: str) -> HubIdentity | None:
        self._answer(hub)
        return await super().get(hub, device_id)

    async def let_in(self, hub: str, seen: HubIdentity, *, reason: str) -> HubIdentity | None:
        self._answer(hub)
        return await super().let_in(hub, seen, reason=reason)

    async def disable_many(self, hub: str, device_ids: Sequence[str], *, reason: str) -> int:
        self._answer(hub)
        self.bulk.append((hub, list(device_ids)))
        return await super().disable_many(hub, device_ids, reason=reason)

    async def delete_unchanged(self, hub: str, seen: HubIdentity) -> bool:
        self._answer(hub)
        is_gone = await super().delete_unchanged(hub, seen)
        self.step()
        return is_gone

    async def merge_twin(
        self, hub: str, device_id: str, *, tags: Mapping[str, Any], desired: Mapping[str, Any]
    ) -> None:
        self._answer(hub)
        if self.refusal is not None:
            raise self.refusal
        await super().merge_twin(hub, device_id, tags=tags, desired=desired)


@dataclass
class FakeRegistrar:
    """Registers devices at the DPS in memory, which puts them into one hub.

    Attributes:
        sha1: whether the hub enters SHA-1 thumbprints.
        refusal: what every registration ends with.
    """

    provisioning: FakeProvisioning
    hubs: FakeHubs
    hub: str = "hub-1"
    sha1: bool = False
    refusal: RegistrationRefused | None = None

    async def register(self, registration_id: str, credentials: ClientCredentials) -> Assignment:
        if self.refusal is not None:
            raise self.refusal
        return self.boot(registration_id, x509.load_pem_x509_certificate(credentials.pem))

    def boot(self, registration_id: str, certificate: x509.Certificate) -> Assignment:
        """Register as a device with this certificate does.

        Raises:
            RegistrationRefused: DPS refuses it.
        """
        if not self.provisioning.admits(registration_id, certificate):
            raise RegistrationRefused(f"DPS refuses {registration_id!r}: unauthorized (401)", status=401)
        entry = self.provisioning.enrollments.get(registration_id, {})
        device_id = entry.get("deviceId") or registration_id
        self.provisioning.register(registration_id, status="assigned", assignedHub=self.hub, deviceId=device_id)
        thumbprint = names.thumbprint(certificate) if self.sha1 else names.sha256_thumbprint(certificate)
        present = self.hubs.identities.get((self.hub, device_id))
        self.hubs.enter(self.hub, device_id, thumbprint, enabled=present is None or present.enabled)
        return Assignment(assigned_hub=self.hub, device_id=device_id)
