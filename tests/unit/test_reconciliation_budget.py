"""Reconciliation keeps to its share of the services' quotas, over any time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from shared.workflows.reconciliation.budget import Budget, Share
from shared.workflows.reconciliation.walking import LEDGER_PAGE, SERVICE_PAGE
from tests.unit.pki.hierarchy import NOW

HUB = "hub-1.azure-devices.net"


def minutes_for(share: Share, steps: list[dict[str, int]]) -> float:
    """Take steps as soon as the share allows, and tell how many minutes that takes."""
    now, until = NOW, dict[str, datetime]()
    for calls in steps:
        due = share.next_step(until)
        now = max(now, due) if due is not None else now
        until = share.spent(until, calls, now)
    return (now - NOW) / timedelta(minutes=1)


@pytest.mark.parametrize(
    ("share", "calls", "minutes"),
    [
        (Share(percent=10, hub_units=1), {"dps": 1}, 10),  # 100 of 1,000 a minute
        (Share(percent=20, hub_units=1), {"dps": 1}, 5),
        (Share(percent=10, hub_units=4), {f"queries {HUB}": 1}, 125),  # 8 of 80
        (Share(percent=10, hub_units=1), {f"reads {HUB}": 1}, 100),  # 10 of 100
        (Share(percent=10, hub_units=1), {"dps": 1, f"queries {HUB}": 1}, 500),  # the slower one decides
    ],
)
def test_a_thousand_calls_take_as_long_as_the_share_says(share: Share, calls: dict[str, int], minutes: float) -> None:
    """Less one minute's worth, which may be used at once."""
    assert minutes_for(share, [calls] * 1000) == pytest.approx(minutes - 1, rel=0.02)


def test_a_million_devices_are_compared_within_a_day_with_a_tenth_of_the_quotas() -> None:
    """With the pages of :mod:`shared.workflows.reconciliation.walking`, long ids, and a hub of four S1 units.

    One device in a hundred has an individual enrollment of its own.
    """
    share = Share(percent=10, hub_units=4)
    steps = [{"dps": 1}] * (1_000_000 // SERVICE_PAGE + 1_000_000 // 100 // SERVICE_PAGE)
    queries = -(-LEDGER_PAGE * 50 // 8000)  # ids of 46 characters, in quotes and commas
    steps += [{f"queries {HUB}": queries, "dps": LEDGER_PAGE // 100}] * (1_000_000 // LEDGER_PAGE)
    assert minutes_for(share, steps) < 24 * 60


def test_calls_are_counted_by_service_and_hub() -> None:
    budget = Budget()
    budget.dps()
    budget.dps(2)
    budget.queries("Hub-1.azure-devices.net")
    budget.reads(HUB)
    assert budget.calls == {"dps": 3, f"queries {HUB}": 1, f"reads {HUB}": 1}
