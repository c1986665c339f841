"""Devices: one found by what is known of it, and why it is as it is."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.contracts.ids import path_value
from shared.domain.findings import FindingState, SubjectKind
from shared.domain.words import DeviceState
from shared.errors import Rejected
from shared.reading.times import point_in_time
from shared.rules.zones import Zone
from shared.workflows.devices.finding import DeviceFilters
from shared.workflows.reconciliation.answers import shown_finding
from triggers.console.pages import ROOT, page, redirect, rendered, segment
from triggers.http.endpoints import chosen, continuation_of, shown_continuation
from triggers.http.paths import registration_id_of
from triggers.http.scopes import by_enrollment_group, of_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import azure.functions as func

    from shared.services import Services

_SHOWN = 50
_FINDINGS = 20

_HEXADECIMAL = re.compile("[0-9a-f]*[1-9a-f][0-9a-f]*")
_SERIAL_DIGITS = 40
_THUMBPRINT_DIGITS = {40, 64}  # SHA-1, SHA-256


@page(
    "devices",
    known=("find", "enrollmentGroup", "state", "expiresBefore", "continuationToken"),
    scope=by_enrollment_group,
)
async def console_devices(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Find one device, or list those of a group, in a state, or whose certificate ends soon."""
    wanted = (request.params.get("find") or "").strip()
    if wanted:
        found = await _found(services, wanted)
        if found is not None:
            return redirect(f"{ROOT}/{found}")
    given = {name: (request.params.get(name) or "").strip() for name in ("enrollmentGroup", "expiresBefore")}
    state = chosen(request, "state", tuple(DeviceState))
    group, before = given["enrollmentGroup"], given["expiresBefore"]
    items, following = await services.devices.page(
        DeviceFilters(
            group=path_value("enrollmentGroup", group) if group else None,
            state=state,
            # A day as a browser gives it begins in UTC.
            expires_before=point_in_time(f"{before}T00:00:00Z", field="expiresBefore") if before else None,
        ),
        size=_SHOWN,
        continuation=continuation_of(request),
    )
    return rendered(
        "devices.html",
        wanted=wanted,
        group=group,
        before=before,
        state_wanted=state or "",
        states=list(DeviceState),
        items=items,
        following=shown_continuation(following),
    )


async def _found(services: Services, wanted: str) -> str | None:
    """Give the page of what somebody means: a device, or an order.

    A device by its registration id, or by a serial number or thumbprint of its certificate, as openssl, a hub or DPS
    write them.
    """
    with suppress(Rejected):  # not an id, or nobody's
        described = await services.devices.describe(path_value("registrationId", wanted))
        return _page_of(described.registration_id)
    digits = re.sub(r"[\s:]", "", wanted).lower().removeprefix("0x")
    if _HEXADECIMAL.fullmatch(digits) and (known := await _with_certificate(services, digits)):
        return _page_of(str(known["registrationId"]))
    with suppress(Rejected):
        order = await services.order_answers.order(path_value("orderId", wanted))
        return f"orders/{segment(order.order_id)}"
    return None


def _page_of(registration_id: str) -> str:
    return f"devices/{segment(registration_id)}"


async def _with_certificate(services: Services, digits: str) -> Mapping[str, Any] | None:
    found: Sequence[dict[str, Any]] = []
    if len(digits) <= _SERIAL_DIGITS:
        found = await services.devices.with_serial_number(path_value("serialNumber", digits))
    if not found and len(digits) in _THUMBPRINT_DIGITS:
        found = await services.devices.with_thumbprint(digits.upper())
    return found[0] if found else None


@page("devices/{registrationId}", scope=of_device)
async def console_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a device: why it is as it is, what differs, its doors, its certificates, what happened."""
    registration_id = registration_id_of(request)
    device = await services.devices.describe(registration_id)
    certificates = [
        await services.certificate_requests.describe(each.serial_number)
        for each in (device.certificate, device.next_certificate)
        if each is not None
    ]
    about_it = {"state": FindingState.OPEN, "subjectKind": SubjectKind.DEVICE, "subject": registration_id}
    findings, _ = await services.reconciler.findings.page(about_it, size=_FINDINGS, continuation=None)
    return rendered(
        "device.html",
        findings=[shown_finding(each) for each in findings],
        device=device,
        certificates=certificates,
        revokes_here=services.settings.zone is Zone.ALL,
        explained=await services.explaining.of_device(registration_id),
    )
