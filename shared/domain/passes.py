"""A pass of reconciliation: what it looks at, in which order, and where it goes on."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from shared.domain import lifecycles
from shared.domain.record import Part, Record

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stage(StrEnum):
    """What a pass looks at, in this order."""

    AUTHORITIES = "authorities"
    GROUPS = "groups"
    ENROLLMENTS = "enrollments"
    REGISTRATIONS = "registrations"
    IDENTITIES = "identities"
    DEVICES = "devices"
    BUNDLES = "bundles"
    PASSWORDS = "passwords"
    GONE = "gone"


NAMED = 20
"""So many of what could not be compared are named by a pass; the log has all of them."""


class ReconciliationState(StrEnum):
    """How far a pass is."""

    RUNNING = "running"
    DONE = "done"


class Calls(Part):
    """Calls of one service.

    Attributes:
        by: when the last one was made, at the latest.
        count: how many.
    """

    by: datetime
    count: int


class ReconciliationRecord(Record):
    """One pass over everything, or over one group or one device.

    Attributes:
        began_at: when it was asked for.
        stage: what it looks at.
        at: where in the stage it goes on: the group, or the hub, for a stage that goes from one to the next.
        continuation: of the page that comes next, as the service or the ledger gave it.
        resume: what comes next on that page, by its id, where the budget ended amid the page; ``None``: its beginning.
        enrollment_group: the only group that is looked at, if one was named.
        registration_id: the only device, likewise.
        looked_at: how many of each were compared, by stage.
        calls: how many were made, by service.
        found: how many differences were seen, by kind.
        unread: how many devices, groups or other things could not be compared.
        unread_subjects: the first of them, by their ids, with why.
        spent: by service, what the steps of the last minute have used.
    """

    lifecycle = lifecycles.RECONCILIATION
    documents: ClassVar[frozenset[str]] = frozenset({"looked_at", "calls", "found", "unread_subjects", "spent"})

    reconciliation_id: str
    began_at: datetime
    state: ReconciliationState = ReconciliationState.RUNNING
    stage: Stage = Stage.AUTHORITIES
    at: str | None = None
    continuation: str | None = None
    resume: str | None = None
    enrollment_group: str | None = None
    registration_id: str | None = None
    looked_at: dict[str, int] = Field(default_factory=dict)
    calls: dict[str, int] = Field(default_factory=dict)
    found: dict[str, int] = Field(default_factory=dict)
    unread: int = 0
    unread_subjects: dict[str, str] = Field(default_factory=dict)
    spent: dict[str, tuple[Calls, ...]] = Field(default_factory=dict)
    ended_at: datetime | None = None

    def entered(self, stage: Stage, at: str | None = None, continuation: str | None = None) -> ReconciliationRecord:
        """Give it with the page where it goes on."""
        return self.changed(stage=stage, at=at, continuation=continuation, resume=None)

    def comes(self, identifier: str) -> bool:
        """Tell whether something on the page is still to be looked at; it goes in the order of ids."""
        return self.resume is None or identifier >= self.resume

    def counted(self, looked_at: int, calls: Mapping[str, int], found: Mapping[str, int]) -> ReconciliationRecord:
        """Give it with what a step has done."""
        return self.changed(
            looked_at=_added(self.looked_at, {self.stage.value: looked_at}),
            calls=_added(self.calls, calls),
            found=_added(self.found, found),
        )


def _added(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: before.get(name, 0) + more.get(name, 0) for name in {**before, **more}}
