"""What sees to certificates that come to their end, wired together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workflows.devices.automatic_renewals import AutomaticRenewals
from shared.workflows.devices.expiry import ExpirySweep
from shared.workflows.devices.group_renewals import GroupRenewals
from shared.workflows.devices.missed_renewals import MissedRenewals
from shared.workflows.intake.parts import Parts

if TYPE_CHECKING:
    from shared.ledger.requests import Requests
    from shared.ledger.stores import Ledger
    from shared.settings import Settings
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Reports ends, renews many, and names who has to act first."""

    expiry_sweep: ExpirySweep
    group_renewals: GroupRenewals
    missed_renewals: MissedRenewals


def lifetimes(
    ledger: Ledger,
    *,
    requests: Requests,
    groups: UsableGroups,
    authorities: CertificateAuthorities,
    bundles: Bundles,
    outbox: Outbox,
    settings: Settings,
    clock: Clock,
) -> Lifetimes:
    """Wire what sees to certificates that come to their end.

    Args:
        ledger: the stores.
        requests: all requests.
        groups: those that take devices.
        authorities: all CAs.
        bundles: all bundles.
        outbox: sends messages.
        settings: of the deployment.
        clock: gives the present time.
    """
    devices, certificates, expiry = ledger.devices, ledger.certificates, ledger.expiry
    missed = MissedRenewals(groups=ledger.groups, expiry=expiry, outbox=outbox, clock=clock)
    automatic = AutomaticRenewals(
        groups=ledger.groups, devices=devices, requests=requests, missed=missed, outbox=outbox, clock=clock
    )
    return Lifetimes(
        expiry_sweep=ExpirySweep(
            expiry=expiry,
            certificates=certificates,
            devices=devices,
            bundles=bundles,
            renewals=automatic,
            outbox=outbox,
            check_ledger=authorities.check_ledger,
            settings=settings,
            clock=clock,
        ),
        group_renewals=GroupRenewals(
            requests=requests,
            devices=devices,
            certificates=certificates,
            groups=groups,
            authorities=authorities,
            missed=missed,
            parts=Parts(requests=requests, outbox=outbox, clock=clock),
            clock=clock,
        ),
        missed_renewals=missed,
    )
