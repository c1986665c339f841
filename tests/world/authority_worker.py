"""What one worker holds of the CAs' workflows, wired as the app wires them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shared.workflows.authorities.issuance import Issuance
from shared.workflows.authorities.loading import CertificateAuthorities
from shared.workflows.authorities.possession import Possession
from shared.workflows.authorities.wiring import authority_workflows
from tests.world.approving import approvals
from tests.world.services import Log
from tests.world.storage import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.domain.approvals import ApprovalAct
    from shared.ledger.requests import Requests
    from shared.ledger.stores import Ledger
    from shared.ports.evidence import EvidenceLog
    from shared.ports.lists import Lists
    from shared.threads import ThreadPool
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(kw_only=True)
class Worker:
    """What one worker holds of the CAs' workflows, with nothing loaded."""

    ledger: Ledger
    keys: AuthorityKeys
    services: Sequence[Any]
    lists_of: Callable[[CertificateAuthorities], Lists]
    outbox: Outbox
    settings: Any
    clock: Clock
    opening: ThreadPool
    requests: Requests
    log: EvidenceLog = field(default_factory=Log)
    wanted: Mapping[ApprovalAct, int] = field(default_factory=dict)
    approval_rows: Table = field(default_factory=Table)
    epochs: Epochs | None = None

    def __post_init__(self) -> None:
        kept: dict[str, Any] = {"keys": self.keys, "settings": self.settings, "clock": self.clock}
        self.authorities = CertificateAuthorities(records=self.ledger.authorities, epochs=self.epochs, **kept)
        self.lists = self.lists_of(self.authorities)
        self.issuance = Issuance(certificates=self.ledger.certificates, keys=self.keys, clock=self.clock, log=self.log)
        self.possession = Possession(authorities=self.authorities, issuance=self.issuance, services=self.services)
        self.approvals = approvals(self.approval_rows, self.outbox, self.clock, self.wanted, {})
        made = authority_workflows(
            self.ledger,
            authorities=self.authorities,
            issuance=self.issuance,
            possession=self.possession,
            lists=self.lists,
            outbox=self.outbox,
            requests=self.requests,
            approvals=self.approvals,
            **kept,
        )
        self.converger, self.creation, self.acts, self.reach = made.converger, made.creation, made.acts, made.acts.reach
        self.installation = replace(made.installation, opening=self.opening)
