"""What became of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.ids import path_value
from shared.workflows.intake.following import KINDS
from triggers.console.pages import ROOT, page, rendered, segment
from triggers.http.endpoints import chosen
from triggers.http.scopes import of_request

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_PLACES = {
    "devices": "devices",
    "device-orders": "orders",
    "enrollment-groups": "groups",
}
"""Pages of the console for paths of the API, by their first part."""


@page("requests/{requestId}", known=("kind",), scope=of_request)
async def console_request(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show how far a request is."""
    identifier = path_value("requestId", request.route_params["requestId"])
    found = await services.following.describe(identifier, chosen(request, "kind", KINDS))
    return rendered("request.html", request=found, about=_page_of(found.about))


def _page_of(about: str | None) -> str | None:
    """Give the page of what a request is about, where the console has one."""
    parts = (about or "").split("/")
    match parts:
        case ["", "api", kind, name] if kind in _PLACES:
            return f"{ROOT}/{_PLACES[kind]}/{segment(name)}"
    return None
