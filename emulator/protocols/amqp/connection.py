"""One client's AMQP 1.0 connection, from its first octet to its end (OASIS AMQP 1.0, parts 2 and 5)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from emulator.protocols.amqp import failures, frames
from emulator.protocols.amqp.composites import Begin, Close, End, Open, SaslInit, SaslMechanisms, SaslOutcome
from emulator.protocols.amqp.failures import ConnectionFailure, Failure, SessionFailure
from emulator.protocols.amqp.frames import AMQP_HEADER, SASL_HEADER, BadFrame, Frame, Header, encode_frame
from emulator.protocols.amqp.links import Session
from emulator.protocols.amqp.types import Array, Malformed, Symbol
from emulator.protocols.secured import peer_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from emulator.protocols.amqp.composites import Composite
    from emulator.protocols.amqp.links import Service

LOG = logging.getLogger(__name__)
FRAME_LIMIT: Final = 64 * 1024
"""Bytes that a client's frame may have."""

CHANNEL_MAX: Final = 255
OPEN_SECONDS = 20
"""A client has so long to say who it is."""

IDLE_SECONDS = 240
"""A client is told to be silent for no longer, and given up after twice that (section 2.4.5)."""

_LEAST_BEAT = 0.05
_CLOSING_SECONDS = 0.5
_QUEUE_LIMIT: Final = 64
_MECHANISMS: Final = ("MSSBCBS", "ANONYMOUS", "PLAIN")
"""MSSBCBS is Microsoft's name for: whatever comes, comes by $cbs."""

_EXTERNAL: Final = "EXTERNAL"
"""Offered to who has sent a certificate: what it is good for shows at each link."""

_PLAIN_PARTS: Final = 3
_REFUSED: Final = 1


