"""Enrollment groups and their rollovers, as the ledger keeps them."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, StringConstraints

from shared.domain import lifecycles
from shared.domain.callers import Actor
from shared.domain.record import Part, Record
from shared.domain.words import KeyCustody

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

CaReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-._]{1,64}$")]


class CaReferences(Part):
    """CA certificates by the names under which they are verified in the DPS (DPS: ``caReferences``)."""

    model_config = ConfigDict(extra="forbid")

    primary: CaReference
    secondary: CaReference | None = None


class GroupState(StrEnum):
    """States of an enrollment group."""

    REQUESTED = "requested"
    ENABLED = "enabled"
    DISABLED = "disabled"
    DELETED = "deleted"


CREATED, EXISTENCE, STATUS = "created", "existence", "provisioningStatus"
"""What is asked for of a group beside its settings, as :attr:`GroupRecord.asked` has it."""


class ChangeAction(StrEnum):
    """What is wanted of a group.

    Of its issuing CA, the next one signs when it is rolled, and at last the former one is taken out: it retires.
    """

    CREATE = "create"
    UPDATE = "update"
    DISABLE = "disable"
    ENABLE = "enable"
    ROLL = "roll"
    DELETE = "delete"
    RETIRE = "retire"


_ACTS = 40


class RolloverState(StrEnum):
    """Stages of a rollover."""

    PREPARING = "preparing"
    ROLLING = "rolling"
    RETIRED = "retired"


class Rollover(Part):
    """The change from one issuing CA to the next.

    Attributes:
        source: name of the CA that is leaving.
        target: name of the CA that takes over.
        state: ``preparing`` until new certificates come from the target, ``rolling`` while certificates of the source
            are in use, then ``retired``.
        request: id of the request that asked for it.
        parent: name of the CA that the target is made under; ``None`` if it was there.
        custody: where the target's key is to be, likewise.
        rolling_since: when the target took over.
        problem: why the last attempt to go on did not succeed.
        replaces: the rollover whose target was revoked, until this one's signs.
        refused: whether the target does not take over after all: it is withdrawn when DPS does not hold it any more.
    """

    lifecycle = lifecycles.ROLLOVER

    source: str
    target: str
    state: RolloverState
    request: str
    started_at: datetime
    parent: str | None = None
    custody: KeyCustody | None = None
    rolling_since: datetime | None = None
    retired_at: datetime | None = None
    problem: str | None = None
    replaces: Rollover | None = None
    refused: bool = False

    @property
    def under_way(self) -> bool:
        """Whether DPS may hold both CAs."""
        return self.state is not RolloverState.RETIRED


class Change(Part):
    """What a request wants of a group, from when that was decided until DPS follows.

    Attributes:
        request: its id.
        action: as its event tells it.
        state: the group's state when it is done.
        issuer: name of the CA that signs then.
        decided_at: when it was.
        asked: of each thing that it sets, when that was asked for.
        settings: what it sets, by the place in the entry; ``None`` for what is to be taken out.
        ca_references: what the group is to accept by name, if that is to change.
        renew_automatically: whether its devices are to be renewed by themselves, if that is to change.
        restores: whether the entry is made again if DPS does not have it.
        makes: whether DPS did not have the entry when the change was to be followed, so that it is made for it.
        refused: whether it is not to be after all: it is withdrawn when nobody can let devices in for it any more.
        followed: whether DPS follows it, so that it is only to be told.
        if_match: the ETag that the entry is expected to have.
        if_none_match: the ETag that it is expected not to have.
        parent: name of the CA that the issuing CA is made under; ``None`` if it is there.
        custody: where its key is to be, likewise.
        overtaken: whether what was asked for later is done, so that there is nothing to do.
        actor: who asked.
    """

    request: str
    action: ChangeAction
    state: GroupState
    issuer: str
    decided_at: datetime
    asked: dict[str, datetime] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    ca_references: CaReferences | None = None
    renew_automatically: bool | None = None
    restores: bool = False
    makes: bool = False
    refused: bool = False
    followed: bool = False
    if_match: str | None = None
    if_none_match: str | None = None
    parent: str | None = None
    custody: KeyCustody | None = None
    overtaken: bool = False
    actor: Actor | None = None

    @property
    def only_told(self) -> bool:
        """Whether there is nothing to do for it, but to tell it."""
        return self.followed or self.overtaken or self.action is ChangeAction.ROLL

    def is_same_as(self, other: Change) -> bool:
        """Tell whether another one was decided with it, however far either is."""
        return (self.request, self.decided_at) == (other.request, other.decided_at)

    @property
    def enables(self) -> bool:
        """Whether DPS is to enable the group for it, or to make it."""
        switches = self.action is ChangeAction.CREATE or self.makes or STATUS in self.asked
        return switches and self.state is GroupState.ENABLED and not self.only_told

    @property
    def wants_entry(self) -> bool:
        """Whether an entry is made for it, if DPS has none."""
        return (self.restores or self.action is ChangeAction.CREATE) and not self.only_told


class GroupRecord(Record):
    """One enrollment group.

    Attributes:
        state: as DPS has it.
        issuer: name of the issuing CA that signs new certificates.
        previous_issuer: name of the CA it took over from, whose certificates DPS still accepts.
        generation: how often the issuing CA was made for this group; names the next one.
        last_request: id of the request that led to this state.
        change: what is wanted of it, until DPS follows and that is told; one at a time.
        rollover: the last one, or the one under way.
        ca_references: what it accepts instead of its issuing CA, if it was made so.
        renew_automatically: whether its devices are renewed by themselves.
        asked: of each thing that can be set, when what it is now was asked for.
        acts: ids of the last requests that were carried out; one that comes again changes nothing.
        entry_settings: what its entry is to have beside attestation and status; ``None`` if that was not noted.
    """

    lifecycle = lifecycles.GROUP

    documents: ClassVar[frozenset[str]] = frozenset(
        {"change", "rollover", "ca_references", "asked", "acts", "entry_settings"}
    )

    enrollment_group: str
    state: GroupState
    issuer: str
    updated_at: datetime
    last_request: str
    previous_issuer: str | None = None
    generation: int = 1
    change: Change | None = None
    rollover: Rollover | None = None
    ca_references: CaReferences | None = None
    renew_automatically: bool = False
    asked: dict[str, datetime] = Field(default_factory=dict)
    acts: tuple[str, ...] = ()
    entry_settings: dict[str, Any] | None = None

    def overtaken(self, what: str, at: datetime) -> bool:
        """Tell whether something was asked for later than at a time, and is carried out.

        A time in whole seconds, as a queue gives it, may be anywhere in its second: nothing in that second is later.
        """
        latest = at if at.microsecond else at + timedelta(microseconds=999_999)
        return any(latest < self.asked[each] for each in (what, CREATED) if each in self.asked)

    @property
    def authorities(self) -> frozenset[str]:
        """Names of the CAs that sign for it, have signed, or are about to."""
        named = [self.issuer, self.previous_issuer, self.change.issuer if self.change else None]
        if self.rollover and self.rollover.under_way:
            named += [self.rollover.source, self.rollover.target]
        return frozenset(filter(None, named))

    @property
    def preparing(self) -> Rollover | None:
        """The rollover whose CA does not sign yet, if there is one."""
        rollover = self.rollover
        prepares = rollover is not None and rollover.state is RolloverState.PREPARING
        return rollover if prepares and self.state is not GroupState.DELETED else None

    @property
    def settled(self) -> bool:
        """Whether DPS follows it."""
        return self.change is None and self.preparing is None

    def wants(self, request: str) -> bool:
        """Tell whether what a request asks for was decided, and is not done yet."""
        return request in {each.request for each in (self.change, self.preparing) if each}

    def followed(self, at: datetime, entry_settings: dict[str, Any] | None = None) -> Self:
        """Give the record when DPS follows its change, which is still to be told. From then on nobody refuses it.

        Args:
            at: the present time.
            entry_settings: what its entry is to have from now on; ``None`` if it was not looked at.
        """
        change = self.change
        if change is None:
            return self
        if change.action is ChangeAction.RETIRE:
            rollover = self.rollover and self.rollover.changed(state=RolloverState.RETIRED, retired_at=at, problem=None)
            after = self.changed(rollover=rollover, previous_issuer=None)
        else:
            times = {each: max(when, self.asked.get(each, when)) for each, when in change.asked.items()}
            renews = self.renew_automatically if change.renew_automatically is None else change.renew_automatically
            after = self.changed(
                state=change.state,
                issuer=change.issuer,
                ca_references=change.ca_references or self.ca_references,
                renew_automatically=renews,
                asked={**self.asked, **times},
                entry_settings=self.entry_settings if entry_settings is None else entry_settings,
            )
        return after.changed(change=change.changed(followed=True), updated_at=at)

    def told(self) -> Self:
        """Give the record when its change was told, which is done then."""
        change = self.change
        if change is None or change.action is ChangeAction.RETIRE:
            return self.changed(change=None)
        last = {} if change.overtaken else {"last_request": change.request}
        return self.changed(change=None, acts=(*self.acts, change.request)[-_ACTS:], **last)

    def has_followed(self, change: Change) -> bool:
        """Tell whether the group is there, and DPS has followed one of its last changes."""
        if self.state in {GroupState.REQUESTED, GroupState.DELETED}:
            return False
        told = change.request in self.acts
        return told or (self.change is not None and self.change.followed and self.change.is_same_as(change))

    def making(self) -> Self:
        """Give the record before an entry is made for its change."""
        return self.changed(change=self.change and self.change.changed(makes=True))

    def refusing_change(self) -> Self:
        """Give the record when its change is not to be: nobody is to let devices in for it."""
        return self.changed(change=self.change and self.change.changed(refused=True))

    def withdrawn(self) -> Self:
        """Give the record without its change, which DPS can't follow. A group that can't be made does not exist."""
        state = GroupState.DELETED if self.state is GroupState.REQUESTED else self.state
        return self.changed(change=None, state=state)

    def refusing_rollover(self) -> Self:
        """Give the record when the next CA can't take over: DPS is to hold it no more."""
        return self.changed(rollover=self.rollover and self.rollover.changed(refused=True))

    def without_rollover(self) -> Self:
        """Give the record without a rollover that was refused; the one that it was to replace goes on."""
        before = self.rollover
        after = before.replaces if before is not None else None
        if before is not None:
            lifecycles.ROLLOVER.check(before.phase, after.phase if after is not None else lifecycles.END)
        return self.changed(rollover=after)

    def taken_over(self, at: datetime) -> Self:
        """Give the record when the next CA signs, which is still to be told."""
        rollover = self.rollover
        if rollover is None:
            return self
        return self.changed(
            issuer=rollover.target,
            previous_issuer=rollover.source,
            rollover=rollover.changed(state=RolloverState.ROLLING, rolling_since=at, replaces=None),
            change=Change(
                request=rollover.request,
                action=ChangeAction.ROLL,
                state=self.state,
                issuer=rollover.target,
                decided_at=at,
            ),
            updated_at=at,
        )


def having(groups: Iterable[GroupRecord], authorities: Collection[str], *, deleted: bool = False) -> list[GroupRecord]:
    """Give the groups of which one of some CAs is, was, or is about to be an issuing CA.

    Args:
        groups: among them, by id.
        authorities: names of the CAs.
        deleted: whether deleted ones count as well, and come last: they let nobody in, and say whose a device was.
    """
    found = [each for each in groups if not each.authorities.isdisjoint(authorities)]
    there = [each for each in found if each.state is not GroupState.DELETED]
    return [*there, *(each for each in found if each.state is GroupState.DELETED)] if deleted else there
