"""Tables, blobs and queues: what holds in memory holds in Azurite, and what holds in Azurite holds in memory."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import BadStatusLine
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from shared.adapters import blobs as azure_blobs
from shared.adapters import queues as azure_queues
from shared.adapters import tables as azure_tables
from shared.adapters.queue_accounts import QueueAccounts
from shared.errors import Rejected
from shared.ports.blobs import StoredBlob
from shared.ports.rows import Delete, Insert, Merge, Put, Replace
from tests.unit.fakes import FakeBlobs, FakeTable
from tests.world import storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from devstack.stack import Stack
    from shared.ports.blobs import Blobs
    from shared.ports.queues import Queues, TakenMessage
    from shared.ports.rows import Step, Table

PLACES = ("in memory", "unit tests", "Azurite")
"""The world of the tests, what its unit tests make of it, and Microsoft's emulator."""

LEASE = timedelta(minutes=5)


@dataclass
class Clock:
    """A clock that a test moves."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Account:
    """One storage account, with names of the test's own.

    Attributes:
        later: lets time go by. Azurite has no clock that a test could set, so there it is waited for.
    """

    table: Table
    blobs: Any
    queues: Queues
    container: str
    queue: str
    later: Callable[[timedelta], Awaitable[None]]


def in_memory(*, of_unit_tests: bool = False) -> Account:
    clock = Clock()

    async def later(time: timedelta) -> None:
        clock.now += time

    table: Table = FakeTable() if of_unit_tests else storage.Table()
    blobs: Blobs = FakeBlobs() if of_unit_tests else storage.Blobs()
    queues: Queues = storage.Queues(clock=clock)
    if of_unit_tests:
        accounts: dict[str, Any] = {"shared": storage.Queues(clock=clock), "own": {"work": queues}}
        queues = QueueAccounts(**accounts)
    return Account(table, blobs, queues, "bundles", "work", later)


@pytest.fixture(params=PLACES)
async def account(request: pytest.FixtureRequest) -> AsyncIterator[Account]:
    if request.param != "Azurite":
        yield in_memory(of_unit_tests=request.param == "unit tests")
        return
    async with AsyncExitStack() as stack:
        yield await in_azurite(request.getfixturevalue("cloud"), stack)


async def in_azurite(cloud: Stack, stack: AsyncExitStack) -> Account:
    connection, trusted = cloud.endpoints.storage_connection_string, cloud.endpoints.tls_ca_file
    name = f"t{uuid.uuid4().hex}"
    tables = await stack.enter_async_context(
        TableServiceClient.from_connection_string(connection, connection_verify=trusted)
    )
    table: Table = azure_tables.Table(await tables.create_table(name))
    credential: Any = "bm9uZQ=="  # takes its place: the service is another
    blob_service = BlobServiceClient.from_connection_string(connection, connection_verify=trusted)
    blobs = azure_blobs.Blobs("https://a.blob.core.windows.net", credential)
    await blobs.close()
    blobs._service = await stack.enter_async_context(blob_service)  # noqa: SLF001 - it trusts Azurite's certificate
    await blobs.create_container(name)
    queue_service = QueueServiceClient.from_connection_string(connection, connection_verify=trusted)
    queues = azure_queues.Queues("https://a.queue.core.windows.net", credential)
    await queues.close()
    queues._service = await stack.enter_async_context(queue_service)  # noqa: SLF001 - likewise
    await queues.create(name)
    other = f"{name}-other"
    await blobs.create_container(other)

    async def later(time: timedelta) -> None:
        await asyncio.sleep(time.total_seconds() + 0.1)

    return Account(table, blobs, QueueAccounts(shared=queues, own={}), name, name, later)


# --- tables ---


def row(key: str, partition: str = "p", **columns: Any) -> dict[str, Any]:
    return {"PartitionKey": partition, "RowKey": key, **columns}


async def found(table: Table, condition: str = "", parameters: Mapping[str, Any] | None = None) -> list[str]:
    return [
        f"{each.values['PartitionKey']}/{each.values['RowKey']}"
        async for each in table.query(condition, parameters or {})
    ]


async def test_a_row_is_created_once(account: Account) -> None:
    """The second one who creates it is told so, and changes nothing."""
    etag = await account.table.insert(row("a", one=1))
    assert etag
    assert await account.table.insert(row("a", one=2)) is None
    read = await account.table.get("p", "a")
    assert read is not None
    assert (read.values["one"], read.etag) == (1, etag)
    assert await account.table.get("p", "b") is None


@pytest.mark.parametrize("key", ["no/id", "no\\id", "Nobody's#1", "what?", "tab\there", "x" * 600])
async def test_no_row_has_a_key_that_none_can_have(account: Account, key: str) -> None:
    """What others wrote may be looked for as it is."""
    assert await account.table.get("one", key) is None
    assert await account.table.get(key, "one") is None


async def test_a_row_is_replaced_as_it_was_read(account: Account) -> None:
    """Each write gives another ETag; an outdated one writes nothing, and neither does one of a row that is gone."""
    first = await account.table.insert(row("a", one=1, two=2))
    assert first is not None
    second = await account.table.replace(row("a", one=11), first)
    assert second not in {None, first}
    assert await account.table.replace(row("a", one=12), first) is None
    read = await account.table.get("p", "a")
    assert read is not None
    assert ({name: value for name, value in read.values.items() if name not in {"PartitionKey", "RowKey"}}) == {
        "one": 11
    }
    await account.table.delete("p", "a")
    assert await account.table.replace(row("a", one=13), second or "") is None
    assert await account.table.get("p", "a") is None


async def test_a_row_is_put_whatever_is_there(account: Account) -> None:
    """It is created or replaced, and who had read it before has an outdated ETag."""
    await account.table.put(row("a", one=1, two=2))
    read = await account.table.get("p", "a")
    assert read is not None
    await account.table.put(row("a", one=2))
    again = await account.table.get("p", "a")
    assert again is not None
    assert "two" not in again.values
    assert await account.table.replace(row("a", one=3), read.etag) is None


async def test_a_row_is_deleted_as_it_was_read_or_however_it_is(account: Account) -> None:
    """What is gone is deleted."""
    etag = await account.table.insert(row("a"))
    assert etag is not None
    await account.table.put(row("a", one=1))
    assert not await account.table.delete_unchanged("p", "a", etag)
    read = await account.table.get("p", "a")
    assert read is not None
    assert await account.table.delete_unchanged("p", "a", read.etag)
    assert await account.table.delete_unchanged("p", "a", read.etag)
    await account.table.delete("p", "a")
    assert await account.table.get("p", "a") is None


async def test_values_come_back_as_they_were_written(account: Account) -> None:
    """Text, numbers, truth, bytes and times to the microsecond; what is empty is there, and what is None is not."""
    at = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
    await account.table.put(row("a", text="Äpfel", number=7, true=True, content=b"\0\1", at=at, empty="", none=None))
    read = await account.table.get("p", "a")
    assert read is not None
    assert dict(read.values) == row("a", text="Äpfel", number=7, true=True, content=b"\0\1", at=at, empty="")


async def test_rows_are_written_together_or_not_at_all(account: Account) -> None:
    """A new row, a replaced one and a merged one; if one is not as expected, the others are not written either."""
    first = await account.table.write_together([Insert(row("a", one=1, two=2)), Insert(row("b", one=1, two=2))])
    assert first is not None
    steps: list[Step] = [Replace(row("a", one=11), first[0]), Merge(row("b", one=11)), Insert(row("c", one=1))]
    second = await account.table.write_together(steps)
    assert second is not None
    unexpected: list[Step] = [
        Insert(row("a", one=9)),
        Replace(row("b", one=9), first[1]),
        Replace(row("z", one=9), first[1]),
        Merge(row("z", one=9)),
    ]
    for step in unexpected:
        assert await account.table.write_together([Insert(row("d")), step]) is None
        assert await account.table.write_together([step, Insert(row("d"))]) is None
    assert await found(account.table) == ["p/a", "p/b", "p/c"]
    merged = await account.table.get("p", "b")
    assert merged is not None
    assert (merged.values["one"], merged.values["two"], merged.etag) == (11, 2, second[1])


async def test_rows_are_inserted_together_or_not_at_all(account: Account) -> None:
    """One of them that exists keeps the others out."""
    assert await account.table.insert_together([row("a"), row("b")])
    assert not await account.table.insert_together([row("c"), row("b")])
    assert await found(account.table) == ["p/a", "p/b"]


@pytest.mark.parametrize("count", [100, 101])
async def test_a_transaction_takes_a_hundred_rows(account: Account, count: int) -> None:
    """One more, and none is written."""
    steps = [Insert(row(f"{index:03}")) for index in range(count)]
    if count == 100:
        assert len(await account.table.write_together(steps) or ()) == 100
    else:
        with pytest.raises((HttpResponseError, BadStatusLine)):  # the SDK can't read how Azurite says no
            await account.table.write_together(steps)
        assert await found(account.table) == []


async def test_a_transaction_puts_and_deletes(account: Account) -> None:
    """What is put need not exist; what is deleted must, or nothing is written."""
    await account.table.put(row("a", one=1))
    await account.table.put(row("b", one=1))
    written = await account.table.write_together([Put(row("a", two=2)), Put(row("c")), Delete(row("b"))])
    assert written is not None
    assert (bool(written[0]), bool(written[1]), written[2]) == (True, True, "")
    assert await found(account.table) == ["p/a", "p/c"]
    kept = await account.table.get("p", "a")
    assert kept is not None
    assert (kept.values.get("one"), kept.values["two"], kept.etag) == (None, 2, written[0])
    assert await account.table.write_together([Put(row("d")), Delete(row("b"))]) is None
    assert await found(account.table) == ["p/a", "p/c"]


async def test_a_transaction_has_one_partition_and_each_row_once(account: Account) -> None:
    """What has not is refused, and nothing is written."""
    with pytest.raises(ValueError, match="artition"):
        await account.table.write_together([Insert(row("a", "p")), Insert(row("a", "q"))])
    with pytest.raises(HttpResponseError):
        await account.table.write_together([Insert(row("a")), Insert(row("a"))])
    assert await found(account.table) == []


async def test_rows_are_found_by_what_they_have(account: Account) -> None:
    """In the order of their keys; a row without the column is not found, whatever the comparison."""
    for partition, key, columns in (
        ("b", "1", {"state": "on", "count": 1}),
        ("a", "2", {"state": "off", "count": 2}),
        ("a", "1", {"state": "on", "count": 3}),
        ("a", "10", {}),
    ):
        await account.table.put(row(key, partition, **columns))
    table = account.table
    assert await found(table) == ["a/1", "a/10", "a/2", "b/1"]
    assert await found(table, "PartitionKey eq @p", {"p": "a"}) == ["a/1", "a/10", "a/2"]
    assert await found(table, "state ne @s", {"s": "off"}) == ["a/1", "b/1"]
    assert await found(table, "count ge @low and count lt @high", {"low": 2, "high": 3}) == ["a/2"]
    assert await found(table, "count gt @low and state eq @s", {"low": 1, "s": "on"}) == ["a/1"]
    assert await found(table, "RowKey ge @first and RowKey le @last", {"first": "1", "last": "10"}) == [
        "a/1",
        "a/10",
        "b/1",
    ]


async def test_columns_can_be_chosen(account: Account) -> None:
    """The others do not come."""
    await account.table.put(row("a", one=1, two=2))
    [only] = [each.values async for each in account.table.query("", {}, select=["RowKey", "one", "three"])]
    assert {name: value for name, value in only.items() if value is not None} == {"RowKey": "a", "one": 1}


async def test_pages_follow_each_other(account: Account) -> None:
    """Each has so many rows at most, together they are all; and what comes in between ahead of them is found as well."""
    for index in range(7):
        await account.table.put(row(f"{index}", one=index % 2))
    pages, continuation = [], None
    while True:
        rows, continuation = await account.table.page("one eq @one", {"one": 0}, size=2, continuation=continuation)
        assert len(rows) <= 2
        pages += [each.values["RowKey"] for each in rows]
        if len(pages) == 2:
            await account.table.put(row("1", one=0))
            await account.table.put(row("9", one=0))
        if continuation is None:
            break
    assert pages == ["0", "2", "4", "6", "9"]


async def test_an_empty_table_has_one_empty_page(account: Account) -> None:
    """Nothing, and nothing to go on with."""
    rows, continuation = await account.table.page("", {}, size=10, continuation=None)
    assert (list(rows), continuation) == ([], None)


@pytest.mark.parametrize("continuation", ["nonsense", "a\nb\nc"])
async def test_a_continuation_that_is_not_one_is_refused(account: Account, continuation: str) -> None:
    """In the same words."""
    with pytest.raises(Rejected) as refused:
        await account.table.page("", {}, size=10, continuation=continuation)
    assert refused.value.documented() == (
        {
            "field": "continuationToken",
            "message": f"{continuation!r} is not a valid continuation; give the one of the previous page, unchanged",
        },
    )


# --- blobs ---


async def stored(account: Account, name: str, content: bytes = b"one") -> StoredBlob:
    await account.blobs.create(
        account.container, name, content, content_type="text/plain", metadata={"serialnumber": "1"}
    )
    blob: StoredBlob | None = await account.blobs.get(account.container, name)
    assert blob is not None
    return blob


async def test_a_blob_is_created_once(account: Account) -> None:
    """The second one who creates it is told so, and the first one's stays."""
    blob = await stored(account, "a")
    assert (blob.content, dict(blob.metadata)) == (b"one", {"serialnumber": "1"})
    again = await account.blobs.create(account.container, "a", b"two", content_type="text/plain", metadata={})
    assert again is False
    assert await account.blobs.get(account.container, "a") == blob
    assert await account.blobs.get(account.container, "b") is None
    assert await account.blobs.get(f"{account.container}-other", "a") is None


