"""Acts on CAs that are there: checked, shown beforehand, entered into the CA's row in one write, and brought about."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared import acting
from shared.contracts.authorities import AuthorityPreview, RenewedKey
from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.contracts.messages import Queue
from shared.domain.authorities import OPENED, AuthorityAction, AuthorityState
from shared.domain.authority_acts import BECOMES, SHUTTING, Wanted, check_possible, decided, is_decided
from shared.domain.certificates import DECISION_HOLDS
from shared.domain.repetition import Concerned, check_repeated, is_to_be_repeated
from shared.errors import Conflict, Deferred, Overtaken
from shared.rules.number_words import number_of
from shared.workflows.authorities.changes import authority_of
from shared.workflows.authorities.effects import effects_of
from shared.workflows.intake.deliveries import once
from shared.workflows.intake.requests import led_to_by, submit

if TYPE_CHECKING:
    from shared.contracts.authorities import AuthorityAct
    from shared.domain.authorities import AuthorityRecord
    from shared.domain.requests import RequestRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.requests import Requests
    from shared.settings import Settings
    from shared.workflows.authorities.certifying import AuthorityCertifying
    from shared.workflows.authorities.convergence import AuthorityConverger
    from shared.workflows.authorities.reach import AuthorityReach, Reached
    from shared.workflows.intake.outbox import Clock, Outbox

_ATTEMPTS = 10

CERTIFYING = frozenset({AuthorityAction.RENEW, AuthorityAction.CROSS_SIGN})
"""Acts that give a CA another certificate, or its groups another CA."""

SETTLING = 2 * DECISION_HOLDS
"""So long after a CA was told to sign nothing, what was decided before may still be signed; doubled for slow clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityActs:
    """Carries out acts on CAs."""

    requests: Requests
    records: Authorities
    certificates: Certificates
    reach: AuthorityReach
    converger: AuthorityConverger
    certifying: AuthorityCertifying
    outbox: Outbox
    settings: Settings
    clock: Clock

    async def foresee(self, act: AuthorityAct) -> None:
        """See what of an act can't succeed as things are, for a caller who waits for the answer.

        Raises:
            NotFound: the CA does not exist.
            Conflict: its state, or what hangs on it, does not allow the act, or the number of devices is not repeated.
        """
        record = (await authority_of(self.records, act.name)).record
        with suppress(Deferred):  # certificates of it may be under way: the request waits for them in its queue
            await self._check(act, record)

    async def preview(self, name: str, action: AuthorityAction) -> AuthorityPreview:
        """Show what an act would do, and to how many; what a revocation takes is for who knows the devices.

        Raises:
            NotFound: the CA does not exist.
            Conflict: its state, or what hangs on it, does not allow the act.
        """
        record = (await authority_of(self.records, name)).record
        check_possible(record, action)
        reached = await self.reach.of(name)
        if action is AuthorityAction.DELETE:
            await self._check_deletion(record, reached)
        return AuthorityPreview(
            name=name,
            action=action,
            state=record.state,
            becomes=BECOMES[action],
            authorities=list(reached.authorities),
            enrollment_groups=list(reached.groups),
            devices=reached.devices,
            more_devices=reached.more,
            unknown_certificates=reached.unseen,
            repeat_devices=action is AuthorityAction.REVOKE
            and is_to_be_repeated(self._concerned(name, reached), self.settings.unrepeated_devices),
            effects=list(effects_of(record, action, reached)),
            plan=None,
        )

    async def carry_out(self, act: AuthorityAct) -> None:
        """Enter an act into the CA's row, and have everything follow.

        Raises:
            NotFound, Conflict: as :meth:`foresee`.
            Deferred: certificates of it may be under way, or others are at it.
            LedgerBehind: the act does not shut anything, and the ledger is an older one.
        """
        if act.action not in SHUTTING:
            # It may not know that the CA has ended since, or who needs it by now; and a deleted key is gone.
            await self.converger.check_ledger()
        async with once(self.requests, Queue.ENROLLMENT_GROUP_REQUESTS, act, self.clock) as to_do:
            if to_do is None:
                return
            await self._decide(act, to_do)
            await self._bring_about(act)

    async def _bring_about(self, act: AuthorityAct) -> None:
        """Have everything follow what was decided. What shuts does not wait for what the CA lacks besides."""
        if act.action in SHUTTING:
            await self.converger.follow(act.name)
        else:
            await self.converger.converge(act.name)

    async def _decide(self, act: AuthorityAct, accepted: RequestRecord) -> None:
        for _ in range(_ATTEMPTS):
            known = await authority_of(self.records, act.name)
            record = known.record
            if is_decided(record, act.request_id):
                return
            if record.change is not None:
                await self._bring_about(act)  # what was decided before comes first
                continue
            await self._check(act, record)
            if act.action in CERTIFYING:
                if act.key is RenewedKey.NEW:
                    await self._roll(act, accepted)
                else:
                    await self.certifying.certify(known, act)
                return
            groups = await self.reach.groups_under(act.name)
            wanted = Wanted(
                act.request_id,
                act.action,
                reason=act.reason,
                comment=act.comment or acting.comment(),
                groups=groups,
                actor=acting.actor(),
                per_minute=act.per_minute,
            )
            if await self.records.try_replace(known, decided(record, wanted, self.clock())) is not None:
                return
        raise Overtaken(f"{act.name!r} is being changed by others")

    async def _roll(self, act: AuthorityAct, accepted: RequestRecord) -> None:
        """Ask for the next CA of each group that has this one."""
        for group in await self.reach.groups_of(act.name):
            if group.issuer != act.name:
                continue
            roll = EnrollmentGroupRequest(
                request_id=led_to_by(accepted, "renewed-ca", group.enrollment_group),
                enrollment_group=group.enrollment_group,
                action=GroupAction.ROLL,
            )
            await submit(self.requests, self.outbox, Queue.ENROLLMENT_GROUP_REQUESTS, roll, self.clock)

    async def _check(self, act: AuthorityAct, record: AuthorityRecord) -> None:
        if act.action in CERTIFYING and act.key is not RenewedKey.NEW:
            await self.certifying.check(act, record)
            return
        if act.action in CERTIFYING:
            if not any(each.issuer == act.name for each in await self.reach.groups_of(act.name)):
                raise Conflict.because(
                    f"no enrollment group has {act.name!r} as its issuing CA; with a new key it is another CA: have "
                    "one made, and roll the groups below to CAs of that one",
                    field="key",
                )
            return
        check_possible(record, act.action)
        if record.state is BECOMES[act.action]:
            return
        if act.action is AuthorityAction.REVOKE:
            concerned = self._concerned(act.name, await self.reach.of(act.name))
            check_repeated(concerned, act.devices, allowed=self.settings.unrepeated_devices)
        if act.action is AuthorityAction.DELETE:
            await self._check_deletion(record, await self.reach.of(act.name))
            self._check_settled(record)

    def _concerned(self, name: str, reached: Reached) -> Concerned:
        return Concerned(f"the CA {name!r} has", reached.devices, reached.more)

    def _check_settled(self, record: AuthorityRecord) -> None:
        """Wait for certificates that were decided on before the CA was told to sign nothing."""
        over = record.since + SETTLING if record.since is not None else None
        if over is not None and self.clock() < over:
            raise Deferred(
                f"certificates of {record.name!r} may be under way, since it is {record.state} for less than "
                f"{SETTLING.seconds} seconds",
                retry_after=max(over - self.clock(), timedelta(seconds=1)),
            )

    async def _check_deletion(self, record: AuthorityRecord, reached: Reached) -> None:
        """See that nobody needs a CA any more: whoever has a certificate of it needs its lists."""
        name, reasons = record.name, list[str]()
        if groups := await self.reach.groups_of(name):
            reasons.append(f"it is a CA of the enrollment groups {_listed(each.enrollment_group for each in groups)}")
        below = [each.name for each in await self.reach.below(name) if self._lives(each)]
        if below:
            reasons.append(f"the CAs {_listed(below)} have certificates of it in force")
        if certain := reached.devices - reached.unseen:
            devices = number_of(certain, "device", more=reached.more)
            reasons.append(f"{devices} {'has a certificate' if devices == '1 device' else 'have certificates'} of it")
        elif record.state is not AuthorityState.REVOKED and await self._lists_somebody(name):
            reasons.append("revoked certificates of it have not expired, and stand on its list until then")
        if reasons:
            raise Conflict.because(f"{name!r} can't be deleted: {'; '.join(reasons)}", field="name")

    def _lives(self, record: AuthorityRecord) -> bool:
        return record.state in OPENED and record.not_after is not None and record.not_after >= self.clock()

    async def _lists_somebody(self, name: str) -> bool:
        return any([each.not_after >= self.clock() async for each in self.certificates.revoked_by(name)])


def _listed(names: Any) -> str:
    return ", ".join(map(repr, sorted(names)))
