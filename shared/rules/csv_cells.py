"""CSV that a spreadsheet or a terminal shows as it is."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - full width, as Excel takes them
"""OWASP, "CSV Injection"."""

_COMMANDS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - set(map(ord, "\t\r\n")), "\N{REPLACEMENT CHARACTER}")
"""What a terminal that shows the file would obey: CWE-150."""


def csv_text(rows: Iterable[Iterable[str | None]]) -> str:
    """Write rows as CSV (RFC 4180) that is shown as it is.

    What a spreadsheet would take for a formula begins with an apostrophe. Control characters are replaced by U+FFFD,
    but for tabs and line ends.
    """
    written = io.StringIO()
    writer = csv.writer(written)
    for row in rows:
        writer.writerow([_cell(each) for each in row])
    return written.getvalue()


def _cell(text: str | None) -> str:
    if text is None:
        return ""
    text = text.translate(_COMMANDS)
    return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
