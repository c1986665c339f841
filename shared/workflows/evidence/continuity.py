"""Whether a log continues what was signed of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import LogDamaged
from shared.evidence.trees import check_consistency, consistency_path
from shared.evidence.verify import Checkpoint, Note, NotProved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.domain.epochs import LogMark
    from shared.evidence.head import Head
    from shared.evidence.verify import Tree
    from shared.workflows.evidence.storage import LogStorage


def tree_of(note: str) -> Tree:
    """Give the tree that a checkpoint is of."""
    return Checkpoint.read(Note.read(note.encode()).text).tree


def own_note(note: str, origin: str) -> str:
    """Give a checkpoint with the log's own signatures alone: those that have the log's name."""
    text, _, lines = note.rpartition("\n\n")
    own = "".join(f"{line}\n" for line in lines.splitlines() if line.startswith(f"\u2014 {origin} "))
    return f"{text}\n\n{own}"


async def _nothing() -> None:
    """Remember nothing."""


@dataclass(slots=True, kw_only=True)
class LogMemory:
    """How long the log was, as somebody else remembers it: its head and the ledger's checkpoint may be lost together.

    Attributes:
        recall: gives it.
    """

    recall: Callable[[], Awaitable[LogMark | None]] = _nothing
    _is_whole: bool = False

    async def check(self, head: Head) -> None:
        """See that the log is not shorter than it was. When that was seen once, the worker's own memory goes on.

        Raises:
            LogDamaged: it is.
        """
        if self._is_whole:
            return
        known = await self.recall()
        if known is not None and known.is_of(head.origin) and known.entries > head.size:
            raise LogDamaged(
                f"the log {head.origin!r} had {known.entries} entries, as the vault remembers it, and has {head.size}: "
                "it was lost, or an older one was put in its place. Put it back from a copy. If there is "
                "none, begin another one, with another EVIDENCE_ORIGIN and empty containers (docs/evidence.md)"
            )
        self._is_whole = True


async def check_continues(storage: LogStorage, signed: Tree, head: Head) -> None:
    """See that a head continues a tree that was signed before.

    Raises:
        LogDamaged: it does not.
    """
    if signed.size > head.size:
        raise LogDamaged(
            f"the log's checkpoint has {signed.size} entries, and its head {head.size}: the log was truncated, or an "
            "older head was put in its place"
        )
    path = await storage.hashes(head, consistency_path(signed.size, head.size), head.size)
    try:
        check_consistency(signed, head.tree, path)
    except NotProved as error:
        raise LogDamaged(f"the log was forked: {error}") from None
