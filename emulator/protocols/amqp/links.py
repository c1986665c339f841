"""Sessions and links on a server's side (OASIS AMQP 1.0, part 2, sections 2.5 and 2.6)."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from emulator.protocols.amqp import failures
from emulator.protocols.amqp.composites import (
    Accepted,
    Attach,
    Begin,
    Coordinator,
    Detach,
    Disposition,
    End,
    Flow,
    Transfer,
)
from emulator.protocols.amqp.failures import ConnectionFailure, LinkFailure, SessionFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.protocols.amqp.composites import Composite

HANDLE_MAX: Final = 255
WINDOW: Final = 2**31 - 1
"""Transfers that a session takes: what limits them is the credit of links."""

CREDIT: Final = 100
"""Messages that a link may send ahead."""

MESSAGE_LIMIT: Final = 256 * 1024
"""Bytes of an encoded message."""

_WRAP: Final = 2**32
_SETTLED_BY_SENDER: Final = 1
_TRANSFER_ROOM: Final = 128
"""Bytes that a frame has besides the payload, and some more."""


class Service(Protocol):
    """What stands behind the links of one connection."""

    def signs_in(self, username: str, password: str) -> bool:
        """Tell whether a user is let in (SASL PLAIN)."""
        ...

    async def opened(self) -> None:
        """Learn that the client has opened the connection.

        Raises:
            ConnectionFailure: it is not wanted.
        """
        ...

    async def attached(self, link: Link) -> None:
        """Take a link; a ``ReceivingLink`` is given what takes its messages.

        Raises:
            LinkFailure: it is not wanted.
        """
        ...

    def detached(self, link: Link) -> None:
        """Learn that a link is gone."""
        ...


class Session:
    """One session.

    Args:
        begin: how the client began it.
        send: sends a frame on the session's channel.
        frame_limit: bytes that a frame to the client may have.
        service: what stands behind the links.
    """

    def __init__(
        self, begin: Begin, send: Callable[[Composite, bytes], None], frame_limit: int, service: Service
    ) -> None:
        self.payload_limit = frame_limit - _TRANSFER_ROOM
        self._send = send
        self._service = service
        self._next_incoming = begin.next_outgoing_id
        self._next_outgoing = 0
        self._window = begin.incoming_window
        self._links: dict[int, Link] = {}
        self._unsettled: dict[int, tuple[SendingLink, Callable[[Any], None]]] = {}
        """Deliveries that the client has not settled, by their ids."""

    def begin(self, channel: int) -> None:
        """Answer the client's begin."""
        answer = Begin(
            remote_channel=channel,
            next_outgoing_id=self._next_outgoing,
            incoming_window=WINDOW,
            outgoing_window=WINDOW,
            handle_max=HANDLE_MAX,
        )
        self._send(answer, b"")

    def end(self, answer: End | None = None) -> None:
        """End all links, and say so if there is somebody to be told."""
        for link in self._links.values():
            self._leave(link)
        self._links.clear()
        if answer is not None:
            self._send(answer, b"")

    async def handle(self, performative: Composite, payload: bytes) -> None:
        """Do what the client says.

        Raises:
            SessionFailure, ConnectionFailure: it may not be said.
        """
        match performative:
            case Attach():
                await self._attach(performative)
            case Flow():
                self._flow(performative)
            case Transfer():
                await self._transfer(performative, payload)
            case Disposition():
                self._disposition(performative)
            case Detach():
                self._detach(performative)
            case _:
                raise ConnectionFailure(failures.NOT_ALLOWED, f"{performative.name()} has no place in a session")

    # --- attaching and detaching ---

    async def _attach(self, attach: Attach) -> None:
        if attach.handle in self._links:
            raise SessionFailure(failures.HANDLE_IN_USE, f"handle {attach.handle} has a link already")
        if attach.handle > HANDLE_MAX:
            raise ConnectionFailure(failures.FRAMING_ERROR, f"handle {attach.handle} is over {HANDLE_MAX}")
        link = SendingLink(self, attach) if attach.role else ReceivingLink(self, attach)
        self._links[attach.handle] = link
        try:
            link.check()
            await self._service.attached(link)
        except LinkFailure as failure:
            self._send(link.answer(refused=True), b"")
            self.fail(link, failure)
        else:
            self._send(link.answer(), b"")
            link.begin()

    def _detach(self, detach: Detach) -> None:
        link = self._links.pop(detach.handle, None)
        if link is None:
            raise SessionFailure(failures.UNATTACHED_HANDLE, f"handle {detach.handle} has no link")
        if not link.ended:
            self._leave(link)
            self._send(Detach(handle=detach.handle, closed=detach.closed), b"")

    def fail(self, link: Link, failure: LinkFailure) -> None:
        """Detach a link; its handle stays taken until the client detaches too (section 2.6.6)."""
        if link.ended:
            return
        self._leave(link)
        self._send(Detach(handle=link.handle, closed=True, error=failure.error), b"")

    def _leave(self, link: Link) -> None:
        if not link.ended:
            link.ended = True
            self._unsettled = {number: each for number, each in self._unsettled.items() if each[0] is not link}
            self._service.detached(link)

    # --- what the client sends ---

    async def _transfer(self, transfer: Transfer, payload: bytes) -> None:
        self._next_incoming = (self._next_incoming + 1) % _WRAP
        link = self._link(transfer.handle)
        if not isinstance(link, ReceivingLink):
            raise SessionFailure(failures.ERRANT_LINK, f"handle {transfer.handle} has a link that sends to the client")
        if link.ended:
            return
        try:
            await link.receive(transfer, payload)
        except LinkFailure as failure:
            self.fail(link, failure)

    def _link(self, handle: int) -> Link:
        link = self._links.get(handle)
        if link is None:
            raise SessionFailure(failures.UNATTACHED_HANDLE, f"handle {handle} has no link")
        return link

    def settle(self, delivery_id: int, outcome: Composite) -> None:
        """Tell the client what became of its message."""
        self._send(Disposition(role=True, first=delivery_id, last=delivery_id, settled=True, state=outcome), b"")

    # --- what the client receives ---

    def _flow(self, flow: Flow) -> None:
        self._window = max(0, (flow.next_incoming_id or 0) + flow.incoming_window - self._next_outgoing)
        link = None if flow.handle is None else self._link(flow.handle)
        if isinstance(link, SendingLink) and not link.ended:
            link.take_credit(flow)
        for each in self._links.values():
            if isinstance(each, SendingLink):
                each.pump()
        if flow.echo:
            self.flow(link)

    def flow(self, link: Link | None = None) -> None:
        """Tell the client the state of the session, and of a link."""
        state = {} if link is None or link.ended else link.state()
        answer = Flow(
            next_incoming_id=self._next_incoming,
            incoming_window=WINDOW,
            next_outgoing_id=self._next_outgoing,
            outgoing_window=WINDOW,
            **state,
        )
        self._send(answer, b"")

    @property
    def open_window(self) -> bool:
        """Whether the client takes another transfer."""
        return self._window > 0

    def transfer(self, transfer: Transfer, payload: bytes) -> None:
        """Send the client a message, or a part of one."""
        self._window -= 1
        self._next_outgoing = (self._next_outgoing + 1) % _WRAP
        self._send(transfer, payload)

    def await_outcome(self, delivery_id: int, link: SendingLink, learn: Callable[[Any], None]) -> None:
        """Have ``learn`` called with what became of a delivery."""
        self._unsettled[delivery_id] = (link, learn)

    @property
    def next_delivery_id(self) -> int:
        """The id of the delivery that begins with the next transfer: transfers are counted anyway."""
        return self._next_outgoing

    def _disposition(self, disposition: Disposition) -> None:
        if not disposition.role:
            return  # it is about the client's own messages, which are settled here at once
        last = disposition.first if disposition.last is None else disposition.last
        for number in [each for each in self._unsettled if disposition.first <= each <= last]:
            _, learn = self._unsettled.pop(number)
            learn(disposition.state)
        if not disposition.settled:
            answer = Disposition(role=False, first=disposition.first, last=last, settled=True, state=disposition.state)
            self._send(answer, b"")


