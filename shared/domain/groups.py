"""Enrollment groups and their rollovers, as the ledger keeps them."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

from shared.domain import lifecycles
from shared.domain.record import Part, Record
from shared.domain.words import KeyCustody

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

    @property
    def under_way(self) -> bool:
        """Whether DPS may hold both CAs."""
        return self.state is not RolloverState.RETIRED


class Turn(Part):
    """Who is changing a group: one request at a time, so that a later one does not get in between its steps.

    Attributes:
        request: its id.
        until: when others need not wait any more, since its worker must be gone.
    """

    request: str
    until: datetime


class GroupRecord(Record):
    """One enrollment group.

    Attributes:
        issuer: name of the issuing CA that signs new certificates.
        previous_issuer: name of the CA it took over from, whose certificates DPS still accepts.
        generation: how often the issuing CA was made for this group; names the next one.
        last_request: id of the request that led to this state.
        rollover: the last one, or the one under way.
        ca_references: what it accepts instead of its issuing CA, if it was made so.
        created_by: id of the request that made it.
        asked: of each thing that can be set, when what it is now was asked for.
        turn: who is changing it.
    """

    lifecycle = lifecycles.GROUP

    documents: ClassVar[frozenset[str]] = frozenset({"rollover", "ca_references", "asked", "turn"})

    enrollment_group: str
    state: GroupState
    issuer: str
    updated_at: datetime
    last_request: str
    previous_issuer: str | None = None
    generation: int = 1
    rollover: Rollover | None = None
    ca_references: CaReferences | None = None
    created_by: str = ""
    asked: dict[str, datetime] = Field(default_factory=dict)
    turn: Turn | None = None

    def overtaken(self, what: str, at: datetime) -> bool:
        """Tell whether something was asked for later than at a time, and is carried out.

        A time in whole seconds, as a queue gives it, may be anywhere in its second: nothing in that second is later.
        """
        latest = at if at.microsecond else at + timedelta(microseconds=999_999)
        return any(latest < self.asked[each] for each in (what, CREATED) if each in self.asked)

    @property
    def authorities(self) -> frozenset[str]:
        """Names of the CAs that sign for it, have signed, or are about to."""
        rollover = self.rollover if self.rollover and self.rollover.under_way else None
        named = (self.issuer, self.previous_issuer, *((rollover.source, rollover.target) if rollover else ()))
        return frozenset(filter(None, named))
