"""A ledger that was put back is taken care of some devices at a time, in the order of deeds that holds for all."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from shared.restoration import restoration_of
from tests.unit.adopting import ISSUER
from tests.unit.test_restorations import Conducted, listed_at

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES = [f"press-{number:02d}" for number in range(20)]
AT_ONCE = 16
"""Devices that are seen to at a time (docs/recover.md)."""


class Counted:
    """Passes calls on, and holds some of them for a while; counts how many are under way at once.

    Args:
        real: takes the calls.
        named: those that are held and counted.
        turns: of the event loop that a call is held.
    """

    def __init__(self, real: Any, *named: str, turns: Callable[[], int] = lambda: 40) -> None:
        self._real, self._named, self._turns = real, named, turns
        self.now, self.most = Counter[str](), Counter[str]()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return self._held(name, found) if name in self._named else found

    def _held(self, name: str, call: Any) -> Any:
        async def held(*given: Any, **named: Any) -> Any:
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])
            try:
                for _ in range(self._turns()):
                    await asyncio.sleep(0)
                return await call(*given, **named)
            finally:
                self.now[name] -= 1

        return held


def by_chance(seed: int) -> Callable[[], int]:
    """Hold each call as long as a seed says, so that those of a moment are done in any order."""
    chance = Random(seed)  # noqa: S311 - the same each time
    return lambda: chance.randrange(60)


async def put_back() -> Conducted:
    """Each device was revoked after the copy, and somebody has disabled every second one in its hub since."""
    subject = Conducted()
    subject.conducted(subject.conductor)
    await subject.begin(*DEVICES)
    copy = subject.copied()
    await subject.app.epochs.advance()
    for number, each in enumerate(DEVICES):
        if number % 4:
            await subject.revoke(each)
        else:
            await subject.app.identities.switch(each, enabled=False, reason="maintenance")
    subject.put_back(copy)
    return subject


async def run(subject: Conducted, *, turns: Callable[[], int]) -> tuple[list[str], Counted, Counted]:
    """Take everything back; give the lines, and what was under way at once, of devices and of certificates."""
    restoration = restoration_of(subject.worker())
    devices = Counted(restoration.converger, "converge", turns=turns)
    rows = Counted(restoration.certificates, "get", turns=turns)
    restoration.converger, restoration.certificates = devices, rows  # type: ignore[assignment]
    return [line async for line in restoration.run()], devices, rows


async def test_so_many_devices_are_seen_to_at_a_time_and_no_more() -> None:
    subject = await put_back()
    lines, devices, rows = await run(subject, turns=lambda: 40)
    assert (devices.most["converge"], rows.most["get"]) == (AT_ONCE, AT_ONCE)
    assert sum("revoked again" in line for line in lines) == 15
    assert sum("it is disabled in hub-1" in line for line in lines) == 5
    assert not any(each.enabled for each in subject.hubs.identities.values())
    for each in DEVICES:
        assert (await subject.device(each)).settled


@pytest.mark.long
async def test_what_is_said_is_the_same_whoever_is_done_first() -> None:
    said = list[list[str]]()
    for seed in (1, 2, 3):
        lines, _, _ = await run(await put_back(), turns=by_chance(seed))
        said.append(lines)
    assert said[0] == said[1] == said[2]
    assert [line.partition(":")[0] for line in said[0] if "revoked again" in line] == sorted(
        each for number, each in enumerate(DEVICES) if number % 4
    )


async def test_every_door_is_shut_before_anything_is_signed_and_the_first_list_has_all_that_was_revoked() -> None:
    """In whatever order the devices of a moment are done. Somebody has opened all doors meanwhile."""
    subject = await put_back()
    subject.provisioning.enrollments.clear()
    for place, identity in subject.hubs.identities.items():
        subject.hubs.identities[place] = dataclasses.replace(identity, enabled=True)

    async def taken_back() -> None:
        await run(subject, turns=by_chance(4))

    def shut() -> tuple[int, int]:
        entries = Counter(each["provisioningStatus"] for each in subject.provisioning.enrollments.values())
        return sum(not each.enabled for each in subject.hubs.identities.values()), entries["disabled"]

    conductor = subject.conductor
    conductor.start("a", taken_back())
    while "vault.tag" not in conductor.steps["a"]:
        before = shut()
        assert await conductor.advance("a", 1) == 1
    assert before == (15, 15), "the epoch is raised, and certificates are signed again"
    published = subject.crl(ISSUER)
    while published == subject.crl(ISSUER):
        assert await conductor.advance("a", 1) == 1
    assert len(listed_at(subject)) == 15, "the first list has them all"
    await conductor.advance("a")
    assert conductor.outcome("a") is None
    assert (shut(), len(listed_at(subject))) == ((15, 15), 15)
