"""Today: whether everything works, and what waits for somebody."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.domain.approvals import ApprovalState
from shared.domain.findings import FindingState
from shared.domain.orders import UNDER_WAY, OrderState
from shared.domain.requests import RequestState
from shared.domain.treatments import Severity
from shared.errors import NotFound
from shared.workflows.devices.finding import DeviceFilters
from triggers.console.authorities import shown_authorities
from triggers.console.limits import places_used, quotas_used
from triggers.console.orders import expected_end, finished_of, rate
from triggers.console.pages import page, point, rendered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import azure.functions as func

    from shared.contracts.answers_devices import ListedOrder
    from shared.services import Services

_SHOWN = 20
"""Items of each list; there is a page with all of them."""

_COUNTED = 100
"""Findings of a severity that are counted; more are only said to be there."""

_EXPIRING = 1000
"""Certificates that end soon and are counted: a page of a table (Microsoft: "Query timeout and pagination")."""

_MONTHS = 12
_DAYS = (7, 30, 90)
_SOON = timedelta(days=90)


@page()
async def console_today(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Show what an operator looks at first."""
    now = services.clock()
    authorities = await shown_authorities(services)
    (
        (report, counts, groups, places),
        (rejections, waiting, approvals),
        (found, orders, expiring),
    ) = await asyncio.gather(
        asyncio.gather(
            services.readiness.report(),
            services.devices.counts(),
            services.groups.directory.list_groups(),
            places_used(services, [each.record for each in authorities]),
        ),
        asyncio.gather(
            services.rejected_messages.page(size=_SHOWN, continuation=None),
            services.following.page(state=RequestState.WAITING, kind=None, since=None, size=_SHOWN, continuation=None),
            services.approvals.page({"state": ApprovalState.OPEN}, size=_SHOWN, continuation=None),
        ),
        asyncio.gather(_findings(services), _orders(services, now), _expiring(services, now)),
    )
    return rendered(
        "today.html",
        report=report,
        states=[(state, count) for state, count in counts.states.items() if count],
        total=counts.total,
        expiries=counts.expiries[:_MONTHS],
        most=max((each.devices for each in counts.expiries[:_MONTHS]), default=1),
        expiring=expiring,
        ready=all(each == "ok" for each in report.values()),
        rejections=rejections,
        waiting=waiting,
        approvals=approvals,
        findings=found,
        orders=orders[0],
        more_orders=orders[1],
        unable=[each for each in authorities if each.trouble],
        lists=[each for each in authorities if each.record.published or each.list_trouble],
        ending=[each for each in authorities if each.ends_before(now + _SOON)],
        used=[*places, *quotas_used(counts, len(groups))],
    )


@dataclass(frozen=True, slots=True)
class Counted:
    """How many there are of something.

    Attributes:
        what: the thing.
        count: how many were counted.
        is_more: whether there are more.
    """

    what: str
    count: int
    is_more: bool


async def _findings(services: Services) -> list[Counted]:
    """Count the open findings of each severity, the worst first."""
    pages = await asyncio.gather(
        *(
            services.reconciler.findings.page(
                {"state": FindingState.OPEN, "severity": each}, size=_COUNTED, continuation=None
            )
            for each in Severity
        )
    )
    return [
        Counted(severity.value, len(found), following is not None)
        for severity, (found, following) in zip(Severity, pages, strict=True)
    ]


async def _orders(services: Services, now: datetime) -> tuple[list[dict[str, Any]], bool]:
    """Give the orders under way, the latest of each state, with how fast each goes; and tell whether there are more."""
    states = [state for state in OrderState if state in UNDER_WAY]
    pages = await asyncio.gather(
        *(
            services.order_answers.page(state=state, group=None, since=None, size=_SHOWN, continuation=None)
            for state in states
        )
    )
    listed = [order for items, _ in pages for order in items]
    progress = await asyncio.gather(*(_progress(services, each.order_id) for each in listed))
    shown = [_shown(order, each, now) for order, each in zip(listed, progress, strict=True) if each]
    return shown, any(following for _, following in pages)


async def _progress(services: Services, order_id: str) -> Mapping[str, int] | None:
    with suppress(NotFound):  # it is not kept any more
        return (await services.order_answers.progress(order_id)).model_dump()
    return None


def _shown(order: ListedOrder, progress: Mapping[str, int], now: datetime) -> dict[str, Any]:
    finished, began = finished_of(progress), order.accepted_at
    runs = order.state is OrderState.PROCESSING
    return {
        **order.shown(),
        "total": progress["total"],
        "finished": finished,
        "rate": rate(began, now, finished=finished) if runs else None,
        "ends": expected_end(began, now, finished=finished, total=progress["total"]) if runs else None,
    }


async def _expiring(services: Services, now: datetime) -> list[dict[str, Any]]:
    """Count the devices in service whose certificates end soon, those that end first first."""
    last = now + timedelta(days=_DAYS[-1])
    items, following = await services.devices.page(
        DeviceFilters(expires_before=last), size=_EXPIRING, continuation=None
    )
    ends = [point(each["certificate"]["notAfter"]) for each in items if each["certificate"]]
    shown = []
    for days in _DAYS:
        until = now + timedelta(days=days)
        count = sum(each < until for each in ends)
        # What was not read ends later than what was.
        is_more = following is not None and count == len(ends)
        shown.append({"days": days, "day": f"{until:%Y-%m-%d}", "count": count, "is_more": is_more})
    return shown
