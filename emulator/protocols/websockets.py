"""MQTT and AMQP over websockets.

Devices ask for the path ``/$iothub/websocket`` and the subprotocol ``mqtt``, of DPS and hubs alike; service clients for
``AMQPWSB10``, and Microsoft's for Python for the path of Service Bus. Sources: Microsoft, "Communicate with an IoT hub
using the MQTT protocol" ("Use MQTT over WebSockets"); MQTT 3.1.1, section 6; OASIS "AMQP WebSocket Binding", whose
subprotocol has the name ``amqp`` today; azure-iothub 1.16 and uamqp 1.6. Microsoft's SDKs know no port but 443 for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import WSMsgType, web

from emulator.protocols.mqtt import PACKET_LIMIT
from emulator.protocols.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

PATHS = ("/$iothub/websocket", "/$servicebus/websocket/", "/")
"""The last is where the provisioning client of azure-iot-sdk-csharp asks (``AmqpClientConnection``)."""

MQTT = "mqtt"
AMQP = "AMQPWSB10"
_CLOSING_SECONDS = 0.5
"""How long a client may take to answer the closing of its websocket."""


class WebsocketTransport(asyncio.Transport):
    """What the protocol above writes to: each write is a binary frame."""

    def __init__(self, websocket: web.WebSocketResponse, below: asyncio.BaseTransport) -> None:
        super().__init__()
        self._websocket = websocket
        self._below = below
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._closing = False
        self._reading = asyncio.Event()
        self._reading.set()

    async def send_all(self) -> None:
        """Send what is written, until the transport is closed; then close the websocket."""
        with suppress(ConnectionError):
            while (frame := await self._frames.get()) is not None:
                await self._websocket.send_bytes(frame)
        await self._websocket.close()

    async def ready_to_read(self) -> None:
        """Wait as long as reading is paused."""
        await self._reading.wait()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Look it up at the connection below, which knows the client's certificates."""
        return self._below.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a frame; dropped when the transport is closing."""
        if not self._closing:
            self._frames.put_nowait(bytes(data))

    def is_closing(self) -> bool:
        """Whether it is closing or closed."""
        return self._closing

    def close(self) -> None:
        """Close when everything is sent."""
        if not self._closing:
            self._closing = True
            self._reading.set()
            self._frames.put_nowait(None)

    def is_reading(self) -> bool:
        """Whether it hands on what the client sends."""
        return self._reading.is_set()

    def pause_reading(self) -> None:
        """Hand on nothing for a while."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """Hand on again."""
        self._reading.set()


class Carried(Protocol):
    """A protocol that websockets carry; asyncio's own, and it can be ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take what was received."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        ...

    def end(self) -> asyncio.Task[None] | None:
        """End because the emulator ends; gives what to wait for."""
        ...


class Websockets:
    """The clients that speak over websockets.

    Args:
        protocols: what makes the protocol above, by the name of the websocket's subprotocol.
    """

    def __init__(self, protocols: Mapping[str, Callable[[web.Request], Carried]]) -> None:
        self._protocols = protocols
        self._carried: dict[Carried, str] = {}

    @property
    def connections(self) -> Collection[Carried]:
        """The MQTT clients that are connected now."""
        return [each for each, name in self._carried.items() if name == MQTT]

    def routes(self) -> list[web.RouteDef]:
        """One route for each path that Microsoft's SDKs ask for."""
        return [web.get(path, self.serve) for path in PATHS]

    async def end(self, _: web.Application) -> None:
        """End every connection, because the emulator ends."""
        ending = [each.end() for each in tuple(self._carried)]
        await asyncio.gather(*(task for task in ending if task), return_exceptions=True)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Carry one connection."""
        websocket = web.WebSocketResponse(
            protocols=tuple(self._protocols), timeout=_CLOSING_SECONDS, max_msg_size=PACKET_LIMIT
        )
        offered = websocket.can_prepare(request)
        if (
            not offered.ok
            or offered.protocol is None
            or offered.protocol not in self._protocols
            or request.transport is None
        ):
            raise _refusal(request, self._protocols)
        await websocket.prepare(request)
        transport = WebsocketTransport(websocket, request.transport)
        sending = asyncio.create_task(transport.send_all())
        above = self._protocols[offered.protocol](request)
        self._carried[above] = offered.protocol
        above.connection_made(transport)
        try:
            await _receive(websocket, transport, above)
        finally:
            del self._carried[above]
            above.connection_lost(None)
            transport.close()
            await sending
        return websocket


def _refusal(request: web.Request, protocols: Collection[str]) -> WireError:
    asked = request.headers.get("Sec-WebSocket-Protocol")
    names = " or ".join(map(repr, protocols))
    message = f"{request.path} takes websockets of the subprotocol {names}; this request asks for {asked!r}."
    return WireError(400, {"error": {"code": "BadRequest", "message": message}})


async def _receive(websocket: web.WebSocketResponse, transport: WebsocketTransport, above: Carried) -> None:
    async for message in websocket:
        if message.type is not WSMsgType.BINARY:
            return  # both protocols come in binary frames, and anything else closes the connection
        above.data_received(message.data)
        await transport.ready_to_read()
