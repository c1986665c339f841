"""Write the table of docs/telemetry.md from the metrics that the app has: ``python -m devstack.telemetry_page``."""

from __future__ import annotations

from pathlib import Path

from devstack.made_parts import with_part
from shared.telemetry.metrics import METRICS

PAGE = Path(__file__).parents[1] / "docs" / "telemetry.md"
BEGIN = "<!-- Made from shared/telemetry/metrics.py by `make docs`. -->\n"


def metrics_table() -> str:
    """Give the table, in Markdown."""
    rows = "".join(
        f"| `{each.name}` | {each.kind} | `{each.unit}` | {each.description} | "
        f"{', '.join(f'`{name}`' for name in each.attributes)} |\n"
        for each in METRICS
    )
    return f"\n| metric | kind | unit | what it says | attributes |\n| --- | --- | --- | --- | --- |\n{rows}\n"


def with_table(page: str) -> str:
    """Put the table into the page, in the place of the one before."""
    return with_part(page, BEGIN, metrics_table())


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
