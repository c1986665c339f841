"""Everything that triggers can call, as :mod:`shared.services` wires it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.adapters.own_host import OwnHost
    from shared.clients import Clients
    from shared.ledger.requests import Requests
    from shared.settings import Settings
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.authorities.wiring import AuthorityWorkflows
    from shared.workflows.devices.certificate_requests import CertificateRequests
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.directory import DeviceDirectory
    from shared.workflows.devices.directory_upkeep import DirectoryUpkeep
    from shared.workflows.devices.enrollments import IndividualEnrollments
    from shared.workflows.devices.explaining import Explaining
    from shared.workflows.devices.identities import DeviceIdentities
    from shared.workflows.devices.lifetimes import Lifetimes
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.devices.order_answers import OrderAnswers
    from shared.workflows.devices.order_bundles import OrderBundles
    from shared.workflows.devices.order_requests import OrderRequests
    from shared.workflows.devices.order_uploads import OrderUploads
    from shared.workflows.devices.orders import DeviceOrders
    from shared.workflows.devices.registrations import Registrations
    from shared.workflows.devices.renewals import Renewals
    from shared.workflows.devices.retention import Retention
    from shared.workflows.devices.revocations import Revocations
    from shared.workflows.devices.takeovers import Takeovers
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.epochs import Epochs
    from shared.workflows.evidence.wiring import EvidenceWorkflows
    from shared.workflows.groups.wiring import GroupWorkflows
    from shared.workflows.intake.approvals import Approvals
    from shared.workflows.intake.audit import Audit
    from shared.workflows.intake.following import FollowedRequests
    from shared.workflows.intake.in_hand import InHand
    from shared.workflows.intake.limits import Limits
    from shared.workflows.intake.outbox import Clock, Outbox
    from shared.workflows.intake.readiness import Readiness
    from shared.workflows.intake.rejections import RejectedMessages
    from shared.workflows.intake.webhooks import Webhooks
    from shared.workflows.reconciliation.passes import Reconciler
    from shared.workflows.status.answers import StatusAnswers
    from shared.workflows.status.imported_lists import ServedLists
    from shared.workflows.status.measurements import Measurements
    from shared.workflows.status.responders import ResponderUpkeep
    from shared.workflows.status.revocation_lists import RevocationLists


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a trigger can call."""

    settings: Settings
    clock: Clock
    clients: Clients
    outbox: Outbox
    authorities: CertificateAuthorities
    authority_workflows: AuthorityWorkflows
    possession: Possession
    certificate_requests: CertificateRequests
    groups: GroupWorkflows
    individual_enrollments: IndividualEnrollments
    identities: DeviceIdentities
    explaining: Explaining
    converger: DeviceConverger
    takeovers: Takeovers
    device_orders: DeviceOrders
    order_answers: OrderAnswers
    order_bundles: OrderBundles
    order_requests: OrderRequests
    order_uploads: OrderUploads
    usable_groups: UsableGroups
    registrations: Registrations
    renewals: Renewals
    revocations: Revocations
    revocation_lists: RevocationLists
    served_lists: ServedLists
    status_answers: StatusAnswers
    responder_upkeep: ResponderUpkeep
    devices: DeviceDirectory
    directory_upkeep: DirectoryUpkeep
    evidence: EvidenceWorkflows
    epochs: Epochs
    lifetimes: Lifetimes
    rejected_messages: RejectedMessages
    requests: Requests
    audit: Audit
    limits: Limits
    approvals: Approvals
    following: FollowedRequests
    in_hand: InHand
    retention: Retention
    webhooks: Webhooks
    readiness: Readiness
    measurements: Measurements
    linked_hubs: LinkedHubs
    reconciler: Reconciler
    own_host: OwnHost

    async def close(self) -> None:
        """Close all connections."""
        await self.clients.close()
