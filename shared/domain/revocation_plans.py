"""What a revocation will take: calls, and time under the quotas of DPS and the hubs.

The calls of one device are those of :mod:`shared.workflows.devices.convergence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from shared.rules.quotas import DPS_OPERATIONS, HUB_OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

DPS_CALLS = 4
"""Of one device: its entry is read and written, its registration is read, and its entry is read back."""

HUB_CALLS = 3
"""Of one device: its identity is read and disabled, and read back."""

OTHER_HUB_CALLS = 1
"""Of one device, in each other hub that is linked to the DPS: it is looked for there."""

BATCH = 200
"""Devices that are asked for together at most; with a pace, so many as come to a minute, if these are fewer."""

TOGETHER = 100
"""Identities that two calls disable together, before the devices are seen to one by one."""


@dataclass(frozen=True, slots=True)
class RevocationPlan:
    """What a revocation will take.

    Attributes:
        devices: that are revoked.
        hubs: how many of them are in each hub; with those that are asked, and have none.
        dps_calls: service operations of the DPS.
        hub_calls: registry operations, of all hubs.
        hubs_shut: minutes until the hubs that they are in let none of them in: many are disabled together first.
        done: minutes until everything is done.
        per_minute: so many devices are seen to a minute, if that was asked for.
    """

    devices: int
    hubs: Mapping[str, int]
    dps_calls: int
    hub_calls: int
    hubs_shut: float
    done: float
    per_minute: int | None


def plan_for(
    by_hub: Mapping[str, int],
    *,
    together: bool,
    hub_units: int,
    per_minute: int | None = None,
    linked: Collection[str] = (),
) -> RevocationPlan:
    """Plan a revocation, with nothing else asked of the services.

    Args:
        by_hub: how many devices are revoked, by the hub that they are in; those that are in none under no name.
        together: whether the hubs shut many out together first.
        hub_units: of each hub.
        per_minute: so many devices are seen to a minute, if that was asked for.
        linked: hubs that are linked to the DPS: each is asked for every device.
    """
    devices = sum(by_hub.values())
    empty = {each.lower() for each in linked} - {each.lower() for each in by_hub}
    hubs = {hub: count for hub, count in sorted({**by_hub, **dict.fromkeys(empty, 0)}.items()) if hub}
    asked = {hub for hub in hubs if hub.lower() in {each.lower() for each in linked}}
    first = {hub: 2 * ceil(count / TOGETHER) if together else 0 for hub, count in hubs.items()}
    others = {hub: OTHER_HUB_CALLS * (devices - count) if hub in asked else 0 for hub, count in hubs.items()}
    calls = {hub: HUB_CALLS * count + first[hub] + others[hub] for hub, count in hubs.items()}
    quota = HUB_OPERATIONS * hub_units
    shut = max((first[hub] or HUB_CALLS * count for hub, count in hubs.items()), default=0) / quota
    done = max(DPS_CALLS * devices / DPS_OPERATIONS, max(calls.values(), default=0) / quota)
    if per_minute and devices:
        batch = min(BATCH, per_minute)
        before = (devices - 1) // batch * batch  # those that are asked for before the last batch
        begins, share = before / per_minute, 1 - before / devices
        shut, done = max(shut, begins + shut * share), max(done, begins + done * share)
    return RevocationPlan(
        devices=devices,
        hubs=hubs,
        dps_calls=DPS_CALLS * devices,
        hub_calls=sum(calls.values()),
        hubs_shut=shut,
        done=done,
        per_minute=per_minute,
    )