class Link:
    """One link, as the server has it.

    Attributes:
        session: where it is attached.
        address: the node that the client wants to reach; there once ``check`` found nothing wrong.
        properties: what the client says of the link besides.
        handle: the client's, and the server's too.
        ended: whether it has been detached from this side.
    """

    def __init__(self, session: Session, attach: Attach) -> None:
        self.session = session
        self.address = ""
        self.properties = attach.properties or {}
        self.handle = attach.handle
        self.ended = False
        self._attach = attach

    def check(self) -> None:
        """Look at what the client wants.

        Raises:
            LinkFailure: it is nothing that a link can have here.
        """
        far = self._attach.source if self._attach.role else self._attach.target
        if isinstance(far, Coordinator):
            raise LinkFailure(failures.NOT_IMPLEMENTED, "transactions are not offered")
        if getattr(far, "dynamic", False):
            raise LinkFailure(failures.NOT_IMPLEMENTED, "dynamic nodes are not offered")
        address = getattr(far, "address", None)
        if not isinstance(address, str):
            raise LinkFailure(failures.INVALID_FIELD, f"a link needs the address of a node; this one has {address!r}")
        self.address = address

    def answer(self, *, refused: bool = False) -> Attach:
        """Give the answer to the client's attach; a link that is refused has no far end (section 2.6.3)."""
        client_receives = self._attach.role
        return Attach(
            link=self._attach.link,
            handle=self.handle,
            role=not client_receives,
            snd_settle_mode=self._attach.snd_settle_mode,
            rcv_settle_mode=self._attach.rcv_settle_mode,
            source=None if refused and client_receives else self._attach.source,
            target=None if refused and not client_receives else self._attach.target,
            initial_delivery_count=0 if client_receives else None,
            max_message_size=MESSAGE_LIMIT,
        )

    def begin(self) -> None:
        """Do what is due once the link is attached."""

    def state(self) -> dict[str, Any]:
        """Give what a flow says about it."""
        raise NotImplementedError


