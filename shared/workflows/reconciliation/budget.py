"""What reconciliation may ask of the services: a share of each quota, so that orders and revocations keep theirs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.passes import Calls
from shared.rules import quotas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

_SECOND, _MINUTE = timedelta(seconds=1), timedelta(minutes=1)
_DPS, _VAULT, _QUERIES, _READS = "dps", "vault", "queries ", "reads "
FOLLOWING = 3
"""DPS operations to have a device's own entry follow its group."""

ARRIVAL, ARRIVAL_READS = 1 + FOLLOWING, 2
"""DPS operations, and reads of its hub, to enter that a device has come with its next certificate."""

LOOK = 2 + FOLLOWING
"""DPS operations for a look at one device, at most: mostly nothing has to follow. Few devices come meanwhile."""

_WORTH = {_DPS: 1 + LOOK}
"""So much must be left of a share before a step is worth it: a page, and a look at one device on it. Else a call."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """What one step uses, and may use.

    Attributes:
        left: gives how many calls of a service were left when the step began.
        calls: made in this step, by service: ``dps``, ``vault``, ``queries <hub>``, ``reads <hub>``.
    """

    left: Callable[[str], float] = lambda _service: math.inf
    calls: Counter[str] = field(default_factory=Counter)

    def dps(self, operations: int = 1) -> None:
        """Count operations of the DPS."""
        self.calls[_DPS] += operations

    def vault(self) -> None:
        """Count a transaction of the vault."""
        self.calls[_VAULT] += 1

    def queries(self, hub: str) -> None:
        """Count a query of a hub."""
        self.calls[f"{_QUERIES}{hub.lower()}"] += 1

    def reads(self, hub: str, operations: int = 1) -> None:
        """Count registry operations of a hub."""
        self.calls[f"{_READS}{hub.lower()}"] += operations

    def can_query(self, hub: str) -> bool:
        """Tell whether a hub may be asked once more."""
        return self._room(f"{_QUERIES}{hub.lower()}") >= 1

    @property
    def operations(self) -> float:
        """How many operations of the DPS are left."""
        return self._room(_DPS)

    @property
    def transactions(self) -> float:
        """How many transactions of the vault are left."""
        return self._room(_VAULT)

    def looks(self, hubs: Iterable[str]) -> float:
        """Tell how many devices may be looked at alone, wherever among these hubs they are."""
        return min([self.operations / LOOK, *(self._room(f"{_READS}{hub.lower()}") for hub in hubs)])

    def _room(self, service: str) -> float:
        return self.left(service) - self.calls[service]


type Spent = Mapping[str, Sequence[Calls]]
"""What steps have used, by service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The part of the quotas that reconciliation may use: in any minute, no more than it.

    Attributes:
        percent: of each quota.
        hub_units: units of a hub.
    """

    percent: int
    hub_units: int

    def budget(self, spent: Sequence[Spent], now: datetime) -> Budget:
        """Give what a step may use.

        Args:
            spent: by passes that use this share together.
            now: the present time.
        """
        together = _together(spent)

        def left(service: str) -> float:
            since = now - self._window(service)
            return self._at_once(service) - sum(each.count for each in together.get(service, ()) if each.by > since)

        return Budget(left=left)

    def spent(self, before: Spent, calls: Mapping[str, int], now: datetime) -> dict[str, tuple[Calls, ...]]:
        """Tell what is spent after some more calls; what was spent earlier than counts is left out."""
        by = now.replace(microsecond=0) + (_SECOND if now.microsecond else timedelta())
        after = dict[str, tuple[Calls, ...]]()
        for service in {**before, **calls}:
            kept = [each for each in before.get(service, ()) if each.by > now - self._window(service)]
            same = calls.get(service, 0) + sum(each.count for each in kept if each.by == by)
            last = (Calls(by=by, count=same),) if same else ()
            after[service] = (*(each for each in kept if each.by != by), *last)
        return {service: entries for service, entries in after.items() if entries}

    def next_step(self, spent: Sequence[Spent]) -> datetime | None:
        """Tell from when on the next step may be taken; ``None`` if at any time."""
        due = (self._due(service, entries) for service, entries in _together(spent).items())
        return max((each for each in due if each is not None), default=None)

    def _due(self, service: str, entries: Sequence[Calls]) -> datetime | None:
        at_once, due = self._at_once(service), None
        allowed, used = at_once - min(at_once, _WORTH.get(service, 1)), sum(each.count for each in entries)
        for each in sorted(entries, key=lambda each: each.by):
            if used <= allowed:
                break
            used, due = used - each.count, each.by + self._window(service)
        return due

    def _window(self, service: str) -> timedelta:
        """Give the time in which a quota counts; where the share has less than a call in it, the time for one call."""
        calls, window = self._quota(service)
        return window * max(1.0, 1 / calls)

    def _at_once(self, service: str) -> int:
        return max(1, int(self._quota(service)[0]))

    def _quota(self, service: str) -> tuple[float, timedelta]:
        quota, window = 0, _MINUTE
        if service == _DPS:
            quota = quotas.DPS_OPERATIONS
        elif service == _VAULT:
            quota, window = quotas.VAULT_TRANSACTIONS, timedelta(seconds=quotas.VAULT_SECONDS)
        elif service.startswith(_QUERIES):
            quota = quotas.HUB_QUERIES * self.hub_units
        elif service.startswith(_READS):
            quota = quotas.HUB_OPERATIONS * self.hub_units
        return quota * self.percent / 100, window


def _together(spent: Sequence[Spent]) -> dict[str, list[Calls]]:
    together = defaultdict[str, list[Calls]](list)
    for each in spent:
        for service, entries in each.items():
            together[service] += entries
    return together
