"""Breaks off what takes too long, before the platform does.

A function that takes longer than ``functionTimeout`` (host.json: ten minutes) costs its worker the process, and with it
whatever else that has in hand (WebScriptHostExceptionHandler.OnTimeoutExceptionAsync of Azure/azure-functions-host).
On a day when services are slow that would take more from the app than the slow ones do. Every step can be broken off:
what was begun is finished by the next try.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MESSAGE = 300.0
"""Seconds for the work on a message."""

PUTTING_BACK = 240.0
"""Seconds in which a message is put back into its queue."""

FOLLOWING = 30.0
"""Seconds in which the directory of devices is to follow the work on a message, or on a request over HTTP."""

SWEEP = 480.0
"""Seconds for a timer's function. What it leaves is for its next run."""

ANSWER = 195.0
"""Seconds for the answer to an HTTP request. With what follows it, it is there within the 230 seconds that the load
balancer in front of the host waits (Microsoft: Azure Functions scale and hosting, "Function app timeout duration")."""


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """Have the body come to its end in time.

    Args:
        seconds: that it has.
        what: names it, for the message.

    Raises:
        TimeoutError: it has not, and was broken off where it waited.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(f"{what} did not come to its end within {seconds:.0f} s and was broken off") from error
