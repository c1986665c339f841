"""Acts that wait for a second person, with a ledger in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.domain.callers import Actor, CallerKind
from shared.ledger.approvals import ApprovalRows
from shared.workflows.intake.approval_deeds import Deeds
from shared.workflows.intake.approvals import Approvals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.approvals import ApprovalAct
    from shared.workflows.intake.outbox import Clock, Outbox

ADA = Actor(kind=CallerKind.USER, id="5b5450db", name="ada@example.com", address="192.0.2.7")
BOB = Actor(kind=CallerKind.USER, id="77c0ffee", name="bob@example.com")


def approvals(
    table: Any, outbox: Outbox, clock: Clock, wanted: Mapping[ApprovalAct, int], devices: Mapping[str, int]
) -> Approvals:
    """Put together what has acts wait; ``devices`` says how many a group or a CA has, and may change.

    A request about a CA whose name begins with ``revoked`` is decided, if its id begins with ``x``.
    """

    async def count(name: str) -> int:
        return devices.get(name, 0)

    async def group(_: str) -> str | None:
        return "line-1"

    async def order(name: str) -> tuple[int, str | None]:
        return devices.get(name, 0), "line-1"

    async def is_decided(name: str, request: str) -> bool:
        return name.startswith("revoked") and request.startswith("x")

    deeds = Deeds(
        wanted=wanted,
        devices_of_group=count,
        devices_of_authority=count,
        devices_of_order=order,
        group_of_device=group,
        group_of_certificate=group,
        group_of_authority=group,
        is_decided=is_decided,
    )
    return Approvals(
        rows=ApprovalRows(table), deeds=deeds, expire_after=timedelta(hours=72), outbox=outbox, clock=clock
    )
