"""What happened to a device, as its record keeps it: when, why, and who asked for it."""

from __future__ import annotations

from datetime import datetime

from shared.domain.callers import Actor
from shared.domain.record import Part
from shared.domain.words import DeviceState

HISTORY_LIMIT = 60  # entries kept: the whole life of a device that renews yearly
HISTORY_SIZE = 31_000  # characters of the history in its column: at least 30 entries, and all 60 of usual ones
ALWAYS_FIT = 25  # entries of which each has a name, an id and a comment as long as they may be
NOTE_LIMIT = 200  # characters of an entry of the history


class HistoryEntry(Part):
    """One change of a device's state.

    Attributes:
        actor: who asked for it; ``None`` where the app went on by itself.
        comment: what they said to it.
    """

    at: datetime
    state: DeviceState
    note: str = ""
    actor: Actor | None = None
    comment: str | None = None


type History = tuple[HistoryEntry, ...]


def with_entry(history: History, at: datetime, state: DeviceState, note: str) -> History:
    """Add an entry; the oldest go."""
    cut = note if len(note) <= NOTE_LIMIT else f"{note[: NOTE_LIMIT - 3]}..."
    return (*history, HistoryEntry(at=at, state=state, note=cut))[-HISTORY_LIMIT:]


def asked_by(history: History, known: History, actor: Actor, comment: str | None) -> History:
    """Say of the entries that were not known before who asked for them; the oldest go where all do not fit."""
    said = {"actor": actor, "comment": comment[:NOTE_LIMIT] if comment else None}
    entries = tuple(each if each.actor or each in known else each.model_copy(update=said) for each in history)
    if len(entries) <= ALWAYS_FIT:
        return entries
    sizes = [len(each.model_dump_json(by_alias=True, exclude_none=True)) + 1 for each in entries]
    while sum(sizes) > HISTORY_SIZE:
        entries, sizes = entries[1:], sizes[1:]
    return entries
