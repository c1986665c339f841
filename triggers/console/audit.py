"""The audit log: who did or tried what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.callers import Role
from triggers.console.pages import page, rendered
from triggers.http.audit import filters_of, shown_act
from triggers.http.endpoints import continuation_of, shown_continuation
from triggers.http.scopes import by_group

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_SHOWN = 50
_FILTERS = ("device", "group", "ca", "actor", "action")


@page("audit", known=(*_FILTERS, "continuationToken"), role=Role.AUDIT_READ, scope=by_group)
async def console_audit(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List who did or tried what, the latest first."""
    found, following = await services.audit.log.page(
        filters_of(request), size=_SHOWN, continuation=continuation_of(request)
    )
    return rendered(
        "audit.html",
        given={name: (request.params.get(name) or "").strip() for name in _FILTERS},
        items=[shown_act(each) for each in found],
        following=shown_continuation(following),
    )
