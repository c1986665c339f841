"""An AMQP client that says what no SDK would, and hears every frame."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from devstack.emulator.amqp import frames
from devstack.emulator.amqp.composites import (
    Accepted,
    Attach,
    Begin,
    Close,
    Composite,
    Detach,
    Disposition,
    Flow,
    Open,
    Properties,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    Source,
    Target,
    Transfer,
)
from devstack.emulator.amqp.frames import AMQP_HEADER, SASL_HEADER, Frame, Header, encode_frame
from devstack.emulator.amqp.messages import Message
from tests.contract.emulator.iot_hub_clients import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.emulator.running import RunningEmulator

DEVICEBOUND = "/messages/devicebound"
FEEDBACK = "/messages/serviceBound/feedback"
IOT_HUB = "https://iothubs.azure.net"
SAS_TYPE = "servicebus.windows.net:sastoken"
_LIMIT = 2**20


class RawClient:
    """One connection; everything it is sent is read in order."""

    def __init__(self, stream: ssl.SSLSocket) -> None:
        self._stream = stream
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
        assert self.next(SaslMechanisms).sasl_server_mechanisms == ["MSSBCBS", "ANONYMOUS", "PLAIN"]
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

    def sender(self, address: str = DEVICEBOUND) -> int:
        """Attach a link to send on; gives its handle."""
        handle = self.attach(address).handle
        assert self.next(Flow).link_credit == 100
        return handle

    def receiver(self, address: str, credit: int = 10) -> int:
        """Attach a link to receive on, and take so many messages; gives its handle."""
        handle = self.attach(address, receives=True).handle
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

    def transfer(self, handle: int, message: Message | bytes, *, settled: bool = False) -> None:
        octets = message.encode() if isinstance(message, Message) else message
        number = self._deliveries
        self._deliveries += 1
        tag = number.to_bytes(4, "big")
        self.send(Transfer(handle=handle, delivery_id=number, delivery_tag=tag, settled=settled), octets)

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
def raw_client(emulator: RunningEmulator, hub: int = 0) -> Iterator[RawClient]:
    """Connect, and say nothing yet."""
    host = emulator.endpoints["iotHubs"][hub]["hostName"]
    context = ssl.create_default_context(cafile=emulator.ca_file)
    with (
        socket.create_connection((host, emulator.endpoints["amqpPort"]), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # many small frames: 40 ms each otherwise
        yield RawClient(secured)


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
