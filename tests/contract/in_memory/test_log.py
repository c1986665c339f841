"""The log: what holds of the world's list of entries holds of the app's own log, over storage in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.unit.evidence.stored import Place
from tests.world import services

if TYPE_CHECKING:
    from shared.ports.evidence import EvidenceLog


@pytest.fixture(params=["in memory", "the app's"])
async def log(request: pytest.FixtureRequest) -> EvidenceLog:
    return services.Log() if request.param == "in memory" else Place().worker().sequencer


async def test_an_entry_has_the_place_at_which_it_stands(log: EvidenceLog) -> None:
    """From 0, one after the other; the same bytes again are another entry."""
    assert [await log.append(each) for each in (b"one", b"two", b"one")] == [0, 1, 2]


async def test_entries_that_come_at_once_have_a_place_each(log: EvidenceLog) -> None:
    places = await asyncio.gather(*(log.append(b"entry %d" % number) for number in range(20)))
    assert sorted(each for each in places if each is not None) == list(range(20))
