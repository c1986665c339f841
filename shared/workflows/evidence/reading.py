"""Gives the log to who may read it: checkpoint, tiles, the proof of an entry; and sees whether it is what it was."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import LogDamaged, NotFound
from shared.evidence.tiles import WIDTH, Tile
from shared.evidence.trees import inclusion_path
from shared.evidence.verify import Checkpoint, LogKeys, Note, NotProved, Proof, VerifierKey, check_inclusion, leaf_hash
from shared.rules.number_words import number_of
from shared.workflows.evidence.continuity import check_continues, tree_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from shared.domain.checkpoints import CheckpointRecord
    from shared.ledger.checkpoints import Checkpoints
    from shared.workflows.evidence.sequencing import Sequencer
    from shared.workflows.evidence.signing import CheckpointSigner
    from shared.workflows.evidence.storage import LogStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReader:
    """Reads the log.

    Attributes:
        signer: signs what is not signed yet; ``None`` in a zone that can't.
    """

    storage: LogStorage
    checkpoints: Checkpoints
    signer: CheckpointSigner | None
    sequencer: Sequencer

    async def checkpoint(self) -> CheckpointRecord:
        """Give the newest checkpoint.

        Raises:
            NotFound: nothing was logged yet.
        """
        found = await self.checkpoints.newest()
        if found is None:
            raise NotFound.because("the log does not have a checkpoint yet, since nothing was logged")
        return found.record

    async def handover(self, number: int) -> str:
        """Give the last checkpoint of a key that signs no more, signed by the next one as well; the first is 1.

        Raises:
            NotFound: so many keys have not ended.
        """
        retired = (await self.checkpoint()).retired
        if not 1 <= number <= len(retired):
            raise NotFound.because(
                f"the log's key was changed {number_of(len(retired), 'time')}; {number} is not one of them"
            )
        return retired[number - 1].handover

    async def tile(self, path: str) -> bytes:
        """Give a tile, or a bundle of entries.

        Raises:
            NotFound: the path is not one of a tile, or the checkpoint does not have it.
        """
        tile = Tile.read(path)
        if tile is None:
            raise NotFound.because(f"{path[:140]!r} is not the path of a tile (C2SP tlog-tiles)")
        size = (await self.checkpoint()).size
        if not tile.exists_in(size):
            raise NotFound.because(f"{path!r} does not exist in the log's checkpoint, which has {size} entries")
        return await self.storage.tile((await self.storage.head()).head, tile)

    async def backwards(self) -> AsyncIterator[Sequence[bytes]]:
        """Give the entries of the log, some at a time and these in their order, the newest first."""
        head = (await self.storage.head()).head
        last = head.size
        while last > 0:
            first = max(0, last - WIDTH)
            yield await self.storage.entries(head, first, last)
            last = first

    async def proof(self, index: int) -> Proof:
        """Prove an entry, by a checkpoint that witnesses have signed if there is one that has it.

        Raises:
            LogDamaged: the log does not have it any more.
        """
        known = await self.checkpoints.newest()
        record = known.record if known and not self.storage.is_other(known.record.origin) else None
        if self.signer is not None and (record is None or record.size <= index):
            record = await self.signer.publish()
        head = (await self.storage.head()).head
        if record is None or index >= record.size or record.size > head.size:
            there = min(record.size, head.size) if record else 0
            raise LogDamaged(f"entry {index} was logged, and the log has {there} entries")
        cosigned = record.cosigned if record.cosigned_size > index and _is_of_present_key(record) else None
        note = (cosigned or record.note).encode()
        tree = tree_of(note.decode())
        path = await self.storage.hashes(head, inclusion_path(index, tree.size), tree.size)
        (entry,) = await self.storage.entries(head, index, index + 1)
        try:
            check_inclusion(leaf_hash(entry), index, path, tree)
        except NotProved as error:
            raise LogDamaged(f"entry {index} is not in the log that was signed: {error}") from None
        return Proof(entry, index, tuple(path), note)

    async def check(self) -> None:
        """Raise unless the log is what it was: its head, its checkpoint, and the newest of its tiles.

        Raises:
            LogDamaged: it was truncated, swapped, replayed or forked; the message says which.
        """
        stored, known = await asyncio.gather(self.sequencer.read(), self.checkpoints.newest())
        head = stored.head
        if known is None or self.storage.is_other(known.record.origin):
            return
        record = known.record
        try:
            Checkpoint.opened(record.note.encode(), LogKeys.read(record.verifier_key))
        except NotProved as error:
            raise LogDamaged(f"the log's checkpoint was changed by hand: {error}") from None
        if record.size > head.size:  # it was signed after the head was read, or the head got shorter
            head = (await self.sequencer.read()).head
        await check_continues(self.storage, tree_of(record.note), head)
        await self.storage.check_newest_tiles(head)


def _is_of_present_key(record: CheckpointRecord) -> bool:
    """Tell whether the present key has signed what witnesses have; one before may be trusted no more."""
    return bool(Note.read((record.cosigned or "").encode()).signers([VerifierKey.read(record.verifier_key)]))
