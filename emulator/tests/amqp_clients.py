"""An AMQP client that says what no SDK would, and hears every frame."""

from __future__ import annotations

import base64
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from emulator.protocols.amqp import frames
from emulator.protocols.amqp.composites import (
    Accepted,
    Attach,
    Begin,
    Close,
    Composite,
    Detach,
    Disposition,
    Error,
    Flow,
    Open,
    Properties,
    Rejected,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    Source,
    Target,
    Transfer,
)
from emulator.protocols.amqp.frames import AMQP_HEADER, SASL_HEADER, Frame, Header, encode_frame
from emulator.protocols.amqp.messages import Message
from emulator.tests.iot_hub_clients import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.tests.running import RunningEmulator

DEVICEBOUND = "/messages/devicebound"
FEEDBACK = "/messages/serviceBound/feedback"
IOT_HUB = "https://iothubs.azure.net"
SAS_TYPE = "servicebus.windows.net:sastoken"
_LIMIT = 2**20
_SMALL = 125
"""Bytes: the length of a longer frame of a websocket stands in octets of its own."""

_BINARY = 0x82


class Stream(Protocol):
    """What carries a connection."""

    def sendall(self, octets: bytes, /) -> None: ...

    def recv(self, count: int, /) -> bytes: ...


class WebsocketStream:
    """A connection carried by a websocket (RFC 6455): each write is a binary frame."""

    def __init__(self, stream: ssl.SSLSocket, host: str, path: str) -> None:
        self._stream = stream
        self._received = bytearray()
        stream.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
            "Sec-WebSocket-Protocol: AMQPWSB10\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._received:
            self._more()
        headers, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        assert headers.startswith(b"HTTP/1.1 101 "), headers
        self._received = bytearray(rest)

    def _more(self) -> None:
        received = self._stream.recv(65_536)
        assert received
        self._received += received

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            self._more()
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def sendall(self, octets: bytes, /) -> None:
        self._stream.sendall(b"\x82\xff" + len(octets).to_bytes(8, "big") + bytes(4) + octets)

    def recv(self, _count: int, /) -> bytes:
        """Give the next frame; nothing when the websocket is closed."""
        kind, length = self._take(2)
        if length > _SMALL:
            length = int.from_bytes(self._take(2 if length == _SMALL + 1 else 8), "big")
        payload = self._take(length)
        return payload if kind == _BINARY else b""


