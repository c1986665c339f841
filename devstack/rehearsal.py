"""``python -m devstack rehearse PLAN.json``: revoke as many devices as a plan names, in a local cloud with its quotas.

A plan is what a call with ``dryRun=true`` answers: ``POST /api/revocations``, or the revocation of a CA. The devices
are made in a local cloud of its own, whose services throttle as documented. They are revoked there by the same call, at
the same pace.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from devstack.outside import Failed, World, until
from devstack.stack import REPOSITORY, Stack
from shared.contracts.plans import PACE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STATE = REPOSITORY / ".devstack" / "rehearsal"
GROUP, ORDER, ROOT = "rehearsal", "rehearsal", "dpsCa"
_REASON = "keyCompromise"
_CALLS = {"dps.operations": "DPS operations", "iot_hub.registry": "registry operations", "iot_hub.queries": "queries"}
_PATIENCE_SECONDS = 3600.0
_MOST = 100
_NAMED = 400
"""So many devices one request can name."""

_OF_MANY = frozenset({"enrollmentGroup", "orderId", "registrationIds"})
_OF_ONE = frozenset({"registrationId", "serialNumber"})


class PlanError(ValueError):
    """A plan that can't be rehearsed; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rehearsed.

    Attributes:
        devices: how many are revoked.
        hubs: how many hubs they are spread over.
        target: the field of the request that says whose devices; ``None`` where their CA is revoked.
        per_minute: so many are revoked a minute; ``None`` for as fast as that goes.
        from_root: whether the CA that is revoked has CAs below it, which are revoked with it.
    """

    devices: int
    hubs: int
    target: str | None
    per_minute: int | None = None
    from_root: bool = False

    @property
    def in_words(self) -> str:
        """What is done to them."""
        match self.target:
            case None if self.from_root:
                return "the root above their CA was revoked"
            case None:
                return "their CA was revoked"
            case "enrollmentGroup":
                return "their group was revoked"
            case "orderId":
                return "their order was revoked"
            case _:
                return "they were revoked by name"


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What was measured.

    Attributes:
        plan: what was rehearsed.
        foreseen: what the app said beforehand, for these devices, the pace and Microsoft's quotas.
        unpaced: what it said without the pace.
        scale: of the quotas.
        hubs_shut: seconds until no hub let any of them in.
        done: seconds until all doors were closed.
        rates: of the services, as the emulator shows them.
    """

    plan: Plan
    foreseen: Mapping[str, Any]
    unpaced: Mapping[str, Any]
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
    action, target = body.get("action", "revoke"), None if "plan" in body else body.get("target", "enrollmentGroup")
    if action != "revoke":
        raise PlanError(f"the plan is one to {action} devices, and a rehearsal revokes: plan with action 'revoke'")
    if target is not None and target not in _OF_MANY | _OF_ONE:
        known = ", ".join(sorted(_OF_MANY | _OF_ONE))
        raise PlanError(f"the plan has target {target!r}, and this version rehearses {known}")
    if planned["devices"] < 1:
        raise PlanError("the plan names no devices that would be revoked, so there is nothing to rehearse")
    return Plan(
        devices=min(int(planned["devices"]), _NAMED if target == "registrationIds" else most, most),
        hubs=max(1, len(planned["hubs"])),
        target=target,
        per_minute=planned.get("perMinute"),
        from_root=target is None and len(body.get("authorities", ())) > 1,
    )


def at_pace(plan: Plan, per_minute: int) -> Plan:
    """Give a plan with another pace.

    Raises:
        PlanError: it is one for a single device.
    """
    if plan.target in _OF_ONE:
        raise PlanError(f"the plan has target {plan.target!r}, and a single device has no pace: leave --per-minute out")
    return replace(plan, per_minute=per_minute)


def call_of(plan: Plan, *, names: Sequence[str], issuer: str, serial_number: str) -> tuple[str, dict[str, Any]]:
    """Give the path and the body of the call that revokes.

    Args:
        plan: what is rehearsed.
        names: of the devices.
        issuer: their CA.
        serial_number: of the certificate of the first.
    """
    paced = {"perMinute": plan.per_minute} if plan.per_minute else {}
    if plan.target is None:
        name = ROOT if plan.from_root else issuer
        return f"certificate-authorities/{name}/revoke", {"reason": _REASON, "devices": plan.devices, **paced}
    whose: Mapping[str, Any] = {
        "enrollmentGroup": GROUP,
        "orderId": ORDER,
        "registrationIds": list(names),
        "registrationId": names[0],
        "serialNumber": serial_number,
    }
    of_many = {"devices": plan.devices, **paced} if plan.target in _OF_MANY else {}
    return "revocations", {plan.target: whose[plan.target], "reason": _REASON, **of_many}


