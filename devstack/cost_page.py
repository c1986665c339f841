"""Write the tables of docs/cost.md from list prices and measured figures: ``python -m devstack.cost_page``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.made_parts import with_part

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).parents[1]
PAGE, FIGURES = REPOSITORY / "docs" / "cost.md", REPOSITORY / "docs" / "figures.md"
TIMERS = REPOSITORY / "triggers" / "timers.py"
PRICES_BEGIN, COSTS_BEGIN = "<!-- Prices, made by `make docs`. -->\n", "<!-- Costs, made by `make docs`. -->\n"
_ALERTS = len(json.loads((REPOSITORY / "infra" / "alerts.json").read_text(encoding="utf-8")))
FLEETS = (10_000, 1_000_000)
"""Devices issued in a year."""

_MONTHS = 12
_MEMORY = 2.0
"""GB of an instance."""

_SLOWER = 5
"""Services of Azure are farther away than emulated ones, and a DPS takes seconds. So much longer an instance works
than its processor does."""

_DAYS = 365 / 12
"""Of a month."""


@dataclass(frozen=True, slots=True)
class Price:
    """A list price, in US dollars.

    Attributes:
        what: is paid for.
        per: how many of them, or how much.
        dollars: for this.
        page: of Microsoft's that lists it.
    """

    what: str
    per: str
    dollars: float
    page: str


EXECUTION = Price("working instance", "GB-second, after 100,000 a month", 0.000026, "functions")
CALLS = Price("executions", "1,000,000, after 250,000 a month", 0.40, "functions")
DPS = Price("DPS operations", "1,000", 0.123, "iot-hub")
HUB = Price("IoT hub S1", "unit and month", 25.0, "iot-hub")
SIGNATURES = Price("operations with EC keys", "10,000", 0.15, "key-vault")
SECRETS = Price("operations with secrets and RSA-2048 keys", "10,000", 0.03, "key-vault")
HSM_KEY = Price("EC key in an HSM", "key and month, the first 250", 5.0, "key-vault")
TABLES = Price("table operations", "10,000", 0.00036, "storage/tables")
QUEUES = Price("queue operations, ZRS", "10,000", 0.005, "storage/queues")
BLOB_WRITES = Price("blob writes, hot, ZRS", "10,000", 0.0625, "storage/blobs")
CAPACITY = Price("capacity of tables, ZRS", "GB and month", 0.0562, "storage/tables")
LOGS = Price("logs taken in", "GB, after 5 a month", 2.30, "monitor")
ALERTS = Price("alert rule that looks every 5 minutes", "rule and month", 1.50, "monitor")
FRONT_DOOR = Price("Front Door Standard", "month", 35.0, "frontdoor")
ENDPOINT = Price("private endpoint", "hour", 0.01, "private-link")
PRICES: tuple[Price, ...] = tuple(each for each in globals().values() if isinstance(each, Price))


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a device (docs/figures.md), and what runs without devices.

    Attributes:
        ticks: runs of all timers in a month.
        tables: operations on tables.
        queues: operations on queues.
        blobs: writes of blobs.
        seconds: that a processor of the functions host works on it.
    """

    ticks: float
    tables: float
    queues: float
    blobs: float
    seconds: float


_OF_A_DEVICE = "| operations on storage per device, with the directory |"
"""Head of the one table that is read; others have the same operations, measured before."""


