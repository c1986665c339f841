"""Enrollment groups with CAs that the app makes itself: ledger, vault and DPS are in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cryptography import x509

from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.parsing import parse
from shared.ledger.groups import Groups
from shared.ledger.requests import Requests
from shared.ledger.stores import Ledger
from shared.pki import names
from shared.workflows.groups.wiring import GroupWorkflows, group_workflows
from shared.workflows.intake.outbox import Outbox
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeProvisioning, FakeTable

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.groups import GroupRecord
    from shared.workflows.groups.checks import GroupChecks
    from shared.workflows.groups.convergence import GroupConverger
    from shared.workflows.groups.directory import GroupDirectory
    from shared.workflows.groups.requests import EnrollmentGroups


@dataclass
class GroupScene(AuthorityScene):
    """A deployment whose root is ``dpsCa``."""

    provisioning: FakeProvisioning = field(default_factory=FakeProvisioning)
    resource: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings.root_authority, self.settings.issuing_custody = "dpsCa", "vault"
        self.group_rows = FakeTable()
        self.groups, self.requests = Groups(self.group_rows), Requests(FakeTable())

    @property
    def workflows(self) -> GroupWorkflows:
        """What a worker has that has loaded nothing yet."""
        provisioning: Any = self.provisioning
        queues: Any = self.queues
        worker = self.worker()
        opened = Ledger.of(lambda _name: FakeTable(), clock=self.clock)
        return group_workflows(
            replace(opened, groups=self.groups, certificates=self.certificates),
            requests=self.requests,
            authorities=worker.authorities,
            creation=worker.creation,
            possession=worker.possession,
            provisioning=provisioning,
            resource=self.resource,
            outbox=Outbox(queues=queues, clock=self.clock),
            settings=self.settings,
            clock=self.clock,
        )

    @property
    def converger(self) -> GroupConverger:
        return self.workflows.converger

    @property
    def checks(self) -> GroupChecks:
        return self.workflows.checks

    @property
    def subject(self) -> EnrollmentGroups:
        return self.workflows.requests

    @property
    def directory(self) -> GroupDirectory:
        return self.workflows.directory

    async def set_up(self) -> GroupScene:
        """Make the root."""
        await self.root("dpsCa")
        return self

    async def ask(
        self, action: str, group: str = "g", *, request_id: str = "", at: datetime | None = None, **fields: Any
    ) -> None:
        """Have a request carried out, that was made at a time."""
        body = {"requestId": request_id or f"{action}-{group}", "enrollmentGroup": group, "action": action, **fields}
        await self.subject.carry_out(parse(EnrollmentGroupRequest, body), asked_at=at)

    async def record(self, group: str = "g") -> GroupRecord:
        """Give a group as the ledger has it."""
        known = await self.groups.get(group)
        assert known is not None
        return known.record

    def accepted(self, group: str = "g") -> list[str]:
        """Give the CNs of the CAs whose devices DPS accepts by a group."""
        held = self.provisioning.groups[group]["attestation"]["x509"]["signingCertificates"]
        certificates = [x509.load_pem_x509_certificate(each["certificate"].encode()) for each in held.values()]
        return [names.common_name(each.subject) for each in certificates]
