"""How many device ids one query of an IoT hub names: so that whoever asks knows beforehand what it will cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHARACTERS, DEVICES = 8000, 1000
"""Of the ids in one query, and ids: its results fit one page. Microsoft's pages give no limit for either."""


def characters(device_id: str) -> int:
    """Give the room that an id takes in a query, with its quotes and the comma behind it."""
    return len(json.dumps(device_id)) + 2


def queried(device_ids: Sequence[str]) -> Iterator[list[str]]:
    """Divide ids into batches that a query takes."""
    batch, length = list[str](), 0
    for device_id in device_ids:
        room = characters(device_id)
        if batch and (length + room > CHARACTERS or len(batch) == DEVICES):
            yield batch
            batch, length = [], 0
        batch.append(device_id)
        length += room
    if batch:
        yield batch
