"""Limits of what comes over HTTP: each caller by itself, so that nobody is kept out by what others do.

A worker counts in its memory, in windows of a minute. Counting for all workers together would take a write of storage
for each request, and every door would be shut while that storage is down. So a caller can have as many times the limit
as there are workers.

What is denied is denied before it is counted: a limit changes what those are told who are denied anyway, and how much
is written down of them. So a caller who may do what they ask for is not kept out by others at the same address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from shared import acting, tracing
from shared.domain.callers import ANONYMOUS, CallerKind
from shared.errors import TooManyRequests
from shared.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from shared.domain.audit_entries import AuditEntry
    from shared.domain.callers import Caller
    from shared.workflows.intake.audit import Act
    from shared.workflows.intake.outbox import Clock

WINDOW = timedelta(minutes=1)

EACH = 60
"""Denied tries of one caller that are written down one by one in a window; of further ones their number is."""

OF_ALL = 600
"""The same of all callers of a worker together, so that nobody fills the log by coming from everywhere."""

_WINDOWS = 10_000
_NETWORK = 64
"""Bits of an IPv6 address that are one caller's: whoever has one address has its network (RFC 6177)."""

_log = logging.getLogger(__name__)


class Limited(StrEnum):
    """What is limited."""

    REQUESTS = "requests"
    DENIED = "denied"
    PUBLIC = "public"


class Written(Protocol):
    """Where denied tries are written down."""

    async def denied(self, act: Act) -> None:
        """Write down one."""
        ...

    async def counting(self, what: str, why: str) -> AuditEntry:
        """Write down that many are counted from now on."""
        ...

    async def counted(self, entry: AuditEntry, why: str) -> None:
        """Write down how many that were."""
        ...


@dataclass(slots=True, kw_only=True)
class _Window:
    """What a caller does within a minute.

    Attributes:
        count: of requests.
        beyond: how many of them are told by their number alone.
    """

    ends: datetime
    count: int = 0
    beyond: int = 0


