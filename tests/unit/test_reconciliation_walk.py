"""A pass walks a fleet within its share of the quotas, however much differs at once; the fleet and its time are virtual.

The services refuse what is beyond the share, by the emulator's own throttling: a call too many fails the pass.
`make bench-reconciliation` does the same with 1,000,000 devices.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.world.fleet import Shape
from tests.world.fleet_walk import walk

WAITING = 100
"""Of so many devices, one has a key that was not fetched."""


@pytest.mark.parametrize(
    "shape",
    [
        Shape(devices=2000, groups=5),
        Shape(devices=500, groups=5, hubs=7),
        Shape(devices=500, groups=5, id_length=64, units=4),
        Shape(devices=500, groups=5, shut=2),
        Shape(devices=500, groups=5, percent=1),
    ],
    ids=["one hub", "several hubs", "long ids", "half of them revoked", "a hundredth of the quotas"],
)
async def test_a_pass_looks_at_everything_once_and_no_call_is_refused(shape: Shape) -> None:
    done = await walk(shape)
    assert done.fleet.quotas.refused == 0
    assert (done.record.found, done.record.unread) == ({}, 0)
    assert done.record.looked_at == {
        "authorities": 0,
        "groups": 5,
        "enrollments": shape.devices // shape.shut,
        "registrations": shape.devices,
        "identities": shape.devices,
        "devices": shape.devices,
        "bundles": shape.devices,
        "passwords": shape.devices // WAITING,
        "gone": 0,
    }


@pytest.mark.parametrize("hubs", [1, 3])
async def test_many_devices_that_differ_at_once_are_looked_at_over_some_minutes(hubs: int) -> None:
    """Each takes a read of its hub, and a hub of one unit has 10 a minute for reconciliation; two of 60 are revoked."""
    done = await walk(Shape(devices=500, groups=5, hubs=hubs, drifted=60))
    assert done.fleet.quotas.refused == 0
    assert (done.record.found, done.record.unread) == ({"identityDisabled": 58}, 0)
    assert done.record.looked_at["devices"] == 500
    assert done.hours * 60 > 58 / hubs / 10 - 1


async def test_devices_that_differ_among_many_revoked_ones_do_not_hold_a_pass_up() -> None:
    """To compare the revoked ones alone takes more than DPS may be asked in a minute: the pass goes on all the same."""
    done = await asyncio.wait_for(walk(Shape(devices=1000, groups=5, shut=2, drifted=300)), 60)
    assert done.fleet.quotas.refused == 0
    assert (done.record.found, done.record.unread) == ({"identityDisabled": 150}, 0)
    assert done.record.looked_at["devices"] == 1000


async def test_individual_enrollments_are_compared_from_their_pages() -> None:
    """5 groups, and a list of them, a page of 250 entries, 5 pages of registrations; and each entry that must be there is read once."""
    done = await walk(Shape(devices=500, groups=5, shut=2))
    assert done.record.looked_at["enrollments"] == 250
    assert done.record.calls["dps"] == 5 + 1 + 1 + 5 + 250


async def test_individual_enrollments_of_others_are_looked_at_within_the_share() -> None:
    """Each takes two operations of 100 a minute: 300 take six minutes, and the pass goes on amid the page."""
    done = await walk(Shape(devices=500, groups=5, strangers=300))
    assert done.fleet.quotas.refused == 0
    assert (done.record.found, done.record.unread) == ({"enrollmentUnknown": 300}, 0)
    assert done.record.looked_at["enrollments"] == 10 + 300
    assert 5 < done.hours * 60 < 12


async def test_every_identity_of_a_hub_is_read_from_its_pages() -> None:
    """3 pages of at most 1,000; and a query names at most 333 devices, as many as are left of a page of 1,000."""
    done = await walk(Shape(devices=2500, groups=5, id_length=20))
    assert done.record.looked_at["identities"] == 2500
    assert done.fleet.quotas.calls["iot_hub.queries"] == 3 + (4 + 4 + 2)


async def test_identities_of_nobody_are_looked_at_within_the_share() -> None:
    """Each takes a read of 10 a minute: 60 take six minutes, and the pass goes on amid the page."""
    done = await walk(Shape(devices=500, groups=5, hubs=2, guests=60))
    assert done.fleet.quotas.refused == 0
    assert (done.record.found, done.record.unread) == ({"identityUnknown": 60}, 0)
    assert done.record.looked_at["identities"] == 560
    assert 5 < done.hours * 60 < 12


async def test_what_a_pass_counts_is_what_the_services_count() -> None:
    done = await walk(Shape(devices=500, groups=5, hubs=2, drifted=20))
    counted, calls = done.fleet.quotas.calls, done.record.calls
    assert calls["dps"] == counted["dps.operations"]
    assert sum(count for name, count in calls.items() if name.startswith("queries ")) == counted["iot_hub.queries"]
    assert sum(count for name, count in calls.items() if name.startswith("reads ")) == counted["iot_hub.registry"]
    assert calls["vault"] == counted["key_vault.transactions"]
