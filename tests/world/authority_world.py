"""CAs, a vault, a DPS and a hub that want possession proved, and the app's workflows over them.

Each act is done by a worker of its own, which has nothing loaded: what one worker knows is no help to another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import SecretStr

from shared.contracts.authorities import AuthorityAct
from shared.contracts.certificates import AuthorityImport, CertificateRequest
from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.authorities import AuthorityAction, AuthorityRecord
from shared.domain.certificates import CertificateRecord, RevocationRecord
from shared.domain.words import CertificateKind, KeyCustody, RevocationReason
from shared.errors import Deferred, Rejected
from shared.ledger.requests import Requests
from shared.ledger.stores import Ledger
from shared.pki.issuers import Issuer
from shared.workflows.authorities.convergence import IMPORT_ENDS
from shared.workflows.authorities.keys import AuthorityKeys
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.devices.certificate_requests import CertificateRequests
from shared.workflows.groups.wiring import group_workflows
from shared.workflows.intake.outbox import Outbox
from shared.workflows.status.revocation_lists import RevocationLists
from tests.pki.foreign import KEY, authority
from tests.pki.hierarchy import NOW
from tests.world.authority_services import CaPlaces, Computing, PublishedBlobs, Sent
from tests.world.authority_worker import Worker
from tests.world.conductor import Conductor, RestlessError
from tests.world.services import Log, Provisioning
from tests.world.storage import Table
from tests.world.trace import EVERYTHING, Watched
from tests.world.vault import Vault

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable

    from shared.contracts.groups import GroupAction
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.groups.wiring import GroupWorkflows

TABLES = (
    "issuers",
    "identities",
    "revocations",
    "inforce",
    "orders",
    "orderlines",
    "rejections",
    "expiry",
    "groups",
    "publickeys",
    "requests",
    "actrequests",
    "unsettled",
    "directory",
)

ROOT = AuthorityDefinition(name="root", kind=CertificateKind.ROOT)
LINE = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, parent="root", path_length=0)
GROUP = "group"
GROUPS = AuthorityDefinition(name="group-ca1", kind=CertificateKind.INTERMEDIATE, parent="root", enrollment_group=GROUP)
WRAPPED = AuthorityDefinition(
    name="wrapped", kind=CertificateKind.INTERMEDIATE, parent="root", path_length=0, custody=KeyCustody.WRAPPED
)
OTHERWISE = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, parent="root", key_algorithm="EC-P384")
ELSEWHERE = AuthorityDefinition(name="elsewhere", kind=CertificateKind.INTERMEDIATE, externally_signed=True)

PROOFS = {"ask for a proof": "A1", "ask for another proof": "B2"}
"""Acts that ask for a certificate which proves possession, by its code, which is its subject and names its request."""

_PEM = Encoding.PEM
TOP_KEY = ec.derive_private_key(7, ec.SECP256R1())
TOP = authority("top", key=TOP_KEY, signed_by=TOP_KEY)
CORPORATE = authority("corporate")


@dataclass
class Message:
    """A message of a queue, delivered until it is done."""

    name: str
    deliver: Callable[[], Awaitable[None]]
    done: bool = False
    rejected: str | None = None
    deferred: str | None = None


class _Opening:
    """Opens owners' files: what is in one, the world knows."""

    async def run(self, _read: Any, wanted: AuthorityImport, _now: datetime) -> Issuer:
        assert wanted.pem is not None
        return Issuer(CORPORATE, KEY, (CORPORATE,))


