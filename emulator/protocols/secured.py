"""TLS beneath any asyncio protocol, with whatever certificates the client sends, or none.

Whether to trust a client's certificate is for the service to decide, since the real ones answer an unknown one in their
own words and not with a broken handshake. What TLS does prove is that the client has the key of the first certificate
it sent. Python's ``ssl`` refuses a certificate before anybody can look at it, hence pyOpenSSL.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, Protocol

from OpenSSL import SSL, crypto

from emulator.protocols.odd_certificates import load

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from cryptography import x509

LOG = logging.getLogger(__name__)
BACKLOG = 1024
HANDSHAKE_SECONDS = 20
_READ_SIZE = 65536


def server_context(certificate_file: Path | str, key_file: Path | str) -> SSL.Context:
    """Give a context that asks every client for a certificate, and takes any or none.

    Args:
        certificate_file: the server's certificate with its chain, PEM.
        key_file: its key, PEM.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(str(certificate_file))
    context.use_privatekey_file(str(key_file))
    # A resumed session would bring no certificates.
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


class SecuredTransport(asyncio.Transport):
    """What the protocol above TLS writes to.

    Its extra information is that of the TCP connection, and beside it ``peer_chain``: the certificates the client sent,
    leaf first, not verified.
    """

    def __init__(self, below: Secured, peer_chain: tuple[x509.Certificate, ...]) -> None:
        super().__init__({"peer_chain": peer_chain})
        self._below = below

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Look it up here, then at the TCP connection."""
        if name == "sslcontext":  # aiohttp asks, to tell http from https
            return self._below.context
        found = super().get_extra_info(name)
        return self._below.transport.get_extra_info(name, default) if found is None else found

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; dropped when the connection is closing."""
        self._below.send(data)

    def is_closing(self) -> bool:
        """Whether it is closing or closed."""
        return self._below.transport.is_closing()

    def close(self) -> None:
        """Say goodbye, and close when everything is sent."""
        self._below.close()

    def abort(self) -> None:
        """Close at once."""
        self._below.transport.abort()

    def is_reading(self) -> bool:
        """Whether it hands on what the client sends."""
        return self._below.transport.is_reading()

    def pause_reading(self) -> None:
        """Hand on nothing for a while."""
        self._below.transport.pause_reading()

    def resume_reading(self) -> None:
        """Hand on again."""
        self._below.transport.resume_reading()


class Secured(asyncio.Protocol):
    """One TCP connection with TLS on it.

    Args:
        context: of ``server_context``.
        make: makes the protocol above, once the handshake is done.
        connections: where it is entered as long as it is open.
    """

    transport: asyncio.Transport

    def __init__(self, context: SSL.Context, make: Callable[[], asyncio.Protocol], connections: set[Secured]) -> None:
        self.context = context
        self._make = make
        self._connections = connections
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._above: asyncio.Protocol | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and give the client some seconds for its handshake."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP gives nothing else
        self.transport = transport
        # asyncio leaves Nagle's algorithm on for a socket that it did not bind itself: 40 ms for many an answer.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(self)
        self._patience = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._connections.discard(self)
        if self._patience is not None:
            self._patience.cancel()
        if self._above is not None:
            self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on that the client reads too slowly."""
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that the client has caught up."""
        if self._above is not None:
            self._above.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Decrypt, and hand on."""
        self._tls.bio_write(data)
        try:
            above = self._above or self._greeted()
            while True:
                above.data_received(self._tls.recv(_READ_SIZE))
        except SSL.WantReadError:
            self._flush()
        except SSL.ZeroReturnError:
            self.close()
        except SSL.Error as error:
            LOG.info("TLS with %s failed: %s", peer_name(self.transport), error)
            self._flush()
            self.transport.close()

    def _greeted(self) -> asyncio.Protocol:
        self._tls.do_handshake()
        if self._patience is not None:
            self._patience.cancel()
        self._flush()
        self._above = self._make()
        self._above.connection_made(SecuredTransport(self, self._sent_chain()))
        return self._above

    def _sent_chain(self) -> tuple[x509.Certificate, ...]:
        leaf = self._tls.get_peer_certificate()
        if leaf is None:
            return ()
        # On the server's side OpenSSL's chain leaves the leaf out.
        first, *others = (
            load(crypto.dump_certificate(crypto.FILETYPE_ASN1, each))
            for each in (leaf, *(self._tls.get_peer_cert_chain() or ()))
        )
        return (first, *(each for each in others if each != first))

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; dropped when the connection is closing."""
        if data and not self.transport.is_closing():
            self._tls.sendall(data)
            self._flush()

    def close(self) -> None:
        """Say goodbye, and close when everything is sent."""
        if not self.transport.is_closing():
            self._tls.shutdown()
            self._flush()
            self.transport.close()

    def _flush(self) -> None:
        while not self.transport.is_closing():
            try:
                self.transport.write(self._tls.bio_read(_READ_SIZE))
            except SSL.WantReadError:
                return


class Ending(Protocol):
    """A connection that can be ended."""

    def end(self) -> asyncio.Task[None] | None:
        """End it, and give what has to be waited for."""
        ...


class SecuredServer:
    """Listens with TLS.

    Args:
        context: of ``server_context``.
        make: makes the protocol of one connection.
    """

    def __init__(self, context: SSL.Context, make: Callable[[], asyncio.Protocol]) -> None:
        self._context = context
        self._make = make
        self._connections: set[Secured] = set()
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Serve on sockets that are bound."""
        loop = asyncio.get_running_loop()
        for listener in sockets:
            server = await loop.create_server(
                lambda: Secured(self._context, self._make, self._connections), sock=listener, backlog=BACKLOG
            )
            self._servers.append(server)

    def close(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()

    async def end(self, connections: Collection[Ending]) -> None:
        """Take no more connections, and end those that are there.

        Args:
            connections: what is above TLS.
        """
        self.close()
        ending = [connection.end() for connection in tuple(connections)]
        for each in self.open_connections:
            each.transport.abort()
        await asyncio.gather(*(task for task in ending if task), return_exceptions=True)

    @property
    def open_connections(self) -> Sequence[Secured]:
        """Those that are there now, also in the middle of a handshake."""
        return tuple(self._connections)


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Name the other end, for the log."""
    address = transport.get_extra_info("peername")
    return f"{address[0]}:{address[1]}" if address else "a client"
