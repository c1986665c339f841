"""``python -m devstack rehearse PLAN.json``: revoke as many devices as a plan names, in a local cloud with its quotas.

A plan is what a call with ``dryRun=true`` answers: ``POST /api/revocations``, or the revocation of a CA. The devices
are made in a local cloud of its own, whose services throttle as documented, and are revoked there as they would be.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from devstack.outside import Failed, World, until
from devstack.stack import REPOSITORY, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STATE = REPOSITORY / ".devstack" / "rehearsal"
GROUP, ORDER = "rehearsal", "rehearsal"
_CALLS = {"dps.operations": "DPS operations", "iot_hub.registry": "registry operations", "iot_hub.queries": "queries"}
_PATIENCE_SECONDS = 3600.0
_MOST = 100


class PlanError(ValueError):
    """A plan that can't be rehearsed; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rehearsed.

    Attributes:
        devices: how many are revoked.
        hubs: how many hubs they are spread over.
        authority: whether their CA is revoked, and not they alone.
    """

    devices: int
    hubs: int
    authority: bool


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What was measured.

    Attributes:
        plan: what was rehearsed.
        foreseen: what the app said beforehand, for these devices and Microsoft's quotas.
        scale: of the quotas.
        hubs_shut: seconds until no hub let any of them in.
        done: seconds until all doors were closed.
        rates: of the services, as the emulator shows them.
    """

    plan: Plan
    foreseen: Mapping[str, Any]
    scale: float
    hubs_shut: float
    done: float
    rates: Mapping[str, Mapping[str, int]]


def read_plan(text: str, *, most: int = _MOST) -> Plan:
    """Read a plan.

    Args:
        text: the answer of a call with ``dryRun=true``.
        most: devices at most; a rehearsal with fewer tells the same of each.

    Raises:
        PlanError: it is not one, or nothing would be revoked.
    """
    try:
        body = json.loads(text)
    except ValueError as error:
        raise PlanError(f"the plan is not valid JSON: {error}") from None
    planned = body.get("plan", body) if isinstance(body, dict) else None
    if not isinstance(planned, dict) or not {"devices", "hubs", "dpsCalls"} <= planned.keys():
        raise PlanError("this is not a plan: save what a revocation with dryRun=true answers")
    if planned["devices"] < 1:
        raise PlanError("the plan names no devices that would be revoked, so there is nothing to rehearse")
    return Plan(min(int(planned["devices"]), most), max(1, len(planned["hubs"])), "plan" in body)


def report(done: Rehearsed) -> Iterator[str]:
    """Give the lines of what was measured, beside what was foreseen."""
    foreseen, plan = done.foreseen, done.plan
    quotas = "Microsoft's quotas" if done.scale == 1 else f"{done.scale:g} times Microsoft's quotas"
    what = "their CA was revoked" if plan.authority else "they were revoked"
    yield f"{plan.devices} devices in {plan.hubs} hub(s), at {quotas}: {what}"
    yield f"{'':24}{'foreseen':>12}{'measured':>12}"
    for label, name, seconds in (
        ("hubs shut after, s", "hubsShutAfterMinutes", done.hubs_shut),
        ("all doors closed after, s", "doneAfterMinutes", done.done),
    ):
        yield f"{label:24}{foreseen[name] * 60 / done.scale:12.1f}{seconds:12.1f}"
    for rate, label in _CALLS.items():
        of_it = {"dps.operations": foreseen["dpsCalls"], "iot_hub.registry": foreseen["hubCalls"]}.get(rate, "")
        yield f"{label:24}{of_it:>12}{done.rates[rate]['admitted']:12}  refused {done.rates[rate]['refused']}"


