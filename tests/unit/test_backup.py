"""Backups: sealed, whole or refused, of one moment at the latest, and put into empty tables alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from shared.backup import sealing
from shared.backup.__main__ import main
from shared.backup.contents import Manifest, StoredRow, contents, line_of
from shared.backup.copying import Backup
from shared.backup.reading import REFERRING_FIRST, verified
from shared.backup.sealing import ArchiveError, Passphrase, Recipient, RecipientKey
from shared.errors import LedgerBehind
from shared.ledger.epochs import EpochRows
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.ports.blobs import StoredBlob
from shared.storage_layout import TABLES
from shared.workflows.devices.bundles import Bundle, packed
from shared.workflows.epochs import Epochs
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.fakes import FakeTable, FakeVault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASSPHRASE = Passphrase("correct horse battery staple")
WHEN = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {"PartitionKey": "4a1b", "RowKey": "d:press-1", "state": "registered", "updatedAt": WHEN, "generation": 3},
    {
        "PartitionKey": "4a1b",
        "RowKey": "c:4a1b",
        "pem": "x" * 40_000,
        "seal": b"\x00\xff",
        "big": (1 << 40, "Edm.Int64"),
    },
    {"PartitionKey": "5c00", "RowKey": "d:press-2", "disabled": True, "share": 0.5},
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive keys in milliseconds."""
    monkeypatch.setattr(sealing, "_N", 1 << 4)


class Containers:
    """Blobs of several containers.

    Attributes:
        gone: what is listed, and deleted before it is read.
    """

    def __init__(self, blobs: Mapping[tuple[str, str], bytes] | None = None) -> None:
        self.blobs, self.gone = dict(blobs or {}), set[str]()

    async def names(self, container: str, prefix: str) -> list[str]:
        there = sorted(name for where, name in self.blobs if where == container and name.startswith(prefix))
        return [*self.gone, *there]

    async def get(self, container: str, name: str) -> StoredBlob | None:
        content = self.blobs.get((container, name))
        return StoredBlob(content, {}, "1") if content is not None else None

    async def create(self, container: str, name: str, content: bytes, **_more: Any) -> bool:
        return self.blobs.setdefault((container, name), content) is content


class Account:
    """A ledger's account, and the vault with its epoch."""

    def __init__(self, vault: FakeVault | None = None, blobs: Mapping[tuple[str, str], bytes] | None = None) -> None:
        self.vault, self.blobs = vault or FakeVault(), Containers(blobs)
        self.tables: defaultdict[str, FakeTable] = defaultdict(FakeTable)
        self.read: list[str] = []

    def table(self, name: str) -> FakeTable:
        self.read.append(name)
        return self.tables[name]

    @property
    def epochs(self) -> Epochs:
        rows = EpochRows(self.tables["issuers"])
        return Epochs(rows=rows, vault=self.vault, mark="ledger-epoch", clock=lambda: NOW)

    @property
    def backup(self) -> Backup:
        blobs: Any = self.blobs
        return Backup(table=self.table, blobs=blobs, epochs=self.epochs, clock=lambda: NOW)

    async def rows(self, name: str) -> list[dict[str, Any]]:
        return [dict(row.values) async for row in self.tables[name].query("", {})]


async def filled() -> Account:
    account = Account(blobs={("crls", "root.crl"): b"list", ("loghead", "head"): b"head"})
    for row in ROWS:
        await account.tables["identities"].insert(row)
    await account.epochs.advance()
    return account


async def test_what_is_restored_is_what_was_exported_with_its_types(tmp_path: Path) -> None:
    account, target = await filled(), Account()
    exported = await account.backup.export(tmp_path / "a", PASSPHRASE)
    assert exported.shown() == (
        "epoch 1, read from 2026-03-01T12:00:00+00:00: 1 of crls/, 3 of identities, 1 of issuers, 1 of loghead/"
    )
    await target.backup.restore(tmp_path / "a", PASSPHRASE)
    assert await target.rows("identities") == await account.rows("identities")
    assert target.blobs.blobs == {("crls", "root.crl"): b"list", ("loghead", "head"): b"head"}


async def test_a_ledger_that_is_made_of_an_archive_is_noticed_at_once(tmp_path: Path) -> None:
    """The epoch is raised when an archive is begun: even one that is restored right away is an older ledger."""
    account = await filled()
    await account.backup.export(tmp_path / "a", PASSPHRASE)
    await account.epochs.check_now()
    restored = Account(account.vault)
    await restored.backup.restore(tmp_path / "a", PASSPHRASE)
    with pytest.raises(LedgerBehind, match=r"it is at epoch 1, .* reached epoch 2"):
        await restored.epochs.check_now()
    with pytest.raises(LedgerBehind):
        await restored.backup.export(tmp_path / "b", PASSPHRASE)


