"""The composition root: builds every client and workflow once per worker, on first use."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from shared.adapters.blobs import Blobs
from shared.adapters.dps_device import DeviceRegistrar
from shared.adapters.dps_management import ProvisioningServiceAuthorities
from shared.adapters.dps_service import ProvisioningService
from shared.adapters.identity import Identity
from shared.adapters.iot_hub import IotHubRegistries
from shared.adapters.iot_hub_management import IotHubAuthorities
from shared.adapters.queues import Queues
from shared.adapters.tables import Tables
from shared.adapters.vault import Ownership, VaultKeys, VaultSecrets
from shared.ledger.authorities import Authorities
from shared.ledger.certificates import Certificates
from shared.ledger.devices import Devices
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.groups import Groups
from shared.ledger.orders import Orders
from shared.ledger.public_keys import PublicKeys
from shared.ledger.rejections import Rejections
from shared.ledger.requests import Requests
from shared.threads import ThreadPool
from shared.workflows.authorities.convergence import AuthorityConverger
from shared.workflows.authorities.creation import AuthorityCreation
from shared.workflows.authorities.installation import AuthorityInstallation
from shared.workflows.authorities.issuance import Issuance
from shared.workflows.authorities.keys import AuthorityKeys
from shared.workflows.authorities.loading import CertificateAuthorities
from shared.workflows.authorities.making import AuthorityMaking
from shared.workflows.authorities.possession import Possession
from shared.workflows.devices.assignments import Assignments
from shared.workflows.devices.bundles import Bundles
from shared.workflows.devices.certificate_requests import CertificateRequests
from shared.workflows.devices.convergence import DeviceConverger
from shared.workflows.devices.directory import DeviceDirectory
from shared.workflows.devices.enrollments import IndividualEnrollments
from shared.workflows.devices.expiry import ExpirySweep
from shared.workflows.devices.failures import Failures
from shared.workflows.devices.identities import DeviceIdentities
from shared.workflows.devices.issuing import DeviceCertificates
from shared.workflows.devices.key_claims import KeyClaims
from shared.workflows.devices.order_answers import OrderAnswers
from shared.workflows.devices.order_blobs import OrderBlobs
from shared.workflows.devices.order_dispatch import OrderDispatch
from shared.workflows.devices.ordered_devices import OrderedDevices
from shared.workflows.devices.orders import DeviceOrders
from shared.workflows.devices.registrations import Registrations
from shared.workflows.devices.renewals import Renewals
from shared.workflows.devices.revocations import Revocations
from shared.workflows.devices.takeovers import Takeovers
from shared.workflows.devices.usable_groups import UsableGroups
from shared.workflows.groups.checks import GroupChecks
from shared.workflows.groups.convergence import GroupConverger
from shared.workflows.groups.directory import GroupDirectory
from shared.workflows.groups.issuers import GroupIssuers
from shared.workflows.groups.previews import Previews
from shared.workflows.groups.requests import EnrollmentGroups
from shared.workflows.groups.rollovers import Rollovers
from shared.workflows.intake.outbox import Outbox
from shared.workflows.intake.readiness import Readiness
from shared.workflows.intake.rejections import RejectedMessages
from shared.workflows.intake.webhooks import Webhooks
from shared.workflows.status.answers import StatusAnswers
from shared.workflows.status.revocation_lists import RevocationLists

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ports.ca_certificates import CaCertificates
    from shared.settings import Settings
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of all services, each opened once."""

    identity: Identity
    queues: Queues
    tables: Tables
    blobs: Blobs
    keys: VaultKeys
    secrets: VaultSecrets
    provisioning: ProvisioningService
    dps_authorities: ProvisioningServiceAuthorities | None
    hub_authorities: tuple[IotHubAuthorities, ...]
    registrar: DeviceRegistrar
    hubs: IotHubRegistries

    @classmethod
    def open(cls, settings: Settings) -> Clients:
        """Open all clients; none connects before its first call."""
        identity = Identity.managed(settings.managed_identity_client_id)
        verify = settings.key_vault_verify_challenge
        ownership = Ownership(settings.deployment_name, settings.adopted_vault_names)
        return cls(
            identity=identity,
            queues=Queues(settings.queue_service_url, identity.asynchronous),
            tables=Tables(settings.table_service_url, identity.asynchronous),
            blobs=Blobs(settings.blob_service_url, identity.asynchronous),
            keys=VaultKeys(
                settings.key_vault_url,
                identity.synchronous,
                ownership,
                verify_challenge=verify,
                in_hsm=settings.ca_keys_in_hsm,
            ),
            secrets=VaultSecrets(settings.key_vault_url, identity.asynchronous, ownership, verify_challenge=verify),
            provisioning=ProvisioningService(settings.dps_service_url, identity.asynchronous),
            dps_authorities=ProvisioningServiceAuthorities(
                settings.dps_resource, identity.asynchronous, settings.resource_manager_url
            )
            if settings.dps_resource
            else None,
            hub_authorities=tuple(
                IotHubAuthorities(resource, identity.asynchronous, settings.resource_manager_url)
                for resource in settings.hub_resources
            ),
            registrar=DeviceRegistrar(
                settings.dps_device_host, settings.dps_id_scope, timeout=settings.registration_timeout
            ),
            hubs=IotHubRegistries(settings.iot_hub_service_urls, identity.synchronous),
        )

    @property
    def ca_certificates(self) -> tuple[CaCertificates, ...]:
        """Where possession of a root is proved by the app; nowhere when that is done by hand."""
        return (self.dps_authorities, *self.hub_authorities) if self.dps_authorities else ()

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(
            self.queues.close(),
            self.tables.close(),
            self.blobs.close(),
            self.secrets.close(),
            self.provisioning.close(),
            *([self.dps_authorities.close()] if self.dps_authorities else []),
            *(hub.close() for hub in self.hub_authorities),
        )
        await self.keys.close()
        self.hubs.close()
        await self.identity.close()


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a trigger can call."""

    settings: Settings
    clock: Clock
    clients: Clients
    outbox: Outbox
    authorities: CertificateAuthorities
    authority_creation: AuthorityCreation
    authority_installation: AuthorityInstallation
    authority_converger: AuthorityConverger
    possession: Possession
    certificate_requests: CertificateRequests
    enrollment_groups: EnrollmentGroups
    group_checks: GroupChecks
    group_converger: GroupConverger
    group_directory: GroupDirectory
    rollovers: Rollovers
    individual_enrollments: IndividualEnrollments
    previews: Previews
    identities: DeviceIdentities
    converger: DeviceConverger
    takeovers: Takeovers
    device_orders: DeviceOrders
    order_answers: OrderAnswers
    usable_groups: UsableGroups
    registrations: Registrations
    renewals: Renewals
    revocations: Revocations
    revocation_lists: RevocationLists
    status_answers: StatusAnswers
    devices: DeviceDirectory
    expiry_sweep: ExpirySweep
    rejected_messages: RejectedMessages
    requests: Requests
    webhooks: Webhooks
    readiness: Readiness

    async def close(self) -> None:
        """Close all connections."""
        await self.clients.close()


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
) -> Services:
    """Wire everything together.

    Args:
        settings: of the deployment.
        clients: stand in for the real ones.
        clock: stands in for the real one.
        threads: makes the pools for what blocks, by name and size.
        authorities: stand in for those of the ledger.
        revocation_lists: stand in for those of the ledger.
    """
    clients = clients or Clients.open(settings)
    table = clients.tables.table
    certificates = Certificates(table("identities"), table("revocations"), table("inforce"))
    records, groups, requests = Authorities(table("issuers")), Groups(table("groups")), Requests(table("requests"))
    devices, expiry = Devices(table("identities"), table("unsettled")), ExpiryIndex(table("expiry"))
    public_keys = PublicKeys(table("publickeys"))
    orders = Orders(orders=table("orders"), lines=table("orderlines"))
    outbox = Outbox(clients.queues, clock)
    computing = threads("computing", os.process_cpu_count() or 1)
    keys = AuthorityKeys(vault=clients.keys, computing=computing)
    authorities = authorities or CertificateAuthorities(records=records, keys=keys, settings=settings, clock=clock)
    issuance = Issuance(certificates=certificates, keys=keys, clock=clock)
    possession = Possession(authorities=authorities, issuance=issuance, services=clients.ca_certificates)
    revocation_lists = revocation_lists or RevocationLists(
        records=records,
        certificates=certificates,
        authorities=authorities,
        blobs=clients.blobs,
        settings=settings,
        clock=clock,
    )
    authority_converger = AuthorityConverger(
        records=records,
        certificates=certificates,
        expiry=expiry,
        keys=keys,
        making=AuthorityMaking(
            records=records,
            authorities=authorities,
            keys=keys,
            issuance=issuance,
            possession=possession,
            settings=settings,
            clock=clock,
        ),
        possession=possession,
        lists=revocation_lists,
        outbox=outbox,
        settings=settings,
        clock=clock,
    )
    creation = AuthorityCreation(
        records=records,
        authorities=authorities,
        keys=keys,
        possession=possession,
        converger=authority_converger,
        settings=settings,
        clock=clock,
    )
    bundles = Bundles(blobs=clients.blobs, expiry=expiry, public_keys=public_keys, settings=settings, clock=clock)
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
    )
    converger = DeviceConverger(
        devices=devices,
        certificates=certificates,
        public_keys=public_keys,
        provisioning=clients.provisioning,
        hubs=clients.hubs,
        revocation_lists=revocation_lists,
        outbox=outbox,
        clock=clock,
    )
    usable_groups = UsableGroups(groups=groups, clock=clock)
    assignments = Assignments(
        registrar=clients.registrar, provisioning=clients.provisioning, hubs=clients.hubs, clock=clock
    )
    failures = Failures(devices=devices, converger=converger, outbox=outbox, clock=clock)
    ordered_devices = OrderedDevices(
        orders=orders,
        devices=devices,
        device_certificates=device_certificates,
        assignments=assignments,
        failures=failures,
        converger=converger,
        hubs=clients.hubs,
        outbox=outbox,
        clock=clock,
    )
    lists = threads("lists", 4)
    order_lists = OrderBlobs(blobs=clients.blobs, settings=settings, threads=lists)
    dispatch = OrderDispatch(
        orders=orders, lists=order_lists, failures=failures, outbox=outbox, clock=clock, threads=lists
    )
    identities = DeviceIdentities(devices=devices, hubs=clients.hubs, converger=converger, clock=clock)
    revocations = Revocations(
        devices=devices,
        certificates=certificates,
        groups=groups,
        requests=requests,
        converger=converger,
        identities=identities,
        outbox=outbox,
        clock=clock,
    )
    webhooks = Webhooks(clients.secrets, settings.webhook_secret_name, clock)
    group_converger = GroupConverger(
        groups=groups,
        authorities=authorities,
        creation=creation,
        provisioning=clients.provisioning,
        outbox=outbox,
        clock=clock,
    )
    rollovers = Rollovers(
        groups=groups,
        certificates=certificates,
        authorities=authorities,
        provisioning=clients.provisioning,
        converger=group_converger,
        clock=clock,
    )
    group_checks = GroupChecks(
        groups=groups,
        authorities=authorities,
        issuers=GroupIssuers(
            groups=groups,
            authorities=authorities,
            creation=creation,
            possession=possession,
            resource=clients.dps_authorities,
            settings=settings,
        ),
        provisioning=clients.provisioning,
        resource=clients.dps_authorities,
    )
    return Services(
        settings=settings,
        clock=clock,
        clients=clients,
        outbox=outbox,
        authorities=authorities,
        authority_creation=creation,
        authority_installation=AuthorityInstallation(
            records=records,
            keys=keys,
            possession=possession,
            converger=authority_converger,
            settings=settings,
            clock=clock,
        ),
        authority_converger=authority_converger,
        possession=possession,
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
        enrollment_groups=EnrollmentGroups(
            groups=groups, requests=requests, checks=group_checks, converger=group_converger, clock=clock
        ),
        group_checks=group_checks,
        group_converger=group_converger,
        group_directory=GroupDirectory(groups=groups, rollovers=rollovers, provisioning=clients.provisioning),
        rollovers=rollovers,
        individual_enrollments=IndividualEnrollments(
            devices, certificates, public_keys, clients.provisioning, clients.dps_authorities, clock
        ),
        identities=identities,
        converger=converger,
        takeovers=Takeovers(
            devices=devices,
            groups=groups,
            authorities=records,
            provisioning=clients.provisioning,
            hubs=clients.hubs,
            converger=converger,
            clock=clock,
        ),
        previews=Previews(
            provisioning=clients.provisioning,
            resource=clients.dps_authorities,
            authorities=authorities,
            clock=clock,
        ),
        device_orders=DeviceOrders(
            orders=orders, groups=usable_groups, lists=order_lists, dispatch=dispatch, outbox=outbox, clock=clock
        ),
        order_answers=OrderAnswers(orders=orders),
        usable_groups=usable_groups,
        registrations=Registrations(
            orders=orders, groups=usable_groups, ordered_devices=ordered_devices, outbox=outbox
        ),
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
        revocation_lists=revocation_lists,
        status_answers=StatusAnswers(
            authorities=authorities, issuance=issuance, certificates=certificates, clock=clock
        ),
        devices=DeviceDirectory(devices, bundles, settings, clock),
        expiry_sweep=ExpirySweep(
            expiry=expiry,
            certificates=certificates,
            devices=devices,
            bundles=bundles,
            outbox=outbox,
            clock=clock,
        ),
        rejected_messages=RejectedMessages(Rejections(table("rejections")), orders, outbox, clock),
        requests=requests,
        webhooks=webhooks,
        readiness=Readiness(
            {
                "queues": clients.queues.check,
                "tables": clients.tables.check,
                "blobs": clients.blobs.check,
                "keyVault": clients.keys.check,
                "certificateAuthorities": authorities.check,
                "provisioningService": clients.provisioning.check,
                **({"webhookSecret": webhooks.check} if settings.webhook_secret_name else {}),
                **{f"iotHub {host}": partial(clients.hubs.check, host) for host in settings.iot_hub_service_urls},
            }
        ),
    )
