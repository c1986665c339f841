"""Individual enrollments: one device's own entry in DPS, which decides before any group.

An enabled one lets a single device in, with its own certificate; a disabled one shuts out a device whose group would
let it in (Microsoft: "How to disenroll or revoke a device").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509

from shared.adapters.dps_service import leaf_attestation
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Rejected
from shared.ledger.certificates import CertificateState
from shared.pki import names
from shared.pki.certificates import UNREADABLE
from shared.registration_ids import same_registration_id
from shared.workflows.dps_entries import RETRY, certificate_of, check_etag, check_hubs, values_of, with_values

if TYPE_CHECKING:
    from shared.adapters.dps_management import ProvisioningServiceAuthorities
    from shared.adapters.dps_service import ProvisioningService
    from shared.contracts import IndividualEnrollmentDefinition
    from shared.ledger.certificates import CertificateRecord, Certificates
    from shared.ledger.devices import Devices
    from shared.workflows.dps_entries import Entry
    from shared.workflows.events import Clock


@dataclass(frozen=True, slots=True)
class IndividualEnrollments:
    """Reads and changes individual enrollments, and keeps those that shut out revoked devices."""

    devices: Devices
    certificates: Certificates
    provisioning: ProvisioningService
    resource: ProvisioningServiceAuthorities | None
    clock: Clock

    async def get(self, registration_id: str) -> Entry:
        """Read an enrollment.

        Raises:
            NotFound: there is none.
        """
        entry = await self.find(registration_id)
        if entry is None:
            raise NotFound.because(
                f"{registration_id!r} has no individual enrollment; if it belongs to a group, that decides about it",
                field="registrationId",
            )
        return entry

    async def find(self, registration_id: str) -> Entry | None:
        """Read an enrollment, ``None`` if there is none."""
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
        present = await self.provisioning.get_enrollment(registration_id)
        entry = with_values(present or _new(registration_id), values_of(definition))
        if definition.device_id is not None:
            entry["deviceId"] = definition.device_id
        if definition.provisioning_status is not None:
            entry["provisioningStatus"] = definition.provisioning_status
        if present is None or definition.model_fields_set & {"certificate", "secondary_certificate"}:
            entry["attestation"] = await self._attestation(entry, definition)
        if entry["provisioningStatus"] == "enabled":
            await self._check_none_revoked(entry)
        return await self._write(entry, present, if_match), present is None

    async def disable(self, registration_id: str, *, if_match: str | None) -> Entry:
        """Shut a device out of DPS: disable its enrollment, or make a disabled one for a device of a group.

        Raises:
            NotFound: it has no enrollment, and this app did not issue its certificate.
            PreconditionFailed: the enrollment has another ETag.
            Deferred: somebody else is changing it.
        """
        present = await self.provisioning.get_enrollment(registration_id)
        entry = dict(present) if present else _new(registration_id)
        if present is None:
            entry["attestation"] = leaf_attestation(await self._present_certificate(registration_id))
        return await self._write({**entry, "provisioningStatus": "disabled"}, present, if_match)

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
        await self._check_none_revoked(present)
        await self._check_not_readmitted(registration_id)
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

    async def _attestation(self, entry: Entry, definition: IndividualEnrollmentDefinition) -> Entry:
        """Give the certificates that are accepted: those that are named, and beside them those that were before."""
        registration_id, accepted = entry["registrationId"], dict(_held(entry))
        primary, secondary = definition.certificate, definition.secondary_certificate
        if primary is None and not accepted.get("primary"):
            primary = await self._present_certificate(registration_id)
        for place, field, pem in (
            ("primary", "certificate", primary),
            ("secondary", "secondaryCertificate", secondary),
        ):
            if pem is not None:
                self._check_leaf(registration_id, pem, field)
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

    def _check_leaf(self, registration_id: str, pem: str, field: str) -> None:
        """Check a device's certificate as DPS will when the device comes with it."""
        try:
            leaf = x509.load_pem_x509_certificate(pem.encode())
            name = names.common_name(leaf.subject)
        except UNREADABLE as error:
            raise Rejected.because(f"is no certificate in PEM: {str(error)[:200]}", field=field) from None
        if not same_registration_id(name, registration_id):
            raise Rejected.because(
                f"its CN is {names.shown(name)} and the registration id {registration_id!r}; DPS wants them to be the "
                "same",
                field=field,
            )
        if leaf.not_valid_after_utc < self.clock():
            raise Rejected.because(f"it expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", field=field)

    async def _check_none_revoked(self, entry: Entry) -> None:
        """See that no revoked certificate gets back in, neither by this entry nor, without it, by a group."""
        for leaf in _certificates(entry):
            known = await self.certificates.get(names.serial_text(leaf.serial_number))
            if known is not None and known.record.state is CertificateState.REVOKED:
                raise _revoked(entry["registrationId"], known.record)

    async def _check_not_readmitted(self, registration_id: str) -> None:
        """See that an earlier, revoked certificate of a device ordered anew does not get back in by its group."""
        device = await self.devices.get(registration_id)
        if device is not None and device.record.readmitted:
            raise Conflict.because(
                f"{_named(registration_id)} admits the device's present certificate and no other: an earlier one was "
                "revoked, and its group would let that in; disable the enrollment, or delete the device",
                field="registrationId",
            )


def _held(entry: Entry) -> dict[str, Any]:
    """Give the certificates of an entry by their places; none if it has none yet, or attests otherwise."""
    attestation = entry.get("attestation") or {}
    return (attestation.get("x509") or {}).get("clientCertificates") or {}


def _certificates(entry: Entry) -> list[x509.Certificate]:
    read = [certificate_of(each.get("certificate")) for each in _held(entry).values() if each]
    return [each for each in read if each is not None]


def _new(registration_id: str) -> Entry:
    return {
        "registrationId": registration_id,
        "deviceId": registration_id,
        "provisioningStatus": "enabled",
        "allocationPolicy": "hashed",
        "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
    }


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
