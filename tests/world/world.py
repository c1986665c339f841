"""One enrollment group, its issuing CA, a DPS, a hub, and the app's workflows over them."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from shared.contracts.devices import RenewalRequest, RevocationAction, RevocationRequest
from shared.contracts.messages import Queue
from shared.contracts.orders import DeviceRegistration
from shared.domain.devices import OUT_OF_SERVICE, DeviceRecord
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.orders import OrderLine
from shared.domain.words import DeviceState, RegisterBy, RevocationReason
from shared.errors import Deferred, Rejected
from shared.ledger.certificates import Certificates
from shared.ledger.devices import Devices
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.groups import Groups
from shared.ledger.orders import Orders
from shared.ledger.public_keys import PublicKeys
from shared.ledger.requests import Requests
from shared.pki import names
from shared.pki.extensions import DistributionPoints
from shared.workflows.authorities.loading import LoadedAuthority
from shared.workflows.devices.bundles import Bundles
from shared.workflows.devices.convergence import DeviceConverger
from shared.workflows.devices.directory import DeviceDirectory
from shared.workflows.devices.enrollments import IndividualEnrollments
from shared.workflows.devices.expiry import ExpirySweep
from shared.workflows.devices.identities import DeviceIdentities
from shared.workflows.devices.issuing import DeviceCertificates
from shared.workflows.devices.key_claims import KeyClaims
from shared.workflows.devices.registrations import Registrations
from shared.workflows.devices.renewals import Renewals
from shared.workflows.devices.revocations import Revocations
from shared.workflows.intake.outbox import Outbox
from tests.unit.pki.hierarchy import NOW, hierarchy
from tests.world import services
from tests.world.conductor import Conductor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DEVICE, GROUP, ISSUER = "press", "line", "line-1-ca1"
TABLES = ("identities", "unsettled", "revocations", "inforce", "expiry", "orders", "orderlines", "publickeys",
          "groups", "requests")  # fmt: skip


@cache
def key_of(name: str) -> ec.EllipticCurvePrivateKey:
    """Give a device's key: the same for the same name."""
    return ec.derive_private_key(int.from_bytes(name.encode()) % (1 << 200) + 1, ec.SECP256R1())


@cache
def csr_of(name: str) -> str:
    """Give a request by the device for a key of its own."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, DEVICE)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key_of(name), hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


class _Authorities:
    """One issuing CA, whose signature is a step."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self.signed: Counter[str] = Counter()

    async def loaded(self, _name: str) -> LoadedAuthority:
        return LoadedAuthority(ISSUER, hierarchy().issuing, hierarchy().root.certificate, "dpsCa")

    async def signing(self, _issuer: Any, call: Callable[..., Any], *args: Any) -> Any:
        async with self._conductor.step("sign"):
            signed = call(*args)
            self.signed[names.serial_text(signed.serial_number)] += 1
            return signed

    def distribution_points(self, _authority: LoadedAuthority) -> DistributionPoints:
        return DistributionPoints()


class _Computing:
    async def run(self, call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)


@dataclass
class Message:
    """A message of a queue, delivered until it is done."""

    name: str
    deliver: Callable[[], Awaitable[None]]
    done: bool = False
    rejected: str | None = None
    deferred: str | None = None