class ReceivingLink(Link):
    """A link on which the client sends.

    Attributes:
        take: what takes a message, and tells what became of it.
        message_format: of the message that is coming in, or came last (section 2.8.11); 0 is that of part 3.
    """

    take: Callable[[bytes], Awaitable[Composite]]

    def __init__(self, session: Session, attach: Attach) -> None:
        super().__init__(session, attach)
        self._credit = 0
        self._count = attach.initial_delivery_count or 0
        self._octets = bytearray()
        self.message_format = 0
        self._delivery_id: int | None = None
        """Of the message that is coming in."""
        self._settled = False

    def begin(self) -> None:
        """Let the client send."""
        self._credit = CREDIT
        self.session.flow(self)

    def state(self) -> dict[str, Any]:
        """Give what a flow says about it."""
        return {"handle": self.handle, "delivery_count": self._count, "link_credit": self._credit}

    async def receive(self, transfer: Transfer, payload: bytes) -> None:
        """Put a message together, and hand it on when it is whole.

        Raises:
            LinkFailure: the client may not send this.
        """
        if self._delivery_id is None:
            self._start(transfer)
        self._settled = self._settled or bool(transfer.settled)
        self._octets += payload
        if len(self._octets) > MESSAGE_LIMIT:
            raise LinkFailure(failures.MESSAGE_SIZE_EXCEEDED, f"a message has more than {MESSAGE_LIMIT} bytes")
        if not transfer.more or transfer.aborted:
            await self._finish(aborted=transfer.aborted)

    def _start(self, transfer: Transfer) -> None:
        if transfer.delivery_id is None:
            raise LinkFailure(failures.INVALID_FIELD, "the first transfer of a message has no delivery-id")
        if transfer.resume:
            raise LinkFailure(failures.NOT_IMPLEMENTED, "deliveries are not resumed")
        if self._credit == 0:
            raise LinkFailure(failures.TRANSFER_LIMIT_EXCEEDED, "the link has no credit left")
        self._credit -= 1
        self._count = (self._count + 1) % _WRAP
        self._delivery_id, self._settled = transfer.delivery_id, False
        self.message_format = transfer.message_format or 0

    async def _finish(self, *, aborted: bool) -> None:
        octets, delivery_id = bytes(self._octets), self._delivery_id
        self._octets.clear()
        self._delivery_id = None
        if not aborted and delivery_id is not None:
            outcome = await self.take(octets)
            if not self._settled:
                self.session.settle(delivery_id, outcome)
        if self._credit <= CREDIT // 2:
            self.begin()


