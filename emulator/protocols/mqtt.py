"""An MQTT 3.1.1 server (OASIS MQTT 3.1.1), as far as DPS and IoT Hub speak it, over TLS or a websocket."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from emulator.protocols import listeners
from emulator.protocols.secured import SecuredServer, peer_name, server_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from cryptography import x509

LOG = logging.getLogger(__name__)
PACKET_LIMIT = 512 * 1024
"""Bytes: IoT Hub takes messages of 256 KB."""

CONNECT_SECONDS = 20
QUEUE_LIMIT = 64


class PacketType(IntEnum):
    """Control packets (section 2.2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class ReturnCode(IntEnum):
    """Why a CONNECT is refused (section 3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2
    UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


SUBSCRIPTION_REFUSED = 0x80


class Malformed(Exception):
    """The client sent what is not MQTT 3.1.1; the connection ends (section 4.8)."""


class Refused(Exception):
    """The client may not connect.

    Attributes:
        return_code: sent in the CONNACK.
    """

    def __init__(self, return_code: int, reason: str) -> None:
        super().__init__(reason)
        self.return_code = return_code


@dataclass(frozen=True, slots=True)
class Will:
    """What a client wants published when its connection ends without a DISCONNECT (section 3.1.2.5)."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """A client's CONNECT."""

    client_id: str
    username: str
    password: bytes | None
    clean_session: bool
    keep_alive: int
    will: Will | None = None


class Session(Protocol):
    """What a service makes of one connected client."""

    @property
    def present(self) -> bool:
        """Whether the service kept a session of this client, to be said in the CONNACK (section 3.2.2.2)."""
        ...

    async def subscribed(self, filters: Sequence[tuple[str, int]]) -> list[int]:
        """Give the granted QoS for each (topic filter, QoS), or ``SUBSCRIPTION_REFUSED``."""
        ...

    async def settled(self) -> None:
        """Learn that the CONNACK, or a SUBACK, is sent: what waited for the client may follow."""
        ...

    async def unsubscribed(self, filters: Sequence[str]) -> None:
        """Learn which topic filters the client wants no more."""
        ...

    async def published(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Take a message; it is acknowledged when this returns."""
        ...

    async def acknowledged(self, identifier: int) -> None:
        """Learn that the client has a message that was sent with QoS 1."""
        ...

    async def closed(self, will: Will | None) -> None:
        """Learn that the connection has ended; the will is there if it is to be published now."""
        ...


@dataclass(frozen=True, slots=True)
class Packet:
    """One control packet.

    Attributes:
        flags: the low four bits of its first octet.
        body: everything behind the fixed header.
    """

    kind: int
    flags: int
    body: bytes


class Reader:
    """Reads the fields of a packet (section 1.5)."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._position < len(self._body)

    def octets(self, count: int) -> bytes:
        """Take so many octets."""
        end = self._position + count
        if end > len(self._body):
            raise Malformed("a packet is shorter than its fields")
        taken = self._body[self._position : end]
        self._position = end
        return taken

    def number(self, size: int) -> int:
        """Take an unsigned number, most significant octet first."""
        return int.from_bytes(self.octets(size), "big")

    def binary(self) -> bytes:
        """Take octets with their length before them."""
        return self.octets(self.number(2))

    def text(self) -> str:
        """Take a UTF-8 string."""
        try:
            return self.binary().decode()
        except UnicodeDecodeError:
            raise Malformed("a string is not UTF-8") from None

    def identifier(self) -> bytes:
        """Take a packet identifier, which is never 0 (section 2.3.1)."""
        taken = self.octets(2)
        if not any(taken):
            raise Malformed("a packet identifier is 0")
        return taken

    def rest(self) -> bytes:
        """Take what is left."""
        return self.octets(len(self._body) - self._position)


def encode(kind: PacketType, body: bytes, flags: int = 0) -> bytes:
    """Put the fixed header before a packet's body (section 2.2)."""
    length, octets = len(body), bytearray()
    while True:
        length, low = divmod(length, 128)
        octets.append(low | 0x80 if length else low)
        if not length:
            return bytes((kind << 4 | flags,)) + octets + body


def take_packets(buffer: bytearray) -> Iterator[Packet]:
    """Take every whole packet off the front of a buffer.

    Raises:
        Malformed: a length can't be read, or is over the limit.
    """
    while True:
        length, position = 0, 1
        for shift in range(0, 28, 7):
            if position >= len(buffer):
                return
            octet = buffer[position]
            position += 1
            length |= (octet & 0x7F) << shift
            if not octet & 0x80:
                break
        else:
            raise Malformed("the remaining length has more than four octets")
        if length > PACKET_LIMIT:
            raise Malformed(f"a packet has {length} bytes; at most {PACKET_LIMIT} are taken")
        if len(buffer) < position + length:
            return
        first, body = buffer[0], bytes(buffer[position : position + length])
        del buffer[: position + length]
        yield Packet(first >> 4, first & 0x0F, body)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def parse_connect(body: bytes) -> Connect:
    """Read a CONNECT (section 3.1).

    Raises:
        Malformed: it is not valid.
        Refused: it is of another protocol version.
    """
    reader = Reader(body)
    if reader.text() != "MQTT":
        raise Malformed("the protocol is not MQTT")
    level = reader.number(1)
    if level != 4:  # noqa: PLR2004 - 3.1.1 is level 4
        raise Refused(ReturnCode.UNACCEPTABLE_PROTOCOL, f"protocol level {level}; MQTT 3.1.1 is level 4")
    flags, keep_alive = reader.number(1), reader.number(2)
    _check_connect_flags(flags)
    client_id = reader.text()
    will = Will(reader.text(), reader.binary(), bool(flags & 0x20)) if flags & 0x04 else None
    username = reader.text() if flags & 0x80 else ""
    password = reader.binary() if flags & 0x40 else None
    return Connect(client_id, username, password, bool(flags & 0x02), keep_alive, will)


def _check_connect_flags(flags: int) -> None:
    """See that the flags of a CONNECT go together (sections 3.1.2.3 to 3.1.2.9)."""
    will, will_qos, will_retain = flags & 0x04, flags >> 3 & 0x03, flags & 0x20
    username, password = flags & 0x80, flags & 0x40
    if flags & 0x01 or will_qos == 3 or (not will and (will_qos or will_retain)) or (password and not username):  # noqa: PLR2004
        raise Malformed(f"the flags of CONNECT are {flags:08b}")


def check_flags(packet: Packet) -> None:
    """See that a packet has the flags of its kind (section 2.2.2); a PUBLISH has flags of its own.

    Raises:
        Malformed: it has others.
    """
    wanted = 0x02 if packet.kind in (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE) else 0
    if packet.kind != PacketType.PUBLISH and packet.flags != wanted:
        raise Malformed(f"a packet of type {packet.kind} has the flags {packet.flags:04b}")


class Connection(asyncio.Protocol):
    """One client, from its first packet to its end.

    Attributes:
        peer_chain: the certificates the client sent, leaf first, not verified.
        connect: its CONNECT, once it came.
    """

    def __init__(self, accept: Acceptor, connections: set[Connection]) -> None:
        self.peer_chain: tuple[x509.Certificate, ...] = ()
        self.connect: Connect | None = None
        self._accept = accept
        self._connections = connections
        self._buffer = bytearray()
        self._packets: asyncio.Queue[Packet | None] = asyncio.Queue()
        self._next_id = 0
        self._expected = False
        """Whether the connection's end is not a surprise, so that the will is not published."""
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what carries MQTT is a stream
        self._transport = transport
        self.peer_chain = transport.get_extra_info("peer_chain", ())
        self._connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        """Hand on whole packets."""
        self._buffer += data
        try:
            for packet in take_packets(self._buffer):
                self._packets.put_nowait(packet)
        except Malformed as error:
            LOG.info("%s sent malformed MQTT: %s", self._peer(), error)
            self.close()
        if self._packets.qsize() > QUEUE_LIMIT and self._transport:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        del exc
        self._connections.discard(self)
        self._packets.put_nowait(None)

    def _peer(self) -> str:
        return peer_name(self._transport) if self._transport else "a client"

    # --- for sessions ---

    async def publish(self, topic: str, payload: bytes, qos: int = 0, *, again: bool = False) -> int:
        """Send a message to the client, once.

        Args:
            topic: its topic.
            payload: its body.
            qos: 0 or 1.
            again: whether the client may have had it before (DUP, section 3.3.1.1).

        Returns:
            The packet identifier, by which the session learns of the PUBACK; 0 with QoS 0.
        """
        if not qos:
            self._send(encode(PacketType.PUBLISH, _text(topic) + payload))
            return 0
        self._next_id = self._next_id % 0xFFFF + 1
        body = _text(topic) + self._next_id.to_bytes(2, "big") + payload
        self._send(encode(PacketType.PUBLISH, body, 0x0A if again else 0x02))
        return self._next_id

    def close(self) -> None:
        """End the connection, as when the device gets disabled."""
        if self._transport is not None:
            self._transport.close()

    def end(self) -> asyncio.Task[None] | None:
        """End the connection because the emulator ends; the will stays unpublished."""
        self._expected = True
        self.close()
        return self._task

    def _send(self, packet: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(packet)

    # --- the packets, one after the other ---

    async def _run(self) -> None:
        session: Session | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                session = await self._connected()
            while session is not None and (packet := await self._next()) is not None:
                await self._handle(session, packet)
        except TimeoutError:
            LOG.info("%s kept silent for too long", self._peer())
        except Malformed as error:
            LOG.info("%s sent malformed MQTT: %s", self._peer(), error)
        except Refused as refusal:
            LOG.info("%s is refused: %s", self._peer(), refusal)
            self._send(encode(PacketType.CONNACK, bytes((0, refusal.return_code))))
        except Exception:
            LOG.exception("defect in the emulator while serving %s", self._peer())
        finally:
            self.close()
            if session is not None:
                await session.closed(self._due_will())

    def _due_will(self) -> Will | None:
        return None if self._expected or self.connect is None else self.connect.will

    async def _next(self) -> Packet | None:
        # One and a half times the keep-alive (section 3.1.2.10); 0 turns it off.
        keep_alive = self.connect.keep_alive if self.connect else 0
        async with asyncio.timeout(keep_alive * 1.5 or None):
            packet = await self._packets.get()
        if self._transport is not None and not self._transport.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()
        return packet

    async def _connected(self) -> Session | None:
        packet = await self._packets.get()
        if packet is None:
            return None
        if packet.kind != PacketType.CONNECT:
            raise Malformed("the first packet is not CONNECT")
        check_flags(packet)
        self.connect = parse_connect(packet.body)
        session = await self._accept(self.connect, self)
        self._send(encode(PacketType.CONNACK, bytes((session.present, ReturnCode.ACCEPTED))))
        await session.settled()
        return session

    async def _handle(self, session: Session, packet: Packet) -> None:
        check_flags(packet)
        reader = Reader(packet.body)
        match packet.kind:
            case PacketType.PUBLISH:
                await self._published(session, packet)
            case PacketType.SUBSCRIBE:
                await self._subscribed(session, reader)
            case PacketType.UNSUBSCRIBE:
                identifier, unwanted = reader.identifier(), [reader.text()]
                while reader.more:
                    unwanted.append(reader.text())
                await session.unsubscribed(unwanted)
                self._send(encode(PacketType.UNSUBACK, identifier))
            case PacketType.PINGREQ:
                self._send(encode(PacketType.PINGRESP, b""))
            case PacketType.PUBACK:
                await session.acknowledged(reader.number(2))
            case PacketType.DISCONNECT:
                self._expected = True
                self.close()
            case kind:
                raise Malformed(f"packet type {kind} is not expected here")

    async def _subscribed(self, session: Session, reader: Reader) -> None:
        identifier, filters = reader.identifier(), [(reader.text(), reader.number(1))]
        while reader.more:
            filters.append((reader.text(), reader.number(1)))
        if any(qos > 2 for _, qos in filters):  # noqa: PLR2004 - section 3.8.3.1
            raise Malformed("a subscription asks for a QoS beyond 2")
        granted = await session.subscribed(filters)
        self._send(encode(PacketType.SUBACK, identifier + bytes(granted)))
        await session.settled()

    async def _published(self, session: Session, packet: Packet) -> None:
        qos = packet.flags >> 1 & 0x03
        if qos > 1:
            raise Malformed("QoS 2 is not offered by DPS or IoT Hub")
        reader = Reader(packet.body)
        topic = reader.text()
        identifier = reader.identifier() if qos else b""
        await session.published(topic, reader.rest(), qos, retain=bool(packet.flags & 0x01))
        if qos:
            self._send(encode(PacketType.PUBACK, identifier))


type Acceptor = Callable[[Connect, Connection], Awaitable[Session]]
"""Decides about a CONNECT; raises Refused."""


class MqttListener:
    """Listens on one address.

    Args:
        address: loopback address.
        port: 0 for a free one.
        certificate_file: the server's certificate, PEM.
        key_file: its key, PEM.
        accept: decides about each CONNECT.
    """

    def __init__(
        self, *, address: str, port: int, certificate_file: Path | str, key_file: Path | str, accept: Acceptor
    ) -> None:
        self._address = address
        self._port = port
        self._connections: set[Connection] = set()
        context = server_context(certificate_file, key_file)
        self._server = SecuredServer(context, lambda: Connection(accept, self._connections))

    @property
    def connections(self) -> Collection[Connection]:
        """The clients that are connected now."""
        return self._connections

    async def start(self) -> int:
        """Listen, and give the port."""
        sockets = listeners.bind([self._address], self._port, "--mqtt-port")
        await self._server.start(sockets)
        return listeners.port_of(sockets)

    async def stop(self) -> None:
        """End every connection, and stop listening."""
        await self._server.end(self._connections)
