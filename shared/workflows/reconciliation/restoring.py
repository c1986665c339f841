"""Takes back what happened after a ledger was copied that is now the ledger again: revocations first.

What the ledger has forgotten stands elsewhere: on the published CRLs, in the log, in bundles, at DPS and at the hubs.
Everything is written into the ledger before its epoch is raised, so nothing is signed, and nothing called good, by what
is half taken back. It can be run again as often as it breaks off: each part finds what is there, and leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.groups import STATUS, GroupState
from shared.domain.restoration import JUMP
from shared.errors import Conflict
from shared.ledger.table import Stale
from shared.workflows.devices.bundles import BUNDLES
from shared.workflows.reconciliation.adopting import UNKNOWN
from shared.workflows.reconciliation.books import Books
from shared.workflows.reconciliation.forgotten_acts import ForgottenActs
from shared.workflows.reconciliation.restored_certificates import RestoredCertificates
from shared.workflows.reconciliation.restored_doors import RestoredDoors
from shared.workflows.reconciliation.restored_following import RestoredFollowing
from shared.workflows.reconciliation.restored_revocations import RestoredRevocations
from shared.workflows.status.revocation_lists import CRLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from datetime import datetime

    from shared.ledger.audit_log import AuditTable
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ledger.lost_certificates import LostCertificates
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
        lost: the certificates of the log that can't be had again.
        audit: the ledger's own audit log, by which it is told what of the log's acts the copy has.
        send_again: sends the messages of orders under way; gives how many orders there are.
        taking_in: enters certificates that are found.
        adoption: takes CAs, groups and devices over from the services, where the ledger is lost; ``None`` where it is
            an older one.
        since: from when on the log is read; ``None`` for as far as the ledger had come by its epoch.
    """

    authorities: CertificateAuthorities
    records: Authorities
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
    lost: LostCertificates
    audit: AuditTable
    epochs: Epochs
    send_again: Callable[[], Awaitable[int]]
    clock: Clock
    taking_in: TakingIn
    adoption: Adoption | None = None
    since: datetime | None = None

    async def run(self) -> AsyncIterator[str]:
        """Take everything back, and say of each part what it was, or that it can't be known.

        Raises:
            ExceptionGroup: services did not answer. What was done stays, and the next run goes on.
        """
        begun = await self.epochs.restoration()
        # A copy may have the row of a restoration that had still to follow when it was made: that was another ledger's.
        if begun is None or not begun.record.accepted or await self.epochs.fault() is not None:
            async for line in self._complete():
                yield line
        begun = await self.epochs.restoration()
        following = self._following
        await following.end_turns()
        failures, waiting = await following.follow()
        for line in waiting:
            yield line
        yield f"{await self.lists.publish_all()} CRLs were published"
        if sent := await self.send_again():  # their messages may have been carried out after the copy, and be gone
            yield f"{sent} orders are under way, and the messages of their devices were sent again"
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
        revocations = RestoredRevocations(
            authorities=self.authorities,
            records=self.records,
            certificates=self.certificates,
            devices=self.devices,
            blobs=self.blobs,
            taking_in=self.taking_in,
            is_lost=self.adoption is not None,
            clock=self.clock,
        )
        async for line in self._take_back(revocations):
            yield line
        await self._following.shut()
        books = Books(certificates=self.certificates, clock=self.clock)
        async for line in books.enter_missing(self.taking_in.issuers):
            yield line
        for name, number in revocations.numbers.items():
            yield await self._jump(name, number)
        yield f"the ledger's epoch is {await self.epochs.accept()} now: certificates are signed again"

    @property
    def _following(self) -> RestoredFollowing:
        return RestoredFollowing(
            authorities=self.authorities,
            records=self.records,
            devices=self.devices,
            converger=self.converger,
            authority_converger=self.authority_converger,
            clock=self.clock,
        )

    async def _take_back(self, revocations: RestoredRevocations) -> AsyncIterator[str]:
        revoked = await revocations.find()
        async for line in revocations.take_back(revoked, may_wait=True):
            yield line
        certificates = RestoredCertificates(
            certificates=self.certificates,
            lost=self.lost,
            blobs=self.blobs,
            log=self.log,
            taking_in=self.taking_in,
            clock=self.clock,
        )
        async for line in certificates.take_back(self.since):
            yield line
        if self.adoption is not None:
            async for line in self.adoption.devices_of_services():
                yield line
        async for line in revocations.take_back(revoked, may_wait=False):  # those of what was not known before
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
        async for line in self._unknown(certificates, revocations.missing):
            yield line

    # --- what is left ---

    @property
    def _forgotten(self) -> ForgottenActs:
        return ForgottenActs(
            audit=self.audit,
            devices=self.devices,
            certificates=self.certificates,
            groups=self.groups,
            authorities=self.authorities,
        )

    async def _unknown(self, certificates: RestoredCertificates, missing: Sequence[str]) -> AsyncIterator[str]:
        """Say what was done after the copy that can't be taken back from what there is."""
        async for line in certificates.name_lost():
            yield line
        if self.adoption is None:
            async for line in self._forgotten.told(certificates.logged):
                yield line
        for name in sorted(certificates.unreadable):
            yield f"the blob {name!r} in {BUNDLES!r} is not a bundle: nothing was taken back from it"
        async for line in self._changes_of_groups():
            yield line
        async for line in self._groups():
            yield line
        for name in missing:
            yield (
                f"not known: which certificates of {name!r} were revoked after the copy: its last CRL is not in the "
                f"container {CRLS!r}. If anybody has it, put it there as '{name}.crl', and run this again with --accept"
            )
        if self.adoption is not None:
            for line in UNKNOWN:
                yield line

    async def _changes_of_groups(self) -> AsyncIterator[str]:
        """Drop changes that were under way when the copy was taken, by which devices would be let in that are not."""
        async for record in self.groups.list():
            change = record.change
            if change is None or not change.enables:
                continue
            entry = await self.provisioning.get_group(record.enrollment_group)
            known = await self.groups.get(record.enrollment_group)  # after its entry was looked at
            if entry is None or entry.get(STATUS) != "disabled" or known is None or known.record.change != change:
                continue
            yield (
                f"the enrollment group {record.enrollment_group!r} is disabled in DPS: its {change.action}, which was "
                "under way when the ledger was copied, is dropped; ask for it again if it is wanted"
            )
            _ = await self.groups.try_replace(known, known.record.withdrawn())  # else somebody is at it already

    async def _groups(self) -> AsyncIterator[str]:
        """Say of groups what the ledger and DPS differ in: whole lines of devices depend on who is right."""
        known = {each.enrollment_group: each.state async for each in self.groups.list()}
        async for entry in self.provisioning.list_groups():
            group_id, is_open = str(entry["enrollmentGroupId"]).lower(), entry.get(STATUS) != "disabled"
            match known.get(group_id):
                case None:
                    yield f"the enrollment group {group_id!r} is in DPS, and the ledger does not know it"
                case GroupState.DISABLED if is_open:
                    yield (
                        f"the enrollment group {group_id!r} is disabled in the ledger, and enabled in DPS, which goes "
                        "on letting its devices in: enable it, or disable it again"
                    )
                case GroupState.ENABLED if not is_open:
                    yield (
                        f"the enrollment group {group_id!r} is enabled in the ledger, and disabled in DPS, which keeps "
                        "its devices out: disable it, or enable it again"
                    )
                case GroupState.DELETED:
                    yield f"the enrollment group {group_id!r} is in DPS, and deleted in the ledger: delete it there"

    async def _jump(self, name: str, number: int) -> str:
        records, present = self.records, number
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
