"""Writes of rows, of which several make a transaction (Azure Tables: entity group transactions)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Insert:
    """A row that must not exist yet."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replace:
    """A row that must be as it was read."""

    values: Mapping[str, Any]
    etag: str


@dataclass(frozen=True, slots=True)
class Merge:
    """Columns of a row that exists; the others stay."""

    values: Mapping[str, Any]


type Step = Insert | Replace | Merge
"""One write of a transaction."""
