"""How the workflows of reconciliation are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.ledger.findings import Findings, Reconciliations
from shared.workflows.devices.entry_checks import EntryChecks
from shared.workflows.reconciliation.authorities import AuthorityLook
from shared.workflows.reconciliation.budget import Share
from shared.workflows.reconciliation.bundles import BundleLook
from shared.workflows.reconciliation.enrollments import EnrollmentLook, OurAuthorities
from shared.workflows.reconciliation.groups import GroupLook
from shared.workflows.reconciliation.identities import IdentityLook
from shared.workflows.reconciliation.identity_pages import IdentityPages
from shared.workflows.reconciliation.looking import DeviceLook
from shared.workflows.reconciliation.mending import Mending
from shared.workflows.reconciliation.mending_groups import GroupMending
from shared.workflows.reconciliation.passes import Reconciler
from shared.workflows.reconciliation.walking import Walk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.domain.audit_entries import AuditedAct
    from shared.ledger.stores import Ledger
    from shared.ports.blobs import Blobs
    from shared.ports.ca_certificates import CaCertificates
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.ports.vault import VaultSecrets
    from shared.settings import Settings
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.devices.arrivals import Arrivals
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.devices.converging import Converging
    from shared.workflows.groups.wiring import GroupWorkflows
    from shared.workflows.intake.outbox import Clock, Outbox


def reconciler(
    ledger: Ledger,
    *,
    bundles: Bundles,
    blobs: Blobs,
    secrets: VaultSecrets,
    keys: AuthorityKeys,
    authorities: CertificateAuthorities,
    provisioning: ProvisioningService,
    ca_certificates: Sequence[CaCertificates],
    hubs: IotHubRegistries,
    converging: Converging,
    arrivals: Arrivals,
    group_work: GroupWorkflows,
    possession: Possession,
    outbox: Outbox,
    took_effect: Callable[[AuditedAct], Awaitable[None]],
    settings: Settings,
    clock: Clock,
) -> Reconciler:
    """Wire what compares the ledger with the services.

    Args:
        ledger: the stores.
        bundles: those that are stored.
        blobs: that have them.
        secrets: the passwords of their keys.
        keys: of all CAs.
        authorities: all CAs.
        provisioning: the DPS.
        ca_certificates: the services that possession of a CA's key is proved to.
        hubs: the hubs' registries.
        converging: has the services follow a device.
        arrivals: completes renewals whose device has come.
        group_work: checks what is asked of groups, and has DPS follow them.
        possession: proves it to the services that want it proved.
        outbox: sends events.
        took_effect: writes down in the audit log that an act took effect.
        settings: of the deployment.
        clock: gives the present time.
    """
    devices, groups, records, table = ledger.devices, ledger.groups, ledger.authorities, ledger.table("findings")
    findings, converger, linked = Findings(table), converging.converger, converging.linked
    ours = OurAuthorities(records=records, groups=groups)
    enrollments = EnrollmentLook(
        devices=devices,
        certificates=ledger.certificates,
        ours=ours,
        findings=findings,
        provisioning=provisioning,
        clock=clock,
    )
    look = DeviceLook(
        devices=devices,
        provisioning=provisioning,
        hubs=hubs,
        linked=linked,
        enrollments=enrollments,
        converger=converger,
        own_entries=converging.own_entries,
        arrivals=arrivals,
        clock=clock,
    )
    identities = IdentityLook(
        devices=devices,
        groups=groups,
        provisioning=provisioning,
        look=look,
        findings=findings,
        clock=clock,
    )
    bundle_look = BundleLook(
        blobs=blobs,
        secrets=secrets,
        certificates=ledger.certificates,
        devices=devices,
        expiry=ledger.expiry,
        clock=clock,
    )
    walk = Walk(
        devices=devices,
        provisioning=provisioning,
        hubs=hubs,
        linked=linked,
        look=look,
        authorities=AuthorityLook(records=records, keys=keys, ca_certificates=ca_certificates, clock=clock),
        groups=GroupLook(groups=groups, records=records, provisioning=provisioning),
        enrollments=enrollments,
        identities=identities,
        identity_pages=IdentityPages(hubs=hubs, linked=linked, identities=identities),
        bundles=bundle_look,
        clock=clock,
    )
    mending = Mending(
        devices=devices,
        groups=GroupMending(
            groups=groups,
            authorities=authorities,
            provisioning=provisioning,
            converger=group_work.converger,
            checks=group_work.checks,
            clock=clock,
        ),
        records=records,
        provisioning=provisioning,
        hubs=hubs,
        converger=converger,
        entry_checks=EntryChecks(
            devices=devices, certificates=ledger.certificates, public_keys=ledger.public_keys, clock=clock
        ),
        possession=possession,
        bundles=bundles,
        look=look,
        identities=identities,
        bundle_look=bundle_look,
        clock=clock,
    )
    return Reconciler(
        findings=findings,
        devices=devices,
        groups=groups,
        authorities=records,
        passes=Reconciliations(table),
        walk=walk,
        mending=mending,
        outbox=outbox,
        share=Share(percent=settings.reconciliation_percent, hub_units=settings.hub_units),
        ours=ours,
        policies=settings.reconciliation_policy,
        took_effect=took_effect,
        interval=settings.reconciliation_interval,
        check_ledger=converger.check_ledger,
        clock=clock,
    )
