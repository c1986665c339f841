"""Enrollment groups: made with their own issuing CA, changed under their ETag, rolled over, deleted.

Requests about one group take turns, and each thing that can be set remembers when its value was asked for: so what was
asked for last is what stays, in whatever order queues deliver.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.contracts.groups import GroupAction
from shared.contracts.messages import Queue
from shared.domain.attestations import (
    attests_by_certificates,
    reference_attestation,
    same_attestation,
    x509_attestation,
)
from shared.domain.entries import check_conditions, values_of, with_references, with_values
from shared.domain.groups import CREATED, EXISTENCE, STATUS, GroupRecord, GroupState, Turn
from shared.domain.words import EventType
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Rejected
from shared.ports.provisioning import ANY_VERSION
from shared.workflows.groups.entries import busy, change_entry, check_hubs, check_references, read_entry
from shared.workflows.groups.rollovers import summary
from shared.workflows.intake.requests import is_repeated, once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime

    from shared.contracts.groups import EnrollmentGroupDefinition, EnrollmentGroupRequest
    from shared.domain.attestations import Entry
    from shared.domain.groups import CaReferences
    from shared.ledger.groups import Groups
    from shared.ledger.requests import Requests
    from shared.ledger.table import Versioned
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.creation import AuthorityCreation
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.records import AuthorityDefinition
    from shared.workflows.groups.issuers import GroupIssuers
    from shared.workflows.groups.rollovers import Rollovers
    from shared.workflows.intake.outbox import Clock, Outbox

GROUP_LIMIT = 100
"""X.509 enrollment groups of one DPS (Microsoft: "Azure IoT DPS limits")."""

_TURN = timedelta(minutes=2)
_REFERENCES = "caReferences"
_ACTIONS = {GroupAction.PUT: GroupAction.UPDATE}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and when it was made."""

    request: EnrollmentGroupRequest
    at: datetime

    @property
    def group(self) -> str:
        return self.request.enrollment_group

    def is_late(self, record: GroupRecord, what: str) -> bool:
        """Tell whether something later is carried out. Who names an ETag has seen what was before, and that decides."""
        return self.request.if_match in {None, ANY_VERSION} and record.overtaken(what, self.at)