def measured(figures: str, timers: str) -> Measured:
    """Read the page of figures, and the schedules of the timers.

    Raises:
        ValueError: a figure is not where it was.
    """
    table = figures.partition(_OF_A_DEVICE)[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (table|queue|blob) [a-z, ]+ \|(?: [\d.]+ \|)* ([\d.]+) \|", table, re.MULTILINE)
    work = re.search(
        r"^\| time of the processors per device: functions host.* (\d+) and \d+ ms \|$", figures, re.MULTILINE
    )
    if not rows or work is None:
        raise ValueError("docs/figures.md does not have the operations of a device, or the time of the processors")
    of = {
        service: sum(float(count) for kind, count in rows if kind == service) for service in ("table", "queue", "blob")
    }
    ticks = sum(_runs(*found) for found in re.findall(r'schedule="(\S+) (\S+) (\S+) \* \* \*"', timers))
    return Measured(ticks * _DAYS, of["table"], of["queue"], of["blob"], int(work[1]) / 1_000)


def _runs(seconds: str, minutes: str, hours: str) -> int:
    """Give the runs in a day of a schedule with such seconds, minutes and hours."""
    return _times(seconds, 60) * _times(minutes, 60) * _times(hours, 24)


def _times(of: str, whole: int) -> int:
    if of.startswith("*"):
        return whole // int(of.removeprefix("*").removeprefix("/") or 1)
    return len(of.split(","))


def costs(devices: int, of: Measured) -> Sequence[tuple[str, float]]:
    """Give what a year costs in US dollars: at rest, and for so many devices that get a certificate and a place."""
    at_work = devices * of.seconds * _SLOWER * _MEMORY / _MONTHS
    at_rest = of.ticks * _MEMORY
    executions = of.ticks + devices * 0.2 / _MONTHS  # a message has up to twenty lines
    logs = 1 + devices * 5e-6 / _MONTHS
    return (
        ("apps: timers, and the work on devices", _MONTHS * max(0.0, at_rest + at_work - 100_000) * EXECUTION.dollars),
        ("apps: executions", _MONTHS * max(0.0, executions - 250_000) / 1e6 * CALLS.dollars),
        ("DPS: a registration and a look at it", devices * 2 / 1_000 * DPS.dollars),
        ("Key Vault: a signature, a password set and read", devices / 1e4 * (SIGNATURES.dollars + 2 * SECRETS.dollars)),
        ("tables", devices * of.tables / 1e4 * TABLES.dollars),
        ("queues", devices * of.queues / 1e4 * QUEUES.dollars),
        ("blobs", devices * of.blobs / 1e4 * BLOB_WRITES.dollars),
        ("capacity: 20 kB a device", devices * 20e-6 * _MONTHS / 2 * CAPACITY.dollars),
        ("logs: 1 GB a month, and 5 kB a device", _MONTHS * max(0.0, logs - 5) * LOGS.dollars),
        (f"alerts: {_ALERTS} rules", _MONTHS * _ALERTS * ALERTS.dollars),
        ("IoT hub: one unit S1", _MONTHS * HUB.dollars),
    )


def prices_table() -> str:
    """Give the table of prices, in Markdown."""
    rows = "".join(
        f"| {each.what} | {each.per} | {each.dollars:.6f}".rstrip("0").rstrip(".") + f" | `{each.page}` |\n"
        for each in PRICES
    )
    return f"\n| price of | for | US dollars | page |\n| --- | --- | --- | --- |\n{rows}\n"


def costs_table(of: Measured) -> str:
    """Give the table of costs, in Markdown."""
    columns = [costs(devices, of) for devices in FLEETS]
    head = " | ".join(f"{devices:,} devices" for devices in FLEETS)
    rows = "".join(
        f"| {what} | {' | '.join(f'{column[index][1]:,.2f}' for column in columns)} |\n"
        for index, (what, _) in enumerate(columns[0])
    )
    totals = " | ".join(f"**{sum(cost for _, cost in column):,.0f}**" for column in columns)
    return f"\n| US dollars a year | {head} |\n| --- | --- | --- |\n{rows}| **together** | {totals} |\n\n"


def with_tables(page: str, of: Measured) -> str:
    """Put the tables into the page, in the place of those before."""
    return with_part(with_part(page, PRICES_BEGIN, prices_table()), COSTS_BEGIN, costs_table(of))


def read() -> Measured:
    """Read what the page is made from."""
    return measured(FIGURES.read_text(encoding="utf-8"), TIMERS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