@dataclass
class AuthorityWorld:
    """Everything, with the messages that are on their way."""

    conductor: Conductor = field(default_factory=Conductor)
    now: datetime = NOW
    messages: dict[str, Message] = field(default_factory=dict)
    careless: bool = False
    """Whether the CAs' rows are written whatever their version, as no table does it."""

    taken_up: frozenset[str] = frozenset()
    """Ids of what the app has asked for itself, and that was taken up."""

    shut: bool = False
    """Whether its group was disabled at first."""

    taken_out: bool = False
    """Whether others have deleted its group's entry in the DPS."""

    killed_late: bool = False

    def __post_init__(self) -> None:
        self.tables = {name: Table(name, self.conductor) for name in TABLES}
        self.tables["issuers"].careless = self.careless
        self.vault = Vault(self.conductor)
        self.services = [CaPlaces(self.conductor, "the DPS"), CaPlaces(self.conductor, "the hub")]
        self.blobs = PublishedBlobs(self.conductor)
        self.queues = Sent(self.conductor)
        self.log = Log(self.conductor)
        self.ledger = Ledger.of(self.tables.__getitem__, clock=self.clock)
        self.records, self.certificates = self.ledger.authorities, self.ledger.certificates
        self.settings: Any = SimpleNamespace(
            public_base_url=None,
            subject_organization="Example",
            subject_country=None,
            authority_warnings=(365, 30),
            crl_validity=timedelta(days=7),
            issuing_custody="vault",
            root_authority="root",
            unrepeated_devices=10,
        )
        self.provisioning = Provisioning(self.conductor)
        self.groups, self.devices = self.ledger.groups, self.ledger.devices
        self.requests = Requests(self.tables["requests"], apart=self.tables["actrequests"])
        self._watch()

    def _watch(self) -> None:
        """Have it noted who reads and changes what: the log and what is sent see to it themselves."""
        trace, dps = self.conductor.trace, self.provisioning
        for name, table in self.tables.items():
            table.rows = Watched(trace, name)
        self.vault.keys, self.vault.tagged = Watched(trace, "keys"), Watched(trace, "marks")
        for service in self.services:
            service.places = Watched(trace, service.holder)
        self.blobs.blobs = Watched(trace, "blobs")
        dps.groups, dps.enrollments = Watched(trace, "dps groups"), Watched(trace, "dps enrollments")
        dps.registrations = Watched(trace, "dps registrations")

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "now":
            self.conductor.trace.note(*EVERYTHING, changed=True)

    def clock(self) -> datetime:
        return self.now

    @property
    def signed(self) -> Counter[str]:
        """How often each serial number was signed."""
        counted: Counter[str] = self.vault.threads.signed
        return counted

    def worker(self) -> Worker:
        """Give a worker that has nothing loaded."""
        queues: Any = self.queues
        computing: Any = Computing(self.signed)
        opening: Any = _Opening()
        return Worker(
            ledger=self.ledger,
            keys=AuthorityKeys(vault=self.vault, computing=computing),
            services=self.services,
            lists_of=self.lists,
            outbox=Outbox(queues=queues, clock=self.clock),
            settings=self.settings,
            clock=self.clock,
            opening=opening,
            requests=self.requests,
            log=self.log,
        )

    def group_workflows(self) -> GroupWorkflows:
        """Give the workflows of groups, on a worker that has nothing loaded."""
        worker = self.worker()
        return group_workflows(
            self.ledger,
            requests=self.requests,
            authorities=worker.authorities,
            creation=worker.creation,
            possession=worker.possession,
            provisioning=self.provisioning,
            resource=None,
            outbox=worker.outbox,
            settings=self.settings,
            clock=self.clock,
        )

    def lists(self, authorities: CertificateAuthorities) -> RevocationLists:
        """Give what makes lists."""
        blobs: Any = self.blobs
        return RevocationLists(
            records=self.records,
            certificates=self.certificates,
            authorities=authorities,
            blobs=blobs,
            settings=self.settings,
            clock=self.clock,
            pause=self._pause,
            log=self.log,
        )

    async def _pause(self, _seconds: float) -> None:
        async with self.conductor.step("pause"):
            pass

    def copy(self) -> AuthorityWorld:
        """Give a world of its own, in the same state; rows and places are not changed in place."""
        twin = AuthorityWorld(now=self.now, careless=self.careless, shut=self.shut, taken_out=self.taken_out)
        for name, table in self.tables.items():
            twin.tables[name].rows.update(table.rows)
            twin.tables[name].writes = table.writes
        self.vault.copied(twin.vault)
        twin.signed.update(self.signed)
        for before, after in zip(self.services, twin.services, strict=True):
            after.places.update(before.places)
            after.writes, after.limit = before.writes, before.limit
        twin.blobs.blobs.update(self.blobs.blobs)
        twin.blobs.writes, twin.blobs.lists = self.blobs.writes, self.blobs.lists
        twin.provisioning.groups.update(self.provisioning.groups)
        twin.provisioning.writes = self.provisioning.writes
        twin.queues.sent, twin.taken_up = list(self.queues.sent), self.taken_up
        twin.log.entries = list(self.log.entries)
        return twin

    # --- messages ---

    def post(self, name: str, deliver: Callable[[], Awaitable[None]]) -> Message:
        """Put a message into a queue."""
        return self.messages.setdefault(name, Message(name, deliver))

    async def attempt(self, message: Message) -> None:
        """Deliver a message once, as the trigger does. What else it raises, the host sees: it comes again."""
        try:
            try:
                await message.deliver()
            finally:
                self.conductor.trace.note("message", message.name, changed=True)
        except Deferred as deferred:
            message.deferred = str(deferred)
        except Rejected as rejected:
            message.done, message.rejected = True, str(rejected)
        else:
            message.done = True

    async def drain(self, at_least: timedelta = IMPORT_ENDS + timedelta(minutes=5)) -> None:
        """Deliver what is on its way, with the sweeps, until nothing changes any more, and so much time has gone by."""
        end = self.now + at_least
        for _ in range(30):
            self.now += timedelta(minutes=3)
            before = self._writes()
            self._take_up()
            for message in [each for each in self.messages.values() if not each.done]:
                await self.attempt(message)
            await self.worker().converger.sweep()
            await self.group_workflows().converger.sweep(older_than=timedelta(minutes=1))
            if self._writes() == before:
                if self.now >= end:
                    return
                self.now = max(self.now, end - timedelta(minutes=3))
        raise RestlessError("it does not come to rest")

    def _take_up(self) -> None:
        """Take up what the app itself has asked for: acts on CAs, and requests about groups."""
        for queue, body in self.queues.sent:
            if queue == Queue.ENROLLMENT_GROUP_REQUESTS and body["data"]["requestId"] not in self.taken_up:
                self.taken_up |= {body["data"]["requestId"]}
                data = body["data"]
                deliver = self._act if "name" in data else self._about_group
                self.post(f"{queue} {data['requestId']}", partial(deliver, data))

    async def _act(self, data: dict[str, Any]) -> None:
        await self.worker().acts.carry_out(parse(AuthorityAct, data))

    async def _about_group(self, data: dict[str, Any]) -> None:
        await self.group_workflows().requests.carry_out(parse(EnrollmentGroupRequest, data), asked_at=self.now)

    def _writes(self) -> tuple[int, ...]:
        """Count what was written, but for what a message writes that only waits."""
        tables = [table for name, table in self.tables.items() if name not in {"requests", "actrequests"}]
        written = (sum(each.writes for each in group) for group in (tables, self.services))
        rows = sum(len(table.rows) for table in self.tables.values())
        return (
            *written,
            rows,
            self.blobs.writes,
            self.provisioning.writes,
            len(self.queues.sent),
            len(self.vault.keys),
        )

    def events(self) -> list[dict[str, Any]]:
        """Give what was published."""
        return [body for queue, body in self.queues.sent if queue == Queue.PROVISIONING_EVENTS]

    def known(self) -> list[AuthorityRecord]:
        """Give the records of all CAs."""
        rows = self.tables["issuers"].rows.items()
        return [row.read(AuthorityRecord) for (part, _), row in rows if part == "issuer"]

    def rows(self) -> dict[str, CertificateRecord]:
        """Give every certificate of the ledger, by serial number."""
        rows = self.tables["identities"].rows
        found = [row.read(CertificateRecord) for (_, key), row in rows.items() if key.startswith("c:")]
        return {each.serial_number: each for each in found}

    # --- what can be asked for ---

    async def act(self, name: str, action: AuthorityAction) -> None:
        """Carry out an act on a CA, whose request is named by both."""
        reason = {"reason": "keyCompromise"} if action is AuthorityAction.REVOKE else {}
        await self._act({"requestId": f"{action}-{name}", "name": name, "action": action, **reason})

    async def create(self, definition: AuthorityDefinition, cause: str) -> None:
        await self.worker().creation.ensure(definition, cause=cause)

    async def request(self, request_id: str, kind: CertificateKind, name: str, **fields: Any) -> None:
        """Carry out a request for a CA, or for the proof of a CA's possession."""
        worker = self.worker()
        devices: Any = None
        requests = CertificateRequests(
            requests=self.requests,
            certificates=self.certificates,
            devices=devices,
            groups=self.groups,
            authorities=worker.authorities,
            creation=worker.creation,
            possession=worker.possession,
            device_certificates=devices,
            failures=devices,
            converger=devices,
            outbox=worker.outbox,
            settings=self.settings,
            clock=self.clock,
        )
        body = {"requestId": request_id, "kind": kind, "name": name, **fields}
        await requests.carry_out(parse(CertificateRequest, body))

    async def group(self, action: GroupAction, request_id: str) -> None:
        """Carry out a request about the group."""
        await self.group_workflows().requests.carry_out(
            EnrollmentGroupRequest(request_id=request_id, enrollment_group=GROUP, action=action), asked_at=self.now
        )

    async def install(self, certificate: x509.Certificate | None) -> None:
        """Have the request of the CA that is signed elsewhere answered, and install the answer."""
        with self.conductor.at_once():
            known = await self.records.get(ELSEWHERE.name)
        if known is None or known.record.signing_request is None:
            raise Deferred("there is no request to answer", retry_after=timedelta(minutes=1))
        given = certificate or answer(known.record.signing_request)
        pem = b"".join(each.public_bytes(_PEM) for each in (given, TOP))
        await self.worker().installation.install(ELSEWHERE.name, pem)

    async def bring(self, name: str, cause: str) -> None:
        wanted = AuthorityImport(pem=SecretStr("what is in the file is in the world"))
        await self.worker().installation.take_over(name, wanted, cause=cause)

    async def revoke(self, issuer: str, serial: int) -> None:
        """Revoke a device's certificate, as the converger of devices does."""
        await self.enter(issuer, serial)
        await self.publish(issuer)

    async def enter(self, issuer: str, serial: int) -> None:
        await self.certificates.enter_revocation(
            RevocationRecord(
                serial_number=f"{serial:040x}",
                issuer=issuer,
                revoked_at=NOW,
                reason=RevocationReason.KEY_COMPROMISE,
                not_after=NOW + timedelta(days=365),
                generation=1,
            )
        )

    async def publish(self, issuer: str) -> None:
        worker = self.worker()
        await worker.lists.publish(issuer)

    async def publish_all(self) -> None:
        worker = self.worker()
        await self.lists(worker.authorities).publish_all()

    async def read(self, issuer: str) -> None:
        worker = self.worker()
        await self.lists(worker.authorities).read(issuer)


def answer(request: str, *, days: int = 4000) -> x509.Certificate:
    """Sign a CA's request, as its owner's CA does."""
    asked = x509.load_pem_x509_csr(request.encode())
    public: Any = SimpleNamespace(public_key=asked.public_key)
    return authority(asked.subject, parent=TOP, key=public, signed_by=TOP_KEY, length=0, days=(-1, days))
