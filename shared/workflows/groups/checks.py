"""Sees that a request about a group can be carried out, before anything of it is recorded."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.groups import GroupAction
from shared.domain.attestations import (
    attests_by_certificates,
    reference_attestation,
    same_attestation,
    x509_attestation,
)
from shared.domain.authorities import OVER
from shared.domain.entries import check_conditions, check_etag, foreign, group_entry
from shared.domain.group_signers import check_alone, check_place, with_references
from shared.domain.groups import GroupState, RolloverState
from shared.errors import Conflict, Deferred, Rejected
from shared.workflows.groups.authorities import check_none_over
from shared.workflows.groups.entries import check_hubs, check_references, named, read_entry, unknown

if TYPE_CHECKING:
    from shared.contracts.groups import EnrollmentGroupRequest
    from shared.domain.attestations import Entry
    from shared.domain.groups import CaReferences, GroupRecord, Rollover
    from shared.ledger.groups import Groups
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.records import AuthorityDefinition
    from shared.workflows.groups.authorities import GroupAuthorities

GROUP_LIMIT = 100
"""X.509 enrollment groups of one DPS (Microsoft: "Azure IoT DPS limits")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChecks:
    """Checks requests against the group as it is, its CAs, and DPS."""

    groups: Groups
    authorities: CertificateAuthorities
    group_authorities: GroupAuthorities
    provisioning: ProvisioningService
    resource: DpsCaCertificates | None

    async def foresee(self, request: EnrollmentGroupRequest) -> None:
        """See what of a request can't succeed as things are, for a caller who waits for the answer.

        Raises:
            Rejected: what carrying it out would raise now.
        """
        known = await self.groups.get(request.enrollment_group)
        record = known.record if known else None
        if record is not None and record.state is GroupState.REQUESTED:
            return  # it is being made: the request waits for it in its queue
        if record is None or record.state is GroupState.DELETED:
            if request.action is not GroupAction.PUT:
                raise unknown(request.enrollment_group)
            with suppress(Deferred):  # a CA that is being made is waited for likewise
                await self.new(request, next_generation(record))
            return
        with suppress(Deferred):
            if request.action is GroupAction.ROLL:
                await self.roll(request, record)
            elif request.action in {GroupAction.PUT, GroupAction.UPDATE}:
                await self._foresee_update(request, record)
            elif request.action is GroupAction.ENABLE:
                await self.enable(record)
                await read_entry(self.provisioning, request.enrollment_group)

    async def _foresee_update(self, request: EnrollmentGroupRequest, record: GroupRecord) -> None:
        references, _ = await self.update(request, record)
        entry = await self.provisioning.get_group(record.enrollment_group)
        if entry is not None and references is not None:
            with_references(entry, references)

    # --- a new group ---

    async def new(self, request: EnrollmentGroupRequest, generation: int) -> str | AuthorityDefinition:
        """See that a group can be made.

        Args:
            request: what is wanted.
            generation: how often its issuing CA will have been made.

        Returns:
            What is to sign for it: the name of a CA, or what it is to be if it has to be made.

        Raises:
            PreconditionFailed: the request expects an entry.
            Rejected: a hub or a CA is not as the request has it, or DPS has no place, or a group of others.
            Deferred: the CA is not ready yet.
        """
        group_id = request.enrollment_group
        check_conditions(named(group_id), None, request.if_match)
        await self._check_named(request)
        wanted = await self.group_authorities.first(request, generation)
        await self._check_place(group_id)
        entry = await self.provisioning.get_group(group_id)
        # An attestation of a CA that is there is composed in any case: whether the CA can sign is known before the
        # group is recorded.
        attestation = await self._attestation(request.ca_references, wanted)
        if entry is None:
            return wanted
        if attestation is None or not same_attestation(entry, group_entry(group_id, attestation)):
            raise foreign(group_id, entry)
        return wanted

    async def _check_named(self, request: EnrollmentGroupRequest) -> None:
        await check_hubs(self.resource, request)
        await check_references(self.resource, request.ca_references)

    async def _check_place(self, group_id: str) -> None:
        """See that the DPS takes one more group: beside ours, and those that are being made, it has others' groups."""
        present = {
            group.enrollment_group async for group in self.groups.list() if group.state is not GroupState.DELETED
        }
        held = [entry async for entry in self.provisioning.list_groups() if attests_by_certificates(entry)]
        present |= {str(entry["enrollmentGroupId"]).lower() for entry in held}
        if len(present - {group_id}) >= GROUP_LIMIT:
            raise Rejected.because(
                f"the DPS has {len(present)} enrollment groups and takes {GROUP_LIMIT}; delete one, or use another DPS",
                field="enrollmentGroup",
            )

    async def _attestation(self, references: CaReferences | None, wanted: str | AuthorityDefinition) -> Entry | None:
        """Give what a new group is to accept; ``None`` if its CA is still to be made."""
        if references is not None:
            return reference_attestation(references.primary, references.secondary)
        return x509_attestation((await self.authorities.load(wanted)).certificate) if isinstance(wanted, str) else None

    # --- a group that is there ---

    async def update(self, request: EnrollmentGroupRequest, record: GroupRecord) -> tuple[CaReferences | None, str]:
        """See that what a request sets can be set.

        Returns:
            What the group is to accept by name, ``None`` if that stays as it is; and which CA is to sign.

        Raises:
            Rejected: a hub or a CA is not as the request has it, or the issuing CA would be another one.
        """
        await self._check_named(request)
        references = request.ca_references or (record.ca_references if request.issuer else None)
        if references is None:
            await self.group_authorities.check_kept(request, record)
            return None, record.issuer
        issuer = await self.group_authorities.below(
            record.enrollment_group, references, request.issuer or record.issuer or None
        )
        return references, issuer

    async def enable(self, record: GroupRecord) -> None:
        """See that DPS may let devices in by a group's CAs; errors are those of :func:`check_none_over`."""
        await check_none_over(self.authorities, record)

    async def roll(self, request: EnrollmentGroupRequest, record: GroupRecord) -> str | AuthorityDefinition:
        """See that another CA can take over in a group, and give which one.

        While a rollover is under way, one can if the CA that has taken over was revoked: it leaves at once.

        Raises:
            PreconditionFailed: its entry has another ETag than the request expects.
            Conflict: a rollover is under way, or the group does not hold what this app put there.
            Rejected: the CA can't sign for the group.
            Deferred: the CA is not ready yet.
        """
        group_id, present = record.enrollment_group, record.rollover
        rolling = present if present is not None and present.under_way else None
        if rolling is not None:
            await self._check_replaced(group_id, rolling)
        entry = await read_entry(self.provisioning, group_id)
        check_etag(named(group_id), entry["etag"], request.if_match)
        if rolling is not None:
            source, target = [await self.authorities.certificate(each) for each in (rolling.source, rolling.target)]
            check_place(entry, source, target)
            if request.issuer == rolling.source:
                raise Conflict.because(
                    f"{rolling.source!r} is leaving the group {group_id!r}; name another, or none to have one made",
                    field="issuer",
                )
        else:
            check_alone(entry, (await self.authorities.load(record.issuer)).certificate if record.issuer else None)
        if request.issuer is not None and request.issuer == record.issuer:
            raise Conflict.because(f"{record.issuer!r} is the group's issuing CA already; name another", field="issuer")
        return await self.group_authorities.following(request, record)

    async def _check_replaced(self, group_id: str, rolling: Rollover) -> None:
        """See that the CA which has taken over was revoked: all its devices are shut out, and it need not stay."""
        if rolling.state is RolloverState.ROLLING and (await self.authorities.get(rolling.target)).state in OVER:
            return
        if rolling.refused:
            raise Conflict.because(
                f"the last roll of {group_id!r} was refused, and DPS may still accept its CA {rolling.target!r}; the "
                "app is taking it out: roll again when `rollover` of the group does not name it any more",
                field="action",
            )
        raise Conflict.because(
            f"a rollover of {group_id!r} from {rolling.source!r} to {rolling.target!r} is under way since "
            f"{rolling.started_at:%Y-%m-%d %H:%M} UTC, and DPS holds two issuing CAs of a group at a time; roll "
            f"again when {rolling.source!r} is retired, after its last certificate has expired or was superseded "
            "or revoked",
            field="action",
        )


def next_generation(before: GroupRecord | None) -> int:
    """Give how often the issuing CA of a group will have been made."""
    return before.generation + 1 if before else 1
