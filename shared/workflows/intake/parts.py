"""Requests about groups, followed until what they ask for single devices is done.

Each device gets a part: a message, and a row of its own. The request's message goes through the group, notes each part
before it is sent, and is then put back until no part is under way. So the request is done when its parts are.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.request_parts import counted
from shared.errors import Deferred, UnderWay
from shared.rules.number_words import number_of

if TYPE_CHECKING:
    from shared.domain.request_parts import PartCounts
    from shared.domain.requests import RequestRecord
    from shared.ledger.requests import Requests

_PER_PART = timedelta(milliseconds=25)
_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(minutes=1)


async def note_parts(requests: Requests, whole: RequestRecord) -> PartCounts:
    """Count the parts of a request, and enter how far they are."""
    counts = await requests.count_parts(whole.kind, whole.request_id)
    await requests.enter(whole, counted(counts))
    return counts


async def follow_parts(requests: Requests, whole: RequestRecord) -> None:
    """See whether all parts of a request are done; those that wait for somebody outside are left to go on alone.

    Raises:
        UnderWay: parts are under way.
        Deferred: an operator has to replay or close some.
    """
    counts = await note_parts(requests, whole)
    if counts.open:
        pause = min(max(_SHORTEST, counts.open * _PER_PART), _LONGEST)
        verb = "is" if counts.total == 1 else "are"
        raise UnderWay(f"{counts.open} of {number_of(counts.total, 'device')} {verb} under way", retry_after=pause)
    if counts.set_aside:
        raise Deferred(
            f"an operator: what it asks for {counts.set_aside} of {number_of(counts.total, 'device')} is set aside as "
            "rejections, to be replayed or closed",
            retry_after=_LONGEST,
        )
