"""Requests, the audit log and webhooks, put together: whoever carries a request out has it written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shared.ledger.audit_log import AuditTable
from shared.ledger.requests import Requests
from shared.ledger.webhook_uses import WebhookUses
from shared.workflows.intake.audit import Audit
from shared.workflows.intake.limits import Limited, Limits
from shared.workflows.intake.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.domain.audit_entries import AuditEntry
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ports.rows import Table
    from shared.settings import Settings
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.approvals import Approvals
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.intake.webhooks import Secrets


class Appended(Protocol):
    """Where entries of the audit log go besides."""

    async def append(self, entry: AuditEntry) -> None:
        """Add an entry; repeated, it adds nothing."""
        ...


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


def audited(
    table: Callable[[str], Table],
    devices: Devices,
    authorities: Authorities,
    clock: Clock,
    other: Appended | None,
    *,
    settings: Settings,
    approvals: Approvals,
    epochs: Epochs,
) -> tuple[Audit, Requests, Limits]:
    """Open the audit log, the requests that are written down in it and wait for a second person, and the limits."""
    audit = Audit(
        log=audit_log(table, other),
        clock=clock,
        devices=devices.group_of,
        authorities=authorities.group_of,
        approvals=approvals.group_of,
    )
    most = {
        Limited.REQUESTS: settings.limit_of_requests,
        Limited.DENIED: settings.limit_of_denied,
        Limited.PUBLIC: settings.limit_of_public,
    }
    requests = Requests(
        table("requests"),
        apart=table("actrequests"),
        clock=clock,
        trail=audit,
        gate=approvals,
        lost=epochs.fault,
    )
    return audit, requests, Limits(most=most, audit=audit, clock=clock)


def webhooks_of(secrets: Secrets, secret_name: str | None, table: Callable[[str], Table], clock: Clock) -> Webhooks:
    """Open the door for what is signed."""
    return Webhooks(secrets=secrets, secret_name=secret_name, uses=WebhookUses(table("actrequests")), clock=clock)
