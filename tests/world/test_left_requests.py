"""A worker is killed when its act is decided: the timer has the services follow, and its request is done then."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.contracts.messages import Queue
from shared.domain.requests import RequestState
from tests.world.acts import MESSAGES, SCENES
from tests.world.auditor import audit
from tests.world.host import LEASE

if TYPE_CHECKING:
    from tests.world.world import World

ACTS = {"revoke": "registered", "hold": "registered", "delete": "registered", "reinstate": "held"}


def begun(scene: World, act: str) -> World:
    """Give a world in which "a" stands before the first step of an act."""
    world = scene.copy()
    world.ask(act, *MESSAGES[act])
    taken = world.take(act)
    assert taken is not None
    world.conductor.start("a", world.hosts[0].deliver(*taken))
    return world


@pytest.mark.parametrize("act", ACTS)
async def test_a_request_is_done_when_the_services_follow_it_and_not_when_its_message_comes_back(act: str) -> None:
    """Killed before each step: within two minutes it is done, or nothing is decided and the message decides it."""
    scene, ended = await SCENES[ACTS[act]](), 0
    body = MESSAGES[act][1]
    request_id = body["requestId"]
    # The request is looked for, and entered.
    for step in range(2, await begun(scene, act).conductor.advance("a")):
        world = begun(scene, act)
        await world.conductor.advance("a", step)
        await world.conductor.kill("a")
        known = world.record()
        assert known is not None
        is_decided = f"{body.get('action', 'revoke')} {request_id}" in known.acts
        world.now += timedelta(minutes=2)
        await world.hosts[1].tick("convergence_sweep")
        request = await world.requests.find(Queue.REVOCATION_REQUESTS, request_id)
        assert request is not None
        state = RequestState.DONE if is_decided else RequestState.RUNNING
        assert request.record.state is state, f"killed before step {step + 1}"
        # The note of an act that was not entered stays for a while: its worker may still be about to.
        assert not (is_decided and world.unsettled), f"killed before step {step + 1}"
        ended += is_decided
        told = [event for event in world.events() if event["correlationid"] == request_id]
        await world.drain()
        assert [event for event in world.events() if event["correlationid"] == request_id][: len(told)] == told
        assert await audit(world) == [], f"killed before step {step + 1}"
        assert world.now - request.record.received_at >= LEASE
    assert ended > 5
