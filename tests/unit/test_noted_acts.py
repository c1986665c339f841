"""An act is noted before it is written, so that it is not forgotten; one that others were ahead of is not noted any more.

A note that stays has the timer follow the device once more, and that opens what somebody has shut in the portal.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.upkeep import to_be_followed
from shared.ledger.table import Stale
from shared.workflows.devices.changes import change, device_of, enter, unsettled
from tests.unit.devices import registered

if TYPE_CHECKING:
    from tests.unit.devices import DeviceScene


async def act(scene: DeviceScene) -> int:
    return (await change(scene.devices, "press", to_be_followed, at=scene.now)).record.generation


async def notes(scene: DeviceScene) -> list[int]:
    return [each.generation async for each in scene.devices.unsettled()]


async def test_the_note_of_an_act_that_others_were_ahead_of_is_withdrawn_once_theirs_is_followed() -> None:
    scene = await registered()
    known = await device_of(scene.devices, "press")
    await act(scene)
    await scene.converger.converge("press")
    with pytest.raises(Stale):
        await enter(scene.devices, known, to_be_followed(known.record), at=scene.now)
    assert await notes(scene) == []


async def test_what_was_disabled_in_the_portal_stays_so_after_an_act_that_others_were_ahead_of() -> None:
    scene = await registered()
    known = await device_of(scene.devices, "press")
    await act(scene)
    await scene.converger.converge("press")
    ((hub, device_id), identity) = next(iter(scene.hubs.identities.items()))
    scene.hubs.enter(hub, device_id, *identity.thumbprints, enabled=False)
    with pytest.raises(Stale):
        await enter(scene.devices, known, to_be_followed(known.record), at=scene.now)
    scene.now += timedelta(hours=1)
    await scene.converger.sweep(older_than=timedelta(minutes=5))
    assert not scene.hubs.identities[hub, device_id].enabled


async def test_the_note_stays_while_what_others_were_ahead_with_is_not_followed() -> None:
    """Theirs has the same name, and whoever wrote it may have been killed since."""
    scene = await registered()
    known = await device_of(scene.devices, "press")
    await act(scene)
    with pytest.raises(Stale):
        await enter(scene.devices, known, to_be_followed(known.record), at=scene.now)
    assert await notes(scene) == [known.record.generation + 1]


async def test_the_note_of_an_act_whose_own_write_is_taken_for_somebody_elses_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer got lost, and the call that was repeated found another ETag."""
    scene = await registered()
    known = await device_of(scene.devices, "press")
    write = scene.devices.replace

    async def written_before(*given: Any, **with_it: Any) -> Any:
        await write(*given, **with_it)
        raise Stale("a DeviceRecord has changed since it was read")

    monkeypatch.setattr(scene.devices, "replace", written_before)
    with pytest.raises(Stale):
        await enter(scene.devices, known, to_be_followed(known.record), at=scene.now)
    assert await notes(scene) == [known.record.generation + 1]


async def test_two_acts_that_are_followed_at_once_leave_no_note() -> None:
    """The worker of the later one was faster; that of the earlier one has nothing to do."""
    scene = await registered()
    first = await act(scene)
    second = await act(scene)
    await scene.converger.converge("press", since=second)
    await scene.converger.converge("press", since=first)
    assert await notes(scene) == []


async def test_of_two_acts_that_others_were_ahead_of_no_note_stays() -> None:
    """Both are noted before either is written: the second one writes over the note of the first."""
    scene = await registered()
    known = await device_of(scene.devices, "press")
    await act(scene)
    await scene.converger.converge("press")
    replace = scene.devices.replace

    async def beside_another(*given: Any, **with_it: Any) -> Any:
        scene.devices.replace = replace  # type: ignore[method-assign]
        with pytest.raises(Stale):
            await enter(scene.devices, known, to_be_followed(known.record), at=scene.now)
        return await replace(*given, **with_it)

    scene.devices.replace = beside_another  # type: ignore[method-assign]
    with pytest.raises(Stale):
        await enter(scene.devices, known, to_be_followed(known.record), at=scene.now)
    assert await notes(scene) == []


async def test_the_note_of_an_act_that_is_still_to_be_written_stays() -> None:
    """Its worker stood still for longer than a minute; then it has written the act, and was killed."""
    scene = await registered()
    known = await device_of(scene.devices, "press")
    wanted = to_be_followed(known.record)
    await scene.devices.enter_unsettled(unsettled(wanted, scene.now))
    scene.now += timedelta(minutes=2)
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 0
    await scene.devices.replace(known, wanted)
    scene.now += timedelta(minutes=1)
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 1
    assert ((await device_of(scene.devices, "press")).record.settled, await notes(scene)) == (True, [])


async def test_the_note_of_an_act_that_can_not_be_written_any_more_goes() -> None:
    """A host ends its worker after ten minutes."""
    scene = await registered()
    known = await device_of(scene.devices, "press")
    await scene.devices.enter_unsettled(unsettled(to_be_followed(known.record), scene.now))
    scene.now += timedelta(minutes=10)
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 0
    assert await notes(scene) == []


async def test_a_note_that_others_have_written_since_is_not_withdrawn() -> None:
    scene = await registered()
    known = await device_of(scene.devices, "press")
    noted = await scene.devices.enter_unsettled(unsettled(to_be_followed(known.record), scene.now))
    await act(scene)
    await scene.devices.withdraw_unsettled(noted)
    assert await notes(scene) == [known.record.generation + 1]
