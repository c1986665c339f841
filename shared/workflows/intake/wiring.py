"""What takes requests in, wired together: whoever carries one out has it written down in the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared.ledger.audit_log import AuditTable
from shared.ledger.in_hand import InHandRows
from shared.ledger.requests import Requests
from shared.ledger.webhook_uses import WebhookUses
from shared.workflows.intake.audit import Audit
from shared.workflows.intake.following import FollowedRequests
from shared.workflows.intake.in_hand import InHand
from shared.workflows.intake.limits import Limited, Limits
from shared.workflows.intake.rejections import RejectedMessages
from shared.workflows.intake.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.domain.audit_entries import AuditEntry
    from shared.ledger.stores import Ledger
    from shared.ports.queues import Queues
    from shared.ports.rows import Table
    from shared.settings import Settings
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.approvals import Approvals
    from shared.workflows.intake.outbox import Clock, Outbox
    from shared.workflows.intake.webhooks import Secrets


class Appended(Protocol):
    """Where entries of the audit log go besides."""

    async def append(self, entry: AuditEntry) -> None:
        """Add an entry; repeated, it adds nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeWorkflows:
    """What takes requests in.

    Attributes:
        audit: writes down who has asked for what, and what came of it.
        requests: all requests; they are written down, and wait for a second person.
        limits: keep one caller from taking everybody's share.
        following: tells what became of a request.
        rejected_messages: sees to messages that could not be carried out.
        in_hand: takes up what a killed worker had in hand.
        webhooks: the door for what is signed.
    """

    audit: Audit
    requests: Requests
    limits: Limits
    following: FollowedRequests
    rejected_messages: RejectedMessages
    in_hand: InHand
    webhooks: Webhooks


class Copied(AuditTable):
    """The audit log, whose entries go somewhere else as well, and there first.

    Args:
        table: of the audit log.
        other: the other place.
    """

    def __init__(self, *, table: Table, other: Appended) -> None:
        super().__init__(table)
        self._other = other

    async def append(self, entry: AuditEntry) -> None:
        """Add an entry in both places; repeated, it adds nothing."""
        await self._other.append(entry)
        await super().append(entry)


def audit_log(table: Callable[[str], Table], other: Appended | None) -> AuditTable:
    """Open the audit log; its entries go to the other place as well, if there is one."""
    return Copied(table=table("audit"), other=other) if other else AuditTable(table("audit"))


def intake_workflows(
    ledger: Ledger,
    *,
    log: Appended | None,
    approvals: Approvals,
    epochs: Epochs,
    secrets: Secrets,
    queues: Queues,
    outbox: Outbox,
    has_done_nothing: Callable[[BaseException], bool],
    settings: Settings,
    clock: Clock,
) -> IntakeWorkflows:
    """Wire what takes requests in.

    Args:
        ledger: the stores.
        log: takes the entries of the audit log besides; ``None`` where no log is kept.
        approvals: have requests wait for a second person.
        epochs: tell whether the ledger is an older one.
        secrets: of the vault.
        queues: all queues.
        outbox: sends messages.
        has_done_nothing: tells of what a queue raises whether it has put nothing there for sure.
        settings: of the deployment.
        clock: gives the present time.
    """
    table = ledger.table
    audit = Audit(
        log=audit_log(table, log),
        clock=clock,
        devices=ledger.devices.group_of,
        authorities=ledger.authorities.group_of,
        approvals=approvals.group_of,
    )
    requests = Requests(
        table("requests"),
        apart=table("actrequests"),
        clock=clock,
        trail=audit,
        gate=approvals,
        lost=epochs.fault,
    )
    most = {
        Limited.REQUESTS: settings.limit_of_requests,
        Limited.DENIED: settings.limit_of_denied,
        Limited.PUBLIC: settings.limit_of_public,
    }
    following = FollowedRequests(requests=requests, orders=ledger.orders, clock=clock)
    return IntakeWorkflows(
        audit=audit,
        requests=requests,
        limits=Limits(most=most, audit=audit, clock=clock),
        following=following,
        rejected_messages=RejectedMessages(
            rejections=ledger.rejections,
            orders=ledger.orders,
            following=following,
            outbox=outbox,
            has_done_nothing=has_done_nothing,
            clock=clock,
        ),
        in_hand=InHand(rows=InHandRows(table("inhand")), queues=queues, clock=clock),
        webhooks=Webhooks(
            secrets=secrets,
            secret_name=settings.webhook_secret_name,
            uses=WebhookUses(table("actrequests")),
            clock=clock,
        ),
    )
