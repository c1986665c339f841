"""What makes CAs and what opens them, wired together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workflows.authorities.acts import AuthorityActs
from shared.workflows.authorities.certifying import AuthorityCertifying
from shared.workflows.authorities.convergence import AuthorityConverger
from shared.workflows.authorities.creation import AuthorityCreation
from shared.workflows.authorities.endings import AuthorityEndings
from shared.workflows.authorities.installation import AuthorityInstallation
from shared.workflows.authorities.making import AuthorityMaking
from shared.workflows.authorities.reach import AuthorityReach

if TYPE_CHECKING:
    from shared.ledger.requests import Requests
    from shared.ledger.stores import Ledger
    from shared.ports.lists import Lists
    from shared.settings import Settings
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.intake.approvals import Approvals
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityWorkflows:
    """What can be asked of CAs.

    Attributes:
        converger: brings about what their records want.
        creation: has CAs made.
        installation: takes what comes from elsewhere.
        acts: ends CAs that are there, and lets them rest.
    """

    converger: AuthorityConverger
    creation: AuthorityCreation
    installation: AuthorityInstallation
    acts: AuthorityActs


def authority_workflows(
    ledger: Ledger,
    *,
    authorities: CertificateAuthorities,
    keys: AuthorityKeys,
    issuance: Issuance,
    possession: Possession,
    lists: Lists,
    outbox: Outbox,
    settings: Settings,
    clock: Clock,
    requests: Requests,
    approvals: Approvals,
) -> AuthorityWorkflows:
    """Wire what brings CAs about, and what takes requests for them and about them."""
    records, certificates = ledger.authorities, ledger.certificates
    reach = AuthorityReach(
        records=records, certificates=certificates, groups=ledger.groups, devices=ledger.devices, clock=clock
    )
    making = AuthorityMaking(
        records=records,
        public_keys=ledger.public_keys,
        devices=ledger.devices,
        authorities=authorities,
        keys=keys,
        issuance=issuance,
        possession=possession,
        settings=settings,
        clock=clock,
    )
    converger = AuthorityConverger(
        records=records,
        certificates=certificates,
        expiry=ledger.expiry,
        keys=keys,
        making=making,
        possession=possession,
        endings=AuthorityEndings(
            records=records,
            requests=requests,
            certificates=certificates,
            devices=ledger.devices,
            reach=reach,
            possession=possession,
            lists=lists,
            expiry=ledger.expiry,
            outbox=outbox,
            settings=settings,
            clock=clock,
        ),
        lists=lists,
        outbox=outbox,
        settings=settings,
        clock=clock,
        check_ledger=authorities.check_ledger,
    )
    creation = AuthorityCreation(
        records=records,
        authorities=authorities,
        keys=keys,
        possession=possession,
        converger=converger,
        settings=settings,
        clock=clock,
    )
    acts = AuthorityActs(
        requests=requests,
        records=records,
        certificates=certificates,
        reach=reach,
        converger=converger,
        certifying=AuthorityCertifying(
            records=records,
            authorities=authorities,
            keys=keys,
            issuance=issuance,
            reach=reach,
            settings=settings,
            clock=clock,
        ),
        outbox=outbox,
        settings=settings,
        clock=clock,
    )
    installation = AuthorityInstallation(
        records=records,
        public_keys=ledger.public_keys,
        devices=ledger.devices,
        keys=keys,
        possession=possession,
        converger=converger,
        approvals=approvals,
        settings=settings,
        clock=clock,
    )
    return AuthorityWorkflows(converger=converger, creation=creation, installation=installation, acts=acts)
