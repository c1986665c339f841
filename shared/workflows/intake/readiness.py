"""Whether every service the app needs answers and lets it in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Checks dependencies, each by its name; a check raises when its service is not usable."""

    checks: Mapping[str, Callable[[], Awaitable[None]]]

    async def report(self) -> dict[str, str]:
        """Give ``"ok"`` or the cause of the failure for each dependency."""
        results = await asyncio.gather(*(self._outcome(check) for check in self.checks.values()))
        return dict(zip(self.checks, results, strict=True))

    @staticmethod
    async def _outcome(check: Callable[[], Awaitable[None]]) -> str:
        try:
            async with asyncio.timeout(_SECONDS):
                await check()
        except TimeoutError:
            return f"no answer within {_SECONDS} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return "ok"
