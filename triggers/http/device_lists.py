"""Lists of devices and of their certificates: what is asked, and how it is answered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import azure.functions as func
from pydantic import Field

from shared.contracts.answers_devices import (
    DeviceCertificate,
    DeviceCertificatePage,
    DeviceCounts,
    DevicePage,
    DeviceSummary,
)
from shared.contracts.ids import AuthorityName, EnrollmentGroupId, RequestId, SerialNumber, path_value
from shared.domain.callers import Role
from shared.domain.words import DeviceState
from shared.errors import Rejected
from shared.reading.times import LATEST, point_in_time
from shared.rules.csv_cells import csv_text
from shared.workflows.devices.finding import DeviceFilters
from triggers.http.endpoints import (
    PAGING,
    chosen,
    continuation_of,
    endpoint,
    json_answer,
    page_answer,
    page_size_of,
    shown_continuation,
)
from triggers.http.scopes import by_enrollment_group
from triggers.openapi import Answer, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from shared.services import Services

CSV = "text/csv"
_ALONE = ("serialNumber", "thumbprint")
_HUB = re.compile(r"[A-Za-z0-9\-.]{1,253}")
_PREFIX = re.compile(r"[A-Za-z0-9\-._:]{1,64}")
_THUMBPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_COLUMNS = (
    *("registrationId", "state", "enrollmentGroup", "orderId", "deviceId", "assignedHub"),
    *("serialNumber", "thumbprint", "notBefore", "notAfter", "issuer", "reason", "updatedAt"),
)

_GROUP = Parameter("enrollmentGroup", "only of this group", EnrollmentGroupId)
_ISSUER = Parameter("issuer", "only with a certificate of this CA", AuthorityName)
_TIME = Annotated[str, Field(examples=["2026-12-31T00:00:00Z"])]
_EXPIRES = Parameter("expiresBefore", "only those in service whose certificate ends before (RFC 3339)", _TIME)


@endpoint(
    "GET",
    "devices",
    answers=[
        Answer(
            200,
            "a page of devices, as JSON or as CSV",
            (DevicePage, CSV),
            (("Link", "the next page of a list in CSV: RFC 8288"),),
        )
    ],
    parameters=(
        _GROUP,
        Parameter("state", "only in this state", DeviceState),
        Parameter("hub", "only those that DPS has assigned to this hub"),
        _ISSUER,
        Parameter("order", "only of this order, or of this request for a certificate", RequestId),
        Parameter("tag", "only with this tag, as it was ordered", Annotated[str, Field(examples=["plant=Bremen"])]),
        Parameter("idPrefix", "only those whose registration id begins so"),
        _EXPIRES,
        Parameter("registeredSince", "only those that an order had registered then or later (RFC 3339)", _TIME),
        Parameter("notRenewedSince", "only those in service with a certificate from before (RFC 3339)", _TIME),
        Parameter("serialNumber", "the one that has or had this certificate; without other filters", SerialNumber),
        Parameter("thumbprint", "the same by a SHA-1 or SHA-256 thumbprint"),
        *PAGING,
    ),
    role=Role.FLEET_READ,
    scope=by_enrollment_group,
)
async def list_devices(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List devices, those that match all filters; with ``Accept: text/csv`` as CSV."""
    alone = [name for name in _ALONE if request.params.get(name)]
    following: str | None = None
    items: Sequence[Mapping[str, Any]]
    if alone:
        items = await _by_certificate(services, request, alone[0])
    else:
        items, following = await services.devices.page(
            filters_of(request), size=page_size_of(request), continuation=continuation_of(request)
        )
    if CSV in request.headers.get("Accept", ""):
        return _as_csv(request, items, following)
    return page_answer(DevicePage, map(DeviceSummary.model_validate, items), following)


