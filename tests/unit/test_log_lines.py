"""The log: what others send stays on the line of the record that says it."""

from __future__ import annotations

import logging
import sys
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from shared.log_lines import keep_to_lines, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

FORGED = "x\n2026-03-01 CRITICAL all is lost\r\n\x1b[2J\x00\u2028\u202e\x85\udcff"
HARMLESS = r"x\n2026-03-01 CRITICAL all is lost\r\n\x1b[2J\x00\u2028\u202e\x85\udcff"


def fail() -> None:
    raise ValueError(FORGED)


@pytest.fixture
def written() -> Iterator[StringIO]:
    """What a handler of the whole process writes."""
    stream, before = StringIO(), logging.getLogRecordFactory()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    keep_to_lines()
    keep_to_lines()
    try:
        yield stream
    finally:
        logging.getLogger().removeHandler(handler)
        logging.setLogRecordFactory(before)


@pytest.mark.parametrize("name", ["device_identity_factory", "azure.core", ""])
def test_a_record_is_one_line_whoever_makes_it(written: StringIO, name: str) -> None:
    """In the message or in an argument; text beyond ASCII stays as it is."""
    logging.getLogger(name).error("%s: Gerät %s", "queue", FORGED)
    logging.getLogger(name).error(FORGED)
    assert written.getvalue() == f"queue: Gerät {HARMLESS}\n{HARMLESS}\n"


def test_an_exception_s_words_keep_to_their_line(written: StringIO) -> None:
    """The traceback keeps the lines that name places in the code."""
    try:
        fail()
    except ValueError:
        logging.getLogger("azure.core").exception("it failed")
    lines = written.getvalue().splitlines()
    assert lines[:2] == ["it failed", "Traceback (most recent call last):"]
    assert lines[2].startswith(f'  File "{__file__}", line ')
    assert lines[-1] == f"ValueError: {HARMLESS}"
    assert len([line for line in lines if not line.startswith("  ")]) == 3


LEAKED = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----"


def test_no_secret_is_logged_whoever_logs_it(written: StringIO) -> None:
    """In a message, an argument or the words of an exception a mark stands in its place."""
    logging.getLogger("azure.core").error("GET %s", "https://a.b/l?sv=1&sig=c2VjcmV0")
    try:
        raise ValueError(f"it is {LEAKED}")  # noqa: TRY301 - the traceback is what is looked at
    except ValueError:
        logging.getLogger("device_identity_factory").exception("it failed: %s", LEAKED)
    lines = written.getvalue().splitlines()
    assert lines[0] == "GET https://a.b/l?sv=1&sig=[a shared access signature was here, and is not kept]"
    assert lines[1] == "it failed: [a private key was here, and is not kept]"
    assert lines[-1] == "ValueError: it is [a private key was here, and is not kept]"
    assert "MIGH" not in written.getvalue()


def test_every_character_of_a_line_can_be_printed() -> None:
    """Of all characters, those that stay can be printed or are other blanks, and none ends a line."""
    kept = one_line("".join(map(chr, range(sys.maxunicode + 1))))
    assert len(kept.splitlines()) == 1
    kept.encode()
