"""Takes back what happened after a ledger was copied that is now the ledger again: revocations first.

What the ledger has forgotten stands elsewhere: on the published CRLs, in the log, in bundles, at DPS and at the hubs.
Everything is written into the ledger before its epoch is raised, so nothing is signed, and nothing called good, by what
is half taken back. It can be run again as often as it breaks off: each part finds what is there, and leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.authorities import AuthorityAction
from shared.domain.authority_acts import Wanted, decided
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.groups import STATUS, GroupState
from shared.domain.restoration import CAUSE, JUMP, found_revoked, keeps_out, of_nobody
from shared.domain.words import CertificateKind, RevocationReason
from shared.errors import Conflict, Deferred, Rejected
from shared.ledger.table import Stale
from shared.pki.list_checks import ListedCertificate, listed_certificates
from shared.workflows.authorities.changes import change as change_authority
from shared.workflows.devices.bundles import BUNDLES
from shared.workflows.devices.changes import change
from shared.workflows.reconciliation.adopting import UNKNOWN
from shared.workflows.reconciliation.books import Books
from shared.workflows.reconciliation.found_authorities import number_of
from shared.workflows.reconciliation.restored_certificates import RestoredCertificates
from shared.workflows.reconciliation.restored_doors import RestoredDoors
from shared.workflows.status.former_lists import keep_listed, revocation_of
from shared.workflows.status.revocation_lists import CRLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from datetime import datetime

    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ports.blobs import Blobs
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.convergence import AuthorityConverger
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.epochs import Epochs
    from shared.workflows.evidence.reading import LogReader
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.adopting import Adoption
    from shared.workflows.reconciliation.taking_in import TakingIn
    from shared.workflows.status.revocation_lists import RevocationLists


@dataclass(slots=True, kw_only=True)
class Restoration:
    """Takes back what an older ledger has forgotten.

    Attributes:
        log: ``None`` where no log is kept.
        taking_in: enters certificates that are found.
        adoption: takes CAs, groups and devices over from the services, where the ledger is lost; ``None`` where it is
            an older one.
        since: from when on the log is read; ``None`` for as far as the ledger had come by its epoch.
    """

    authorities: CertificateAuthorities
    certificates: Certificates
    devices: Devices
    groups: Groups
    blobs: Blobs
    lists: RevocationLists
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    converger: DeviceConverger
    authority_converger: AuthorityConverger
    log: LogReader | None
    epochs: Epochs
    clock: Clock
    taking_in: TakingIn
    adoption: Adoption | None = None
    since: datetime | None = None
    _numbers: dict[str, int] = field(default_factory=dict)
    """The highest numbers that lists of CAs are known to have reached."""
    _missing: list[str] = field(default_factory=list)
    """CAs that have published lists, of which the last one is not there."""
    _entered: dict[str, set[str]] = field(default_factory=dict)
    """Certificates that are on the ledger's list of a CA, as they were when the first one was looked for."""

    async def run(self) -> AsyncIterator[str]:
        """Take everything back, and say of each part what it was, or that it can't be known.

        Raises:
            ExceptionGroup: services did not answer. What was done stays, and the next run goes on.
        """
        begun = await self.epochs.rows.restoration()
        # A copy may have the row of a restoration that had still to follow when it was made: that was another ledger's.
        if begun is None or not begun.record.accepted or await self.epochs.fault() is not None:
            async for line in self._complete():
                yield line
        begun = await self.epochs.rows.restoration()
        await self._end_turns()
        failures, waiting = await self._follow()
        for line in waiting:
            yield line
        yield f"{await self.lists.publish_all()} CRLs were published"
        if failures:
            raise ExceptionGroup(f"{len(failures)} CAs and devices are not followed yet", failures)
        if begun is not None:
            await self.epochs.end(begun.record)

    async def _complete(self) -> AsyncIterator[str]:
        """Enter into the ledger all that it lacks, shut what it keeps out, and have it sign again."""
        if self.adoption is not None:
            async for line in self.adoption.authorities():
                yield line
        begun = await self.epochs.begin(is_lost=self.adoption is not None)
        self.since = self.since or begun.since
        revoked = [
            (each.name, entry) async for each in self.authorities.list() for entry in await self._revoked_by(each)
        ]
        async for line in self._take_back(revoked):
            yield line
        await self._shut()
        books = Books(certificates=self.certificates, clock=self.clock)
        async for line in books.enter_missing(self.taking_in.issuers):
            yield line
        for name, number in self._numbers.items():
            yield await self._jump(name, number)
        yield f"the ledger's epoch is {await self.epochs.accept()} now: certificates are signed again"

    async def _shut(self) -> None:
        """Shut every door that is to be shut and is not yet; its revocation is on the list when that may be signed.

        Raises:
            ExceptionGroup: a service did not answer; every device was tried.
        """
        failures = list[Exception]()
        for registration_id in await self._noted():
            known = await self.devices.get(registration_id)
            if known is None or not keeps_out(known.record, self.clock()):
                continue
            try:
                await self.converger.converge(registration_id)
            except (Deferred, Rejected):
                continue  # above all: no list is made so far
            except Exception as error:  # noqa: BLE001 - the other doors are shut first, then it is raised
                failures.append(error)
        if failures:
            raise ExceptionGroup(f"{len(failures)} devices are not shut out yet", failures)

    async def _end_turns(self) -> None:
        """Take the turns of making lists from whoever broke off; somebody who is only slow makes his list again."""
        for name in [each.name async for each in self.authorities.list() if each.list_making is not None]:
            known = await self.authorities.records.get(name)
            if known is not None:
                await self.authorities.records.try_replace(known, known.record.changed(list_making=None))

    async def _follow(self) -> tuple[list[Exception], list[str]]:
        """Have everything follow what was changed, by this run or by one that broke off: the ledger's rows tell.

        Returns:
            What failed, and lines about what has to wait; everything was tried.
        """
        failures, waiting = list[Exception](), list[str]()
        changed = [each.name async for each in self.authorities.list() if each.change is not None]
        todo: list[tuple[str, Callable[[str], Awaitable[object]]]] = [
            *((each, self.authority_converger.converge) for each in changed),
            *((each, self._settle) for each in await self._noted()),
        ]
        for name, follow in todo:
            try:
                await follow(name)
            except (Deferred, Rejected) as refusal:
                waiting.append(f"{name}: the services do not follow yet, and the app goes on with that: {refusal}")
            except Exception as error:  # noqa: BLE001 - the others come first, then it is raised
                failures.append(error)
        return failures, waiting

    async def _settle(self, registration_id: str) -> None:
        if await self.devices.get(registration_id) is not None:  # else the act that it was noted for was not written
            await self.converger.converge(registration_id)

    async def _noted(self) -> list[str]:
        return list(dict.fromkeys([each.registration_id async for each in self.devices.unsettled()]))

    async def _take_back(self, revoked: Sequence[tuple[str, ListedCertificate]]) -> AsyncIterator[str]:
        for name, listed in revoked:
            async for line in self._revoke(name, listed, may_wait=True):
                yield line
        certificates = RestoredCertificates(
            certificates=self.certificates, blobs=self.blobs, log=self.log, taking_in=self.taking_in
        )
        async for line in certificates.take_back(self.since):
            yield line
        if self.adoption is not None:
            async for line in self.adoption.devices_of_services():
                yield line
        for name, listed in revoked:  # those of certificates that were not known before
            async for line in self._revoke(name, listed, may_wait=False):
                yield line
        by_serial_number = {each.serial_number: each for _, each in revoked}
        doors = RestoredDoors(
            devices=self.devices,
            provisioning=self.provisioning,
            hubs=self.hubs,
            is_lost=self.adoption is not None,
            clock=self.clock,
        )
        async for line in doors.compare(by_serial_number):  # when it is known of every device what the lists say of it
            yield line
        async for line in self._unknown(certificates):
            yield line

    # --- revocations ---

    async def _revoked_by(self, record: AuthorityRecord) -> Sequence[ListedCertificate]:
        """Give what a CA has revoked, by its published list, and by the ledger's rows, which may know of more."""
        found = {each.serial_number: each for each in await self._listed(record)}
        if record.certificate is None:
            return ()
        async for row in self.certificates.revoked_by(record.name):
            found.setdefault(row.serial_number, ListedCertificate(row.serial_number, row.revoked_at, row.reason))
        return list(found.values())

    async def _listed(self, record: AuthorityRecord) -> Sequence[ListedCertificate]:
        """Read the published list of a CA; nothing, if it has none that it has signed."""
        if record.certificate is None:
            return ()
        issuer = self.taking_in.issuers[record.name] = await self.authorities.load(record.name)
        stored = await self.blobs.get(CRLS, f"{record.name}.crl")
        number = number_of(stored.content, issuer) if stored is not None else None
        if stored is None or number is None:
            if stored is None and self.adoption is None and issuer.may_sign_crls and record.crl_number:
                self._numbers[record.name] = record.crl_number  # it has published more since, which nobody knows of
                self._missing.append(record.name)
            return ()
        self._numbers[record.name] = number
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
            line = None if may_wait else await self._keep_listed(name, listed)
            if line is not None:
                yield line
            return
        record = known.record
        if record.state is CertificateState.REVOKED and record.ended:
            return
        if record.kind is not CertificateKind.DEVICE:
            if not may_wait:
                return
            line, is_done = await self._revoke_authority(name, record, listed)
            yield line
            await self._enter(name, listed)
            ended = {"revoked_at": listed.revoked_at, "revocation_reason": RevocationReason(listed.reason)}
            if is_done:
                await self.certificates.try_replace(known, record.changed(state=CertificateState.REVOKED, **ended))
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
            if not may_wait:
                await self._enter(name, listed)
                yield (
                    f"certificate {listed.serial_number} of {record.subject!r} stays on the list of {name!r}, and "
                    f"nothing else is done about it: {refusal}"
                )
            return
        if before is not None and after.record.generation != before.record.generation:
            yield f"{record.subject}: revoked again ({listed.reason}, {listed.revoked_at:%Y-%m-%d %H:%M} UTC)"

    async def _revoke_authority(
        self, name: str, record: CertificateRecord, listed: ListedCertificate
    ) -> tuple[str, bool]:
        """Revoke a CA whose certificate its issuer's list names: it signs nothing more.

        Returns:
            What became of it, and whether nothing is left to do when this is run again.
        """
        known, subject = await self.authorities.records.get(record.subject), record.subject
        if known is None or known.record.serial_number != listed.serial_number:
            return (
                f"certificate {listed.serial_number} ({record.kind} {subject!r}) is on the list of {name!r} again: "
                "what was done to the CA after the copy is to be done again"
            ), True
        wanted = Wanted(request=f"{CAUSE}-{listed.serial_number}", action=AuthorityAction.REVOKE, reason=listed.reason)
        try:
            await change_authority(
                self.authorities.records, subject, lambda present: decided(present, wanted, listed.revoked_at)
            )
        except Conflict as refusal:
            return f"{subject}: the CA's certificate is on the list of {name!r}: {refusal}", True
        except Deferred as refusal:
            return f"{subject}: the CA is not revoked again yet: {refusal}; run this again when that is done", False
        return f"{subject}: the CA is revoked again ({listed.reason}); its groups and its devices follow", True

    async def _keep_listed(self, name: str, listed: ListedCertificate) -> str | None:
        """Keep a certificate revoked of which nobody knows whose it is; say so, if the ledger did not list it."""
        await self.certificates.try_add(of_nobody(revocation_of(name, listed, self.taking_in.issuers[name])))
        if await self._is_entered(name, listed):
            return None
        await self._enter(name, listed)
        return (
            f"certificate {listed.serial_number} of {name!r} is revoked ({listed.reason}), and whose it is can't be "
            "known; it stays on the list"
        )

    async def _is_entered(self, name: str, listed: ListedCertificate) -> bool:
        if name not in self._entered:
            self._entered[name] = {each.serial_number async for each in self.certificates.revoked_by(name)}
        return listed.serial_number in self._entered[name]

    async def _enter(self, name: str, listed: ListedCertificate) -> None:
        await keep_listed(self.certificates, revocation_of(name, listed, self.taking_in.issuers[name]))

    # --- what is left ---

    async def _unknown(self, certificates: RestoredCertificates) -> AsyncIterator[str]:
        """Say what was done after the copy that can't be taken back from what there is."""
        for each in certificates.logged:
            if each["type"] == "certificate" and await self.certificates.get(each["serialNumber"]) is None:
                yield (
                    f"certificate {each['serialNumber']} ({each['kind']} {each['subject']!r}, by {each['issuer']!r}, "
                    f"for {each['cause']!r}) was logged, and can't be had again: OCSP says that it is unknown"
                )
            if each["type"] == "act" and self.adoption is None:
                yield f"was done since the copy, or just before: {each['action']} {each['subject']!r}, {each['at']}"
        for name in certificates.unreadable:
            yield f"the blob {name!r} in {BUNDLES!r} is not a bundle: nothing was taken back from it"
        async for line in self._groups():
            yield line
        for name in self._missing:
            yield (
                f"not known: which certificates of {name!r} were revoked after the copy: its last CRL is not in the "
                f"container {CRLS!r}. If anybody has it, put it there as '{name}.crl', and run this again with --accept"
            )
        if self.adoption is not None:
            for line in UNKNOWN:
                yield line

    async def _groups(self) -> AsyncIterator[str]:
        """Say of groups what the ledger and DPS differ in: whole lines of devices depend on who is right."""
        known = {each.enrollment_group: each.state async for each in self.groups.list()}
        async for entry in self.provisioning.list_groups():
            group_id, is_open = entry["enrollmentGroupId"], entry.get(STATUS) != "disabled"
            match known.get(group_id):
                case None:
                    yield f"the enrollment group {group_id!r} is in DPS, and the ledger does not know it"
                case GroupState.DISABLED if is_open:
                    yield (
                        f"the enrollment group {group_id!r} is disabled in the ledger, and enabled in DPS, which goes "
                        "on letting its devices in: enable it, or disable it again"
                    )
                case GroupState.DELETED:
                    yield f"the enrollment group {group_id!r} is in DPS, and deleted in the ledger: delete it there"

    async def _jump(self, name: str, number: int) -> str:
        records, present = self.authorities.records, number
        while present < number + JUMP:  # else an earlier run, or another one, was here
            known = await records.get(name)
            if known is None:
                raise Conflict.because(f"the CA {name!r} is gone")
            present = known.record.crl_number
            if present < number + JUMP:
                present = max(present, number) + JUMP
                try:
                    await records.replace(known, known.record.changed(crl_number=present, list_making=None))
                except Stale:
                    present = number
        return f"the next CRL of {name!r} has number {present + 1}; the last one was {number}"
