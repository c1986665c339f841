"""Changes the log's key: the next one is announced in the log, then both sign, and then the next one alone.

Each step is one guarded write of the checkpoint's row, and can be repeated. The key before signs a log that has the
next one in it: so whoever trusts the one learns the other. Its last checkpoint, which both have signed, is kept.

The row names the calls that have asked for a step, until it is done: the audit log says so then, whoever did it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.acting import audited
from shared.domain.audit_entries import with_act
from shared.domain.checkpoints import KeyChange, RetiredKey
from shared.errors import Conflict, Deferred
from shared.evidence.leaves import key_entry
from shared.workflows.evidence.continuity import own_note
from shared.workflows.evidence.sequencing import SOON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.domain.audit_entries import AuditedAct
    from shared.domain.checkpoints import CheckpointRecord
    from shared.ledger.checkpoints import Checkpoints
    from shared.ledger.table import Versioned
    from shared.workflows.evidence.sequencing import Sequencer
    from shared.workflows.evidence.signing import CheckpointSigner
    from shared.workflows.evidence.storage import LogStorage
    from shared.workflows.intake.outbox import Clock

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanges:
    """Changes the log's key.

    Attributes:
        took_effect: writes down in the audit log that an act took effect; repeated, it adds nothing.
    """

    storage: LogStorage
    checkpoints: Checkpoints
    sequencer: Sequencer
    signer: CheckpointSigner
    took_effect: Callable[[AuditedAct], Awaitable[None]]
    clock: Clock

    async def begin(self) -> CheckpointRecord:
        """Have the next key sign beside the present one; if that was begun before, it is carried on."""
        await self.signer.publish()
        for _ in range(_ATTEMPTS):
            known = await self._newest()
            before = known.record
            after = before.changed(change=before.change or await self._next(before), audited=_called(before))
            if after == before or await self.checkpoints.put(known, after) is not None:
                return await self.carry_on()
        raise Deferred("the log's checkpoint is being signed by others", retry_after=SOON)

    async def _next(self, before: CheckpointRecord) -> KeyChange:
        key_id, key = await self.signer.key(before.origin, len(before.retired) + 2)
        return KeyChange(key_id=key_id, verifier_key=str(key), begun_at=self.clock(), since=before.size)

    async def carry_on(self) -> CheckpointRecord:
        """Announce the next key, if a change was begun and it is not announced yet; and have the log signed.

        What was asked for is done then.
        """
        for _ in range(_ATTEMPTS):
            known = await self.checkpoints.newest()
            change = known.record.change if known else None
            if known is None or change is None or change.announced is not None:
                return await self._write_down(await self.signer.publish())
            announced = change.changed(announced=await self._announce(change))
            _ = await self.checkpoints.put(known, known.record.changed(change=announced))  # it is read again
        raise Deferred("the log's checkpoint is being signed by others", retry_after=SOON)

    async def _announce(self, change: KeyChange) -> int:
        """Give the place of the entry that announces a key. Two workers may each make one, which says the same."""
        entry, head = key_entry(change.begun_at, change.verifier_key), (await self.storage.head()).head
        since = await self.storage.entries(head, change.since, head.size)
        return change.since + since.index(entry) if entry in since else await self.sequencer.append(entry)

    async def end(self) -> CheckpointRecord:
        """Have the next key sign alone.

        Raises:
            Conflict: no change was begun.
        """
        for _ in range(_ATTEMPTS):
            if (await self._newest()).record.change is None:
                raise Conflict.because(
                    "no change of the log's key is under way; begin one first, by POST /api/log/key/renew"
                )
            await self.carry_on()
            known = await self._newest()
            before, change = known.record, known.record.change
            if change is None or change.announced is None or before.size <= change.announced:
                continue
            handover = own_note(before.note, before.origin)
            retired = RetiredKey(verifier_key=before.verifier_key, until=before.size, handover=handover)
            after = before.changed(
                key_id=change.key_id,
                verifier_key=change.verifier_key,
                change=None,
                retired=(*before.retired, retired),
                audited=_called(before),
            )
            if await self.checkpoints.put(known, after) is not None:
                return await self._write_down(after)
        raise Deferred("the log's checkpoint is being signed by others", retry_after=SOON)

    async def _write_down(self, signed: CheckpointRecord) -> CheckpointRecord:
        """Have the audit log say what was done, when all keys have signed that are to; give the checkpoint."""
        if signed.change is not None and signed.change.announced is None:
            return signed  # it was begun since
        for each in signed.audited:
            await self.took_effect(each)
        done = {each.entry_id for each in signed.audited}
        for _ in range(_ATTEMPTS if done else 0):
            known = await self._newest()
            left = tuple(each for each in known.record.audited if each.entry_id not in done)
            written = await self.checkpoints.put(known, known.record.changed(audited=left))
            if written is not None:
                return written.record
        return signed

    async def _newest(self) -> Versioned[CheckpointRecord]:
        known = await self.checkpoints.newest()
        if known is None:
            raise Deferred("the log does not have a checkpoint yet", retry_after=SOON)
        return known


def _called(before: CheckpointRecord) -> tuple[AuditedAct, ...]:
    """Give the calls of a row with the one under way, if an entry of the audit log is about it."""
    own = audited()
    return before.audited if own is None or own in before.audited else with_act(before.audited, own)
