"""The composition root: builds every client and workflow once per worker, on first use."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.adapters.own_host import ACCESS_PATH, OwnHost
from shared.adapters.witnesses import HttpWitnesses
from shared.checks import checks
from shared.clients import Clients
from shared.ledger.authorities import Authorities
from shared.ledger.certificates import Certificates
from shared.ledger.devices import Devices
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.groups import Groups
from shared.ledger.imported_lists import ImportedListRows
from shared.ledger.in_hand import InHandRows
from shared.ledger.orders import Orders
from shared.ledger.public_keys import PublicKeys
from shared.ledger.rejections import Rejections
from shared.served import Services
from shared.threads import ThreadPool
from shared.workflows.authorities.issuance import Issuance
from shared.workflows.authorities.keys import authority_keys
from shared.workflows.authorities.loading import CertificateAuthorities
from shared.workflows.authorities.possession import Possession
from shared.workflows.authorities.wiring import authority_workflows
from shared.workflows.devices.assignments import Assignments
from shared.workflows.devices.bundles import Bundles
from shared.workflows.devices.certificate_requests import CertificateRequests
from shared.workflows.devices.enrollments import IndividualEnrollments
from shared.workflows.devices.entry_checks import EntryChecks
from shared.workflows.devices.explaining import Explaining
from shared.workflows.devices.failures import Failures
from shared.workflows.devices.identities import DeviceIdentities
from shared.workflows.devices.issuing import DeviceCertificates
from shared.workflows.devices.key_claims import KeyClaims
from shared.workflows.devices.linked_hubs import LinkedHubs
from shared.workflows.devices.looking import Looking
from shared.workflows.devices.order_answers import OrderAnswers
from shared.workflows.devices.order_bundles import OrderBundles
from shared.workflows.devices.order_requests import OrderRequests
from shared.workflows.devices.order_workflows import order_workflows
from shared.workflows.devices.renewals import Renewals
from shared.workflows.devices.revocations import Revocations
from shared.workflows.devices.takeovers import Takeovers
from shared.workflows.devices.together import ShuttingTogether
from shared.workflows.devices.usable_groups import UsableGroups
from shared.workflows.devices.wiring import approvals_of, converger_of, directories, lifetimes, members_of
from shared.workflows.epochs import GuardedLog, epochs_of
from shared.workflows.evidence.wiring import evidence_workflows
from shared.workflows.groups.wiring import group_workflows
from shared.workflows.intake.following import FollowedRequests
from shared.workflows.intake.in_hand import InHand
from shared.workflows.intake.outbox import Clock, Outbox
from shared.workflows.intake.parts import Parts
from shared.workflows.intake.readiness import Readiness
from shared.workflows.intake.rejections import RejectedMessages
from shared.workflows.intake.wiring import audited, webhooks_of
from shared.workflows.reconciliation.wiring import reconciler
from shared.workflows.status.imported_lists import ImportedLists, ServedLists
from shared.workflows.status.measurements import Measurements
from shared.workflows.status.wiring import status_workflows

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ports.evidence import EvidenceLog
    from shared.settings import Settings
    from shared.workflows.status.revocation_lists import RevocationLists

__all__ = ["Services", "build", "now"]


def now() -> datetime:
    """Give the present time in UTC."""
    return datetime.now(UTC)


def build(
    settings: Settings,
    *,
    clients: Clients | None = None,
    clock: Clock = now,
    threads: Callable[[str, int], ThreadPool] = ThreadPool,
    authorities: CertificateAuthorities | None = None,
    revocation_lists: RevocationLists | None = None,
    log: EvidenceLog | None = None,
) -> Services:
    """Wire everything together.

    Args:
        settings: of the deployment.
        clients: stand in for the real ones.
        clock: stands in for the real one.
        threads: makes the pools for what blocks, by name and size.
        authorities: stand in for those of the ledger.
        revocation_lists: stand in for those of the ledger.
        log: stands in for the one in the blobs.
    """
    clients = clients or Clients.open(settings)
    table, provisioning, hubs = clients.tables.table, clients.provisioning, clients.hubs
    certificates, devices = Certificates.of(table), Devices.of(table, clock=clock)
    records, groups = Authorities(table("issuers")), Groups(table("groups"))
    epochs = epochs_of(settings, table, keys=clients.keys, responder_keys=clients.responder_keys, clock=clock)
    evidence = evidence_workflows(
        log, settings, clock, epochs.logged, table, blobs=clients.blobs, vault=clients.keys, witnesses=HttpWitnesses()
    )
    signing_log = GuardedLog(log=evidence.log, epochs=epochs)
    outbox = Outbox(queues=clients.queues, clock=clock, topic=clients.event_topic)
    approvals = approvals_of(
        table,
        devices,
        certificates=certificates,
        authorities=records,
        groups=groups,
        outbox=outbox,
        settings=settings,
        clock=clock,
    )
    audit, requests, limits = audited(
        table, devices, records, clock, evidence.acts, settings=settings, approvals=approvals, epochs=epochs
    )
    expiry, public_keys = ExpiryIndex(table("expiry")), PublicKeys(table("publickeys"))
    orders, rejections = Orders(orders=table("orders"), lines=table("orderlines")), Rejections(table("rejections"))
    computing = threads("computing", os.process_cpu_count() or 1)
    keys = authority_keys(settings, clients.keys, computing)
    authorities = authorities or CertificateAuthorities(
        records=records, keys=keys, settings=settings, clock=clock, epochs=epochs
    )
    issuance = Issuance(certificates=certificates, keys=keys, clock=clock, log=signing_log)
    possession = Possession(authorities=authorities, issuance=issuance, services=clients.ca_certificates)
    status = status_workflows(
        lists=revocation_lists,
        records=records,
        certificates=certificates,
        authorities=authorities,
        issuance=issuance,
        responders=table("responders"),
        responder_keys=clients.responder_keys,
        blobs=clients.blobs,
        settings=settings,
        clock=clock,
        epochs=epochs,
    )
    of_authorities = authority_workflows(
        records=records,
        public_keys=public_keys,
        authorities=authorities,
        certificates=certificates,
        expiry=expiry,
        keys=keys,
        issuance=issuance,
        possession=possession,
        lists=status.lists,
        outbox=outbox,
        settings=settings,
        clock=clock,
        devices=devices,
        groups=groups,
        requests=requests,
        approvals=approvals,
    )
    bundles = Bundles(
        blobs=clients.blobs,
        expiry=expiry,
        public_keys=public_keys,
        secrets=clients.secrets,
        settings=settings,
        clock=clock,
    )
    device_certificates = DeviceCertificates(
        authorities=authorities,
        devices=devices,
        certificates=certificates,
        keys=KeyClaims(devices=devices, public_keys=public_keys, clock=clock),
        bundles=bundles,
        expiry=expiry,
        secrets=clients.secrets,
        settings=settings,
        clock=clock,
        computing=computing,
        log=signing_log,
    )
    converger = converger_of(
        devices=devices,
        certificates=certificates,
        public_keys=public_keys,
        expiry=expiry,
        groups=groups,
        requests=requests,
        provisioning=provisioning,
        hubs=hubs,
        linked=LinkedHubs(resource=clients.dps_authorities, named=settings.iot_hub_service_urls, clock=clock),
        revocation_lists=status.lists,
        outbox=outbox,
        epochs=epochs,
        clock=clock,
    )
    usable_groups = UsableGroups(groups=groups, authorities=authorities, clock=clock)
    assignments = Assignments(registrar=clients.registrar, provisioning=provisioning, hubs=hubs, clock=clock)
    failures = Failures(devices=devices, converger=converger, outbox=outbox, clock=clock)
    placed = order_workflows(
        orders=orders,
        requests=requests,
        rejections=rejections,
        devices=devices,
        groups=usable_groups,
        device_certificates=device_certificates,
        assignments=assignments,
        failures=failures,
        converger=converger,
        hubs=hubs,
        order_lists=clients.order_lists,
        outbox=outbox,
        settings=settings,
        clock=clock,
        threads=threads("lists", 4),
        trail=audit,
    )
    identities = DeviceIdentities(devices=devices, hubs=hubs, converger=converger, clock=clock)
    device_directory, directory_upkeep = directories(
        table, evidence, devices=devices, certificates=certificates, bundles=bundles, settings=settings, clock=clock
    )
    revocations = Revocations(
        devices=devices,
        certificates=certificates,
        groups=groups,
        requests=requests,
        converger=converger,
        together=ShuttingTogether(devices=devices, requests=requests, identities=identities, clock=clock),
        members=members_of(devices, orders, device_directory, records, certificates, groups=groups, clock=clock),
        unrepeated=settings.unrepeated_devices,
        hub_units=settings.hub_units,
        places=placed.registrations.places,
        parts=Parts(requests=requests, outbox=outbox, clock=clock),
        clock=clock,
    )
    group_work = group_workflows(
        groups=groups,
        requests=requests,
        certificates=certificates,
        authorities=authorities,
        creation=of_authorities.creation,
        possession=possession,
        provisioning=provisioning,
        resource=clients.dps_authorities,
        outbox=outbox,
        settings=settings,
        clock=clock,
    )
    webhooks = webhooks_of(clients.secrets, settings.webhook_secret_name, table, clock)
    following = FollowedRequests(requests=requests, orders=orders, clock=clock)
    order_answers = OrderAnswers(orders=orders)
    looking = Looking(
        devices=devices,
        certificates=certificates,
        groups=groups,
        authorities=records,
        requests=requests,
        rejections=rejections,
        hub_doors=converger.hub_doors,
        previews=group_work.previews,
        settings=settings,
    )
    return Services(
        settings=settings,
        clock=clock,
        clients=clients,
        outbox=outbox,
        authorities=authorities,
        authority_workflows=of_authorities,
        possession=possession,
        certificate_requests=CertificateRequests(
            requests=requests,
            certificates=certificates,
            devices=devices,
            groups=groups,
            authorities=authorities,
            creation=of_authorities.creation,
            possession=possession,
            device_certificates=device_certificates,
            failures=failures,
            converger=converger,
            outbox=outbox,
            settings=settings,
            clock=clock,
        ),
        groups=group_work,
        individual_enrollments=IndividualEnrollments(
            devices=devices,
            checks=EntryChecks(devices=devices, certificates=certificates, public_keys=public_keys, clock=clock),
            changes=converger.entries,
            converger=converger,
            provisioning=provisioning,
            resource=clients.dps_authorities,
            clock=clock,
        ),
        identities=identities,
        explaining=Explaining(looking=looking, directory=device_directory.directory),
        converger=converger,
        takeovers=Takeovers(
            devices=devices,
            groups=groups,
            authorities=records,
            provisioning=provisioning,
            hubs=hubs,
            converger=converger,
            clock=clock,
        ),
        device_orders=placed.device_orders,
        order_uploads=placed.uploads,
        order_answers=order_answers,
        order_bundles=OrderBundles(answers=order_answers, devices=devices, directory=device_directory, clock=clock),
        order_requests=OrderRequests(requests=requests, orders=orders, device_orders=placed.device_orders, clock=clock),
        usable_groups=usable_groups,
        registrations=placed.registrations,
        renewals=Renewals(
            requests=requests,
            devices=devices,
            groups=usable_groups,
            assignments=assignments,
            device_certificates=device_certificates,
            converger=converger,
            clock=clock,
        ),
        revocations=revocations,
        revocation_lists=status.lists,
        served_lists=ServedLists(
            own=status.lists,
            imported=ImportedLists(
                records=records, rows=ImportedListRows(table("issuers")), blobs=clients.blobs, clock=clock
            ),
        ),
        status_answers=status.answers,
        responder_upkeep=status.upkeep,
        devices=device_directory,
        directory_upkeep=directory_upkeep,
        evidence=evidence,
        epochs=epochs,
        lifetimes=lifetimes(
            requests=requests,
            devices=devices,
            certificates=certificates,
            expiry=expiry,
            groups=usable_groups,
            authorities=authorities,
            bundles=bundles,
            outbox=outbox,
            settings=settings,
            clock=clock,
        ),
        rejected_messages=RejectedMessages(
            rejections=rejections, orders=orders, following=following, outbox=outbox, clock=clock
        ),
        requests=requests,
        audit=audit,
        limits=limits,
        approvals=approvals,
        following=following,
        in_hand=InHand(rows=InHandRows(table("inhand")), queues=clients.queues, clock=clock),
        retention=placed.retention,
        webhooks=webhooks,
        own_host=OwnHost(settings.own_host, ACCESS_PATH, clock),
        linked_hubs=converger.hub_doors.linked,
        reconciler=reconciler(
            table=table("findings"),
            devices=devices,
            bundles=bundles,
            groups=groups,
            records=records,
            keys=keys,
            linked=converger.hub_doors.linked,
            provisioning=provisioning,
            hubs=hubs,
            converger=converger,
            group_work=group_work,
            possession=possession,
            outbox=outbox,
            took_effect=audit.took_effect,
            settings=settings,
            clock=clock,
        ),
        measurements=Measurements(records=records, groups=groups, queues=clients.queues, clock=clock),
        readiness=Readiness(
            checks=checks(
                settings=settings,
                clients=clients,
                authorities=authorities,
                webhooks=webhooks,
                responders=status.kept_responders,
                upkeep=status.upkeep,
                log=evidence.reader,
                epochs=epochs,
                lists=status.lists,
            )
        ),
    )