class RawClient:
    """One connection; everything it is sent is read in order."""

    def __init__(self, stream: Stream, *, has_certificate: bool = False) -> None:
        self._stream = stream
        self._has_certificate = has_certificate
        self._buffer = bytearray()
        self._handles = 0
        self._deliveries = 0

    def say(self, octets: bytes) -> None:
        self._stream.sendall(octets)

    def send(self, performative: Composite, payload: bytes = b"", *, channel: int = 0, kind: int = frames.AMQP) -> None:
        self.say(encode_frame(performative, payload, channel=channel, kind=kind))

    def hear(self) -> Header | Frame | None:
        """Give the next header or frame; None at the connection's end."""
        while True:
            for found in frames.take(self._buffer, _LIMIT):
                return found
            try:
                received = self._stream.recv(65_536)
            except (ConnectionError, ssl.SSLEOFError):
                return None
            if not received:
                return None
            self._buffer += received

    def frame(self) -> tuple[Any, bytes]:
        """Give the next performative, and the payload behind it; None at the connection's end."""
        heard = self.hear()
        return heard.read() if isinstance(heard, Frame) else (heard, b"")

    def next[T: Composite](self, kind: type[T]) -> T:
        """Give the next performative, which has to be of this kind."""
        found, _ = self.frame()
        assert isinstance(found, kind), found
        return found

    # --- beginning ---

    def sign_in(self, mechanism: str, response: bytes | None = None) -> int:
        """Go through SASL; gives the outcome's code."""
        self.say(SASL_HEADER)
        assert self.hear() == Header(SASL_HEADER)
        external = ["EXTERNAL"] if self._has_certificate else []
        assert self.next(SaslMechanisms).sasl_server_mechanisms == ["MSSBCBS", "ANONYMOUS", "PLAIN", *external]
        self.send(SaslInit(mechanism=mechanism, initial_response=response), kind=frames.SASL)
        return self.next(SaslOutcome).code

    def open(self, **fields: Any) -> Open:
        self.say(AMQP_HEADER)
        self.send(Open(container_id="raw", **fields))
        assert self.hear() == Header(AMQP_HEADER)
        return self.next(Open)

    def begin(self, channel: int = 0) -> Begin:
        self.send(Begin(next_outgoing_id=0, incoming_window=100, outgoing_window=100), channel=channel)
        return self.next(Begin)

    # --- links ---

    def attach(self, address: Any, *, receives: bool = False, **fields: Any) -> Attach:
        """Attach a link; gives the server's answer."""
        source = Source(address=address if receives else "raw")
        target = Target(address="raw" if receives else address)
        ends = {"source": source, "target": target, **fields}
        count = None if receives else 0
        self.send(
            Attach(
                link=f"link-{self._handles}", handle=self._handles, role=receives, initial_delivery_count=count, **ends
            )
        )
        self._handles += 1
        return self.next(Attach)

    def sender(self, address: str = DEVICEBOUND, **fields: Any) -> int:
        """Attach a link to send on; gives its handle."""
        handle = self.attach(address, **fields).handle
        assert self.next(Flow).link_credit == 100
        return handle

    def receiver(self, address: str, credit: int = 10, **fields: Any) -> int:
        """Attach a link to receive on, and take so many messages; gives its handle."""
        handle = self.attach(address, receives=True, **fields).handle
        self.allow(handle, credit)
        return handle

    def allow(self, handle: int, credit: int, **fields: Any) -> None:
        """Take so many messages more on a link."""
        window = {"incoming_window": 100, "next_outgoing_id": 0, "outgoing_window": 100, "next_incoming_id": 0}
        self.send(Flow(**{**window, "handle": handle, "delivery_count": 0, "link_credit": credit, **fields}))

    def refused(self, address: Any, *, receives: bool = False, **fields: Any) -> tuple[str, str | None]:
        """Attach a link that is refused; gives condition and description."""
        answer = self.attach(address, receives=receives, **fields)
        assert (answer.source if receives else answer.target) is None
        error = self.next(Detach).error
        assert error is not None
        return error.condition, error.description

    def transfer(self, handle: int, message: Message | bytes, *, settled: bool = False, kind: int = 0) -> None:
        octets = message.encode() if isinstance(message, Message) else message
        number = self._deliveries
        self._deliveries += 1
        tag = number.to_bytes(4, "big")
        start = Transfer(handle=handle, delivery_id=number, delivery_tag=tag, message_format=kind, settled=settled)
        self.send(start, octets)

    def outcome(self, handle: int, message: Message | bytes) -> Any:
        """Send a message; gives what became of it: None for accepted, else condition and description."""
        self.transfer(handle, message)
        return self.told()

    def told(self) -> Any:
        """Give what became of a message, as ``outcome`` does; credit that comes meanwhile is passed over."""
        while isinstance(disposition := self.frame()[0], Flow):
            pass
        assert isinstance(disposition, Disposition), disposition
        assert (disposition.role, disposition.settled) == (True, True)
        if isinstance(disposition.state, Accepted):
            return None
        return disposition.state.error.condition, disposition.state.error.description

    def receive(self) -> tuple[int, Message]:
        """Give the next message with its delivery id, out of as many frames as it takes."""
        octets, number = b"", None
        while True:
            transfer, payload = self.frame()
            assert isinstance(transfer, Transfer), transfer
            number = transfer.delivery_id if number is None else number
            octets += payload
            if not transfer.more:
                assert number is not None
                return number, Message.of(octets)

    def rejection(self, handle: int, message: Message | bytes) -> Error:
        """Send a message that is rejected; gives the error."""
        self.transfer(handle, message)
        disposition = self.next(Disposition)
        assert isinstance(disposition.state, Rejected), disposition
        assert disposition.state.error is not None
        return disposition.state.error

    def settle(self, number: int, outcome: Composite) -> None:
        """Tell what became of a message."""
        self.send(Disposition(role=True, first=number, settled=True, state=outcome))

    def put_token(self, token: Any, kind: str = SAS_TYPE, operation: str = "put-token") -> tuple[int, str]:
        """Show a token to ``$cbs``, on links that stay; gives status and description."""
        if not self._handles:
            self.receiver("$cbs")
            self.sender("$cbs")
        message = Message(
            body=token,
            has_data=False,
            properties=Properties(message_id="put-1", reply_to="raw"),
            application_properties={"operation": operation, "type": kind, "name": "https://hub"},
        )
        self.transfer(1, message)
        number, answer = self.receive()
        assert self.told() is None
        self.settle(number, Accepted())
        assert answer.properties.correlation_id == "put-1"
        return answer.application_properties["status-code"], answer.application_properties["status-description"]

    def close(self) -> None:
        self.send(Close())
        assert self.next(Close).error is None
        assert self.hear() is None


