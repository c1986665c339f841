"""An export: alone with its file, which has its name when it is whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from shared.backup import sealing
from shared.backup.reading import verified
from shared.backup.sealing import ArchiveError
from shared.domain.restores import RestorationRecord
from shared.ledger.epochs import EpochRows
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeTable, Gate
from tests.unit.test_backup import PASSPHRASE, Account, filled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive keys in milliseconds."""
    monkeypatch.setattr(sealing, "_N", 1 << 4)


class Slow(FakeTable):
    """A table that is read slowly, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.is_down = Gate(at=1), False

    async def query(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        await self.gate()
        if self.is_down:
            raise ConnectionError("the account does not answer")
        async for row in super().query(*args, **named):
            yield row


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def held_up() -> tuple[Account, Slow]:
    """Give an account with a ledger, and a table at which an export is held up."""
    account, slow = await filled(), Slow()
    account.tables["orders"] = slow
    return account, slow


async def test_of_two_exports_into_one_file_the_second_is_told_so(tmp_path: Path) -> None:
    """The first one's archive is whole, and the epoch was raised for it alone."""
    account, slow = await held_up()
    first = asyncio.create_task(account.backup.export(tmp_path / "a.backup", PASSPHRASE))
    await slow.gate.reached.wait()
    with pytest.raises(ArchiveError) as refused:
        await account.backup.export(tmp_path / "a.backup", PASSPHRASE)
    assert str(refused.value) == f"another export into {tmp_path / 'a.backup'} is under way"
    assert account.vault.tagged["ledger-epoch"]["epoch"] == "2"
    slow.gate.opened.set()
    await first
    assert verified(tmp_path / "a.backup", PASSPHRASE).epoch == 1
    assert names_in(tmp_path) == ["a.backup"]


async def test_what_a_killed_export_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"half an archive" * 10_000)
    account = await filled()
    await account.backup.export(tmp_path / "a", PASSPHRASE)
    assert verified(tmp_path / "a", PASSPHRASE).epoch == 1
    assert names_in(tmp_path) == ["a"]


async def test_an_export_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    account, slow = await held_up()
    slow.is_down = True
    slow.gate.opened.set()
    with pytest.raises(ConnectionError):
        await account.backup.export(tmp_path / "a", PASSPHRASE)
    assert names_in(tmp_path) == []


async def test_a_file_that_comes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    account, slow = await held_up()
    running = asyncio.create_task(account.backup.export(tmp_path / "a", PASSPHRASE))
    await slow.gate.reached.wait()
    (tmp_path / "a").write_bytes(b"mine")
    slow.gate.opened.set()
    with pytest.raises(ArchiveError, match="exists; an archive is not overwritten"):
        await running
    assert (tmp_path / "a").read_bytes() == b"mine"


async def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    account = await filled()
    with pytest.raises(ArchiveError) as refused:
        await account.backup.export(tmp_path / "b" / "a", PASSPHRASE)
    assert str(refused.value) == f"the folder {tmp_path / 'b'} does not exist"
    assert account.vault.tagged["ledger-epoch"]["epoch"] == "1"


async def test_a_ledger_that_is_made_of_a_copy_has_no_restoration_behind_it(tmp_path: Path) -> None:
    """A restoration that has still to do was the copied ledger's; the one that is made of it needs its own."""
    account, target = await filled(), Account()
    rows = EpochRows(account.tables["issuers"])
    assert await rows.try_put_restoration(None, RestorationRecord(begun_at=NOW, is_lost=False, accepted=True))
    await account.backup.export(tmp_path / "a", PASSPHRASE)
    await target.backup.restore(tmp_path / "a", PASSPHRASE)
    assert await EpochRows(target.tables["issuers"]).restoration() is None
