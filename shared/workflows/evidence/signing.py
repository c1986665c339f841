"""Signs checkpoints, with a key of the vault that does nothing else.

A vault signs with ECDSA and RSA, and not with Ed25519 (azure-keyvault-keys, ``SignatureAlgorithm``), so the signatures
are of type 0x02. What is signed continues what was signed before: that is proved first.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from shared.domain.checkpoints import CheckpointRecord, vault_key_name
from shared.errors import Deferred, Misconfigured
from shared.evidence.notes import checkpoint_text, ecdsa_key, signature_line, signed_note
from shared.evidence.verify import Note, VerifierKey
from shared.pki.signing_keys import remote_key, sign
from shared.rules.key_algorithms import KeyAlgorithm
from shared.workflows.evidence.continuity import LogMemory, check_continues, tree_of
from shared.workflows.evidence.sequencing import SOON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.evidence.head import Head
    from shared.ledger.checkpoints import Checkpoints
    from shared.ledger.table import Versioned
    from shared.ports.vault import VaultKeys
    from shared.workflows.evidence.storage import LogStorage
    from shared.workflows.intake.outbox import Clock

PACE = 1.0
"""Seconds between two checkpoints of a worker."""

_ATTEMPTS = 8
_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class CheckpointSigner:
    """Signs the log's head, and keeps the newest checkpoint.

    Attributes:
        key_name: of the vault's key.
        memory: of how long the log was.
        pause: waits for so many seconds.
    """

    storage: LogStorage
    checkpoints: Checkpoints
    vault: VaultKeys
    key_name: str
    clock: Clock
    memory: LogMemory = field(default_factory=LogMemory)
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def soon(self) -> None:
        """Have the head signed in a moment; whoever has appended does not wait for it."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._soon())

    async def _soon(self) -> None:
        await self.pause(PACE)
        try:
            await self.publish()
        except Exception:  # noqa: BLE001 - the timer tries again, and readiness says what is wrong
            _log.warning("the log's checkpoint was not signed", exc_info=True)

    async def publish(self) -> CheckpointRecord:
        """See that there is a checkpoint of the whole log, and give it.

        Raises:
            LogDamaged: the log does not continue the one that was signed before.
        """
        for _ in range(_ATTEMPTS):
            known = await self.checkpoints.newest()
            head = (await self.storage.head()).head
            await self.memory.check(head)
            if known is not None and not self.storage.is_other(known.record.origin):
                await check_continues(self.storage, tree_of(known.record.note), head)
                if known.record.size == head.size and _is_signed(known.record):
                    return known.record
            made = await self.checkpoints.put(known, await self._signed(known, head))
            if made is not None:
                return made.record
        raise Deferred("the log's checkpoint is being signed by others", retry_after=SOON)

    async def _signed(self, known: Versioned[CheckpointRecord] | None, head: Head) -> CheckpointRecord:
        goes_on = known is not None and not self.storage.is_other(known.record.origin)
        before = known.record if known is not None and goes_on else await self._first(head.origin)
        text = checkpoint_text(head.origin, head.tree)
        lines = [await self._line(key_id, VerifierKey.read(key), text) for key_id, key in before.signing]
        return before.changed(size=head.size, note=signed_note(text, *lines).decode(), signed_at=self.clock())

    async def _line(self, key_id: str, key: VerifierKey, text: str) -> str:
        public_key = key.public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise Misconfigured(f"the log's key {key.name!r} is not an ECDSA key")
        signing_key = remote_key(public_key, partial(self.vault.sign_digest, key_id))
        signature = await self.vault.run(sign, signing_key, text.encode(), hashes.SHA256())
        return signature_line(key, signature)

    async def _first(self, origin: str) -> CheckpointRecord:
        key_id, key = await self.key(origin, 1)
        return CheckpointRecord(
            origin=origin, key_id=key_id, verifier_key=str(key), size=0, note="", signed_at=self.clock()
        )

    async def key(self, origin: str, number: int) -> tuple[str, VerifierKey]:
        """Find a key of the log in the vault, or make it: the first, the second and so on; give its id as well."""
        name = vault_key_name(self.key_name, number)
        key_id, public_key = await self.vault.get_or_create(name, KeyAlgorithm.EC_P256)
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise Misconfigured(f"the vault's key {name!r} is not an ECDSA key")
        return key_id, ecdsa_key(origin, public_key)


def _is_signed(record: CheckpointRecord) -> bool:
    """Tell whether all keys have signed that are to: a change of the key may have begun since."""
    keys = [VerifierKey.read(key) for _, key in record.signing]
    return len(Note.read(record.note.encode()).signers(keys)) == len(keys)
