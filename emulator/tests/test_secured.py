"""TLS that takes any client certificate: what the protocol above gets to know, and what it never sees."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from emulator.platform.tls import TlsFiles, ensure_tls
from emulator.protocols import listeners
from emulator.protocols.secured import SecuredServer, SecuredTransport, server_context
from emulator.tests.certificates import make

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENCE = 10


class Echo(asyncio.Protocol):
    """Sends back what it gets; keeps the transport for the test to look at."""

    transport: SecuredTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, SecuredTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Served:
    """A listening echo.

    Attributes:
        made: one protocol for each connection whose handshake is done.
    """

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self.made: list[Echo] = []
        self.server = SecuredServer(server_context(files.certificate_file, files.key_file), self._make)
        self.port = 0

    def _make(self) -> Echo:
        self.made.append(Echo())
        return self.made[-1]

    async def connect(
        self, client: tuple[str, str] | None = None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=self.files.ca_file)
        context.maximum_version = version
        if client is not None:
            context.load_cert_chain(*client)
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return ensure_tls(tmp_path_factory.mktemp("tls"), ["localhost"])


@pytest.fixture
async def served(tls: TlsFiles) -> AsyncIterator[Served]:
    echo = Served(tls)
    sockets = listeners.bind(["127.0.0.1"], 0, "--port")
    await echo.server.start(sockets)
    echo.port = listeners.port_of(sockets)
    yield echo
    echo.server.close()
    for connection in echo.server.open_connections:
        connection.transport.abort()
    await asyncio.sleep(0)


@asynccontextmanager
async def exchanged(
    served: Served, client: tuple[str, str] | None, version: ssl.TLSVersion
) -> AsyncIterator[SecuredTransport]:
    """Send something through and back; gives the server's side of it."""
    reader, writer = await served.connect(client, version)
    writer.write(b"x" * 100_000)
    assert await asyncio.wait_for(reader.readexactly(100_000), PATIENCE) == b"x" * 100_000
    yield served.made[-1].transport
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_chain_is_what_the_client_sent(served: Served, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """No certificate, a self-signed one, and a leaf with an unknown CA all get through, and are seen as sent."""
    root = make("root", ca=True)
    leaf, alone = make("leaf", root), make("alone")
    for files, chain in (
        (None, ()),
        (alone.files(tmp_path), (alone.certificate,)),
        (leaf.files(tmp_path, chain=(root.certificate,)), (leaf.certificate, root.certificate)),
    ):
        async with exchanged(served, files, version) as transport:
            assert transport.get_extra_info("peer_chain") == chain


@pytest.mark.parametrize("suite", ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "AES128-GCM-SHA256"])
async def test_a_client_that_knows_rsa_alone_is_served(served: Served, suite: str) -> None:
    """Such devices exist, and the real services present RSA certificates: also the last suite, without Diffie-Hellman."""
    context = ssl.create_default_context(cafile=served.files.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context, server_hostname="localhost")
    assert writer.get_extra_info("cipher")[0] == suite
    writer.close()
    await writer.wait_closed()


async def test_small_answers_are_sent_at_once(served: Served) -> None:
    """Nagle's algorithm is off, which would hold an answer of two writes back for 40 ms."""
    async with exchanged(served, None, ssl.TLSVersion.TLSv1_3) as transport:
        connection = transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_what_is_no_tls_never_reaches_the_protocol(served: Served) -> None:
    """Plain text gets a closed connection, and the protocol above is not even made."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    await writer.wait_closed()
    assert answer == b""
    assert served.made == []


async def test_closing_says_goodbye(served: Served) -> None:
    """A closed transport ends with close_notify, so that the client knows that nothing was cut off."""
    reader, writer = await served.connect()
    writer.write(b"x")
    assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"x"
    transport = served.made[-1].transport
    transport.close()
    assert transport.is_closing()
    transport.write(b"too late")
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    await writer.wait_closed()
