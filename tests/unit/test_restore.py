"""A restore: known to the ledger from its first write to its last, gone on with where it broke off, one at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared import restoration
from shared.backup import sealing
from shared.backup.restoring import Restore
from shared.backup.sealing import ArchiveError
from shared.errors import LedgerBehind
from shared.ledger.epochs import EpochRows
from shared.workflows.epochs import Epochs
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeTable, FakeVault, Gate, Killed, Trap
from tests.unit.test_backup import PASSPHRASE, Account, filled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from shared.backup.contents import Manifest
    from shared.ports.rows import Step

HALF = (
    "the ledger is not whole: a restore of 'a' (epoch 1, read from 2026-03-01T12:00:00+00:00) has not ended; if it broke "
    "off, run python -m shared.backup restore with this archive again (docs/recover.md). It was begun at 2026-03-01 "
    "12:00:00 UTC. Until it ends nothing is signed and nothing is answered"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive keys in milliseconds."""
    monkeypatch.setattr(sealing, "_N", 1 << 4)


class Target(Account):
    """An account that is restored into.

    Attributes:
        written: the tables, in the order in which they were written.
    """

    def __init__(self, vault: FakeVault | None = None) -> None:
        super().__init__(vault)
        self.now, self.trap, self.written = NOW, Trap(), list[str]()

    def table(self, name: str) -> FakeTable:
        table = super().table(name)

        def step() -> None:
            self.written.append(name)
            self.trap.step()

        table.step = step
        return table

    def run(self) -> Restore:
        """Begin a run of its own, as a process would."""
        blobs: Any = self.blobs
        self.table("issuers")
        return Restore(table=self.table, blobs=blobs, rows=EpochRows(self.tables["issuers"]), clock=lambda: self.now)

    async def restore(self, path: Path) -> Manifest:
        return await self.run().run(path, PASSPHRASE)

    async def killed(self, path: Path, *, after: int) -> bool:
        """Restore, and be killed after so many writes; tell whether it came to that."""
        self.trap = Trap(after)
        try:
            with suppress(Killed):
                await self.restore(path)
        except BaseExceptionGroup as several:
            if several.subgroup(Killed) is None:
                raise
        done, self.trap = self.trap.steps >= after, Trap()
        return done


async def archive(path: Path) -> Account:
    """Export a ledger with rows in several tables."""
    account = await filled()
    for name in ("revocations", "publickeys", "issuers"):
        for number in range(3):
            await account.tables[name].insert({"PartitionKey": f"p{number}", "RowKey": "r", "n": number})
    await account.backup.export(path, PASSPHRASE)
    return account


@pytest.mark.parametrize("named", [True, False], ids=["vault", "no vault"])
async def test_a_restore_that_breaks_off_anywhere_is_known_and_goes_on(tmp_path: Path, *, named: bool) -> None:
    """Whatever is there or missing: the ledger counts for nothing until the same archive is whole in it."""
    account, after = await archive(tmp_path / "a"), 0
    while True:
        after += 1
        vault = account.vault if named else FakeVault()
        target = Target(vault)
        if not await target.killed(tmp_path / "a", after=after):
            break
        epochs = Epochs(
            rows=EpochRows(target.tables["issuers"]),
            vault=vault if named else None,
            mark="ledger-epoch",
            clock=lambda: NOW,
        )
        for ask in (epochs.check, epochs.check_now):
            with pytest.raises(LedgerBehind) as refused:
                await ask()
            assert str(refused.value) == HALF
        if named:
            for deed in (epochs.advance, epochs.accept):
                with pytest.raises(LedgerBehind, match="the ledger is not whole"):
                    await deed()
        target.now += timedelta(minutes=1)
        await target.restore(tmp_path / "a")
        for name in ("identities", "revocations", "publickeys", "issuers"):
            wanted = [row for row in await account.rows(name) if row["RowKey"] != "ledger"]
            assert [row for row in await target.rows(name) if row["RowKey"] != "ledger"] == wanted
        assert [row["number"] for row in await target.rows("issuers") if row["RowKey"] == "ledger"] == [1]
        assert await EpochRows(target.tables["issuers"]).restore() is None
    assert after > 8, "it was killed at each write"


