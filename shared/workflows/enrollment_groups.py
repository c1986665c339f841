"""Enrollment groups: made with their own issuing CA, changed under their ETag, rolled over, deleted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from shared.adapters.dps_service import reference_attestation, x509_attestation
from shared.contracts import CertificateKind, EventType, GroupAction, KeyCustody
from shared.errors import Conflict, NotFound, PreconditionFailed, Rejected
from shared.ledger.groups import GroupRecord, GroupState
from shared.pki import names
from shared.workflows.certificate_authorities import AuthorityDefinition
from shared.workflows.dps_entries import (
    busy,
    change_entry,
    check_etag,
    check_hubs,
    check_references,
    same_attestation,
    values_of,
    with_references,
    with_values,
)
from shared.workflows.requests import once
from shared.workflows.rollovers import check_free, summary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.adapters.dps_management import ProvisioningServiceAuthorities
    from shared.adapters.dps_service import ProvisioningService
    from shared.contracts import CaReferences, EnrollmentGroupDefinition, EnrollmentGroupRequest
    from shared.ledger.groups import Groups
    from shared.ledger.issuers import IssuerRecord
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.settings import Settings
    from shared.workflows.certificate_authorities import CertificateAuthorities
    from shared.workflows.dps_entries import Entry
    from shared.workflows.events import Clock, Outbox
    from shared.workflows.rollovers import Rollovers

GROUP_LIMIT = 100
"""X.509 enrollment groups of one DPS (Microsoft: "Azure IoT DPS limits")."""

_ISSUER_NAME_LIMIT = 48


@dataclass(frozen=True, slots=True)
class EnrollmentGroups:
    """Carries out requests about enrollment groups."""

    groups: Groups
    requests: Requests
    authorities: CertificateAuthorities
    rollovers: Rollovers
    provisioning: ProvisioningService
    resource: ProvisioningServiceAuthorities | None
    outbox: Outbox
    settings: Settings
    clock: Clock

    async def carry_out(self, request: EnrollmentGroupRequest) -> None:
        """Do what a request asks for.

        Raises:
            NotFound: there is no such group, or issuer.
            Conflict: the group exists with another definition, or the request id was used with other content.
            Rejected: DPS refuses the group, or has as many as it takes.
        """
        steps: dict[GroupAction, Callable[[EnrollmentGroupRequest], Awaitable[GroupRecord]]] = {
            GroupAction.CREATE: self._create,
            GroupAction.UPDATE: self._update,
            GroupAction.DISABLE: self._switch,
            GroupAction.ENABLE: self._switch,
            GroupAction.ROLL: self._roll,
            GroupAction.DELETE: self._delete,
        }
        async with once(self.requests, request.request_id, request, self.clock) as to_do:
            if not to_do:
                return
            record = await steps[request.action](request)
            await self.outbox.publish(
                EventType.ENROLLMENT_GROUP_CHANGED,
                subject=record.enrollment_group,
                correlation_id=request.request_id,
                data={
                    "enrollmentGroup": record.enrollment_group,
                    "action": request.action,
                    "state": record.state,
                    "issuer": record.issuer,
                },
            )

    # --- create ---

    async def _create(self, request: EnrollmentGroupRequest) -> GroupRecord:
        # Before anything is recorded: a request that can't be carried out must leave no trace.
        await self.check(request)
        if request.ca_references is not None:
            issuer = await self._issuer_below(request.ca_references, request.issuer)
            await check_free(self.groups, request.enrollment_group, issuer, by_reference=True)
            known = await self._claim(request)
            references = request.ca_references
            attestation = reference_attestation(references.primary, references.secondary)
        else:
            named = request.issuer or self.settings.root_authority
            await self.authorities.load(named)
            await check_free(self.groups, request.enrollment_group, named)
            known = await self._claim(request)
            issuer = await self._issuer(request, known.record.generation)
            attestation = x509_attestation((await self.authorities.load(issuer)).certificate)
        await self._put_new(_body(request.enrollment_group, request, attestation))
        return await self._entered(
            known,
            request,
            state=GroupState.ENABLED,
            issuer=issuer,
            previous_issuer=None,
            ca_references=request.ca_references,
        )

    async def check(self, definition: EnrollmentGroupDefinition) -> None:
        """Check what a definition names in the DPS.

        Raises:
            Rejected: a hub is not linked, or a CA not verified.
        """
        await check_hubs(self.resource, definition)
        await check_references(self.resource, definition.ca_references)

    async def _issuer_below(self, references: CaReferences, named: str | None) -> str:
        """Find the CA that signs for a group of referred CAs; empty if its devices have certificates from elsewhere."""
        if named is None:
            try:
                referred = await self.authorities.get(references.primary)
            except NotFound:
                return ""
            return referred.name if _signs_devices(referred) else ""
        accepted = [references.primary, *([references.secondary] if references.secondary else [])]
        issuer, chain = await self.authorities.get(named), (await self.authorities.load(named)).chain
        verified = await self.resource.verified() if self.resource else []
        thumbprints = {each.thumbprint for each in verified if each.name in accepted}
        below = not self.resource or bool(thumbprints & {names.thumbprint(each) for each in chain})
        if not _signs_devices(issuer) or not below:
            raise Rejected.because(
                f"{named!r} is to sign for a group that accepts what stands under {' or '.join(accepted)}, and it is "
                f"no issuing CA of these: its chain is {', '.join(names.quoted(each.subject) for each in chain)}",
                field="issuer",
            )
        return named

    async def _claim(self, request: EnrollmentGroupRequest) -> Versioned[GroupRecord]:
        """Take the group's id for this request, or find that an earlier attempt took it."""
        known = await self.groups.get(request.enrollment_group)
        if known is None or known.record.state is GroupState.DELETED:
            return await self._record(request, known)
        if known.record.last_request == request.request_id:
            return known
        if known.record.state is GroupState.REQUESTED:
            # An earlier request did not get to its end; this one carries it on.
            taken = await self.groups.replace(known, known.record.changed(last_request=request.request_id))
            if taken is None:
                raise busy(request.enrollment_group)
            return taken
        raise Conflict.because(
            f"the enrollment group {request.enrollment_group!r} exists; change it with action 'update'",
            field="enrollmentGroup",
        )

    async def _record(
        self, request: EnrollmentGroupRequest, deleted: Versioned[GroupRecord] | None
    ) -> Versioned[GroupRecord]:
        present = sum([1 async for group in self.groups.list() if group.state is not GroupState.DELETED])
        if present >= GROUP_LIMIT:
            raise Rejected.because(
                f"the DPS has {present} enrollment groups and takes {GROUP_LIMIT}; delete one, or use another DPS",
                field="enrollmentGroup",
            )
        record = GroupRecord(
            enrollment_group=request.enrollment_group,
            state=GroupState.REQUESTED,
            issuer="",
            updated_at=self.clock(),
            last_request=request.request_id,
            generation=deleted.record.generation + 1 if deleted else 1,
        )
        made = await (self.groups.replace(deleted, record) if deleted else self.groups.insert(record))
        if made is None:
            raise busy(request.enrollment_group)
        return made

    async def _issuer(self, request: EnrollmentGroupRequest, generation: int) -> str:
        """Find the group's issuing CA by its name, or make one: under the CA that is named, or under the root."""
        custody = KeyCustody(self.settings.issuing_custody)
        wanted = await self._wanted_issuer(request, generation, self.settings.root_authority, custody)
        if isinstance(wanted, str):
            return wanted
        await self.authorities.ensure(wanted, cause=request.request_id)
        return wanted.name

    async def _next_issuer(self, request: EnrollmentGroupRequest, record: GroupRecord) -> str | AuthorityDefinition:
        """Give what is to take over; what a request leaves out is as with the present issuing CA."""
        parent, custody = self.settings.root_authority, KeyCustody(self.settings.issuing_custody)
        if record.issuer:
            custody = (await self.authorities.get(record.issuer)).custody
            if request.issuer is None:
                parent = await self._parent(record.issuer)
        return await self._wanted_issuer(request, record.generation + 1, parent, custody)

    async def _parent(self, name: str) -> str:
        above = await self.authorities.above(name)
        if above is None:
            raise Rejected.because(
                f"{name!r} was signed by a CA whose key is not here, so none can be made beside it; name the next "
                "issuing CA, or a CA that may have others below it",
                field="issuer",
            )
        return above

    async def _wanted_issuer(
        self, request: EnrollmentGroupRequest, generation: int, parent: str, custody: KeyCustody
    ) -> str | AuthorityDefinition:
        """Give the name of the issuing CA that is asked for, or what it is to be if it has to be made."""
        if request.issuer is not None:
            named = await self.authorities.get(request.issuer)
            if _signs_devices(named):
                return named.name
            parent = named.name
        return AuthorityDefinition(
            name=issuer_name(request.enrollment_group, generation),
            kind=CertificateKind.INTERMEDIATE,
            parent=parent,
            enrollment_group=request.enrollment_group,
            custody=request.custody or custody,
        )

    async def _put_new(self, body: dict[str, Any]) -> None:
        """Create the group in DPS, unless an earlier attempt did."""
        try:
            await self.provisioning.put_group(body)
        except (Conflict, PreconditionFailed):
            present = await self.provisioning.get_group(body["enrollmentGroupId"])
            if present is None or not same_attestation(present, body):
                raise

    # --- changes ---

    async def _update(self, request: EnrollmentGroupRequest) -> GroupRecord:
        known = await self._known(request.enrollment_group)
        changes: dict[str, Any] = {}
        if request.ca_references is not None:
            signing = request.issuer or known.record.issuer or None
            issuer = await self._issuer_below(request.ca_references, signing)
            await check_free(self.groups, request.enrollment_group, issuer, by_reference=True)
            changes = {"issuer": issuer, "ca_references": request.ca_references}
        else:
            for field, value in (("issuer", request.issuer), ("custody", request.custody)):
                if value is not None:
                    raise Rejected.because("the issuing CA is changed by action 'roll', not by 'update'", field=field)
        await self.check(request)
        await self._change(request, lambda entry: _updated(entry, request))
        return await self._entered(known, request, **changes)

    async def _change(self, request: EnrollmentGroupRequest, change: Callable[[Entry], Entry]) -> None:
        await change_entry(self.provisioning, request.enrollment_group, change, if_match=request.if_match)

    async def _switch(self, request: EnrollmentGroupRequest) -> GroupRecord:
        known = await self._known(request.enrollment_group)
        state = GroupState.ENABLED if request.action is GroupAction.ENABLE else GroupState.DISABLED
        await self._change(request, lambda entry: {**entry, "provisioningStatus": state.value})
        return await self._entered(known, request, state=state)

    async def _roll(self, request: EnrollmentGroupRequest) -> GroupRecord:
        """Let a new issuing CA take over; see :mod:`shared.workflows.rollovers`."""
        known = await self._known(request.enrollment_group)
        if known.record.rollover is not None and known.record.rollover.request == request.request_id:
            return await self.rollovers.resume(known)
        target = await self._next_issuer(request, known.record)
        return await self.rollovers.roll(known, request.request_id, target=target, if_match=request.if_match)

    async def _delete(self, request: EnrollmentGroupRequest) -> GroupRecord:
        known = await self._known(request.enrollment_group)
        entry = await self.provisioning.get_group(request.enrollment_group)
        if entry is not None:
            check_etag(f"the enrollment group {request.enrollment_group!r}", entry["etag"], request.if_match)
            await self._delete_entry(request.enrollment_group, entry["etag"] if request.if_match else None)
        return await self._entered(known, request, state=GroupState.DELETED)

    async def _delete_entry(self, group_id: str, etag: str | None) -> None:
        try:
            await self.provisioning.delete_group(group_id, etag=etag)
        except PreconditionFailed as changed:
            raise busy(group_id) from changed

    async def _known(self, group_id: str) -> Versioned[GroupRecord]:
        known = await self.groups.get(group_id)
        if known is None or known.record.state is GroupState.DELETED:
            raise NotFound.because(f"there is no enrollment group {group_id!r}", field="enrollmentGroup")
        return known

    async def _entered(
        self, known: Versioned[GroupRecord], request: EnrollmentGroupRequest, **changes: Any
    ) -> GroupRecord:
        record = known.record.changed(updated_at=self.clock(), last_request=request.request_id, **changes)
        if await self.groups.replace(known, record) is None:
            raise busy(request.enrollment_group)
        return record

    # --- reading ---

    async def describe(self, group_id: str) -> dict[str, Any]:
        """Show a group: what the ledger knows of it, and what DPS holds.

        Raises:
            NotFound: there is none.
        """
        record = (await self._known(group_id)).record
        entry = await self.provisioning.get_group(group_id)
        return {
            **_summary(record),
            "rollover": await self.rollovers.describe(record),
            "etag": entry["etag"] if entry else None,
            "provisioningService": entry,
        }

    async def list_groups(self) -> list[dict[str, Any]]:
        """List all groups."""
        return [_summary(group) async for group in self.groups.list() if group.state is not GroupState.DELETED]

    async def registrations(
        self, group_id: str, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """List a page of the group's registration records in DPS."""
        await self._known(group_id)
        return await self.provisioning.page_of_registrations(group_id, size=size, continuation=continuation)


def issuer_name(group_id: str, generation: int) -> str:
    """Name the issuing CA of a group, fit to be a vault key's name: letters, digits and dashes."""
    plain = re.sub(r"[^a-z0-9]+", "-", group_id).strip("-")
    if plain != group_id or len(plain) > _ISSUER_NAME_LIMIT:
        plain = f"{plain[:_ISSUER_NAME_LIMIT]}-{sha256(group_id.encode()).hexdigest()[:8]}".strip("-")
    return f"{plain}-ca{generation}"


def _signs_devices(authority: IssuerRecord) -> bool:
    return authority.kind is CertificateKind.INTERMEDIATE and authority.path_length == 0


def _updated(entry: Entry, request: EnrollmentGroupRequest) -> Entry:
    changed = with_values(entry, values_of(request))
    return with_references(changed, request.ca_references) if request.ca_references else changed


def _body(group_id: str, definition: EnrollmentGroupDefinition, attestation: dict[str, Any]) -> Entry:
    defaults = {
        "enrollmentGroupId": group_id,
        "attestation": attestation,
        "provisioningStatus": "enabled",
        "allocationPolicy": "hashed",
        "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
    }
    return with_values(defaults, values_of(definition))


def _summary(record: GroupRecord) -> dict[str, Any]:
    return {
        "enrollmentGroup": record.enrollment_group,
        "state": record.state,
        "issuer": record.issuer,
        "previousIssuer": record.previous_issuer,
        "rollover": summary(record.rollover) if record.rollover else None,
        "updatedAt": record.updated_at,
    }
