"""The emulator's log keeps what clients send to the line of the record that says it."""

from __future__ import annotations

import logging
import sys

from emulator.platform.log_format import OneLine

FORGED = "press-1\n2026-03-01 INFO forged\r\x1b[2J\x00\u2028"


def record(*, failed: bool = False) -> logging.LogRecord:
    return logging.LogRecord(
        "emulator", logging.INFO, __file__, 1, "DPS refuses %s", (FORGED,), sys.exc_info() if failed else None
    )


def test_a_message_is_one_line() -> None:
    """Whatever a registration id or a user name holds."""
    text = OneLine("%(levelname)s %(message)s").format(record())
    assert text == r"INFO DPS refuses press-1\n2026-03-01 INFO forged\r\x1b[2J\x00\u2028"


def test_no_line_of_a_traceback_passes_for_a_record() -> None:
    """The exception's own words may have line ends; each line is indented."""
    try:
        int(FORGED)
    except ValueError:
        lines = OneLine("%(message)s").format(record(failed=True)).splitlines()
    assert lines[1] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in lines[1:])
