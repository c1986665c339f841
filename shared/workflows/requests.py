"""Recognises a request that comes again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import Conflict
from shared.ledger.requests import RequestRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.contracts import Contract
    from shared.ledger.requests import Requests
    from shared.workflows.events import Clock


@asynccontextmanager
async def once(requests: Requests, request_id: str, request: Contract, clock: Clock) -> AsyncIterator[bool]:
    """Run the body for a request, and remember that it was carried out.

    Gives ``True`` when the work is still to be done: the first time, or after an attempt that broke off.

    Raises:
        Conflict: the id was used before, with other content.
    """
    record = RequestRecord(request_id=request_id, fingerprint=request.fingerprint, received_at=clock())
    known = await requests.claim(record)
    if known.fingerprint != record.fingerprint:
        raise Conflict.because(
            f"{request_id!r} was used on {known.received_at:%Y-%m-%d} with other content; a new request needs a new id",
            field="requestId",
        )
    if known.carried_out_at is not None:
        yield False
        return
    yield True
    await requests.put(known.changed(carried_out_at=clock()))
