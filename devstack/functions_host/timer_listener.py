"""A timer trigger: NCRONTAB with six fields, in UTC."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from croniter import croniter

from devstack.functions_host.configuration import ConfigurationError, resolve
from devstack.functions_host.protocol import json_data
from devstack.functions_host.worker import InvocationFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from devstack.functions_host.protocol import TypedData

LOG = logging.getLogger("functions_host")


def timer_data(*, past_due: bool = False) -> TypedData:
    """Give what a timer function is told."""
    return json_data({"IsPastDue": past_due, "Schedule": {"AdjustForDST": True}, "ScheduleStatus": None})


class TimerListener:
    """Ticks for one function.

    Raises:
        ConfigurationError: its schedule is not an NCRONTAB expression.
    """

    def __init__(self, name: str, trigger: Mapping[str, Any], invoke: Callable[[TypedData], Awaitable[object]]) -> None:
        self._schedule = resolve(str(trigger["schedule"]))
        if len(self._schedule.split()) != 6 or not croniter.is_valid(self._schedule, second_at_beginning=True):  # noqa: PLR2004
            raise ConfigurationError(
                f"the schedule {self._schedule!r} of {name} is not an NCRONTAB expression of six fields, seconds first"
            )
        self._run_on_startup = bool(trigger.get("runOnStartup"))
        self._name = name
        self._invoke = invoke

    async def run(self) -> None:
        """Tick until cancelled."""
        if self._run_on_startup:
            await self._tick()
        while True:
            # NCRONTAB wants day of month and day of week both to fit.
            following = croniter(self._schedule, datetime.now(UTC), second_at_beginning=True, day_or=False)
            due: datetime = following.get_next(datetime)
            await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
            await self._tick()

    async def _tick(self) -> None:
        with suppress(InvocationFailed):  # the worker has logged it, and the next tick comes
            await self._invoke(timer_data())
