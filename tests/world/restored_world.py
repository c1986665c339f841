"""A world whose ledger was put back to an earlier moment: CAs, lists and groups are the app's own.

What outlives the ledger stays as it is: the vault, DPS, the hub, blobs, queues, and what relying parties have seen.
"""

from __future__ import annotations

import dataclasses
import json
from contextvars import ContextVar
from datetime import timedelta
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from shared import restoration
from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.domain.authorities import AuthorityRecord
from shared.domain.epochs import EpochMark, EpochRecord
from shared.domain.groups import GroupRecord
from shared.domain.restores import RestorationRecord
from shared.domain.words import CertificateKind
from shared.evidence.tiles import WIDTH
from shared.ledger.epochs import EPOCH, RESTORATION
from shared.pki import names
from shared.services import build
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.epochs import MARK
from shared.workflows.status.revocation_lists import CRLS
from tests.world import services
from tests.world.authority_services import DpsPlaces, PublishedBlobs
from tests.world.conductor import RestlessError
from tests.world.trace import Watched
from tests.world.vault import Threads, Vault
from tests.world.world import DEVICE, GROUP, SETTINGS, InPlace, LeftToTimer, NotWrittenDown, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from shared.pki.signing_keys import PublicKey
    from shared.ports.ca_certificates import UploadedAuthority
    from shared.services import Services
    from tests.world.conductor import Conductor
    from tests.world.storage import Row

ISSUER, RESTORE = f"{GROUP}-ca1", "restore"
SAID: ContextVar[list[str]] = ContextVar("said")
"""Where the lines go that the command says."""

_RUNS = 6


@dataclasses.dataclass(frozen=True)
class List:
    """A published CRL, as it was read."""

    number: int
    reasons: dict[str, str]
    """By serial number."""


@lru_cache(4096)
def list_of(content: bytes) -> List:
    """Read a CRL."""
    crl = x509.load_der_x509_crl(content)
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    return List(number, {names.serial_text(each.serial_number): _reason(each) for each in crl})


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        return "unspecified"


class LoggedDevices(services.Log):
    """The log, of which the certificates of devices are compared."""

    def certificates(self) -> dict[str, str]:
        self.conductor.trace.note("log")
        read = [json.loads(each) for each in self.entries]
        return {
            each["serialNumber"]: each["tbs"]
            for each in read
            if each["type"] == "certificate" and each["kind"] == "device"
        }


class _Reader:
    """Reads the log for the command: it stands for storage and sequencer."""

    def __init__(self, log: services.Log) -> None:
        self._log = log
        self.sequencer = self

    async def _size(self) -> int:
        async with self._log.conductor.step("log.head", "log"):
            self._log.conductor.trace.note("log")
            return len(self._log.entries)

    async def read(self) -> None:
        await self._size()

    async def backwards(self) -> AsyncIterator[list[bytes]]:
        last = await self._size()
        while last > 0:
            first = max(0, last - WIDTH)
            async with self._log.conductor.step("log.part", "log"):
                some = self._log.entries[first:last]
            yield some
            last = first


