"""Rollover: a new issuing CA takes over in an enrollment group, and no device is cut off.

The next CA is made and put into DPS as ``secondary``; only then do new certificates come from it. While a certificate
of the old CA may be in use, DPS accepts both (Microsoft: "How to roll X.509 device certificates"). When none is left,
the old CA is taken out, and the new one becomes ``primary``.

Each step finds what an earlier attempt did. An attempt that broke off is carried on by its own message, or else by the
sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.domain.certificates import DECISION_HOLDS
from shared.domain.entries import check_alone, check_etag, with_next, without_previous
from shared.domain.groups import GroupState, Rollover, RolloverState
from shared.domain.words import CertificateKind, EventType
from shared.errors import Conflict, Deferred, Rejected
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.groups.entries import busy, change_entry, read_entry

if TYPE_CHECKING:
    from shared.domain.groups import GroupRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.groups import Groups
    from shared.ledger.table import Versioned
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.creation import AuthorityCreation
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.intake.outbox import Clock, Outbox

SETTLING = 2 * DECISION_HOLDS
"""So long after the new CA took over, the old one may still sign; doubled, since workers' clocks differ."""

COUNT_LIMIT = 10_000
"""Certificates that are counted to show the progress of a rollover."""


@dataclass(frozen=True, slots=True)
class Rollovers:
    """Begins rollovers, carries them on, and ends them."""

    groups: Groups
    certificates: Certificates
    authorities: CertificateAuthorities
    creation: AuthorityCreation
    provisioning: ProvisioningService
    outbox: Outbox
    clock: Clock

    async def roll(
        self,
        known: Versioned[GroupRecord],
        request_id: str,
        *,
        target: str | AuthorityDefinition,
    ) -> GroupRecord:
        """Let another issuing CA take over.

        Args:
            known: the group.
            request_id: of the request that asks for it.
            target: name of the CA that is to take over, or what it is to be if it has to be made.

        Raises:
            Conflict: it is another group's, or the group does not hold what this app put there.
        """
        record = known.record
        name, definition = (target, None) if isinstance(target, str) else (target.name, target)
        rollover = Rollover(
            source=record.issuer,
            target=name,
            parent=definition.parent if definition else None,
            custody=definition.custody if definition else None,
            state=RolloverState.PREPARING,
            request=request_id,
            started_at=self.clock(),
        )
        # Ahead of every step, so that a second rollover is refused and a broken-off one is found.
        return await self._prepare(await self._enter(known, rollover, generation=record.generation + 1))

    async def resume(self, known: Versioned[GroupRecord]) -> GroupRecord:
        """Carry on a rollover whose request comes again; errors are those of :meth:`roll`."""
        preparing = _of(known.record).state is RolloverState.PREPARING
        return await self._prepare(known) if preparing else known.record

    async def check_ready(self, record: GroupRecord, *, if_match: str | None = None) -> None:
        """See that another issuing CA may take over in a group.

        Args:
            record: the group.
            if_match: the ETag that its entry is expected to have.

        Raises:
            PreconditionFailed: it has another.
            Conflict: a rollover is under way, or the group does not hold what this app put there.
        """
        group_id, present = record.enrollment_group, record.rollover
        if present is not None and present.under_way:
            raise Conflict.because(
                f"a rollover of {group_id!r} from {present.source!r} to {present.target!r} is under way since "
                f"{present.started_at:%Y-%m-%d %H:%M} UTC, and DPS holds two issuing CAs of a group at a time; roll "
                f"again when {present.source!r} is retired, after its last certificate has expired or was superseded "
                "or revoked",
                field="action",
            )
        if record.state is GroupState.REQUESTED:
            raise Conflict.because(
                f"the enrollment group {group_id!r} is not made yet; roll it when its state is 'enabled'",
                field="enrollmentGroup",
            )
        entry = await read_entry(self.provisioning, group_id)
        check_etag(f"the enrollment group {group_id!r}", entry["etag"], if_match)
        check_alone(entry, (await self.authorities.load(record.issuer)).certificate if record.issuer else None)

    async def _prepare(self, known: Versioned[GroupRecord]) -> GroupRecord:
        """Make the next CA, have DPS accept it, and only then issue from it."""
        record = known.record
        rollover = _of(record)
        try:
            # Once more, now that others see the intent: of two that want the same CA at a time, none gets it unseen.
            await check_free(self.groups, record.enrollment_group, rollover.target)
            await self._make(record, rollover)
            source, target = await self._load(rollover)
            await change_entry(
                self.provisioning, record.enrollment_group, partial(with_next, source=source, target=target)
            )
        except Rejected:
            await self._enter(known, None)  # it can never succeed: another one may be asked for
            raise
        rolling = rollover.model_copy(update={"state": RolloverState.ROLLING, "rolling_since": self.clock()})
        entered = await self._enter(known, rolling, issuer=rollover.target, previous_issuer=rollover.source)
        return entered.record

    async def _make(self, record: GroupRecord, rollover: Rollover) -> None:
        if rollover.parent is None or rollover.custody is None:
            return
        definition = AuthorityDefinition(
            name=rollover.target,
            kind=CertificateKind.INTERMEDIATE,
            parent=rollover.parent,
            enrollment_group=record.enrollment_group,
            custody=rollover.custody,
        )
        await self.creation.ensure(definition, cause=rollover.request)

    async def _load(self, rollover: Rollover) -> tuple[Any, Any]:
        source, target = await self.authorities.load(rollover.source), await self.authorities.load(rollover.target)
        return source.certificate, target.certificate

    async def _enter(
        self, known: Versioned[GroupRecord], rollover: Rollover | None, **changes: Any
    ) -> Versioned[GroupRecord]:
        request = {"last_request": rollover.request} if rollover else {}
        record = known.record.changed(rollover=rollover, updated_at=self.clock(), **request, **changes)
        entered = await self.groups.replace(known, record)
        if entered is None:
            raise busy(record.enrollment_group)
        return entered

    # --- the sweep ---

    async def sweep(self) -> dict[RolloverState, int]:
        """Carry on what broke off, and retire CAs whose last certificate has ended.

        A group that can't go on does not stop the others; its rollover shows why.

        Returns:
            How many rollovers are in which state now, of those that were under way.

        Raises:
            ExceptionGroup: services failed; every group was tried.
        """
        states = dict.fromkeys(RolloverState, 0)
        failures: list[Exception] = []
        async for record in self.groups.list():
            if record.state is GroupState.DELETED or record.rollover is None or not record.rollover.under_way:
                continue
            try:
                states[await self._carry_on(record.enrollment_group)] += 1
            except Deferred:
                states[record.rollover.state] += 1  # somebody is at it; the next sweep looks again
            except Exception as error:  # noqa: BLE001 - the other groups come first, then it is raised
                failures.append(error)
        if failures:
            raise ExceptionGroup("rollovers could not go on", failures)
        return states

    async def _carry_on(self, group_id: str) -> RolloverState:
        known = await self.groups.get(group_id)
        if known is None or known.record.rollover is None:
            return RolloverState.RETIRED
        try:
            if known.record.rollover.state is RolloverState.PREPARING:
                record = await self._prepare(known)
                await self._announce(record, "roll", record.issuer)
                return RolloverState.ROLLING
            return await self._retire(known)
        except Rejected as rejection:
            await self._note(group_id, str(rejection))
            return known.record.rollover.state

    async def _retire(self, known: Versioned[GroupRecord]) -> RolloverState:
        record, rollover = known.record, _of(known.record)
        now = self.clock()
        since = rollover.rolling_since or rollover.started_at
        if now - since < SETTLING or await self.certificates.any_in_force(rollover.source, now):
            return rollover.state
        source, target = await self._load(rollover)
        await change_entry(
            self.provisioning, record.enrollment_group, partial(without_previous, source=source, target=target)
        )
        await self._announce(record, "retire", record.issuer)
        retired = rollover.model_copy(update={"state": RolloverState.RETIRED, "retired_at": now, "problem": None})
        await self._enter(known, retired, previous_issuer=None)
        return RolloverState.RETIRED

    async def _note(self, group_id: str, problem: str) -> None:
        known = await self.groups.get(group_id)
        if known is None or known.record.rollover is None or known.record.rollover.problem == problem:
            return
        noted = known.record.rollover.model_copy(update={"problem": problem[:1000]})
        # If the row has changed, somebody is at the rollover; the next sweep sees whether it is still there.
        await self.groups.replace(known, known.record.changed(rollover=noted))

    async def _announce(self, record: GroupRecord, action: str, issuer: str) -> None:
        rollover = _of(record)
        await self.outbox.publish(
            EventType.ENROLLMENT_GROUP_CHANGED,
            subject=record.enrollment_group,
            correlation_id=rollover.request,
            data={
                "enrollmentGroup": record.enrollment_group,
                "action": action,
                "state": record.state,
                "issuer": issuer,
            },
            occasion="retired" if action == "retire" else "",
        )

    # --- reading ---

    async def describe(self, record: GroupRecord) -> dict[str, Any] | None:
        """Show how far a group's rollover is, ``None`` if it has none."""
        rollover = record.rollover
        if rollover is None:
            return None
        left = 0
        if rollover.under_way:
            left = await self.certificates.count_in_force(rollover.source, self.clock(), limit=COUNT_LIMIT)
        return {**summary(rollover), "certificatesLeft": left, "moreLeft": left == COUNT_LIMIT}