class Limits:
    """Counts requests.

    Args:
        most: how many there may be in a window, by what is limited; 0 for no limit.
        audit: where what is denied is written down.
        clock: gives the present time.
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        *,
        most: Mapping[Limited, int],
        audit: Written,
        clock: Clock,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._most, self._audit, self._clock, self._pause = most, audit, clock, pause
        self._windows = dict[tuple[Limited, str], _Window]()
        self._everybody = _Window(ends=clock())
        self._tasks = set[asyncio.Task[None]]()

    async def request(self, by: Caller) -> None:
        """Count a request of somebody who is known.

        Raises:
            TooManyRequests: they made too many.
        """
        most, window = self._most[Limited.REQUESTS], self._counted(Limited.REQUESTS, _name(by))
        if not most or window.count <= most:
            return
        said = f"beyond the {most:,} that one caller may make in a minute (RATE_LIMIT_REQUESTS)"
        await self._tell(Limited.REQUESTS, by, window, f"requests were refused (429), {said}")
        raise self._refusal(
            Limited.REQUESTS,
            window,
            f"the {by.kind} {by.name or by.id!r} made more than {most:,} requests in a minute, which is the limit of "
            "one caller at one worker (RATE_LIMIT_REQUESTS)",
        )

    async def denied(self, by: Caller, act: Act | None) -> None:
        """Count a try that is denied, and write it down, or of many in a minute their number.

        Args:
            by: who tries, as far as is known.
            act: what; ``None`` if that is written down already.

        Raises:
            TooManyRequests: they made too many.
        """
        most, window = self._most[Limited.DENIED], self._counted(Limited.DENIED, _name(by))
        if act is not None:
            await self._write(act, by, window)
        if most and window.count > most:
            who = f"the address {by.address}" if by.kind is CallerKind.ANONYMOUS else f"the {by.kind} {by.id!r}"
            raise self._refusal(
                Limited.DENIED,
                window,
                f"more than {most:,} requests of {who} were denied in a minute, which is the limit at one worker "
                "(RATE_LIMIT_DENIED). What is allowed to it is answered",
            )

    async def _write(self, act: Act, by: Caller, window: _Window) -> None:
        if self._everybody.ends <= self._clock():
            self._everybody = _Window(ends=self._clock() + WINDOW)
        everybody = self._everybody
        is_new = window.count <= EACH or not window.beyond
        if is_new and everybody.count >= OF_ALL:
            said = f"tries were denied to many callers, beyond the {OF_ALL} that are listed"
            await self._tell(Limited.DENIED, ANONYMOUS, everybody, said)
            return
        everybody.count += is_new
        if window.count > EACH:
            await self._tell(Limited.DENIED, by, window, f"tries were denied, beyond the {EACH} that are listed")
        else:
            with acting.acting(by.as_actor(None, tracing.trace_id())):
                await self._unless_down(self._audit.denied(act))

    def public(self, address: str | None) -> None:
        """Count a request that anybody may make; without an address it is not known whose it is.

        Raises:
            TooManyRequests: the address made too many.
        """
        most = self._most[Limited.PUBLIC]
        if not most or address is None:
            return
        window = self._counted(Limited.PUBLIC, _network(address))
        if window.count > most:
            # Relying parties do nothing: this stands in the app's log, and not in the audit log.
            if window.count == most + 1:
                _log.warning("%s makes more than %d public requests in a minute", address, most)
            raise self._refusal(
                Limited.PUBLIC,
                window,
                f"the address {address} made more than {most:,} requests in a minute, which is the limit of one "
                "address at one worker (RATE_LIMIT_PUBLIC)",
            )

    async def check_guess(self, by: Caller) -> None:
        """See that a function key that nobody has named may be asked for.

        Args:
            by: who has it, of whom the address is known.

        Raises:
            TooManyRequests: so much else was denied to the address that it is not asked for.
        """
        most, window = self._most[Limited.DENIED], self._window(Limited.DENIED, _name(by))
        if most and window.count >= most:
            window.count += 1
            await self._tell(Limited.DENIED, by, window, "tries were denied, or not looked at (429)")
            raise self._refusal(
                Limited.DENIED,
                window,
                f"more than {most:,} requests of the address {by.address} were denied in a minute (RATE_LIMIT_DENIED), "
                "so function keys that are not in KEY_ROLES are not looked at",
            )

    # --- windows ---

    def _counted(self, what: Limited, name: str) -> _Window:
        window = self._window(what, name)
        window.count += 1
        return window

    def _window(self, what: Limited, name: str) -> _Window:
        now = self._clock()
        found = self._windows.get((what, name))
        if found is None or found.ends <= now:
            self._windows.pop((what, name), None)  # in their order stand those first that end first
            while len(self._windows) >= _WINDOWS:
                del self._windows[next(iter(self._windows))]
            found = self._windows[what, name] = _Window(ends=now + WINDOW)
        return found

    def _refusal(self, what: Limited, window: _Window, why: str) -> TooManyRequests:
        metrics.LIMITED.record(1, {metrics.WHAT: what.value})
        left = window.ends - self._clock()
        seconds = max(1, -(-left // timedelta(seconds=1)))
        return TooManyRequests(f"{why}; come again in {seconds} seconds", retry_after=timedelta(seconds=seconds))

    # --- what is written down ---

    async def _tell(self, what: Limited, by: Caller, window: _Window, words: str) -> None:
        """Write down once that many are counted, and when the window has ended, how many they were."""
        window.beyond += 1
        if window.beyond > 1:
            return
        with acting.acting(by.as_actor(None, tracing.trace_id())):
            entry = await self._unless_down(
                self._audit.counting(what.value, f"{words}; they are counted until {window.ends:%H:%M:%S} UTC")
            )
        if entry is not None:
            task = asyncio.get_running_loop().create_task(self._end(entry, window, words))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end(self, entry: AuditEntry, window: _Window, words: str) -> None:
        await self._pause(max(0.0, (window.ends - self._clock()).total_seconds()))
        until = f"until {window.ends:%H:%M:%S} UTC"
        await self._unless_down(self._audit.counted(entry, f"{window.beyond:,} {words}, {until}"))

    async def _unless_down[T](self, writing: Awaitable[T]) -> T | None:
        try:
            return await writing
        except Exception as error:  # noqa: BLE001 - what is denied stays denied
            _log.error("denied tries are not in the audit log: %s: %s", type(error).__name__, error)
            return None


def _name(by: Caller) -> str:
    """Tell callers apart: those who are known by who they are, others by where they come from."""
    return _network(by.address) if by.kind is CallerKind.ANONYMOUS else f"{by.kind}|{by.id}|{by.mark}"


def _network(address: str | None) -> str:
    if address is None:
        return "address|unknown"
    found = ipaddress.ip_address(address)
    if found.version == 4:  # noqa: PLR2004 - of the Internet Protocol
        return f"address|{found}"
    return f"address|{ipaddress.ip_network((found, _NETWORK), strict=False)}"
