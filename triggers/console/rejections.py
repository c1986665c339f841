"""Rejections: what was refused or set aside, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.answers import RejectionClosing, Replay
from shared.contracts.messages import INBOUND_QUEUES
from shared.contracts.parsing import parse
from shared.domain.rejections import RejectionState
from shared.ledger.rejections import Filters
from shared.reading.numbers import whole_number
from shared.reading.times import point_in_time
from shared.rules.zones import Zone
from shared.workflows.intake.rejections import REPLAYED_AT_ONCE
from triggers import callers
from triggers.console.pages import ROOT, form_of, page, redirect, rendered, segment
from triggers.http.endpoints import chosen, continuation_of, shown_continuation
from triggers.http.paths import rejection_id_of

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_SHOWN = 50
_STATES = (RejectionState.OPEN, RejectionState.REPLAYED, RejectionState.CLOSED)


@page("rejections", known=("state", "queue", "cause", "continuationToken"))
async def console_rejections(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List what was refused or set aside."""
    filters = Filters(
        state=chosen(request, "state", _STATES) or RejectionState.OPEN,
        queue=chosen(request, "queue", INBOUND_QUEUES),
        cause=request.params.get("cause") or None,
    )
    items, following = await services.rejected_messages.page(
        filters, size=_SHOWN, continuation=continuation_of(request)
    )
    return rendered(
        "rejections.html",
        filters=filters,
        states=_STATES,
        queues=[queue.value for queue in INBOUND_QUEUES],
        items=items,
        following=shown_continuation(following),
        acts_here=services.settings.zone is Zone.ALL,
        may_replay=callers.may_replay(filters.queue),
    )


@page("rejections/{id}")
async def console_rejection(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show one message that was refused or set aside, and what can be done about it."""
    found = await services.rejected_messages.describe(rejection_id_of(request))
    return rendered(
        "rejection.html",
        rejection=found,
        acts_here=services.settings.zone is Zone.ALL,
        role=callers.ROLE_OF_QUEUE[found.queue],
    )


@page("rejections/{id}/replay")
async def console_replay(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what a replay will do, and ask."""
    found = await services.rejected_messages.describe(rejection_id_of(request))
    return rendered("replay.html", rejection=found)


@page("rejections/{id}/replay", method="POST", act="replay")
async def console_replayed(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Put a message back into its queue."""
    identifier = rejection_id_of(request)
    await _require_for(services, identifier)
    await services.rejected_messages.replay(identifier)
    return redirect(f"{ROOT}/rejections/{segment(identifier)}")


@page("rejections/{id}/close")
async def console_close(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what closing will do, and ask why."""
    found = await services.rejected_messages.describe(rejection_id_of(request))
    return rendered("close.html", rejection=found)


@page("rejections/{id}/close", method="POST", act="close")
async def console_closed(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Close a rejection with a comment."""
    identifier = rejection_id_of(request)
    comment = parse(RejectionClosing, {"comment": form_of(request).get("comment", "")}).comment
    await _require_for(services, identifier)
    await services.rejected_messages.close(identifier, comment)
    return redirect(f"{ROOT}/rejections/{segment(identifier)}")


async def _require_for(services: Services, identifier: str) -> None:
    callers.require_for((await services.rejected_messages.describe(identifier)).queue)


@page("replays", known=("queue", "cause"))
async def console_replay_many(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what a replay of many will do, and to how many, and ask."""
    now = services.clock()
    filters = Filters(
        queue=chosen(request, "queue", INBOUND_QUEUES), cause=request.params.get("cause") or None, until=now
    )
    found, following = await services.rejected_messages.page(filters, size=REPLAYED_AT_ONCE, continuation=None)
    return rendered("replay_many.html", filters=filters, count=len(found), is_more=following is not None, found=found)


@page("replays", method="POST", act="replay")
async def console_replayed_many(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Put many messages back into their queues: those that were refused when the page before was shown."""
    form = form_of(request)
    wanted = parse(Replay, {name: form.get(name) or None for name in ("queue", "cause")})
    callers.require_for(wanted.queue)
    per_minute = whole_number(form.get("perMinute", ""), 1, 10_000, field="perMinute", what="number of messages")
    filters = Filters(queue=wanted.queue, cause=wanted.cause, until=point_in_time(form.get("until", ""), field="until"))
    done = await services.rejected_messages.replay_many(filters, per_minute=per_minute)
    return rendered("replayed_many.html", done=done)
