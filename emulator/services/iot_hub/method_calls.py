"""Direct methods that a device has been asked to run, until it answers."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from emulator.services.iot_hub import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class MethodCalls:
    """The calls of one device's connection."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Future[tuple[int, Any]]] = {}

    async def call(self, send: Callable[[uuid.UUID], Awaitable[None]], seconds: float) -> tuple[int, Any]:
        """Send a request, and wait for the device's status and answer.

        Args:
            send: sends the request with this id.
            seconds: how long the device has.

        Raises:
            HubError: 404 if it leaves meanwhile, 504 if it does not answer in time.
        """
        request_id = uuid.uuid4()
        call: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
        self._open[request_id.hex] = call
        try:
            await send(request_id)
            async with asyncio.timeout(seconds):
                return await call
        except TimeoutError:
            raise errors.timed_out() from None
        finally:
            del self._open[request_id.hex]

    def waits_for(self, request_id: str) -> bool:
        """Tell whether an answer to a request (its id as 32 digits) is still wanted."""
        call = self._open.get(request_id)
        return call is not None and not call.done()

    def answer(self, request_id: str, status: int, payload: Any) -> None:
        """Take a device's answer; one that comes too late is nobody's."""
        if self.waits_for(request_id):
            self._open[request_id].set_result((status, payload))

    def end(self) -> None:
        """Tell all callers that the device is gone."""
        for call in self._open.values():
            if not call.done():
                call.set_exception(errors.gone())
