"""Signing in with a function key, and out; and the style sheet, which everybody may have."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import azure.functions as func

from shared.adapters.own_host import ACCESS_PATH
from shared.domain.audit_entries import SubjectKind
from shared.domain.callers import ANONYMOUS
from shared.workflows.intake.audit import Act
from triggers import callers
from triggers.console import access
from triggers.console.pages import ROOT, form_of, page, redirect, rendered
from triggers.zones import blueprint_of

if TYPE_CHECKING:
    from shared.services import Services

_WITHIN = re.compile(
    rf"{re.escape(ROOT)}(?:/(?!(?:\.|%2e)+(?:[/?]|$))[\w.~%-]+)*(?:\?[\w=&+.~%-]*)?", re.ASCII | re.IGNORECASE
)

_blueprint = blueprint_of("console_access")


@_blueprint.function_name("console_access")
@_blueprint.route(route=ACCESS_PATH.removeprefix("/api/"), methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def console_access(req: func.HttpRequest) -> func.HttpResponse:
    """Answer whoever has a function key, which the host checks."""
    del req
    return func.HttpResponse(status_code=HTTPStatus.NO_CONTENT)


@page("sign-in", known=("then",), role=None)
async def console_sign_in(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show the form that takes a function key."""
    return _form(services, request.params.get("then"))


@page("sign-in", method="POST", role=None)
async def console_signed_in(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have the browser keep a function key that the host takes."""
    form = form_of(request)
    key, then = form.get("key", "").strip(), form.get("then")
    address = callers.address_of(request.headers)
    if not await callers.takes(services, key, address):
        act = Act(
            action="console_signed_in",
            kind=SubjectKind.OPERATION,
            subject="console_signed_in",
            reason="the host does not take the key",
        )
        await services.limits.denied(replace(ANONYMOUS, address=address), act)
        return _form(services, then, refused=True)
    return redirect(_place(then), cookie=access.cookie(key, ROOT, request.url))


@page("sign-out", method="POST", role=None)
async def console_sign_out(_services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Take the function key out of the browser."""
    return redirect(f"{ROOT}/sign-in", cookie=access.cookie("", ROOT, request.url))


def _form(services: Services, then: str | None, *, refused: bool = False) -> func.HttpResponse:
    settings = services.settings
    return rendered(
        "sign_in.html",
        status=HTTPStatus.FORBIDDEN if refused else HTTPStatus.OK,
        then=_place(then),
        refused=refused,
        takes_keys=settings.own_host is not None,
        platform=settings.entra_authentication,
    )


def _place(then: str | None) -> str:
    """Give where to go after the sign-in: a page of the console, whatever a link says."""
    return then if then and _WITHIN.fullmatch(then) else ROOT


@page("console.css", role=None)
async def console_style(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Give the style sheet."""
    return func.HttpResponse(_style(), mimetype="text/css", headers={"Cache-Control": "public, max-age=300"})


@cache
def _style() -> bytes:
    return Path(__file__).with_name("assets").joinpath("console.css").read_bytes()
