"""Documented rates, and who has gone over them; off until somebody switches it on.

Sources: Microsoft, "Azure IoT Hub Device Provisioning Service limits" (rates; every call of the service API and every
registration is one operation, polling does not count), "IoT Hub quotas and throttling" (an S1 hub of one unit), "Azure
Key Vault service limits" (secrets and software keys). A rate holds in every window of its length. The real services let
bursts through for a while ("traffic shaping"); this one does not, so that a test meets the limit where it is written.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls in any window of so many seconds."""

    calls: int
    seconds: int


RATES: Mapping[str, Rate] = {
    "dps.operations": Rate(1000, 60),
    "dps.registrations": Rate(1000, 60),
    "dps.polling": Rate(5, 10),  # of each device
    "iot_hub.registry": Rate(100, 60),
    "iot_hub.queries": Rate(20, 60),
    "iot_hub.twinReads": Rate(100, 1),
    "iot_hub.twinUpdates": Rate(50, 1),
    "iot_hub.methods": Rate(40, 1),  # 160 KB/s, and a call counts as 4 KB at least
    "iot_hub.cloudToDevice": Rate(100, 60),
    "iot_hub.connections": Rate(100, 1),
    "iot_hub.deviceToCloud": Rate(100, 1),
    "key_vault.transactions": Rate(4000, 10),
}
"""By service and kind of call; those of IoT Hub hold for each hub."""

MAX_SCALE = 1_000_000


class ThrottlingError(ValueError):
    """A setting that can't be read; the text names the field and what would be right."""


class Throttling:
    """The rates as they hold now, and the calls they have counted.

    Attributes:
        enabled: whether anything is counted or refused.
        scale: every rate times this: 0.01 turns 1,000 a minute into 10.
    """

    def __init__(self, *, enabled: bool = False, scale: float = 1.0) -> None:
        self.enabled = enabled
        self.scale = scale
        self._calls: dict[tuple[str, str], deque[datetime]] = {}
        self._admitted: dict[str, int] = {}
        self._refused: dict[str, int] = {}

    def admit(self, names: Sequence[str], now: datetime, subject: str = "") -> int | None:
        """Count a call, or refuse it; a refused call counts towards nothing.

        Args:
            names: the rates it falls under, out of ``RATES``.
            now: the present moment.
            subject: whose rates they are, where each hub or device has its own.

        Returns:
            None, or the whole seconds after which a call would be let through.
        """
        if not self.enabled:
            return None
        full = {name: wait for name in names if (wait := self._wait(name, now, subject)) > 0}
        if not full:
            for name in names:
                self._calls[name, subject].append(now)
                self._admitted[name] = self._admitted.get(name, 0) + 1
            return None
        for name in full:
            self._refused[name] = self._refused.get(name, 0) + 1
        return max(1, math.ceil(max(full.values())))

    def _wait(self, name: str, now: datetime, subject: str) -> float:
        rate, calls = RATES[name], self._calls.setdefault((name, subject), deque())
        while calls and (now - calls[0]).total_seconds() >= rate.seconds:
            calls.popleft()
        return 0 if len(calls) < self._allowed(rate) else rate.seconds - (now - calls[0]).total_seconds()

    def _allowed(self, rate: Rate) -> int:
        return max(1, int(rate.calls * self.scale))

    def set(self, body: Any) -> None:
        """Switch and scale by ``{"enabled": bool, "scale": number}``; what is left out stays. Counting begins anew.

        Raises:
            ThrottlingError: it can't be read; everything stays.
        """
        if not isinstance(body, dict) or not body or set(body) - {"enabled", "scale"}:
            raise ThrottlingError('throttling is set by {"enabled": true or false, "scale": number}, or one of them')
        enabled, scale = body.get("enabled", self.enabled), body.get("scale", self.scale)
        if not isinstance(enabled, bool):
            raise ThrottlingError(f"enabled is {enabled!r}; it must be true or false")
        self.scale = checked_scale(scale)
        self.enabled = enabled
        self._calls.clear()
        self._admitted.clear()
        self._refused.clear()

    def to_json(self) -> dict[str, Any]:
        """Give the setting, and each rate with how many calls it let through and refused since it was set."""
        rates = {
            name: {
                "calls": self._allowed(rate),
                "seconds": rate.seconds,
                "admitted": self._admitted.get(name, 0),
                "refused": self._refused.get(name, 0),
            }
            for name, rate in RATES.items()
        }
        return {"enabled": self.enabled, "scale": self.scale, "rates": rates}


def checked_scale(given: Any) -> float:
    """Read a scale.

    Raises:
        ThrottlingError: it is not a number above 0.
    """
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 < given <= MAX_SCALE:
        raise ThrottlingError(f"scale is {given!r}; it must be a number above 0, at most {MAX_SCALE}")
    return float(given)