async def test_that_a_ledger_is_not_whole_is_written_first(tmp_path: Path) -> None:
    await archive(tmp_path / "a")
    target = Target()
    await target.killed(tmp_path / "a", after=1)
    assert target.written == ["issuers"]
    known = await EpochRows(target.tables["issuers"]).restore()
    assert known is not None
    assert known.record.file == "a"


async def test_another_archive_is_not_put_over_half_a_one(tmp_path: Path) -> None:
    """It is named, and so is what to do; the tables stay as they are."""
    await archive(tmp_path / "a")
    account = await filled()
    await account.backup.export(tmp_path / "b", PASSPHRASE)
    target = Target()
    await target.killed(tmp_path / "a", after=3)
    target.now += timedelta(hours=1)
    target.written.clear()
    with pytest.raises(ArchiveError) as refused:
        await target.restore(tmp_path / "b")
    assert str(refused.value) == (
        "a restore of another archive, 'a' (epoch 1, read from 2026-03-01T12:00:00+00:00), was begun and is not whole. "
        "Restore that one again; or stop the apps, empty all tables, and restore again (docs/recover.md)"
    )
    assert target.written == []


async def test_an_archive_is_known_again_under_another_name(tmp_path: Path) -> None:
    await archive(tmp_path / "a")
    target = Target()
    await target.killed(tmp_path / "a", after=3)
    target.now += timedelta(minutes=1)
    await target.restore((tmp_path / "a").rename(tmp_path / "b"))
    assert await EpochRows(target.tables["issuers"]).restore() is None


