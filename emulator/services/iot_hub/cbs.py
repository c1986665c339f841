"""``$cbs``, where a client of a hub puts its tokens (OASIS, "AMQP Claims-based Security"; a good answer is 200)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from emulator.platform.amqp_conditions import planned_text, rejected
from emulator.protocols.amqp import failures
from emulator.protocols.amqp.composites import Accepted, Properties
from emulator.protocols.amqp.links import ReceivingLink, SendingLink
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import Int, Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.platform.amqp_conditions import PlannedFaults
    from emulator.platform.faults import Rule
    from emulator.protocols.amqp.composites import Composite
    from emulator.protocols.amqp.links import Link, Session

NODE: Final = "$cbs"
OK: Final = (200, "OK")
_BAD_REQUEST, _NOT_IMPLEMENTED = 400, 501
_TOKEN_TYPES: Final = {"servicebus.windows.net:sastoken", "bearer", "jwt"}


class TokenNode:
    """The node of one connection.

    Args:
        judge: takes a token; tells the status and its description.
        faults: what is planned to go wrong with ``putToken``.
    """

    def __init__(self, judge: Callable[[str], tuple[int, str]], faults: PlannedFaults) -> None:
        self._judge = judge
        self._faults = faults
        self._answers: dict[Session, SendingLink] = {}

    def attach(self, link: Link) -> None:
        """Take a link, to put tokens on or to hear what became of them."""
        if isinstance(link, SendingLink):
            self._answers[link.session] = link
        elif isinstance(link, ReceivingLink):
            link.take = partial(self._take, link.session)

    def detached(self, link: Link) -> None:
        """Forget a link."""
        if self._answers.get(link.session) is link:
            del self._answers[link.session]

    async def _take(self, session: Session, octets: bytes) -> Composite:
        answers = self._answers.get(session)
        if answers is None:
            return rejected(failures.PRECONDITION_FAILED, "attach a link that receives from $cbs first")
        try:
            request = Message.of(octets)
        except Malformed as error:
            return rejected(failures.DECODE_ERROR, str(error))
        rule = await self._faults.before("putToken")
        status, description = self._status(request, rule)
        answer = Message(
            body=None,
            has_data=False,
            properties=Properties(correlation_id=request.properties.message_id),
            application_properties={"status-code": Int(status), "status-description": description},
        )
        answers.send(answer.encode())
        return Accepted()

    def _status(self, request: Message, rule: Rule | None) -> tuple[int, str]:
        if rule is not None and rule.status is not None:
            return rule.status, planned_text(rule.status)
        asked, token = request.application_properties, request.body
        if asked.get("operation") != "put-token":
            return _NOT_IMPLEMENTED, f"$cbs knows put-token, and not {asked.get('operation')!r}"
        if asked.get("type") not in _TOKEN_TYPES or not isinstance(token, str):
            return _BAD_REQUEST, f"a token is a text of one of the types {', '.join(sorted(_TOKEN_TYPES))}"
        answer = self._judge(token)
        self._faults.after(rule)
        return answer
