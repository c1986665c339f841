"""The app as it is wired for the cloud, on services in memory: its functions, its queues, and what is on its way."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from shared.acting import acting
from shared.contracts.messages import Queue, read_message
from shared.domain.devices import OUT_OF_SERVICE, DeviceRecord
from shared.domain.given_settings import given, outdated
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.orders import LineState, OrderLine
from shared.domain.rejections import RejectionRecord, RejectionState
from shared.domain.requests import DELIVERY_LASTS
from shared.domain.words import RegisterBy
from shared.ledger.certificates import Certificates
from shared.ledger.changes import ChangeNotes
from shared.ledger.devices import Devices, UnsettledRecord, partition_of
from shared.ledger.epochs import EPOCH
from shared.ledger.groups import Groups
from shared.ledger.orders import Orders
from shared.ledger.requests import Requests
from shared.pki import names
from shared.pki.extensions import DistributionPoints
from shared.services import build
from shared.settings import Settings
from shared.threads import ThreadPool
from shared.workflows.authorities.loading import LoadedAuthority
from shared.workflows.devices.directory_upkeep import DirectoryUpkeep
from shared.workflows.epochs import HOLDS
from shared.workflows.intake.in_hand import InHand
from shared.workflows.intake.requests import submit
from tests.pki.hierarchy import NOW, hierarchy
from tests.world import services
from tests.world.conductor import WORKER, Conductor, RestlessError
from tests.world.host import LEASE, POISON, QUEUES, Host
from tests.world.storage import Blobs, Queues, Tables
from tests.world.trace import EVERYTHING, Watched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping

    from shared.domain.callers import Actor
    from shared.services import Services
    from tests.world.storage import Queued, Row

DEVICE, GROUP, ISSUER = "press", "line", "line-1-ca1"
SETTINGS = Settings.from_environment(
    {
        "DeviceFactoryStorage__queueServiceUri": "https://queues",
        "DeviceFactoryStorage__blobServiceUri": "https://blobs",
        "DeviceFactoryStorage__tableServiceUri": "https://tables",
        "KEY_VAULT_URL": "https://vault",
        "DPS_SERVICE_URL": "https://dps",
        "DPS_ID_SCOPE": "0ne00000000",
        "IOT_HUBS": f"{services.HUB}=https://{services.HUB}",
    }
)
_SWEEP = timedelta(minutes=2)


@cache
def key_of(name: str) -> ec.EllipticCurvePrivateKey:
    """Give a device's key: the same for the same name."""
    return ec.derive_private_key(int.from_bytes(name.encode()) % (1 << 200) + 1, ec.SECP256R1())


@cache
def csr_of(name: str, device: str = DEVICE) -> str:
    """Give a request by the device for a key of its own."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key_of(name), hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


class Authorities:
    """One issuing CA, whose signature is a step."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self.signed: Counter[str] = Counter()
        self.log = services.Log()
        self.unlogged: list[str] = []
        """Serial numbers that were signed before they were logged."""

    async def check_signs(self, _name: str) -> None:
        pass

    async def check_ledger(self) -> None:
        pass

    async def get(self, _name: str) -> None:
        pass

    async def loaded(self, _name: str) -> LoadedAuthority:
        return LoadedAuthority(
            name=ISSUER, issuer=hierarchy().issuing, anchor=hierarchy().root.certificate, anchor_name="dpsCa"
        )

    async def signing(self, _issuer: Any, call: Callable[..., Any], *args: Any) -> Any:
        async with self._conductor.step("sign", "vault"):
            signed = call(*args)
            serial = names.serial_text(signed.serial_number)
            self._conductor.trace.note("signed", serial, changed=True)
            self.signed[serial] += 1
            if serial not in self.log.certificates():
                self.unlogged.append(serial)
            return signed

    def distribution_points(self, _authority: LoadedAuthority) -> DistributionPoints:
        return DistributionPoints()

    async def carry_on(self) -> int:
        return 0

    async def check(self) -> None:
        pass


class LeftToTimer(DirectoryUpkeep):
    """Leaves the directory to its timer, which any test may start: so acts have their own steps alone."""

    async def follow(self) -> None:
        pass


class NotWrittenDown(InHand):
    """Leaves what is in hand to the lease: what workers write down beside their work has tests of its own."""

    @asynccontextmanager
    async def holding(
        self, queue: str, message_id: str, text: str | None, *, receipt: str | None = None
    ) -> AsyncIterator[None]:
        del queue, message_id, text, receipt
        yield


