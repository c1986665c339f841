"""Entries get into the log once each, in batches, whatever workers do at the same time and whatever breaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import ServiceRequestError
from tlog_scales.reader import TilesReader

from shared.domain.epochs import LogMark
from shared.errors import Deferred, LogDamaged
from shared.evidence.verify import Checkpoint, check_inclusion, leaf_hash
from shared.ports.blobs import StoredBlob
from shared.workflows.evidence.continuity import tree_of
from shared.workflows.evidence.storage import HEAD_NAME, LOG, LOG_HEAD
from tests.unit.evidence.stored import Place
from tests.world.conductor import Go
from tests.world.storage import Table

if TYPE_CHECKING:
    from tests.unit.evidence.stored import Worker


def entry(number: int) -> bytes:
    return b"entry %d" % number


async def append(worker: Worker, *numbers: int) -> list[int]:
    return list(await asyncio.gather(*(worker.sequencer.append(entry(each)) for each in numbers)))


async def test_an_entry_is_in_the_log_when_its_place_is_given() -> None:
    place = Place()
    worker = place.worker()
    assert await append(worker, 0) == [0]
    assert await append(worker, 1) == [1]
    assert await place.entries() == [entry(0), entry(1)]


async def test_what_comes_at_one_moment_goes_into_the_log_with_one_write() -> None:
    place = Place()
    worker = place.worker()
    assert await append(worker, *range(100)) == list(range(100))
    assert place.blobs.writes == 1


class Slow(Place):
    """The first write takes as long as the test lets it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.go_on = asyncio.Event()
        place, kept = self, self.blobs.exchange

        async def exchange(container: str, name: str, blob: StoredBlob, *, content_type: str) -> str | None:
            await place.go_on.wait()
            return await kept(container, name, blob, content_type=content_type)

        self.blobs.exchange = exchange  # type: ignore[method-assign]


async def test_what_comes_while_a_write_is_under_way_goes_into_the_log_with_the_next_one() -> None:
    place = Slow()
    worker = place.worker()
    first = asyncio.create_task(worker.sequencer.append(entry(0)))
    for _ in range(10):
        await asyncio.sleep(0)
    others = asyncio.gather(*(worker.sequencer.append(entry(each)) for each in range(1, 60)))
    for _ in range(10):
        await asyncio.sleep(0)
    place.go_on.set()
    assert await first == 0
    assert await others == list(range(1, 60))
    assert place.blobs.writes == 2


async def test_tiles_are_written_once_when_they_are_full_and_the_next_batch_comes() -> None:
    place = Place()
    worker = place.worker()
    await append(worker, *range(256))
    assert place.tiles() == []
    await append(worker, 256)
    assert place.tiles() == ["tile/0/000", "tile/entries/000"]
    await append(worker, *range(257, 700))
    await append(worker, 700)
    assert place.tiles() == ["tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"]
    assert await place.entries() == [entry(each) for each in range(701)]


PATHS = [
    *(f"tile/{level}/{number:03d}" for level in ("0", "entries") for number in range(39)),
    *("tile/0/039.p/16", "tile/entries/039.p/16", "tile/1/000.p/39"),
]
"""All tiles of a log with 10,000 entries."""


@dataclass(frozen=True)
class Tiles:
    """Tiles by their paths, as another implementation asks for them."""

    tiles: dict[str, bytes]

    def get(self, *path: str) -> bytes | None:
        return self.tiles["/".join(path)]


async def test_two_workers_log_10000_leaves_at_once_without_a_fork() -> None:
    """Each of them in crowds of 100, of which one goes on while the others wait: every leaf once, at the place it was told."""
    place = Place()
    workers = [place.worker(), place.worker()]
    places = dict[int, int]()

    async def crowd(worker: Worker, start: int) -> None:
        for first in range(start, start + 500, 10):
            numbers = range(first, first + 10)
            places.update(zip(await append(worker, *numbers), numbers, strict=True))

    await asyncio.gather(*(crowd(workers[number % 2], number * 500) for number in range(20)))
    found = await place.entries()
    assert sorted(places) == list(range(10_000))
    assert [entry(places[at]) for at in range(10_000)] == found
    record = await workers[0].signer.publish()
    checkpoint = Checkpoint.opened(record.note.encode(), await place.keys())
    assert checkpoint.tree == (await place.head()).tree
    random = Random(10_000)  # noqa: S311 - the same each time
    for index in random.sample(range(10_000), 50):
        proof = await workers[1].reader.proof(index)
        check_inclusion(leaf_hash(found[index]), index, proof.path, checkpoint.tree)
    assert place.blobs.writes < 10_000 / 4
    other = TilesReader(Tiles({path: await workers[0].reader.tile(path) for path in PATHS}))
    other.set_size(10_000)
    assert other.calculate_root_hash() == checkpoint.tree.root, "another implementation makes the same of the tiles"
    for index in random.sample(range(10_000), 100):
        assert other.get_entry(index) == found[index]
        other.get_inclusion_proof(index, 10_000).check(leaf_hash(found[index]), checkpoint.tree.root)


