"""What reconciliation may ask of the services: a share of each quota, so that orders and revocations keep theirs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

DPS_OPERATIONS = 1000
"""Service operations a minute (Microsoft: "Azure subscription limits", Device Provisioning Service)."""

HUB_QUERIES, HUB_READS = 20, 100
"""Queries, and registry operations, a minute for each S1 or S2 unit ("IoT Hub quotas and throttling")."""

_AHEAD = timedelta(minutes=1)
"""So much of the share may be used at once: quotas are counted by the minute."""


@dataclass(slots=True)
class Budget:
    """What one step uses.

    Attributes:
        calls: made in this step, by service: ``dps``, ``queries <hub>``, ``reads <hub>``.
    """

    calls: Counter[str] = field(default_factory=Counter)

    def dps(self, operations: int = 1) -> None:
        """Count operations of the DPS."""
        self.calls["dps"] += operations

    def queries(self, hub: str) -> None:
        """Count a query of a hub."""
        self.calls[f"queries {hub.lower()}"] += 1

    def reads(self, hub: str) -> None:
        """Count a registry operation of a hub."""
        self.calls[f"reads {hub.lower()}"] += 1


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the quotas that reconciliation may use.

    Attributes:
        percent: of each quota.
        hub_units: units of a hub.
    """

    percent: int
    hub_units: int

    def spent(self, until: Mapping[str, datetime], calls: Mapping[str, int], now: datetime) -> dict[str, datetime]:
        """Tell, by service, until when its share is spent when some more calls are made."""
        after = {name: at for name, at in until.items() if at > now}
        for name, count in calls.items():
            after[name] = max(after.get(name, now), now) + timedelta(minutes=count / self._per_minute(name))
        return after

    def next_step(self, until: Mapping[str, datetime]) -> datetime | None:
        """Tell from when on the next step may be taken; ``None`` if at any time."""
        return max(until.values()) - _AHEAD if until else None

    def _per_minute(self, name: str) -> float:
        quota = DPS_OPERATIONS
        if name.startswith("queries "):
            quota = HUB_QUERIES * self.hub_units
        elif name.startswith("reads "):
            quota = HUB_READS * self.hub_units
        return quota * self.percent / 100