class CountingThreads(Threads):
    """Runs what signs; notes what was signed for devices, and what was signed while the ledger was an older one."""

    def __init__(self, conductor: Conductor, world: RestoredWorld) -> None:
        super().__init__(conductor)
        self._world = world

    async def run(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        async with self.conductor.step("vault.sign", "vault"):
            made = call(*args, **named)
            if isinstance(made, x509.Certificate | x509.CertificateSigningRequest | bytes):
                self._world.note(getattr(call, "__name__", str(call)))
            if isinstance(made, x509.Certificate) and names.common_name(made.issuer) != SETTINGS.root_authority:
                self._count(made)
            return made

    def _count(self, made: x509.Certificate) -> None:
        serial, accounts = names.serial_text(made.serial_number), self._world.authorities
        if serial not in self._world.log.certificates():
            return  # it is nobody's: the answer to a code, or an OCSP responder
        self.conductor.trace.note("signed", serial, changed=True)
        accounts.signed[serial] += 1
        self._world.made[serial] = made


class PlacesOfWorld(DpsPlaces):
    """The CA certificates of a DPS; notes what an older ledger puts there."""

    def __init__(self, conductor: Conductor, world: RestoredWorld) -> None:
        super().__init__(conductor, "the DPS")
        self._world = world

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        self._world.note(f"the CA {name!r} was put into DPS")
        return await super().upload(name, certificate)


class VaultOfAll(Vault):
    """The vault of all keys, which can be reached; notes the keys of CAs that an older ledger makes."""

    def __init__(self, conductor: Conductor, world: RestoredWorld) -> None:
        super().__init__(conductor)
        self._world = world

    async def get_or_create(self, name: str, algorithm: str) -> tuple[str, PublicKey]:
        if not dict.__contains__(self.keys, name.lower()):
            self._world.note(f"the key of {name!r} was made")
        return await super().get_or_create(name, algorithm)


class ListsInBlobs(services.Lists):
    """What the newest published lists name."""

    def __init__(self, world: RestoredWorld) -> None:
        super().__init__(world.conductor, world.certificates)
        self._world = world

    @property
    def listed(self) -> set[str]:
        return set(self._world.list(ISSUER).reasons)

    @listed.setter
    def listed(self, _value: set[str]) -> None:
        """Keep nothing: the blobs have it."""

    def copied(self, twin: services.Lists) -> None:
        pass


class ProvisioningByCertificates(services.Provisioning):
    """A DPS that takes what the CAs of an enabled group have signed, by their certificates."""

    def group_admits(self, certificate: x509.Certificate) -> bool:
        return any(_subject_of(held["certificate"]) == certificate.issuer for held in self.signing())


@lru_cache(256)
def _subject_of(pem: str) -> x509.Name:
    return x509.load_pem_x509_certificate(pem.encode()).subject


class RestoredWorld(World):
    """One group with a device; its ledger can be copied, and put back.

    Attributes:
        before: the ledger as it was copied; ``None`` as long as it was not put back.
        made: certificates of devices that were signed, by serial number.
        lines: what the command has said.
        too_early: what was signed, and which CAs were made or put into DPS, while the ledger was an older one.
        said_good: what OCSP has called good though it was revoked.
        truth: how device and group were when their ledger was lost.
        meanwhile: what was asked for since.
    """

    provisioning_kind: ClassVar[type[services.Provisioning]] = ProvisioningByCertificates
    seen_at_once: ClassVar[frozenset[str]] = frozenset()
    blobs_kind = PublishedBlobs
    blobs: PublishedBlobs

    def __post_init__(self) -> None:
        super().__post_init__()
        trace = self.conductor.trace
        self.vault, self.places = VaultOfAll(self.conductor, self), PlacesOfWorld(self.conductor, self)
        self.vault.keys, self.vault.tagged = Watched(trace, "keys"), Watched(trace, "marks")
        self.vault.threads = CountingThreads(self.conductor, self)
        self.places.places = Watched(trace, "places")
        self.lists = ListsInBlobs(self)
        self.log = self.authorities.log = LoggedDevices(self.conductor)
        self.keeps_log, self.is_put_back = True, False
        self.made: dict[str, x509.Certificate] = {}
        self.lines: list[str] = []
        self.too_early: list[str] = []
        self.said_good: list[str] = []
        self.truth: Any = None
        self.meanwhile: frozenset[str] = frozenset()

    def empty(self) -> Self:
        found = super().empty()
        found.keeps_log = self.keeps_log
        return found

    @property
    def wiring(self) -> tuple[object, ...]:
        return (*super().wiring, self.keeps_log)

    def copy(self, into: Self | None = None) -> Self:
        twin = super().copy(into)
        self.vault.copied(twin.vault)
        twin.places.places.update(self.places.places)
        twin.places.writes = self.places.writes
        twin.blobs.lists, twin.made = self.blobs.lists, dict(self.made)
        twin.is_put_back, twin.truth = self.is_put_back, self.truth
        twin.meanwhile = self.meanwhile
        twin.lines, twin.too_early, twin.said_good = list(self.lines), list(self.too_early), list(self.said_good)
        return twin

    def _build(self) -> Services:
        """Wire the app as in the cloud."""
        clients: Any = SimpleNamespace(
            queues=self.queues,
            tables=self.storage,
            blobs=self.blobs,
            order_lists=self.blobs,
            keys=self.vault,
            responder_keys=self.vault,
            secrets=self.secrets,
            provisioning=self.provisioning,
            dps_authorities=self.places,
            hub_authorities=(),
            ca_certificates=(self.places,),
            registrar=self.registrar,
            hubs=self.hubs,
            event_topic=None,
        )
        made = build(SETTINGS, clients=clients, clock=self.clock, threads=InPlace, log=self.log)
        made.registrations.places.patience = 0
        object.__setattr__(made.revocation_lists, "pause", self._wait_for_turn)
        object.__setattr__(made.reconciler, "pause", self.pause)
        upkeep = made.directory_upkeep
        kept = LeftToTimer(
            devices=upkeep.devices, changes=upkeep.changes, projection=upkeep.projection, clock=self.clock
        )
        in_hand = NotWrittenDown(rows=made.in_hand.rows, queues=self.queues, clock=self.clock)
        reader: Any = _Reader(self.log) if self.keeps_log else None
        evidence = dataclasses.replace(made.evidence, reader=reader)
        return dataclasses.replace(made, directory_upkeep=kept, in_hand=in_hand, evidence=evidence)

    async def _wait_for_turn(self, _seconds: float) -> None:
        """Wait for who has the turn of making a list, so long that they are taken for gone soon."""
        async with self.conductor.step("pause"):
            self.now += timedelta(seconds=15)

    # --- what there is ---

    def note(self, what: str) -> None:
        """Note what was done, if the ledger is an older one."""
        if self.is_behind:
            self.too_early.append(f"{what} while the ledger was an older one")

    def list(self, name: str) -> List:
        """Give the newest list of a CA."""
        stored = dict.get(self.blobs.blobs, (CRLS, f"{name}.crl"))
        return list_of(stored.content) if stored is not None else List(0, {})

    def revoked_for_good(self) -> set[str]:
        """Give the serial numbers that a published list has ever named for good."""
        lists = [list_of(content) for name, content in self.blobs.lists if name == f"{ISSUER}.crl"]
        return {serial for each in lists for serial, why in each.reasons.items() if why != "certificateHold"}

    @property
    def is_behind(self) -> bool:
        """Whether the ledger lacks what is known elsewhere, and nobody has taken it back."""
        rows = self.storage.table("issuers").rows
        begun = _read(rows, RESTORATION, RestorationRecord)
        if begun is not None and not begun.accepted:
            return True
        tags = dict.get(self.vault.tagged, f"{MARK}-{SETTINGS.deployment_name}".lower())
        mark, known = EpochMark.from_tags(tags) if tags else None, _read(rows, EPOCH, EpochRecord)
        return mark is not None and (known is None or known.number < mark.number)

    def group(self) -> GroupRecord | None:
        """Give the group as the ledger has it."""
        found: GroupRecord | None = _read(self.storage.table("groups").rows, ("group", GROUP), GroupRecord)
        return found

    def authority(self, name: str) -> AuthorityRecord | None:
        """Give a CA as the ledger has it."""
        found: AuthorityRecord | None = _read(self.storage.table("issuers").rows, ("issuer", name), AuthorityRecord)
        return found

    def state_of_authorities(self) -> Any:
        """Say which CAs DPS and vault have, and what the ledger keeps of the keys."""
        rows = self.storage.table("issuers").rows.items()
        known = [row.read(AuthorityRecord) for (place, _), row in rows if place == "issuer"]
        return SimpleNamespace(
            places={name: place.verified for name, place in dict.items(self.places.places)},
            keys=set(dict.keys(self.vault.keys)),
            states={each.name: each.state for each in known},
            wrapped={each.name for each in known if each.wrapped_key is not None},
        )

    def state(self) -> Any:
        """Say how the device is, in the ledger and at the services."""
        record, entry = self.record(), dict.get(self.provisioning.enrollments, DEVICE)
        identity = dict.get(self.hubs.identities, (services.HUB, DEVICE))
        group, at_dps = self.group(), dict.get(self.provisioning.groups, GROUP)
        return SimpleNamespace(
            device=record and (record.phase, record.disabled, record.in_use),
            entry=entry and (entry["provisioningStatus"], self.provisioning.let_in_by_entry(DEVICE)),
            identity=identity and (identity.enabled, identity.thumbprints),
            group=group and group.state,
            dps_group=at_dps and at_dps["provisioningStatus"],
        )

    @property
    def unsettled(self) -> bool:
        record = self.group()
        return super().unsettled or (record is not None and not record.settled)

    def _due(self) -> Iterator[str]:
        yield from super()._due()
        record = self.group()
        if record is not None and not record.settled:
            yield "group_sweep"
        if record is not None and record.rollover is not None:
            yield "rollover_sweep"

    # --- its story ---

    async def prepare(self) -> RestoredWorld:
        """Make the root, and the group with its issuing CA."""
        root = AuthorityDefinition(name=SETTINGS.root_authority, kind=CertificateKind.ROOT)
        await self.services.authority_workflows.creation.ensure(root, cause="root")
        made = EnrollmentGroupRequest(request_id="g", enrollment_group=GROUP, action=GroupAction.CREATE)
        await self.services.groups.requests.carry_out(made)
        await self.services.epochs.advance()
        return self

    async def done(self) -> RestoredWorld:
        """Have everything carried out, and forget what was asked for; what waits stays in its queue."""
        await self.drain()
        if self.bugs or self.rejections():
            raise AssertionError(f"not carried out: {self.bugs}, {self.rejections()}")
        self.asked.clear()
        return self

    def copied(self) -> dict[str, dict[tuple[str, str], Row]]:
        """Copy the ledger."""
        return {name: dict(table.rows) for name, table in self.storage.tables.items()}

    def put_back(self, ledger: dict[str, dict[tuple[str, str], Row]]) -> None:
        """Have the ledger as it was copied."""
        self.truth, self.is_put_back = self.state(), True
        for name, table in self.storage.tables.items():
            table.rows.clear()
            table.rows.update(ledger.get(name, {}))

    async def restore(self) -> int:
        """Run the command once, by a process of its own; give its exit status."""
        before = SAID.set(self.lines)
        try:
            return await restoration.carried_out(self._build(), look=False, accept=False, brought=None)
        finally:
            SAID.reset(before)

    async def drain(self, rounds: int = 40) -> None:
        """Have it restored as often as it takes, and then everything carried out."""
        if self.is_put_back:
            for _ in range(_RUNS):
                if await self.restore() == restoration.DONE and not self.is_behind:
                    break
            else:
                raise RestlessError(f"it is not restored after {_RUNS} runs: {self.lines}")
        await super().drain(rounds)

    async def ask_ocsp(self) -> None:
        """Ask for the status of each certificate of a device, as a relying party does, and hold against the lists."""
        final = self.revoked_for_good()
        issuer = (await self.services.authorities.loaded(ISSUER)).issuer
        for serial, certificate in self.made.items():
            if certificate.issuer != issuer.certificate.subject:
                continue
            request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer.certificate, hashes.SHA256())
            answer = ocsp.load_der_ocsp_response(
                await self.services.status_answers.answer(ISSUER, request.build().public_bytes(Encoding.DER))
            )
            if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
                continue
            if answer.certificate_status is ocsp.OCSPCertStatus.GOOD and serial in final:
                self.said_good.append(f"OCSP calls {serial} good, which was revoked for good")


def _read(rows: Any, key: tuple[str, str], kind: Any) -> Any:
    row = dict.get(rows, key)
    return row.read(kind) if row is not None else None
