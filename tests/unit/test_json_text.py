"""JSON of strangers: what is too deep is refused as bad input wherever it comes in, and never fails."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.adapters.tables import Table
from shared.contracts.messages import Queue, read_message
from shared.contracts.orders import DeviceOrder
from shared.contracts.parsing import parse
from shared.errors import Rejected
from shared.ledger.orders import Orders
from shared.reading.json_text import LEVEL_LIMIT, read_json
from shared.workflows.intake.outbox import Outbox
from shared.workflows.intake.rejections import ReceivedMessage
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues, FakeTable
from tests.unit.rejecting import rejecting

if TYPE_CHECKING:
    from collections.abc import Callable

TOO_DEEP = "more than 64 arrays and objects are nested; at most 64 are read"


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def objects(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize("text", ["1", '{"a": [1, {}]}', nested(LEVEL_LIMIT), objects(LEVEL_LIMIT)])
def test_what_is_not_too_deep_is_read(text: str) -> None:
    """Up to the limit the value is the one that json gives."""
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("make", [nested, objects])
@pytest.mark.parametrize("levels", [LEVEL_LIMIT + 1, 900, 30_000])
def test_what_is_too_deep_is_refused(make: Callable[[int], str], levels: int) -> None:
    """One level more, more than can be written, and more than can be read."""
    with pytest.raises(ValueError, match=f"^{TOO_DEEP}$"):
        read_json(make(levels))


def test_a_message_that_is_too_deep_is_rejected() -> None:
    """It is bad input, and not a failure that the host would try five times."""
    with pytest.raises(Rejected) as refused:
        read_message(nested(20_000))
    assert str(refused.value) == f"the message is not valid JSON: {TOO_DEEP}"
    deep = {"orderId": "o", "enrollmentGroup": "g", "devices": [{"registrationId": "a", "initialTwin": {"tags": "x"}}]}
    with pytest.raises(Rejected):
        read_message(json.dumps(deep).replace('"x"', objects(900)))


def test_a_twin_as_deep_as_is_read_can_be_written_again() -> None:
    """What passes the limit is put into the next queue without failing."""
    levels = LEVEL_LIMIT - 5
    text = json.dumps({"orderId": "o", "enrollmentGroup": "g",
                       "devices": [{"registrationId": "a", "initialTwin": {"tags": "x"}}]})  # fmt: skip
    body = read_message(text.replace('"x"', objects(levels))).data
    assert parse(DeviceOrder, body).model_dump_json(by_alias=True).count('{"a":') == levels


async def test_a_poison_message_that_is_too_deep_is_recorded() -> None:
    """It is kept whole, under its own id, since nothing can be read out of it."""
    outbox: Any = Outbox(queues=FakeQueues(), clock=lambda: NOW)
    orders = Orders(orders=FakeTable(), lines=FakeTable())
    subject = rejecting(FakeTable(), orders, outbox, lambda: NOW)
    body = nested(20_000).encode()
    await subject.record_poison(ReceivedMessage(queue=Queue.DEVICE_ORDERS, message_id="m1", body=body, received=NOW))
    items, _ = await subject.page(size=1, continuation=None)
    assert items[0].body == body.decode()


@pytest.mark.parametrize("given", ["zzz", "a\nb\nc"])
async def test_a_continuation_that_is_none_is_refused(given: str) -> None:
    """Whoever makes one up is told which is right, by the name of the parameter."""
    client: Any = SimpleNamespace(
        query_entities=lambda *_, **__: SimpleNamespace(by_page=lambda **_: pytest.fail("nothing is asked"))
    )
    with pytest.raises(Rejected) as refused:
        await Table(client).page("", {}, size=1, continuation=given)
    assert refused.value.documented() == (
        {
            "field": "continuationToken",
            "message": f"{given!r} is not a valid continuation; give the one of the previous page, unchanged",
        },
    )
