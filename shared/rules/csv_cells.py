"""CSV that a spreadsheet shows as it is."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - full width, as Excel takes them
"""OWASP, "CSV Injection"."""


def csv_text(rows: Iterable[Iterable[str | None]]) -> str:
    """Write rows as CSV (RFC 4180). What a spreadsheet would take for a formula begins with an apostrophe."""
    written = io.StringIO()
    writer = csv.writer(written)
    for row in rows:
        writer.writerow([_cell(each) for each in row])
    return written.getvalue()


def _cell(text: str | None) -> str:
    if text is None:
        return ""
    return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
