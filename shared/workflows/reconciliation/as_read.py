"""Writes to services under the ETag that something was read with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import Overtaken, PreconditionFailed

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def as_read(what: str) -> Iterator[None]:
    """Write something under the ETag that it was read with: if others have changed it, say so.

    Raises:
        Overtaken: they have.
    """
    try:
        yield
    except PreconditionFailed as changed:
        raise Overtaken(f"{what} is being changed by others") from changed
