"""Keys of the certificates that an individual enrollment is to name: claimed, held while DPS is told, and confirmed.

A claim is made when an operator asks. It counts while the device's record says that the certificate is wanted, and for
good when DPS has it. If DPS refuses it, the claim counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workflows.entry_certificates import keys_of
from shared.workflows.key_owners import check_usable, of_another_device

if TYPE_CHECKING:
    from shared.domain.entry_wishes import EntryChange
    from shared.ledger.public_keys import PublicKeys
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryKeys:
    """Sees that no two devices get in by one key."""

    public_keys: PublicKeys
    clock: Clock

    async def hold(self, registration_id: str, change: EntryChange) -> None:
        """See that the keys of a change are the device's, now that its record wants it; nobody takes them any more.

        Raises:
            Conflict: another device has taken one since it was claimed, or one is compromised since.
            Stale: its claim is being changed by others.
        """
        for named in keys_of(change):
            known = await self.public_keys.get(named)
            if known is None:  # made here, and not handed out
                continue
            check_usable(known.record, "certificate")
            if known.record.registration_id != registration_id:
                raise of_another_device(known.record, "certificate")
            if not known.record.is_confirmed:  # who has read it before the record can't take it any more
                await self.public_keys.replace(known, known.record.changed(recorded_at=self.clock()))

    async def confirm(self, registration_id: str, change: EntryChange) -> None:
        """Enter that DPS has the certificates of a change.

        Raises:
            Stale: a claim is being changed by others.
        """
        for named in keys_of(change):
            known = await self.public_keys.get(named)
            if known is None or known.record.registration_id != registration_id or known.record.is_confirmed:
                continue
            await self.public_keys.replace(known, known.record.changed(is_confirmed=True))