def report(done: Rehearsed) -> Iterator[str]:
    """Give the lines of what was measured, beside what was foreseen."""
    foreseen, plan = done.foreseen, done.plan
    quotas = "Microsoft's quotas" if done.scale == 1 else f"{done.scale:g} times Microsoft's quotas"
    pace = f", {plan.per_minute} a minute" if plan.per_minute else ""
    yield f"{plan.devices} devices in {plan.hubs} hub(s), at {quotas}: {plan.in_words}{pace}"
    yield f"{'':24}{'foreseen':>12}{'measured':>12}"
    for label, name, seconds in (
        ("hubs shut after, s", "hubsShutAfterMinutes", done.hubs_shut),
        ("all doors closed after, s", "doneAfterMinutes", done.done),
    ):
        scale = 1 if foreseen[name] > done.unpaced[name] else done.scale  # of a pace, quotas change nothing
        yield f"{label:24}{foreseen[name] * 60 / scale:12.1f}{seconds:12.1f}"
    for rate, label in _CALLS.items():
        of_it = {"dps.operations": foreseen["dpsCalls"], "iot_hub.registry": foreseen["hubCalls"]}.get(rate, "")
        yield f"{label:24}{of_it:>12}{done.rates[rate]['admitted']:12}  refused {done.rates[rate]['refused']}"


def rehearse(world: World, plan: Plan, *, scale: float) -> Rehearsed:
    """Make the devices of a plan, revoke them under quotas, and measure that.

    Raises:
        Failed: something was not seen in time, or was refused.
    """
    names = _made(world, plan)
    path, body = call_of(
        plan,
        names=names,
        issuer=world.get(f"enrollment-groups/{GROUP}")["issuer"],
        serial_number=world.get(f"devices/{names[0]}")["certificate"]["serialNumber"],
    )
    foreseen = until(
        "the directory has the devices",
        lambda: _planned(world.request("POST", f"{path}?dryRun=true", json=body)),
        lambda planned: planned["devices"] == plan.devices,
    )
    without_pace = {name: value for name, value in body.items() if name != "perMinute"}
    unpaced = _planned(world.request("POST", f"{path}?dryRun=true", json=without_pace))
    world.throttle(enabled=True, scale=scale)
    try:
        began = datetime.now(UTC)
        _accepted(world.request("POST", path, json=body))
        until(
            "every device is revoked",
            lambda: world.get("device-counts?enrollmentGroup=" + GROUP)["states"].get("revoked", 0),
            lambda revoked: revoked == plan.devices,
            seconds=_PATIENCE_SECONDS,
        )
        rates = world.throttle()["rates"]
        doors = [_closed(world, each) for each in names]
    finally:
        world.throttle(enabled=False)
    shut = [_shut_out_at(world, each) for each in names]
    return Rehearsed(
        plan=plan,
        foreseen=foreseen,
        unpaced=unpaced,
        scale=scale,
        hubs_shut=max((each - began).total_seconds() for each in shut),
        done=max((max(each.values()) - began).total_seconds() for each in doors),
        rates=rates,
    )


def _made(world: World, plan: Plan) -> list[str]:
    """Make the devices of a plan, and give their names."""
    world.open_group(GROUP, root=ROOT, request_id=GROUP)
    names = [f"rehearsal-{number:05}" for number in range(plan.devices)]
    order = {"orderId": ORDER, "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in names]}
    _accepted(world.post("device-orders", order))
    until(
        "the devices are registered",
        lambda: world.get(f"device-orders/{ORDER}", missing={}),
        lambda body: body.get("state") == "completed",
        seconds=_PATIENCE_SECONDS,
    )
    return names


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


def _closed(world: World, device: str) -> dict[tuple[str, str], datetime]:
    """Tell since when each door of a device is closed, by its kind and its place: each linked hub is one."""
    shown = until("its doors", lambda: world.get(f"devices/{device}")["closedDoors"], bool, seconds=_PATIENCE_SECONDS)
    return {(each["door"], each["where"]): datetime.fromisoformat(each["since"]) for each in shown}


def _shut_out_at(world: World, device: str) -> datetime:
    """Tell when its hub has disabled a device: the app writes down later that it has read that back."""
    at: datetime = world.identity(world.get(f"devices/{device}")["assignedHub"], device).status_updated_time
    return at


def main(argv: Sequence[str] = ()) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m devstack rehearse", description=__doc__)
    parser.add_argument("plan", type=Path, help="the answer of the call with dryRun=true; -: from standard input")
    parser.add_argument("--most", type=int, default=_MOST, help="devices at most (%(default)s)")
    parser.add_argument("--per-minute", type=int, default=None, help="another pace than the plan's")
    parser.add_argument("--scale", type=float, default=1.0, help="times Microsoft's quotas, of one unit (%(default)s)")
    given = parser.parse_args(argv)
    if given.most < 1:
        parser.error(f"--most is {given.most}; give 1 or more")
    if given.per_minute is not None and not 1 <= given.per_minute <= PACE_LIMIT:
        parser.error(f"--per-minute is {given.per_minute}; give a number from 1 to {PACE_LIMIT}")
    if given.scale <= 0:
        parser.error(f"--scale is {given.scale:g}; give a number above 0")
    try:
        text = sys.stdin.read() if str(given.plan) == "-" else given.plan.read_text(encoding="utf-8")
        plan = read_plan(text, most=given.most)
        if given.per_minute is not None:
            plan = at_pace(plan, given.per_minute)
    except UnicodeDecodeError:
        print("the plan is not text in UTF-8; give the answer of the call with dryRun=true", file=sys.stderr)
        return 1
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
            done = rehearse(world, plan, scale=given.scale)
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    print("\n".join(report(done)))
    print(f"({time.perf_counter() - began:.0f} s with the stack)")
    return 0
