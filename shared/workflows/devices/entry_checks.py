"""What an individual enrollment may name: certificates that DPS would take, and keys and ids that are nobody else's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateState
from shared.domain.public_keys import PublicKeyRecord
from shared.errors import Conflict, NotFound, Rejected
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.public_keys import fingerprint, key_of
from shared.rules.registration_ids import same_registration_id
from shared.workflows.devices.entry_changes import busy, named
from shared.workflows.entry_certificates import held_by, leaf_of, serial_numbers_of
from shared.workflows.key_owners import check_free

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from shared.contracts.groups import IndividualEnrollmentDefinition
    from shared.domain.attestations import Entry
    from shared.domain.certificates import CertificateRecord
    from shared.domain.devices import DeviceRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import ClaimedDeviceId, Devices
    from shared.ledger.public_keys import PublicKeys
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChecks:
    """Holds what an operator wants of an individual enrollment against the ledger."""

    devices: Devices
    certificates: Certificates
    public_keys: PublicKeys
    clock: Clock

    async def attestation(
        self,
        entry: Entry,
        definition: IndividualEnrollmentDefinition,
        leaves: Mapping[str, x509.Certificate],
        device: DeviceRecord | None,
    ) -> Entry:
        """Give the certificates that are accepted: those that are named, and beside them those that were before."""
        registration_id, accepted = entry["registrationId"], dict(held_by(entry))
        primary, secondary = definition.certificate, definition.secondary_certificate
        if primary is None and not accepted.get("primary"):
            primary, *following = await self.present_certificates(registration_id, device)
            if "secondary_certificate" not in definition.model_fields_set and not accepted.get("secondary"):
                secondary = next(iter(following), None)
        for place, field, pem in (
            ("primary", "certificate", primary),
            ("secondary", "secondaryCertificate", secondary),
        ):
            if pem is not None:
                self._check_leaf(registration_id, leaves.get(field) or leaf_of(pem, field), field)
                accepted[place] = {"certificate": pem}
        if secondary is None and "secondary_certificate" in definition.model_fields_set:
            accepted.pop("secondary", None)
        return {"type": "x509", "x509": {"clientCertificates": accepted}}

    async def present_certificates(self, registration_id: str, device: DeviceRecord | None) -> list[str]:
        """Find the certificate that this app issued to a device, and the one that it is renewed with.

        Args:
            registration_id: of the device.
            device: its record, as it was read; ``None`` if there is none.

        Raises:
            NotFound: this app has issued none.
        """
        known = [await self.certificates.get(each) for each in (device.in_use if device else ())]
        found = [each.record.pem for each in known if each is not None and each.record.pem is not None]
        if not found:
            raise NotFound.because(
                f"{registration_id!r} has no certificate of this app's; give the device's own in certificate",
                field="certificate",
            )
        return found

    def _check_leaf(self, registration_id: str, leaf: x509.Certificate, field: str) -> None:
        """Check a device's certificate as DPS will when the device comes with it."""
        name = names.common_name(leaf.subject)
        if not same_registration_id(name, registration_id):
            raise Rejected.because(
                f"its CN is {names.shown(name)} and the registration id {registration_id!r}; DPS wants them to be the "
                "same",
                field=field,
            )
        if leaf.not_valid_after_utc < self.clock():
            raise Rejected.because(f"it expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", field=field)

    async def claim_key(
        self, registration_id: str, leaf: x509.Certificate, field: str, device: DeviceRecord | None
    ) -> None:
        """See that a key is nobody else's; if the ledger knows the device, it is its own when its record wants it.

        Args:
            registration_id: of the device.
            leaf: the certificate with the key.
            field: of the request that it came in.
            device: the device's record, as it was read; ``None`` if there is none.

        Raises:
            Conflict: it is another device's or a CA's, or it is compromised.
            Deferred: others claim it at this moment.
        """
        named = fingerprint(key_of(leaf))
        claim = PublicKeyRecord(
            fingerprint=named, registration_id=registration_id, recorded_at=self.clock(), is_confirmed=False
        )
        try:
            known = await (self.public_keys.claim(claim) if device else self.public_keys.get(named))
        except Stale:
            raise busy(registration_id) from None
        if known is None:
            return
        await check_free(self.devices, known.record, registration_id, device, field=field)
        if device is not None and known.record.registration_id != registration_id:
            try:
                await self.public_keys.replace(known, claim)
            except Stale:
                raise busy(registration_id) from None

    async def check_certificates(self, entry: Entry) -> None:
        """See that an entry names no certificate that is revoked, or that is another device's."""
        for serial_number in serial_numbers_of(entry):
            known = await self.certificates.get(serial_number)
            if known is None:
                continue
            if known.record.subject != entry["registrationId"]:
                raise Conflict.because(
                    f"certificate {serial_number} is that of device {known.record.subject!r}; give one of "
                    f"{entry['registrationId']!r}",
                    field="certificate",
                )
            if known.record.state is CertificateState.REVOKED:
                raise _revoked(entry["registrationId"], known.record)

    async def check_device_id(
        self, registration_id: str, definition: IndividualEnrollmentDefinition, present: Entry | None
    ) -> None:
        """See that an entry's device id is not another device's: it would take over that identity in the hub.

        Raises:
            Conflict: it is.
        """
        device_id = definition.device_id or (present or {}).get("deviceId") or registration_id
        owner = await self.devices.owner_of(device_id)
        if owner not in {None, registration_id}:
            raise _taken(device_id, owner)

    async def claim_device_id(self, registration_id: str, entry: Entry) -> ClaimedDeviceId:
        """Have an entry's device id be its own.

        Raises:
            Conflict: it is another device's.
            Deferred: somebody else is changing who has it.
        """
        device_id = str(entry.get("deviceId") or registration_id)
        try:
            claimed = await self.devices.claim_device_id(device_id, registration_id)
        except Stale:
            raise busy(registration_id) from None
        owner = claimed.claim.record.registration_id
        if owner != registration_id:
            raise _taken(device_id, owner)
        return claimed


def _taken(device_id: str, owner: str | None) -> Rejected:
    return Conflict.because(
        f"the device id {device_id!r} belongs to {owner!r}; each device has a device id of its own", field="deviceId"
    )


def _revoked(registration_id: str, certificate: CertificateRecord) -> Rejected:
    reason = certificate.revocation_reason or "unspecified"
    return Conflict.because(
        f"{named(registration_id)} shuts out certificate {certificate.serial_number}, which is revoked ({reason}), "
        "and a group would let it in; a hold is undone by reinstating the device, any other revocation is final: give "
        "a new certificate",
        field="certificate",
    )
