"""Archives that are damaged, and files that are not what they are given as: one message each, and a right one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.backup import __main__ as command
from shared.backup import sealing
from shared.backup.__main__ import main
from shared.backup.sealing import MAGIC, ArchiveError, Passphrase, Recipient, RecipientKey, Sealer, opened
from tests.unit.test_backup import PASSPHRASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared.backup.sealing import Lock, Opener

ANOTHER = (
    "part 0 of the archive can't be opened: the key or passphrase is another one, or the archive was changed or cut off"
)
DAMAGED = "the header of the archive is damaged or cut off"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive keys in milliseconds."""
    monkeypatch.setattr(sealing, "_N", 1 << 4)


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 3072)


@dataclass(frozen=True)
class Pair:
    """What seals archives, and what opens them."""

    lock: Lock
    opener: Opener

    @classmethod
    def of(cls, kind: str) -> Pair:
        if kind == "passphrase":
            return cls(PASSPHRASE, PASSPHRASE)
        return cls(Recipient(private_key().public_key()), RecipientKey(private_key()))


def sealed(lock: Lock) -> bytes:
    file = BytesIO()
    sealer = Sealer(file, lock)
    sealer.write(b"a line")
    sealer.close()
    return file.getvalue()


def said(content: bytes, opener: Opener) -> str:
    """Give what is said of an archive that can't be read."""
    with pytest.raises(ArchiveError) as refused:
        list(opened(BytesIO(content), opener))
    return str(refused.value)


def flipped(content: bytes, first: int, last: int, *, bits: int = 8) -> Iterator[bytes]:
    """Give a file with each bit flipped that is between two places, or with so many of each octet."""
    for place in range(first, last):
        for bit in range(bits):
            yield content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def end_of_header(content: bytes) -> int:
    return len(MAGIC) + 4 + int.from_bytes(content[len(MAGIC) : len(MAGIC) + 4])


@pytest.mark.parametrize("kind", ["passphrase", "recipient"])
def test_each_flipped_bit_of_a_header_is_said_to_be_damage(kind: str) -> None:
    """Never that the archive was sealed in another way, or for somebody else: nothing of it is believed."""
    pair = Pair.of(kind)
    whole = sealed(pair.lock)
    assert list(opened(BytesIO(whole), pair.opener)) == [b"a line"]
    began = {said(each, pair.opener) for each in flipped(whole, 0, len(MAGIC))}
    assert began == {"the file is not a backup of this app, or its beginning is damaged"}
    assert {said(each, pair.opener) for each in flipped(whole, len(MAGIC), end_of_header(whole))} == {DAMAGED}


@pytest.mark.parametrize("kind", ["passphrase", "recipient"])
def test_an_archive_that_ends_in_its_header_is_cut_off(kind: str) -> None:
    pair = Pair.of(kind)
    whole = sealed(pair.lock)
    assert {said(whole[:end], pair.opener) for end in range(len(MAGIC), end_of_header(whole))} == {DAMAGED}


@pytest.mark.parametrize(
    ("kind", "else_said"),
    [
        ("passphrase", ANOTHER),
        ("recipient", "the archive was sealed for another recipient's key, or its header is damaged"),
    ],
)
def test_an_archive_of_a_former_version_is_read_and_its_damage_is_not_taken_for_something_else(
    kind: str, else_said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header has no digest, so a bit of the salt or of the wrapped key may be another one."""
    pair = Pair.of(kind)
    monkeypatch.setattr(sealing, "_header", lambda found_with: json.dumps(found_with, sort_keys=True).encode())
    former = sealed(pair.lock)
    monkeypatch.undo()
    monkeypatch.setattr(sealing, "_N", 1 << 4)
    assert b"sha256" not in former
    assert list(opened(BytesIO(former), pair.opener)) == [b"a line"]
    found = {said(each, pair.opener) for each in flipped(former, len(MAGIC), end_of_header(former), bits=1)}
    assert found == {DAMAGED, else_said}


def test_what_opens_it_is_wrong_and_it_is_whole() -> None:
    whole = {kind: sealed(Pair.of(kind).lock) for kind in ("passphrase", "recipient")}
    assert said(whole["passphrase"], Passphrase("another long passphrase")) == ANOTHER
    assert said(whole["passphrase"], Pair.of("recipient").opener) == (
        "the archive was sealed with a passphrase: give --passphrase-file"
    )
    assert said(whole["recipient"], PASSPHRASE) == "the archive was sealed for a recipient's key: give --private-key"
    assert said(whole["recipient"], RecipientKey(rsa.generate_private_key(65537, 3072))) == (
        "the archive was sealed for another recipient's key"
    )


@pytest.mark.parametrize("option", ["--passphrase-file", "--key-password-file"])
def test_a_file_of_a_passphrase_that_is_not_text_is_named(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_bytes(sealed(PASSPHRASE))
    (tmp_path / "p").write_bytes(b"\x80\x03binary\xff")
    more = [] if option == "--passphrase-file" else ["--private-key", str(tmp_path / "p")]
    assert main(["verify", str(tmp_path / "a"), option, str(tmp_path / "p"), *more]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / 'p'} is not text in UTF-8; its first line must be the passphrase or password\n"
    )


def test_a_service_that_does_not_answer_is_said_and_not_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is that of all that was not done."""

    async def fails(_options: Any) -> None:
        raise ServiceRequestError("Cannot connect to host stledger.table.core.windows.net:443")

    monkeypatch.setattr(command, "_with_ledger", fails)
    said = (
        "a service fails, or does not let this identity in: Cannot connect to host "
        "stledger.table.core.windows.net:443\n"
    )
    more = "if it has begun to write, run it again with the same archive: it goes on\n"
    for act, wanted in {"export": said, "restore": said + more}.items():
        assert main([act, str(tmp_path / "a"), "--passphrase-file", str(tmp_path / "p")]) == 2
        assert capsys.readouterr().err == wanted
