"""CAs made by the workflow itself, with a ledger and a vault in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from shared.domain.approvals import ApprovalAct
from shared.domain.words import CertificateKind
from shared.ledger.authorities import Authorities
from shared.ledger.certificates import Certificates
from shared.ledger.changes import ChangeNotes
from shared.ledger.devices import Devices
from shared.ledger.groups import Groups
from shared.ledger.public_keys import PublicKeys
from shared.ledger.requests import Requests
from shared.ledger.stores import Ledger
from shared.threads import ThreadPool
from shared.workflows.authorities.installation import OPENING
from shared.workflows.authorities.keys import AuthorityKeys
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.intake.outbox import Outbox
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues, FakeTable, FakeVault, Gate, Gated
from tests.world.authority_worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.workflows.epochs import Epochs


@dataclass
class FakeLists:
    """Remembers whose list was asked for."""

    published: list[str] = field(default_factory=list)

    async def publish(self, name: str) -> bool:
        self.published.append(name)
        return True


@dataclass
class AuthorityScene:
    """What all workers share.

    Attributes:
        opening: waits for owners' files to be opened.
        verifiers: services that are shown possession of a root.
        lists: publishes the first list of a CA.
        epochs: tell whether the ledger is an older one; ``None`` where nobody looks.
        now: the time that their clocks show.
    """

    vault: FakeVault = field(default_factory=FakeVault)
    table: FakeTable = field(default_factory=FakeTable)
    queues: FakeQueues = field(default_factory=FakeQueues)
    computing: ThreadPool = field(default_factory=lambda: ThreadPool("computing", 1))
    opening: ThreadPool = OPENING
    verifiers: Sequence[Any] = ()
    lists: FakeLists = field(default_factory=FakeLists)
    now: datetime = NOW
    epochs: Epochs | None = None

    def __post_init__(self) -> None:
        self.records, self.public_keys = Authorities(self.table), PublicKeys(FakeTable())
        self.certificate_rows, self.revocation_rows = FakeTable(), FakeTable()
        self.certificates = Certificates(
            certificates=self.certificate_rows, revocations=self.revocation_rows, in_force=FakeTable()
        )
        self.groups, self.requests = Groups(FakeTable()), Requests(FakeTable())
        self.devices = Devices(
            identities=self.certificate_rows,
            unsettled=FakeTable(),
            changes=ChangeNotes(FakeTable(), clock=self.clock),
        )
        self.wanted = dict[ApprovalAct, int]()
        self.approval_rows = FakeTable()
        self.settings: Any = SimpleNamespace(
            unrepeated_devices=2,
            public_base_url=None,
            subject_organization="Example",
            subject_country="US",
            authority_warnings=(365, 30),
            crl_validity=timedelta(days=7),
            issuing_custody="vault",
        )

    def clock(self) -> datetime:
        return self.now

    def worker(self, gate: Gate | None = None) -> Worker:
        """What one worker holds; another one begins with nothing loaded. A gate holds it up."""
        vault: Any = self.vault
        queues: Any = self.queues
        lists: Any = self.lists
        records, certificates, verifiers = self.records, self.certificates, self.verifiers
        if gate is not None:
            rows: Any = Gated(self.certificate_rows, gate)
            table: Any = Gated(self.table, gate)
            vault, queues, verifiers = Gated(vault, gate), Gated(queues, gate), [Gated(x, gate) for x in verifiers]
            lists = Gated(lists, gate)
            records, certificates = (
                Authorities(table),
                Certificates(certificates=rows, revocations=FakeTable(), in_force=FakeTable()),
            )
        return Worker(
            ledger=replace(
                Ledger.of(lambda _: FakeTable(), clock=self.clock),
                authorities=records,
                public_keys=self.public_keys,
                certificates=certificates,
                groups=self.groups,
                devices=self.devices,
            ),
            keys=AuthorityKeys(vault=vault, computing=self.computing, log_key="evidence-log"),
            services=verifiers,
            lists_of=lambda _: lists,
            outbox=Outbox(queues=queues, clock=self.clock),
            settings=self.settings,
            clock=self.clock,
            opening=self.opening,
            requests=self.requests,
            wanted=self.wanted,
            approval_rows=self.approval_rows,
            epochs=self.epochs,
        )

    async def root(self, name: str, **fields: Any) -> None:
        """Make a root."""
        definition = AuthorityDefinition(name=name, kind=CertificateKind.ROOT, **fields)
        await self.worker().creation.ensure(definition, cause=f"make-{name}")

    async def issuing(self, name: str, parent: str, **fields: Any) -> None:
        """Make an issuing CA."""
        definition = AuthorityDefinition(name=name, kind=CertificateKind.INTERMEDIATE, parent=parent, **fields)
        await self.worker().creation.ensure(definition, cause=f"make-{name}")
