"""Devices: one found by what is known of it, and what the app knows of its certificates and doors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from shared.contracts.ids import path_value
from shared.domain.words import CertificateKind, DeviceState
from shared.errors import NotFound, Rejected
from shared.rules.zones import Zone
from shared.workflows.devices.finding import DeviceFilters
from triggers.console.pages import ROOT, page, redirect, rendered, segment
from triggers.http.endpoints import chosen, continuation_of, shown_continuation

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_SHOWN = 50
_SERIAL = re.compile(r"[0-9a-f]{16,40}")


@page("devices", known=("find", "enrollmentGroup", "state", "continuationToken"))
async def console_devices(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Find one device, or list those of a group or state."""
    wanted = (request.params.get("find") or "").strip()
    if wanted:
        found = await _found(services, wanted)
        if found is not None:
            return redirect(f"{ROOT}/devices/{segment(found)}")
    state = chosen(request, "state", tuple(DeviceState))
    group = (request.params.get("enrollmentGroup") or "").strip()
    items, following = await services.devices.page(
        DeviceFilters(group=path_value("enrollmentGroup", group) if group else None, state=state),
        size=_SHOWN,
        continuation=continuation_of(request),
    )
    return rendered(
        "devices.html",
        wanted=wanted,
        group=group,
        state_wanted=state or "",
        states=list(DeviceState),
        items=items,
        following=shown_continuation(following),
    )


async def _found(services: Services, wanted: str) -> str | None:
    """Give the registration id of the device that somebody means: by this id, or by a certificate's serial number."""
    try:
        described = await services.devices.describe(path_value("registrationId", wanted))
        return str(described["registrationId"])
    except Rejected:
        pass  # not an id, or nobody's: perhaps a serial number
    serial = re.sub(r"[\s:]", "", wanted).lower().removeprefix("0x")
    if not _SERIAL.fullmatch(serial):
        return None
    try:
        certificate = await services.certificate_requests.describe(path_value("serialNumber", serial))
    except Rejected:
        return None
    return str(certificate["subject"]) if certificate["kind"] == CertificateKind.DEVICE else None


@page("devices/{registrationId}")
async def console_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a device: its state, its certificates, its doors, its history."""
    registration_id = path_value("registrationId", request.route_params["registrationId"])
    device = await services.devices.describe(registration_id)
    certificates = [
        await services.certificate_requests.describe(each["serialNumber"])
        for each in (device["certificate"], device["nextCertificate"])
        if each is not None
    ]
    return rendered(
        "device.html",
        device=device,
        certificates=certificates,
        revokes_here=services.settings.zone is Zone.ALL,
        doors=[*await _doors(services, device, certificates)],
    )


async def _doors(
    services: Services, device: dict[str, Any], certificates: list[dict[str, Any]]
) -> list[tuple[str, str, str]]:
    """Give each door of a device: its name, whether it is open, and how that is known."""
    doors = [
        (
            f"CRL and OCSP of {each['issuer']}",
            f"on the list: {each['revocationReason']}" if each["revokedAt"] else "not on the list",
            f"certificate {each['serialNumber']}, by the ledger",
        )
        for each in certificates
    ]
    groups = await services.groups.directory.list_groups()
    group = next((each for each in groups if each["enrollmentGroup"] == device["enrollmentGroup"]), None)
    if group is not None:
        doors.insert(0, (f"enrollment group {group['enrollmentGroup']}", str(group["state"]), "by the ledger"))
    if device["assignedHub"]:
        doors.append((device["assignedHub"], *await _identity(services, device["registrationId"])))
    return doors


async def _identity(services: Services, registration_id: str) -> tuple[str, str]:
    if services.settings.zone is not Zone.ALL:
        return "not known here", "the zone of this page does not reach hubs"
    try:
        identity = await services.identities.describe(registration_id)
    except NotFound:
        return "no identity", "asked just now"
    except Exception as error:  # noqa: BLE001 - the rest of the page is worth more than a hub's answer
        return "not known now", f"the hub did not answer: {type(error).__name__}"
    return f"{identity['status']}, {identity['connectionState']}", "asked just now"