async def test_a_worker_that_others_overtake_goes_slower_and_gets_its_entry_in() -> None:
    place = Place()
    workers = [place.worker() for _ in range(5)]
    for turn in range(4):
        found = await asyncio.gather(*(append(worker, 10 * turn + at) for at, worker in enumerate(workers)))
        assert sorted(each for (each,) in found) == list(range(5 * turn, 5 * turn + 5))
    assert len(set(await place.entries())) == 20


async def test_a_worker_leaves_time_to_the_others_that_write_and_takes_it_back_when_they_stop() -> None:
    """It waits a tenth of a second between its own batches; among ten, ten times eight hundredths."""
    place = Place()
    mine, *others = (place.worker() for _ in range(10))

    async def waited(number: int) -> float:
        before = place.pauses
        await append(mine, number)
        return place.pauses - before

    await append(mine, 0)
    assert await waited(1) == pytest.approx(0.1)
    for turn in range(1, 9):
        for at, each in enumerate(others):
            each.sequencer._known = None  # noqa: SLF001 - it has just read what the one before wrote
            await append(each, 100 * turn + at)
        mine.sequencer._known = None  # noqa: SLF001
        among = await waited(100 * turn + 50)
    assert among == pytest.approx(0.8, abs=0.02)
    for number in range(2000, 2010):
        alone = await waited(number)
    assert alone == pytest.approx(0.1, abs=0.01)


async def test_a_service_that_is_down_fails_all_who_wait_and_nothing_is_half_done() -> None:
    place = Place()
    worker = place.worker()
    await append(worker, 0)
    place.conductor.down.add("blobs")
    failed = await asyncio.gather(
        *(worker.sequencer.append(entry(each)) for each in range(1, 4)), return_exceptions=True
    )
    assert [type(each) for each in failed] == [ServiceRequestError] * 3
    place.conductor.down.clear()
    assert await append(worker, 4) == [1]
    assert await place.entries() == [entry(0), entry(4)]


async def _filled(place: Place, count: int) -> None:
    await append(place.worker(), *range(count))


@pytest.mark.parametrize("before", [0, 3, 255, 256, 511, 512])
async def test_killed_at_any_step_the_log_stays_whole_and_the_next_worker_goes_on(before: int) -> None:
    """Each step of an append, of one with tiles to write too: killed before it, and with its answer lost after it."""
    for lose in (False, True):
        step = 0
        while True:
            place = Place()
            await _filled(place, before)
            place.conductor.start("a", append(place.worker(), 1000))
            if await place.conductor.advance("a", step) < step:
                break
            if lose:
                taken = await place.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
                await place.conductor.advance("a")
                assert isinstance(place.conductor.outcome("a"), ConnectionError | None)
            else:
                taken = 1
                await place.conductor.kill("a")
            await append(place.worker(), 2000)
            found = Counter(await place.entries())
            assert found[entry(2000)] == 1
            assert found[entry(1000)] <= 1
            assert found.total() in {before + 1, before + 2}
            await place.worker().signer.publish()
            await place.worker().reader.check()
            step += 1
            if not taken:
                break
        assert step >= 2


@pytest.mark.parametrize("step", range(8))
async def test_who_waits_with_one_who_is_killed_gets_into_the_log_once(step: int) -> None:
    """The one who writes for all is killed; another one of them goes on, and finds what was written."""
    for go in (None, Go.LOSE_ANSWER):
        place = Place()
        await _filled(place, 254)
        worker = place.worker()
        place.conductor.start("a", append(worker, 1000))
        await place.conductor.advance("a", min(step, 1))
        others = asyncio.create_task(append(worker, 2000, 2001))
        for _ in range(5):
            await asyncio.sleep(0)
        await place.conductor.advance("a", max(0, step - 1))
        if go is None:
            await place.conductor.kill("a")
        else:
            await place.conductor.advance("a", 1, go=go)
            await place.conductor.advance("a")
            assert isinstance(place.conductor.outcome("a"), ConnectionError | None)
        places = await others
        found = await place.entries()
        assert [found[at] for at in places] == [entry(2000), entry(2001)]
        assert Counter(found)[entry(1000)] <= 1
        assert len(found) == len(set(found))


