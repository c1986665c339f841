"""Requests and the audit log, put together: whoever carries a request out has it written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.ledger.audit_log import AuditTable
from shared.ledger.requests import Requests
from shared.workflows.intake.audit import Audit

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ports.rows import Table
    from shared.workflows.intake.outbox import Clock


def audited(
    table: Callable[[str], Table], devices: Devices, authorities: Authorities, clock: Clock
) -> tuple[Audit, Requests]:
    """Open the audit log and the requests that are written down in it."""
    log = AuditTable(table("audit"))
    audit = Audit(log=log, clock=clock, devices=devices.group_of, authorities=authorities.group_of)
    return audit, Requests(table("requests"), clock=clock, trail=audit)
