"""Reconciliation keeps to its share of the services' quotas, in every minute."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from shared.domain.passes import Calls
from shared.rules.hub_queries import queried
from shared.workflows.reconciliation.budget import Budget, Share
from tests.pki.hierarchy import NOW

HUB = "hub-1.azure-devices.net"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def minutes_for(share: Share, steps: list[dict[str, int]]) -> float:
    """Take steps as soon as the share allows, and tell how many minutes that takes."""
    now, spent = NOW, dict[str, tuple[Calls, ...]]()
    for calls in steps:
        due = share.next_step([spent])
        now = max(now, due) if due is not None else now
        spent = share.spent(spent, calls, now)
    return (now - NOW) / MINUTE


@pytest.mark.parametrize(
    ("share", "calls", "minutes"),
    [
        (Share(percent=10, hub_units=1), {"dps": 1}, 10),  # 100 of 1,000 a minute, in steps that are worth it: of 3
        (Share(percent=20, hub_units=1), {"dps": 1}, 5),
        (Share(percent=10, hub_units=4), {f"queries {HUB}": 1}, 124),  # 8 of 80; the first minute's at once
        (Share(percent=10, hub_units=1), {f"reads {HUB}": 1}, 99),  # 10 of 100
        (Share(percent=10, hub_units=1), {"dps": 1, f"queries {HUB}": 1}, 499),  # the slower one decides
        (Share(percent=1, hub_units=1), {f"queries {HUB}": 1}, 4995),  # a fifth of one a minute
        (Share(percent=10, hub_units=1), {"vault": 200}, 499 / 6),  # 400 of 4,000 in 10 seconds
    ],
)
def test_a_thousand_steps_take_as_long_as_the_share_says(share: Share, calls: dict[str, int], minutes: float) -> None:
    assert minutes_for(share, [calls] * 1000) == pytest.approx(minutes)


def test_no_minute_has_more_than_the_share_however_the_calls_fall() -> None:
    """Also where a minute begins amid a step: what was made at the end of one minute counts in the next."""
    share, now, spent = Share(percent=10, hub_units=1), NOW, dict[str, tuple[Calls, ...]]()
    made = list[tuple[datetime, int]]()
    for second in range(600):
        now = NOW + second * SECOND
        calls = int(min(7, share.budget([spent], now).operations))
        if calls and second % 60 > 40:
            spent = share.spent(spent, {"dps": calls}, now)
            made.append((now, calls))
    assert sum(count for _, count in made) > 800
    most = max(sum(count for at, count in made if since <= at < since + MINUTE) for since, _ in made)
    assert most == 100


def test_passes_that_run_together_have_one_share() -> None:
    share = Share(percent=10, hub_units=1)
    others = share.spent({}, {"dps": 60, f"reads {HUB}": 4}, NOW)
    own = share.spent({}, {"dps": 30}, NOW)
    budget = share.budget([others, own], NOW)
    assert (budget.operations, budget.looks([HUB.upper()])) == (10, 2)  # a look, and an entry that is brought along
    budget.dps(5)
    assert budget.looks([HUB]) == 1
    assert share.budget([others, own], NOW + MINUTE).operations == 100


def test_a_look_at_a_device_takes_room_at_every_hub_that_it_may_be_in() -> None:
    budget = Share(percent=10, hub_units=1).budget([{f"reads {HUB}": [Calls(by=NOW, count=8)]}], NOW)
    assert budget.looks(["hub-2"]) == 10
    assert budget.looks(["hub-2", HUB]) == 2


def test_a_budget_without_a_share_has_no_end() -> None:
    budget = Budget()
    budget.dps(1_000_000)
    assert budget.looks([HUB]) > 1_000_000


def test_calls_are_counted_by_service_and_hub() -> None:
    budget = Budget()
    budget.dps()
    budget.dps(2)
    budget.queries("Hub-1.azure-devices.net")
    budget.reads(HUB)
    budget.vault()
    assert budget.calls == {"dps": 3, f"queries {HUB}": 1, f"reads {HUB}": 1, "vault": 1}


def test_a_query_names_as_many_ids_as_it_takes() -> None:
    """Each with two quotes, a comma and a space: 8,000 characters hold 160 ids of 46 characters, and 1,000 short ones."""
    batches = list(queried([f"{number:046}" for number in range(321)]))
    assert [len(each) for each in batches] == [160, 160, 1]
    assert [each for batch in batches for each in batch] == [f"{number:046}" for number in range(321)]
    assert [len(each) for each in queried([str(number) for number in range(100, 1_101)])] == [1000, 1]
