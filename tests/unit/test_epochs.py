"""The epochs of ledger and vault: raised together, and an older ledger is noticed and signs nothing."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.checkpoints import CheckpointRecord
from shared.domain.epochs import EpochMark, EpochRecord, LogMark, lost_past
from shared.errors import LedgerBehind, Overtaken
from shared.ledger.checkpoints import Checkpoints
from shared.ledger.epochs import EpochRows
from shared.rules.zones import Zone
from shared.workflows.epochs import Epochs, GuardedLog
from tests.pki.hierarchy import NOW
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeTable, FakeVault
from tests.world.services import Log
from triggers.registration import app_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class SilentVault(FakeVault):
    """A vault that can be down."""

    down = False

    async def tags(self, name: str) -> Mapping[str, str] | None:
        if self.down:
            raise ConnectionError("the vault does not answer")
        return await super().tags(name)


def epochs(
    vault: FakeVault, table: FakeTable, clock: Any = lambda: NOW, checkpoints: Checkpoints | None = None
) -> Epochs:
    return Epochs(rows=EpochRows(table), vault=vault, mark="ledger-epoch", clock=clock, checkpoints=checkpoints)


async def at(vault: FakeVault, number: int) -> None:
    await vault.tag("ledger-epoch", {"epoch": str(number), "reachedAt": NOW.isoformat()})


@pytest.mark.parametrize(
    ("ledger", "vault", "is_lost"),
    [(None, None, False), (3, None, False), (3, 3, False), (4, 3, False), (3, 4, True), (None, 1, True)],
)
def test_a_ledger_is_older_if_the_vault_has_seen_a_later_epoch(
    ledger: int | None, vault: int | None, *, is_lost: bool
) -> None:
    """The ledger's is raised first, so one that is ahead lacks nothing; a vault without one has nothing to say."""
    said = EpochRecord(number=ledger, reached_at=NOW) if ledger else None
    assert (lost_past(said, EpochMark(vault, NOW) if vault else None) is not None) is is_lost


def test_what_is_lost_is_said_with_both_numbers_and_times() -> None:
    ledger = EpochRecord(number=3, reached_at=datetime.fromisoformat("2026-05-01T12:00:00+00:00"))
    vault = EpochMark(9, datetime.fromisoformat("2026-05-02T08:30:05+00:00"))
    assert lost_past(ledger, vault) == (
        "the ledger is older than it was: it is at epoch 3, of 2026-05-01 12:00:00 UTC, and the vault says that it had "
        "reached epoch 9 at 2026-05-02 08:30:05 UTC: nothing is signed, and no certificate is called good, until "
        "python -m shared.restoration has taken back what happened meanwhile (docs/recover.md)"
    )


def test_a_mark_reads_as_it_was_written() -> None:
    mark = EpochMark(12, datetime.fromisoformat("2026-05-02T08:30:05+00:00"))
    tags: Mapping[str, str] = mark.to_tags()
    assert tags == {"epoch": "12", "reachedAt": "2026-05-02T08:30:05+00:00"}
    assert EpochMark.from_tags({**tags, "deviceIdentityFactory": "plant-1"}) == mark
    assert EpochMark.from_tags({"deviceIdentityFactory": "plant-1"}) is None


async def test_both_are_raised_together_and_a_ledger_that_is_put_back_is_noticed() -> None:
    vault, table = FakeVault(), FakeTable()
    assert await epochs(vault, table).advance() == 1
    yesterday = await EpochRows(table).get()
    assert yesterday is not None
    assert await epochs(vault, table).advance() == 2
    assert vault.tagged["ledger-epoch"]["epoch"] == "2"
    await epochs(vault, table).check()
    restored = FakeTable()
    await EpochRows(restored).try_put(None, yesterday.record)
    for ledger in (restored, FakeTable()):
        with pytest.raises(LedgerBehind):
            await epochs(vault, ledger).check()
        with pytest.raises(LedgerBehind):
            await epochs(vault, ledger).advance()
    assert vault.tagged["ledger-epoch"]["epoch"] == "2"


