"""Sockets and HTTP sites: bound first, so that everything else can be told the real ports."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from emulator.protocols.secured import SecuredServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from OpenSSL import SSL

BACKLOG = 1024
SHUTDOWN_SECONDS = 0.2


class PortTaken(ValueError):
    """A port that can't be listened on; the text names it, and the option that moves it."""


def bind(addresses: Sequence[str], port: int, option: str) -> list[socket.socket]:
    """Listen on the same port of every address.

    Args:
        addresses: loopback addresses.
        port: 0 for one that is free on the first address.
        option: the command-line option that moves this port, for the error text.

    Raises:
        PortTaken: an address can't be bound.
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
        PortTaken: an address can't be bound.
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


@dataclass(frozen=True, slots=True)
class Site:
    """An application that is being served."""

    runner: web.AppRunner
    secured: SecuredServer | None

    async def stop(self) -> None:
        """Give running requests a moment to end, then cut every connection."""
        if self.secured is not None:
            self.secured.close()
        await self.runner.cleanup()
        for connection in self.secured.open_connections if self.secured else ():
            connection.transport.abort()
        await asyncio.sleep(0)  # lets the loop close the sockets


async def serve(application: web.Application, sockets: Sequence[socket.socket], tls: SSL.Context | None) -> Site:
    """Start serving; with TLS, handlers find a client's certificates as ``peer_chain`` of the transport."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    if tls is None:
        for listener in sockets:
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
        return Site(runner, None)
    assert runner.server is not None  # noqa: S101 - set up above
    secured = SecuredServer(tls, runner.server)
    await secured.start(sockets)
    return Site(runner, secured)


def _bound(address: str, port: int, option: str) -> socket.socket:
    try:
        return socket.create_server((address, port), backlog=BACKLOG)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        why = "is in use by another program" if in_use else f"can't be bound ({error.strerror})"
        raise PortTaken(f"port {port} on {address} {why}: choose another with {option}, 0 for any") from None