async def test_a_blob_is_exchanged_as_it_was_read_and_its_new_version_is_told(account: Account) -> None:
    """An empty ETag stands for one that does not exist. The ETag that is told guards the next exchange."""

    async def exchange(content: bytes, etag: str) -> str | None:
        blob = StoredBlob(content, {}, etag)
        told: str | None = await account.blobs.exchange(account.container, "e", blob, content_type="text/plain")
        return told

    assert await exchange(b"0", '"0x1"') is None, "it does not exist"
    first = await exchange(b"1", "")
    assert first
    assert await exchange(b"2", "") is None, "it exists"
    second = await exchange(b"2", first)
    assert second
    assert await exchange(b"3", first) is None, "it has changed"
    read = await account.blobs.get(account.container, "e")
    assert read is not None
    assert (read.content, read.etag) == (b"2", second)


async def test_a_blob_is_replaced_as_it_was_read(account: Account) -> None:
    """An outdated one is not written, and neither is one that is gone."""
    blob = await stored(account, "a")
    changed = StoredBlob(b"two", blob.metadata, blob.etag)
    assert await account.blobs.replace(account.container, "a", changed, content_type="text/plain")
    assert not await account.blobs.replace(account.container, "a", changed, content_type="text/plain")
    read = await account.blobs.get(account.container, "a")
    assert (read.content, dict(read.metadata)) == (b"two", {"serialnumber": "1"})
    assert read.etag != blob.etag
    await account.blobs.delete(account.container, "a")
    await account.blobs.delete(account.container, "a")
    assert not await account.blobs.replace(account.container, "a", read, content_type="text/plain")
    assert await account.blobs.get(account.container, "a") is None