def signed(size: int, origin: str = "plant/log") -> CheckpointRecord:
    return CheckpointRecord(origin=origin, key_id="k", verifier_key="v", size=size, note="n", signed_at=NOW)


async def test_the_vault_is_told_how_long_the_log_is_with_the_epoch_and_forgets_it_never() -> None:
    """No write of its own. A checkpoint that is lost, or an older one, says nothing; another log's counts anew."""
    vault, table = FakeVault(), FakeTable()
    checkpoints = Checkpoints(table)
    subject = epochs(vault, table, checkpoints=checkpoints)
    await subject.advance()
    assert await subject.logged() is None
    told = []
    for record in (signed(467), signed(14), None, signed(500), signed(3, "plant/other")):
        table.rows.pop(("log", "newest"), None)
        if record is not None:
            await checkpoints.put(None, record)
        await subject.advance()
        told.append(await subject.logged())
    kept = LogMark("plant/log", 467)
    assert told == [kept, kept, kept, LogMark("plant/log", 500), LogMark("plant/other", 3)]
    assert vault.tagged["ledger-epoch"]["logEntries"] == "3"
    await subject.accept()
    assert await subject.logged() == told[-1]


class CountedVault(FakeVault):
    """A vault that counts what is asked of its keys' tags."""

    calls = 0

    async def tags(self, name: str) -> Mapping[str, str] | None:
        self.calls += 1
        return await super().tags(name)

    async def tag(self, name: str, tags: Mapping[str, str]) -> None:
        self.calls += 1
        await super().tag(name, tags)


async def test_raising_the_epoch_takes_two_calls_of_the_vault() -> None:
    """It is done every half minute."""
    vault, table = CountedVault(), FakeTable()
    checkpoints = Checkpoints(table)
    await checkpoints.put(None, signed(467))
    subject = epochs(vault, table, checkpoints=checkpoints)
    assert [await subject.advance(), await subject.advance()] == [1, 2]
    assert vault.calls == 4


def test_the_epoch_is_raised_every_half_minute() -> None:
    """So much may be lost unnoticed, and no more."""
    [upkeep] = [each for each in app_of(Zone.ALL).get_functions() if each.get_function_name() == "epoch_upkeep"]
    trigger: Any = upkeep.get_trigger()
    assert trigger.schedule == "15,45 * * * * *"


def test_a_log_with_a_long_name_fits_into_a_tag() -> None:
    """A tag has at most 256 characters."""
    tags = LogMark("x" * 300, 7).to_tags()
    assert tags == {"logOrigin": "x" * 256, "logEntries": "7"}
    mark = LogMark.from_tags(tags)
    assert mark is not None
    assert mark.is_of("x" * 300)
    assert not mark.is_of("x" * 255)


async def test_a_worker_that_ends_between_the_two_has_made_nothing_old() -> None:
    """The vault lags until the next time, and the ledger is still the present one."""
    vault, table = SilentVault(), FakeTable()
    await epochs(vault, table).advance()
    await EpochRows(table).try_put(await EpochRows(table).get(), EpochRecord(number=2, reached_at=NOW))
    await epochs(vault, table).check()
    assert await epochs(vault, table).advance() == 3
    assert vault.tagged["ledger-epoch"]["epoch"] == "3"


async def test_an_older_ledger_that_is_accepted_is_above_all_that_was() -> None:
    vault, table = FakeVault(), FakeTable()
    await epochs(vault, table).advance()
    await at(vault, 57)
    subject = epochs(vault, table)
    with pytest.raises(LedgerBehind):
        await subject.check()
    assert await subject.accept() == 58
    await subject.check()
    assert vault.tagged["ledger-epoch"]["epoch"] == "58"


