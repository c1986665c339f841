"""Whether a log continues what was signed of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import LogDamaged
from shared.evidence.trees import check_consistency, consistency_path
from shared.evidence.verify import Checkpoint, Note, NotProved

if TYPE_CHECKING:
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
