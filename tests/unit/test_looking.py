"""What is looked at about a device: as it is at one moment, and a service that does not answer leaves its part unseen."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.explanations.parts import Blind, Unseen
from shared.errors import Rejected, ServiceFailed
from shared.workflows.devices import looking
from shared.workflows.devices.looking import seen_or_not
from tests.unit.devices import ISSUER
from tests.unit.explained import ExplainedScene, in_service

if TYPE_CHECKING:
    from shared.domain.explanations.parts import Seen


async def seen(scene: ExplainedScene) -> Seen:
    return await scene.explaining.looking.at("press")


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_service_that_does_not_answer_in_time_is_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An explanation is asked for by somebody who waits for it."""
    monkeypatch.setattr(looking, "_PATIENCE", 0.001)
    found = await seen_or_not(never)
    assert isinstance(found, Unseen)
    assert (found.because, found.why) == (Blind.UNAVAILABLE, "it did not answer within 0 seconds")


@pytest.mark.parametrize("error", [ServiceFailed("DPS answers 500"), Rejected.because("DPS answers 500")])
async def test_what_a_service_says_is_told(error: Exception) -> None:
    async def fails() -> None:
        raise error

    found = await seen_or_not(fails)
    assert isinstance(found, Unseen)
    assert (found.because, found.why) == (Blind.UNAVAILABLE, "DPS answers 500")


async def fails() -> Any:
    raise ServiceFailed("it does not answer")


class HalfSeen:
    """Previews that can't see what is verified."""

    def __init__(self, previews: Any) -> None:
        self._previews = previews

    def __getattr__(self, name: str) -> Any:
        return getattr(self._previews, name)

    async def verified(self, _chain: Any) -> Any:
        return await fails()


@pytest.mark.parametrize("part", ["groups", "verified"])
async def test_nothing_is_decided_by_half_of_what_dps_knows(part: str) -> None:
    """Without the groups, or the CAs that are verified, a device that gets in would look as if it were refused."""
    scene = await in_service()
    assert not isinstance((await seen(scene)).decisions, Unseen)
    if part == "groups":
        scene.provisioning.list_groups = failing  # type: ignore[method-assign]
        found = await seen(scene)
    else:
        subject = scene.explaining.looking
        half: Any = HalfSeen(subject.previews)
        found = await replace(subject, previews=half).at("press")
    assert isinstance(found.decisions, Unseen)
    assert found.decisions.why == "it does not answer"


async def failing() -> Any:
    await fails()
    yield {}


async def test_a_chain_that_the_ledger_does_not_have_whole_is_not_judged() -> None:
    """What is missing may be what DPS has verified: no cause is made of it."""
    scene = await in_service()
    assert len((await seen(scene)).chain) > 1
    known = await scene.issuers.get(ISSUER)
    assert known is not None
    await scene.issuers.replace(known, known.record.changed(parent="nobody"))
    found = await seen(scene)
    assert (found.chain, found.authorities, found.decisions) == ((), (), ())


async def test_what_was_decided_while_the_services_were_looked_at_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device that is revoked meanwhile would look as if the services did not follow."""
    scene = await in_service()
    asked = 0
    get = scene.hubs.get

    async def revoked_meanwhile(hub: str, device_id: str) -> Any:
        nonlocal asked
        asked += 1
        found = await get(hub, device_id)
        if asked == 1:
            monkeypatch.setattr(scene.hubs, "get", get)
            await scene.revoke()
            monkeypatch.setattr(scene.hubs, "get", revoked_meanwhile)
        return found

    monkeypatch.setattr(scene.hubs, "get", revoked_meanwhile)
    found = await seen(scene)
    assert asked == 2
    assert found.device.state == "revoked"
    assert found.identity is not None
    assert not isinstance(found.identity, Unseen)
    assert not found.identity.enabled


async def test_a_device_that_others_keep_changing_is_told_as_it_was_seen_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks gets an answer."""
    scene = await in_service()
    asked = 0
    get = scene.hubs.get

    async def changing(hub: str, device_id: str) -> Any:
        nonlocal asked
        asked += 1
        known = await scene.known()
        await scene.devices.replace(known, known.record.changed(switched_for=f"change {asked}"))
        return await get(hub, device_id)

    monkeypatch.setattr(scene.hubs, "get", changing)
    found = await seen(scene)
    assert (asked, found.device.switched_for) == (3, "change 2")


# --- other hubs ---


async def in_two_hubs() -> ExplainedScene:
    """A revoked device whose identity in another hub somebody has enabled since."""
    scene = await in_service()
    scene.linked = ("hub-1", "hub-2")
    await scene.revoke()
    scene.hubs.enter("hub-2", "press", *scene.hubs.identities["hub-1", "press"].thumbprints)
    return scene


def doors(explained: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["name"], each["state"], each["why"]) for each in explained["doors"] if each["door"] == "hub"]


async def test_a_door_that_another_hub_has_open_is_the_cause() -> None:
    """That every door is shut to the device is not said then."""
    scene = await in_two_hubs()
    explained = await scene.explained()
    assert explained["cause"]["code"] == "doorOpenAtHub"
    assert explained["cause"]["text"] == (
        "it is to be shut out, and its identity in hub-2 is enabled: with its certificate it gets in"
    )
    assert doors(explained) == [
        ("hub-1", "shut", "its identity is disabled: certificate revoked: keyCompromise"),
        ("hub-2", "open", "its identity is enabled, and not connected now"),
    ]


async def test_a_linked_hub_that_does_not_answer_is_not_told_as_shut() -> None:
    scene = await in_two_hubs()
    scene.hubs.down = {"hub-2"}
    explained = await scene.explained()
    assert explained["cause"]["text"] == ("it is revoked for good (keyCompromise): every door is to be shut to it")
    assert ([each["code"] for each in explained["further"]], explained["asItShouldBe"]) == (["hubUnavailable"], None)
    assert doors(explained)[1][:2] == ("hub-2", "unknown")


async def test_linked_hubs_that_are_not_told_are_a_door_of_which_nobody_knows() -> None:
    scene = await in_two_hubs()
    scene.linked = ("hub-2", "hub-1")  # a worker that has not asked yet
    scene.provisioning.conductor.down = scene.hubs.conductor.down = {"arm"}
    explained = await scene.explained()
    assert doors(explained)[1][:2] == ("the linked hubs", "unknown")
    assert explained["asItShouldBe"] is None


async def test_a_device_in_service_is_not_looked_for_in_other_hubs() -> None:
    scene = await in_service()
    scene.linked = ("hub-1", "hub-2")
    assert [each[0] for each in doors(await scene.explained())] == ["hub-1"]