class InPlace(ThreadPool):
    """Runs calls where they are made: so an order of steps is the same each time."""

    async def run[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return call(*args, **kwargs)


@dataclass(frozen=True)
class Asked:
    """What was put into a queue by somebody outside, under a name of the test's.

    Attributes:
        body: the data.
    """

    name: str
    queue: Queue
    body: Mapping[str, Any]


@dataclass
class World:
    """Everything, with the messages that are on their way.

    Attributes:
        now: the time that all clocks show.
        asked: what came by queues, by its name.
        hosts: two workers on the same services.
        linked: hubs that are linked to the DPS; with one, the settings name it, and nobody is asked.
        killed_late: whether a worker was killed that others were ahead of.
        reopened: doors that were opened though it had been told that the device is revoked for good.
    """

    provisioning_kind: ClassVar[type[services.Provisioning]] = services.Provisioning
    authorities_kind: ClassVar[type[Authorities]] = Authorities
    blobs_kind: ClassVar[type[Blobs]] = Blobs
    without_steps: ClassVar[frozenset[str]] = frozenset({"audit"})
    seen_at_once: ClassVar[frozenset[str]] = frozenset({EPOCH[0]})

    conductor: Conductor = field(default_factory=Conductor)
    now: datetime = NOW
    asked: dict[str, Asked] = field(default_factory=dict)
    linked: tuple[str, ...] = (services.HUB,)
    killed_late: bool = False

    def __post_init__(self) -> None:
        self.storage = Tables(self.conductor, without_steps=self.without_steps, seen_at_once=self.seen_at_once)
        self.blobs = self.blobs_kind(self.conductor)
        self.queues = Queues(self.conductor, self.clock)
        self.secrets = services.Secrets(self.conductor)
        self.marks = services.Marks()
        self.provisioning = self.provisioning_kind(self.conductor)
        self.hubs = services.Hubs(self.conductor)
        self.reopened: list[str] = []
        self.provisioning.opened = self.hubs.opened = self._opened
        self.registrar = services.Registrar(self.conductor, self.provisioning, self.hubs)
        self.authorities = self.authorities_kind(self.conductor)
        table = self.storage.table
        changes = ChangeNotes(table("directory"), clock=self.clock)
        self.devices = Devices(identities=table("identities"), unsettled=table("unsettled"), changes=changes)
        self.certificates = Certificates(
            certificates=table("identities"), revocations=table("revocations"), in_force=table("inforce")
        )
        self.lists = services.Lists(self.conductor, self.certificates)
        self.log = self.authorities.log = services.Log(self.conductor)
        self.orders = Orders(orders=table("orders"), lines=table("orderlines"))
        self.groups = Groups(table("groups"))
        self.requests = Requests(table("requests"), apart=table("actrequests"))
        self.hosts = [Host(self._build, self.queues, self.conductor) for _ in range(2)]
        self._watch()

    def _watch(self) -> None:
        """Have it noted who reads and changes what: tables and queues see to it themselves."""
        trace, dps = self.conductor.trace, self.provisioning
        self.blobs.blobs = Watched(trace, "blobs")
        self.secrets.secrets, self.secrets.tags = Watched(trace, "secrets"), Watched(trace, "secrets' tags")
        self.marks.tagged = Watched(trace, "marks")
        dps.groups, dps.enrollments = Watched(trace, "dps groups"), Watched(trace, "dps enrollments")
        dps.registrations = Watched(trace, "dps registrations")
        self.hubs.identities, self.hubs.twins = Watched(trace, "hub"), Watched(trace, "twins")
        self.registrar.begun = Watched(trace, "begun")

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "now":
            self.conductor.trace.note(*EVERYTHING, changed=True)

    def clock(self) -> datetime:
        return self.now

    async def pause(self, seconds: float) -> None:
        """Let time go by."""
        self.now += timedelta(seconds=seconds)

    @property
    def worker(self) -> Host:
        """The worker that is called: the first, if nothing else is said."""
        return self.hosts[WORKER.get()]

    @property
    def services(self) -> Services:
        """What the worker has that is called."""
        return self.worker.services

    @property
    def bugs(self) -> list[BaseException]:
        """What functions were ended by that is not an outage."""
        return [bug for host in self.hosts for bug in host.bugs]

    def _build(self) -> Services:
        marks = self.marks
        keys = SimpleNamespace(check=self.secrets.check, close=self.secrets.close, tags=marks.tags, tag=marks.tag)
        clients: Any = SimpleNamespace(
            queues=self.queues,
            tables=self.storage,
            blobs=self.blobs,
            order_lists=self.blobs,
            keys=keys,
            responder_keys=keys,
            secrets=self.secrets,
            provisioning=self.provisioning,
            dps_authorities=services.DpsResource(self.conductor, self.linked) if len(self.linked) > 1 else None,
            hub_authorities=(),
            ca_certificates=(),
            registrar=self.registrar,
            hubs=self.hubs,
            event_topic=None,
        )
        authorities: Any = self.authorities
        lists: Any = self.lists
        made = build(
            SETTINGS,
            clients=clients,
            clock=self.clock,
            threads=InPlace,
            authorities=authorities,
            revocation_lists=lists,
            log=self.log,
        )
        made.registrations.places.patience = 0  # what waits for another act is no step that can be advanced
        upkeep = made.directory_upkeep
        kept = LeftToTimer(
            devices=upkeep.devices, changes=upkeep.changes, projection=upkeep.projection, clock=self.clock
        )
        in_hand = NotWrittenDown(rows=made.in_hand.rows, queues=self.queues, clock=self.clock)
        return replace(made, directory_upkeep=kept, in_hand=in_hand)

    def empty(self) -> Self:
        """Give a world that has nothing in it, whose workers are wired as those of this one."""
        return type(self)(linked=self.linked)

    @property
    def wiring(self) -> tuple[object, ...]:
        """By what its workers are wired."""
        return (type(self), self.linked)

    def copy(self, into: Self | None = None) -> Self:
        """Give a world of its own, in the same state; rows, entries, identities and messages are never changed in place.

        Args:
            into: an empty world that is wired alike, which becomes the copy.
        """
        twin = into or self.empty()
        twin.now, twin.asked = self.now, dict(self.asked)
        for name, table in self.storage.tables.items():
            made = twin.storage.table(name)
            made.rows.update(table.rows)
            made.writes, made.careless = table.writes, table.careless
        twin.blobs.blobs.update(self.blobs.blobs)
        twin.blobs.writes = self.blobs.writes
        twin.queues.queues = {name: list(lying) for name, lying in self.queues.queues.items()}
        twin.queues.count = self.queues.count
        twin.secrets.secrets.update(self.secrets.secrets)
        twin.secrets.tags.update(self.secrets.tags)
        twin.secrets.deleted.update(self.secrets.deleted)
        twin.provisioning.groups.update(self.provisioning.groups)
        twin.provisioning.enrollments.update(self.provisioning.enrollments)
        twin.provisioning.registrations.update(self.provisioning.registrations)
        twin.provisioning.careless = self.provisioning.careless
        twin.provisioning.writes = self.provisioning.writes
        twin.marks.tagged.update({name: dict(tags) for name, tags in self.marks.tagged.items()})
        twin.hubs.identities.update(self.hubs.identities)
        twin.hubs.twins.update(self.hubs.twins)
        twin.hubs.writes = self.hubs.writes
        twin.registrar.begun.update(self.registrar.begun)
        twin.registrar.hub = self.registrar.hub
        self.lists.copied(twin.lists)
        twin.authorities.signed.update(self.authorities.signed)
        twin.authorities.unlogged = list(self.authorities.unlogged)
        twin.log.entries = list(self.log.entries)
        twin.conductor.down.update(self.conductor.down)
        twin.reopened += self.reopened
        return twin

    @property
    def unsettled(self) -> bool:
        """Whether the services do not follow something yet."""
        return bool(self.storage.table("unsettled").rows)

    # --- messages ---

    def ask(self, name: str, queue: Queue, body: Mapping[str, Any]) -> None:
        """Put a message into a queue, as somebody outside does."""
        self.asked[name] = Asked(name, queue, body)
        self.queues.put(queue, json.dumps(body))

    async def call(self, name: str, queue: Queue, wanted: Any, who: Actor, said: str | None = None) -> None:
        """Ask for something over HTTP, as somebody; its message lies in its queue."""
        with acting(who, said):
            await submit(self.services.requests, self.services.outbox, queue, wanted, self.clock)
        self.asked[name] = Asked(name, queue, wanted.model_dump(mode="json", by_alias=True, exclude_none=True))

    def lying(self, asked: Asked) -> list[Queued]:
        """Give the messages that stand for what was asked for: the one that came, or those it was put back as."""
        found = [each for each in self.queues.lying(asked.queue) if _data(each.content) == asked.body]
        if asked.queue is Queue.DEVICE_ORDERS and not found and "action" not in asked.body:
            return self.lying_of_order(asked.body["orderId"])
        return found

    def lying_of_order(self, order_id: str) -> list[Queued]:
        """Give the messages of the app's own that see to an order and to its lines."""
        return [
            each
            for queue in (Queue.DEVICE_ORDERS, Queue.DEVICE_REGISTRATIONS)
            for each in self.queues.lying(queue)
            if _data(each.content)["orderId"] == order_id
        ]

    def take(self, name: str) -> tuple[str, Queued] | None:
        """Take the message of what was asked for; ``None`` if it is not there."""
        asked = self.asked[name]
        for message in self.lying(asked):
            return asked.queue, self.queues.lease(asked.queue, message, lease=LEASE)
        return None

    async def deliver(self, name: str, *, host: int = 0) -> None:
        """Deliver the message of what was asked for, if it is there."""
        taken = self.take(name)
        if taken is not None:
            await self.hosts[host].deliver(*taken)

    def rejections(self) -> list[RejectionRecord]:
        """Give what was refused or set aside, and not replayed."""
        rows = self.storage.table("rejections").rows.values()
        records = [row.read(RejectionRecord) for row in rows]
        return [record for record in records if record.state is not RejectionState.REPLAYED]

    def rejected(self, asked: Asked) -> bool:
        """Tell whether what was asked for was refused."""
        return any(
            record.queue == asked.queue and read_message(record.body.decode()).data == asked.body
            for record in self.rejections()
        )

    async def drain(self, rounds: int = 40) -> None:
        """Deliver what is on its way, with the timers, until nothing changes any more.

        What is left then waits for something that nobody here brings about.
        """
        later = self.killed_late
        for _ in range(rounds):
            before, failed = self.changes(), sum(host.failed for host in self.hosts)
            self.registrar.finish()
            for queue in QUEUES:
                for message in list(self.queues.queues.get(queue, ())):
                    await self._deliver_when_visible(queue, message)
            if self.unsettled or (later and self._noted):
                self.now += _SWEEP
            for timer in self._due():
                await self.worker.tick(timer)
            for each in self._behind():  # as a pass of reconciliation does
                await self.services.converger.bring_along(each)
            has_failed = sum(host.failed for host in self.hosts) != failed
            if self.changes() == before and not has_failed:
                gone = [row.read(UnsettledRecord).since + DELIVERY_LASTS for row in self._notes()]
                if not gone or min(gone) <= self.now:
                    return
                self.now, later = min(gone), True  # the worker that was about to write an act is dead by then
            if has_failed:
                self.now += 2 * HOLDS  # a timer that waits for the ledger looks at it again
        raise RestlessError(f"after {rounds} rounds there is no rest: {self.queues.queues}")

    async def deliver_visible(self) -> int:
        """Deliver each message that is visible now; tell how many that were."""
        visible = [
            (queue, each) for queue in QUEUES for each in self.queues.queues.get(queue, ()) if each.visible <= self.now
        ]
        for queue, message in visible:
            await self._deliver_when_visible(queue, message)
        return len(visible)

    def _behind(self) -> list[str]:
        """Give the devices whose own entries have other settings than their groups have."""
        rows = self.storage.table("groups").rows
        groups = {key: row.read(GroupRecord) for (place, key), row in rows.items() if place == "group"}
        return [
            each.registration_id
            for each in self.records().values()
            if each.settled and outdated(each, given(each, groups.get(each.enrollment_group or "")), self.now)
        ]

    def _notes(self) -> Collection[Row]:
        return self.storage.table("unsettled").rows.values()

    @property
    def _noted(self) -> bool:
        """Whether the directory is to be looked at for a device."""
        return any(partition == "!changes" for partition, _ in self.storage.table("directory").rows)

    def _due(self) -> Iterator[str]:
        """Give the timers that find something to do; the others change nothing."""
        today = self.now.date().isoformat()
        if any(day <= today for day, _ in self.storage.table("expiry").rows):
            yield from ("expiry_sweep", "key_deletion")
        if self.unsettled:
            yield "convergence_sweep"
        if self._noted:
            yield "directory_upkeep"
        if self.storage.table("orders").rows:
            yield "order_sweep"
        if self.poison():
            yield "poison_sweep"

    async def _deliver_when_visible(self, queue: str, message: Queued) -> None:
        self.now = max(self.now, message.visible)
        taken = self.queues.lease(queue, message, lease=LEASE)
        await self.hosts[message.number % len(self.hosts)].deliver(queue, taken)

    def changes(self) -> tuple[int, ...]:
        """Count what was written, but for what a message writes that only waits."""
        tables = self.storage.tables
        waiting = {"requests", "actrequests", "orders"}
        return (
            sum(len(table.rows) for table in tables.values()),
            sum(table.writes for name, table in tables.items() if name not in waiting),
            self.blobs.writes,
            self.provisioning.writes,
            self.hubs.writes,
            len(self.events()),
            sum(len(self.queues.queues.get(queue, ())) for queue in QUEUES),
        )

    def _opened(self, door: str) -> None:
        """Note a door that is opened, though it was told that the device is revoked for good."""
        record = self.record()
        if record is None:
            return
        told = any(event["type"].endswith(".DeviceRevoked") for event in self.events())
        if told and record.state in OUT_OF_SERVICE and not record.on_hold and record.settled:
            self.reopened.append(f"{door} was opened after it had been told that the device is {record.state}")

    # --- what there is ---

    async def prepare(self) -> World:
        """Make the group, which has settings of its own."""
        await self.groups.insert(
            GroupRecord(
                enrollment_group=GROUP,
                state=GroupState.ENABLED,
                issuer=ISSUER,
                updated_at=NOW,
                last_request="r",
                entry_settings={
                    "allocationPolicy": "static",
                    "iotHubs": [services.HUB],
                    "initialTwin": {"tags": {"plant": "Bremen"}},
                },
            )
        )
        return self

    async def line(
        self,
        order_id: str,
        *,
        csr: str | None,
        register_by: RegisterBy = RegisterBy.SERVICE,
        device: str = DEVICE,
    ) -> None:
        """Accept an order with a device in its only line."""
        await self.orders.insert_lines(
            [
                OrderLine(
                    order_id=order_id,
                    line=0,
                    state=LineState.ORDERED,
                    requested_id=device,
                    registration_id=device,
                    enrollment_group=GROUP,
                    register_by=register_by,
                    accepted_at=self.now,
                    csr=csr,
                )
            ]
        )

    async def boot(self, device: str = DEVICE) -> None:
        """Have a device register with the newest certificate that it could have been given."""
        with self.conductor.at_once():
            known = await self.devices.get(device)
            serials = known.record.in_use if known else ()
            found = await self.certificates.get(serials[-1]) if serials else None
        if found is not None and found.record.pem:
            await self.registrar.boot(device, x509.load_pem_x509_certificate(found.record.pem.encode()))

    def records(self) -> dict[str, DeviceRecord]:
        """Give all devices as the ledger has them, by registration id."""
        rows = self.storage.table("identities").rows
        found = [row.read(DeviceRecord) for (_, key), row in rows.items() if key.startswith("d:")]
        return {record.registration_id: record for record in found}

    def record(self) -> DeviceRecord | None:
        """Give the device as the ledger has it."""
        rows = self.storage.table("identities").rows
        found = rows.get((partition_of(DEVICE), f"d:{DEVICE}"))
        return found.read(DeviceRecord) if found else None

    def former(self) -> str | None:
        """Give the serial number of a certificate that the device had before; ``None`` if there is none."""
        record = self.record()
        had = [each for each in record.held if each.issued] if record else []
        return next((each.serial_number for each in had if record and each.serial_number not in record.in_use), None)

    def events(self) -> list[dict[str, Any]]:
        """Give what was published."""
        lying = self.queues.lying(Queue.PROVISIONING_EVENTS)
        return [_event(each.content) for each in lying]

    def told(self) -> list[tuple[str, str]]:
        """Give the id of each event that was published, and what it says."""
        return [_told(each.content) for each in self.queues.queues.get(Queue.PROVISIONING_EVENTS, ())]

    def poison(self) -> list[str]:
        """Give what lies in the poison queues."""
        return [each.text for name, lying in self.queues.queues.items() if name.endswith(POISON) for each in lying]


@lru_cache(4096)
def _data(content: str) -> Mapping[str, Any]:
    data: Mapping[str, Any] = read_message(base64.b64decode(content).decode()).data
    return data


@lru_cache(4096)
def _event(content: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(base64.b64decode(content))
    return event


@lru_cache(4096)
def _told(content: str) -> tuple[str, str]:
    event = _event(content)
    return event["id"], json.dumps(event["data"], sort_keys=True)


def run[T](work: Awaitable[T]) -> T:
    """Run in a loop of its own."""

    async def wait() -> T:
        return await work

    return asyncio.run(wait())