async def test_what_is_being_taken_back_keeps_the_ledger_from_signing_until_it_is_accepted() -> None:
    """Also where no epoch tells. Whoever comes next, or at the same time, carries on what was begun first."""
    vault, table, clock = FakeVault(), FakeTable(), Clock()
    subject = epochs(vault, table, clock)
    assert await subject.advance() == 1
    begun = await subject.begin(is_lost=False)
    clock.now += timedelta(minutes=10)
    assert await epochs(vault, table, clock).begin(is_lost=False) == begun
    assert (begun.since, begun.accepted) == (NOW, False)
    said = "python -m shared.restoration was begun at 2026-03-01 12:00:00 UTC and has not ended"
    with pytest.raises(LedgerBehind, match=said):
        await subject.check()
    with pytest.raises(LedgerBehind, match=said):
        await subject.advance()
    assert await subject.accept() == 2
    await subject.check()
    known = await subject.rows.restoration()
    assert known is not None
    assert known.record.accepted, "it signs, and the services are still to follow"
    await subject.end(begun.changed(begun_at=clock.now))
    assert await subject.rows.restoration() is not None, "that was another one"
    await subject.end(begun)
    assert await subject.rows.restoration() is None


async def test_a_vault_that_does_not_answer_says_nothing_about_the_ledger() -> None:
    """What was seen last counts; a worker that has seen nothing yet does not know, and says so."""
    vault, table, clock = SilentVault(), FakeTable(), Clock()
    subject = epochs(vault, table, clock)
    await subject.advance()
    await subject.check()
    vault.down = True
    clock.now += timedelta(minutes=1)
    await subject.check()
    with pytest.raises(ConnectionError):
        await epochs(vault, table).check()


async def test_what_was_seen_holds_for_five_seconds() -> None:
    vault, table, clock = FakeVault(), FakeTable(), Clock()
    subject = epochs(vault, table, clock)
    await subject.advance()
    await subject.check()
    await at(vault, 2)
    clock.now += timedelta(seconds=5)
    await subject.check()
    clock.now += timedelta(seconds=1)
    with pytest.raises(LedgerBehind):
        await subject.check()


async def test_an_older_ledger_gets_no_entry_in_the_log_and_so_no_signature() -> None:
    """Each signature has its entry first; this is the one place through which all of them go."""
    vault, table, log = FakeVault(), FakeTable(), Log()
    await epochs(vault, table).advance()
    await GuardedLog(log=log, epochs=epochs(vault, table)).append(b"entry")
    await at(vault, 2)
    with pytest.raises(LedgerBehind):
        await GuardedLog(log=log, epochs=epochs(vault, table)).append(b"another")
    assert log.entries == [b"entry"]


async def test_no_work_is_begun_that_an_older_ledger_could_not_sign() -> None:
    """A serial number is not reserved for nothing each time that waiting work is tried again."""
    scene = AuthorityScene()
    await scene.root("root")
    authorities = scene.worker().authorities
    behind = type(authorities)(
        records=authorities.records,
        keys=authorities.keys,
        settings=authorities.settings,
        clock=authorities.clock,
        epochs=epochs(scene.vault, scene.table),
    )
    await behind.check_signs("root")
    await at(scene.vault, 5)
    scene.now += timedelta(minutes=1)
    behind = type(authorities)(
        records=authorities.records,
        keys=authorities.keys,
        settings=authorities.settings,
        clock=authorities.clock,
        epochs=epochs(scene.vault, scene.table),
    )
    with pytest.raises(LedgerBehind):
        await behind.check_signs("root")


async def test_of_two_workers_that_raise_the_epoch_at_once_one_does() -> None:
    """The other leaves the vault alone: it would tell it of an epoch that the ledger does not have."""
    vault, table = FakeVault(), FakeTable()

    class Quicker(EpochRows):
        """Another worker raises the ledger's epoch between the read and the write."""

        async def try_put(self, known: Any, record: EpochRecord) -> bool:
            await EpochRows(table).try_put(known, record)
            return await super().try_put(known, record)

    late = Epochs(rows=Quicker(table), vault=vault, mark="ledger-epoch", clock=lambda: NOW)
    assert await late.advance() is None
    assert "ledger-epoch" not in vault.tagged
    assert await epochs(vault, table).advance() == 2