async def test_entries_of_one_batch_are_found_again_when_the_answer_to_their_write_was_lost() -> None:
    """The service says 412 to the SDK's own second try: the first one had been taken."""
    place = Place()
    worker = place.worker()
    kept, calls = place.blobs.exchange, 0

    async def exchange(container: str, name: str, blob: StoredBlob, *, content_type: str) -> str | None:
        nonlocal calls
        calls += 1
        written = await kept(container, name, blob, content_type=content_type)
        return written if calls > 1 else await kept(container, name, blob, content_type=content_type)

    place.blobs.exchange = exchange  # type: ignore[method-assign]
    assert await append(worker, 0, 1, 2) == [0, 1, 2]
    assert await place.entries() == [entry(0), entry(1), entry(2)]


async def test_a_log_that_others_write_all_the_time_is_waited_for() -> None:
    place = Place()
    worker = place.worker()

    async def never(*_: object, **__: object) -> None:
        return None

    place.blobs.exchange = never  # type: ignore[method-assign]
    with pytest.raises(Deferred, match=r"^the log is being written by others$"):
        await append(worker, 0)


# --- by hand ---


async def _signed(count: int) -> tuple[Place, Worker]:
    place = Place()
    worker = place.worker()
    for start in range(0, count, 100):
        await append(worker, *range(start, min(count, start + 100)))
    await worker.signer.publish()
    await worker.reader.check()
    return place, worker


def put(place: Place, container: str, name: str, content: bytes) -> None:
    place.blobs.blobs[container, name] = StoredBlob(content, {}, f"by hand {len(content)}")


async def test_a_head_that_was_cut_is_found() -> None:
    place, worker = await _signed(300)
    content = place.blobs.blobs[LOG_HEAD, HEAD_NAME].content
    put(place, LOG_HEAD, HEAD_NAME, content[:-9])
    with pytest.raises(
        LogDamaged, match=r"^the head of the log can't be read: a bundle of entries ends within an entry$"
    ):
        await worker.reader.check()
    with pytest.raises(LogDamaged):
        await append(place.worker(), 300)


@pytest.mark.parametrize("is_new", [False, True])
async def test_an_older_head_in_the_place_of_the_newer_one_is_found(*, is_new: bool) -> None:
    """By the worker that saw the newer one, and by a new one through the checkpoint in the ledger."""
    place, worker = await _signed(300)
    older = place.blobs.blobs[LOG_HEAD, HEAD_NAME]
    await append(worker, *range(300, 310))
    await worker.signer.publish()
    put(place, LOG_HEAD, HEAD_NAME, older.content)
    told = "^the log had 310 entries and has 300: it was truncated, or an older one was put in its place$"
    if is_new:
        worker = place.worker()
        told = "^the log's checkpoint has 310 entries, and its head 300: the log was truncated, or an older head was put in"
    with pytest.raises(LogDamaged, match=told):
        await worker.reader.check()
    fresh = place.worker()
    with pytest.raises(LogDamaged):
        await append(fresh, 310)
    assert (await place.head()).size == 300, "nothing is appended to it"


async def test_a_log_that_was_forked_is_found_by_who_saw_it_and_by_who_did_not() -> None:
    place, worker = await _signed(40)
    other = Place()
    await append(other.worker(), *range(39), 4000, 40, 41)
    forged = other.blobs.blobs[LOG_HEAD, HEAD_NAME].content
    put(place, LOG_HEAD, HEAD_NAME, forged)
    with pytest.raises(
        LogDamaged, match=r"^the first 40 entries of the log are not those that were there: it was forked$"
    ):
        await worker.reader.check()
    with pytest.raises(
        LogDamaged, match=r"^the log was forked: the log with 42 entries does not begin with the one with 40$"
    ):
        await place.worker().reader.check()


