"""Counts what anybody may ask for, by the address that it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triggers import callers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import azure.functions as func

    from shared.services import Services

    type Handler = Callable[[Services, func.HttpRequest], Awaitable[func.HttpResponse]]


def public(handler: Handler, *, alone: bool) -> Handler:
    """Answer relying parties, an address so often a minute as the settings say.

    What asks no service (``alone``) is not counted: it has to answer whoever watches the worker.
    """
    if alone:
        return handler

    async def answer(services: Services, request: func.HttpRequest) -> func.HttpResponse:
        services.limits.public(callers.address_of(request.headers))
        return await handler(services, request)

    return answer
