"""What an app does that was started while the ledger is being restored: it waits, and writes nothing into it."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest
from azure.core.exceptions import ServiceRequestError
from azure.functions.queue import QueueMessage

from shared.contracts.messages import Queue
from shared.errors import LedgerBehind, NotFound
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues
from triggers import observed, outcomes, poison, whole

SAID = "the ledger is being restored, and is not whole: nothing is done or answered before it is"


@pytest.fixture(autouse=True)
def no_restore() -> None:
    """Here a worker looks for a restore."""


class Epochs:
    """A ledger that is being restored, or whose tables do not answer."""

    def __init__(self) -> None:
        self.found: str | None = "the ledger is not whole: a restore of the archive 'a' was begun"
        self.fault: Exception | None = None

    async def unfinished(self) -> str | None:
        if self.fault is not None:
            raise self.fault
        return self.found


class Worker:
    """A worker with queues and epochs; whatever else is asked of it fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.epochs, self.queues = Epochs(), FakeQueues()
        self.clients = SimpleNamespace(queues=self.queues)
        for module in (observed, outcomes, poison):
            monkeypatch.setattr(module, "services", lambda: self)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


def message(body: bytes) -> Any:
    found = QueueMessage(id="m-1", body=body, pop_receipt="r")
    found._QueueMessage__insertion_time = NOW  # type: ignore[attr-defined]  # noqa: SLF001
    return found


async def never(*_given: Any) -> None:
    raise AssertionError("it was carried out")


async def test_a_message_is_put_back_and_nothing_is_asked_of_the_ledger(worker: Worker) -> None:
    """Half a ledger does not know the group yet, and would refuse the order for good."""
    body = {"orderId": "o-1", "enrollmentGroup": "line-1", "devices": [{"registrationId": "press"}]}
    await outcomes.settle(Queue.DEVICE_ORDERS, message(json.dumps(body).encode()), never)
    [(queue, sent, delay)] = worker.queues.sent
    assert (queue, sent["data"], delay) == (Queue.DEVICE_ORDERS, body, timedelta(seconds=15))
    assert sent["time"] == "2026-03-01T12:00:00Z", "it is as old as it was"


async def test_a_message_that_can_not_be_read_is_left_to_the_host(worker: Worker) -> None:
    """Its refusal would be a row. The host gives it up, and the sweep of poison queues comes to it later."""
    with pytest.raises(LedgerBehind, match=SAID):
        await outcomes.settle(Queue.DEVICE_ORDERS, message(b"{"), never)
    with pytest.raises(LedgerBehind, match=SAID):
        await poison.set_aside(Queue.DEVICE_ORDERS, message(b"{"))
    assert worker.queues.sent == []


def request(route: str) -> func.HttpRequest:
    return func.HttpRequest(method="GET", url=f"https://h/api/{route}", body=b"", headers={}, route_params={})


async def fine(_services: Any, _request: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("fine")


@pytest.mark.parametrize("route", ["devices/{registrationId}", "crl/{name}", "ocsp/{name}", "device-orders"])
async def test_a_caller_is_told_to_come_again(worker: Worker, route: str) -> None:
    """A device that is not written yet would be told to not exist; nobody is told what the archive is."""
    answer = await outcomes.answer(request(route), fine, route)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "15")
    assert json.loads(answer.get_body())["detail"] == SAID
    worker.epochs.found = None
    assert (await outcomes.answer(request(route), fine, route)).status_code == 200


@pytest.mark.parametrize("route", sorted(whole.ALWAYS))
@pytest.mark.usefixtures("worker")
async def test_readiness_is_told_all_the_same(route: str) -> None:
    assert (await outcomes.answer(request(route), fine, route)).status_code == 200


async def test_a_timer_does_nothing(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    @observed.sweep
    async def order_sweep() -> None:
        done.append("order_sweep")

    await order_sweep()
    assert (done, caplog.messages) == ([], [f"order_sweep did nothing: {SAID}"])
    worker.epochs.found = None
    await order_sweep()
    assert done == ["order_sweep"]


async def test_tables_that_do_not_answer_are_found_by_the_work_itself(worker: Worker) -> None:
    """The work says what of it waits for them."""
    worker.epochs.fault = ServiceRequestError("the account does not answer")
    assert (await outcomes.answer(request("devices"), fine, "devices")).status_code == 200
    worker.epochs.fault = RuntimeError("a bug")
    assert (await outcomes.answer(request("devices"), fine, "devices")).status_code == 500


class Older:
    """A ledger that is older than it was, or a vault that can't tell."""

    def __init__(self) -> None:
        self.down: Exception | None = None

    async def unfinished(self) -> None:
        """Tell of no restore."""

    async def fault(self) -> str:
        if self.down is not None:
            raise self.down
        return "the ledger is older than it was"


async def missing(_services: Any, _request: func.HttpRequest) -> func.HttpResponse:
    raise NotFound.because("the device 'press' does not exist")


async def test_what_an_older_ledger_does_not_know_may_be_there(worker: Worker) -> None:
    """Whoever shuts a device out is not told that there is none. What can't be seen of the ledger changes nothing."""
    worker.epochs = older = Older()  # type: ignore[assignment]
    revoke = func.HttpRequest(
        method="POST", url="https://h/api/devices/press/revoke", body=b"", headers={}, route_params={}
    )
    answer = await outcomes.answer(revoke, missing, "devices/{registrationId}/revoke")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "15")
    assert json.loads(answer.get_body())["detail"] == (
        "the ledger is older than it was. It may not know what this is about: the device 'press' does not exist"
    )
    assert (await outcomes.answer(request("devices/press"), missing, "devices/{registrationId}")).status_code == 404
    older.down = ServiceRequestError("the vault does not answer")
    assert (await outcomes.answer(revoke, missing, "devices/{registrationId}/revoke")).status_code == 404
