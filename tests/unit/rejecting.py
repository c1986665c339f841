"""Rejected messages on fakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.adapters.sdk_errors import has_done_nothing
from shared.ledger.rejections import Rejections
from shared.ledger.requests import Requests
from shared.workflows.intake.following import FollowedRequests
from shared.workflows.intake.rejections import RejectedMessages
from tests.unit.fakes import FakeTable

if TYPE_CHECKING:
    from shared.ledger.orders import Orders
    from shared.ports.rows import Table
    from shared.workflows.intake.outbox import Clock, Outbox


def rejecting(table: Table, orders: Orders, outbox: Outbox, clock: Clock) -> RejectedMessages:
    """Give the workflow, with requests that are all its own."""
    following = FollowedRequests(requests=Requests(FakeTable(), clock=clock), orders=orders, clock=clock)
    return RejectedMessages(
        rejections=Rejections(table),
        orders=orders,
        following=following,
        outbox=outbox,
        has_done_nothing=has_done_nothing,
        clock=clock,
    )
