"""What DPS is to have of a group, composed of its record; the CAs that it names are made if they have to be."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.attestations import (
    AttestationKind,
    attestation_of,
    reference_attestation,
    same_attestation,
    signers,
    x509_attestation,
)
from shared.domain.authority_acts import check_signs
from shared.domain.entries import group_entry, with_values
from shared.domain.groups import GroupState
from shared.domain.words import CertificateKind
from shared.errors import Deferred, NotFound
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.groups.authorities import check_none_over
from shared.workflows.groups.sharing import check_free

if TYPE_CHECKING:
    from cryptography import x509

    from shared.domain.attestations import Entry
    from shared.domain.groups import Change, GroupRecord, Rollover
    from shared.domain.words import KeyCustody
    from shared.ledger.groups import Groups
    from shared.workflows.authorities.creation import AuthorityCreation
    from shared.workflows.authorities.loading import CertificateAuthorities


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEntries:
    """Composes the entries of groups."""

    groups: Groups
    authorities: CertificateAuthorities
    creation: AuthorityCreation

    async def check_lets_in(self, record: GroupRecord, change: Change) -> None:
        """See that DPS may let devices in by the CAs of an entry that is made, or taken over, for a change.

        Raises:
            Conflict: one of them has ended, or another group has it.
        """
        await self.check_issuer(record, change)
        if record.state is GroupState.ENABLED:
            await check_none_over(self.authorities, record)
        elif record.state is GroupState.REQUESTED and change.issuer:
            with suppress(Deferred):  # one that is disabled signs when it is enabled
                check_signs(await self.authorities.get(change.issuer))

    async def check_issuer(self, record: GroupRecord, change: Change) -> None:
        """See that no other group has a CA that a group is to get, now that others see which one it takes.

        So of two groups that want the same, none gets it unseen. One that has it keeps it.

        Raises:
            Conflict: another one has it.
        """
        if record.state is GroupState.REQUESTED or change.issuer != record.issuer:
            by_reference = (change.ca_references or record.ca_references) is not None
            await check_free(self.groups, record.enrollment_group, change.issuer, by_reference=by_reference)

    async def new_entry(self, record: GroupRecord, change: Change) -> Entry:
        """Give the entry that DPS is to have of a group if it has none.

        Raises:
            Rejected: its CA can't be made.
            Deferred: its CA is not ready yet.
        """
        group_id = record.enrollment_group
        if record.state is GroupState.REQUESTED:
            await self._make_authority(group_id, change.issuer, change.parent, change.custody, cause=change.request)
            body = group_entry(group_id, await self._attestation(record, change))
        else:
            body = group_entry(group_id, await self._attestation(record, change), record.state.value)
            body |= record.entry_settings or {}
        return with_values(body, change.settings)

    async def is_made_for(self, entry: Entry, record: GroupRecord, change: Change) -> bool:
        """Tell whether an entry has the CAs of one that is made for a change, by whatever certificates of theirs."""
        if (references := change.ca_references or record.ca_references) is not None:
            wanted = reference_attestation(references.primary, references.secondary)
            return same_attestation(entry, group_entry(record.enrollment_group, wanted))
        held = [each for each in signers(entry) if each is not None]
        signing = self._signing(record, change)
        if attestation_of(entry).kind is not AttestationKind.SIGNING_CERTIFICATES or len(held) != len(signing):
            return False
        try:
            known = [await self.authorities.thumbprints(each) for each in signing]
        except NotFound:  # it was not made, so nobody has put it there
            return False
        return all(each in own for each, own in zip(held, known, strict=True))

    @staticmethod
    def _signing(record: GroupRecord, change: Change) -> list[str]:
        is_new = record.state is GroupState.REQUESTED
        return [each for each in ((change.issuer,) if is_new else (record.previous_issuer, record.issuer)) if each]

    async def _attestation(self, record: GroupRecord, change: Change) -> Entry:
        if (references := change.ca_references or record.ca_references) is not None:
            return reference_attestation(references.primary, references.secondary)
        return x509_attestation(*[await self.authorities.certificate(each) for each in self._signing(record, change)])

    # --- the CAs of a rollover ---

    async def make_next(self, group_id: str, rollover: Rollover) -> None:
        """Make the CA that is to take over, if it is not there.

        Raises:
            Conflict: another group has it.
            Rejected: it can't be made.
            Deferred: it is not ready yet.
        """
        # Once more, now that others see the intent: of two that want the same CA at a time, none gets it unseen.
        await check_free(self.groups, group_id, rollover.target)
        await self._make_authority(group_id, rollover.target, rollover.parent, rollover.custody, cause=rollover.request)

    async def certificates(self, rollover: Rollover) -> tuple[x509.Certificate, x509.Certificate]:
        """Give those of the CA that is leaving, whose key is not needed any more, and of the next one."""
        source, target = rollover.source, rollover.target
        return await self.authorities.certificate(source), (await self.authorities.load(target)).certificate

    async def _make_authority(
        self, group_id: str, name: str, parent: str | None, custody: KeyCustody | None, *, cause: str
    ) -> None:
        if parent is None or custody is None:
            return
        definition = AuthorityDefinition(
            name=name, kind=CertificateKind.INTERMEDIATE, parent=parent, enrollment_group=group_id, custody=custody
        )
        await self.creation.ensure(definition, cause=cause)