def ending(client: RawClient) -> tuple[str, str | None]:
    """Give condition and description of a connection's end, whatever comes before it."""
    while True:
        found, _ = client.frame()
        if isinstance(found, Close):
            assert found.error is not None
            assert client.hear() is None
            return found.error.condition, found.error.description
        assert found is not None


@contextmanager
def raw_client(
    emulator: RunningEmulator, hub: int = 0, *, files: tuple[str, str] | None = None, websocket: str | None = None
) -> Iterator[RawClient]:
    """Connect, and say nothing yet.

    Args:
        emulator: where to.
        hub: which of its hubs.
        files: a certificate with its chain and its key to connect with; none if left out.
        websocket: the path to ask for, to be carried by a websocket; TCP if left out.
    """
    host = emulator.endpoints["iotHubs"][hub]["hostName"]
    port = emulator.endpoints["websocketPort" if websocket else "amqpPort"]
    context = ssl.create_default_context(cafile=emulator.ca_file)
    if files:
        context.load_cert_chain(*files)
    with (
        socket.create_connection((host, port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # many small frames: 40 ms each otherwise
        carried = WebsocketStream(secured, f"{host}:{port}", websocket) if websocket else secured
        yield RawClient(carried, has_certificate=bool(files))


@contextmanager
def device_client(
    emulator: RunningEmulator,
    files: tuple[str, str] | None,
    *,
    mechanism: str | None = "ANONYMOUS",
    websocket: str | None = None,
) -> Iterator[RawClient]:
    """Connect as a device does, and begin a session on channel 0; ``mechanism`` None stands for no SASL at all."""
    with raw_client(emulator, files=files, websocket=websocket) as client:
        if mechanism is not None:
            assert client.sign_in(mechanism) == 0
        client.open()
        client.begin()
        yield client


@contextmanager
def trusted_client(emulator: RunningEmulator, hub: int = 0, **fields: Any) -> Iterator[RawClient]:
    """Connect, begin a session on channel 0, and show a good token."""
    with raw_client(emulator, hub) as client:
        assert client.sign_in("ANONYMOUS") == 0
        client.open(**fields)
        client.begin()
        assert client.put_token(emulator.token(IOT_HUB), "bearer") == (200, "OK")
        yield client


def message_to(device_id: str, body: bytes = b"do it", /, **properties: Any) -> Message:
    """A message for a device, as the SDKs make them."""
    to = f"/devices/{device_id}/messages/devicebound"
    return Message(body=body, properties=Properties(**{"to": to, **properties}))
