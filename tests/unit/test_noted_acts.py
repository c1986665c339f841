"""An act is noted before it is written, so that it is not forgotten; one that others were ahead of is not noted any more.

A note that stays has the timer follow the device once more, and that opens what somebody has shut in the portal.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.devices import DeviceRecord
from shared.domain.upkeep import to_be_followed
from shared.ledger.table import Stale
from shared.telemetry import metrics
from shared.workflows.devices.changes import change, device_of, enter, unsettled
from tests.unit.devices import HUB, registered
from tests.unit.fakes import Killed

if TYPE_CHECKING:
    from shared.ledger.devices import UnsettledRecord
    from tests.unit.devices import DeviceScene


async def act(scene: DeviceScene) -> DeviceRecord:
    return (await change(scene.devices, "press", to_be_followed, at=scene.now)).record


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
    """Whoever wrote it may have been killed since."""
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
    await scene.converger.converge("press", entered=second)
    await scene.converger.converge("press", entered=first)
    assert await notes(scene) == []


async def test_of_two_acts_that_others_were_ahead_of_no_note_stays() -> None:
    """Both are noted before either is written."""
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
    wanted = to_be_followed(known.record).changed(notes=("1",))
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


async def test_what_is_disabled_by_a_worker_that_stood_still_for_a_minute_is_shut_though_its_hub_was_down() -> None:
    """Nobody repeats a call; and the timer has come between the note and the act."""
    scene = await registered()
    write = scene.devices.replace

    async def slow(*given: Any, **with_it: Any) -> Any:
        scene.devices.replace = write  # type: ignore[method-assign]
        scene.now += timedelta(seconds=61)
        await scene.converger.sweep(older_than=timedelta(minutes=1))
        scene.hubs.down.add(HUB)
        return await write(*given, **with_it)

    scene.devices.replace = slow  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.identities.switch("press", enabled=False, reason="stolen")
    scene.hubs.down.clear()
    scene.now += timedelta(minutes=1)
    await scene.converger.sweep(older_than=timedelta(minutes=1))
    assert ((await scene.record()).disabled, bool(scene.identity())) == (True, False)


async def test_a_note_that_is_gone_when_the_timer_comes_to_it_opens_nothing() -> None:
    """It was listed; then its own worker has deleted it, and somebody has disabled the device in the portal."""
    scene = await registered()
    await scene.order("another", "alpha")
    for each in ("alpha", "press"):
        await change(scene.devices, each, to_be_followed, at=scene.now)
    first, last = [each.registration_id async for each in scene.devices.unsettled()]
    scene.now += timedelta(hours=1)
    is_noted = scene.devices.is_noted

    async def settled_meanwhile(note: UnsettledRecord) -> bool:
        if note.registration_id == first:
            await scene.converger.converge(last)
            scene.hubs.enter(HUB, last, *scene.hubs.identities[HUB, last].thumbprints, enabled=False)
        return await is_noted(note)

    scene.devices.is_noted = settled_meanwhile  # type: ignore[method-assign, assignment]
    await scene.converger.sweep(older_than=timedelta(minutes=1))
    assert not scene.hubs.identities[HUB, last].enabled


class Late:
    """A worker that disables a device at its hub, and stands before that; it is killed right after."""

    def __init__(self, scene: DeviceScene) -> None:
        self._scene, self._go, self.there = scene, asyncio.Event(), asyncio.Event()
        self._shut_out = scene.hubs.shut_out
        scene.hubs.shut_out = self._stand  # type: ignore[method-assign]
        self._task = asyncio.create_task(scene.identities.switch("press", enabled=False, reason="by who is late"))

    async def _stand(self, *given: Any, **with_it: Any) -> Any:
        self._scene.hubs.shut_out = self._shut_out  # type: ignore[method-assign]
        self.there.set()
        await self._go.wait()
        await self._shut_out(*given, **with_it)
        raise Killed

    async def go_on(self) -> None:
        self._go.set()
        with pytest.raises(Killed):
            await self._task


@pytest.mark.parametrize("beside", ["nobody", "a former act", "a loser"])
async def test_what_a_worker_shuts_late_before_it_is_killed_is_opened_by_its_note(beside: str) -> None:
    """Whoever else was at the device leaves that note alone."""
    scene = await registered()
    known = await device_of(scene.devices, "press")
    first = await act(scene)
    if beside == "a loser":
        known = await device_of(scene.devices, "press")
    late = Late(scene)
    await late.there.wait()
    await scene.identities.switch("press", enabled=True, reason="by the last one")
    if beside == "a former act":
        await scene.converger.converge("press", entered=first)
    if beside == "a loser":
        with pytest.raises(Stale):
            await enter(scene.devices, known, to_be_followed(known.record), at=scene.now)
    await late.go_on()
    scene.now += timedelta(minutes=1)
    await scene.converger.sweep(older_than=timedelta(minutes=1))
    assert ((await scene.record()).settled, bool(scene.identity())) == (True, True)


async def test_an_act_whose_answer_was_lost_beside_another_one_leaves_no_note() -> None:
    """The other one was entered before the call was repeated, which then found another ETag."""
    scene = await registered()
    write, other = scene.devices.replace, list[DeviceRecord]()

    async def lost(*given: Any, **with_it: Any) -> Any:
        scene.devices.replace = write  # type: ignore[method-assign]
        await write(*given, **with_it)
        other.append(await act(scene))
        raise Stale("press")

    scene.devices.replace = lost  # type: ignore[method-assign]
    await scene.identities.switch("press", enabled=True, reason="x")
    await scene.converger.converge("press", entered=other[0])
    assert await notes(scene) == []


async def test_a_device_that_is_ordered_anew_has_no_note_when_it_is_registered() -> None:
    """Its certificate is reserved by one act, and committed by another."""
    scene = await registered()
    await scene.delete()
    await scene.order("order-2")
    assert ((await scene.record()).settled, await notes(scene)) == (True, [])


async def test_the_note_of_a_call_that_failed_and_was_repeated_opens_nothing() -> None:
    """The table did not answer; what the first call wanted to enter was never written."""
    scene = await registered()
    write = scene.devices.replace

    async def down(*_given: Any, **_with_it: Any) -> Any:
        scene.devices.replace = write  # type: ignore[method-assign]
        raise ConnectionError("no route")

    scene.devices.replace = down  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.identities.switch("press", enabled=True, reason="x")
    await scene.identities.switch("press", enabled=True, reason="x")
    scene.hubs.enter(HUB, "press", *scene.hubs.identities[HUB, "press"].thumbprints, enabled=False)
    scene.now += timedelta(minutes=2)
    await scene.converger.sweep(older_than=timedelta(minutes=1))
    assert (bool(scene.identity()), await notes(scene)) == (False, [])


async def test_an_act_that_was_never_entered_is_no_act_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker was killed, and nobody repeats the call: the alert on what hangs for five minutes does not fire."""
    scene, ages = await registered(), list[float]()
    monkeypatch.setattr(metrics, "UNSETTLED_AGE", SimpleNamespace(record=ages.append))
    known = await device_of(scene.devices, "press")
    await scene.devices.enter_unsettled(unsettled(to_be_followed(known.record), scene.now))
    for _ in range(11):
        scene.now += timedelta(minutes=1)
        await scene.converger.sweep(older_than=timedelta(minutes=1))
    assert (set(ages), await notes(scene)) == ({0}, [])


async def test_the_note_of_an_act_before_a_device_was_ordered_anew_is_known_to_have_been_entered() -> None:
    """Its worker may have shut the device out late, and have been killed."""
    scene = await registered()
    deleted = await device_of(scene.devices, "press")
    await scene.delete()
    known = await device_of(scene.devices, "press")
    assert known.record.notes
    assert known.record.generation > deleted.record.generation
    await scene.order("order-2")
    assert set(known.record.notes) < set((await scene.record()).notes)
