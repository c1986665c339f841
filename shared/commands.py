"""What the programs of the command line have in common: the ids that they are given, and how they end.

A program that is refused, or breaks off, says why and ends with 2. What its other exit statuses say is its own: a
traceback of Python's would end it with 1, which may stand for an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import traceback
from typing import TYPE_CHECKING

from shared.adapters.sdk_errors import is_outage, words_of
from shared.contracts.ids import path_value
from shared.errors import DeviceFactoryError, LogDamaged, Rejected
from shared.settings import InvalidSettings, Settings
from shared.workflows.status.revocation_lists import NotPublished

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from typing import Any

FAILED = 2
"""The exit status of a program that was refused, or broke off."""

BROKE_OFF = "it broke off. What was done so far stays: run the same command again"


def run(program: Callable[[Settings], Coroutine[Any, Any, int]], *, what: str = BROKE_OFF) -> int:
    """Run a program of the deployment that the environment names, and give its exit status.

    Args:
        program: gives its exit status.
        what: failed if it breaks off.
    """
    try:
        settings = Settings.from_environment(os.environ)
    except InvalidSettings as error:
        return refused(error)
    return asyncio.run(ended(program(settings), what=what))


async def ended(program: Awaitable[int], *, what: str = BROKE_OFF) -> int:
    """Wait for a program, and give its exit status; say why if it is refused, or breaks off."""
    try:
        return await program
    except (LogDamaged, Rejected) as refusal:
        return refused(refusal)
    except Exception as error:  # noqa: BLE001 - whatever it is, the exit status must not be taken for an answer
        return failed(what, error)


def refused(why: Exception | str) -> int:
    """Say why a program is refused; give its exit status."""
    sys.stderr.write(f"{why}\n")
    return FAILED


def failed(what: str | None, error: Exception) -> int:
    """Say what failed and why, in a line each; what nobody has thought of with all that is known of it.

    Args:
        what: failed; ``None`` where that goes without saying.
        error: why.
    """
    causes = list(_causes(error))
    if not all(isinstance(each, DeviceFactoryError | NotPublished) or is_outage(each) for each in causes):
        traceback.print_exception(error)
    if what is not None:
        sys.stderr.write(f"{what}:\n")
    for each in dict.fromkeys(map(words_of, causes)):
        sys.stderr.write(f"- {each}\n" if what is not None else f"{each}\n")
    return FAILED


def _causes(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        yield error


# --- ids, as the HTTP API takes them ---


def enrollment_group(text: str) -> str:
    """Read the id of an enrollment group: DPS compares it without case, and the ledger has it in lower case.

    Raises:
        argparse.ArgumentTypeError: with the id's rule.
    """
    try:
        return path_value("enrollmentGroup", text)
    except Rejected as refusal:
        raise argparse.ArgumentTypeError(refusal.reasons[0].message) from None


def hub_host(text: str) -> str:
    """Read the host name of a hub; names of hosts have no case (RFC 4343)."""
    return text.lower()