async def test_what_refers_to_others_is_read_before_them_and_indexes_last(tmp_path: Path) -> None:
    """So a copy that is made while the app runs has everything that it speaks of."""
    account = await filled()
    account.read.clear()
    await account.backup.export(tmp_path / "a", PASSPHRASE)
    read = [name for name in account.read[1:] if name in TABLES]
    assert read[:9] == [
        "audit",
        "identities",
        "orderlines",
        "orders",
        "groups",
        "requests",
        "actrequests",
        "rejections",
        "issuers",
    ]
    assert sorted(read) == sorted(TABLES)
    assert set(REFERRING_FIRST) <= set(TABLES)


async def test_later_lists_and_later_logs_stay(tmp_path: Path) -> None:
    """What was published is never replaced by what was published before."""
    account = await filled()
    await account.backup.export(tmp_path / "a", PASSPHRASE)
    target = Account(blobs={("crls", "root.crl"): b"later"})
    await target.backup.restore(tmp_path / "a", PASSPHRASE)
    assert target.blobs.blobs[("crls", "root.crl")] == b"later"


async def test_nothing_is_written_beside_rows_that_are_there(tmp_path: Path) -> None:
    account, target = await filled(), await filled()
    await account.backup.export(tmp_path / "a", PASSPHRASE)
    with pytest.raises(ArchiveError, match="is not empty; an archive is written into empty tables alone"):
        await target.backup.restore(tmp_path / "a", PASSPHRASE)


async def test_an_archive_is_not_overwritten_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    account, path = await filled(), tmp_path / "a"
    await account.backup.export(path, PASSPHRASE)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ArchiveError, match="exists; an archive is not overwritten"):
        await account.backup.export(path, PASSPHRASE)


async def test_an_archive_that_was_touched_anywhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each octet counts, and so does the end: nothing of it is written then."""
    monkeypatch.setattr(sealing, "_FRAME", 1)  # a frame for each line
    account, path = await filled(), tmp_path / "a"
    await account.backup.export(path, PASSPHRASE)
    whole = path.read_bytes()
    assert verified(path, PASSPHRASE).epoch == 1
    for place in range(len(sealing.MAGIC) + 4, len(whole), max(1, len(whole) // 50)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArchiveError):
            verified(path, PASSPHRASE)
        path.write_bytes(whole[:place])
        target = Account()
        with pytest.raises(ArchiveError):
            await target.backup.restore(path, PASSPHRASE)
        assert not await target.rows("identities")


async def test_only_the_recipient_opens_what_was_sealed_for_it(tmp_path: Path) -> None:
    """Who makes archives need not be able to read them."""
    private = rsa.generate_private_key(65537, 3072)
    other = rsa.generate_private_key(65537, 3072)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    account, path = await filled(), tmp_path / "a"
    await account.backup.export(path, Recipient.read(pem))
    sealed = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert verified(path, RecipientKey.read(sealed, b"secret")).epoch == 1
    with pytest.raises(ArchiveError, match="sealed for another recipient's key"):
        verified(path, RecipientKey(other))
    with pytest.raises(ArchiveError, match="sealed for a recipient's key: give --private-key"):
        verified(path, PASSPHRASE)
    with pytest.raises(ArchiveError, match="its password is not right"):
        RecipientKey.read(sealed, b"wrong")


def test_a_short_passphrase_and_a_short_key_are_refused() -> None:
    with pytest.raises(ArchiveError, match=r"^the passphrase has 8 characters; it must have at least 16$"):
        Passphrase("12345678")
    short = rsa.generate_private_key(65537, 2048).public_key()
    with pytest.raises(ArchiveError, match="RSA key of at least 3072 bits"):
        Recipient.read(short.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


async def test_the_first_archive_of_a_ledger_begins_its_epoch(tmp_path: Path) -> None:
    """Without an epoch, a ledger that is made of it would not be noticed."""
    account = Account()
    await account.tables["identities"].insert(ROWS[0])
    manifest = await account.backup.export(tmp_path / "a", PASSPHRASE)
    assert manifest.epoch == 1
    restored = Account(account.vault)
    await restored.backup.restore(tmp_path / "a", PASSPHRASE)
    with pytest.raises(LedgerBehind):
        await restored.epochs.check_now()


async def test_a_zone_that_asks_no_vault_makes_no_archive(tmp_path: Path) -> None:
    """It could not raise the vault's epoch, so what is made of the archive would not be noticed."""
    account, path = Account(), tmp_path / "a"
    rows = EpochRows(account.tables["issuers"])
    blind = replace(account.backup, epochs=Epochs(rows=rows, vault=None, mark="ledger-epoch", clock=lambda: NOW))
    with pytest.raises(ArchiveError, match=r"^the ledger has no epoch, and no vault was named to keep it in$"):
        await blind.export(path, PASSPHRASE)
    assert not path.exists()


