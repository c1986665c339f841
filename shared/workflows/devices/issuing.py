"""The certificate of one device.

A serial number is recorded with the device before it is signed, in one transaction with the claim on the device. Then
what is to be signed goes into the log, and then it is signed. The
transaction that makes that certificate the device's is the commit point: for one cause (an order, a renewal) a device
gets one certificate, however often and by how many workers it is tried. An attempt that another one has overtaken
leaves a serial number behind that is ``abandoned``, and takes its bundle away.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.certificates import DECISION_HOLDS, CertificateRecord, CertificateState
from shared.domain.held_certificates import HeldCertificate
from shared.domain.issuance import Committed, reserved
from shared.domain.renewal import first_notice
from shared.domain.words import CertificateKind
from shared.errors import Deferred, Overtaken
from shared.ledger.devices import partition_of
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.bundles import new_password
from shared.pki.chains import check_chain
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.profiles import device_profile
from shared.pki.public_keys import fingerprint
from shared.pki.requests import requested_key
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject
from shared.ports.registrar import ClientCredentials
from shared.workflows.devices.bundles import bundle_name, packed
from shared.workflows.devices.changes import device_of, enter, unsettled
from shared.workflows.devices.wanted_certificates import IssuedCertificate
from shared.workflows.evidence.entries import entry_of_certificate

if TYPE_CHECKING:
    from cryptography import x509

    from shared.domain.devices import DeviceRecord
    from shared.domain.held_certificates import Purpose
    from shared.domain.public_keys import PublicKeyRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.table import Versioned
    from shared.pki.signing_keys import PrivateKey, PublicKey
    from shared.ports.evidence import EvidenceLog
    from shared.ports.vault import VaultSecrets
    from shared.settings import Settings
    from shared.threads import ThreadPool
    from shared.workflows.authorities.loading import CertificateAuthorities, LoadedAuthority
    from shared.workflows.devices.bundles import Bundle, Bundles
    from shared.workflows.devices.key_claims import KeyClaims
    from shared.workflows.devices.wanted_certificates import Acts, Decision, DeviceCertificateRequest
    from shared.workflows.intake.outbox import Clock

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCertificates:
    """Issues device certificates."""

    authorities: CertificateAuthorities
    devices: Devices
    certificates: Certificates
    keys: KeyClaims
    bundles: Bundles
    expiry: ExpiryIndex
    secrets: VaultSecrets
    settings: Settings
    clock: Clock
    computing: ThreadPool
    log: EvidenceLog

    async def issue(
        self, request: DeviceCertificateRequest, acts: Acts
    ) -> tuple[Versioned[DeviceRecord], IssuedCertificate]:
        """Issue a device's certificate and store its bundle, or find what was issued for the same cause.

        Args:
            request: what is wanted.
            acts: what becomes of the device.

        Returns:
            The device with its certificate, and what to register it with.

        Raises:
            Rejected: the device can't be had, the CSR is unfit, its key is another device's, or the issuer can't sign
                for as long as is wanted. Nothing was recorded then.
            Overtaken: somebody else has changed the device meanwhile.
        """
        if request.expected_new and request.csr is None:  # a CSR's key is claimed for a device that can be had alone
            try:
                return await self._make(request, None, acts)
            except Stale:
                pass
        known = await self.devices.get(request.registration_id)
        taken = acts.take(known.record if known else None)
        done = taken.issuance(request.purpose, request.cause)
        if known is not None and done is not None:
            bundle = await self.bundles.read(bundle_name(request.registration_id, done.serial_number))
            return known, await self._opened(bundle)
        pending = taken.find(taken.pending) if taken.pending else None
        if known is not None and pending is not None and (pending.purpose, pending.cause) == _cause(request):
            resumed = await self._resume(request, pending, acts)
            if resumed is not None:
                return resumed
        try:
            return await self._make(request, known, acts)
        except Stale:
            raise Overtaken(f"{request.registration_id!r} is being changed by others") from None

    def validity(self, days: int | None) -> timedelta:
        """Give the life of a device's certificate: as it was ordered, or else the deployment's."""
        return timedelta(days=days) if days else self.settings.device_validity

    async def foresee(self, request: DeviceCertificateRequest, device: DeviceRecord | None) -> None:
        """See whether a device's CSR could be used as things are.

        Raises:
            Rejected: it is unfit, or its key is another device's or compromised.
        """
        if request.csr is None:
            return
        key = requested_key(request.csr, registration_id=request.registration_id, field=request.field)
        await self.keys.foresee(fingerprint(key), request.registration_id, device, field=request.field)

    async def _resume(
        self, request: DeviceCertificateRequest, pending: HeldCertificate, acts: Acts
    ) -> tuple[Versioned[DeviceRecord], IssuedCertificate] | None:
        """Commit what an earlier attempt has signed and stored; ``None`` if it did not come so far, or too long ago."""
        name = bundle_name(request.registration_id, pending.serial_number)
        bundle = await self.bundles.find(name)
        if bundle is None:
            return None
        if not pending.kept(self.clock()):
            # It counts as never signed by now; its CA may have been retired.
            await self.bundles.discard(name)
            return None
        device = await self._commit(request, bundle, acts)
        return device, await self._opened(bundle)

    async def _make(
        self, request: DeviceCertificateRequest, known: Versioned[DeviceRecord] | None, acts: Acts
    ) -> tuple[Versioned[DeviceRecord], IssuedCertificate]:
        """Make a certificate for a device as it was read.

        Raises:
            Stale: the device has changed since, or is known. Nothing was signed.
        """
        decision = await request.issuer()
        authority = await self.authorities.loaded(decision.issuer)
        issuer = authority.issuer
        key, public_key = await self._key(request)
        with request.drawn.number_of(request.registration_id, decision.issuer, self.clock()) as drawn:
            serial = drawn or new_serial_number(int(partition_of(request.registration_id), 16))
            prepared = prepare(
                device_profile(validity=request.validity),
                subject=Subject(common_name=request.registration_id),
                public_key=public_key,
                issuer=issuer,
                serial_number=serial,
                now=self.clock(),
                urls=self.authorities.distribution_points(authority),
            )
            reservation = self._reservation(request, decision, names.serial_text(serial), fingerprint(public_key))
            claimed = await self._reserve(request, reservation, known, acts, indexed=drawn is not None)
        row = self._row(request, reservation)
        entry = entry_of_certificate(row, prepared, self.clock(), chain=issuer.sent_chain)
        index = await self.log.append(entry)  # after the serial number is recorded: so each one in the log is there
        self._check_still_decided(request, decision)
        certificate = await self.authorities.signing(issuer, issue, prepared, issuer)
        self._check(request, certificate, authority)
        password = new_password() if key else None
        bundle = packed(certificate, issuer, key, password, log_index=index)
        if bundle.password_secret and password:
            # Before the blob: a stored bundle can always be opened.
            ends = self.clock() + self.settings.bundle_kept
            tags = {"registrationId": request.registration_id}
            await self.secrets.put(bundle.password_secret, password, tags=tags, ends=ends)
        name = bundle_name(request.registration_id, reservation.serial_number)
        await self.bundles.store(name, bundle)
        device = await self._commit(request, bundle, acts, claimed=claimed)
        if known is not None and known.record.generation < claimed.record.generation < device.record.generation:
            await self.devices.leave_unsettled(unsettled(claimed.record, self.clock()))  # there is a later note
        return device, IssuedCertificate(
            bundle=bundle, credentials=ClientCredentials(bundle.pem, password) if password else None
        )

    async def _reserve(
        self,
        request: DeviceCertificateRequest,
        reservation: HeldCertificate,
        known: Versioned[DeviceRecord] | None,
        acts: Acts,
        *,
        indexed: bool,
    ) -> Versioned[DeviceRecord]:
        """Claim a device, and record the serial number of the certificate that is about to be signed for it.

        Raises:
            Stale: the device has changed since it was read.
        """
        taken = acts.take(known.record if known else None)
        wanted = reserved(taken, reservation)
        row = self._row(request, reservation)
        claim = await self._claim(request, reservation, taken)
        # In the index first: so a rollover that waits before it looks sees every certificate that the old CA signs.
        if not indexed:
            await self.certificates.enter_in_force(row, until=self.clock() + request.validity)
        try:
            if known is None:
                claimed = await self.devices.insert(wanted, reserved=row)
            else:
                claimed = await enter(self.devices, known, wanted, at=self.clock(), reserved=row)
        except Stale:
            if not indexed:
                await self.certificates.leave_in_force(row.issuer, row.serial_number)  # it was not recorded
            raise
        if claim is not None:
            await self.keys.confirm(claim)
        return claimed

    async def _claim(
        self, request: DeviceCertificateRequest, reservation: HeldCertificate, device: DeviceRecord
    ) -> Versioned[PublicKeyRecord] | None:
        """See that a key is nobody else's. One that is made here can't be: it is claimed when it is handed out."""
        if request.csr is None:
            return None
        return await self.keys.claim(reservation.public_key, device, field=request.field)

    def _reservation(
        self, request: DeviceCertificateRequest, decision: Decision, serial_number: str, public_key: str
    ) -> HeldCertificate:
        return HeldCertificate(
            serial_number=serial_number,
            state=CertificateState.RESERVED,
            issuer=decision.issuer,
            purpose=request.purpose,
            cause=request.cause,
            recorded_at=self.clock(),
            public_key=public_key,
        )

    @staticmethod
    def _row(request: DeviceCertificateRequest, reservation: HeldCertificate) -> CertificateRecord:
        return CertificateRecord(
            serial_number=reservation.serial_number,
            kind=CertificateKind.DEVICE,
            state=reservation.state,
            subject=request.registration_id,
            issuer=reservation.issuer,
            cause=request.cause,
            recorded_at=reservation.recorded_at,
            enrollment_group=request.enrollment_group,
            predecessor=request.predecessor,
        )

    async def _commit(
        self,
        request: DeviceCertificateRequest,
        bundle: Bundle,
        acts: Acts,
        *,
        claimed: Versioned[DeviceRecord] | None = None,
    ) -> Versioned[DeviceRecord]:
        """Make a certificate the device's, in one transaction with its row; once, though two come with the same one.

        Args:
            request: what was wanted.
            bundle: as stored.
            acts: what becomes of the device.
            claimed: the device as this attempt has written it, which saves a read.

        Raises:
            Overtaken: another attempt has taken its place, or the device is not wanted any more. Its bundle is gone.
        """
        summary = bundle.summary
        made = Committed(
            summary=summary,
            bundle=bundle_name(request.registration_id, summary.serial_number),
            sha256_thumbprint=bundle.sha256_thumbprint,
        )
        notice = first_notice(
            serial_number=summary.serial_number,
            subject=request.registration_id,
            not_before=summary.not_before,
            not_after=summary.not_after,
            warnings=self.settings.device_warnings,
            kept_until=self.clock() + self.settings.bundle_kept if bundle.password_secret else None,
        )
        await self.expiry.put(notice)  # first: a sweep leaves it until the certificate is committed
        for attempt in range(_ATTEMPTS):
            first = claimed if attempt == 0 else None
            known = first or await device_of(self.devices, request.registration_id)
            present = known.record.find(summary.serial_number)
            if present is not None and present.issued:
                return known  # by another delivery of the message, or by ourselves, and the answer got lost
            try:
                wanted = acts.commit(known.record, made)
            except Overtaken:
                if known.record.pending != summary.serial_number:
                    await self.bundles.discard(made.bundle)  # nobody will commit it
                raise
            held = wanted.find(summary.serial_number)
            if held is None:
                raise RuntimeError(f"{request.registration_id!r} does not hold certificate {summary.serial_number}")
            signed = self._row(request, held).changed(
                state=held.state,
                not_before=summary.not_before,
                not_after=summary.not_after,
                thumbprint=summary.thumbprint,
                pem=names.pem(bundle.certificate),
            )
            try:
                return await enter(self.devices, known, wanted, at=self.clock(), signed=signed)
            except Stale:
                continue
        raise Overtaken(f"{request.registration_id!r} is being changed by others")

    def _check_still_decided(self, request: DeviceCertificateRequest, decision: Decision) -> None:
        """Sign nothing by a decision that may be outdated: a CA is retired when none of its certificates are left.

        The certificate stands among those in force now. So a rollover that waits longer than this before it looks
        sees every certificate that the old CA signs.
        """
        if decision.decided_at is not None and self.clock() - decision.decided_at > DECISION_HOLDS:
            raise Deferred(
                f"the certificate of {request.registration_id!r} took too long to prepare; its issuing CA is looked up "
                "anew",
                retry_after=timedelta(seconds=1),
            )

    async def _key(self, request: DeviceCertificateRequest) -> tuple[PrivateKey | None, PublicKey]:
        if request.csr is not None:
            return None, requested_key(request.csr, registration_id=request.registration_id, field=request.field)
        algorithm = KeyAlgorithm(request.key_algorithm or KeyAlgorithm.EC_P256)
        # An RSA key takes up to a second of computing, and releases the interpreter lock meanwhile.
        key = await self.computing.run(generate_key, algorithm)
        return key, key.public_key()

    def _check(
        self, request: DeviceCertificateRequest, certificate: x509.Certificate, authority: LoadedAuthority
    ) -> None:
        """Check the chain as DPS will: what it would refuse never leaves."""
        findings = check_chain(
            (certificate, *authority.issuer.sent_chain),
            registration_id=request.registration_id,
            group_certificates=(authority.issuer.certificate,),
            verified_authorities=(authority.anchor,),
            now=self.clock(),
        )
        if findings:
            raise RuntimeError(
                f"the certificate made for {request.registration_id!r} would be refused by DPS: "
                + "; ".join(finding.message for finding in findings)
            )

    async def _opened(self, bundle: Bundle) -> IssuedCertificate:
        if bundle.password_secret is None or bundle.handed_out:
            return IssuedCertificate(bundle=bundle, credentials=None)
        password = await self.secrets.get(bundle.password_secret)
        if password is None:
            raise RuntimeError(
                f"the vault does not have secret {bundle.password_secret!r}, which opens a stored bundle"
            )
        return IssuedCertificate(bundle=bundle, credentials=ClientCredentials(bundle.pem, password))


def _cause(request: DeviceCertificateRequest) -> tuple[Purpose, str]:
    return request.purpose, request.cause
