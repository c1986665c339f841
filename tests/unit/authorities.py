"""CAs made by the workflow itself, with a ledger and a vault in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from shared.domain.words import CertificateKind
from shared.ledger.certificates import Certificates
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.authorities import Authorities
from shared.threads import ThreadPool
from shared.workflows.authorities.keys import AuthorityKeys
from shared.workflows.authorities.making import CertificateAuthorities
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.intake.outbox import Outbox
from tests.unit.fakes import FakeQueues, FakeTable, FakeVault, Gate, Gated
from tests.unit.pki.hierarchy import NOW

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class AuthorityScene:
    """What all workers share.

    Attributes:
        verifiers: services that are shown possession of a root.
        now: the time that their clocks show.
    """

    vault: FakeVault = field(default_factory=FakeVault)
    table: FakeTable = field(default_factory=FakeTable)
    queues: FakeQueues = field(default_factory=FakeQueues)
    computing: ThreadPool = field(default_factory=lambda: ThreadPool("computing", 1))
    verifiers: Sequence[Any] = ()
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.issuers = Authorities(self.table)
        self.certificate_rows, self.revocation_rows = FakeTable(), FakeTable()
        self.certificates = Certificates(self.certificate_rows, self.revocation_rows, FakeTable())
        self.settings: Any = SimpleNamespace(
            public_base_url=None,
            subject_organization="Example",
            subject_country="US",
            expiry_warning=timedelta(days=30),
            crl_validity=timedelta(days=7),
            issuing_custody="vault",
        )

    def clock(self) -> datetime:
        return self.now

    def worker(self, gate: Gate | None = None) -> CertificateAuthorities:
        """What one worker holds; another one begins with nothing loaded. A gate holds it up."""
        vault: Any = self.vault
        queues: Any = self.queues
        issuers, certificates, verifiers = self.issuers, self.certificates, self.verifiers
        if gate is not None:
            rows: Any = Gated(self.certificate_rows, gate)
            table: Any = Gated(self.table, gate)
            vault, queues, verifiers = Gated(vault, gate), Gated(queues, gate), [Gated(x, gate) for x in verifiers]
            issuers, certificates = Authorities(table), Certificates(rows, FakeTable(), FakeTable())
        return CertificateAuthorities(
            issuers,
            certificates,
            ExpiryIndex(FakeTable()),
            AuthorityKeys(vault, self.computing),
            verifiers,
            Outbox(queues, self.clock),
            self.settings,
            self.clock,
        )

    async def root(self, name: str, **fields: Any) -> None:
        """Make a root."""
        definition = AuthorityDefinition(name, CertificateKind.ROOT, **fields)
        await self.worker().ensure(definition, cause=f"make-{name}")

    async def issuing(self, name: str, parent: str, **fields: Any) -> None:
        """Make an issuing CA."""
        definition = AuthorityDefinition(name, CertificateKind.INTERMEDIATE, parent=parent, **fields)
        await self.worker().ensure(definition, cause=f"make-{name}")
