"""What makes CAs and what opens them, wired together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.workflows.authorities.convergence import AuthorityConverger
from shared.workflows.authorities.creation import AuthorityCreation
from shared.workflows.authorities.making import AuthorityMaking

if TYPE_CHECKING:
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.expiry import ExpiryIndex
    from shared.ports.lists import Lists
    from shared.settings import Settings
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.intake.outbox import Clock, Outbox


def authority_workflows(
    *,
    records: Authorities,
    authorities: CertificateAuthorities,
    certificates: Certificates,
    expiry: ExpiryIndex,
    keys: AuthorityKeys,
    issuance: Issuance,
    possession: Possession,
    lists: Lists,
    outbox: Outbox,
    settings: Settings,
    clock: Clock,
) -> tuple[AuthorityConverger, AuthorityCreation]:
    """Give what brings a CA about, however often it is asked, and what takes the request for one."""
    making = AuthorityMaking(
        records=records,
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
        expiry=expiry,
        keys=keys,
        making=making,
        possession=possession,
        lists=lists,
        outbox=outbox,
        settings=settings,
        clock=clock,
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
    return converger, creation
