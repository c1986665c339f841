"""What becomes of findings: they are kept and told, and one at a time sees to each.

Who mends a finding, or adopts it, claims it before: in one guarded write, which says who does what until when. Of two
that come at once the other is told so, and nothing is done for them. A claim ends with the act; that of a worker which
was killed ends when the host would have ended its call, so nobody acts on after their claim.

A finding names the calls about it that failed, until it ends: then the audit log says which were brought about.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.acting import actor, audited
from shared.contracts.events import Drift, DriftFound, DriftMended
from shared.domain.audit_entries import AuditedCall, with_act
from shared.domain.finding_calls import in_effect, is_settled, said_of
from shared.domain.findings import Claim, FindingState, SubjectKind, found
from shared.domain.requests import DELIVERY_LASTS
from shared.domain.treatments import TREATMENTS, FindingKind, Policy
from shared.errors import Conflict, Deferred, DeviceFactoryError, NotFound, Overtaken, Rejected
from shared.telemetry import metrics
from shared.workflows.reconciliation.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from shared.domain.audit_entries import AuditedAct
    from shared.domain.authorities import AuthorityRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.finding_calls import Subject
    from shared.domain.findings import Difference, FindingRecord
    from shared.domain.groups import GroupRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ledger.findings import Findings
    from shared.ledger.groups import Groups
    from shared.ledger.table import Versioned
    from shared.workflows.intake.outbox import Clock, Outbox
    from shared.workflows.reconciliation.mending import Mending
    from shared.workflows.reconciliation.walking import Walk

_log = logging.getLogger(__name__)
_ATTEMPTS, _PROBLEM = 4, 1000
_DONE_BY_THEN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingActs:
    """Keeps findings, and sees to them.

    Attributes:
        walk: looks at things.
        policies: what is done by itself about findings of a kind; about others, nothing.
        took_effect: writes down in the audit log that an act took effect; repeated, it adds nothing.
        check_ledger: sees that the ledger is not an older one: the services know more than that; raises
            ``LedgerBehind``.
    """

    findings: Findings
    devices: Devices
    groups: Groups
    authorities: Authorities
    mending: Mending
    walk: Walk
    outbox: Outbox
    policies: Mapping[FindingKind, Policy]
    took_effect: Callable[[AuditedAct], Awaitable[None]]
    check_ledger: Callable[[], Awaitable[None]]
    clock: Clock

    async def keep(self, difference: Difference, reconciliation_id: str) -> None:
        """Keep a difference, tell it if it is new, and do about it what the policy says."""
        known = await self._note(difference, reconciliation_id)
        if known is None or known.record.state is not FindingState.OPEN:
            return
        if not known.record.told:
            await self._tell(DriftFound, known.record)
            await self._change(difference.finding_id, {"told": True})
        policy = self.policy_of(difference.kind)
        if policy in {Policy.MEND, Policy.ADOPT}:
            await self._by_itself(known.record, policy)

    def policy_of(self, kind: FindingKind) -> Policy:
        """Say what is done by itself about findings of a kind."""
        return Policy.MEND if TREATMENTS[kind].always_mended else self.policies.get(kind, Policy.REPORT)

    async def _note(self, difference: Difference, reconciliation_id: str) -> Versioned[FindingRecord] | None:
        for _ in range(_ATTEMPTS):
            known = await self.findings.get(difference.finding_id)
            now = found(difference, known.record if known else None, at=self.clock(), reconciliation=reconciliation_id)
            is_new = known is None or known.record.occurrence != now.occurrence
            written = await (self.findings.try_replace(known, now) if known else self.findings.try_insert(now))
            if written is not None:
                if is_new:
                    _log.warning("%s: %s: %s; %s: %s", now.kind, now.subject, now.ledger, now.where, now.service)
                    metrics.DRIFT.record(1, {metrics.WHAT: now.kind.value})
                return written
        return None  # others see to it

    async def _by_itself(self, finding: FindingRecord, policy: Policy) -> None:
        try:
            await self.act(finding.finding_id, policy)
        except DeviceFactoryError as error:  # it stays open, and the next pass tries again
            _log.warning("%s of %s can't be put right yet: %s", finding.kind, finding.subject, error)

    async def act(self, finding_id: str, policy: Policy) -> FindingRecord:
        """Mend a finding, or adopt it; asked for again, it is as it was then.

        Raises:
            NotFound: it does not exist.
            Conflict: it is over, in another way.
            Rejected, Deferred: it can't be done, or not yet, or it differs still: the finding says why. Or somebody
                else is about it.
            LedgerBehind: the ledger is an older one.
        """
        await self.check_ledger()
        state = FindingState.MENDED if policy is Policy.MEND else FindingState.ADOPTED
        token = secrets.token_hex(8)
        finding = await self._claim(finding_id, policy, token, unless=state)
        if finding.state is state:
            return finding
        try:
            left = await self.mending.carry_out(finding, policy)
            await self._check_gone(finding, policy)
        except Exception as error:
            await self._give_up(finding_id, token, error)
            raise
        ended = await self.end(finding_id, state, left, token=token)
        if ended.state is FindingState.MENDED:
            await self._tell(DriftMended, ended)
        return ended

    async def _check_gone(self, finding: FindingRecord, policy: Policy) -> None:
        """See, as a pass does, that what was found does not differ any more: acknowledged is not done.

        Raises:
            Deferred: it differs still; or others are changing what it is about, so nothing can be said of it.
        """
        found = {each.finding_id: each for each in await self.walk.again(finding.difference, Budget())}
        still = found.get(finding.finding_id)
        if still is not None:
            done = {Policy.MEND: "mended", Policy.ADOPT: "adopted"}[policy]
            raise Deferred(
                f"the finding is not {done} yet: what was to be done about it is done, and it still differs. The "
                f"ledger says: {still.ledger}; {still.where}: {still.service}. The next pass looks at it again",
                retry_after=_DONE_BY_THEN,
            )
        is_compared = finding.kind is FindingKind.BUNDLE_WITHOUT_CERTIFICATE or is_settled(await self._subject(finding))
        if not is_compared:
            raise Overtaken(f"{finding.subject!r} is being changed by others; the next pass looks at it again")

    async def gone(self, finding_id: str) -> None:
        """End a finding that is not there any more: as calls have asked for it, or as gone by itself.

        It stays while the services do not follow what it is about: nothing is compared then, and it may be there.

        Raises:
            NotFound: it does not exist.
            Deferred: somebody is about it.
        """
        finding = await self.describe_finding(finding_id)
        state, calls = FindingState.GONE, tuple[AuditedCall, ...]()
        if finding.audited:
            subject = await self._subject(finding)
            if not is_settled(subject):
                return
            calls = in_effect(finding, subject)
            state = next((_ASKED[each.act] for each in calls), state)
        ended = await self.end(finding_id, state, calls=calls)
        if ended.state is FindingState.MENDED:
            await self._tell(DriftMended, ended)

    async def _subject(self, finding: FindingRecord) -> Subject | None:
        """Give what a finding is about, as the ledger has it; ``None`` if it does not."""
        known: Versioned[DeviceRecord] | Versioned[GroupRecord] | Versioned[AuthorityRecord] | None
        match finding.subject_kind:
            case SubjectKind.DEVICE:
                known = await self.devices.get(finding.subject)
            case SubjectKind.GROUP:
                known = await self.groups.get(finding.subject)
            case SubjectKind.AUTHORITY:
                known = await self.authorities.get(finding.subject)
        return known.record if known else None

    async def _call(self, finding: FindingRecord, policy: Policy) -> tuple[AuditedCall, ...]:
        """Give the call under way, if an entry of the audit log is about it."""
        entry = audited()
        if entry is None:
            return ()
        said = said_of(finding.kind, await self._subject(finding))
        return (AuditedCall(entry=entry, act=policy.value, said=said),)

    async def close(self, finding_id: str, comment: str) -> FindingRecord:
        """Say of a finding that it may stay as it is, as long as it lasts; asked for again, it is as it was then.

        Raises:
            NotFound: it does not exist.
            Conflict: it is over.
            Deferred: somebody mends it, or adopts it.
        """
        finding = await self.describe_finding(finding_id)
        if finding.state is FindingState.CLOSED:
            return finding
        _check_there(finding)
        return await self.end(finding_id, FindingState.CLOSED, comment)

    async def describe_finding(self, finding_id: str) -> FindingRecord:
        """Show a finding.

        Raises:
            NotFound: it does not exist.
        """
        return (await self._known(finding_id)).record

    async def _known(self, finding_id: str) -> Versioned[FindingRecord]:
        known = await self.findings.get(finding_id)
        if known is None:
            raise NotFound.because(f"the finding {finding_id!r} does not exist", field="id")
        return known

    # --- one at a time ---

    async def _claim(self, finding_id: str, policy: Policy, token: str, *, unless: FindingState) -> FindingRecord:
        """Enter who is about a finding, before anything is done; one that is in a state already is given as it is."""
        for _ in range(_ATTEMPTS):
            known = await self._known(finding_id)
            if known.record.state is unless:
                return known.record
            _check_there(known.record)
            self._check_free(known.record, token)
            now, calls = self.clock(), known.record.audited
            for call in await self._call(known.record, policy):
                calls = with_act(calls, call)
            claim = Claim(token=token, act=policy, since=now, until=now + DELIVERY_LASTS, actor=actor())
            written = await self.findings.try_replace(known, known.record.changed(claim=claim, audited=calls))
            if written is not None:
                return written.record
        raise Overtaken(f"the finding {finding_id!r} is being changed by others")

    def _check_free(self, finding: FindingRecord, token: str | None) -> None:
        """See that nobody else is about a finding. An open door is shut by whoever comes: nothing else can be done.

        Raises:
            Deferred: somebody is.
        """
        claim, acts = finding.claim, token is not None
        if claim is None or claim.token == token or claim.until <= self.clock():
            return
        if acts and finding.treatment.always_mended:
            return
        doing, who = ("mended" if claim.act is Policy.MEND else "adopted"), claim.actor
        raise Deferred(
            f"the finding is being {doing} since {claim.since:%Y-%m-%d %H:%M:%S} UTC by "
            f"{who.name or who.label if who else 'the app itself'}; look at it when that is done, or after "
            f"{claim.until:%H:%M:%S} UTC",
            retry_after=_DONE_BY_THEN,
        )

    async def _give_up(self, finding_id: str, token: str, error: Exception) -> None:
        """Leave a finding to others, and say in it why nothing came of it."""
        for _ in range(_ATTEMPTS):
            known = await self._known(finding_id)
            if known.record.claim is None or known.record.claim.token != token:
                return
            problem = str(error)[:_PROBLEM] if isinstance(error, DeviceFactoryError) else known.record.problem
            own, calls = audited(), known.record.audited
            if isinstance(error, Rejected):  # it will not be done for this call
                calls = tuple(each for each in calls if each.entry != own)
            given_up = known.record.changed(claim=None, problem=problem, audited=calls)
            if await self.findings.try_replace(known, given_up) is not None:
                return

    async def end(
        self,
        finding_id: str,
        state: FindingState,
        comment: str | None = None,
        *,
        token: str | None = None,
        calls: Iterable[AuditedCall] | None = None,
    ) -> FindingRecord:
        """End a finding, or close it, unless it has ended otherwise.

        Args:
            finding_id: its id.
            state: how.
            comment: of who closes it, or what is left to do when it is mended.
            token: of the claim of who has seen to it.
            calls: that were brought about; all that have asked for it to end so, if nothing is said.

        Raises:
            Deferred: somebody else is about it.
        """
        for _ in range(_ATTEMPTS):
            known = await self._known(finding_id)
            if not known.record.lifecycle.follows(known.record.state, state):
                return known.record
            self._check_free(known.record, token)
            await self._write_down(known.record.audited if calls is None else calls, state)
            ended = known.record.ended(state, self.clock(), comment)
            if (written := await self.findings.try_replace(known, ended)) is not None:
                return written.record
        return await self.describe_finding(finding_id)

    async def _write_down(self, calls: Iterable[AuditedCall], state: FindingState) -> None:
        """Have the audit log say which calls asked for what a finding ends with."""
        for each in calls:
            if _ASKED[each.act] is state:
                await self.took_effect(each.entry)

    async def _change(self, finding_id: str, changes: dict[str, object]) -> None:
        known = await self.findings.get(finding_id)
        if known is not None:
            # Who has changed it says the same; else it is told again, by the same event.
            _ = await self.findings.try_replace(known, known.record.changed(**changes))

    async def _tell(self, event: type[Drift], finding: FindingRecord) -> None:
        """Publish an event; the same one however often it is sent."""
        await self.outbox.publish(
            event(
                finding_id=finding.finding_id,
                kind=finding.kind,
                severity=finding.severity,
                subject_kind=finding.subject_kind,
                subject=finding.subject,
                where=finding.where,
                ledger=finding.ledger,
                service=finding.service,
                since=finding.since,
                enrollment_group=finding.enrollment_group,
                certificate_authority=finding.certificate_authority,
            ),
            subject=finding.subject,
            correlation_id=finding.finding_id,
            occasion=str(finding.occurrence),
        )


_ASKED = {Policy.MEND.value: FindingState.MENDED, Policy.ADOPT.value: FindingState.ADOPTED}
"""How a finding ends when what was asked for is so."""

_OVER = {
    FindingState.GONE: "what differed does not differ any more",
    FindingState.MENDED: "it was mended",
    FindingState.ADOPTED: "it was adopted",
}


def _check_there(finding: FindingRecord) -> None:
    """See that a finding is not over.

    Raises:
        Conflict: it is.
    """
    if (why := _OVER.get(finding.state)) is not None:
        at = f"{finding.ended_at:%Y-%m-%d %H:%M} UTC" if finding.ended_at else "a pass"
        raise Conflict.because(f"the finding is over since {at}: {why}, so nothing is left to do about it", field="id")
