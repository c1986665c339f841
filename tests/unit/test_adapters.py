"""What the SDKs raise becomes one of the app's own errors, or a value where the outcome was to be expected."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.data.tables import TableTransactionError

from shared.adapters.sdk_errors import translated
from shared.adapters.tables import Table
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Rejected
from shared.ports.rows import Insert, Merge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROW = {"PartitionKey": "p", "RowKey": "a"}


def response(status: int, headers: dict[str, str] | None = None) -> Any:
    return SimpleNamespace(status_code=status, reason="no", headers=headers or {}, text=lambda **_: "", content_type="")


def failed(status: int, **headers: str) -> HttpResponseError:
    return HttpResponseError(message="the service's words", response=response(status, headers))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (422, Rejected),
        (404, NotFound),
        (409, Conflict),
        (412, PreconditionFailed),
        (429, Deferred),
        (401, HttpResponseError),
        (403, HttpResponseError),
        (500, HttpResponseError),
    ],
)
def test_a_status_becomes_the_error_that_it_means(status: int, kind: type[Exception]) -> None:
    """What is wrong with the world stays what the SDK raised; the service's words are repeated with what they are about."""
    with pytest.raises(Exception, match="the service's words") as caught, translated("group 'line'"):
        raise failed(status)
    assert type(caught.value) is kind
    if kind is not HttpResponseError:
        assert str(caught.value) == "group 'line': the service's words"


@pytest.mark.parametrize(("said", "seconds"), [("7", 7), ("soon", 30), ("86400", 3600)])
def test_a_throttled_call_waits_as_long_as_the_service_says(said: str, seconds: int) -> None:
    """Half a minute where it does not say, and never longer than an hour."""
    with pytest.raises(Deferred) as caught, translated("x"):
        raise failed(429, **{"Retry-After": said})
    assert caught.value.retry_after == timedelta(seconds=seconds)


def refusing(status: int) -> Table:
    """Give a table that refuses each transaction; Azure does not name the code of some (``TableTransactionError``)."""

    async def submit_transaction(_: object) -> None:
        body = json.dumps({"odata.error": {"code": "X", "message": {"value": "0:no"}}})
        raise TableTransactionError(message=body, response=response(status))

    client: Any = SimpleNamespace(submit_transaction=submit_transaction)
    return Table(client)


async def test_rows_of_which_one_exists_are_not_inserted() -> None:
    """That is an answer; anything else that goes wrong is a failure."""
    assert await refusing(409).insert_together([ROW]) is False
    with pytest.raises(TableTransactionError):
        await refusing(503).insert_together([ROW])


@pytest.mark.parametrize("status", [404, 409, 412])
async def test_a_transaction_that_met_another_state_says_so(status: int) -> None:
    """A row that was to be new, or unchanged, or there."""
    assert await refusing(status).write_together([Insert(ROW)]) is None


async def test_a_transaction_that_the_service_could_not_carry_out_fails() -> None:
    """It is tried again, and its effect is looked for then."""
    with pytest.raises(TableTransactionError):
        await refusing(500).write_together([Merge(ROW)])


async def test_a_query_without_an_answer_is_an_empty_last_page() -> None:
    """The SDK gives no page at all then."""

    async def no_pages() -> AsyncIterator[object]:
        pages: tuple[object, ...] = ()
        for page in pages:
            yield page

    client: Any = SimpleNamespace(query_entities=lambda *_, **__: SimpleNamespace(by_page=lambda **_: no_pages()))
    assert await Table(client).page("", {}, size=10, continuation=None) == ([], None)