@dataclass(slots=True)
class _Outgoing:
    """A message to the client, or what is left of it; ``learn`` is told what became of it."""

    octets: bytes
    learn: Callable[[Any], None]
    delivery_id: int = -1
    """Negative until it has begun."""


class SendingLink(Link):
    """A link on which the client receives.

    Attributes:
        refill: called when the client takes more than is waiting for it.
    """

    def __init__(self, session: Session, attach: Attach) -> None:
        super().__init__(session, attach)
        self.refill: Callable[[], None] = lambda: None
        self._settles = attach.snd_settle_mode == _SETTLED_BY_SENDER
        self._credit = 0
        self._count = 0
        self._waiting: deque[_Outgoing] = deque()

    def state(self) -> dict[str, Any]:
        """Give what a flow says about it."""
        return {
            "handle": self.handle,
            "delivery_count": self._count,
            "link_credit": self._credit,
            "available": len(self._waiting),
        }

    @property
    def is_hungry(self) -> bool:
        """Whether the client would get another message at once."""
        return not self.ended and self._credit > 0 and not self._waiting

    def send(self, message: bytes, learn: Callable[[Any], None] = lambda _: None) -> None:
        """Send a message as soon as the client takes it.

        Args:
            message: encoded.
            learn: called with the outcome, as the client gives it; not called when the link goes before that.
        """
        self._waiting.append(_Outgoing(message, learn))
        self.pump()

    def take_credit(self, flow: Flow) -> None:
        """Let the client have so much more; with drain, what is not used is gone (section 2.6.7)."""
        self._credit = max(0, (flow.delivery_count or 0) + (flow.link_credit or 0) - self._count)
        self.pump()
        if self.is_hungry:
            self.refill()
        if flow.drain and self._credit and not self._waiting:
            self._count = (self._count + self._credit) % _WRAP
            self._credit = 0
            self.session.flow(self)

    def pump(self) -> None:
        """Send what may be sent."""
        while not self.ended and self._waiting and self.session.open_window:
            first = self._waiting[0]
            if first.delivery_id < 0 and not self._credit:
                return
            self._send_part(first)

    def _send_part(self, message: _Outgoing) -> None:
        begins = message.delivery_id < 0
        if begins:
            self._credit -= 1
            self._count += 1
            message.delivery_id = self.session.next_delivery_id
        limit = self.session.payload_limit
        payload, message.octets = message.octets[:limit], message.octets[limit:]
        more = bool(message.octets)
        if not more:
            self._waiting.popleft()
        transfer = Transfer(
            handle=self.handle,
            delivery_id=message.delivery_id,
            delivery_tag=uuid.uuid4().bytes if begins else None,
            message_format=0,
            settled=self._settles,
            more=more,
        )
        self.session.transfer(transfer, payload)
        if more:
            return
        if self._settles:
            message.learn(Accepted())
        else:
            self.session.await_outcome(message.delivery_id, self, message.learn)
