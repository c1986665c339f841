"""Has the CAs' lists, the keys and the index of what is in force follow a device's certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateState, RevocationRecord
from shared.domain.held_certificates import HOLD
from shared.domain.public_keys import PublicKeyRecord
from shared.domain.words import RevocationReason
from shared.workflows.devices.bundles import key_deletion

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.domain.held_certificates import HeldCertificate
    from shared.domain.wanted import Wanted
    from shared.ledger.certificates import Certificates
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.public_keys import PublicKeys
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.status.revocation_lists import RevocationLists


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What is kept of certificates beside the device's record."""

    certificates: Certificates
    public_keys: PublicKeys
    expiry: ExpiryIndex
    revocation_lists: RevocationLists
    clock: Clock

    async def enter(self, record: DeviceRecord, want: Wanted) -> None:
        """Enter what has become of a device's certificates since the services followed it last."""
        for each in record.held:
            if each.changed_in > record.converged and each.over:
                await self.certificates.leave_in_force(each.issuer, each.serial_number)
                await self.expiry.put(key_deletion(each, record.registration_id, self.clock()))
                await self._leave_missed(record, each)
        for each in want.listed:
            await self.certificates.enter_revocation(self._listed(record, each))
            if each.reason is RevocationReason.KEY_COMPROMISE:
                key = PublicKeyRecord(
                    fingerprint=each.public_key, registration_id=record.registration_id, recorded_at=self.clock()
                )
                await self.public_keys.condemn(key)
        for issuer in dict.fromkeys(each.issuer for each in want.listed):
            await self.revocation_lists.publish(issuer)

    async def _leave_missed(self, record: DeviceRecord, ended: HeldCertificate) -> None:
        """Take a device off the list of missed renewals, for what it uses no more and for what it has come with."""
        has_come = ended.state is CertificateState.SUPERSEDED
        for serial_number in (ended.serial_number, ended.successor if has_come else None):
            if serial_number is not None and record.enrollment_group is not None:
                await self.expiry.leave_missed(record.enrollment_group, record.registration_id, serial_number)

    def _listed(self, record: DeviceRecord, each: HeldCertificate) -> RevocationRecord:
        if each.not_after is None:  # passed over, it would be told as listed
            raise RuntimeError(f"certificate {each.serial_number} is revoked, and its record has no end of it")
        return RevocationRecord(
            serial_number=each.serial_number,
            issuer=each.issuer,
            revoked_at=each.revoked_at or self.clock(),
            reason=each.reason or HOLD,
            not_after=each.not_after,
            generation=record.generation,
            ended=each.reason is None,
        )
