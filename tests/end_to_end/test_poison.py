"""What can't be carried out now waits, and what fails again and again is set aside whole and replayed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from devstack.outside import until

if TYPE_CHECKING:
    from devstack.outside import World


def test_a_missing_role_is_waited_for(world: World) -> None:
    """Without its role on the vault the app can do nothing; the request waits, and is carried out once it is granted."""
    queue = world.plain_queue("certificate-requests")
    world.withhold_roles("key_vault")
    try:
        world.post_message("certificate-requests", {"requestId": "no-role", "kind": "root", "name": "second-root"})
        until(
            "the request waits",
            lambda: (len(queue.peek_messages()), queue.get_queue_properties().approximate_message_count),
            lambda found: found == (0, 1),
        )
        ready = world.request("GET", "health/ready")
    finally:
        world.withhold_roles()
    assert ready.status_code == 503
    assert ready.json()["dependencies"]["keyVault"].startswith("HttpResponseError: (Forbidden)")
    until_active(world, "second-root")
    assert not [each for each in world.get("rejections?state=all")["items"] if "second-root" in each["body"]]


def test_a_poison_message_is_kept_and_replayed_once(world: World) -> None:
    """What the host sets aside becomes a rejection; a replay carries it out, and takes it off the list."""
    body = json.dumps({"requestId": "set-aside", "kind": "root", "name": "third-root"})
    world.post_message("certificate-requests-poison", body)
    found = until(
        "the rejection",
        lambda: [each for each in world.get("rejections")["items"] if "third-root" in each["body"]],
        bool,
    )[0]
    assert (found["kind"], found["queue"], found["body"]) == ("poison", "certificate-requests", body)
    events = until(
        "the event",
        lambda: [
            event
            for event in world.events("DeviceProvisioning.RequestRejected")
            if event["correlationid"] == "set-aside"
        ],
        bool,
    )
    assert events[0]["data"]["rejectionId"] == found["id"]
    replayed = world.post(f"rejections/{found['id']}/replay").json()
    assert world.post(f"rejections/{found['id']}/replay").json() == replayed
    assert world.get(f"rejections/{found['id']}")["state"] == "replayed"
    assert not [each for each in world.get("rejections")["items"] if each["id"] == found["id"]]
    until_active(world, "third-root")


def until_active(world: World, name: str) -> None:
    until(
        f"{name} is active",
        lambda: world.get(f"certificate-authorities/{name}", missing={}),
        lambda body: (body.get("state"), body.get("proofOfPossession")) == ("active", "verified"),
    )
