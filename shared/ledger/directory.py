"""The directory: what lists show of devices, in a partition for each question.

A row has everything that a list shows, so that a page of a list is a page of a partition. Each partition has a guard: a
row that is replaced in every transaction on it. So what is written to a partition was read after everything that was
written there before, or is not written at all, whoever keeps the directory and however late.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from itertools import batched
from typing import TYPE_CHECKING, Any

from shared.domain.listing import BY_ID, BY_THUMBPRINT, group_place, is_group_place, revocable_in
from shared.ledger.table import TRANSACTION_LIMIT, Stale
from shared.ports.rows import Delete, Insert, Put, Replace

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from shared.domain.listing import Listing, Place
    from shared.ports.rows import Row, Step, Table

_GUARD = "!"
_FILLED = ("!filled2", "!")
"""Says how far the devices are noted that were there before the directory; a number for each change of its rows."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a page of a partition begins.

    Attributes:
        after: the key behind which it begins.
        within: what the table said when it was read up to a place where no row matched.
    """

    after: str = _GUARD
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the directory has of a device, by its row under its id.

    Attributes:
        columns: of the row.
        places: where else it may have rows.
        etag: of the row.
    """

    columns: Mapping[str, Any]
    places: frozenset[Place]
    etag: str

    @property
    def is_pending(self) -> bool:
        """Whether its other rows may not be as this one is."""
        return bool(self.columns.get("pending"))

    @property
    def state(self) -> str:
        """The state that it shows."""
        return str(self.columns["shownState"])

    @property
    def month(self) -> str | None:
        """The month in which its certificate expires."""
        return self.columns.get("month")

    @property
    def revocable_in(self) -> str | None:
        """The hub that it is in, or ``""``, if the revocation of its group is about it."""
        return revocable_in(self.columns)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many devices there are.

    Attributes:
        states: by the state that they show.
        months: by the month in which their certificate expires, as ``2027-05``.
        revocable: those that a revocation of them all is about, by the hub that they are in; ``""`` for none.
    """

    states: Counter[str]
    months: Counter[str]
    revocable: Counter[str]


class Directory:
    """The table of the directory, as it is read."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def page(
        self, partition: str, conditions: Mapping[str, Any], *, size: int, start: Start, reads: int
    ) -> tuple[list[Mapping[str, Any]], Start | None]:
        """List a page of a partition's rows.

        Args:
            partition: the question.
            conditions: values by comparison, such as ``{"issuer eq": "line-1-ca1"}``.
            size: rows at most.
            start: where it begins.
            reads: how often the table is read at most. A page ends then, even if it is empty.

        Returns:
            The rows, and where the next page begins; ``None`` after the last.
        """
        given = {f"p{index}": value for index, value in enumerate(conditions.values())}
        terms = [f"{comparison} @{name}" for comparison, name in zip(conditions, given, strict=True)]
        condition = " and ".join(("PartitionKey eq @partition", "RowKey gt @after", *terms))
        parameters = {"partition": partition, "after": start.after, **given}
        rows: list[Mapping[str, Any]] = []
        following = start.within
        for _ in range(reads):
            found, following = await self._table.page(
                condition, parameters, size=size - len(rows), continuation=following
            )
            rows += [row.values for row in found]
            if following is None:
                return rows, None
            if len(rows) >= size:
                return rows, Start(after=str(rows[-1]["RowKey"]))
        return rows, Start(after=start.after, within=following)

    async def by_thumbprint(self, thumbprint: str) -> str | None:
        """Find the device that has, or had, a certificate with a thumbprint: SHA-1 or SHA-256, in upper case."""
        row = await self._table.get(BY_THUMBPRINT, thumbprint)
        return str(row.values["registrationId"]) if row else None

    async def counts(self, group: str | None = None) -> Counts:
        """Count the devices, or those of a group, by one row."""
        guard = await self._table.get(group_place(group) if group else BY_ID, _GUARD)
        return _counts(guard)