class Slow(FakeTable):
    """A table whose first transaction is held up."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(at=1)

    async def write_together(self, steps: Sequence[Step]) -> list[str] | None:
        await self.gate()
        return await super().write_together(steps)


async def under_way(target: Target, path: Path) -> tuple[asyncio.Task[Manifest], Gate]:
    """Begin a restore, which is held up when it comes to a table."""
    slow = target.tables["revocations"] = Slow()
    running = asyncio.create_task(target.restore(path))
    await slow.gate.reached.wait()
    return running, slow.gate


async def test_of_two_restores_at_once_the_second_is_told_so(tmp_path: Path) -> None:
    """It is told as soon as the first has begun, and when it looks at tables that the first fills meanwhile."""
    await archive(tmp_path / "a")
    target = Target()
    first, gate = await under_way(target, tmp_path / "a")
    read, known = EpochRows.restore, list[bool]()

    async def late(rows: EpochRows) -> Any:
        """Read nothing the first time, as if the first had not begun."""
        known.append(True)
        return await read(rows) if len(known) > 1 else None

    for between in (False, True):
        second = target.run()
        if between:
            second.rows.restore = late.__get__(second.rows)  # type: ignore[method-assign]
        with pytest.raises(ArchiveError) as refused:
            await second.run(tmp_path / "a", PASSPHRASE)
        assert str(refused.value) == (
            "another restore of the archive 'a' (epoch 1, read from 2026-03-01T12:00:00+00:00) is under way: its last "
            "sign of life was at 12:00:00 UTC. If it was broken off, run this again after 12:01:00 UTC: it goes on then"
        )
    gate.opened.set()
    await first


async def test_a_restore_that_others_went_on_with_ends(tmp_path: Path) -> None:
    """It was held up for longer than a minute; what it still writes is what the other writes as well."""
    await archive(tmp_path / "a")
    target = Target()
    first, gate = await under_way(target, tmp_path / "a")
    target.now += timedelta(minutes=1)
    await target.restore(tmp_path / "a")
    gate.opened.set()
    with pytest.raises(ArchiveError, match=r"^another restore has taken over, and this one has ended"):
        await first
    assert await EpochRows(target.tables["issuers"]).restore() is None


@pytest.mark.parametrize("row", [{"PartitionKey": "x", "RowKey": "y"}, {"PartitionKey": "p1", "RowKey": "r", "n": 7}])
async def test_rows_that_others_wrote_meanwhile_keep_the_ledger_from_being_whole(
    tmp_path: Path, row: Mapping[str, Any]
) -> None:
    """An app that was started too early has written them: by what half a ledger says."""
    await archive(tmp_path / "a")
    target = Target()
    await target.killed(tmp_path / "a", after=3)
    await target.tables["revocations"].put(row)
    target.now += timedelta(minutes=1)
    for _ in range(2):
        with pytest.raises(ArchiveError) as refused:
            await target.restore(tmp_path / "a")
        count = len(await target.rows("revocations"))
        assert str(refused.value) == (
            f"the table 'revocations' does not have what the archive has: {count} rows, of 3. Others have written into "
            "it, so the ledger stays not whole: stop the apps, empty all tables, and restore again (docs/recover.md)"
        )
    assert await EpochRows(target.tables["issuers"]).restore() is not None


async def test_what_fails_is_told_as_it_is_and_the_next_run_goes_on_at_once(tmp_path: Path) -> None:
    """Several writes are under way at once; one error is enough."""
    account, target = await archive(tmp_path / "a"), Target()

    class Full(FakeTable):
        is_down = True

        async def write_together(self, steps: Sequence[Step]) -> list[str] | None:
            if self.is_down:
                raise ConnectionError("the account does not answer")
            return await super().write_together(steps)

    target.tables["identities"] = full = Full()
    with pytest.raises(ConnectionError, match=r"^the account does not answer$"):
        await target.restore(tmp_path / "a")
    with pytest.raises(LedgerBehind, match="the ledger is not whole"):
        await target.epochs.check_now()
    full.is_down = False
    await target.restore(tmp_path / "a")
    assert await target.rows("identities") == await account.rows("identities")


async def test_half_a_ledger_is_not_exported(tmp_path: Path) -> None:
    target = await half(tmp_path)
    with pytest.raises(LedgerBehind, match="the ledger is not whole"):
        await target.backup.export(tmp_path / "b", PASSPHRASE)


async def half(folder: Path) -> Target:
    """Give a ledger that is half restored."""
    account = await archive(folder / "a")
    target = Target(account.vault)
    await target.killed(folder / "a", after=3)
    return target


async def test_a_worker_that_runs_meanwhile_sees_it_within_seconds(tmp_path: Path) -> None:
    await archive(tmp_path / "a")
    target = Target()
    epochs = Epochs(rows=EpochRows(target.tables["issuers"]), vault=None, mark="ledger-epoch", clock=lambda: target.now)
    assert await epochs.unfinished() is None
    await target.killed(tmp_path / "a", after=3)
    target.now += timedelta(seconds=6)
    assert await epochs.unfinished() == HALF
    assert await epochs.fault() == HALF


@pytest.mark.parametrize("look", [True, False])
async def test_a_restoration_refuses_half_a_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, look: bool
) -> None:
    """Half a ledger would be taken for what was, and its lists would lose what is not written yet."""
    target = await half(tmp_path)

    async def close() -> None:
        pass

    services: Any = SimpleNamespace(epochs=target.epochs, close=close)
    monkeypatch.setattr(restoration, "build", lambda _: services)
    settings: Any = None
    assert await restoration.restore(settings, look=look, accept=True) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"{HALF}\n")


async def test_a_restored_ledger_is_an_older_one_at_once(tmp_path: Path) -> None:
    account = await archive(tmp_path / "a")
    target = Target(account.vault)
    await target.restore(tmp_path / "a")
    with pytest.raises(LedgerBehind, match="the ledger is older than it was: it is at epoch 1"):
        await target.epochs.check_now()
