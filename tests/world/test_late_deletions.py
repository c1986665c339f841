"""A deletion whose worker comes late removes nothing of a device that was ordered, or shut out, since."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.domain.words import DeviceState
from shared.errors import Conflict, Deferred
from tests.world.acts import MESSAGES, SCENES
from tests.world.auditor import audit
from tests.world.services import HUB
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from tests.world.world import World


async def asked(*names: str) -> World:
    """Give a world with a device in its hub, and with messages that nobody has taken."""
    world = await SCENES["registered"]()
    for name in names:
        world.ask(name, *MESSAGES[name])
    return world


def missing(world: World, step: int) -> list[str]:
    """Tell what a device that is in its hub lacks."""
    identity, faults = world.hubs.identities.get((HUB, DEVICE)), list[str]()
    if identity is None or not identity.enabled:
        faults.append(f"no identity lets it in, before step {step}")
    if DEVICE not in world.provisioning.registrations:
        faults.append(f"it is not registered, before step {step}")
    return faults


async def test_a_device_that_is_ordered_anew_keeps_its_identity_and_its_registration() -> None:
    """Whoever deletes the device has read the record before that, and nobody makes what is gone once more."""
    faults, met, step, stands = list[str](), 0, 0, True
    while stands:
        world = await asked("delete", "order again")
        world.conductor.start("late", world.deliver("delete"))
        stands = await world.conductor.advance("late", step) == step
        await world.services.converger.sweep(older_than=timedelta())
        await world.deliver("order again", host=1)
        await world.conductor.advance("late")
        await world.drain()
        record = world.record()
        if record is not None and record.state is DeviceState.REGISTERED:
            met += 1
            faults += missing(world, step)
        faults += await audit(world)
        step += 1
    assert met
    assert faults == []


@pytest.mark.parametrize("acts", [("hold",), ("delete", "order again")], ids=["put on hold", "ordered anew"])
async def test_who_deletes_an_identity_alone_deletes_the_one_that_was_asked_about(acts: tuple[str, ...]) -> None:
    """What keeps a device out stays, and so does the identity that it got since: whoever asked is told to look again."""
    faults, refused, step, stands = list[str](), 0, 0, True
    while stands:
        world = await asked(*acts)
        world.conductor.start("late", world.services.identities.delete(DEVICE))
        stands = await world.conductor.advance("late", step) == step
        for name in acts:
            await world.deliver(name, host=1)
        there = (HUB, DEVICE) in world.hubs.identities
        await world.conductor.advance("late")
        outcome = world.conductor.outcome("late")
        if stands and step and there:
            refused += isinstance(outcome, Conflict | Deferred)
            if (HUB, DEVICE) not in world.hubs.identities:
                faults.append(f"the identity that was not asked about is gone, before step {step}")
        step += 1
    assert refused
    assert faults == []
