"""What a worker does while the ledger is being restored: nothing, since half a ledger looks like a whole one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.adapters.sdk_errors import is_outage
from shared.errors import LedgerBehind

if TYPE_CHECKING:
    from shared.errors import Rejected
    from shared.services import Services

ALWAYS = frozenset({"health/live", "health/ready", "openapi.json", "asyncapi.json", "schemas", "schemas/{schema}"})
"""Routes that are answered all the same: none of them tells what is in the ledger, and readiness says what is wrong."""


async def unfinished(services: Services) -> LedgerBehind | None:
    """Tell that the ledger is being restored; ``None`` if it is not, or if its tables do not answer.

    The message is for whoever asks, and names no archive: readiness and the log do.
    """
    try:
        found = await services.epochs.unfinished()
    except Exception as error:
        if not is_outage(error):
            raise
        return None  # the work itself finds that out
    if found is None:
        return None
    return LedgerBehind("the ledger is being restored, and is not whole: nothing is done or answered before it is")


async def lost(services: Services) -> str | None:
    """Tell what of the ledger is lost; ``None`` if nothing is known to be, or if vault or tables do not answer."""
    try:
        return await services.epochs.fault()
    except Exception as error:
        if not is_outage(error):
            raise
        return None


async def check_refusal(services: Services, rejection: Rejected, before: str | None) -> None:
    """See that a refusal counts: what an older ledger does not know may be there.

    Args:
        services: of the worker.
        rejection: the refusal.
        before: what of the ledger was lost when the work was begun: it may have been taken back since.

    Raises:
        LedgerBehind: it does not count.
    """
    fault = before or await lost(services)
    if fault is not None:
        raise LedgerBehind.of_refusal(fault, rejection)


async def check(services: Services) -> None:
    """See that the ledger is not being restored.

    Raises:
        LedgerBehind: it is.
    """
    found = await unfinished(services)
    if found is not None:
        raise found