async def test_a_blob_is_put_whatever_is_there(account: Account) -> None:
    """Its metadata goes, and who had read it before has an outdated ETag."""
    blob = await stored(account, "a")
    await account.blobs.put(account.container, "a", b"two", content_type="text/plain")
    assert not await account.blobs.replace(account.container, "a", blob, content_type="text/plain")
    read = await account.blobs.get(account.container, "a")
    assert (read.content, dict(read.metadata)) == (b"two", {})


async def test_a_blob_is_described_and_read_in_parts(account: Account) -> None:
    """As it was under one ETag, or not at all."""
    blob = await stored(account, "a", b"0123456789")
    described = await account.blobs.describe(account.container, "a")
    assert (described.size, dict(described.metadata), described.etag) == (10, {"serialnumber": "1"}, blob.etag)
    part = account.blobs.part
    assert await part(account.container, "a", etag=blob.etag, start=8, length=4) == b"89"
    await account.blobs.put(account.container, "a", b"0123456789", content_type="text/plain")
    assert await part(account.container, "a", etag=blob.etag, start=0, length=4) is None
    assert await part(account.container, "b", etag=blob.etag, start=0, length=4) is None
    assert await account.blobs.describe(account.container, "b") is None


async def test_names_of_blobs_are_listed_page_by_page(account: Account) -> None:
    for name in ("c", "a", "b/1"):
        await account.blobs.create(account.container, name, b"", content_type="text/plain", metadata={})
    page, continuation = await account.blobs.page_of_names(account.container, size=2, continuation=None)
    assert page == ["a", "b/1"]
    assert continuation
    assert await account.blobs.page_of_names(account.container, size=2, continuation=continuation) == (["c"], None)