class Projection:
    """The directory as its keeper writes it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._guards: dict[str, Row] = {}

    async def guard(self, partitions: Iterable[str]) -> bool:
        """Get the guards of partitions; ``False`` if what was read before is to be read anew.

        That is so if a guard was there and not known. Where there was none, nothing was ever written.
        """
        unknown = [each for each in dict.fromkeys(partitions) if each not in self._guards]
        all_new = True
        for partition in unknown:
            values = {"PartitionKey": partition, "RowKey": _GUARD}
            etag = await self._table.insert(values)
            found = _Guard(values, etag) if etag else await self._table.get(partition, _GUARD)
            if found is None:
                raise Stale(partition)
            self._guards[partition] = found
            all_new = all_new and etag is not None
        return all_new

    async def kept(self, registration_id: str) -> Kept | None:
        """Read what is kept of a device."""
        row = await self._table.get(BY_ID, registration_id)
        if row is None:
            return None
        places = frozenset((partition, key) for partition, key in json.loads(str(row.values["places"])))
        return Kept(row.values, places, row.etag)

    async def exists(self, place: Place) -> bool:
        """Tell whether a row is there."""
        return await self._table.get(*place) is not None

    async def enter(self, listings: Sequence[tuple[Listing, Kept | None]]) -> None:
        """Write the rows of devices under their ids, which name the places that they have and those that they had.

        The guard is written even for none: so whoever has read before can't write any more.

        Raises:
            Stale: somebody else was here; nothing of what was read counts any more.
        """
        for some in _parts(listings) if listings else [()]:
            counts = _counts(self._guards[BY_ID])
            steps: list[Step] = []
            for listing, kept in some:
                places = listing.places | (kept.places if kept else frozenset())
                values = {**_main_row(listing, places), "pending": True}
                steps.append(Replace(values, kept.etag) if kept else Insert(values))
                _count(counts, listing, kept)
            await self._write(BY_ID, steps, _columns_of(counts))

    async def settle(self, listings: Sequence[Listing]) -> None:
        """Say of devices that they have their rows, and none but those.

        Raises:
            Stale: somebody else was here.
        """
        for some in _parts(listings):
            steps = [Put(_main_row(listing, listing.places)) for listing in some]
            await self._write(BY_ID, steps, _carried(self._guards[BY_ID]))

    async def write(
        self, partition: str, listings: Mapping[str, Listing], gone: Iterable[str], *, new: Container[str] = ()
    ) -> None:
        """Write rows of a partition, by their keys, and delete others that are there; in any case write its guard.

        The guard of a group's partition counts its devices. What is counted anew is what is there, since the row of a
        device's id may be ahead of it.

        Args:
            partition: of the rows.
            listings: of the devices that are to have a row there, by its key.
            gone: keys of rows that are to go.
            new: ids of devices that had no row under their id, and so have none anywhere.

        Raises:
            Stale: somebody else was here.
        """
        steps: list[Step] = [
            Put({"PartitionKey": partition, "RowKey": key, **listing.columns, **_month(listing)})
            for key, listing in listings.items()
        ]
        steps += [Delete({"PartitionKey": partition, "RowKey": key}) for key in gone]
        is_counted = is_group_place(partition)
        for some in _parts(steps) if steps else [steps]:
            columns = await self._counted(partition, some, new) if is_counted else {}
            await self._write(partition, some, columns)

    async def _counted(self, partition: str, steps: Sequence[Step], new: Container[str]) -> dict[str, Any]:
        """Give the counts of a partition as they are after some steps; who else writes there makes them stale."""
        counts = _counts(self._guards[partition])
        keys = [str(step.values["RowKey"]) for step in steps]
        for row in await asyncio.gather(*(self._table.get(partition, key) for key in keys if key not in new)):
            if row is not None:
                _count_row(counts, row.values, -1)
        for step in steps:
            if isinstance(step, Put):
                _count_row(counts, step.values, 1)
        return _columns_of(counts)

    async def name(self, thumbprints: Mapping[str, str]) -> None:
        """Enter whose certificates some thumbprints are. That is so for ever, so it needs no guard."""
        rows = [
            Put({"PartitionKey": BY_THUMBPRINT, "RowKey": thumbprint, "registrationId": registration_id})
            for thumbprint, registration_id in thumbprints.items()
        ]
        for some in _parts(rows):
            _ = await self._table.write_together(some)  # a put meets no state that could refuse it

    async def filled(self) -> str | None:
        """Tell from where on devices may be missing that were there before the directory; ``None`` if none are."""
        row = await self._table.get(*_FILLED)
        return str(row.values.get("continuation") or "") or None if row else ""

    async def fill(self, continuation: str | None) -> None:
        """Remember how far the devices that were there before have been noted; ``None`` when all are."""
        partition, key = _FILLED
        await self._table.put({"PartitionKey": partition, "RowKey": key, "continuation": continuation})

    async def _write(self, partition: str, steps: Sequence[Step], columns: Mapping[str, Any]) -> None:
        guard = self._guards.pop(partition)  # whatever becomes of this, the guard is another one then
        values = {"PartitionKey": partition, "RowKey": _GUARD, **columns}
        etags = await self._table.write_together([Replace(values, guard.etag), *steps])
        if etags is None:
            raise Stale(partition)
        self._guards[partition] = _Guard(values, etags[0])


@dataclass(frozen=True, slots=True)
class _Guard:
    values: Mapping[str, Any]
    etag: str


def _parts[T](items: Sequence[T]) -> Iterable[Sequence[T]]:
    """Cut what is written into transactions, with room for the guard."""
    return batched(items, TRANSACTION_LIMIT - 1, strict=False)


def _main_row(listing: Listing, places: frozenset[Place]) -> dict[str, Any]:
    return {
        "PartitionKey": BY_ID,
        "RowKey": listing.registration_id,
        **listing.columns,
        "places": json.dumps(sorted(places), separators=(",", ":")),
        **_month(listing),
    }


def _month(listing: Listing) -> dict[str, Any]:
    return {"month": listing.month} if listing.month else {}


_COUNTED = ("states", "months", "revocable")


def _columns_of(counts: Counts) -> dict[str, Any]:
    return {name: json.dumps(+getattr(counts, name)) for name in _COUNTED}


def _count_row(counts: Counts, columns: Mapping[str, Any], by: int) -> None:
    counts.states[str(columns["shownState"])] += by
    if columns.get("month"):
        counts.months[str(columns["month"])] += by
    if (hub := revocable_in(columns)) is not None:
        counts.revocable[hub] += by


def _counts(guard: Row | None) -> Counts:
    return Counts(*(Counter(json.loads(str(guard.values.get(name) or "{}") if guard else "{}")) for name in _COUNTED))


def _carried(guard: Row) -> dict[str, Any]:
    return {name: guard.values[name] for name in _COUNTED if name in guard.values}


def _count(counts: Counts, listing: Listing, kept: Kept | None) -> None:
    for each, by in ((listing, 1), (kept, -1)):
        if each is not None:
            counts.states[each.state] += by
            if each.month:
                counts.months[each.month] += by
            if each.revocable_in is not None:
                counts.revocable[each.revocable_in] += by