class Connection(asyncio.Protocol):
    """One client.

    Attributes:
        peer_chain: the certificates the client sent, leaf first, not verified.

    Args:
        container_id: the server's name for itself.
        serve: makes what stands behind the links.
        connections: where it is entered as long as it is open.
    """

    def __init__(self, container_id: str, serve: Callable[[Connection], Service], connections: set[Connection]) -> None:
        self.peer_chain: tuple[x509.Certificate, ...] = ()
        self._container_id = container_id
        self._service = serve(self)
        self._connections = connections
        self._buffer = bytearray()
        self._received: asyncio.Queue[Header | Frame | BadFrame | None] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._greeted = False
        """Whether both have sent the header of AMQP itself."""
        self._opened: Open | None = None
        self._sessions: dict[int, Session] = {}
        self._failed: set[int] = set()
        """Channels whose session was ended from here; the client has not ended it yet."""
        self._beat: asyncio.TimerHandle | None = None
        self._ending: asyncio.TimerHandle | None = None
        """Closes the connection of a client that has been told its end, and does not answer."""

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what carries AMQP is a stream
        self._transport = transport
        self.peer_chain = transport.get_extra_info("peer_chain", ())
        self._connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        """Hand on whole frames."""
        self._buffer += data
        try:
            for each in frames.take(self._buffer, FRAME_LIMIT):
                self._received.put_nowait(each)
        except BadFrame as error:
            self._buffer.clear()
            self._received.put_nowait(error)
            self._pause()
        if self._received.qsize() > _QUEUE_LIMIT:
            self._pause()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        del exc
        self._connections.discard(self)
        self._received.put_nowait(None)

    # --- for services ---

    def close(self) -> None:
        """End it without a word."""
        if self._transport is not None:
            self._transport.close()

    def fail(self, failure: ConnectionFailure) -> None:
        """End it, and tell the client why, at its sessions too: azure-iot-amqp-base 2.5 of Node waits for their end.

        The client has a moment to say that it ends too (section 2.4.3); whatever else it says is not heard.
        """
        if self._transport is not None and not self._transport.is_closing() and self._ending is None:
            for session in self._sessions.values():
                session.end(End(error=failure.error))
            self._sessions.clear()
            self._tell(failure)
            self._ending = asyncio.get_running_loop().call_later(_CLOSING_SECONDS, self.close)

    def end(self) -> asyncio.Task[None] | None:
        """End it because the server ends, whatever it is waiting for."""
        self.close()
        if self._task is not None:
            self._task.cancel()
        return self._task

    # --- what comes, one after the other ---

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                serving = await self._greet() and await self._open()
            if serving:
                await self._service.opened()
            while serving:
                serving = await self._handle(await self._next())
        except TimeoutError:
            self._tell(ConnectionFailure(failures.RESOURCE_LIMIT_EXCEEDED, "the client kept silent for too long"))
        except BadFrame as error:
            self._tell(ConnectionFailure(failures.FRAMING_ERROR, str(error)))
        except Malformed as error:
            self._tell(ConnectionFailure(failures.DECODE_ERROR, str(error)))
        except ConnectionFailure as failure:
            self._tell(failure)
        except Exception:
            LOG.exception("defect in the emulator while serving %s", self._peer())
            self._tell(ConnectionFailure(failures.INTERNAL_ERROR, "the emulator has a defect; its log says more"))
        finally:
            self._leave()

    def _leave(self) -> None:
        for timer in (self._beat, self._ending):
            if timer is not None:
                timer.cancel()
        for session in self._sessions.values():
            session.end()
        self.close()

    def _tell(self, failure: Failure) -> None:
        """Tell the client why the connection ends, as far as it has come (section 2.4.4)."""
        LOG.info("the connection with %s ends: %s", self._peer(), failure)
        if not self._greeted:
            self._write(AMQP_HEADER)
            return
        if self._opened is None:
            self._send(Open(container_id=self._container_id))
        self._send(Close(error=failure.error))

    def _peer(self) -> str:
        return peer_name(self._transport) if self._transport else "a client"

    async def _next(self) -> Header | Frame | None:
        seconds = 2 * IDLE_SECONDS if self._opened else None
        async with asyncio.timeout(seconds):
            received = await self._received.get()
        if isinstance(received, BadFrame):
            raise received
        if self._transport is not None and not self._transport.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()
        return received

    # --- beginning ---

    async def _greet(self) -> bool:
        """Exchange headers, with SASL between them if the client wants it (section 2.2; part 5, section 5.3)."""
        received = await self._next()
        if received == Header(SASL_HEADER):
            self._write(SASL_HEADER)
            if not await self._sign_in():
                return False
            received = await self._next()
        if received is None:
            return False
        self._write(AMQP_HEADER)
        if received != Header(AMQP_HEADER):
            LOG.info("%s speaks another protocol: %s", self._peer(), received)
            return False
        self._greeted = True
        return True

    async def _sign_in(self) -> bool:
        mechanisms = Array(map(Symbol, self._mechanisms()))
        self._send(SaslMechanisms(sasl_server_mechanisms=mechanisms), kind=frames.SASL)
        received = await self._next()
        if not isinstance(received, Frame) or received.kind != frames.SASL:
            return False
        init, _ = received.read()
        good = isinstance(init, SaslInit) and self._lets_in(init)
        self._send(SaslOutcome(code=0 if good else _REFUSED), kind=frames.SASL)
        return good

    def _mechanisms(self) -> tuple[str, ...]:
        return (*_MECHANISMS, _EXTERNAL) if self.peer_chain else _MECHANISMS

    def _lets_in(self, init: SaslInit) -> bool:
        if init.mechanism != "PLAIN":
            return init.mechanism in self._mechanisms()
        given = (init.initial_response or b"").decode(errors="replace").split("\0")
        return len(given) == _PLAIN_PARTS and self._service.signs_in(given[1], given[2])

    async def _open(self) -> bool:
        received = await self._next()
        if received is None:
            return False
        opened, _ = _frame(received).read()
        if not isinstance(opened, Open):
            raise ConnectionFailure(failures.NOT_ALLOWED, f"{opened.name()} comes before open")
        answer = Open(
            container_id=self._container_id,
            max_frame_size=FRAME_LIMIT,
            channel_max=CHANNEL_MAX,
            idle_time_out=int(IDLE_SECONDS * 1000),
        )
        self._send(answer)
        self._opened = opened
        if opened.idle_time_out:
            self._keep_alive(opened.idle_time_out / 2000)
        return True

    def _keep_alive(self, seconds: float) -> None:
        """Send an empty frame now and then: half of the time that the client waits (section 2.4.5)."""
        self._write(encode_frame(None))
        loop = asyncio.get_running_loop()
        self._beat = loop.call_later(max(seconds, _LEAST_BEAT), self._keep_alive, seconds)

    # --- serving ---

    async def _handle(self, received: Header | Frame | None) -> bool:
        """Do what one frame says; tells whether the connection goes on."""
        if received is None:
            return False
        frame = _frame(received)
        if not frame.body:
            return True  # a heartbeat
        performative, payload = frame.read()
        if self._ending is not None:
            return not isinstance(performative, Close)
        match performative:
            case Close():
                self._send(Close())
                return False
            case Begin():
                self._begin(performative, frame.channel)
            case End():
                self._end(frame.channel)
            case _:
                await self._within(frame.channel, performative, payload)
        return True

    def _begin(self, begin: Begin, channel: int) -> None:
        if channel > CHANNEL_MAX:
            raise ConnectionFailure(failures.FRAMING_ERROR, f"channel {channel} is over {CHANNEL_MAX}")
        if channel in self._sessions or channel in self._failed or begin.remote_channel is not None:
            raise ConnectionFailure(failures.NOT_ALLOWED, f"channel {channel} has a session already")

        def send(performative: Composite, payload: bytes) -> None:
            self._send(performative, payload, channel=channel)

        agreed = self._opened.max_frame_size if self._opened else 0
        limit = min(max(agreed, frames.SMALLEST_LIMIT), FRAME_LIMIT)
        self._sessions[channel] = Session(begin, send, limit, self._service)
        self._sessions[channel].begin(channel)

    def _end(self, channel: int) -> None:
        if channel in self._failed:
            self._failed.remove(channel)
        else:
            self._session(channel).end(End())
            del self._sessions[channel]

    def _session(self, channel: int) -> Session:
        session = self._sessions.get(channel)
        if session is None:
            raise ConnectionFailure(failures.NOT_ALLOWED, f"channel {channel} has no session")
        return session

    async def _within(self, channel: int, performative: Composite, payload: bytes) -> None:
        if channel in self._failed:
            return  # sent before the client learned that its session has ended
        session = self._session(channel)
        try:
            await session.handle(performative, payload)
        except SessionFailure as failure:
            LOG.info("a session with %s ends: %s", self._peer(), failure)
            self._failed.add(channel)
            self._sessions.pop(channel).end(End(error=failure.error))

    # --- sending ---

    def _send(
        self, performative: Composite, payload: bytes = b"", *, channel: int = 0, kind: int = frames.AMQP
    ) -> None:
        self._write(encode_frame(performative, payload, channel=channel, kind=kind))

    def _write(self, octets: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)


def _frame(received: Header | Frame) -> Frame:
    if not isinstance(received, Frame) or received.kind != frames.AMQP:
        raise ConnectionFailure(failures.FRAMING_ERROR, "a frame of AMQP itself is expected")
    return received
