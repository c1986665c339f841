"""Listening for AMQP over TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.protocols.amqp.connection import Connection
from emulator.protocols.secured import SecuredServer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from OpenSSL import SSL

    from emulator.protocols.amqp.links import Service


class AmqpListener:
    """Serves one container.

    Args:
        context: of ``secured.server_context``.
        container_id: the server's name for itself.
        serve: makes what stands behind the links of a connection.
    """

    def __init__(self, context: SSL.Context, container_id: str, serve: Callable[[Connection], Service]) -> None:
        self._connections: set[Connection] = set()
        self._server = SecuredServer(context, lambda: Connection(container_id, serve, self._connections))

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Serve on sockets that are bound."""
        await self._server.start(sockets)

    async def stop(self) -> None:
        """End every connection, and stop listening."""
        await self._server.end(self._connections)
