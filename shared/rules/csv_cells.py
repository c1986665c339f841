"""CSV that a spreadsheet or a terminal shows as it is."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from shared.rules.shown_text import as_shown

if TYPE_CHECKING:
    from collections.abc import Iterable

_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - full width, as Excel takes them
"""OWASP, "CSV Injection"."""


def csv_text(rows: Iterable[Iterable[str | None]]) -> str:
    """Write rows as CSV (RFC 4180) that is shown as it is.

    What a spreadsheet would take for a formula begins with an apostrophe. What a terminal would obey is replaced by
    U+FFFD.
    """
    written = io.StringIO()
    writer = csv.writer(written)
    for row in rows:
        writer.writerow([_cell(each) for each in row])
    return written.getvalue()


def _cell(text: str | None) -> str:
    if text is None:
        return ""
    text = as_shown(text)
    return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
