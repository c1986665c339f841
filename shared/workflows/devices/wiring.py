"""What works on devices, wired together once: for the app, and for what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.ledger.directory import Directory, Projection
from shared.workflows.authorities.reach import AuthorityReach
from shared.workflows.devices.arrivals import Arrivals
from shared.workflows.devices.assignments import Assignments
from shared.workflows.devices.authority_devices import AuthorityDevices
from shared.workflows.devices.bundles import Bundles
from shared.workflows.devices.certificate_requests import CertificateRequests
from shared.workflows.devices.converging import converging
from shared.workflows.devices.directory import DeviceDirectory
from shared.workflows.devices.directory_upkeep import DirectoryUpkeep
from shared.workflows.devices.enrollments import IndividualEnrollments
from shared.workflows.devices.entry_checks import EntryChecks
from shared.workflows.devices.explaining import Explaining
from shared.workflows.devices.failures import Failures
from shared.workflows.devices.identities import DeviceIdentities
from shared.workflows.devices.issuing import DeviceCertificates
from shared.workflows.devices.key_claims import KeyClaims
from shared.workflows.devices.lifetimes import lifetimes
from shared.workflows.devices.looking import Looking
from shared.workflows.devices.members import Members
from shared.workflows.devices.order_workflows import order_workflows
from shared.workflows.devices.places import Places
from shared.workflows.devices.renewals import Renewals
from shared.workflows.devices.revocations import Revocations
from shared.workflows.devices.takeovers import Takeovers
from shared.workflows.devices.together import ShuttingTogether
from shared.workflows.devices.usable_groups import UsableGroups
from shared.workflows.intake.parts import Parts

if TYPE_CHECKING:
    from shared.ledger.requests import Requests
    from shared.ledger.stores import Ledger
    from shared.ports.blobs import Blobs
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.evidence import EvidenceLog
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.ports.registrar import DeviceRegistrar
    from shared.ports.vault import VaultSecrets
    from shared.settings import Settings
    from shared.threads import ThreadPool
    from shared.workflows.authorities.creation import AuthorityCreation
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.devices.converging import Converging
    from shared.workflows.devices.lifetimes import Lifetimes
    from shared.workflows.devices.order_workflows import OrderWorkflows
    from shared.workflows.devices.orders import OrderTrail
    from shared.workflows.epochs import Epochs
    from shared.workflows.evidence.reading import LogReader
    from shared.workflows.groups.previews import Previews
    from shared.workflows.intake.outbox import Clock, Outbox
    from shared.workflows.status.revocation_lists import RevocationLists


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWorkflows:
    """Everything that works on devices.

    Attributes:
        usable_groups: those that take devices.
        converging: has the services follow a device.
        arrivals: completes renewals whose device has come.
        directory: lists devices.
        upkeep: keeps the lists as the records are.
    """

    bundles: Bundles
    usable_groups: UsableGroups
    converging: Converging
    arrivals: Arrivals
    orders: OrderWorkflows
    certificate_requests: CertificateRequests
    renewals: Renewals
    revocations: Revocations
    lifetimes: Lifetimes
    identities: DeviceIdentities
    individual_enrollments: IndividualEnrollments
    takeovers: Takeovers
    directory: DeviceDirectory
    upkeep: DirectoryUpkeep
    explaining: Explaining


def device_workflows(
    ledger: Ledger,
    *,
    requests: Requests,
    authorities: CertificateAuthorities,
    creation: AuthorityCreation,
    possession: Possession,
    revocation_lists: RevocationLists,
    previews: Previews,
    provisioning: ProvisioningService,
    resource: DpsCaCertificates | None,
    registrar: DeviceRegistrar,
    hubs: IotHubRegistries,
    blobs: Blobs,
    order_lists: Blobs,
    secrets: VaultSecrets,
    log: EvidenceLog,
    reader: LogReader | None,
    trail: OrderTrail,
    epochs: Epochs,
    outbox: Outbox,
    computing: ThreadPool,
    reading: ThreadPool,
    settings: Settings,
    clock: Clock,
) -> DeviceWorkflows:
    """Wire what works on devices.

    Args:
        ledger: the stores.
        requests: all requests.
        authorities: all CAs.
        creation: makes CAs.
        possession: proves it to the services that want it proved.
        revocation_lists: the CRLs.
        previews: knows the DPS, and what it decides by.
        provisioning: the DPS.
        resource: the DPS as Azure manages it, where it can be asked.
        registrar: registers devices with DPS.
        hubs: the hubs' registries.
        blobs: that have the bundles.
        order_lists: the blobs in which others list devices.
        secrets: of the vault.
        log: takes an entry of each certificate before it is signed.
        reader: of the log; ``None`` where no log is kept.
        trail: writes down which orders came.
        epochs: tell whether the ledger is an older one.
        outbox: sends messages.
        computing: threads for keys and signatures.
        reading: threads for lists of devices.
        settings: of the deployment.
        clock: gives the present time.
    """
    devices, certificates, groups, public_keys = ledger.devices, ledger.certificates, ledger.groups, ledger.public_keys
    bundles = Bundles(
        blobs=blobs, expiry=ledger.expiry, public_keys=public_keys, secrets=secrets, settings=settings, clock=clock
    )
    device_certificates = DeviceCertificates(
        authorities=authorities,
        devices=devices,
        certificates=certificates,
        keys=KeyClaims(devices=devices, public_keys=public_keys, clock=clock),
        bundles=bundles,
        expiry=ledger.expiry,
        secrets=secrets,
        settings=settings,
        clock=clock,
        computing=computing,
        log=log,
    )
    following = converging(
        ledger,
        requests=requests,
        provisioning=provisioning,
        resource=resource,
        hubs=hubs,
        revocation_lists=revocation_lists,
        outbox=outbox,
        epochs=epochs,
        settings=settings,
        clock=clock,
    )
    converger, listed = following.converger, Directory(ledger.table("directory"))
    usable_groups = UsableGroups(groups=groups, authorities=authorities, clock=clock)
    assignments = Assignments(registrar=registrar, provisioning=provisioning, hubs=hubs, clock=clock)
    failures = Failures(devices=devices, converger=converger, outbox=outbox, clock=clock)
    identities = DeviceIdentities(devices=devices, hubs=hubs, converger=converger, clock=clock)
    directory = DeviceDirectory(
        devices=devices,
        certificates=certificates,
        changes=ledger.changes,
        directory=listed,
        bundles=bundles,
        settings=settings,
        clock=clock,
        log=reader,
    )
    places = Places()
    orders = order_workflows(
        ledger,
        places=places,
        requests=requests,
        directory=directory,
        groups=usable_groups,
        device_certificates=device_certificates,
        bundles=bundles,
        assignments=assignments,
        failures=failures,
        converger=converger,
        hubs=hubs,
        order_lists=order_lists,
        outbox=outbox,
        settings=settings,
        clock=clock,
        threads=reading,
        trail=trail,
    )
    revocations = Revocations(
        devices=devices,
        certificates=certificates,
        groups=groups,
        orders=ledger.orders,
        requests=requests,
        converger=converger,
        linked=following.linked,
        together=ShuttingTogether(devices=devices, requests=requests, identities=identities, clock=clock),
        members=members_of(ledger, listed, clock=clock),
        unrepeated=settings.unrepeated_devices,
        hub_units=settings.hub_units,
        places=places,
        parts=Parts(requests=requests, outbox=outbox, clock=clock),
        clock=clock,
    )
    looking = Looking(
        devices=devices,
        certificates=certificates,
        groups=groups,
        authorities=ledger.authorities,
        requests=requests,
        rejections=ledger.rejections,
        hub_doors=following.hub_doors,
        provisioning=provisioning,
        previews=previews,
        settings=settings,
        clock=clock,
    )
    arrivals = Arrivals(
        devices=devices,
        provisioning=provisioning,
        hubs=hubs,
        bundles=bundles,
        expiry=ledger.expiry,
        converger=converger,
        left=following.left,
        clock=clock,
    )
    return DeviceWorkflows(
        bundles=bundles,
        usable_groups=usable_groups,
        converging=following,
        arrivals=arrivals,
        orders=orders,
        certificate_requests=CertificateRequests(
            requests=requests,
            certificates=certificates,
            devices=devices,
            groups=groups,
            authorities=authorities,
            creation=creation,
            possession=possession,
            device_certificates=device_certificates,
            failures=failures,
            converger=converger,
            outbox=outbox,
            settings=settings,
            clock=clock,
        ),
        renewals=Renewals(
            requests=requests,
            devices=devices,
            groups=usable_groups,
            assignments=assignments,
            arrivals=arrivals,
            device_certificates=device_certificates,
            converger=converger,
            clock=clock,
        ),
        revocations=revocations,
        lifetimes=lifetimes(
            ledger,
            requests=requests,
            groups=usable_groups,
            authorities=authorities,
            bundles=bundles,
            outbox=outbox,
            settings=settings,
            clock=clock,
        ),
        identities=identities,
        individual_enrollments=IndividualEnrollments(
            devices=devices,
            checks=EntryChecks(devices=devices, certificates=certificates, public_keys=public_keys, clock=clock),
            changes=following.entries,
            own_entries=following.own_entries,
            converger=converger,
            provisioning=provisioning,
            resource=resource,
            clock=clock,
        ),
        takeovers=Takeovers(
            devices=devices,
            groups=groups,
            authorities=ledger.authorities,
            provisioning=provisioning,
            hubs=hubs,
            converger=converger,
            clock=clock,
        ),
        directory=directory,
        upkeep=DirectoryUpkeep(
            devices=devices, changes=ledger.changes, projection=Projection(ledger.table("directory")), clock=clock
        ),
        explaining=Explaining(
            looking=looking, directory=listed, certificates=certificates, authorities=ledger.authorities, clock=clock
        ),
    )


def members_of(ledger: Ledger, directory: Directory, *, clock: Clock) -> Members:
    """Put together what finds the devices of groups, orders and CAs."""
    devices, certificates = ledger.devices, ledger.certificates
    reach = AuthorityReach(
        records=ledger.authorities, certificates=certificates, groups=ledger.groups, devices=devices, clock=clock
    )
    authority_devices = AuthorityDevices(reach=reach, certificates=certificates, devices=devices, clock=clock)
    return Members(devices=devices, orders=ledger.orders, directory=directory, authority_devices=authority_devices)