@endpoint(
    "GET",
    "device-counts",
    answers=[Answer(200, "the numbers", (DeviceCounts,))],
    parameters=(_GROUP,),
    role=Role.FLEET_READ,
    scope=by_enrollment_group,
)
async def count_devices(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Count devices, or those of a group: by state, and by the month in which their certificate expires."""
    return json_answer(await services.devices.counts(_canonical(request, "enrollmentGroup")))


@endpoint(
    "GET",
    "certificates",
    answers=[Answer(200, "a page of certificates", (DeviceCertificatePage,))],
    parameters=(_EXPIRES, _GROUP, _ISSUER, *PAGING),
    role=Role.FLEET_READ,
    scope=by_enrollment_group,
)
async def list_certificates(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List the certificates that devices in service use, those first that expire first."""
    wanted = DeviceFilters(
        group=_canonical(request, "enrollmentGroup"),
        issuer=_canonical(request, "issuer", "name"),
        expires_before=_time(request, "expiresBefore") or LATEST,
    )
    items, following = await services.devices.page(
        wanted, size=page_size_of(request), continuation=continuation_of(request)
    )
    shown = [
        DeviceCertificate.model_validate(
            {
                **device["certificate"],
                "registrationId": device["registrationId"],
                "enrollmentGroup": device["enrollmentGroup"],
                "state": device["state"],
            }
        )
        for device in items
    ]
    return page_answer(DeviceCertificatePage, shown, following)


def filters_of(request: func.HttpRequest) -> DeviceFilters:
    """Read the filters of a list of devices.

    Raises:
        Rejected: one is not valid; the message says what it looks like.
    """
    prefix = _matched(request, "idPrefix", _PREFIX, "the beginning of an id: letters, digits and - . _ :")
    return DeviceFilters(
        group=_canonical(request, "enrollmentGroup"),
        state=chosen(request, "state", tuple(DeviceState)),
        hub=_matched(request, "hub", _HUB, "the host name of a hub: letters, digits, - and ."),
        issuer=_canonical(request, "issuer", "name"),
        order=_canonical(request, "order", "orderId"),
        tag=_tag(request),
        id_prefix=prefix and prefix.lower(),
        expires_before=_time(request, "expiresBefore"),
        registered_since=_time(request, "registeredSince"),
        not_renewed_since=_time(request, "notRenewedSince"),
    )


async def _by_certificate(services: Services, request: func.HttpRequest, name: str) -> Sequence[Mapping[str, Any]]:
    others = sorted(set(request.params) - {name, "code", "pageSize", "continuationToken"})
    if others:
        raise Rejected.because(f"names one device: leave out {', '.join(others)}", field=name)
    text = request.params[name]
    if name == "serialNumber":
        return await services.devices.with_serial_number(path_value("serialNumber", text))
    thumbprint = re.sub(r"[\s:]", "", text).upper()
    if not _THUMBPRINT.fullmatch(thumbprint):
        raise Rejected.because(
            f"{text[:100]!r} is not a thumbprint; give the 40 hexadecimal digits of SHA-1, or the 64 of SHA-256",
            field=name,
        )
    return await services.devices.with_thumbprint(thumbprint)


def _canonical(request: func.HttpRequest, name: str, rule: str | None = None) -> str | None:
    """Read an id, by the rule of a field of the contract."""
    text = request.params.get(name)
    if not text:
        return None
    try:
        return path_value(rule or name, text)
    except Rejected as rejection:
        raise Rejected.because(rejection.reasons[0].message, field=name) from None


def _matched(request: func.HttpRequest, name: str, rule: re.Pattern[str], valid: str) -> str | None:
    text = request.params.get(name)
    if text and not rule.fullmatch(text):
        raise Rejected.because(f"{text[:140]!r} is not {valid}", field=name)
    return text or None


def _tag(request: func.HttpRequest) -> tuple[str, str] | None:
    text = request.params.get("tag")
    if not text:
        return None
    name, found, value = text.partition("=")
    if not (name and found):
        raise Rejected.because(
            f"{text[:140]!r} is not a tag with its value; give one as in plant=Bremen, or site.line=3", field="tag"
        )
    return name, value


def _time(request: func.HttpRequest, name: str) -> datetime | None:
    text = request.params.get(name)
    # A plus that was not escaped has become a space.
    return point_in_time(re.sub(r" (?=\d\d:\d\d$)", "+", text), field=name) if text else None


def _as_csv(request: func.HttpRequest, items: Sequence[Mapping[str, Any]], following: str | None) -> func.HttpResponse:
    """Answer with a page of a list as CSV; the first page has the header, and Link names the next one."""
    page = DevicePage.model_validate({"items": items, "continuationToken": None}).model_dump(mode="json", by_alias=True)
    rows = [[_text({**(each["certificate"] or {}), **each}, column) for column in _COLUMNS] for each in page["items"]]
    first = [] if request.params.get("continuationToken") else [_COLUMNS]
    headers = {"Cache-Control": "no-store"}
    token = shown_continuation(following)
    if token is not None:
        asked = {name: value for name, value in request.params.items() if name not in {"code", "continuationToken"}}
        headers["Link"] = f'</api/devices?{urlencode({**asked, "continuationToken": token})}>; rel="next"'
    return func.HttpResponse(csv_text([*first, *rows]), mimetype=CSV, charset="utf-8", headers=headers)


def _text(device: Mapping[str, Any], column: str) -> str | None:
    value = device.get(column)
    return None if value is None else str(value)