class SlowVault(FakeVault):
    """A vault at which others come first, each time that a worker writes tags."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []

    async def tag(self, name: str, tags: Mapping[str, str]) -> None:
        while self.meanwhile:
            await self.meanwhile.pop()()
        await super().tag(name, tags)


@pytest.mark.parametrize("late", [Epochs.advance, Epochs.accept])
async def test_a_worker_that_is_late_does_not_put_back_how_far_the_vault_says_that_the_ledger_has_come(
    late: Callable[[Epochs], Awaitable[int | None]],
) -> None:
    """A ledger that is put back to the epoch between would not be noticed."""
    vault, table = SlowVault(), FakeTable()
    checkpoints = Checkpoints(table)
    await checkpoints.put(None, signed(467))
    subject = epochs(vault, table, checkpoints=checkpoints)
    await subject.advance()
    between = list[EpochRecord]()

    async def others() -> None:
        known, newest = await EpochRows(table).get(), await checkpoints.newest()
        assert known is not None
        between.append(known.record)
        await checkpoints.put(newest, signed(500))
        assert [await subject.advance() for _ in range(2)] == [3, 4]

    vault.meanwhile = [others]
    assert await late(subject) == 2
    tags = vault.tagged["ledger-epoch"]
    assert (tags["epoch"], tags["logEntries"]) == ("4", "500")
    restored = FakeTable()
    await EpochRows(restored).try_put(None, between[0])
    with pytest.raises(LedgerBehind):
        await epochs(vault, restored).check()


async def test_a_worker_that_is_overtaken_again_and_again_lets_go() -> None:
    """Each of the others has told the vault, and looks at the ledger after that."""
    vault, table = SlowVault(), FakeTable()
    subject = epochs(vault, table)

    class Never(EpochRows):
        async def get(self) -> Any:
            await epochs(FakeVault(), table).advance()
            return await super().get()

    with pytest.raises(Overtaken, match=r"^others raise the ledger's epoch at this moment$"):
        await Epochs(rows=Never(table), vault=vault, mark="ledger-epoch", clock=lambda: NOW).advance()
    assert await subject.fault() is None


async def test_a_ledger_that_others_keep_raising_is_not_accepted() -> None:
    """Nothing is told to the vault, and whoever runs the restoration runs it again."""
    vault, table = FakeVault(), FakeTable()

    class Never(EpochRows):
        async def try_put(self, _known: Any, _record: EpochRecord) -> bool:
            return False

    with pytest.raises(Overtaken, match=r"^others raise the ledger's epoch at this moment$"):
        await Epochs(rows=Never(table), vault=vault, mark="ledger-epoch", clock=lambda: NOW).accept()
    assert "ledger-epoch" not in vault.tagged


async def test_a_zone_that_asks_no_vault_finds_no_fault_and_raises_and_accepts_nothing() -> None:
    table = FakeTable()
    blind = Epochs(rows=EpochRows(table), vault=None, mark="ledger-epoch", clock=lambda: NOW)
    await blind.check()
    await blind.check_now()
    assert (await blind.fault(), await blind.advance(), await EpochRows(table).get()) == (None, None, None)
    with pytest.raises(ValueError, match=r"^no vault was named that has the ledger's epoch$"):
        await blind.accept()


async def test_of_a_burst_one_asks_the_vault() -> None:
    """Each signature asks whether the ledger is an older one, and a vault is throttled."""
    clock = Clock()

    class Counted(FakeVault):
        asked = 0

        async def tags(self, name: str) -> Mapping[str, str] | None:
            self.asked += 1
            await asyncio.sleep(0)
            return await super().tags(name)

    vault = Counted()
    subject = epochs(vault, FakeTable(), clock)
    await asyncio.gather(*(subject.check() for _ in range(9)))
    assert vault.asked == 1