@dataclass(frozen=True, slots=True)
class EnrollmentGroups:
    """Carries out requests about enrollment groups."""

    groups: Groups
    requests: Requests
    authorities: CertificateAuthorities
    creation: AuthorityCreation
    issuers: GroupIssuers
    rollovers: Rollovers
    provisioning: ProvisioningService
    resource: DpsCaCertificates | None
    outbox: Outbox
    clock: Clock

    async def carry_out(self, request: EnrollmentGroupRequest, *, asked_at: datetime | None = None) -> None:
        """Do what a request asks for. What was asked for later, and is carried out already, stays as it is.

        Args:
            request: what is wanted.
            asked_at: when it was asked for; without it, now.

        Raises:
            NotFound: the group, or the issuer, does not exist.
            Conflict: the group exists with another definition, or the request id was used with other content.
            PreconditionFailed: the group's entry has another ETag.
            Rejected: DPS refuses the group, or has as many as it takes.
            Deferred: another request about the group has its turn.
        """
        async with once(
            self.requests, Queue.ENROLLMENT_GROUP_REQUESTS, request, self.clock, asked_at=asked_at
        ) as to_do:
            if to_do is None:
                return
            asked = _Asked(request, to_do.received_at)
            action, known = await self._begin(asked)
            try:
                record = await self._step(action)(asked, known)
            except Exception as error:
                await self._give_back(asked, unmade=action is GroupAction.CREATE and isinstance(error, Rejected))
                raise
            await self._announce(request, _ACTIONS.get(action, action), record)

    def _step(self, action: GroupAction) -> Callable[[_Asked, Versioned[GroupRecord]], Awaitable[GroupRecord]]:
        steps: dict[GroupAction, Callable[[_Asked, Versioned[GroupRecord]], Awaitable[GroupRecord]]] = {
            GroupAction.CREATE: self._create,
            GroupAction.PUT: self._update,
            GroupAction.UPDATE: self._update,
            GroupAction.DISABLE: self._switch,
            GroupAction.ENABLE: self._switch,
            GroupAction.ROLL: self._roll,
            GroupAction.DELETE: self._delete,
        }
        return steps[action]

    async def _announce(self, request: EnrollmentGroupRequest, action: GroupAction, record: GroupRecord) -> None:
        await self.outbox.publish(
            EventType.ENROLLMENT_GROUP_CHANGED,
            subject=record.enrollment_group,
            correlation_id=request.request_id,
            data={
                "enrollmentGroup": record.enrollment_group,
                "action": action,
                "state": record.state,
                "issuer": record.issuer,
                **({} if request.request_id in _carried_out(record) else {"overtaken": True}),
            },
        )

    # --- turns ---

    async def _begin(self, asked: _Asked) -> tuple[GroupAction, Versioned[GroupRecord]]:
        """Decide what is to be done, and take the turn."""
        request, known = asked.request, await self.groups.get(asked.group)
        action = request.action
        if action is GroupAction.PUT and _is_new(known, request):
            action = GroupAction.CREATE
        if action is GroupAction.CREATE:
            return action, await self._claim(asked, known)
        again = known is not None and known.record.last_request == request.request_id
        if known is None or (known.record.state is GroupState.DELETED and not again):
            raise _unknown(asked.group)
        return action, await self._take_turn(asked, known)

    async def _take_turn(self, asked: _Asked, known: Versioned[GroupRecord]) -> Versioned[GroupRecord]:
        turn = known.record.turn
        if turn is not None and turn.request != asked.request.request_id and turn.until > self.clock():
            raise busy(asked.group)
        if asked.request.action is GroupAction.ROLL:
            return known  # a rollover records its own intent, under the row's ETag
        return await self._replace(known, turn=self._turn(asked))

    def _turn(self, asked: _Asked) -> Turn:
        return Turn(request=asked.request.request_id, until=self.clock() + _TURN)

    async def _give_back(self, asked: _Asked, *, unmade: bool) -> None:
        """End the turn of a request that did not get to its end; a group that can't be made does not exist."""
        known = await self.groups.get(asked.group)
        if known is None or known.record.turn is None or known.record.turn.request != asked.request.request_id:
            return
        gone = unmade and known.record.state is GroupState.REQUESTED
        state = GroupState.DELETED if gone else known.record.state
        # If the row has changed, others have taken the turn over, and what they do with it is theirs.
        await self.groups.replace(known, known.record.changed(turn=None, state=state))

    async def _replace(self, known: Versioned[GroupRecord], **changes: Any) -> Versioned[GroupRecord]:
        replaced = await self.groups.replace(known, known.record.changed(**changes))
        if replaced is None:
            raise busy(known.record.enrollment_group)
        return replaced

    async def _entered(
        self, asked: _Asked, known: Versioned[GroupRecord], what: Iterable[str] = (), **changes: Any
    ) -> GroupRecord:
        """Record what a request has changed, and when it was asked for; its turn ends."""
        times = {**known.record.asked, **{each: max(asked.at, known.record.asked.get(each, asked.at)) for each in what}}
        entered = await self._replace(
            known,
            updated_at=self.clock(),
            last_request=asked.request.request_id,
            turn=None,
            asked=times,
            **changes,
        )
        return entered.record

    async def _released(self, known: Versioned[GroupRecord]) -> GroupRecord:
        return (await self._replace(known, turn=None)).record

    # --- create ---

    async def check(self, definition: EnrollmentGroupDefinition) -> None:
        """Check what a definition names in the DPS.

        Raises:
            Rejected: a hub is not linked, or a CA not verified.
        """
        await check_hubs(self.resource, definition)
        await check_references(self.resource, definition.ca_references)

    async def _claim(self, asked: _Asked, known: Versioned[GroupRecord] | None) -> Versioned[GroupRecord]:
        """Take the group's id for a request, or find that an earlier attempt took it."""
        if known is None or known.record.state is GroupState.DELETED:
            if known is not None and asked.is_late(known.record, EXISTENCE):
                return known
            return await self._record(asked, known)
        if known.record.state is GroupState.REQUESTED:
            return await self._take_turn(asked, known)
        if known.record.created_by == asked.request.request_id:
            return known
        raise Conflict.because(
            f"the enrollment group {asked.group!r} exists; change it with action 'update', or 'put'",
            field="enrollmentGroup",
        )

    async def _record(self, asked: _Asked, deleted: Versioned[GroupRecord] | None) -> Versioned[GroupRecord]:
        # Checked before anything is recorded: a request that can't be carried out must leave no trace.
        request, generation = asked.request, _next_generation(deleted)
        wanted = await self._check_new(request, generation)
        record = GroupRecord(
            enrollment_group=asked.group,
            state=GroupState.REQUESTED,
            issuer=wanted if isinstance(wanted, str) else wanted.name,
            updated_at=self.clock(),
            last_request=request.request_id,
            generation=generation,
            turn=self._turn(asked),
        )
        made = await (self.groups.replace(deleted, record) if deleted else self.groups.insert(record))
        if made is None:
            raise busy(asked.group)
        return made

    async def _check_new(self, request: EnrollmentGroupRequest, generation: int) -> str | AuthorityDefinition:
        """See that a group can be made, and give what is to sign for it."""
        check_conditions(_named(request.enrollment_group), None, request.if_match)
        await self.check(request)
        wanted = await self.issuers.first(request, generation)
        await self._check_place(request.enrollment_group)
        entry = await self.provisioning.get_group(request.enrollment_group)
        if entry is not None and not await self._is_wanted(entry, request, wanted):
            raise Conflict.because(
                f"the DPS has an enrollment group {request.enrollment_group!r} that this app did not make, and its "
                "devices are let in by other CAs; delete it there, or take another id",
                field="enrollmentGroup",
            )
        return wanted

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

    async def _is_wanted(
        self, entry: Entry, request: EnrollmentGroupRequest, wanted: str | AuthorityDefinition
    ) -> bool:
        """Tell whether an entry that DPS has already accepts what a new group is to accept."""
        if not isinstance(wanted, str):
            return False  # its CA is still to be made
        attestation = await self._attestation(request.ca_references, wanted)
        return same_attestation(entry, _new(request.enrollment_group, attestation))

    async def _create(self, asked: _Asked, known: Versioned[GroupRecord]) -> GroupRecord:
        request = asked.request
        if known.record.state is not GroupState.REQUESTED:
            return known.record  # made by an earlier attempt; or deleted by what was asked for later
        # Once more, now that others see which CA it takes: of two groups that want the same, none gets it unseen.
        issuer = await self.issuers.first(request, known.record.generation)
        if not isinstance(issuer, str):
            await self.creation.ensure(issuer, cause=request.request_id)
            issuer = issuer.name
        attestation = await self._attestation(request.ca_references, issuer)
        await self._put_new(with_values(_new(asked.group, attestation), values_of(request)))
        return await self._entered(
            asked,
            known,
            (CREATED, EXISTENCE),
            state=GroupState.ENABLED,
            issuer=issuer,
            previous_issuer=None,
            ca_references=request.ca_references,
            created_by=request.request_id,
        )

    async def _attestation(self, references: CaReferences | None, *issuers: str) -> Entry:
        if references is not None:
            return reference_attestation(references.primary, references.secondary)
        return x509_attestation(*[(await self.authorities.load(issuer)).certificate for issuer in issuers])

    async def _put_new(self, body: Entry) -> None:
        """Create the group in DPS. One with the same CA, by an earlier attempt or by others, becomes what is wanted."""
        try:
            await self.provisioning.put_group(body)
        except (Conflict, PreconditionFailed):
            present = await self.provisioning.get_group(body["enrollmentGroupId"])
            if present is None or not same_attestation(present, body):
                raise
            wanted = {name: value for name, value in body.items() if name != "attestation"}
            await change_entry(self.provisioning, body["enrollmentGroupId"], lambda entry: {**entry, **wanted})

    # --- changes ---

    async def _update(self, asked: _Asked, known: Versioned[GroupRecord]) -> GroupRecord:
        request, record = asked.request, known.record
        self._check_made(record)
        await self.check(request)
        references = request.ca_references or (record.ca_references if request.issuer else None)
        changes: dict[str, Any] = {}
        if references is None:
            await self.issuers.check_kept(request, record)
        elif not asked.is_late(record, _REFERENCES):
            issuer = await self.issuers.below(asked.group, references, request.issuer or record.issuer or None)
            changes = {"issuer": issuer, "ca_references": references}
        values = {place: value for place, value in values_of(request).items() if not asked.is_late(record, place)}
        if request.action is GroupAction.PUT:
            await self._restore(record, request)
        await self._change(request, lambda entry: _updated(entry, values, changes.get("ca_references")))
        what = (
            *values,
            *([_REFERENCES] if changes else []),
            *([EXISTENCE] if request.action is GroupAction.PUT else []),
        )
        return await self._entered(asked, known, what, **changes)

    async def _restore(self, record: GroupRecord, request: EnrollmentGroupRequest) -> None:
        """Put a group back that others took out of DPS, with the CAs whose devices it has."""
        entry = await self.provisioning.get_group(record.enrollment_group)
        etag = entry["etag"] if entry else None
        check_conditions(
            _named(record.enrollment_group), etag, None if entry else request.if_match, request.if_none_match
        )
        if entry is None:
            references = request.ca_references or record.ca_references
            issuers = filter(None, (record.previous_issuer, record.issuer))
            body = _new(record.enrollment_group, await self._attestation(references, *issuers))
            await self._put_new({**body, STATUS: record.state.value})

    async def _change(self, request: EnrollmentGroupRequest, change: Callable[[Entry], Entry]) -> None:
        await change_entry(self.provisioning, request.enrollment_group, change, if_match=request.if_match)

    async def _switch(self, asked: _Asked, known: Versioned[GroupRecord]) -> GroupRecord:
        self._check_made(known.record)
        if asked.is_late(known.record, STATUS):
            return await self._released(known)
        state = GroupState.ENABLED if asked.request.action is GroupAction.ENABLE else GroupState.DISABLED
        await self._change(asked.request, lambda entry: {**entry, STATUS: state.value})
        return await self._entered(asked, known, (STATUS,), state=state)

    def _check_made(self, record: GroupRecord) -> None:
        if record.state is GroupState.REQUESTED:
            raise busy(record.enrollment_group)

    async def _roll(self, asked: _Asked, known: Versioned[GroupRecord]) -> GroupRecord:
        """Let a new issuing CA take over; see :mod:`shared.workflows.groups.rollovers`."""
        request = asked.request
        if known.record.rollover is not None and known.record.rollover.request == request.request_id:
            return await self.rollovers.resume(known)
        target = await self._check_roll(request, known.record)
        return await self.rollovers.roll(known, request.request_id, target=target)

    async def _check_roll(self, request: EnrollmentGroupRequest, record: GroupRecord) -> str | AuthorityDefinition:
        """See that another CA can take over in a group, and give which one."""
        await self.rollovers.check_ready(record, if_match=request.if_match)
        if request.issuer is not None and request.issuer == record.issuer:
            raise Conflict.because(f"{record.issuer!r} is the group's issuing CA already; name another", field="issuer")
        return await self.issuers.following(request, record)

    async def _delete(self, asked: _Asked, known: Versioned[GroupRecord]) -> GroupRecord:
        if asked.is_late(known.record, EXISTENCE):
            return await self._released(known)
        if_match, entry = asked.request.if_match, await self.provisioning.get_group(asked.group)
        if entry is not None:
            check_conditions(_named(asked.group), entry["etag"], if_match)
            await self._delete_entry(asked.group, entry["etag"] if if_match else None)
        return await self._entered(asked, known, (EXISTENCE,), state=GroupState.DELETED)

    async def _delete_entry(self, group_id: str, etag: str | None) -> None:
        try:
            await self.provisioning.delete_group(group_id, etag=etag)
        except PreconditionFailed as changed:
            raise busy(group_id) from changed

    # --- reading ---

    async def is_repeated(self, request: EnrollmentGroupRequest) -> bool:
        """Tell whether a request came before; see :func:`shared.workflows.intake.requests.is_repeated`."""
        return await is_repeated(self.requests, Queue.ENROLLMENT_GROUP_REQUESTS, request)

    async def foresee(self, request: EnrollmentGroupRequest) -> None:
        """See what of a request can't succeed as things are, for a caller who waits for the answer.

        Raises:
            Rejected: what :meth:`carry_out` would raise now.
        """
        known = await self.groups.get(request.enrollment_group)
        if known is not None and known.record.state is GroupState.REQUESTED:
            return  # it is being made: the request waits for it in its queue
        if known is None or known.record.state is GroupState.DELETED:
            if request.action is not GroupAction.PUT:
                raise _unknown(request.enrollment_group)
            with suppress(Deferred):  # a CA that is being made is waited for likewise
                await self._check_new(request, _next_generation(known))
            return
        with suppress(Deferred):
            if request.action is GroupAction.ROLL:
                await self._check_roll(request, known.record)
            elif request.action in {GroupAction.PUT, GroupAction.UPDATE}:
                await self._check_update(request, known.record)
            elif request.action is not GroupAction.DELETE:
                await read_entry(self.provisioning, request.enrollment_group)

    async def _check_update(self, request: EnrollmentGroupRequest, record: GroupRecord) -> None:
        """See that what a request sets can be set."""
        await self.check(request)
        references = request.ca_references or (record.ca_references if request.issuer else None)
        if references is None:
            await self.issuers.check_kept(request, record)
            return
        await self.issuers.below(record.enrollment_group, references, request.issuer or record.issuer or None)
        entry = await self.provisioning.get_group(record.enrollment_group)
        if entry is not None:
            with_references(entry, references)

    async def describe(self, group_id: str) -> dict[str, Any]:
        """Show a group: what the ledger knows of it, and what DPS holds.

        Raises:
            NotFound: it does not exist.
        """
        record = await self._known(group_id)
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

    async def _known(self, group_id: str) -> GroupRecord:
        known = await self.groups.get(group_id)
        if known is None or known.record.state is GroupState.DELETED:
            raise _unknown(group_id)
        return known.record


