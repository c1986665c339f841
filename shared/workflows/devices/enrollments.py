"""Individual enrollments: one device's own entry in DPS, which decides before any group.

An enabled one lets a single device in, with its own certificate; a disabled one shuts out a device whose group would
let it in (Microsoft: "How to disenroll or revoke a device").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import leaf_attestation
from shared.domain.certificates import CertificateState
from shared.domain.entries import (
    check_etag,
    new_enrollment,
    own_settings,
    settings_apart,
    with_named,
    with_own_settings,
)
from shared.domain.public_keys import PublicKeyRecord
from shared.domain.upkeep import EntryWish, asked_for_of
from shared.domain.wanted import wanted
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Rejected
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.public_keys import fingerprint, key_of
from shared.rules.registration_ids import same_registration_id
from shared.workflows.devices.changes import change
from shared.workflows.devices.entry_certificates import held_by, leaf_of, leaves_of, serial_numbers_of
from shared.workflows.groups.entries import RETRY, check_hubs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cryptography import x509

    from shared.contracts.groups import IndividualEnrollmentDefinition
    from shared.domain.attestations import Entry
    from shared.domain.certificates import CertificateRecord
    from shared.domain.devices import DeviceRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.public_keys import PublicKeys
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class IndividualEnrollments:
    """Reads and changes individual enrollments, and keeps those that shut out revoked devices."""

    devices: Devices
    certificates: Certificates
    public_keys: PublicKeys
    provisioning: ProvisioningService
    resource: DpsCaCertificates | None
    clock: Clock

    async def get(self, registration_id: str) -> Entry:
        """Read an enrollment.

        Raises:
            NotFound: it does not exist.
        """
        entry = await self.find(registration_id)
        if entry is None:
            raise NotFound.because(
                f"{registration_id!r} has no individual enrollment; if it belongs to a group, that decides about it",
                field="registrationId",
            )
        return entry

    async def find(self, registration_id: str) -> Entry | None:
        """Read an enrollment, ``None`` if it does not exist."""
        return await self.provisioning.get_enrollment(registration_id)

    async def put(
        self, registration_id: str, definition: IndividualEnrollmentDefinition, *, if_match: str | None
    ) -> tuple[Entry, bool]:
        """Create an enrollment, or change what the definition names of the one that is there.

        Args:
            registration_id: the device.
            definition: what is wanted.
            if_match: the ETag it is expected to have.

        Returns:
            The enrollment as it is now, and whether it was created.

        Raises:
            Rejected: a certificate is unfit, or a hub is not linked.
            Conflict: it would let a revoked certificate in.
            PreconditionFailed: it has another ETag.
            Deferred: somebody else is changing it.
        """
        await check_hubs(self.resource, definition)
        # Read before the device is: who shuts it out writes the device first and the entry after it.
        present = await self.provisioning.get_enrollment(registration_id)
        device = await self._unless_shut_out(registration_id)
        await self._check_device_id(registration_id, definition, present)
        entry = with_named(present or new_enrollment(registration_id), definition, definition.device_id)
        if definition.provisioning_status is not None:
            entry["provisioningStatus"] = definition.provisioning_status
        leaves = leaves_of(definition)
        if present is None or definition.model_fields_set & {"certificate", "secondary_certificate"}:
            entry["attestation"] = await self._attestation(entry, definition, leaves)
        await self._check_certificates(entry)
        for field, leaf in leaves.items():
            await self._claim_key(registration_id, leaf, field, is_known=device is not None)
        if present is not None:
            check_etag(_named(registration_id), present["etag"], if_match)
        await self._claim_device_id(registration_id, entry)
        settings, asked_for = own_settings(entry), asked_for_of(device)
        if present is not None and asked_for is not None:
            # What it does not name is not taken over from the entry: others may have put it there.
            before = with_own_settings({"registrationId": registration_id}, asked_for)
            settings = own_settings(with_named(before, definition, definition.device_id))
        wish = self._wish(settings, disabled=entry.get("provisioningStatus") == "disabled")
        written = await self._as_wanted(device, wish, entry, partial(self._write, entry, present, if_match))
        if present is not None and present.get("deviceId") != written.get("deviceId"):
            await self._release_device_id(registration_id, present)
        return written, present is None

    async def disable(self, registration_id: str, *, if_match: str | None) -> Entry:
        """Shut a device out of DPS: disable its enrollment, or make a disabled one for a device of a group.

        Raises:
            NotFound: it has no enrollment, and this app did not issue its certificate.
            PreconditionFailed: the enrollment has another ETag.
            Deferred: somebody else is changing it.
        """
        present = await self.provisioning.get_enrollment(registration_id)
        known = await self.devices.get(registration_id)
        device = known.record if known else None
        asked_for = asked_for_of(device)
        entry = dict(present) if present else new_enrollment(registration_id)
        if present is None:
            entry = with_own_settings(entry, asked_for) if asked_for else entry
            entry["attestation"] = leaf_attestation(await self._present_certificate(registration_id))
        else:
            check_etag(_named(registration_id), present["etag"], if_match)
        is_known = present is not None and asked_for is not None
        wish = self._wish(asked_for if is_known else own_settings(entry), disabled=True)
        disabled = {**entry, "provisioningStatus": "disabled"}
        return await self._as_wanted(device, wish, disabled, partial(self._write, disabled, present, if_match))

    async def delete(self, registration_id: str, *, if_match: str | None) -> None:
        """Delete an enrollment, if there is one: a group decides about the device again.

        Raises:
            Conflict: it shuts out a revoked certificate, which a group would let in.
            PreconditionFailed: it has another ETag.
        """
        present = await self.provisioning.get_enrollment(registration_id)
        if present is None:
            return
        check_etag(_named(registration_id), present["etag"], if_match)
        device = await self._unless_shut_out(registration_id)
        if device is not None:
            self._check_not_needed(device)
        wish = self._wish(None, disabled=False)
        await self._as_wanted(device, wish, None, partial(self._remove, registration_id, present))
        await self._release_device_id(registration_id, present)

    def _wish(self, settings: Mapping[str, Any] | None, *, disabled: bool) -> EntryWish:
        """Say what is wanted: an entry with these settings, or none."""
        return EntryWish(
            own_entry=settings is not None,
            entry_disabled=disabled,
            entry_settings=settings or {},
            entry_asked_at=self.clock(),
        )

    async def _as_wanted[W: Entry | None](
        self, device: DeviceRecord | None, wish: EntryWish, sent: Entry | None, write: Callable[[], Awaitable[W]]
    ) -> W:
        """Enter what is wanted of the entry of a device that is known, and write the entry; give what DPS has then.

        What DPS does not take is not wanted any more. What it makes of the settings is what they are to be.
        """
        if device is None:
            return await write()
        before = list[EntryWish]()

        def enter(record: DeviceRecord) -> DeviceRecord:
            before.append(EntryWish.of(record))
            return wish.entered(record)

        def enter_instead(other: EntryWish, record: DeviceRecord) -> DeviceRecord:
            # Whoever has asked for something else meanwhile is to have it.
            return other.entered(record) if EntryWish.of(record) == wish else record

        await change(self.devices, device.registration_id, enter, at=self.clock())
        try:
            written = await write()
        except (Rejected, Deferred):
            back = partial(enter_instead, before[-1])
            await change(self.devices, device.registration_id, back, at=self.clock())
            raise
        made = wish.entry_settings
        if sent is not None and written is not None and settings_apart(own_settings(sent), own_settings(written)):
            made = own_settings(written)
        done = replace(wish, entry_settings=made, entry_asked_at=None)
        await change(self.devices, device.registration_id, partial(enter_instead, done), at=self.clock())
        return written

    async def _remove(self, registration_id: str, present: Entry) -> None:
        try:
            await self.provisioning.delete_enrollment(registration_id, etag=present["etag"])
        except PreconditionFailed as changed:
            raise _busy(registration_id) from changed

    async def _write(self, entry: Entry, present: Entry | None, if_match: str | None) -> Entry:
        if entry == present:
            return entry
        registration_id = entry["registrationId"]
        if present is not None:
            check_etag(_named(registration_id), present["etag"], if_match)
        try:
            return await self.provisioning.put_enrollment(entry, etag=present["etag"] if present else None)
        except PreconditionFailed as changed:
            raise _busy(registration_id) from changed
        except Conflict as made:
            if present is None:
                raise _busy(registration_id) from made
            raise

    # --- certificates ---

    async def _attestation(
        self, entry: Entry, definition: IndividualEnrollmentDefinition, leaves: Mapping[str, x509.Certificate]
    ) -> Entry:
        """Give the certificates that are accepted: those that are named, and beside them those that were before."""
        registration_id, accepted = entry["registrationId"], dict(held_by(entry))
        primary, secondary = definition.certificate, definition.secondary_certificate
        if primary is None and not accepted.get("primary"):
            primary = await self._present_certificate(registration_id)
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

    async def _present_certificate(self, registration_id: str) -> str:
        """Find the certificate that this app issued to a device."""
        device = await self.devices.get(registration_id)
        summary = device.record.certificate if device else None
        known = await self.certificates.get(summary.serial_number) if summary else None
        if known is None or known.record.pem is None:
            raise NotFound.because(
                f"{registration_id!r} has no certificate of this app's; give the device's own in certificate",
                field="certificate",
            )
        return known.record.pem

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

    async def _claim_key(self, registration_id: str, leaf: x509.Certificate, field: str, *, is_known: bool) -> None:
        """See that a key is nobody else's; if the ledger knows the device, it is its own from then on."""
        named = fingerprint(key_of(leaf))
        claim = PublicKeyRecord(fingerprint=named, registration_id=registration_id, recorded_at=self.clock())
        try:
            known = await (self.public_keys.claim(claim) if is_known else self.public_keys.get(named))
        except Stale:
            raise _busy(registration_id) from None
        if known is None:
            return
        if known.record.authority is not None:
            raise Conflict.because(
                f"its public key is that of the CA {known.record.authority!r}; each device needs one of its own",
                field=field,
            )
        if known.record.compromised:
            raise Conflict.because(
                "its public key is compromised: a certificate with it was revoked for keyCompromise; give a "
                "certificate with a new key",
                field=field,
            )
        if known.record.registration_id != registration_id:
            raise Conflict.because(
                f"its public key is that of device {known.record.registration_id!r}; each device needs one of its own",
                field=field,
            )

    # --- what the ledger knows ---

    async def _unless_shut_out(self, registration_id: str) -> DeviceRecord | None:
        """Find the device, ``None`` if it is not one of this app's.

        Raises:
            Conflict: its entry shuts it out.
        """
        known = await self.devices.get(registration_id)
        if known is None:
            return None
        if known.record.shut_out:
            reason = known.record.revoked or known.record.state
            raise Conflict.because(
                f"{_named(registration_id)} keeps out a device that is {known.record.state} ({reason}), and is not "
                "changed by others; a hold is undone by reinstating the device, any other revocation is final",
                field="registrationId",
            )
        return known.record

    def _check_not_needed(self, device: DeviceRecord) -> None:
        """See that an earlier, revoked certificate of a device does not get back in by its group."""
        if wanted(device.changed(own_entry=False, entry_disabled=False), self.clock()).own_entry:
            raise Conflict.because(
                f"{_named(device.registration_id)} admits the device's present certificate and no other: an earlier "
                "one was revoked, and its group would let that in; disable the enrollment, or delete the device",
                field="registrationId",
            )

    async def _check_certificates(self, entry: Entry) -> None:
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

    async def _check_device_id(
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

    async def _claim_device_id(self, registration_id: str, entry: Entry) -> None:
        device_id = str(entry.get("deviceId") or registration_id)
        owner = await self.devices.claim_device_id(device_id, registration_id)
        if owner != registration_id:
            raise _taken(device_id, owner)

    async def _release_device_id(self, registration_id: str, entry: Entry) -> None:
        """Free the device id of an entry that is gone, unless the hub may know a device by it."""
        device_id = str(entry.get("deviceId") or registration_id)
        registration = await self.provisioning.get_registration(registration_id)
        device = await self.devices.get(registration_id)
        in_use = {registration_id, (registration or {}).get("deviceId"), device and device.record.device_id}
        if device_id not in in_use:
            await self.devices.release_device_id(device_id, registration_id)


def _taken(device_id: str, owner: str | None) -> Rejected:
    return Conflict.because(
        f"the device id {device_id!r} belongs to {owner!r}; each device has a device id of its own", field="deviceId"
    )


def _named(registration_id: str) -> str:
    return f"the individual enrollment {registration_id!r}"


def _busy(registration_id: str) -> Deferred:
    return Deferred(f"{_named(registration_id)} is being changed by someone else", retry_after=RETRY)


def _revoked(registration_id: str, certificate: CertificateRecord) -> Rejected:
    reason = certificate.revocation_reason or "unspecified"
    return Conflict.because(
        f"{_named(registration_id)} shuts out certificate {certificate.serial_number}, which is revoked ({reason}), "
        "and a group would let it in; a hold is undone by reinstating the device, any other revocation is final: give "
        "a new certificate",
        field="certificate",
    )