async def check_free(groups: Groups, group_id: str, authority: str, *, by_reference: bool = False) -> None:
    """See that no other group has a CA: DPS would register the devices of both in one of them.

    Groups that attest by reference share a CA, since it is in none of them.

    Args:
        groups: all groups.
        group_id: the one that is to have it.
        authority: name of the CA.
        by_reference: whether that group attests by reference.

    Raises:
        Conflict: another one has it.
    """
    async for other in groups.list():
        shared = by_reference and other.ca_references is not None
        if other.enrollment_group == group_id or other.state is GroupState.DELETED or shared:
            continue
        if authority in other.authorities:
            raise Conflict.because(
                f"{authority!r} is an issuing CA of the enrollment group {other.enrollment_group!r}, and DPS finds a "
                "device's group by its CA; name another, or leave it out to have one made",
                field="issuer",
            )


def summary(rollover: Rollover) -> dict[str, Any]:
    """Show a rollover, as far as the ledger's row has it."""
    return {
        "from": rollover.source,
        "to": rollover.target,
        "state": rollover.state,
        "startedAt": rollover.started_at,
        "retiredAt": rollover.retired_at,
        "problem": rollover.problem,
    }


def _of(record: GroupRecord) -> Rollover:
    if record.rollover is None:
        raise RuntimeError(f"the enrollment group {record.enrollment_group!r} has no rollover")
    return record.rollover
