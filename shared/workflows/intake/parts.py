"""Requests about groups, followed until what they ask for single devices is done.

Each device gets a part: a message, and a row of its own. The request's message goes through the group, notes each part
before it is sent, and is then put back until no part is under way. So the request is done when its parts are.

A note says what its part asks for. So a part is sent by whoever counts, if who noted it died before. Others may have
changed its device by then, so that nobody who goes through the group again would ask for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.contracts.devices import MemberRevocation, renewal_request, revocation_request
from shared.contracts.messages import Queue
from shared.domain.request_parts import PartNote, counted
from shared.domain.requests import part_key
from shared.errors import Deferred, UnderWay
from shared.rules.number_words import number_of
from shared.workflows.intake.requests import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.contracts.devices import CertificateRenewal, RevocationRequest
    from shared.domain.request_parts import PartCounts
    from shared.domain.requests import RequestRecord
    from shared.ledger.requests import Requests
    from shared.workflows.intake.outbox import Clock, Outbox

_PER_PART = timedelta(milliseconds=25)
_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(minutes=1)
_READ: Mapping[Queue, Callable[[Any], Any]] = {
    Queue.REVOCATION_REQUESTS: revocation_request,
    Queue.RENEWAL_REQUESTS: renewal_request,
}
"""Reads what a part of a kind asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of requests about groups."""

    requests: Requests
    outbox: Outbox
    clock: Clock

    async def ask[Wanted: RevocationRequest | CertificateRenewal](self, whole: RequestRecord, wanted: Wanted) -> None:
        """Ask for a part of a request; it is counted before it is sent, so that none is left out."""
        await self.send(whole, await self.expect(whole, wanted))

    async def expect[Wanted: RevocationRequest | CertificateRenewal](
        self, whole: RequestRecord, wanted: Wanted
    ) -> Wanted:
        """Have a part of a request counted that is about to be sent, and give it as it was asked for first.

        However often it is asked for, that counts: its device may look otherwise by then.

        Args:
            whole: the request.
            wanted: the part's message; its id and its device or certificate follow from the request.
        """
        member = wanted.registration_id if isinstance(wanted, MemberRevocation) else None
        note = PartNote(
            kind=whole.kind,
            whole=whole.request_id,
            key=part_key(whole.kind, wanted.request_id, member),
            asks=wanted.to_json(),
            noted_at=self.clock(),
        )
        known = await self.requests.expect_part(note)
        first: Wanted = wanted if known.asks is None else _asked_by(known)
        return first

    async def send(self, whole: RequestRecord, wanted: RevocationRequest | CertificateRenewal) -> None:
        """Send a part of a request, which is counted."""
        await self._send(Queue(whole.kind), wanted, whole.request_id)

    async def _send(self, kind: Queue, wanted: RevocationRequest | CertificateRenewal, whole: str) -> None:
        if isinstance(wanted, MemberRevocation):
            await self.outbox.send(kind, wanted)
        else:
            await submit(self.requests, self.outbox, kind, wanted, self.clock, whole=whole)

    async def count(self, whole: RequestRecord) -> PartCounts:
        """Count the parts of a request, enter how far they are, and send those that were not sent."""
        counts = await self.requests.count_parts(whole.kind, whole.request_id)
        await self.requests.enter(whole, counted(counts))
        for note in counts.unsent:
            if note.asks is not None:
                await self._send(Queue(note.kind), _asked_by(note), note.whole)
                await self.requests.part_sent(note)
        return counts

    async def follow(self, whole: RequestRecord) -> None:
        """See whether all parts of a request are done; those that wait for somebody outside are left to go on alone.

        Raises:
            UnderWay: parts are under way.
            Deferred: an operator has to replay or close some.
        """
        counts = await self.count(whole)
        if counts.open:
            pause = min(max(_SHORTEST, counts.open * _PER_PART), _LONGEST)
            verb = "is" if counts.total == 1 else "are"
            raise UnderWay(f"{counts.open} of {number_of(counts.total, 'device')} {verb} under way", retry_after=pause)
        if counts.set_aside:
            raise Deferred(
                f"an operator: what it asks for {counts.set_aside} of {number_of(counts.total, 'device')} is set aside "
                "as rejections, to be replayed or closed",
                retry_after=_LONGEST,
            )


def _asked_by(note: PartNote) -> Any:
    """Give what a part asks for, as it was counted first."""
    return _READ[Queue(note.kind)](json.loads(note.asks or "{}"))
