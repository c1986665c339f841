"""What can't be carried out now waits, and what fails again and again is set aside whole and replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from typing import TYPE_CHECKING

import requests

from devstack.outside import until
from devstack.stack import REPOSITORY

if TYPE_CHECKING:
    from devstack.outside import World
    from devstack.stack import Stack


def test_a_missing_role_is_waited_for(stack_and_world: tuple[Stack, World]) -> None:
    """Without its role on the vault the app can do nothing; the request waits, and is carried out once it is granted."""
    stack, world = stack_and_world
    endpoints = stack.endpoints
    issuing = endpoints.zones.get("issuing", endpoints.functions_url)
    queue = world.plain_queue("certificate-requests")
    world.withhold_roles("key_vault")
    try:
        world.post_message("certificate-requests", {"requestId": "no-role", "kind": "root", "name": "second-root"})
        until(
            "the request waits",
            lambda: (len(queue.peek_messages()), queue.get_queue_properties().approximate_message_count),
            lambda found: found == (0, 1),
        )
        ready = requests.get(
            f"{issuing}/api/health/ready", headers={"x-functions-key": endpoints.function_key}, timeout=60
        )
        world.on_answer(ready)
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


_TAKE_ALL = """
import asyncio, json, os
from datetime import timedelta
from shared.services import build
from shared.settings import Settings

async def take_all():
    services = build(Settings.from_environment(os.environ))
    queues = services.clients.queues
    try:
        await queues.create("swept")
        for number in range(40):
            await queues.send("swept", str(number))
        taken = [each async for each in queues.take("swept", lease=timedelta(minutes=1))]
        for each in taken:
            await queues.delete("swept", each.message_id, each.receipt)
            await queues.delete("swept", each.message_id, each.receipt)
        left = [each async for each in queues.take("swept", lease=timedelta(minutes=1))]
        return [[each.content.decode() for each in part] for part in (taken, left)]
    finally:
        await services.close()

print(json.dumps(asyncio.run(take_all())))
"""


def test_what_lies_in_a_queue_is_taken_and_deleted(stack_and_world: tuple[Stack, World]) -> None:
    """The sweep of the poison queues takes what is there, beyond a page of 32, and leaves nothing."""
    stack, _ = stack_and_world
    done = subprocess.run(
        [sys.executable, "-c", _TAKE_ALL],
        cwd=REPOSITORY,
        env={**os.environ, **stack.endpoints.environment(), **stack.settings()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    taken, left = json.loads(done.stdout)
    assert sorted(int(b64decode(each)) for each in taken) == list(range(40))
    assert left == []