@dataclass
class World:
    """Everything, with the messages that are on their way."""

    conductor: Conductor = field(default_factory=Conductor)
    now: datetime = NOW
    messages: dict[str, Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = {name: services.Table(name, self.conductor) for name in TABLES}
        self.tables = table
        self.blobs = services.Blobs(self.conductor)
        self.queues = services.Queues(self.conductor)
        self.secrets = services.Secrets(self.conductor)
        self.provisioning = services.Provisioning(self.conductor)
        self.hubs = services.Hubs(self.conductor)
        self.reopened: list[str] = []
        self.provisioning.opened = self.hubs.opened = self._opened
        self.booting = services.Devices(self.conductor, self.provisioning, self.hubs)
        self.authorities = _Authorities(self.conductor)
        self.devices = Devices(table["identities"], table["unsettled"])
        self.certificates = Certificates(table["identities"], table["revocations"], table["inforce"])
        self.lists = services.Lists(self.conductor, self.certificates)
        self.orders = Orders(table["orders"], table["orderlines"])
        self.groups = Groups(table["groups"])
        self.requests = Requests(table["requests"])
        self._wire()

    def clock(self) -> datetime:
        return self.now

    def _wire(self) -> None:
        any_blobs: Any = self.blobs
        any_secrets: Any = self.secrets
        any_authorities: Any = self.authorities
        any_hubs: Any = self.hubs
        any_lists: Any = self.lists
        any_queues: Any = self.queues
        any_registrar: Any = self.booting
        computing: Any = _Computing()
        settings: Any = SimpleNamespace(
            device_validity=timedelta(days=365),
            expiry_warning=timedelta(days=30),
            bundle_retrieval=timedelta(minutes=60),
            key_vault_url="https://vault",
        )
        outbox = Outbox(any_queues, self.clock)
        public_keys = PublicKeys(self.tables["publickeys"])
        expiry = ExpiryIndex(self.tables["expiry"])
        bundles = Bundles(blobs=any_blobs, expiry=expiry, settings=settings, clock=self.clock)
        self.device_certificates = DeviceCertificates(
            authorities=any_authorities,
            devices=self.devices,
            certificates=self.certificates,
            keys=KeyClaims(devices=self.devices, public_keys=public_keys, clock=self.clock),
            bundles=bundles,
            expiry=expiry,
            secrets=any_secrets,
            settings=settings,
            clock=self.clock,
            computing=computing,
        )
        self.converger = DeviceConverger(
            devices=self.devices,
            certificates=self.certificates,
            public_keys=public_keys,
            provisioning=self.provisioning,
            hubs=any_hubs,
            revocation_lists=any_lists,
            outbox=outbox,
            clock=self.clock,
        )
        self.registrations = Registrations(
            orders=self.orders,
            devices=self.devices,
            groups=self.groups,
            device_certificates=self.device_certificates,
            converger=self.converger,
            registrar=any_registrar,
            provisioning=self.provisioning,
            hubs=any_hubs,
            outbox=outbox,
            settings=settings,
            clock=self.clock,
        )
        self.renewals = Renewals(
            requests=self.requests,
            devices=self.devices,
            registrations=self.registrations,
            device_certificates=self.device_certificates,
            converger=self.converger,
            clock=self.clock,
        )
        self.identities = DeviceIdentities(
            devices=self.devices, hubs=any_hubs, converger=self.converger, clock=self.clock
        )
        self.revocations = Revocations(
            devices=self.devices,
            certificates=self.certificates,
            groups=self.groups,
            requests=self.requests,
            converger=self.converger,
            identities=self.identities,
            outbox=outbox,
            clock=self.clock,
        )
        self.expiry_sweep = ExpirySweep(
            expiry=expiry,
            certificates=self.certificates,
            devices=self.devices,
            bundles=bundles,
            outbox=outbox,
            clock=self.clock,
        )
        self.directory = DeviceDirectory(self.devices, bundles, settings, self.clock)
        self.enrollments = IndividualEnrollments(
            self.devices, self.certificates, public_keys, self.provisioning, None, self.clock
        )

    def copy(self) -> World:
        """Give a world of its own, in the same state; rows and entries are not changed in place."""
        twin = World(now=self.now)
        for name, table in self.tables.items():
            twin.tables[name].rows, twin.tables[name].writes = dict(table.rows), table.writes
            twin.tables[name].careless = table.careless
        twin.blobs.blobs, twin.blobs.writes = dict(self.blobs.blobs), self.blobs.writes
        twin.queues.sent = list(self.queues.sent)
        twin.secrets.secrets = dict(self.secrets.secrets)
        twin.provisioning.enrollments = copy.deepcopy(self.provisioning.enrollments)
        twin.provisioning.registrations = copy.deepcopy(self.provisioning.registrations)
        twin.provisioning.careless = self.provisioning.careless
        twin.provisioning.writes = self.provisioning.writes
        twin.hubs.identities, twin.hubs.writes = dict(self.hubs.identities), self.hubs.writes
        twin.lists.listed = set(self.lists.listed)
        twin.authorities.signed = Counter(self.authorities.signed)
        return twin

    # --- messages ---

    def post(self, name: str, deliver: Callable[[], Awaitable[None]]) -> Message:
        """Put a message into a queue."""
        return self.messages.setdefault(name, Message(name, deliver))

    async def attempt(self, message: Message) -> None:
        """Deliver a message once, as the trigger does. What else it raises, the host sees: it comes again."""
        try:
            await message.deliver()
        except Deferred as deferred:
            message.deferred = str(deferred)
        except Rejected as rejected:
            message.done, message.rejected = True, str(rejected)
        else:
            message.done = True

    async def drain(self, rounds: int = 12) -> None:
        """Deliver what is on its way until nothing changes any more, with the timers that go on with what was left."""
        for _ in range(rounds):
            self.now += timedelta(minutes=2)
            before, failed = self._writes(), False
            for message in [each for each in self.messages.values() if not each.done]:
                try:
                    await self.attempt(message)
                except ConnectionError:
                    failed = True
            await self.expiry_sweep.run()
            try:
                await self.converger.sweep(older_than=timedelta(minutes=1))
            except ExceptionGroup as group:
                if group.split(ConnectionError)[1] is not None:
                    raise
                failed = True
            if not failed and self._writes() == before:
                return  # what is still on its way waits for something that nobody here brings about

    def _opened(self, door: str) -> None:
        """Note a door that is opened, though it was told that the device is revoked for good."""
        row = next((row for (_, key), row in self.tables["identities"].rows.items() if key == f"d:{DEVICE}"), None)
        if row is None:
            return
        record = DeviceRecord.from_columns(row.values)
        told = any(event["type"].endswith(".DeviceRevoked") for event in self.events())
        if told and record.state in OUT_OF_SERVICE and not record.on_hold and record.settled:
            self.reopened.append(f"{door} was opened after it had been told that the device is {record.state}")

    def _writes(self) -> tuple[int, ...]:
        rows = sum(len(table.rows) for table in self.tables.values())
        written = sum(table.writes for name, table in self.tables.items() if name != "requests")
        return rows, written, self.blobs.writes, self.provisioning.writes, self.hubs.writes, len(self.queues.sent)

    # --- what can be asked for ---

    async def prepare(self) -> None:
        """Make the group."""
        await self.groups.insert(
            GroupRecord(
                enrollment_group=GROUP, state=GroupState.ENABLED, issuer=ISSUER, updated_at=NOW, last_request="r"
            )
        )

    async def line(self, order_id: str, *, csr: str | None, register_by: RegisterBy = RegisterBy.SERVICE) -> None:
        """Accept an order with the device in its only line."""
        await self.orders.insert_lines(
            [
                OrderLine(
                    order_id=order_id,
                    line=0,
                    state=DeviceState.ORDERED,
                    requested_id=DEVICE,
                    registration_id=DEVICE,
                    enrollment_group=GROUP,
                    register_by=register_by,
                    accepted_at=self.now,
                    csr=csr,
                )
            ]
        )

    async def order(self, order_id: str) -> None:
        await self.registrations.register(DeviceRegistration(order_id=order_id, line=0))

    async def renew(self, request_id: str) -> None:
        request = RenewalRequest(request_id=request_id, registration_id=DEVICE, csr=csr_of(request_id))
        await self.renewals.carry_out(request)

    async def revoke(self, request_id: str, reason: RevocationReason, serial_number: str | None = None) -> None:
        target: dict[str, Any] = {"serial_number": serial_number} if serial_number else {"registration_id": DEVICE}
        await self.revocations.carry_out(RevocationRequest(request_id=request_id, reason=reason, **target))

    async def act(self, request_id: str, action: RevocationAction) -> None:
        request = RevocationRequest(request_id=request_id, registration_id=DEVICE, action=action)
        await self.revocations.carry_out(request)

    async def switch(self, *, enabled: bool) -> None:
        await self.identities.switch(DEVICE, enabled=enabled, reason="by an operator")

    async def boot(self) -> None:
        """Have the device register with the newest certificate that it could have been given."""
        with self.conductor.at_once():
            known = await self.devices.get(DEVICE)
            serials = known.record.in_use if known else ()
            found = await self.certificates.get(serials[-1]) if serials else None
        if found is not None and found.record.pem:
            await self.booting.boot(DEVICE, x509.load_pem_x509_certificate(found.record.pem.encode()))

    def events(self) -> list[dict[str, Any]]:
        """Give what was published."""
        return [body for queue, body in self.queues.sent if queue == Queue.PROVISIONING_EVENTS]


def run[T](work: Awaitable[T]) -> T:
    """Run in a loop of its own."""

    async def wait() -> T:
        return await work

    return asyncio.run(wait())