async def test_a_copy_of_a_bundle_has_no_key_and_what_is_no_bundle_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stray file must not keep a ledger from being copied; nor a bundle that is deleted meanwhile."""
    account, target, key = await filled(), Account(), generate_key(KeyAlgorithm.EC_P256)
    bundle = packed(hierarchy().device(key=key), hierarchy().issuing, key, "password")
    assert bundle.pfx is not None
    account.blobs.blobs |= {("bundles", "press/1.json"): bundle.to_bytes(), ("bundles", "readme.txt"): b"[1]"}
    account.blobs.gone = {"press/0.json"}
    await account.backup.export(tmp_path / "a", PASSPHRASE)
    await target.backup.restore(tmp_path / "a", PASSPHRASE)
    copied = {name: content for (where, name), content in target.blobs.blobs.items() if where == "bundles"}
    assert list(copied) == ["press/1.json"]
    read = Bundle.from_bytes(copied["press/1.json"])
    assert (read.pfx, b"PRIVATE KEY" in read.pem, read.certificate) == (None, False, bundle.certificate)
    assert caplog.messages == ["the blob 'readme.txt' in 'bundles' is not a bundle; the archive does not have it"]


class Busy(Account):
    """An account into which somebody else writes, as soon as all tables were seen to be empty."""

    def table(self, name: str) -> FakeTable:
        if set(self.read) >= set(TABLES) and not self.tables["identities"].rows:
            self.tables["identities"]._written([{**ROWS[0], "state": "issued"}])  # noqa: SLF001 - at once, between two steps
        return super().table(name)


async def test_who_writes_into_a_ledger_that_is_being_restored_is_noticed(tmp_path: Path) -> None:
    """A row that is there would stay, and be of another time than the rest."""
    account, target = await filled(), Busy()
    await account.backup.export(tmp_path / "a", PASSPHRASE)
    with pytest.raises(ArchiveError) as refused:
        await target.backup.restore(tmp_path / "a", PASSPHRASE)
    assert str(refused.value) == (
        "the table 'identities' does not have what the archive has: 3 rows, of 3. Others have written into it, so the "
        "ledger stays not whole: stop the apps, empty all tables, and restore again (docs/recover.md)"
    )


def a_row(number: int) -> bytes:
    return line_of(StoredRow("identities", {"PartitionKey": "4a1b", "RowKey": str(number)}))[1]


def a_manifest(*lines: bytes) -> bytes:
    manifest = Manifest(1, NOW.isoformat())
    for each in lines:
        manifest.add("identities", each)
    return manifest.line()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([a_row(1)], "the archive has no manifest: it was not finished"),
        ([a_row(1), a_manifest(a_row(1)), a_row(2)], "the archive goes on after its manifest"),
        ([a_row(1), a_manifest(a_row(1), a_row(2))], "the archive does not have what its manifest says"),
        ([a_row(2), a_manifest(a_row(1))], "the archive does not have what its manifest says"),
    ],
    ids=["none", "more", "less", "other"],
)
def test_an_archive_has_what_its_manifest_says(lines: list[bytes], said: str) -> None:
    with pytest.raises(ArchiveError) as refused:
        list(contents(lines))
    assert str(refused.value) == said


async def test_a_file_that_can_not_be_opened_says_why(tmp_path: Path) -> None:
    account, path = await filled(), tmp_path / "a"
    await account.backup.export(path, PASSPHRASE)
    unused: Any = None
    with pytest.raises(ArchiveError, match=r"^the archive was sealed with a passphrase: give --passphrase-file$"):
        verified(path, RecipientKey(unused))
    for content, said in {
        b"PK\x03\x04": "the file is not a backup of this app, or its beginning is damaged",
        sealing.MAGIC: "the header of the archive is damaged or cut off",
        sealing.MAGIC + b"\0\0\0\x02[]": "the header of the archive is damaged or cut off",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ArchiveError) as refused:
            verified(path, PASSPHRASE)
        assert str(refused.value) == said


def test_a_recipients_file_that_is_no_rsa_key_is_refused() -> None:
    with pytest.raises(ArchiveError, match=r"^the recipient's file is not a public key in PEM$"):
        Recipient.read(b"ssh-rsa AAAA")
    private = generate_key(KeyAlgorithm.EC_P256)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ArchiveError, match=r"^the private key is not an RSA key$"):
        RecipientKey.read(pem, None)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ArchiveError, match="must be an RSA key of at least 3072 bits"):
        Recipient.read(public)


async def test_an_archive_is_verified_without_the_app(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command needs no settings for it, and says what is wrong."""
    account, path = await filled(), tmp_path / "a"
    await account.backup.export(path, PASSPHRASE)
    (tmp_path / "p").write_text("correct horse battery staple\n", encoding="utf-8")
    (tmp_path / "w").write_text("another long passphrase\n", encoding="utf-8")
    assert main(["verify", str(path), "--passphrase-file", str(tmp_path / "p")]) == 0
    assert capsys.readouterr().out.startswith("it is whole: epoch 1, read from ")
    assert main(["verify", str(path), "--passphrase-file", str(tmp_path / "w")]) == 2
    assert capsys.readouterr().err == (
        "part 0 of the archive can't be opened: the key or passphrase is another one, or the archive was changed or cut "
        "off\n"
    )
