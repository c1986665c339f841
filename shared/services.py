"""The composition root: builds every client and workflow once per worker, on first use."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.adapters.own_host import ACCESS_PATH, OwnHost
from shared.adapters.sdk_errors import has_done_nothing
from shared.adapters.witnesses import HttpWitnesses
from shared.checks import checks
from shared.clients import Clients
from shared.ledger.stores import Ledger
from shared.served import Services
from shared.threads import ThreadPool
from shared.workflows.authorities.issuance import Issuance
from shared.workflows.authorities.keys import authority_keys
from shared.workflows.authorities.loading import CertificateAuthorities
from shared.workflows.authorities.possession import Possession
from shared.workflows.authorities.wiring import authority_workflows
from shared.workflows.devices.approvals import approvals_of
from shared.workflows.devices.wiring import device_workflows
from shared.workflows.epochs import GuardedLog, epochs_of
from shared.workflows.evidence.wiring import evidence_workflows
from shared.workflows.groups.wiring import group_workflows
from shared.workflows.intake.outbox import Clock, Outbox
from shared.workflows.intake.readiness import Readiness
from shared.workflows.intake.wiring import intake_workflows
from shared.workflows.reconciliation.wiring import reconciler
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
    ledger = Ledger.of(table, clock=clock)
    epochs = epochs_of(settings, table, keys=clients.keys, responder_keys=clients.responder_keys, clock=clock)
    evidence = evidence_workflows(
        log, settings, clock, epochs.logged, table, blobs=clients.blobs, vault=clients.keys, witnesses=HttpWitnesses()
    )
    signing_log = GuardedLog(log=evidence.log, epochs=epochs)
    outbox = Outbox(queues=clients.queues, clock=clock, topic=clients.event_topic)
    approvals = approvals_of(ledger, outbox=outbox, settings=settings, clock=clock)
    intake = intake_workflows(
        ledger,
        log=evidence.acts,
        approvals=approvals,
        epochs=epochs,
        secrets=clients.secrets,
        queues=clients.queues,
        outbox=outbox,
        has_done_nothing=has_done_nothing,
        settings=settings,
        clock=clock,
    )
    computing = threads("computing", os.process_cpu_count() or 1)
    keys = authority_keys(settings, clients.keys, computing)
    authorities = authorities or CertificateAuthorities(
        records=ledger.authorities, keys=keys, settings=settings, clock=clock, epochs=epochs
    )
    issuance = Issuance(certificates=ledger.certificates, keys=keys, clock=clock, log=signing_log)
    possession = Possession(authorities=authorities, issuance=issuance, services=clients.ca_certificates)
    status = status_workflows(
        ledger,
        lists=revocation_lists,
        authorities=authorities,
        issuance=issuance,
        log=signing_log,
        responder_keys=clients.responder_keys,
        blobs=clients.blobs,
        queues=clients.queues,
        settings=settings,
        clock=clock,
        epochs=epochs,
    )
    of_authorities = authority_workflows(
        ledger,
        authorities=authorities,
        keys=keys,
        issuance=issuance,
        possession=possession,
        lists=status.lists,
        outbox=outbox,
        settings=settings,
        clock=clock,
        requests=intake.requests,
        approvals=approvals,
    )
    groups = group_workflows(
        ledger,
        requests=intake.requests,
        authorities=authorities,
        creation=of_authorities.creation,
        possession=possession,
        provisioning=provisioning,
        resource=clients.dps_authorities,
        outbox=outbox,
        settings=settings,
        clock=clock,
    )
    devices = device_workflows(
        ledger,
        requests=intake.requests,
        authorities=authorities,
        creation=of_authorities.creation,
        possession=possession,
        revocation_lists=status.lists,
        previews=groups.previews,
        provisioning=provisioning,
        resource=clients.dps_authorities,
        registrar=clients.registrar,
        hubs=hubs,
        blobs=clients.blobs,
        order_lists=clients.order_lists,
        secrets=clients.secrets,
        log=signing_log,
        reader=evidence.reader,
        trail=intake.audit,
        epochs=epochs,
        outbox=outbox,
        computing=computing,
        reading=threads("lists", 4),
        settings=settings,
        clock=clock,
    )
    return Services(
        settings=settings,
        clock=clock,
        clients=clients,
        outbox=outbox,
        authorities=authorities,
        authority_workflows=of_authorities,
        possession=possession,
        certificate_requests=devices.certificate_requests,
        groups=groups,
        individual_enrollments=devices.individual_enrollments,
        identities=devices.identities,
        explaining=devices.explaining,
        converger=devices.converging.converger,
        takeovers=devices.takeovers,
        device_orders=devices.orders.device_orders,
        order_uploads=devices.orders.uploads,
        order_answers=devices.orders.answers,
        order_bundles=devices.orders.bundles,
        order_requests=devices.orders.requests,
        usable_groups=devices.usable_groups,
        registrations=devices.orders.registrations,
        renewals=devices.renewals,
        revocations=devices.revocations,
        revocation_lists=status.lists,
        served_lists=status.served,
        status_answers=status.answers,
        responder_upkeep=status.upkeep,
        devices=devices.directory,
        directory_upkeep=devices.upkeep,
        evidence=evidence,
        epochs=epochs,
        lifetimes=devices.lifetimes,
        rejected_messages=intake.rejected_messages,
        requests=intake.requests,
        audit=intake.audit,
        limits=intake.limits,
        approvals=approvals,
        following=intake.following,
        in_hand=intake.in_hand,
        retention=devices.orders.retention,
        webhooks=intake.webhooks,
        own_host=OwnHost(settings.own_host, ACCESS_PATH, clock),
        linked_hubs=devices.converging.linked,
        reconciler=reconciler(
            ledger,
            bundles=devices.bundles,
            blobs=clients.blobs,
            secrets=clients.secrets,
            keys=keys,
            authorities=authorities,
            provisioning=provisioning,
            ca_certificates=clients.ca_certificates,
            hubs=hubs,
            converging=devices.converging,
            arrivals=devices.arrivals,
            group_work=groups,
            possession=possession,
            outbox=outbox,
            took_effect=intake.audit.took_effect,
            settings=settings,
            clock=clock,
        ),
        measurements=status.measurements,
        readiness=Readiness(
            checks=checks(
                settings=settings,
                clients=clients,
                authorities=authorities,
                webhooks=intake.webhooks,
                responders=status.kept_responders,
                upkeep=status.upkeep,
                log=evidence.reader,
                epochs=epochs,
                lists=status.lists,
            )
        ),
    )
