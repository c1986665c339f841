"""Lists of devices over HTTP: what is asked is checked by name, and CSV is safe to open."""

from __future__ import annotations

import csv
import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from shared.rules.csv_cells import csv_text
from tests.unit.test_finding import serial_of, various
from triggers import outcomes
from triggers.http import device_lists

if TYPE_CHECKING:
    from collections.abc import Mapping

    from triggers.http.endpoints import Handler

WRONG: Mapping[str, tuple[str, str]] = {
    "enrollmentGroup": ("a b", "'a b' is not a valid enrollment group id"),
    "state": ("happy", "'happy' is not a state; give one of ordered, issued, registered"),
    "hub": ("a/b", "'a/b' is not the host name of a hub: letters, digits, - and ."),
    "issuer": ("-", "'-' is not a valid name for a certificate authority"),
    "order": ("a b", "'a b' is not a valid id"),
    "tag": ("plant", "'plant' is not a tag with its value; give one as in plant=Bremen, or site.line=3"),
    "idPrefix": ("a b", "'a b' is not the beginning of an id: letters, digits and - . _ :"),
    "expiresBefore": ("soon", "'soon' is not a time"),
    "registeredSince": ("soon", "'soon' is not a time"),
    "notRenewedSince": ("soon", "'soon' is not a time"),
    "serialNumber": ("xyz", "is not a valid serial number"),
    "thumbprint": ("abc", "'abc' is not a thumbprint; give the 40 hexadecimal digits of SHA-1, or the 64 of SHA-256"),
}


async def ask(
    monkeypatch: pytest.MonkeyPatch, params: Mapping[str, str], *, handler: Handler | None = None, accept: str = ""
) -> func.HttpResponse:
    there = SimpleNamespace(devices=(await various()).directory)
    monkeypatch.setattr(outcomes, "services", lambda: there)
    request = func.HttpRequest(
        "GET", "http://host/api/devices", headers={"Accept": accept}, params=params, route_params={}, body=b""
    )
    return await outcomes.answer(request, handler or device_lists.list_devices)


def names(answer: func.HttpResponse) -> list[str]:
    assert answer.status_code == 200, answer.get_body()
    return sorted(each["registrationId"] for each in json.loads(answer.get_body())["items"])


@pytest.mark.parametrize("name", WRONG)
async def test_a_filter_that_is_not_valid_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The message says what it looks like."""
    text, message = WRONG[name]
    answer = await ask(monkeypatch, {name: text})
    [reason] = json.loads(answer.get_body())["errors"]
    assert (answer.status_code, reason["field"]) == (400, name)
    assert message in reason["message"]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, ["press-1", "press-2", "saw-1", "saw-2"]),
        ({"enrollmentGroup": "LINE-2"}, ["press-2"]),
        ({"state": "revoked"}, ["saw-2"]),
        ({"hub": "hub-2", "issuer": "line-1-ca1"}, ["saw-1"]),
        ({"order": "o2"}, ["press-2"]),
        ({"tag": "plant=Ulm/#1"}, ["saw-1"]),
        ({"idPrefix": "PRESS"}, ["press-1", "press-2"]),
        ({"expiresBefore": "2026-04-01T00:00:00Z"}, ["press-1"]),
        ({"expiresBefore": "2026-04-01T02:00:00 02:00"}, ["press-1"]),
        ({"registeredSince": "2026-02-28T00:00:00Z", "state": "registered"}, ["press-1", "press-2"]),
        ({"notRenewedSince": "2026-01-01T00:00:00Z"}, ["saw-1"]),
        ({"thumbprint": "0a" * 20}, []),
    ],
)
async def test_filters_are_read_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch, params: Mapping[str, str], found: list[str]
) -> None:
    """Ids in any case; a plus that was not escaped is one."""
    assert names(await ask(monkeypatch, params)) == found


async def test_a_certificate_names_one_device_and_takes_no_other_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of them would count could not be seen."""
    answer = await ask(monkeypatch, {"thumbprint": "0a" * 20, "hub": "h", "state": "issued"})
    [reason] = json.loads(answer.get_body())["errors"]
    assert reason == {"field": "thumbprint", "message": "names one device: leave out hub, state"}


async def test_a_list_comes_as_csv_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is on the first page, and Link names the next page, without the function key."""
    params = {"pageSize": "3", "idPrefix": "press", "code": "secret"}
    answer = await ask(monkeypatch, {**params, "pageSize": "1"}, accept="text/csv")
    [header, row] = csv.reader(io.StringIO(answer.get_body().decode()))
    shown = dict(zip(header, row, strict=True))
    assert answer.mimetype == "text/csv"
    as_json = await ask(monkeypatch, {"pageSize": "1", "idPrefix": "press"})
    [item] = json.loads(as_json.get_body())["items"]
    assert shown["updatedAt"] == item["updatedAt"], "a time is written in one way"
    assert shown["updatedAt"].endswith("Z")
    assert {name: shown[name] for name in ("registrationId", "state", "serialNumber", "notAfter", "reason")} == {
        "registrationId": "press-1",
        "state": "registered",
        "serialNumber": serial_of("press-1"),
        "notAfter": "2026-03-11T12:00:00Z",
        "reason": "",
    }
    link = answer.headers["Link"]
    token = link.partition("continuationToken=")[2].partition(">")[0]
    assert link == f'</api/devices?pageSize=1&idPrefix=press&continuationToken={token}>; rel="next"'
    last = await ask(monkeypatch, {**params, "continuationToken": token}, accept="text/csv")
    assert [row[0] for row in csv.reader(io.StringIO(last.get_body().decode()))] == ["press-2"]
    assert "Link" not in last.headers


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1"])  # noqa: RUF001 - as Excel takes it
def test_no_cell_begins_a_formula(text: str) -> None:
    """A name that somebody outside has chosen is opened by a spreadsheet as text (OWASP, "CSV Injection")."""
    [[cell, other]] = csv.reader(io.StringIO(csv_text([[text, 'a "b", c']]), newline=""))
    assert (cell, other) == (f"'{text}", 'a "b", c')


def test_no_cell_commands_a_terminal() -> None:
    """A comment with escape sequences must not hide other lines of the audit log from whoever prints it (CWE-150)."""
    [[cell, other]] = csv.reader(io.StringIO(csv_text([["a\x1b[8mb\x00\x9b", "tab\tand\nline, ü"]]), newline=""))
    assert (cell, other) == ("a\ufffd[8mb\ufffd\ufffd", "tab\tand\nline, ü")


async def test_certificates_are_listed_those_first_that_expire_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that devices in service use."""
    answer = await ask(monkeypatch, {}, handler=device_lists.list_certificates)
    items: list[dict[str, Any]] = json.loads(answer.get_body())["items"]
    assert [(each["registrationId"], each["notAfter"][:10]) for each in items] == [
        ("press-1", "2026-03-11"),
        ("saw-1", "2026-11-21"),
        ("press-2", "2027-04-05"),
    ]
    soon = await ask(monkeypatch, {"expiresBefore": "2026-04-01T00:00:00Z"}, handler=device_lists.list_certificates)
    assert names(soon) == ["press-1"]


async def test_devices_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By state and by month of expiry."""
    answer = await ask(monkeypatch, {}, handler=device_lists.count_devices)
    counts = json.loads(answer.get_body())
    assert (counts["total"], counts["states"]["registered"], counts["states"]["failed"]) == (4, 3, 0)
    assert counts["expiries"][0] == {"month": "2026-03", "devices": 1}
