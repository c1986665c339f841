"""docs/scale.md reckons with the documented rates, which the emulator enforces, and reckons right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emulator.platform.throttling import RATES

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
FIGURES = (REPOSITORY / "docs" / "figures.md").read_text(encoding="utf-8")
ORDERS = re.findall(r"^\| ([\d,]+) \| (\d[^|]+?) \| (\d[^|]+?) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    ("row", "rate"),
    [
        ("DPS: registrations | 1,000 a minute", "dps.registrations"),
        ("DPS: operations, registrations among them | 1,000 a minute", "dps.operations"),
        ("IoT hub S1 and S2: registry operations | 100 a minute for each unit", "iot_hub.registry"),
        ("Key Vault: operations with an EC P-256 key | 4,000 in 10 seconds", "key_vault.transactions"),
    ],
)
def test_a_quota_is_the_one_that_the_emulator_enforces(row: str, rate: str) -> None:
    assert f"| {row}" in PAGE
    calls, seconds = re.findall(r"([\d,]+) (?:a (minute)|in (\d+) seconds)", row)[0], RATES[rate].seconds
    assert int(calls[0].replace(",", "")) == RATES[rate].calls
    assert (60 if calls[1] else int(calls[2])) == seconds


def test_an_order_takes_as_long_as_the_quotas_let_it() -> None:
    assert [int(devices.replace(",", "")) for devices, _, _ in ORDERS] == [10_000, 100_000, 1_000_000]
    for devices, at_dps, with_one_unit in ORDERS:
        count = int(devices.replace(",", ""))
        assert at_dps == words(count / 1000)
        assert with_one_unit == words(count / 100)


def words(minutes: float) -> str:
    """Give minutes in words; of more than a day, rounded to the hour."""
    days, hours = divmod(round(minutes / 60), 24)
    if days:
        return f"{days} days {hours} hours"
    hours, rest = divmod(round(minutes), 60)
    said = [f"{hours} hour{'s' if hours > 1 else ''}"] if hours else []
    return " ".join([*said, f"{rest} minutes"])


def test_what_a_device_takes_is_what_was_measured() -> None:
    """Whoever measures anew looks at this page as well."""
    assert "| operations on storage | 9.3 | 155 a second |" in PAGE
    assert "| operations on storage per device, with the directory | before | now |\n| --- | --- | --- |\n" in FIGURES
    assert "\n| all | 10.8 | 9.3 |\n" in FIGURES
    assert "| processor of the app | 52 ms | 0.9 cores |" in PAGE
    assert "| 69 and 36 ms | 52 and 23 ms |" in FIGURES
    assert round(9.3 * 1000 / 60) == 155
    assert round(0.052 * 1000 / 60, 1) == 0.9
