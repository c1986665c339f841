"""What sees to certificates that come to their end, to lists of devices and to approvals, wired once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.authority_acts import is_decided as decided_before
from shared.ledger.approvals import ApprovalRows
from shared.ledger.directory import Directory, Projection
from shared.ledger.orders import Orders
from shared.workflows.authorities.reach import AuthorityReach
from shared.workflows.devices.automatic_renewals import AutomaticRenewals
from shared.workflows.devices.books import Books
from shared.workflows.devices.convergence import DeviceConverger
from shared.workflows.devices.directory import DeviceDirectory
from shared.workflows.devices.directory_upkeep import DirectoryUpkeep
from shared.workflows.devices.entry_changes import EntryChanges
from shared.workflows.devices.expiry import ExpirySweep
from shared.workflows.devices.group_renewals import GroupRenewals
from shared.workflows.devices.hub_doors import HubDoors
from shared.workflows.devices.hub_openings import HubOpenings
from shared.workflows.devices.issuers_devices import IssuersDevices
from shared.workflows.devices.leaves import Leaves
from shared.workflows.devices.left_requests import LeftRequests
from shared.workflows.devices.members import Members
from shared.workflows.devices.missed_renewals import MissedRenewals
from shared.workflows.devices.own_entries import OwnEntries
from shared.workflows.devices.revocations import revocable
from shared.workflows.devices.whereabouts import Whereabouts
from shared.workflows.intake.approval_deeds import Deeds
from shared.workflows.intake.approvals import Approvals
from shared.workflows.intake.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.groups import Groups
    from shared.ledger.public_keys import PublicKeys
    from shared.ledger.requests import Requests
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.ports.rows import Table
    from shared.settings import Settings
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.epochs import Epochs
    from shared.workflows.evidence.wiring import EvidenceWorkflows
    from shared.workflows.intake.outbox import Clock, Outbox
    from shared.workflows.status.revocation_lists import RevocationLists


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Reports ends, renews many, and names who has to act first."""

    expiry_sweep: ExpirySweep
    group_renewals: GroupRenewals
    missed_renewals: MissedRenewals


def lifetimes(
    *,
    requests: Requests,
    devices: Devices,
    certificates: Certificates,
    expiry: ExpiryIndex,
    groups: UsableGroups,
    authorities: CertificateAuthorities,
    bundles: Bundles,
    outbox: Outbox,
    settings: Settings,
    clock: Clock,
) -> Lifetimes:
    """Wire what sees to certificates that come to their end.

    Args:
        requests: all requests.
        devices: all devices.
        certificates: all certificates.
        expiry: what is due on which day.
        groups: those that take devices.
        authorities: all CAs.
        bundles: all bundles.
        outbox: sends messages.
        settings: of the deployment.
        clock: gives the present time.
    """
    missed = MissedRenewals(groups=groups.groups, expiry=expiry, outbox=outbox, clock=clock)
    automatic = AutomaticRenewals(
        groups=groups.groups, devices=devices, requests=requests, missed=missed, outbox=outbox, clock=clock
    )
    return Lifetimes(
        expiry_sweep=ExpirySweep(
            expiry=expiry,
            certificates=certificates,
            devices=devices,
            bundles=bundles,
            renewals=automatic,
            outbox=outbox,
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


def directories(
    table: Callable[[str], Table],
    evidence: EvidenceWorkflows,
    *,
    devices: Devices,
    certificates: Certificates,
    bundles: Bundles,
    settings: Settings,
    clock: Clock,
) -> tuple[DeviceDirectory, DirectoryUpkeep]:
    """Put together what lists devices, and what keeps the lists as the records are."""
    directory = DeviceDirectory(
        devices=devices,
        certificates=certificates,
        directory=Directory(table("directory")),
        bundles=bundles,
        settings=settings,
        clock=clock,
        log=evidence.reader,
    )
    return directory, DirectoryUpkeep(devices=devices, projection=Projection(table("directory")), clock=clock)


def members_of(
    devices: Devices,
    orders: Orders,
    directory: DeviceDirectory,
    authorities: Authorities,
    certificates: Certificates,
    *,
    groups: Groups,
    clock: Clock,
) -> Members:
    """Put together what finds the devices of groups, orders and CAs."""
    reach = AuthorityReach(records=authorities, certificates=certificates, groups=groups, devices=devices, clock=clock)
    issuers = IssuersDevices(reach=reach, certificates=certificates, devices=devices, clock=clock)
    return Members(devices=devices, orders=orders, directory=directory.directory, issuers=issuers)


def converger_of(
    *,
    devices: Devices,
    certificates: Certificates,
    public_keys: PublicKeys,
    expiry: ExpiryIndex,
    groups: Groups,
    requests: Requests,
    provisioning: ProvisioningService,
    hubs: IotHubRegistries,
    linked: LinkedHubs,
    revocation_lists: RevocationLists,
    outbox: Outbox,
    epochs: Epochs,
    clock: Clock,
) -> DeviceConverger:
    """Put together what has the services follow devices."""
    whereabouts = Whereabouts(devices=devices, provisioning=provisioning, clock=clock)
    return DeviceConverger(
        devices=devices,
        certificates=certificates,
        books=Books(
            certificates=certificates,
            public_keys=public_keys,
            expiry=expiry,
            revocation_lists=revocation_lists,
            clock=clock,
        ),
        provisioning=provisioning,
        entries=EntryChanges(devices=devices, provisioning=provisioning),
        own_entries=OwnEntries(provisioning=provisioning, groups=groups, clock=clock),
        leaves=Leaves(certificates=certificates, clock=clock),
        left=LeftRequests(devices=devices, requests=requests, clock=clock),
        whereabouts=whereabouts,
        hub_doors=HubDoors(hubs=hubs, devices=devices, linked=linked, clock=clock),
        hub_openings=HubOpenings(devices=devices, hubs=hubs, whereabouts=whereabouts),
        outbox=outbox,
        check_ledger=epochs.check,
        clock=clock,
    )


def approvals_of(
    table: Callable[[str], Table],
    devices: Devices,
    *,
    certificates: Certificates,
    authorities: Authorities,
    groups: Groups,
    outbox: Outbox,
    settings: Settings,
    clock: Clock,
) -> Approvals:
    """Put together what has acts wait for a second person, and what counts the devices that they concern."""
    counts, orders = Directory(table("directory")), Orders(orders=table("orders"), lines=table("orderlines"))
    reach = AuthorityReach(records=authorities, certificates=certificates, groups=groups, devices=devices, clock=clock)

    async def of_authority(name: str) -> int:
        return (await reach.of(name)).devices

    async def group_of_certificate(serial_number: str) -> str | None:
        known = await certificates.get(serial_number)
        return known.record.enrollment_group if known else None

    async def of_order(order_id: str) -> tuple[int, str | None]:
        known = await orders.get(order_id)
        return (known.record.device_count, known.record.enrollment_group or None) if known else (0, None)

    async def is_decided(name: str, request: str) -> bool:
        known = await authorities.get(name)
        return known is not None and decided_before(known.record, request)

    deeds = Deeds(
        wanted=settings.approvals,
        devices_of_group=partial(revocable, counts),
        devices_of_authority=of_authority,
        devices_of_order=of_order,
        group_of_device=devices.group_of,
        group_of_certificate=group_of_certificate,
        group_of_authority=authorities.group_of,
        is_decided=is_decided,
    )
    rows = ApprovalRows(table("approvals"))
    return Approvals(rows=rows, deeds=deeds, expire_after=settings.approvals_expire, outbox=outbox, clock=clock)
