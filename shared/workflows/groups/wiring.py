"""What works on groups, wired together once: for the app, and for tests that put something else behind its ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workflows.groups.authorities import GroupAuthorities
from shared.workflows.groups.checks import GroupChecks
from shared.workflows.groups.composing import GroupEntries
from shared.workflows.groups.convergence import GroupConverger
from shared.workflows.groups.directory import GroupDirectory
from shared.workflows.groups.previews import Previews
from shared.workflows.groups.requests import EnrollmentGroups
from shared.workflows.groups.rollovers import Rollovers

if TYPE_CHECKING:
    from shared.ledger.requests import Requests
    from shared.ledger.stores import Ledger
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService
    from shared.settings import Settings
    from shared.workflows.authorities.creation import AuthorityCreation
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupWorkflows:
    """Everything that works on groups."""

    requests: EnrollmentGroups
    checks: GroupChecks
    converger: GroupConverger
    directory: GroupDirectory
    rollovers: Rollovers
    previews: Previews


def group_workflows(
    ledger: Ledger,
    *,
    requests: Requests,
    authorities: CertificateAuthorities,
    creation: AuthorityCreation,
    possession: Possession,
    provisioning: ProvisioningService,
    resource: DpsCaCertificates | None,
    outbox: Outbox,
    settings: Settings,
    clock: Clock,
) -> GroupWorkflows:
    """Wire what works on groups.

    Args:
        ledger: the stores.
        requests: all requests.
        authorities: all CAs.
        creation: makes CAs.
        possession: tells which CAs have proved their keys to DPS.
        provisioning: the DPS.
        resource: the DPS as Azure manages it, where it can be asked.
        outbox: sends events.
        settings: of the deployment.
        clock: gives the present time.
    """
    groups = ledger.groups
    converger = GroupConverger(
        groups=groups,
        authorities=authorities,
        entries=GroupEntries(groups=groups, authorities=authorities, creation=creation),
        provisioning=provisioning,
        outbox=outbox,
        clock=clock,
    )
    rollovers = Rollovers(
        groups=groups,
        certificates=ledger.certificates,
        authorities=authorities,
        provisioning=provisioning,
        converger=converger,
        clock=clock,
    )
    group_authorities = GroupAuthorities(
        groups=groups,
        authorities=authorities,
        creation=creation,
        possession=possession,
        resource=resource,
        settings=settings,
    )
    checks = GroupChecks(
        groups=groups,
        authorities=authorities,
        group_authorities=group_authorities,
        provisioning=provisioning,
        resource=resource,
    )
    return GroupWorkflows(
        requests=EnrollmentGroups(
            groups=groups,
            requests=requests,
            checks=checks,
            converger=converger,
            check_ledger=authorities.check_ledger,
            clock=clock,
        ),
        checks=checks,
        converger=converger,
        directory=GroupDirectory(groups=groups, rollovers=rollovers, provisioning=provisioning),
        rollovers=rollovers,
        previews=Previews(provisioning=provisioning, resource=resource, authorities=authorities, clock=clock),
    )
