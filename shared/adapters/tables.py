"""The tables of a storage account, by managed identity.

"Did it exist, had it changed?" is answered with a value, since that is an expected outcome here: every write is
create-if-absent or guarded by an ETag.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import TableEntity, TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import translated
from shared.errors import Rejected
from shared.ports.rows import Delete, Insert, Merge, Put, Replace
from shared.rules.table_keys import can_be_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from azure.core.credentials_async import AsyncTokenCredential

    from shared.ports.rows import Step


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as read, with the ETag that guards its replacement."""

    values: Mapping[str, Any]
    etag: str


def _entity(entity: TableEntity) -> StoredRow:
    return StoredRow(entity, entity.metadata["etag"] or "")


_OTHER_STATE = frozenset({HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.NOT_FOUND})


def _operation(step: Step) -> Any:
    values = dict(step.values)
    match step:
        case Insert():
            return ("create", values)
        case Replace():
            guard = {"mode": UpdateMode.REPLACE, "etag": step.etag, "match_condition": MatchConditions.IfNotModified}
            return ("update", values, guard)
        case Merge():
            return ("update", values, {"mode": UpdateMode.MERGE})
        case Put():
            return ("upsert", values, {"mode": UpdateMode.REPLACE})
        case Delete():
            return ("delete", values)


class Table:
    """One table."""

    def __init__(self, client: TableClient) -> None:
        self._client = client

    async def get(self, partition: str, row: str) -> StoredRow | None:
        """Read one row, ``None`` if it does not exist, or none can have its key."""
        if not (can_be_key(partition) and can_be_key(row)):
            return None
        try:
            entity = await self._client.get_entity(partition, row)
        except ResourceNotFoundError:
            return None
        return _entity(entity)

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        """Create a row and give its ETag; ``None`` if it exists."""
        try:
            created = await self._client.create_entity(dict(values))
        except ResourceExistsError:
            return None
        return str(created["etag"])

    async def insert_together(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Create up to 100 rows of one partition, all or none; ``False`` if one exists."""
        try:
            await self._client.submit_transaction([("create", dict(values)) for values in rows])
        except TableTransactionError as error:
            if error.status_code == HTTPStatus.CONFLICT:
                return False
            raise
        except ResourceExistsError:
            return False
        return True

    async def write_together(self, steps: Sequence[Step]) -> list[str] | None:
        """Write up to 100 rows of one partition, all or none, and give their ETags.

        Returns:
            ``None`` if a row to be inserted exists, or one to be replaced, merged or deleted has changed or gone.
        """
        try:
            written = await self._client.submit_transaction([_operation(step) for step in steps])
        except TableTransactionError as error:
            if error.status_code in _OTHER_STATE:
                return None
            raise
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            return None
        return [str(each.get("etag") or "") for each in written]

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        """Replace a row as it was read and give its new ETag; ``None`` if it has changed or gone since."""
        try:
            updated = await self._client.update_entity(
                dict(values), mode=UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
            )
        except (ResourceModifiedError, ResourceNotFoundError):
            return None
        return str(updated["etag"])

    async def put(self, values: Mapping[str, Any]) -> None:
        """Create or replace a row that has one writer, or whose writers all write the same."""
        await self._client.upsert_entity(dict(values), mode=UpdateMode.REPLACE)

    async def delete(self, partition: str, row: str) -> None:
        """Delete a row, if it exists."""
        await self._client.delete_entity(partition, row)

    async def delete_unchanged(self, partition: str, row: str, etag: str) -> bool:
        """Delete a row as it was read; ``False`` if it has changed since. One that is gone is deleted."""
        try:
            await self._client.delete_entity(partition, row, etag=etag, match_condition=MatchConditions.IfNotModified)
        except ResourceModifiedError:
            return False
        return True

    async def query(
        self, condition: str, parameters: Mapping[str, Any], *, select: Iterable[str] | None = None
    ) -> AsyncIterator[StoredRow]:
        """List rows in the order of their keys.

        Args:
            condition: OData filter in which ``@name`` stands for a parameter; empty for all rows.
            parameters: values by name.
            select: columns to read; all if ``None``.
        """
        columns = list(select) if select is not None else None
        async for entity in self._client.query_entities(condition, parameters=dict(parameters), select=columns):
            yield _entity(entity)

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[list[StoredRow], str | None]:
        """List one page.

        Returns:
            At most ``size`` rows, and what to pass as ``continuation`` for the next page, ``None`` after the last.

        Raises:
            Rejected: the continuation is not one of this table's.
        """
        begin: Any = _position(continuation) if continuation else None
        pages: Any = self._client.query_entities(condition, parameters=dict(parameters), results_per_page=size).by_page(
            continuation_token=begin
        )
        with translated("continuationToken"):
            async for found in pages:
                entities = [_entity(entity) async for entity in found]
                following = pages.continuation_token
                if not following or not following.get("PartitionKey"):
                    return entities, None
                return entities, f"{following['PartitionKey']}\n{following.get('RowKey') or ''}"
        return [], None


def _position(continuation: str) -> dict[str, str]:
    """Read where a page begins, as the page before said."""
    partition, found, row = continuation.partition("\n")
    if not found or "\n" in row:
        raise Rejected.because(
            f"{continuation[:100]!r} is not a valid continuation; give the one of the previous page, unchanged",
            field="continuationToken",
        )
    return {"PartitionKey": partition, "RowKey": row}


class Tables:
    """The account's tables."""

    def __init__(self, url: str, credential: AsyncTokenCredential) -> None:
        self._service = TableServiceClient(
            url, credential=credential, transport=ObservedTransport("tables", "table storage")
        )

    def table(self, name: str) -> Table:
        """Give access to one table."""
        return Table(self._service.get_table_client(name))

    async def create(self, name: str) -> None:
        """Create a table unless it exists."""
        await self._service.create_table_if_not_exists(name)

    async def check(self, *names: str) -> None:
        """Raise unless the service answers, has these tables, and lets this identity read them."""
        await asyncio.gather(*(self._check(name) for name in names))

    async def _check(self, name: str) -> None:
        async for _ in self.table(name).query("PartitionKey eq @none", {"none": "readiness-check"}):
            return

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()
