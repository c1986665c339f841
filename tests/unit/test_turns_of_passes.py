"""Which group, or which hub, a pass is at, of those whose pages it walks one after the other."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.domain.passes import ReconciliationRecord, Stage
from shared.workflows.reconciliation.steps import turn_of

BEGUN = ReconciliationRecord(
    reconciliation_id="r-1", began_at=datetime(2026, 3, 1, tzinfo=UTC), stage=Stage.REGISTRATIONS
)
AMID = BEGUN.changed(at="a", continuation="page 2", resume="press-7")


def test_a_stage_begins_with_the_first() -> None:
    at, here, following = turn_of(["b", "a"], BEGUN, Stage.IDENTITIES)
    assert (at, here.at, here.continuation) == ("a", "a", None)
    assert (following.stage, following.at) == (Stage.REGISTRATIONS, "b")


def test_a_page_that_was_begun_is_gone_on_with() -> None:
    at, here, following = turn_of(["a", "b"], AMID, Stage.IDENTITIES)
    assert (at, here) == ("a", AMID)
    assert (following.stage, following.at, following.continuation, following.resume) == (
        Stage.REGISTRATIONS,
        "b",
        None,
        None,
    )


def test_the_next_one_begins_with_its_own_first_page_when_the_one_before_is_gone() -> None:
    """A continuation is of the pages that it came with: DPS, or a hub, refuses it for others."""
    at, here, following = turn_of(["c", "b"], AMID, Stage.IDENTITIES)
    assert (at, here.at, here.continuation, here.resume) == ("b", "b", None, None)
    assert following.at == "c"


def test_another_stage_comes_behind_the_last() -> None:
    at, here, following = turn_of(["a"], AMID, Stage.IDENTITIES)
    assert (at, here) == ("a", AMID)
    assert (following.stage, following.at) == (Stage.IDENTITIES, None)
    at, _, following = turn_of([], AMID, Stage.IDENTITIES)
    assert (at, following.stage, following.at, following.continuation) == (None, Stage.IDENTITIES, None, None)
