"""One worker, nobody killed, nothing lost: when the services follow, no note is left by which the timer would come.

The timer would open what somebody has shut in the portal meanwhile. The worlds' auditor does not see such a note, since
it looks when the timers have run.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from shared.domain.treatments import FindingKind, Policy
from shared.errors import DeviceFactoryError
from tests.world.acts import CALLS, MESSAGES, SCENES
from tests.world.drift import PLANTED, fleet_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.world.world import World


def left(world: World) -> Collection[object]:
    return world.storage.table("unsettled").rows


@pytest.mark.parametrize("scene", SCENES)
async def test_an_act_leaves_no_note(scene: str) -> None:
    seen = 0
    for act in (*MESSAGES, *CALLS):
        world = (await SCENES[scene]()).copy()
        if act in CALLS:
            with suppress(DeviceFactoryError):
                await CALLS[act](world)
        else:
            world.ask(act, *MESSAGES[act])
            await world.deliver(act)
        record = world.record()
        if record is not None and record.settled:
            seen += 1
            assert not left(world), act
    assert seen


@pytest.mark.parametrize("policy", [Policy.MEND, Policy.ADOPT])
@pytest.mark.parametrize("kind", PLANTED)
async def test_what_is_done_about_a_finding_leaves_no_note(kind: FindingKind, policy: Policy) -> None:
    for before, plant in PLANTED[kind]:
        fleet = await fleet_of(*before)
        await fleet.world.drain()
        await plant(fleet)
        for found in await fleet.look():
            with suppress(DeviceFactoryError):
                await fleet.reconciler.act(found.finding_id, policy)
        assert not left(fleet.world), plant
