"""MQTT over websockets: path ``/$iothub/websocket``, subprotocol ``mqtt``, for DPS and hubs alike.

Source: Microsoft, "Communicate with an IoT hub using the MQTT protocol" ("Use MQTT over WebSockets"); MQTT 3.1.1,
section 6. Device SDKs know no port but 443 for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from devstack.emulator.mqtt import PACKET_LIMIT, Connection
from devstack.emulator.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Collection

    from devstack.emulator.mqtt import Acceptor

PATH = "/$iothub/websocket"
SUBPROTOCOL = "mqtt"
_CLOSING_SECONDS = 0.5
"""How long a client may take to answer the closing of its websocket."""


class WebsocketTransport(asyncio.Transport):
    """What an MQTT connection writes to: each write is a binary frame."""

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


class Websockets:
    """The clients that speak MQTT over websockets.

    Args:
        accept: decides about each CONNECT.
    """

    def __init__(self, accept: Acceptor) -> None:
        self._accept = accept
        self._connections: set[Connection] = set()

    @property
    def connections(self) -> Collection[Connection]:
        """Those that are connected now."""
        return self._connections

    def routes(self) -> list[web.RouteDef]:
        """The one route."""
        return [web.get(PATH, self.serve)]

    async def end(self, _: web.Application) -> None:
        """End every connection, because the emulator ends."""
        ending = [connection.end() for connection in tuple(self._connections)]
        await asyncio.gather(*(task for task in ending if task), return_exceptions=True)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Carry one MQTT connection."""
        websocket = web.WebSocketResponse(protocols=(SUBPROTOCOL,), timeout=_CLOSING_SECONDS, max_msg_size=PACKET_LIMIT)
        offered = websocket.can_prepare(request)
        if not offered.ok or offered.protocol != SUBPROTOCOL or request.transport is None:
            asked = request.headers.get("Sec-WebSocket-Protocol")
            message = f"{PATH} takes websockets of the subprotocol {SUBPROTOCOL!r}; this request asks for {asked!r}."
            raise WireError(400, {"error": {"code": "BadRequest", "message": message}})
        await websocket.prepare(request)
        transport = WebsocketTransport(websocket, request.transport)
        sending = asyncio.create_task(transport.send_all())
        connection = Connection(self._accept, self._connections)
        connection.connection_made(transport)
        try:
            await _receive(websocket, transport, connection)
        finally:
            connection.connection_lost(None)
            transport.close()
            await sending
        return websocket


async def _receive(websocket: web.WebSocketResponse, transport: WebsocketTransport, connection: Connection) -> None:
    async for message in websocket:
        if message.type is not WSMsgType.BINARY:
            return  # section 6: MQTT comes in binary frames, and anything else closes the connection
        connection.data_received(message.data)
        await transport.ready_to_read()
