"""What has the services follow devices, wired together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workflows.devices.books import Books
from shared.workflows.devices.convergence import DeviceConverger
from shared.workflows.devices.entry_changes import EntryChanges
from shared.workflows.devices.entry_keys import EntryKeys
from shared.workflows.devices.hub_doors import HubDoors
from shared.workflows.devices.hub_openings import HubOpenings
from shared.workflows.devices.leaves import Leaves
from shared.workflows.devices.left_requests import LeftRequests
from shared.workflows.devices.linked_hubs import LinkedHubs
from shared.workflows.devices.own_entries import OwnEntries
from shared.workflows.devices.whereabouts import Whereabouts

if TYPE_CHECKING:
    from shared.ledger.requests import Requests
    from shared.ledger.stores import Ledger
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.settings import Settings
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock, Outbox
    from shared.workflows.status.revocation_lists import RevocationLists


@dataclass(frozen=True, slots=True, kw_only=True)
class Converging:
    """What has the services follow devices, and those of its parts that others work with as well.

    Attributes:
        entries: has DPS follow what operators want of individual enrollments.
        own_entries: keeps the individual enrollments of devices as their groups are.
        left: ends requests that others have brought about.
        linked: the hubs that devices may be in.
        hub_doors: keeps devices out of hubs.
    """

    converger: DeviceConverger
    entries: EntryChanges
    own_entries: OwnEntries
    left: LeftRequests
    linked: LinkedHubs
    hub_doors: HubDoors


def converging(
    ledger: Ledger,
    *,
    requests: Requests,
    provisioning: ProvisioningService,
    hubs: IotHubRegistries,
    resource: DpsCaCertificates | None,
    revocation_lists: RevocationLists,
    outbox: Outbox,
    epochs: Epochs,
    settings: Settings,
    clock: Clock,
) -> Converging:
    """Put together what has the services follow devices."""
    devices, certificates = ledger.devices, ledger.certificates
    linked = LinkedHubs(resource=resource, named=settings.iot_hub_service_urls, clock=clock)
    whereabouts = Whereabouts(devices=devices, provisioning=provisioning, clock=clock)
    hub_doors = HubDoors(hubs=hubs, devices=devices, linked=linked, clock=clock)
    entry_keys = EntryKeys(public_keys=ledger.public_keys, clock=clock)
    entries = EntryChanges(devices=devices, provisioning=provisioning, keys=entry_keys)
    own_entries = OwnEntries(provisioning=provisioning, groups=ledger.groups, clock=clock)
    left = LeftRequests(devices=devices, requests=requests, clock=clock)
    converger = DeviceConverger(
        devices=devices,
        books=Books(
            certificates=certificates,
            public_keys=ledger.public_keys,
            expiry=ledger.expiry,
            revocation_lists=revocation_lists,
            clock=clock,
        ),
        provisioning=provisioning,
        entries=entries,
        own_entries=own_entries,
        leaves=Leaves(certificates=certificates, clock=clock),
        left=left,
        whereabouts=whereabouts,
        hub_doors=hub_doors,
        hub_openings=HubOpenings(devices=devices, hubs=hubs, whereabouts=whereabouts),
        outbox=outbox,
        check_ledger=epochs.check,
        clock=clock,
    )
    return Converging(
        converger=converger,
        entries=entries,
        own_entries=own_entries,
        left=left,
        linked=linked,
        hub_doors=hub_doors,
    )