def rehearse(world: World, plan: Plan, *, scale: float, per_minute: int | None) -> Rehearsed:
    """Make the devices of a plan, revoke them under quotas, and measure that.

    Raises:
        Failed: something was not seen in time, or was refused.
    """
    world.open_group(GROUP)
    names = [f"rehearsal-{number:05}" for number in range(plan.devices)]
    order = {"orderId": ORDER, "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in names]}
    _accepted(world.post("device-orders", order))
    until(
        "the devices are registered",
        lambda: world.get(f"device-orders/{ORDER}", missing={}),
        lambda body: body.get("state") == "completed",
        seconds=_PATIENCE_SECONDS,
    )
    target = {"enrollmentGroup": GROUP, "reason": "keyCompromise"} | ({"perMinute": per_minute} if per_minute else {})
    path, body = "revocations", dict(target)
    if plan.authority:
        path = f"certificate-authorities/{world.get(f'enrollment-groups/{GROUP}')['issuer']}/revoke"
        body = {"reason": "keyCompromise"}
    foreseen = until(
        "the directory has the devices",
        lambda: _planned(world.request("POST", f"{path}?dryRun=true", json=body)),
        lambda planned: planned["devices"] == plan.devices,
    )
    world.throttle(enabled=True, scale=scale)
    began = datetime.now(UTC)
    _accepted(world.request("POST", path, json={**body, "devices": plan.devices}))
    until(
        "every device is revoked",
        lambda: world.get("device-counts?enrollmentGroup=" + GROUP)["states"].get("revoked", 0),
        lambda revoked: revoked == plan.devices,
        seconds=_PATIENCE_SECONDS,
    )
    rates = world.throttle()["rates"]
    doors = [_closed(world, each) for each in names]
    world.throttle(enabled=False)
    shut = [_shut_out_at(world, each) for each in names]
    return Rehearsed(
        plan=plan,
        foreseen=foreseen,
        scale=scale,
        hubs_shut=max((each - began).total_seconds() for each in shut),
        done=max((max(each.values()) - began).total_seconds() for each in doors),
        rates=rates,
    )


def _accepted(answer: requests.Response) -> requests.Response:
    if answer.status_code != requests.codes.accepted:
        raise Failed(f"{answer.request.method} {answer.request.path_url}: {answer.status_code} {answer.text[:500]}")
    return answer


def _planned(answer: requests.Response) -> dict[str, Any]:
    if answer.status_code != requests.codes.ok:
        raise Failed(f"{answer.request.path_url}: {answer.status_code} {answer.text[:500]}")
    body: dict[str, Any] = answer.json()
    planned: dict[str, Any] = body.get("plan") or body
    return planned


def _closed(world: World, device: str) -> dict[str, datetime]:
    """Tell since when each door of a device is closed."""
    shown = until("its doors", lambda: world.get(f"devices/{device}")["closedDoors"], bool, seconds=_PATIENCE_SECONDS)
    return {each["door"]: datetime.fromisoformat(each["since"]) for each in shown}


def _shut_out_at(world: World, device: str) -> datetime:
    """Tell when its hub has disabled a device: the app writes down later that it has read that back."""
    at: datetime = world.identity(world.get(f"devices/{device}")["assignedHub"], device).status_updated_time
    return at


def main(argv: Sequence[str] = ()) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m devstack rehearse", description=__doc__)
    parser.add_argument("plan", type=Path, help="the answer of the call with dryRun=true; -: from standard input")
    parser.add_argument("--most", type=int, default=_MOST, help="devices at most (%(default)s)")
    parser.add_argument("--per-minute", type=int, default=None, help="pace, as the request's perMinute")
    parser.add_argument("--scale", type=float, default=1.0, help="times Microsoft's quotas, of one unit (%(default)s)")
    given = parser.parse_args(argv)
    try:
        text = sys.stdin.read() if str(given.plan) == "-" else given.plan.read_text(encoding="utf-8")
        plan = read_plan(text, most=given.most)
    except (OSError, PlanError) as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(STATE, ignore_errors=True)
    print(f"starting a local cloud, and making {plan.devices} devices ...", flush=True)
    began = time.perf_counter()
    with (
        Stack.free(STATE, extra_hubs=plan.hubs - 1) as stack,
        closing(World(stack.endpoints, STATE / "devices")) as world,
    ):
        try:
            done = rehearse(world, plan, scale=given.scale, per_minute=given.per_minute)
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    print("\n".join(report(done)))
    print(f"({time.perf_counter() - began:.0f} s with the stack)")
    return 0
