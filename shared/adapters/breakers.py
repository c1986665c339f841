"""Breakers: a service that takes calls and does not answer them is left alone for a while.

Each unanswered call holds a thread or a connection until its time limit, and whoever waits for one of those waits as
well. After some of them in a row the next calls are refused at once; then one call at a time tries whether the service
answers again. (M. Nygard, "Release It!": circuit breaker. Own code, since the kept libraries hold a lock during a call,
or know only one of synchronous and asynchronous calls.)
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from shared.errors import ServiceFailed
from shared.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNANSWERED_LIMIT = 3
"""Unanswered calls in a row, from which on further ones are refused."""

PAUSE = 5.0
"""Seconds between two tries of a service that does not answer."""

_AT_ONCE = 1.0
"""Seconds. A call that fails sooner (nobody listens, the name is unknown) has held up nobody, and is not counted."""


class ServiceSilent(ServiceFailed):
    """A service has not answered for a while, so it was not asked.

    Args:
        service: its name, as in ``the IoT hub factory.azure-devices.net``.
        calls: how many it has not answered in a row.
        seconds: until it is asked again.
    """

    def __init__(self, service: str, *, calls: int, seconds: float) -> None:
        self.service = service
        super().__init__(f"{service} has not answered {calls} calls in a row; it is asked again in {seconds:.0f} s")


class Breaker:
    """Watches the calls of one service, from any thread.

    Args:
        name: of the service, for messages.
        service: its kind, as metrics name it.
        clock: seconds that only go forward.
    """

    def __init__(self, name: str, service: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._service, self._clock = name, service, clock
        self._unanswered, self._next_try, self._answered_at = 0, 0.0, 0.0
        self._lock = Lock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch one call.

        Raises:
            ServiceSilent: the call is not made, since the service has not answered the last ones.
        """
        began = self._admitted()
        try:
            yield
        except Exception as error:
            # A refusal is an answer: whatever carries a status came from the service.
            if _is_answer(error):
                self._answered()
            elif self._clock() - began >= _AT_ONCE:
                self._count(began)
            raise
        self._answered()

    def _admitted(self) -> float:
        now = self._clock()
        with self._lock:
            if self._unanswered >= UNANSWERED_LIMIT:
                if now < self._next_try:
                    metrics.CALLS_REFUSED.record(1, {metrics.SERVICE: self._service})
                    raise ServiceSilent(self._name, calls=self._unanswered, seconds=self._next_try - now)
                self._next_try = now + PAUSE  # this call tries it, and the others wait for what becomes of it
        return now

    def _answered(self) -> None:
        with self._lock:
            self._unanswered, self._answered_at = 0, self._clock()

    def _count(self, began: float) -> None:
        with self._lock:
            if began < self._answered_at:  # others were answered meanwhile, so it is not silent
                return
            self._unanswered += 1
            self._next_try = self._clock() + PAUSE


def _is_answer(error: Exception) -> bool:
    return getattr(getattr(error, "response", None), "status_code", None) is not None
