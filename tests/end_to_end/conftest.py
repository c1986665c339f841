"""One running stack for all end-to-end tests: the real functions host, real Azurite, Microsoft's SDKs."""

from __future__ import annotations

import os
from base64 import b64encode
from contextlib import closing, contextmanager
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import pytest
import requests

from devstack.outside import World, until
from devstack.stack import Stack
from devstack.zoned_stack import ZonedStack
from tests.documented import Documented

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SETTINGS = {
    "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:01",
    "WEBHOOK_SECRET_NAME": "webhook-secret",
}
VARIANTS = {pair.partition("=")[0]: pair.partition("=")[2] for pair in os.environ.get("EMULATOR_VARIANTS", "").split()}
"""Behaviours of the emulator to test under, where public sources differ: EMULATOR_VARIANTS="NAME=VALUE NAME=VALUE"."""

APART = os.environ.get("ZONES", "1") != "1"
"""Whether the tests run against four trust zones, each with its roles alone: ZONES=4."""

FORM: type[Stack] = ZonedStack if APART else Stack

GROUP = "line-1"
WEBHOOK_SECRET = "whsec_" + b64encode(token_bytes(24)).decode() + "\n"


@contextmanager
def running(
    folder: Path,
    *,
    message_lease: float | None = None,
    extra_hubs: int = 0,
    event_topic: bool = False,
    queue_accounts: Mapping[str, str] | None = None,
    kind: type[Stack] = FORM,
    settings: Mapping[str, str] = SETTINGS,
) -> Iterator[tuple[Stack, World]]:
    """Run a stack of one's own with a root and one enrollment group in it."""
    before = dict(os.environ)
    try:
        with (
            kind.free(
                folder,
                message_lease=message_lease,
                event_topic=event_topic,
                extra_hubs=extra_hubs,
                queue_accounts=queue_accounts,
                settings=settings,
                variants=VARIANTS,
            ) as stack,
            closing(witnessed(stack, folder / "devices")) as world,
        ):
            prepare(world)
            if kind is ZonedStack:
                await_responders(stack, world)
            yield stack, world
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_timer(stack: Stack, name: str) -> None:
    """Have a timer's function run now."""
    url = f"{stack.endpoints.functions_url}/admin/functions/{name}"
    key = {"x-functions-key": stack.endpoints.master_key}
    requests.post(url, json={}, headers=key, timeout=60).raise_for_status()


def await_responders(stack: Stack, world: World) -> None:
    """Have OCSP responders made for the CAs that are there, and wait until the public zone has them."""
    for timer in ("responder_upkeep", "epoch_upkeep"):
        run_timer(stack, timer)
    with world.table("responders") as table:
        until(
            "responders",
            lambda: {row["issuer"] for row in table.list_entities(select="issuer")},
            lambda found: {"dpsCa", world.get(f"enrollment-groups/{GROUP}")["issuer"]} <= found,
        )


def witnessed(stack: Stack, devices: Path) -> World:
    """See a stack from outside, and hold every answer and every event against what it publishes of itself."""
    endpoints = stack.endpoints

    def read(name: str) -> dict[str, Any]:
        answer = requests.get(
            f"{endpoints.functions_url}/api/{name}", headers={"x-functions-key": endpoints.function_key}, timeout=60
        )
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    documented = Documented(read)

    def check(answer: requests.Response) -> None:
        asked = answer.request
        kind = answer.headers.get("Content-Type", "")
        documented.check_answer(asked.method or "", asked.url or "", answer.status_code, kind, answer.content)

    return World(endpoints, devices, on_answer=check, on_event=documented.check_event)


def prepare(world: World) -> None:
    """Set the webhooks' secret, and make the root and the enrollment group that the tests order for."""
    world.sign_webhooks("webhook-secret", WEBHOOK_SECRET)
    world.open_group(GROUP)


@pytest.fixture(scope="session")
def stack_and_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, World]]:
    """One stack for all tests; each uses ids of its own in it. Its events go by a topic, those of the others do not."""
    with running(tmp_path_factory.mktemp("stack"), event_topic=True) as both:
        yield both


@pytest.fixture
def world(stack_and_world: tuple[Stack, World]) -> World:
    """The stack, seen from outside."""
    return stack_and_world[1]
