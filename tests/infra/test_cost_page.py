"""docs/cost.md has what the prices, the figures and the timers make."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from devstack.cost_page import FIGURES, PAGE, PRICES, Measured, costs, measured, prices_table, read, with_tables
from tests.infra.deployment import deploy

if TYPE_CHECKING:
    from collections.abc import Mapping

OF = Measured(ticks=80_000, tables=10, queues=4.5, blobs=1, seconds=0.1)


def of_a_year(devices: int) -> Mapping[str, float]:
    return dict(costs(devices, OF))


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def test_the_page_is_about_the_one_that_figures_prices_and_timers_make() -> None:
    """A quarter off, and it is time for `make docs`; the words and the prices are as they are."""
    page = PAGE.read_text(encoding="utf-8")
    made = with_tables(page, read())
    assert NUMBER.sub("#", made) == NUMBER.sub("#", page)
    for said, computed in zip(NUMBER.findall(page), NUMBER.findall(made), strict=True):
        assert float(said.replace(",", "")) == pytest.approx(float(computed.replace(",", "")), rel=0.25, abs=1)
    assert prices_table() in page


@pytest.mark.parametrize(
    ("what", "dollars"),
    [
        ("DPS: a registration and a look at it", 246.0),  # 2,000,000 operations, 0.123 for a thousand
        ("Key Vault: a signature, a password set and read", 21.0),  # 100 times (0.15 + 2 * 0.03)
        ("tables", 0.36),  # 1,000 times 0.00036
        ("queues", 2.25),  # 450 times 0.005
        ("alerts: 12 rules", 216.0),  # 144 times 1.50
        ("IoT hub: one unit S1", 300.0),
        # (80,000 seconds of timers + 1,000,000 * 0.1 * 5 / 12 seconds of work) * 2 GB - 100,000, times 12 * 0.000026
        ("apps: timers, and the work on devices", 44.72),
    ],
)
def test_a_year_of_a_million_devices_costs(what: str, dollars: float) -> None:
    assert of_a_year(1_000_000)[what] == pytest.approx(dollars)


def test_what_is_free_is_not_counted() -> None:
    assert of_a_year(0)["apps: executions"] == 0
    assert of_a_year(10_000)["logs: 1 GB a month, and 5 kB a device"] == 0


def test_figures_and_schedules_are_read_as_they_stand() -> None:
    figures = (
        "| time of the processors per device: functions host, Azurite | 69 and 36 ms | 52 and 23 ms |\n"
        "| operations on storage per device, with the directory | before | now |\n| all | 9 | 8 |\n"
        "| table write | 9 | 3 | x |\n| table read | 9 | 2.5 | x |\n| queue put | 9 | 3 | x |\n"
        "| queue get and delete | 9 | 1.5 | |\n| blob put | 1 | x |\n"
        "\nMeasured before, and not counted a second time:\n\n| operation | now |\n| table read | 7 |\n| blob put | 1 |\n"
    )
    timers = (
        'schedule="0 10 3 * * *" schedule="30 */10 * * * *" schedule="15 2,17,32,47 * * * *" schedule="5,35 * * * * *"'
    )
    found = measured(figures, timers)
    assert (found.tables, found.queues, found.blobs, found.seconds) == (5.5, 4.5, 1, 0.052)
    assert found.ticks == pytest.approx((1 + 144 + 96 + 2 * 1440) * 365 / 12)
    with pytest.raises(ValueError, match=r"docs/figures\.md does not have"):
        measured("", timers)
    assert FIGURES.exists()


def test_every_price_names_the_page_that_lists_it() -> None:
    assert len(PRICES) == 15
    for price in PRICES:
        assert price.page
        assert price.dollars > 0


def test_as_many_endpoints_are_counted_as_a_private_network_has() -> None:
    resources, _ = deploy(environmentName="plant-1", location="westeurope", privateNetwork=True)
    endpoints = sum(each.kind == "Microsoft.Network/privateEndpoints" for each in resources)
    assert f"{endpoints} private endpoints" in PAGE.read_text(encoding="utf-8")
    assert f"| {endpoints * 8760 / 100:,.0f} |" in PAGE.read_text(encoding="utf-8")


def test_what_comparing_a_large_fleet_costs_follows_from_the_measured_pass() -> None:
    """A run of the timer takes up to 45 seconds of each minute, on an instance of 2 GB."""
    found = re.search(r"^\| 1 hub of 3 units \| ([\d.]+) \|", FIGURES.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    hours = found[1]
    dollars = float(hours) * 3_600 * 0.75 * 2 * 365 * 0.000026
    row = f"compared every day: {hours} hours in which an instance works 45 seconds a minute | {dollars:,.0f} |"
    assert row in PAGE.read_text(encoding="utf-8")
