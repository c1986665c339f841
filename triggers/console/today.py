"""Today: whether everything works, and what waits for somebody."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.orders import UNDER_WAY, OrderState
from shared.domain.requests import RequestState
from triggers.console.authorities import shown_authorities
from triggers.console.pages import page, rendered

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_SHOWN = 20
"""Items of each list; there is a page with all of them."""

_MONTHS = 12
_SOON = timedelta(days=90)


@page()
async def console_today(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Show what an operator looks at first."""
    following = services.following

    async def requests_in(state: RequestState) -> tuple[list[dict[str, object]], str | None]:
        return await following.page(state=state, kind=None, since=None, size=_SHOWN, continuation=None)

    async def orders_in(state: OrderState) -> tuple[list[dict[str, object]], str | None]:
        return await services.order_answers.page(state=state, group=None, since=None, size=_SHOWN, continuation=None)

    report, counts, rejections, waiting, authorities, *orders = await asyncio.gather(
        services.readiness.report(),
        services.devices.counts(),
        services.rejected_messages.page(size=_SHOWN, continuation=None),
        requests_in(RequestState.WAITING),
        shown_authorities(services),
        *(orders_in(state) for state in OrderState if state in UNDER_WAY),
    )
    now = services.clock()
    return rendered(
        "today.html",
        report=report,
        states=[(state, count) for state, count in counts["states"].items() if count],
        total=counts["total"],
        expiries=counts["expiries"][:_MONTHS],
        most=max((each["devices"] for each in counts["expiries"][:_MONTHS]), default=1),
        soon=[(days, f"{now + timedelta(days=days):%Y-%m-%d}") for days in (7, 30, 90)],
        ready=all(each == "ok" for each in report.values()),
        rejections=rejections,
        waiting=waiting,
        orders=[order for items, _ in orders for order in items],
        more_orders=any(following for _, following in orders),
        unable=[each for each in authorities if each.trouble],
        lists=[each for each in authorities if each.record.published or each.list_trouble],
        expiring=[each for each in authorities if each.ends_before(now + _SOON)],
    )
