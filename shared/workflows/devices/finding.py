"""Finds devices: which partition of the directory answers a question, and what else is asked of its rows."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.domain.listing import (
    BY_EXPIRY,
    BY_ID,
    BY_REGISTRATION,
    BY_RENEWAL,
    authority_place,
    group_place,
    hub_place,
    order_place,
    state_place,
    tag_place,
    time_row,
)
from shared.domain.words import DeviceState
from shared.errors import Rejected
from shared.ledger.directory import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from shared.domain.listing import Listing

_VERBS = {"eq": operator.eq, "lt": operator.lt, "ge": operator.ge}
_AFTER_ID = "~"  # after every character of an id


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFilters:
    """Which devices are wanted: those that match all of it.

    Attributes:
        tag: name and value.
        id_prefix: how their ids begin.
        expires_before: in service, and their certificate ends before.
        registered_since: by their order, then or later.
        not_renewed_since: in service, with a certificate that began before.
    """

    group: str | None = None
    state: DeviceState | None = None
    hub: str | None = None
    issuer: str | None = None
    order: str | None = None
    tag: tuple[str, str] | None = None
    id_prefix: str | None = None
    expires_before: datetime | None = None
    registered_since: datetime | None = None
    not_renewed_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the directory.

    Attributes:
        partition: where the answer is.
        conditions: values by comparison, such as ``{"issuer eq": "line-1-ca1"}``.
    """

    partition: str
    conditions: Mapping[str, Any]

    def start(self, continuation: str | None) -> Start:
        """Tell where a page begins.

        Raises:
            Rejected: the continuation is of another list.
        """
        if continuation is None:
            return Start()
        partition, after, *within = continuation.split("\n", 2) if "\n" in continuation else ("", "")
        if partition != self.partition:
            raise Rejected.because(
                f"{continuation[:100]!r} is not a continuation of this list; give that of the page before, with the "
                "same filters",
                field="continuationToken",
            )
        return Start(after=after, within=within[0] if within else None)

    def continuation(self, start: Start | None) -> str | None:
        """Write where the next page begins."""
        if start is None:
            return None
        return "\n".join([self.partition, start.after, *([start.within] if start.within else [])])

    def corrected(
        self,
        rows: Sequence[Mapping[str, Any]],
        listings: Sequence[Listing],
        *,
        size: int,
        start: Start,
        following: Start | None,
    ) -> tuple[Sequence[Mapping[str, Any]], Start | None]:
        """Put into a page how devices are that were read themselves.

        Returns:
            At most so many rows, and where the next page begins.
        """
        read = {each.registration_id for each in listings}
        end = str(rows[-1]["RowKey"]) if rows else start.after
        kept = [row for row in rows if row["registrationId"] not in read]
        candidates = [
            {**each.columns, "RowKey": key}
            for each in listings
            for partition, key in ((BY_ID, each.registration_id), *each.places)
            if partition == self.partition and key > start.after and (following is None or key <= end)
        ]
        kept += [row for row in candidates if self._matches(row)]
        kept.sort(key=lambda row: str(row["RowKey"]))
        if len(kept) > size:
            return kept[:size], Start(after=str(kept[size - 1]["RowKey"]))
        return kept, following

    def _matches(self, row: Mapping[str, Any]) -> bool:
        for comparison, value in self.conditions.items():
            column, verb = comparison.split()
            if column not in row or not _VERBS[verb](row[column], value):
                return False
        return True


def question(filters: DeviceFilters) -> Question:
    """Give the partition that answers a question, the one with the fewest rows to leave out, and the conditions.

    Few devices have an order or a tag; most are registered, so that state comes last.
    """
    partition, served = next(_partitions(filters))
    conditions: dict[str, Any] = {}
    by_time = partition in {BY_EXPIRY, BY_REGISTRATION, BY_RENEWAL}
    if filters.id_prefix:
        key = "registrationId" if by_time else "RowKey"
        conditions |= {f"{key} ge": filters.id_prefix, f"{key} lt": f"{filters.id_prefix}{_AFTER_ID}"}
    exact = {
        "enrollmentGroup": filters.group,
        "shownState": filters.state and filters.state.value,
        "assignedHub": filters.hub,
        "issuer": filters.issuer,
        "orderId": filters.order,
    }
    conditions |= {f"{name} eq": value for name, value in exact.items() if value is not None and name != served}
    return Question(partition=partition, conditions=conditions | dict(_times(filters, partition)))


def _partitions(filters: DeviceFilters) -> Iterator[tuple[str, str]]:
    """Give the partitions that could answer, the best first, each with the column that needs no condition there."""
    rare = filters.state is not DeviceState.REGISTERED
    state = (filters.state, state_place, "shownState")
    by_value: tuple[tuple[Any, Callable[[Any], str], str], ...] = (
        (filters.tag, lambda tag: tag_place(*tag), ""),
        (filters.order, order_place, "orderId"),
        (filters.id_prefix, lambda _: BY_ID, ""),
        *([state] if rare else []),
        (filters.expires_before, lambda _: BY_EXPIRY, ""),
        (filters.registered_since, lambda _: BY_REGISTRATION, ""),
        (filters.not_renewed_since, lambda _: BY_RENEWAL, ""),
        (filters.issuer, authority_place, "issuer"),
        (filters.group, group_place, "enrollmentGroup"),
        (filters.hub, hub_place, "assignedHub"),
        state,
    )
    yield from ((place(value), served) for value, place, served in by_value if value)
    yield BY_ID, ""


def _times(filters: DeviceFilters, partition: str) -> Iterator[tuple[str, Any]]:
    """Give the conditions on times: on the rows of the partition that is ordered by them, else on their columns."""
    for each, at, comparison, column in (
        (BY_EXPIRY, filters.expires_before, "lt", "expiresAt"),
        (BY_REGISTRATION, filters.registered_since, "ge", "registeredAt"),
        (BY_RENEWAL, filters.not_renewed_since, "lt", "renewedAt"),
    ):
        if at is None:
            continue
        if each == partition:
            yield f"RowKey {comparison}", time_row(at)
        else:
            yield f"{column} {comparison}", at
            if each != BY_REGISTRATION:
                yield "inService eq", True
