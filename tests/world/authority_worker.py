"""What one worker holds of the CAs' workflows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.workflows.authorities.acts import AuthorityActs
from shared.workflows.authorities.certifying import AuthorityCertifying
from shared.workflows.authorities.convergence import AuthorityConverger
from shared.workflows.authorities.creation import AuthorityCreation
from shared.workflows.authorities.endings import AuthorityEndings
from shared.workflows.authorities.installation import AuthorityInstallation
from shared.workflows.authorities.issuance import Issuance
from shared.workflows.authorities.loading import CertificateAuthorities
from shared.workflows.authorities.making import AuthorityMaking
from shared.workflows.authorities.possession import Possession
from shared.workflows.authorities.reach import AuthorityReach
from tests.world.approving import approvals
from tests.world.services import Log
from tests.world.storage import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.domain.approvals import ApprovalAct
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.groups import Groups
    from shared.ledger.public_keys import PublicKeys
    from shared.ledger.requests import Requests
    from shared.ports.evidence import EvidenceLog
    from shared.ports.lists import Lists
    from shared.threads import ThreadPool
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(kw_only=True)
class Worker:
    """What one worker holds of the CAs' workflows, with nothing loaded."""

    records: Authorities
    public_keys: PublicKeys
    certificates: Certificates
    expiry: ExpiryIndex
    keys: AuthorityKeys
    services: Sequence[Any]
    lists_of: Callable[[CertificateAuthorities], Lists]
    outbox: Outbox
    settings: Any
    clock: Clock
    opening: ThreadPool
    groups: Groups
    devices: Devices
    requests: Requests
    log: EvidenceLog = field(default_factory=Log)
    wanted: Mapping[ApprovalAct, int] = field(default_factory=dict)
    approval_rows: Table = field(default_factory=Table)
    epochs: Epochs | None = None

    def __post_init__(self) -> None:
        kept: dict[str, Any] = {"records": self.records, "settings": self.settings, "clock": self.clock}
        self.authorities = CertificateAuthorities(keys=self.keys, epochs=self.epochs, **kept)
        self.lists = self.lists_of(self.authorities)
        self.issuance = Issuance(certificates=self.certificates, keys=self.keys, clock=self.clock, log=self.log)
        self.possession = Possession(authorities=self.authorities, issuance=self.issuance, services=self.services)
        self.making = AuthorityMaking(
            public_keys=self.public_keys,
            authorities=self.authorities,
            keys=self.keys,
            issuance=self.issuance,
            possession=self.possession,
            **kept,
        )
        self.reach = AuthorityReach(
            records=self.records,
            certificates=self.certificates,
            groups=self.groups,
            devices=self.devices,
            clock=self.clock,
        )
        self.endings = AuthorityEndings(
            records=self.records,
            requests=self.requests,
            certificates=self.certificates,
            devices=self.devices,
            reach=self.reach,
            possession=self.possession,
            lists=self.lists,
            expiry=self.expiry,
            outbox=self.outbox,
            settings=self.settings,
            clock=self.clock,
        )
        self.converger = AuthorityConverger(
            endings=self.endings,
            certificates=self.certificates,
            expiry=self.expiry,
            keys=self.keys,
            making=self.making,
            possession=self.possession,
            lists=self.lists,
            outbox=self.outbox,
            check_ledger=self.authorities.check_ledger,
            **kept,
        )
        self.acts = AuthorityActs(
            requests=self.requests,
            certificates=self.certificates,
            reach=self.reach,
            converger=self.converger,
            certifying=AuthorityCertifying(
                authorities=self.authorities, keys=self.keys, issuance=self.issuance, reach=self.reach, **kept
            ),
            outbox=self.outbox,
            **kept,
        )
        acts: dict[str, Any] = {
            "keys": self.keys, "possession": self.possession, "converger": self.converger, **kept
        }  # fmt: skip
        self.creation = AuthorityCreation(authorities=self.authorities, **acts)
        self.approvals = approvals(self.approval_rows, self.outbox, self.clock, self.wanted, {})
        self.installation = AuthorityInstallation(
            public_keys=self.public_keys, opening=self.opening, approvals=self.approvals, **acts
        )
