"""A deployment whose ledger can be lost: vault, DPS, hubs and blobs stay, and what the ledger had is gone."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from shared.contracts.devices import RevocationRequest
from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.contracts.orders import DeviceRegistration
from shared.domain.orders import LineState, OrderLine
from shared.domain.words import CertificateKind, RegisterBy, RevocationReason
from shared.restoration import carried_out, restoration_of
from shared.services import build
from shared.threads import ThreadPool
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.reconciliation.found_authorities import Brought
from shared.workflows.status.revocation_lists import CRLS
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeHubs, FakeProvisioning, FakeQueues, FakeRegistrar, FakeTable, FakeVault, Trap
from tests.world.authority_services import DpsPlaces
from tests.world.conductor import Conductor
from tests.world.services import Log, Secrets
from tests.world.storage import Blobs
from tests.world.world import SETTINGS

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.groups import GroupRecord
    from shared.ports.registrar import Assignment
    from shared.services import Services

GROUP, ISSUER = "line", "line-ca1"


class GroupRegistrar(FakeRegistrar):
    """Registers devices by the one group, which lists them."""

    def boot(self, registration_id: str, certificate: Any) -> Assignment:
        assignment = super().boot(registration_id, certificate)
        if registration_id not in self.provisioning.enrollments:
            self.provisioning.registrations[registration_id]["enrollmentGroupId"] = GROUP
        return assignment


@dataclass
class Deployment:
    """Services that outlive the ledger, and a ledger.

    Attributes:
        origin: of the log; empty if none is kept in the blobs.
    """

    origin: str = ""

    now: datetime = NOW
    vault: FakeVault = field(default_factory=FakeVault)
    provisioning: FakeProvisioning = field(default_factory=FakeProvisioning)
    hubs: FakeHubs = field(default_factory=FakeHubs)
    blobs: Blobs = field(default_factory=lambda: Blobs(Conductor()))
    queues: FakeQueues = field(default_factory=FakeQueues)
    places: DpsPlaces = field(default_factory=lambda: DpsPlaces(Conductor(), "the DPS"))
    tables: dict[str, FakeTable] = field(default_factory=dict)
    trap: Trap = field(default_factory=Trap)
    conductor: Conductor = field(default_factory=Conductor)

    def __post_init__(self) -> None:
        self.registrar = GroupRegistrar(self.provisioning, self.hubs)
        self.pool = ThreadPool("computing", 1)
        self.app = self.worker()

    def table(self, name: str) -> FakeTable:
        """Give a table of the ledger."""
        return self.tables.setdefault(name, FakeTable(name, self.conductor, step=self.trap.step))

    async def check(self, _table: str) -> None:
        """See whether tables can be reached."""

    def worker(self) -> Services:
        """Wire the app as in the cloud, with nothing loaded."""
        clients: Any = SimpleNamespace(
            queues=self.queues,
            tables=self,
            blobs=self.blobs,
            order_lists=self.blobs,
            keys=self.vault,
            responder_keys=self.vault,
            secrets=Secrets(self.conductor),
            provisioning=self.provisioning,
            dps_authorities=self.places,
            hub_authorities=(),
            ca_certificates=(self.places,),
            registrar=self.registrar,
            hubs=self.hubs,
            event_topic=None,
        )
        log = None if self.origin else Log(self.conductor)
        settings = replace(SETTINGS, evidence_log="on", evidence_origin=self.origin)
        return build(settings, clients=clients, clock=lambda: self.now, threads=lambda *_: self.pool, log=log)

    # --- what there was ---

    async def begin(self, *devices: str) -> Deployment:
        """Make a root, a group and devices, and have the ledger's epoch raised."""
        await self.make_root()
        await self.make_group()
        for each in devices:
            await self.order(each)
        await self.app.epochs.advance()
        return self

    async def make_root(self) -> None:
        root = AuthorityDefinition(name=SETTINGS.root_authority, kind=CertificateKind.ROOT)
        await self.app.authority_workflows.creation.ensure(root, cause="root")

    async def make_group(self, request_id: str = "g") -> None:
        """Make the group, and its issuing CA."""
        made = EnrollmentGroupRequest(request_id=request_id, enrollment_group=GROUP, action=GroupAction.CREATE)
        await self.app.groups.requests.carry_out(made)

    async def order(self, device: str) -> None:
        """Order a device, which is registered at once."""
        line = OrderLine(
            order_id=f"order-{device}",
            line=0,
            state=LineState.ORDERED,
            requested_id=device,
            registration_id=device,
            enrollment_group=GROUP,
            register_by=RegisterBy.SERVICE,
            accepted_at=self.now,
        )
        await self.app.registrations.orders.insert_lines([line])
        await self.app.registrations.register(DeviceRegistration(order_id=line.order_id, line=0))

    async def revoke(self, device: str, reason: RevocationReason = RevocationReason.KEY_COMPROMISE) -> None:
        """Revoke a device."""
        request = RevocationRequest(request_id=f"revoke-{device}", registration_id=device, reason=reason)
        await self.app.revocations.carry_out(request)

    def lose(self, *containers: str) -> None:
        """Lose the ledger, and the blobs of containers."""
        self.tables = {}
        self.blobs.blobs = {key: blob for key, blob in self.blobs.blobs.items() if key[0] not in containers}
        self.app = self.worker()

    def copied(self) -> dict[str, Any]:
        """Copy the ledger."""
        return {name: deepcopy(table.rows) for name, table in self.tables.items()}

    def put_back(self, copy: dict[str, Any]) -> None:
        """Have the ledger as it was copied; the services stay as they are."""
        for name, table in self.tables.items():
            table.rows = deepcopy(copy.get(name, {}))
        self.app = self.worker()

    def kept(self) -> dict[str, Any]:
        """Copy what the services have."""
        dps = self.provisioning
        held: dict[str, Any] = {
            "groups": dps.groups,
            "enrollments": dps.enrollments,
            "registrations": dps.registrations,
            "identities": self.hubs.identities,
            "blobs": self.blobs.blobs,
            "tagged": self.vault.tagged,
        }
        return deepcopy(held)

    def as_kept(self, held: dict[str, Any]) -> None:
        """Have the services as they were copied, and an empty ledger."""
        again, dps = deepcopy(held), self.provisioning
        dps.groups, dps.enrollments, dps.registrations = (
            again[each] for each in ("groups", "enrollments", "registrations")
        )
        self.hubs.identities, self.blobs.blobs, self.vault.tagged = (
            again[each] for each in ("identities", "blobs", "tagged")
        )
        self.lose()

    # --- what becomes of it ---

    async def adopt(self, brought: Brought | None = None) -> list[str]:
        """Run the command, by a worker of its own; give its lines."""
        self.app = self.worker()
        return [line async for line in restoration_of(self.app, brought or Brought()).run()]

    async def take_back(self) -> list[str]:
        """Run the command for a ledger that is an older one, by a worker of its own; give its lines."""
        self.app = self.worker()
        return [line async for line in restoration_of(self.app).run()]

    async def command(
        self, *, adopt: bool = False, look: bool = False, accept: bool = False, since: datetime | None = None
    ) -> int:
        """Run the command as whoever repairs does, who can't know how far the last one came; give its exit status."""
        self.app = self.worker()
        return await carried_out(self.app, look=look, accept=accept, brought=Brought() if adopt else None, since=since)

    async def device(self, name: str) -> DeviceRecord:
        known = await self.app.converger.devices.get(name)
        assert known is not None, name
        return known.record

    async def authority(self, name: str) -> AuthorityRecord:
        return await self.app.authorities.get(name)

    async def group(self) -> GroupRecord | None:
        known = await self.app.usable_groups.groups.get(GROUP)
        return known.record if known else None

    def crl(self, name: str) -> bytes:
        return self.blobs.blobs[CRLS, f"{name}.crl"].content
