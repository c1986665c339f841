"""Has witnesses sign the log's checkpoint, those that the settings name (C2SP tlog-witness)."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.checkpoints import Cosigned
from shared.errors import LogDamaged
from shared.evidence.trees import consistency_path
from shared.evidence.verify import Note, NotProved, VerifierKey
from shared.ports.witnesses import WitnessRefused
from shared.workflows.evidence.continuity import own_note, tree_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.checkpoints import CheckpointRecord
    from shared.domain.witnesses import Witness
    from shared.ledger.checkpoints import Checkpoints
    from shared.ports.witnesses import Witnesses
    from shared.workflows.evidence.storage import LogStorage

_TRIES = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessing:
    """Collects cosignatures.

    Attributes:
        trusted: the witnesses, with their keys and addresses.
    """

    storage: LogStorage
    checkpoints: Checkpoints
    witnesses: Witnesses
    trusted: Sequence[Witness]

    async def run(self) -> int:
        """Ask each witness that has not signed the newest checkpoint, and tell how many have.

        One that can't be reached, or refuses, is asked again with the next checkpoint.
        """
        known = await self.checkpoints.newest()
        if known is None or not self.trusted:
            return 0
        record, given = known.record, dict[str, Cosigned]()
        for witness in self.trusted:
            before = record.witnesses.get(witness.key.name)
            if before is not None and before.size == record.size and before.line in record.note:
                continue
            try:
                line = await self._signed(record, witness, before.size if before else 0)
            except (WitnessRefused, NotProved, LogDamaged) as error:
                _log.warning("the witness %s has not signed the log's checkpoint: %s", witness.key.name, error)
            else:
                given[witness.key.name] = Cosigned(size=record.size, line=line)
        if given:
            note = record.note + "".join(each.line for each in given.values() if each.line not in record.note)
            changed = record.changed(
                note=note, cosigned=note, cosigned_size=record.size, witnesses={**record.witnesses, **given}
            )
            # A newer checkpoint that was signed meanwhile is asked about the next time.
            _ = await self.checkpoints.put(known, changed)
        return len(given)

    async def _signed(self, record: CheckpointRecord, witness: Witness, size: int) -> str:
        for _ in range(_TRIES):
            answer = await self.witnesses.add_checkpoint(witness.url, await self._body(record, size))
            if answer.size is None:
                return _line_of(record.note, answer.lines, witness.key)
            size = answer.size
        raise WitnessRefused(f"{witness.url} has another checkpoint each time it is asked")

    async def _body(self, record: CheckpointRecord, size: int) -> bytes:
        """Write what is sent; only the log's own signatures go along."""
        newest = tree_of(record.note).size
        if size > newest:
            raise WitnessRefused(f"the witness has seen {size} entries of this log, which has {newest}")
        head = (await self.storage.head()).head
        path = await self.storage.hashes(head, consistency_path(size, newest), newest)
        signed = own_note(record.note, record.origin)
        proof = "".join(f"{base64.b64encode(each).decode()}\n" for each in path)
        return f"old {size}\n{proof}\n{signed}".encode()


def _line_of(note: str, lines: str, key: VerifierKey) -> str:
    """Give the signature of a witness from its answer.

    Raises:
        NotProved: it is not there, or is not a signature of the note.
    """
    text = note.rpartition("\n\n")[0]
    for line in lines.splitlines():
        if f" {key.name} " in line and Note.read(f"{text}\n\n{line}\n".encode()).signers([key]):
            return f"{line}\n"
    raise NotProved(f"{key.name} has answered without its signature")
