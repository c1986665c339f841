"""Takes back what happened after a ledger was copied that is now the ledger again: revocations first.

What the ledger has forgotten stands elsewhere: on the published CRLs, in the log, in bundles, at DPS and at the hubs.
Everything is written into the ledger before its epoch is raised, so nothing is signed, and nothing called good, by what
is half taken back. It can be run again as often as it breaks off: each part finds what is there, and leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateRecord, CertificateState, RevocationRecord
from shared.domain.devices import HeldCertificate, Purpose
from shared.domain.issuance import Committed
from shared.domain.renewal import first_notice
from shared.domain.restoration import adopted, found_revoked, renewed_meanwhile
from shared.domain.upkeep import switched
from shared.domain.words import CertificateKind, RevocationReason
from shared.errors import Conflict, Rejected
from shared.evidence.leaves import read_entry
from shared.evidence.tiles import WIDTH
from shared.pki import names
from shared.pki.list_checks import ListedCertificate, ListError, is_signed, listed_certificates, read_list
from shared.pki.public_keys import fingerprint, key_of
from shared.workflows.devices.bundles import BUNDLES, Bundle, bundle_name
from shared.workflows.devices.changes import change, unsettled
from shared.workflows.status.revocation_lists import CRLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from typing import Any

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.devices import DeviceRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.groups import Groups
    from shared.pki.issuers import Issuer
    from shared.ports.blobs import Blobs
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.settings import Settings
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.epochs import Epochs
    from shared.workflows.evidence.reading import LogReader
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.status.revocation_lists import RevocationLists

JUMP = 1000
"""So far the numbers of CRLs jump: nobody has seen a list between (RFC 5280 section 5.2.3 wants them to grow)."""

_PAGE = 1000
_SLACK = timedelta(minutes=10)
"""So much clocks may differ, and so long an act may take."""
_WHY = "found disabled when the ledger was put back"


@dataclass(slots=True, kw_only=True)
class Restoration:
    """Takes back what an older ledger has forgotten.

    Attributes:
        log: ``None`` where no log is kept. Then every bundle is looked at.
    """

    authorities: CertificateAuthorities
    certificates: Certificates
    devices: Devices
    groups: Groups
    expiry: ExpiryIndex
    blobs: Blobs
    lists: RevocationLists
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    converger: DeviceConverger
    log: LogReader | None
    epochs: Epochs
    settings: Settings
    clock: Clock
    _issuers: dict[str, Issuer] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _changed: list[str] = field(default_factory=list)

    async def run(self) -> AsyncIterator[str]:
        """Take everything back, and say of each part what it was, or that it can't be known."""
        revoked = [(each.name, entry) async for each in self.authorities.list() for entry in await self._listed(each)]
        async for line in self._take_back(revoked):
            yield line
        for name, number in self._numbers.items():
            yield await self._jump(name, number)
        yield f"the ledger's epoch is {await self.epochs.accept()} now: certificates are signed again"
        for registration_id in dict.fromkeys(self._changed):
            await self.converger.converge(registration_id)
        yield f"{await self.lists.publish_all()} CRLs were published"

    async def _take_back(self, revoked: Sequence[tuple[str, ListedCertificate]]) -> AsyncIterator[str]:
        for name, listed in revoked:
            async for line in self._revoke(name, listed, may_wait=True):
                yield line
        async for line in self._shut_out():
            yield line
        logged = await self._logged()
        async for line in self._adopt(logged):
            yield line
        for name, listed in revoked:  # those of certificates that were not known before
            async for line in self._revoke(name, listed, may_wait=False):
                yield line
        async for line in self._unknown(logged):
            yield line

    # --- revocations ---

    async def _listed(self, record: AuthorityRecord) -> Sequence[ListedCertificate]:
        """Read the published list of a CA; nothing, if it has none that it has signed."""
        if record.certificate is None:
            return ()
        issuer = self._issuers[record.name] = await self.authorities.load(record.name)
        stored = await self.blobs.get(CRLS, f"{record.name}.crl")
        if stored is None:
            return ()
        try:
            number = read_list(stored.content, issuer).number
        except ListError:
            return ()
        if not is_signed(stored.content, issuer):
            return ()
        self._numbers[record.name] = max(number, record.crl_number)
        return listed_certificates(stored.content, issuer)

    async def _revoke(self, name: str, listed: ListedCertificate, *, may_wait: bool) -> AsyncIterator[str]:
        """Enter a revocation that a list names.

        Args:
            name: of the CA.
            listed: what its list says.
            may_wait: whether one of a certificate that is not known may be found out about later.
        """
        known = await self.certificates.get(listed.serial_number)
        if known is None or (known.record.kind is CertificateKind.DEVICE and not known.record.subject):
            if not may_wait and not await self._is_entered(name, listed):
                await self._enter(name, listed)
                yield (
                    f"certificate {listed.serial_number} of {name!r} is revoked ({listed.reason}), and whose it is "
                    "can't be known; it stays on the list"
                )
            return
        record = known.record
        if record.state is CertificateState.REVOKED and record.ended:
            return
        if record.kind is not CertificateKind.DEVICE:
            await self._enter(name, listed)
            yield (
                f"certificate {listed.serial_number} ({record.kind} {record.subject!r}) is on the list of {name!r} "
                "again: what was done to the CA after the copy is to be done again"
            )
            return
        act = partial(
            found_revoked,
            serial_number=listed.serial_number,
            reason=RevocationReason(listed.reason),
            at=listed.revoked_at,
        )
        before = await self.devices.get(record.subject)
        try:
            after = await change(self.devices, record.subject, act, at=self.clock())
        except Rejected as refusal:
            yield f"certificate {listed.serial_number} of {record.subject!r} is on the list of {name!r}: {refusal}"
            return
        if before is not None and after.record.generation != before.record.generation:
            self._changed.append(record.subject)
            yield f"{record.subject}: revoked again ({listed.reason}, {listed.revoked_at:%Y-%m-%d %H:%M} UTC)"

    async def _is_entered(self, name: str, listed: ListedCertificate) -> bool:
        return listed.serial_number in {each.serial_number async for each in self.certificates.revoked_by(name)}

    async def _enter(self, name: str, listed: ListedCertificate) -> None:
        """Keep a certificate on the list of its CA, for as long as it may last."""
        await self.certificates.enter_revocation(
            RevocationRecord(
                serial_number=listed.serial_number,
                issuer=name,
                revoked_at=listed.revoked_at,
                reason=RevocationReason(listed.reason),
                not_after=self._issuers[name].certificate.not_valid_after_utc,
            )
        )

    # --- doors ---

    async def _shut_out(self) -> AsyncIterator[str]:
        """Keep out what DPS or a hub keeps out: why, nobody can tell who has not seen it on a list."""
        async for entries in self._pages(self.provisioning.page_of_enrollments):
            for entry in entries:
                if entry.get("provisioningStatus") == "disabled":
                    async for line in self._disable(str(entry["registrationId"]).lower(), "DPS"):
                        yield line
        async for records in self._pages(partial(self.devices.page, enrollment_group=None)):
            for each in records:
                if not each.settled:  # its note may have been gone when the copy came to the notes
                    await self.devices.enter_unsettled(unsettled(each, self.clock()))
            async for line in self._disabled_in_hubs(records):
                yield line

    @staticmethod
    async def _pages[T](page: Callable[..., Awaitable[tuple[Sequence[T], str | None]]]) -> AsyncIterator[Sequence[T]]:
        continuation: str | None = None
        while True:
            found, continuation = await page(size=_PAGE, continuation=continuation)
            yield found
            if continuation is None:
                return

    async def _disabled_in_hubs(self, records: Sequence[DeviceRecord]) -> AsyncIterator[str]:
        for hub in sorted({each.assigned_hub for each in records if each.assigned_hub}):
            here = {each.device_id: each.registration_id for each in records if each.assigned_hub == hub}
            found = await self.hubs.find(hub, [each for each in here if each])
            for device_id, identity in found.items():
                if not identity.enabled:
                    async for line in self._disable(here[device_id], hub):
                        yield line

    async def _disable(self, registration_id: str, where: str) -> AsyncIterator[str]:
        def disabled(record: DeviceRecord) -> DeviceRecord:
            if record.disabled or record.shut_out:
                return record
            return switched(record, enabled=False, reason=_WHY, at=self.clock())

        before = await self.devices.get(registration_id)
        if before is None:
            return
        after = await change(self.devices, registration_id, disabled, at=self.clock())
        if after.record.generation != before.record.generation:
            self._changed.append(registration_id)
            yield (
                f"{registration_id}: it is disabled in {where}, and no list names it: it is kept out; enable it, or "
                "revoke it"
            )

    # --- certificates ---

    async def _logged(self) -> Sequence[Mapping[str, Any]] | None:
        """Give what was logged since the ledger's epoch, the oldest first; ``None`` where no log is kept.

        A copy is begun after its epoch is raised, so it has what was logged before.
        """
        if self.log is None:
            return None
        head, epoch = (await self.log.storage.head()).head, await self.epochs.rows.get()
        since = epoch.record.reached_at - _SLACK if epoch else datetime.min.replace(tzinfo=UTC)
        found: list[Mapping[str, Any]] = []
        last = head.size
        while last > 0:
            first = max(0, last - WIDTH)
            entries = [read_entry(each) for each in await self.log.storage.entries(head, first, last)]
            found[:0] = [each for each in entries if datetime.fromisoformat(each["at"]) >= since]
            last = first if len(found) >= head.size - first else 0
        return found

    async def _adopt(self, logged: Sequence[Mapping[str, Any]] | None) -> AsyncIterator[str]:
        causes: dict[str, str] = {}
        if logged is None:
            blobs = await self.blobs.names(BUNDLES, "")
        else:
            made = [each for each in logged if each["type"] == "certificate" and each["kind"] == "device"]
            blobs = [bundle_name(each["subject"], each["serialNumber"]) for each in made]
            causes = {each["serialNumber"]: each["cause"] for each in made}
        for name in blobs:
            registration_id, _, rest = name.rpartition("/")
            serial_number = rest.removesuffix(".json")
            known = await self.certificates.get(serial_number)
            if known is not None and known.record.pem is not None:
                continue
            stored = await self.blobs.get(BUNDLES, name)
            if stored is not None:
                bundle = Bundle.from_bytes(stored.content)
                yield await self._take(registration_id, bundle, causes.get(serial_number, "restoration"))

    async def _take(self, registration_id: str, bundle: Bundle, cause: str) -> str:
        """Enter the certificate of a bundle, and its device."""
        issuer = self._issuer_of(bundle)
        serial_number = bundle.summary.serial_number
        if issuer is None:
            return (
                f"{registration_id}: its bundle has certificate {serial_number}, which no CA of the ledger has signed"
            )
        known = await self.devices.get(registration_id)
        if known is not None and known.record.find(serial_number) is not None:
            return f"{registration_id}: certificate {serial_number} was being made, and is carried on"
        held = HeldCertificate(
            serial_number=serial_number,
            state=CertificateState.ACTIVE,
            issuer=issuer,
            purpose=Purpose.ORDER if known is None else Purpose.RENEWAL,
            cause=cause,
            recorded_at=bundle.summary.not_before,
            public_key=fingerprint(key_of(bundle.certificate)),
            not_after=bundle.summary.not_after,
        )
        made = Committed(
            summary=bundle.summary,
            bundle=bundle_name(registration_id, serial_number),
            sha256_thumbprint=bundle.sha256_thumbprint,
        )
        row = self._row(registration_id, held, bundle)
        await self.certificates.enter_in_force(row, until=bundle.summary.not_after)
        await self.expiry.put(
            first_notice(
                serial_number=serial_number,
                subject=registration_id,
                not_before=bundle.summary.not_before,
                not_after=bundle.summary.not_after,
                warnings=self.settings.device_warnings,
                kept_until=self.clock() + self.settings.bundle_kept if bundle.password_secret else None,
            )
        )
        if known is not None:
            is_used = await self._is_used(known.record, bundle)
            wanted = renewed_meanwhile(known.record, held, made, is_used=is_used, at=self.clock())
            await self.devices.replace(known, wanted, reserved=row)
            return f"{registration_id}: certificate {serial_number}, with which it was renewed, is known again"
        group, place = await self._place(registration_id, issuer)
        own_key = bundle.password_secret is None
        record = adopted(registration_id, held, made, group=group, place=place, own_key=own_key, at=self.clock())
        await self.devices.insert(record, reserved=row.changed(enrollment_group=group))
        where = f"in {place[0]}" if place else "in no hub: send its order again"
        return f"{registration_id}: known again, with certificate {serial_number}, {where}"

    def _issuer_of(self, bundle: Bundle) -> str | None:
        """Find the CA that has signed a certificate: who writes blobs must not make devices."""
        for name, issuer in self._issuers.items():
            if issuer.certificate.subject == bundle.certificate.issuer:
                try:
                    bundle.certificate.verify_directly_issued_by(issuer.certificate)
                except Exception:  # noqa: BLE001, S112 - whatever is wrong with it, this CA has not signed it
                    continue
                return name
        return None

    @staticmethod
    def _row(registration_id: str, held: HeldCertificate, bundle: Bundle) -> CertificateRecord:
        return CertificateRecord(
            serial_number=held.serial_number,
            kind=CertificateKind.DEVICE,
            state=held.state,
            subject=registration_id,
            issuer=held.issuer,
            cause=held.cause,
            recorded_at=held.recorded_at,
            not_before=bundle.summary.not_before,
            not_after=bundle.summary.not_after,
            thumbprint=bundle.summary.thumbprint,
            pem=names.pem(bundle.certificate),
        )

    async def _place(self, registration_id: str, issuer: str) -> tuple[str | None, tuple[str, str] | None]:
        groups = [each.enrollment_group async for each in self.groups.list() if issuer in each.authorities]
        registration = await self.provisioning.get_registration(registration_id) or {}
        hub, device_id = registration.get("assignedHub"), registration.get("deviceId")
        group = registration.get("enrollmentGroupId") or (groups[0] if groups else None)
        return group, (str(hub), str(device_id)) if hub and device_id else None

    async def _is_used(self, record: DeviceRecord, bundle: Bundle) -> bool:
        if not (record.assigned_hub and record.device_id):
            return False
        identity = await self.hubs.get(record.assigned_hub, record.device_id)
        return identity is not None and identity.thumbprints == {bundle.sha256_thumbprint}

    # --- what is left ---

    async def _unknown(self, logged: Sequence[Mapping[str, Any]] | None) -> AsyncIterator[str]:
        """Say what was done after the copy that can't be taken back from what there is."""
        for each in logged or ():
            if each["type"] == "certificate" and await self.certificates.get(each["serialNumber"]) is None:
                yield (
                    f"certificate {each['serialNumber']} ({each['kind']} {each['subject']!r}, by {each['issuer']!r}, "
                    f"for {each['cause']!r}) was logged, and can't be had again: OCSP says that it is unknown"
                )
            if each["type"] == "act":
                yield f"was done since the copy, or just before: {each['action']} {each['subject']!r}, {each['at']}"
        known = {each.enrollment_group async for each in self.groups.list()}
        async for entry in self.provisioning.list_groups():
            if entry["enrollmentGroupId"] not in known:
                yield f"the enrollment group {entry['enrollmentGroupId']!r} is in DPS, and the ledger does not know it"

    async def _jump(self, name: str, number: int) -> str:
        records = self.authorities.records
        known = await records.get(name)
        if known is None:
            raise Conflict.because(f"the CA {name!r} is gone")
        await records.replace(known, known.record.changed(crl_number=number + JUMP, list_making=None))
        return f"the next CRL of {name!r} has number {number + JUMP + 1}; the last one was {number}"
