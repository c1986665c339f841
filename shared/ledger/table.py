"""What the ledger needs of a table, and how its records become rows."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from shared.domain.record import Record

TRANSACTION_LIMIT = 100
"""Rows of one partition that one transaction may write (Azure Tables: entity group transactions)."""


TEXT_LIMIT = 32_768
"""Characters of one column's text (Azure Tables: a string is at most 64 KiB in UTF-16)."""

TRANSACTION_BYTES = 4 * 1024 * 1024
"""Bytes of what one transaction sends (Azure Tables: entity group transactions)."""


class Stale(Exception):
    """A row has changed since it was read."""


@dataclass(frozen=True, slots=True)
class Versioned[R: Record]:
    """A record as read, with the ETag that guards its replacement."""

    record: R
    etag: str


def versioned[R: Record](record: R, etag: str | None) -> Versioned[R] | None:
    """Give what a write made of a record; ``None`` when it did not take place."""
    return None if etag is None else Versioned(record, etag)


def keyed(partition: str, row: str, record: Record) -> dict[str, Any]:
    """Give a record as a row."""
    return {"PartitionKey": partition, "RowKey": row, **record.columns()}


def spread(key: str) -> str:
    """Give the partition of a key: one of 256, by hash, so that none is hot."""
    return sha256(key.encode()).hexdigest()[:2]
