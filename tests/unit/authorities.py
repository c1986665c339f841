"""CAs made by the workflow itself, with a ledger and a vault in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from shared.contracts import CertificateKind
from shared.ledger.certificates import Certificates
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.issuers import Issuers
from shared.threads import ThreadPool
from shared.workflows.authority_keys import AuthorityKeys
from shared.workflows.certificate_authorities import AuthorityDefinition, CertificateAuthorities
from shared.workflows.events import Outbox
from tests.unit.fakes import FakeQueues, FakeTable, FakeVault
from tests.unit.pki.hierarchy import NOW


@dataclass
class AuthorityScene:
    """What all workers share.

    Attributes:
        now: the time that their clocks show.
    """

    vault: FakeVault = field(default_factory=FakeVault)
    table: FakeTable = field(default_factory=FakeTable)
    queues: FakeQueues = field(default_factory=FakeQueues)
    computing: ThreadPool = field(default_factory=lambda: ThreadPool("computing", 1))
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.issuers = Issuers(self.table)
        self.certificates = Certificates(FakeTable(), FakeTable(), FakeTable())
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

    def worker(self) -> CertificateAuthorities:
        """What one worker holds; another one begins with nothing loaded."""
        vault: Any = self.vault
        queues: Any = self.queues
        return CertificateAuthorities(
            self.issuers,
            self.certificates,
            ExpiryIndex(FakeTable()),
            AuthorityKeys(vault, self.computing),
            (),
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