async def test_blobs_are_listed_by_the_beginning_of_their_names(account: Account) -> None:
    """In order, and those of another container are others."""
    for name in ("b/2", "b/1", "a/1", "b"):
        await stored(account, name)
    assert await account.blobs.names(account.container, "b/") == ["b/1", "b/2"]
    assert await account.blobs.names(account.container, "") == ["a/1", "b", "b/1", "b/2"]
    assert await account.blobs.names(f"{account.container}-other", "") == []
    assert await account.blobs.get(f"{account.container}-other", "a/1") is None


async def test_a_blob_is_written_part_by_part_over_what_is_there(account: Account) -> None:
    """The parts come one after the other, and none of them has to be known before."""

    async def parts(count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            yield f"{number:07d}\n".encode() * 1000

    for count in (1200, 2, 0):  # the first is longer than a block of 4 MiB
        await account.blobs.write(account.container, "results.csv", parts(count), content_type="text/csv")
        stored = await account.blobs.get(account.container, "results.csv")
        assert stored is not None
        assert len(stored.content) == count * 8000
        assert stored.content.endswith(f"{count - 1:07d}\n".encode() if count else b"")


# --- queues ---


async def taken(account: Account, lease: timedelta = LEASE) -> list[TakenMessage]:
    return [message async for message in account.queues.take(account.queue, lease=lease)]


async def test_a_message_that_was_taken_is_hidden_until_it_is_deleted(account: Account) -> None:
    """It comes once, as it was sent but for base64, and the oldest comes first."""
    before = datetime.now(UTC) - timedelta(seconds=2)
    for text in ("one", "zwei Äpfel"):
        await account.queues.send(account.queue, text)
    messages = await taken(account)
    assert [each.content for each in messages] == [b"b25l", b"endlaSDDhHBmZWw="]
    assert all(before <= each.inserted <= datetime.now(UTC) + timedelta(seconds=2) for each in messages)
    assert len({each.message_id for each in messages}) == len({each.receipt for each in messages}) == 2
    assert await taken(account) == []
    for message in messages:
        await account.queues.delete(account.queue, message.message_id, message.receipt)
        await account.queues.delete(account.queue, message.message_id, message.receipt)
    assert await taken(account) == []


async def test_a_message_comes_again_when_its_lease_ends(account: Account) -> None:
    """With the same id and another receipt; the former receipt deletes it no more."""
    await account.queues.send(account.queue, "one")
    # Three seconds pass by in Azurite, which has no clock that could be set.
    [first] = await taken(account, timedelta(seconds=1))
    await account.later(timedelta(seconds=1))
    [second] = await taken(account)
    assert (second.message_id, second.inserted, second.content) == (first.message_id, first.inserted, first.content)
    assert second.receipt != first.receipt
    with pytest.raises(HttpResponseError):
        await account.queues.delete(account.queue, first.message_id, first.receipt)
    await account.queues.delete(account.queue, second.message_id, second.receipt)
    assert await taken(account) == []


async def test_a_message_may_be_sent_for_later(account: Account) -> None:
    """It is hidden for so many whole seconds, and others that come meanwhile overtake it."""
    await account.queues.send(account.queue, "later", delay=timedelta(seconds=1.9))
    await account.queues.send(account.queue, "now", delay=timedelta(seconds=0.9))
    assert [each.content for each in await taken(account)] == [b"bm93"]
    await account.later(timedelta(seconds=1))
    assert [each.content for each in await taken(account)] == [b"bGF0ZXI="]


async def test_the_front_of_what_is_visible_tells_since_when_it_waits(account: Account) -> None:
    """Nothing is taken by looking; what was taken is not visible."""
    before = datetime.now(UTC) - timedelta(seconds=2)
    assert await account.queues.waiting_since(account.queue) is None
    await account.queues.send(account.queue, "one")
    since = await account.queues.waiting_since(account.queue)
    assert since is not None
    assert before <= since <= datetime.now(UTC) + timedelta(seconds=2)
    [message] = await taken(account)
    assert message.inserted == since
    assert await account.queues.waiting_since(account.queue) is None
