"""Events through an Event Grid topic: they are there, and in the queue that subscribes to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests

from devstack.outside import until
from devstack.zoned_stack import ZonedStack
from tests.end_to_end.conftest import GROUP
from tests.end_to_end.test_api import ordered, wait_for_state

if TYPE_CHECKING:
    from devstack.outside import World
    from devstack.stack import Stack


def at_topic(stack: Stack, subject: str) -> list[dict[str, Any]]:
    """Give the events about something that the topic has taken."""
    answer = requests.get(f"{stack.endpoints.emulator_admin_url}/events", timeout=60)
    return [event for event in answer.json()["events"] if event["subject"] == subject]


def test_what_happens_to_a_device_is_told_at_the_topic_and_in_the_queue(stack_and_world: tuple[Stack, World]) -> None:
    """The same events, from the app that issues and from the one that revokes; in zones their roles let them send."""
    stack, world = stack_and_world
    ordered(world, "topic-1")
    world.post("devices/topic-1/revoke", {"reason": "keyCompromise"})
    wait_for_state(world, "topic-1", "revoked")
    told = ("CertificateIssued", "DeviceRegistered", "DeviceRevoked")
    events = until(
        "the queue has them",
        lambda: [
            event
            for kind in told
            for event in world.events(f"DeviceProvisioning.{kind}")
            if event["subject"] == "topic-1"
        ],
        lambda found: len(found) == len(told),
    )
    assert sorted(at_topic(stack, "topic-1"), key=lambda event: told.index(event["type"].split(".")[1])) == events
    if isinstance(stack, ZonedStack):
        decisions = map(json.loads, stack.decisions_file.read_text(encoding="utf-8").splitlines())
        senders = {each["identity"] for each in decisions if each.get("role") == "eventSender"}
        assert senders == {"issuing", "revocation"}


def test_events_wait_for_a_role_that_is_missing(stack_and_world: tuple[Stack, World]) -> None:
    """Nothing is lost meanwhile: the order says what it waits for, and its events come when the role is there."""
    stack, world = stack_and_world
    world.withhold_roles("event_grid")
    try:
        device = {"registrationId": "topic-2"}
        world.post_message("device-orders", {"orderId": "topic-2", "enrollmentGroup": GROUP, "devices": [device]})
        until(
            "it waits",
            lambda: world.get("device-orders/topic-2", missing={"devices": []})["devices"],
            lambda lines: any("a role is missing at " in str(each.get("reason")) for each in lines),
        )
        assert at_topic(stack, "topic-2") == []
    finally:
        world.withhold_roles()
    until(
        "it is complete",
        lambda: {event["type"].split(".")[1] for event in at_topic(stack, "topic-2")},
        lambda kinds: {"OrderAccepted", "DeviceRegistered", "OrderCompleted"} <= kinds,
    )
