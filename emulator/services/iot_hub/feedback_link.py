"""Feedback on its way to one service, over AMQP (``/messages/serviceBound/feedback``)."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from emulator.protocols.amqp.composites import Accepted, Properties, Rejected
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import Symbol, Timestamp
from emulator.services.iot_hub.feedback import CONTENT_TYPE

if TYPE_CHECKING:
    from emulator.protocols.amqp.links import SendingLink
    from emulator.services.iot_hub.feedback import Batch
    from emulator.services.iot_hub.state import IotHub

LOOK_SECONDS = 1.0
"""A message that expires is missed when somebody looks at its device; who reads feedback looks at all, so often."""

_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00Z")


class FeedbackReader:
    """One link, and the batches that its service has not settled."""

    def __init__(self, hub: IotHub, link: SendingLink) -> None:
        self._hub = hub
        self._link = link
        self._unsettled: list[Batch] = []
        self._next_look: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send a batch whenever there is one and the service takes it."""
        self._link.refill = self._send
        self._hub.feedback.readers.add(self._send)
        self._look()

    def stop(self) -> None:
        """Leave what is not settled to others."""
        if self._next_look is not None:
            self._next_look.cancel()
        self._hub.feedback.readers.discard(self._send)
        for batch in self._unsettled:
            self._hub.feedback.give_back(batch)

    def _look(self) -> None:
        self._hub.end_expired_messages()
        self._next_look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _send(self) -> None:
        if not self._link.is_hungry or (batch := self._hub.take_feedback()) is None:
            return
        self._unsettled.append(batch)
        self._link.send(self._message(batch), lambda outcome: self._settled(batch, outcome))

    def _message(self, batch: Batch) -> bytes:
        latest = datetime.fromisoformat(batch.records[-1]["enqueuedTimeUtc"])
        return Message(
            body=json.dumps(batch.records).encode(),
            properties=Properties(
                message_id=str(uuid.uuid4()), user_id=self._hub.host_name.encode(), content_type=CONTENT_TYPE
            ),
            annotations={Symbol("iothub-enqueuedtime"): Timestamp((latest - _EPOCH) // timedelta(milliseconds=1))},
        ).encode()

    def _settled(self, batch: Batch, outcome: Any) -> None:
        """Let go of what was read or is not wanted; everything else comes once more."""
        self._unsettled.remove(batch)
        if isinstance(outcome, Accepted | Rejected):
            self._hub.feedback.done(batch)
        else:
            self._hub.feedback.give_back(batch)