def _is_new(known: Versioned[GroupRecord] | None, request: EnrollmentGroupRequest) -> bool:
    """Tell whether a request is to make its group; also when it comes again after it did."""
    if known is None or known.record.state in {GroupState.DELETED, GroupState.REQUESTED}:
        return True
    return known.record.created_by == request.request_id


def _next_generation(before: Versioned[GroupRecord] | None) -> int:
    """Give how often the issuing CA of a group will have been made."""
    return before.record.generation + 1 if before else 1


def _carried_out(record: GroupRecord) -> set[str]:
    """Give the requests that a record is known to come from; any other one was overtaken."""
    return {record.last_request, record.created_by, *([record.rollover.request] if record.rollover else [])}


def _named(group_id: str) -> str:
    return f"the enrollment group {group_id!r}"


def _unknown(group_id: str) -> Rejected:
    return NotFound.because(f"the enrollment group {group_id!r} does not exist", field="enrollmentGroup")


def _updated(entry: Entry, values: dict[str, Any], references: CaReferences | None) -> Entry:
    changed = with_values(entry, values)
    return with_references(changed, references) if references else changed


def _new(group_id: str, attestation: Entry) -> Entry:
    return {
        "enrollmentGroupId": group_id,
        "attestation": attestation,
        STATUS: "enabled",
        "allocationPolicy": "hashed",
        "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
    }


def _summary(record: GroupRecord) -> dict[str, Any]:
    return {
        "enrollmentGroup": record.enrollment_group,
        "state": record.state,
        "issuer": record.issuer,
        "previousIssuer": record.previous_issuer,
        "rollover": summary(record.rollover) if record.rollover else None,
        "updatedAt": record.updated_at,
    }