async def test_a_head_that_is_gone_is_found_and_no_new_log_begins() -> None:
    for count in (40, 300):
        place, worker = await _signed(count)
        del place.blobs.blobs[LOG_HEAD, HEAD_NAME]
        for each in (worker, place.worker()):
            with pytest.raises(LogDamaged):
                await append(each, 1000)
            with pytest.raises(LogDamaged):
                await each.reader.check()
        assert (LOG_HEAD, HEAD_NAME) not in place.blobs.blobs


@pytest.mark.parametrize("path", ["tile/0/000", "tile/entries/000"])
async def test_a_tile_that_was_swapped_cut_or_taken_away_is_found(path: str) -> None:
    for change in ("swap", "cut", "delete"):
        place, worker = await _signed(400)
        content = place.blobs.blobs[LOG, path].content
        if change == "delete":
            del place.blobs.blobs[LOG, path]
        else:
            put(place, LOG, path, content[:-32] if change == "cut" else content[:40] + b"x" + content[41:])
        with pytest.raises(LogDamaged, match=r"tile"):
            await worker.reader.check()


async def test_a_tile_that_was_put_there_before_it_was_full_is_found_when_it_is() -> None:
    place, worker = await _signed(200)
    put(place, LOG, "tile/entries/000", b"by hand")
    await append(worker, *range(200, 256))
    told = "^another tile is in the place of 'tile/entries/000': the log was forked or changed by hand$"
    with pytest.raises(LogDamaged, match=told):
        await append(worker, 256)


async def test_a_checkpoint_that_was_changed_in_the_ledger_is_found() -> None:
    place, worker = await _signed(20)
    known = await place.checkpoints.newest()
    assert known is not None
    changed = known.record.note.replace("\n20\n", "\n19\n")
    await place.checkpoints.put(known, known.record.changed(note=changed, size=19))
    with pytest.raises(
        LogDamaged, match=r"^the log's checkpoint was changed by hand: the signature of 'example.com/log' does"
    ):
        await worker.reader.check()


@pytest.mark.parametrize("left", [0, 300])
async def test_a_log_that_is_lost_with_its_checkpoint_does_not_begin_anew_under_its_name(left: int) -> None:
    """The vault remembers how long it was. One that goes on where an older copy ends would be a fork of it."""
    place, _ = await _signed(left)
    place.remembered = LogMark("example.com/log", 310)
    place.rows = Table("checkpoints", place.conductor)
    told = (
        rf"^the log 'example\.com/log' had 310 entries, as the vault remembers it, and has {left}: it was lost, or an "
        r"older one was put in its place\. Put it back from a copy\. If there is none, begin another one, "
        r"with another EVIDENCE_ORIGIN and empty containers \(docs/evidence\.md\)$"
    )
    for again in range(2):
        worker = place.worker()
        with pytest.raises(LogDamaged, match=told):
            await append(worker, again)
        with pytest.raises(LogDamaged, match=told):
            await worker.signer.publish()
        with pytest.raises(LogDamaged, match=told):
            await worker.reader.check()
    assert (await place.head()).size == left
    assert await place.checkpoints.newest() is None
    place.remembered = LogMark("example.com/log", left)
    assert await append(place.worker(), 400) == [left]


async def test_another_log_begins_under_another_name_and_takes_the_place_of_the_checkpoint() -> None:
    """It was lost, and the checkpoint in the ledger was not: so entries are proved by the new log's own."""
    place, _ = await _signed(300)
    place.remembered = LogMark("example.com/log", 300)
    place.blobs.blobs.clear()
    place.origin = "example.com/other"
    worker = place.worker()
    await worker.reader.check()
    assert await append(worker, 0, 1) == [0, 1]
    assert tree_of((await worker.reader.proof(1)).checkpoint.decode()).size == 2
    await worker.reader.check()
    known = await place.checkpoints.newest()
    assert known is not None
    assert (known.record.origin, known.record.size) == ("example.com/other", 2)
    assert str(await place.key()).startswith("example.com/other+")


async def test_what_does_not_continue_the_log_is_not_signed() -> None:
    place, worker = await _signed(40)
    other = Place()
    await append(other.worker(), *range(1000, 1060))
    put(place, LOG_HEAD, HEAD_NAME, other.blobs.blobs[LOG_HEAD, HEAD_NAME].content)
    before = place.vault.signed
    with pytest.raises(LogDamaged, match=r"^the log was forked"):
        await worker.signer.publish()
    assert place.vault.signed == before
