"""What is done about a finding, beside whatever else is asked for, ends as if one had come after the other.

Or as if one had not come at all: its caller is told to try again, and the finding stays for the next pass.

``PROVE=1`` (``make prove``) tries every finding that can be mended or adopted with every act.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.messages import Queue
from shared.domain.groups import CaReferences
from shared.domain.treatments import TREATMENTS, FindingKind, Policy
from shared.errors import DeviceFactoryError
from tests.world import groups_acts
from tests.world.acts import ALL_CALLS
from tests.world.auditor import audit
from tests.world.drift import OTHERS, REPORTED, delete_identity, fleet_of, make_group
from tests.world.prover import RUNS
from tests.world.services import HUB
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from tests.world.drift import Fleet, Plant

DEEPER = os.environ.get("PROVE") == "1"

ORDER = "order the device that was found"
UNKNOWN = {
    FindingKind.UNKNOWN_DEVICE,
    FindingKind.ENROLLMENT_UNKNOWN,
    FindingKind.ROGUE_CERTIFICATE,
    FindingKind.IDENTITY_UNKNOWN,
}
"""Findings that may be about a device that the ledger does not know."""

OF_GROUPS = ("group", "authority")
GROUP_ACTS = ("put", "update", "disable the group", "enable the group", "delete the group", "sweep the groups")
ENTRY = ("disable the entry", "put the entry", "delete the entry")
ACTS = ("revoke", "hold", "delete", "renew", "disable", "enable", "boot", "expire", *ENTRY, "sweep")
USUAL = {
    ("delete_identity", "revoke"),
    ("disable_at_hub", "renew"),
    ("register_with_others", ORDER),
    ("give_it_another_certificate", "delete the entry"),
    ("let_another_in", "put the entry"),
    ("make_identity", "revoke"),
    ("disable_group", "enable the group"),
    ("delete_group", "put"),
}


def _switch_identity(*, enabled: bool) -> Plant:
    async def switch(fleet: Fleet) -> None:
        for (hub, device_id), each in [*fleet.world.hubs.identities.items()]:
            kept = {"authentication": each.authentication, "enabled": enabled}
            fleet.world.hubs.enter(hub, device_id, *each.thumbprints, **kept)  # type: ignore[arg-type]

    return switch


def _change_entries(**changes: Any) -> Plant:
    async def change(fleet: Fleet) -> None:
        entries = fleet.world.provisioning.enrollments
        for name, each in [*entries.items()]:
            fleet.world.provisioning.writes += 1
            entries[name] = {**each, **changes, "etag": f'"{fleet.world.provisioning.writes}"'}

    return change


async def _delete_identities(fleet: Fleet) -> None:
    fleet.world.hubs.identities.clear()


async def _delete_entries(fleet: Fleet) -> None:
    fleet.world.provisioning.enrollments.clear()


async def _give_another_certificate(fleet: Fleet) -> None:
    for (hub, device_id), each in [*fleet.world.hubs.identities.items()]:
        fleet.world.hubs.enter(hub, device_id, "AB" * 32, enabled=each.enabled)


IN_THE_PORTAL: Mapping[str, Plant] = {
    "disable the identity in the portal": _switch_identity(enabled=False),
    "enable the identity in the portal": _switch_identity(enabled=True),
    "delete the identity in the portal": _delete_identities,
    "give the identity another certificate": _give_another_certificate,
    "disable the entry in the portal": _change_entries(provisioningStatus="disabled"),
    "enable the entry in the portal": _change_entries(provisioningStatus="enabled"),
    "delete the entry in the portal": _delete_entries,
}
"""What somebody does past the app; each is one step of a service."""

_CALLS: Mapping[str, Callable[[Any], Coroutine[Any, Any, None]]] = {**ALL_CALLS, **groups_acts.CALLS}


@dataclass(frozen=True, kw_only=True)
class Scene(ABC):
    """Something differs, and is seen to while something else is asked for.

    Attributes:
        act: what is asked for.
    """

    act: str

    @property
    @abstractmethod
    def does(self) -> str:
        """Name what sees to it."""

    @abstractmethod
    async def differing(self) -> tuple[Fleet, Coroutine[Any, Any, Any], str]:
        """Give a fleet in which something differs, what is to see to it, and which device it is about."""

    async def begin(self) -> tuple[Fleet, dict[str, Coroutine[Any, Any, Any]]]:
        """Give a fleet in which neither was begun, and both, by their names."""
        fleet, work, device_id = await self.differing()
        by_call, by_hand = _CALLS.get(self.act), IN_THE_PORTAL.get(self.act)
        if self.act == ORDER:
            await _accept_order(fleet, device_id)
        elif by_call is None and by_hand is None:
            asked = groups_acts.message(fleet.world, self.act)
            assert asked is not None
            fleet.world.ask(self.act, *asked)
        await fleet.reconciler.check_ledger()  # what was seen of it holds for seconds, and is not a step of theirs
        for host in fleet.world.hosts:
            await host.services.epochs.check()
        if by_hand is not None:
            return fleet, {self.does: work, self.act: by_hand(fleet)}  # type: ignore[dict-item]
        return fleet, {self.does: work, self.act: by_call(fleet.world) if by_call else fleet.world.deliver(self.act)}


@dataclass(frozen=True, kw_only=True)
class Found(Scene):
    """A pass has found it.

    Attributes:
        requests: acts of before.
        plant: makes the difference.
        policy: what is done about it.
    """

    requests: tuple[str, ...] = ()
    plant: Plant
    policy: Policy = Policy.MEND

    @property
    def does(self) -> str:
        return self.policy.value

    async def differing(self) -> tuple[Fleet, Coroutine[Any, Any, Any], str]:
        fleet = await fleet_of(*self.requests)
        await self.plant(fleet)
        found = (await fleet.look())[0]
        device_id = found.identity.device_id if found.identity else found.subject
        return fleet, fleet.reconciler.act(found.finding_id, self.policy), device_id


@dataclass(frozen=True, kw_only=True)
class TakenOver(Scene):
    """A group with CAs of others has registered the device; a timer looks for such."""

    does = "look for takeovers"

    async def differing(self) -> tuple[Fleet, Coroutine[Any, Any, Any], str]:
        fleet = await fleet_of()
        await make_group(fleet, "other", ca_references=CaReferences(primary="theirs"))
        of_others = {"enrollmentGroupId": "other", "status": "assigned", "assignedHub": HUB, "deviceId": DEVICE}
        fleet.world.provisioning.register(DEVICE, **of_others)
        fleet.world.hubs.enter(HUB, DEVICE, OTHERS)
        return fleet, fleet.world.services.takeovers.sweep(), DEVICE


async def _accept_order(fleet: Fleet, registration_id: str) -> None:
    await fleet.world.line("o9", csr=None, device=registration_id)
    fleet.world.ask(ORDER, Queue.DEVICE_REGISTRATIONS, {"orderId": "o9", "line": 0})


@dataclass(frozen=True)
class End:
    """How all ends: what the ledger and the services have, what a pass finds then, and what the auditor says.

    Attributes:
        let_in: by which hubs; an identity that is disabled lets nobody in, like one that is not there.
    """

    devices: tuple[object, ...]
    entries: tuple[object, ...]
    let_in: tuple[object, ...]
    groups: tuple[object, ...]
    registrations: tuple[str, ...]
    found: tuple[str, ...]
    faults: tuple[str, ...]

    @classmethod
    async def of(cls, fleet: Fleet) -> End:
        """Let everything come to its rest, and look."""
        world = fleet.world
        await world.drain()
        said = [*(fault.partition(":")[0][:80] for fault in await audit(world)), *map(repr, world.bugs)]
        entries = world.provisioning.enrollments.items()
        return cls(
            devices=tuple(
                sorted(
                    (name, each.state.value, each.disabled, each.own_entry) for name, each in world.records().items()
                )
            ),
            entries=tuple(sorted((name, each["provisioningStatus"]) for name, each in entries)),
            let_in=tuple(sorted(place for place, each in world.hubs.identities.items() if each.enabled)),
            groups=tuple(
                sorted((name, each["provisioningStatus"]) for name, each in world.provisioning.groups.items())
            ),
            registrations=tuple(sorted(world.provisioning.registrations)),
            found=tuple(sorted(f"{each.kind.value} {each.subject}" for each in await fleet.look())),
            faults=tuple(sorted({re.sub(r"[0-9a-f]{40}", "a certificate", each) for each in said})),
        )


async def run(scene: Scene, first: str, step: int | None, *, alone: bool = False) -> tuple[End, int, list[str]]:
    """Pause one before a step while the other runs to its end; give the end, its steps, and what ended unexpectedly."""
    fleet, calls = await scene.begin()
    conductor = fleet.world.conductor
    second = next(name for name in calls if name != first)
    conductor.start(first, calls[first])
    await conductor.advance(first, step)
    if alone:
        calls[second].close()
    else:
        conductor.start(second, calls[second])
        await conductor.advance(second)
        await conductor.advance(first)
    ended = [conductor.outcome(name) for name in ([first] if alone else [first, second])]
    expected = (DeviceFactoryError, ConnectionError, ExceptionGroup)
    odd = [repr(each) for each in ended if each is not None and not isinstance(each, expected)]
    RUNS["findings mended"] += 1
    return await End.of(fleet), len(conductor.steps[first]), odd


def scenes() -> list[tuple[str, Scene]]:
    """Give scenes by their names."""
    found = list[tuple[str, Scene]]()
    for kind, requests, plant in REPORTED:
        name = getattr(plant, "__name__", None) or plant.func.__name__  # type: ignore[attr-defined]
        acts: tuple[str, ...] = (*GROUP_ACTS, "renew", "boot") if kind.value.startswith(OF_GROUPS) else ACTS
        acts += (ORDER,) if kind in UNKNOWN else ()
        acts += () if kind.value.startswith(OF_GROUPS) else tuple(IN_THE_PORTAL)
        treatment = TREATMENTS[kind]
        possible = {Policy.MEND: treatment.mending, Policy.ADOPT: treatment.adopting}
        found += [
            (
                f"{policy.value} {kind.value}, {name}{len(found)}: {act}",
                Found(requests=requests, plant=plant, act=act, policy=policy),
            )
            for policy, what in possible.items()
            for act in acts
            if what is not None and (DEEPER or (name, act) in USUAL)
        ]
    # Who disables the device while its identity is removed is told that there is none, and it stays disabled.
    meets_takeover = [act for act in ACTS if act != "disable"] if DEEPER else ["boot"]
    taken_over = [(f"takeover: {act}", TakenOver(act=act)) for act in meets_takeover]
    return [*found, *taken_over]


@pytest.mark.parametrize("scene", [pytest.param(scene, id=name) for name, scene in scenes()])
async def test_what_is_done_about_a_finding_beside_another_act_ends_as_if_one_had_come_after_the_other(
    scene: Scene,
) -> None:
    names, faults, usual = (scene.does, scene.act), list[str](), set[End]()
    for first in names:
        for alone in (True, False):
            end, _, odd = await run(scene, first, None, alone=alone)
            usual.add(end)
            faults += odd
    for first in names:
        step, steps = 0, 0
        while step <= steps:
            end, steps, odd = await run(scene, first, step)
            faults += odd
            if end not in usual:
                faults.append(f"{first} paused after {step} steps: {_apart(end, usual)}")
            step += 1
    assert faults == [], "\n".join(faults)


async def test_an_identity_that_is_made_again_lets_the_device_in_although_its_maker_is_killed() -> None:
    """It is made disabled, and opened as the record wants it: whoever goes on with what was left does so as well."""
    scene, step, ends = Found(plant=delete_identity, act="boot"), 0, set[bool | None]()
    while True:
        fleet, calls = await scene.begin()
        conductor = fleet.world.conductor
        calls.pop(scene.act).close()
        conductor.start("mend", calls["mend"])
        taken = await conductor.advance("mend", step)
        if taken < step:
            break
        await conductor.kill("mend")
        await fleet.world.drain()
        made = fleet.world.hubs.identities.get((HUB, DEVICE))
        ends.add(made.enabled if made else None)
        step += 1
    assert ends == {None, True}


def _apart(end: End, usual: set[End]) -> list[str]:
    """Give what differs from what is nearest."""
    nearest = min(usual, key=lambda each: sum(a != b for a, b in zip(astuple(each), astuple(end), strict=True)))
    return [f"{a} and not {b}" for a, b in zip(astuple(end), astuple(nearest), strict=True) if a != b]
