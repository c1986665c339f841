"""Which public key belongs to which device: each device has a key of its own, and a compromised one is nobody's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.public_keys import PublicKeyRecord
from shared.errors import Overtaken
from shared.ledger.table import Stale
from shared.workflows.key_owners import check_free

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.ledger.public_keys import PublicKeys
    from shared.ledger.table import Versioned
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyClaims:
    """Claims keys for devices."""

    devices: Devices
    public_keys: PublicKeys
    clock: Clock

    async def claim(self, public_key: str, device: DeviceRecord, *, field: str) -> Versioned[PublicKeyRecord]:
        """See that a key belongs to this device and to no other, and that nobody else may have it.

        Raises:
            Conflict: it is another device's or a CA's, or it is compromised.
        """
        claim = PublicKeyRecord(
            fingerprint=public_key,
            registration_id=device.registration_id,
            recorded_at=self.clock(),
            is_confirmed=False,
        )
        known = await self.public_keys.claim(claim)
        await check_free(self.devices, known.record, device.registration_id, device, field=field)
        if known.record.registration_id == device.registration_id:
            return known
        return await self._replace_claim(known, claim)

    async def foresee(self, public_key: str, registration_id: str, device: DeviceRecord | None, *, field: str) -> None:
        """See that a key could be claimed as things are; errors are those of :meth:`claim`."""
        known = await self.public_keys.get(public_key)
        if known is not None:
            await check_free(self.devices, known.record, registration_id, device, field=field)

    async def confirm(self, claim: Versioned[PublicKeyRecord]) -> None:
        """See that a key is still the device's now that the ledger knows the device by it.

        Before that another one may have found its owner missing, deleted, or without the key, and have taken it. The
        claim is written once more, so that whoever read it before can't take it any more.

        Raises:
            Overtaken: it is not.
        """
        await self._replace_claim(claim, claim.record.changed(recorded_at=self.clock(), is_confirmed=True))

    async def _replace_claim(
        self, known: Versioned[PublicKeyRecord], record: PublicKeyRecord
    ) -> Versioned[PublicKeyRecord]:
        try:
            return await self.public_keys.replace(known, record)
        except Stale:
            raise Overtaken(f"the key of {record.registration_id!r} is being claimed by others") from None
