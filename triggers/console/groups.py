"""One enrollment group: its CAs, its rollover and its requests, and for which devices somebody has to act."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from shared.domain.groups import GroupState, RolloverState
from shared.errors import NotFound
from shared.rules.zones import Zone
from triggers.console.pages import page, rendered
from triggers.http.endpoints import continuation_of, shown_continuation
from triggers.http.paths import group_id_of
from triggers.http.scopes import of_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    import azure.functions as func

    from shared.contracts.answers_groups import DeviceLeft, GroupSummary
    from shared.contracts.answers_requests import FollowedRequest, ListedRequest
    from shared.services import Services

_SHOWN = 50
_REQUESTS = 10


@page("groups/{id}", known=("continuationToken",), scope=of_group)
async def console_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an enrollment group, the devices that its rollover waits for, and those that missed their renewal."""
    wanted = group_id_of(request)
    group, rollover, counts, (missed, more_missed), (requests, more_requests) = await asyncio.gather(
        services.groups.directory.summary(wanted),
        services.groups.directory.rollover(wanted),
        services.devices.counts(wanted),
        services.lifetimes.missed_renewals.page(wanted, needs=None, size=_SHOWN, continuation=None),
        _requests(services, wanted),
    )
    left: Sequence[DeviceLeft] = ()
    following = None
    if rollover:
        left, following = await services.groups.directory.left_on_old_ca(
            wanted, size=_SHOWN, continuation=continuation_of(request)
        )
    return rendered(
        "group.html",
        group=group,
        rollover=rollover,
        total=counts.total,
        states=[(state, count) for state, count in counts.states.items() if count],
        left=left,
        following=shown_continuation(following),
        missed=missed,
        more_missed=more_missed,
        requests=requests,
        more_requests=more_requests,
        acts=_acts(group),
        acts_here=services.settings.zone is Zone.ALL,
    )


async def _requests(services: Services, group_id: str) -> tuple[Sequence[FollowedRequest], str | None]:
    """Give the last requests about a group, each with how far it is."""
    listed, following = await services.following.page(
        state=None,
        kind=None,
        since=None,
        size=_REQUESTS,
        continuation=None,
        about=f"/api/enrollment-groups/{group_id}",
    )

    async def described(each: ListedRequest) -> FollowedRequest | None:
        with suppress(NotFound):  # it was forgotten by now
            return await services.following.describe(each.request_id, each.kind)
        return None

    return [each for each in await asyncio.gather(*map(described, listed)) if each], following


def _acts(group: GroupSummary) -> Sequence[str]:
    """Give the acts that are offered; whether one can be done is for its page to say."""
    switch = "enable" if group.state is GroupState.DISABLED else "disable"
    # One that is disabled may be so because the CA that has taken over was revoked.
    replaces = group.rollover is not None and group.rollover.state is RolloverState.ROLLING
    is_over = group.rollover is None or group.rollover.state is RolloverState.RETIRED
    rolls = is_over or (replaces and group.state is GroupState.DISABLED)
    return [switch, *(["roll"] if rolls else []), "delete"]
