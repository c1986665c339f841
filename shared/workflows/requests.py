"""Recognises a request that comes again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import Conflict
from shared.ledger.requests import RequestRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from shared.contracts import Contract
    from shared.ledger.requests import Requests
    from shared.workflows.events import Clock


@asynccontextmanager
async def once(
    requests: Requests, request_id: str, request: Contract, clock: Clock, *, asked_at: datetime | None = None
) -> AsyncIterator[RequestRecord | None]:
    """Run the body for a request, and remember that it was carried out.

    Gives the request's record when the work is still to be done: the first time, or after an attempt that broke off.

    Args:
        requests: all requests.
        request_id: its id.
        request: its content.
        clock: gives the present time.
        asked_at: when it was asked for; without it, now. Of several deliveries the first one counts.

    Raises:
        Conflict: the id was used before, with other content.
    """
    known = await requests.claim(
        RequestRecord(request_id=request_id, fingerprint=request.fingerprint, received_at=asked_at or clock())
    )
    _check_same(known, request)
    if known.carried_out_at is not None:
        yield None
        return
    yield known
    await requests.put(known.changed(carried_out_at=clock()))


async def is_repeated(requests: Requests, request_id: str, request: Contract) -> bool:
    """Tell whether a request came before.

    Raises:
        Conflict: the id was used before, with other content.
    """
    known = await requests.get(request_id)
    if known is not None:
        _check_same(known, request)
    return known is not None


def _check_same(known: RequestRecord, request: Contract) -> None:
    if known.fingerprint != request.fingerprint:
        raise Conflict.because(
            f"{known.request_id!r} was used on {known.received_at:%Y-%m-%d} with other content; a new request needs a "
            "new id",
            field="requestId",
        )
