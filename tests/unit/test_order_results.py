"""Results of orders: a line for each device, which no spreadsheet takes for a formula, in bounded parts."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from shared.domain.orders import LineState, OrderLine, OrderState
from shared.domain.words import RegisterBy
from shared.errors import Rejected
from shared.workflows.devices.order_results import COLUMNS, OrderResults, csv_of
from tests.unit.test_device_orders import START, World
from tests.unit.test_device_orders import csv_of as list_of
from triggers import outcomes
from triggers.http import orders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def line(**fields: Any) -> OrderLine:
    known = {
        "order_id": "o",
        "line": 0,
        "state": LineState.REGISTERED,
        "requested_id": "press-1",
        "registration_id": "press-1",
        "enrollment_group": "g",
        "register_by": RegisterBy.SERVICE,
        "accepted_at": START,
    }
    return OrderLine(**{**known, **fields})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    there = World()
    yield there
    there.threads.close()


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_line_has_all_that_is_known_of_its_device() -> None:
    """Certificate and hub as well; a line out of a message says its place."""
    made = line(device_id="press-1", assigned_hub="hub", serial_number="1f", thumbprint="0A", expires_at=START, line=3)
    assert csv_of([made], header=True) == (
        "registrationId,state,deviceId,assignedHub,serialNumber,thumbprint,expiresAt,reason,place\r\n"
        "press-1,registered,press-1,hub,1f,0A,2026-03-01T12:00:00Z,,devices[3]\r\n"
    )


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("\uff1d1", "'\uff1d1"),
        ('a",=1\n=2', 'a",=1\n=2'),
        ("press-1", "press-1"),
    ],
)
def test_no_cell_is_taken_for_a_formula(given: str, written: str) -> None:
    """What begins like one begins with an apostrophe, and what ends a cell or a row stays in its cell."""
    failed = line(
        state=LineState.FAILED,
        registration_id=None,
        requested_id=given,
        reasons=({"field": "", "message": given},),
    )
    [row] = cells(csv_of([failed], header=False))
    assert (row[COLUMNS.index("registrationId")], row[COLUMNS.index("reason")]) == (written, written)


async def test_results_are_written_in_parts_of_a_hundred_lines(world: World) -> None:
    """So that an order of any length takes no more memory; an order without lines has a header."""
    world.upload(list_of(250))
    await world.post(orderId="o", enrollmentGroup="g", devicesUrl=f"{world.order_lists_url}/orders/list.csv")
    await world.deliver_all()
    blobs: Any = Parts()
    settings: Any = world
    results = OrderResults(orders=world.orders, blobs=blobs, settings=settings)
    base = "http://127.0.0.1:10000/account/results"
    written = await results.write("o", OrderState.CANCELLED)
    assert (written.csv, written.json) == (f"{base}/o.csv", f"{base}/o.json")
    parts = [cells(part.decode()) for part in blobs.parts["o.csv"]]
    assert [len(part) for part in parts] == [1, 100, 100, 50]
    assert [each[0] for part in parts for each in part][1:] == [f"d{n}" for n in range(250)]
    assert [part.count(b"registrationId") for part in blobs.parts["o.json"]] == [100, 100, 50, 0]
    [as_json] = [json.loads(b"".join(blobs.parts["o.json"]))]
    assert [each["registrationId"] for each in as_json.pop("items")] == [f"d{n}" for n in range(250)]
    assert as_json == {"orderId": "o", "state": "cancelled", "continuationToken": None}
    await results.write("none", OrderState.COMPLETED)
    assert [cells(part.decode()) for part in blobs.parts["none.csv"]] == [[list(COLUMNS)]]
    assert json.loads(b"".join(blobs.parts["none.json"]))["items"] == []


class Parts:
    """Takes the parts of blobs."""

    def __init__(self) -> None:
        self.parts: dict[str, list[bytes]] = {}

    async def write(self, container: str, name: str, parts: AsyncIterator[bytes], *, content_type: str) -> None:
        assert (container, content_type) == ("results", "text/csv" if name.endswith(".csv") else "application/json")
        self.parts[name] = [part async for part in parts]


async def test_results_are_asked_for_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of CSV can be put together, since the first alone has the header; each names the next one."""
    services: Any = world
    services.order_answers = world.answers
    monkeypatch.setattr(outcomes, "services", lambda: services)
    monkeypatch.setattr(orders, "_RESULT_LINES", 2)
    await world.post(orderId="o", enrollmentGroup="g", devices=[{"registrationId": f"d{n}"} for n in range(5)])
    text, query = "", dict[str, str]()
    for _ in range(3):
        answer = await ask(orders.get_order_results_csv, query)
        assert answer.status_code == 200
        assert answer.mimetype == "text/csv"
        text += answer.get_body().decode()
        link = answer.headers.get("Link") or ""
        query = {"continuationToken": link.partition("=")[2].partition(">")[0]}
    assert link == ""
    assert [row[0] for row in cells(text)] == ["registrationId", "d0", "d1", "d2", "d3", "d4"]
    page = json.loads((await ask(orders.get_order_results_json, {})).get_body())
    assert (page["orderId"], page["state"], len(page["items"])) == ("o", "processing", 2)
    assert page["items"][1] == {
        "registrationId": "d1",
        "state": "ordered",
        "deviceId": None,
        "assignedHub": None,
        "serialNumber": None,
        "thumbprint": None,
        "expiresAt": None,
        "reason": None,
        "place": "devices[1]",
    }
    last = json.loads(
        (await ask(orders.get_order_results_json, {"continuationToken": page["continuationToken"]})).get_body()
    )
    assert last["items"][0]["registrationId"] == "d2"


async def test_a_refused_order_has_results_without_lines(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state says why there are none."""
    services: Any = world
    services.order_answers = world.answers
    monkeypatch.setattr(outcomes, "services", lambda: services)
    await world.orders.refuse("o", Rejected.because("is not a known field", field="colour").documented(), START)
    as_csv = await ask(orders.get_order_results_csv, {})
    assert (as_csv.status_code, cells(as_csv.get_body().decode())) == (200, [list(COLUMNS)])
    as_json = await ask(orders.get_order_results_json, {})
    assert json.loads(as_json.get_body()) == {
        "orderId": "o",
        "state": "rejected",
        "items": [],
        "continuationToken": None,
    }


async def ask(handler: Any, query: dict[str, str]) -> func.HttpResponse:
    request = func.HttpRequest("GET", "http://host/api/x", params=query, route_params={"orderId": "o"}, body=b"")
    return await outcomes.answer(request, handler)
