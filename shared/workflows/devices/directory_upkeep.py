"""Keeps the directory: brings what lists show to what the device records say, by the notes of what has changed.

A note goes when its device is in the directory as it is at rest. Rows are written in batches. Whoever else keeps the
directory at the same time is noticed by the guards of the partitions, and then everything is read anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import batched
from typing import TYPE_CHECKING

from shared.domain.listing import BY_ID, NOTE_STAYS, listing_of, under_way
from shared.ledger.table import Stale

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from shared.domain.devices import DeviceRecord
    from shared.domain.listing import Listing, Place
    from shared.ledger.changes import ChangeNote, ChangeNotes
    from shared.ledger.devices import Devices
    from shared.ledger.directory import Kept, Projection
    from shared.ledger.table import Versioned
    from shared.workflows.intake.outbox import Clock

_BATCH = 90
_READ_AT_ONCE = 16
_ROUNDS, _LOOKS = 6, 3
_FRESH = timedelta(minutes=1)
_BREAK = timedelta(minutes=1)
_HALTED = timedelta(minutes=10)
_NEVER_MADE = timedelta(days=1)
_PACE = 20.0
"""Seconds between two runs after work, while there is more of it, or while somebody else keeps the directory.

A run for few devices costs most; and of two workers that keep it, one does so in vain.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A device as it was read."""

    known: Versioned[DeviceRecord]
    listing: Listing
    kept: Kept | None

    @property
    def is_new(self) -> bool:
        """Whether the directory does not say this of it yet."""
        if self.kept is None or self.kept.is_pending:
            return True
        return any(self.kept.columns.get(name) != value for name, value in self.listing.columns.items())

    @property
    def stale(self) -> frozenset[Place]:
        """Where it may have rows that it is not to have any more."""
        return self.kept.places - self.listing.places if self.kept else frozenset()


@dataclass(slots=True, kw_only=True)
class DirectoryUpkeep:
    """Keeps the directory."""

    devices: Devices
    changes: ChangeNotes
    projection: Projection
    clock: Clock
    timer: Callable[[], float] = time.monotonic
    _at_work: int = 0
    _ran: float = 0.0
    _left_to_others: bool = False
    _looked: dict[str, datetime] = field(default_factory=dict)
    _filled: bool = False
    _running: asyncio.Lock = field(default_factory=asyncio.Lock)
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READ_AT_ONCE))

    @contextmanager
    def work(self) -> Iterator[None]:
        """Do some work that may change devices."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    async def follow(self) -> None:
        """Keep the directory, if this worker has changed a device; while it has other work, every twenty seconds.

        Nobody waits for it: who keeps it looks once more when it is done, and what another worker is ahead with is left
        to it, and to the timer.
        """
        for _ in range(_LOOKS):
            if self._running.locked() or not self.changes.unread or not self._is_time():
                break
            self._ran = self.timer()
            await self.run(rounds=1)

    def _is_time(self) -> bool:
        return not (self._at_work or self._left_to_others) or self.timer() - self._ran >= _PACE

    async def run(self, *, rounds: int = _ROUNDS) -> int:
        """Bring the directory to what has changed, and give the number of devices that it was brought to.

        What is being worked on is left out, since it would be read twice. That are the devices that this worker works
        on. While it has work, so are those of which something was noted within twenty seconds: they may be elsewhere.

        Args:
            rounds: how often it begins anew when somebody else was here.
        """
        async with self._running:
            noted_before = self.clock() - (timedelta(seconds=_PACE) if self._at_work else timedelta())
            self.changes.unread = False
            if not self._filled:
                self._filled = await self._fill()
            notes: dict[str, list[ChangeNote]] = defaultdict(list)
            async for note in self.changes.all():
                notes[note.registration_id].append(note)
            self._looked = {each: at for each, at in self._looked.items() if each in notes}
            rested = [
                each
                for each, own in notes.items()
                if each not in self.changes.at_work and all(note.since <= noted_before for note in own)
            ]
            self.changes.unread |= len(rested) < len(notes)
            due = [each for each in rested if self._due(notes[each])]
            followed = [
                await self._follow({each: notes[each] for each in some}, rounds)
                for some in batched(due, _BATCH, strict=False)
            ]
            self._left_to_others = not all(followed)
            self.changes.unread |= self._left_to_others
            return len(due)

    def _due(self, notes: Sequence[ChangeNote]) -> bool:
        """Tell whether to look at a device. One that has been under way for long is looked at every minute."""
        now = self.clock()
        looked = self._looked.get(notes[0].registration_id)
        return looked is None or now - max(each.since for each in notes) < _FRESH or now - looked >= _BREAK

    async def _follow(self, notes: Mapping[str, Sequence[ChangeNote]], rounds: int) -> bool:
        """Bring the directory to some devices; ``False`` if somebody else was here each time."""
        for attempt in range(rounds):
            new = {each for each, own in notes.items() if attempt == 0 and self._is_made(own)}
            try:
                looks = await self._read(notes, new)
                done = self._done(notes, looks)
                changed = [look for look in looks.values() if look.is_new]
                if changed or done:
                    await self._project(changed)
            except Stale:
                continue  # somebody else keeps the directory: everything is read anew
            await self.changes.forget(done)
            await self._overtake(notes, looks)
            now = self.clock()
            self._looked |= dict.fromkeys(notes, now)
            return True
        return False

    def _done(self, notes: Mapping[str, Sequence[ChangeNote]], looks: Mapping[str, _Look]) -> list[ChangeNote]:
        """Give the notes that can go when the directory is as it was looked at."""
        done: list[ChangeNote] = []
        for registration_id, own in notes.items():
            look = looks.get(registration_id)
            if look is None:
                done += [each for each in own if self.clock() - each.since > _NEVER_MADE]
            elif not under_way(look.known.record, self.clock(), within=NOTE_STAYS):
                done += [each for each in own if each.answered(look.known.record)]
        return done

    async def _project(self, changed: Sequence[_Look]) -> None:
        """Bring the directory to devices as they were read.

        Where nothing has changed, or a row is gone already, the guard is written all the same. So whoever is late with
        what was so before is noticed there, or was here before and has been seen.

        Raises:
            Stale: somebody else was here.
        """
        stale = [place for look in changed for place in look.stale]
        there = await asyncio.gather(*map(self.projection.exists, stale))
        rows: dict[str, dict[str, Listing]] = defaultdict(dict)
        gone: dict[str, list[str]] = defaultdict(list)
        for look in changed:
            for partition, key in look.listing.places:
                rows[partition][key] = look.listing
        for (partition, key), exists in zip(stale, there, strict=True):
            gone[partition] += [key] if exists else []
        await self.projection.enter([(look.listing, look.kept) for look in changed])
        await self.projection.name(
            {each: look.listing.registration_id for look in changed for each in look.listing.thumbprints}
        )
        new = {look.listing.registration_id for look in changed if look.kept is None}
        for partition in sorted({*rows, *gone}):
            await self.projection.write(partition, rows[partition], gone[partition], new=new)
        await self.projection.settle([look.listing for look in changed])

    def _is_made(self, notes: Sequence[ChangeNote]) -> bool:
        """Tell whether the directory is not likely to have a device; where it has, that is seen when it is written."""
        return notes[0].registration_id not in self._looked and any(each.before is None for each in notes)

    async def _read(self, registration_ids: Iterable[str], new: Container[str]) -> dict[str, _Look]:
        """Read devices after the guards of all partitions that they are in, so that nothing older is written there."""
        await self.projection.guard([BY_ID])
        while True:
            looks = await asyncio.gather(*(self._look(each, is_new=each in new) for each in registration_ids))
            found = {look.listing.registration_id: look for look in looks if look is not None}
            partitions = {partition for look in found.values() for partition, _ in look.listing.places | look.stale}
            if await self.projection.guard(sorted(partitions)):
                return found

    async def _look(self, registration_id: str, *, is_new: bool) -> _Look | None:
        async with self._reading:
            known = await self.devices.get(registration_id)
            kept = None if is_new or known is None else await self.projection.kept(registration_id)
        return _Look(known=known, listing=listing_of(known.record), kept=kept) if known else None

    async def _overtake(self, notes: Mapping[str, Sequence[ChangeNote]], looks: Mapping[str, _Look]) -> None:
        """Write records anew, as they are: a change that was begun long ago can't come any more then."""
        now = self.clock()
        for registration_id, look in looks.items():
            waiting = [each for each in notes[registration_id] if not each.answered(look.known.record)]
            if any(now - each.since > _HALTED for each in waiting):
                with suppress(Stale):  # somebody else has written it
                    await self.devices.replace(look.known, look.known.record)

    async def _fill(self) -> bool:
        """Note the devices that were there before the directory was, a thousand at a time; ``True`` after the last."""
        filled = await self.projection.filled()
        if filled is None:
            return True
        records, following = await self.devices.page(enrollment_group=None, size=1000, continuation=filled or None)
        await self.changes.announce([each.registration_id for each in records], expected=False)
        await self.projection.fill(following)
        return following is None
