"""What a revocation will take: calls, and time under the quotas of DPS and the hubs.

The calls of one device are those of :mod:`shared.workflows.devices.convergence`; the quotas are Microsoft's ("Azure
subscription limits" for DPS, "IoT Hub quotas and throttling" for hubs of S1 and S2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

DPS_CALLS = 4
"""Of one device: its entry is read and written, its registration is read, and its entry is read back."""

HUB_CALLS = 3
"""Of one device: its identity is read and disabled, and read back."""

TOGETHER = 100
"""Identities that two calls disable together, before the devices are seen to one by one."""

DPS_QUOTA, HUB_QUOTA = 1000, 100
"""Calls a minute; a hub's are for each unit."""


@dataclass(frozen=True, slots=True)
class RevocationPlan:
    """What a revocation will take.

    Attributes:
        devices: that are revoked.
        dps_calls: service operations of the DPS.
        hub_calls: registry operations, of all hubs.
        hubs_shut: minutes until the hubs let none of them in any more: those of a group are disabled together first.
        done: minutes until everything is done.
    """

    devices: int
    dps_calls: int
    hub_calls: int
    hubs_shut: float
    done: float


def plan_for(devices: int, *, of_group: bool, hub_units: int) -> RevocationPlan:
    """Plan a revocation, with nothing else asked of the services, and with all devices in one hub.

    Args:
        devices: that are revoked.
        of_group: whether they are a group's.
        hub_units: of the hub.
    """
    together = 2 * ceil(devices / TOGETHER) if of_group else 0
    dps, hub = DPS_CALLS * devices, HUB_CALLS * devices + together
    per_minute = HUB_QUOTA * hub_units
    return RevocationPlan(
        devices=devices,
        dps_calls=dps,
        hub_calls=hub,
        hubs_shut=(together or hub) / per_minute,
        done=max(dps / DPS_QUOTA, hub / per_minute),
    )
