"""Sockets and HTTP sites: bound first, so that everything else can be told the real ports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from devstack.emulator.configuration import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

BACKLOG = 1024
SHUTDOWN_SECONDS = 0.2


def bind(addresses: Sequence[str], port: int, option: str) -> list[socket.socket]:
    """Listen on the same port of every address.

    Args:
        addresses: loopback addresses.
        port: 0 for one that is free on the first address.
        option: the command-line option that moves this port, for the error text.

    Raises:
        ConfigurationError: an address can't be bound.
    """
    with contextlib.ExitStack() as undo:
        sockets: list[socket.socket] = []
        for address in addresses:
            listener = undo.enter_context(_bound(address, port, option))
            port = listener.getsockname()[1]
            sockets.append(listener)
        undo.pop_all()
        return sockets


def free_port(addresses: Sequence[str], port: int, option: str) -> int:
    """Check that ``port`` is free on every address (0: find one), for a listener that binds by itself.

    Raises:
        ConfigurationError: an address can't be bound.
    """
    sockets = bind(addresses, port, option)
    port = port_of(sockets)
    for listener in sockets:
        listener.close()
    return port


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port that the sockets share."""
    port: int = sockets[0].getsockname()[1]
    return port


async def serve(
    application: web.Application, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None
) -> web.AppRunner:
    """Start serving; ``stop`` ends it."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    for listener in sockets:
        await web.SockSite(runner, listener, ssl_context=tls, backlog=BACKLOG).start()
    return runner


async def stop(runner: web.AppRunner) -> None:
    """Give running requests a moment to end, then cut every connection.

    A TLS connection that is only closed would wait for the client's part of the closing handshake.
    """
    connections = [] if runner.server is None else [connection.transport for connection in runner.server.connections]
    await runner.cleanup()
    for transport in connections:
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0)  # lets the loop close the sockets


def _bound(address: str, port: int, option: str) -> socket.socket:
    try:
        return socket.create_server((address, port), backlog=BACKLOG)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        why = "is in use by another program" if in_use else f"can't be bound ({error.strerror})"
        raise ConfigurationError(f"port {port} on {address} {why}: choose another with {option}, 0 for any") from None
