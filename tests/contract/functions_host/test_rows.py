"""Rows written together, in real Azurite: all or none, and only if each is as it was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azure.data.tables.aio import TableServiceClient

from shared.adapters.tables import Table
from shared.ports.rows import Insert, Merge, Replace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from devstack.stack import Stack
    from shared.ports.rows import Step


@pytest.fixture
async def table(cloud: Stack) -> AsyncIterator[Table]:
    endpoints = cloud.endpoints
    service = TableServiceClient.from_connection_string(
        endpoints.storage_connection_string, connection_verify=endpoints.tls_ca_file
    )
    async with service:
        client = await service.create_table_if_not_exists("together")
        async with client:
            yield Table(client)
        await service.delete_table("together")


def row(key: str, **columns: Any) -> dict[str, Any]:
    return {"PartitionKey": "p", "RowKey": key, **columns}


async def contents(table: Table) -> dict[str, dict[str, Any]]:
    keys = {"PartitionKey", "RowKey"}
    return {
        each.values["RowKey"]: {name: value for name, value in each.values.items() if name not in keys}
        async for each in table.query("", {})
    }


async def test_rows_are_written_together_and_each_has_its_etag(table: Table) -> None:
    """A new row, a replaced one and a merged one: what a merge does not name stays, what a replacement does not goes."""
    first = await table.write_together([Insert(row("a", one=1, two=2)), Insert(row("b", one=1, two=2))])
    assert first is not None
    steps: list[Step] = [Replace(row("a", one=11), first[0]), Merge(row("b", one=11)), Insert(row("c", one=1))]
    second = await table.write_together(steps)
    assert second is not None
    assert await contents(table) == {"a": {"one": 11}, "b": {"one": 11, "two": 2}, "c": {"one": 1}}
    for key, etag in zip("abc", second, strict=True):
        read = await table.get("p", key)
        assert read is not None
        assert read.etag == etag, "what the transaction gave guards the next one"
    assert await table.write_together([Replace(row("a", one=12), second[0])]) is not None


@pytest.mark.parametrize("other", ["insert", "replace", "replace gone", "merge gone"])
async def test_if_one_row_is_not_as_expected_none_is_written(table: Table, other: str) -> None:
    """A row that exists, one that has changed, and one that is gone: nothing of the rest took place either."""
    first = await table.write_together([Insert(row("a", one=1)), Insert(row("b", one=1))])
    assert first is not None
    await table.put(row("b", one=2))
    steps: dict[str, Step] = {
        "insert": Insert(row("a", one=9)),
        "replace": Replace(row("b", one=9), first[1]),
        "replace gone": Replace(row("z", one=9), first[1]),
        "merge gone": Merge(row("z", one=9)),
    }
    assert await table.write_together([Insert(row("c", one=9)), steps[other]]) is None
    assert await table.write_together([steps[other]]) is None
    assert await contents(table) == {"a": {"one": 1}, "b": {"one": 2}}
