"""What the console says of a CA: why it can't sign, what is wrong with its list, and how much of its life is over."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.authorities import AuthorityState, PublishedList
from tests.pki.hierarchy import NOW
from tests.records import authority_record
from triggers.console.authorities import ShownAuthority

if TYPE_CHECKING:
    from datetime import datetime

DAY = timedelta(days=1)


def shown(state: AuthorityState = AuthorityState.ACTIVE, *, now: datetime = NOW, **fields: Any) -> ShownAuthority:
    return ShownAuthority.of(authority_record("line", NOW, state=state, **fields), 0, now)


@pytest.mark.parametrize(
    ("state", "fields", "trouble"),
    [
        (AuthorityState.ACTIVE, {}, ""),
        (AuthorityState.ACTIVE, {"not_after": NOW}, ""),
        (AuthorityState.ACTIVE, {"not_after": NOW - timedelta(seconds=1)}, "its certificate has expired"),
        (AuthorityState.REQUESTED, {}, "it is being made"),
        (AuthorityState.REQUESTED, {"problem": "the vault is full"}, "the vault is full"),
        (AuthorityState.SIGNED, {}, "it is being made"),
        (AuthorityState.AWAITING_CERTIFICATE, {}, "it waits for its certificate, which is signed elsewhere"),
        (AuthorityState.DISABLED, {}, ""),
        (AuthorityState.RETIRED, {"not_after": NOW - DAY}, ""),
        (AuthorityState.REVOKED, {}, ""),
        (AuthorityState.DELETED, {}, ""),
    ],
)
def test_a_ca_that_can_t_sign_says_why_unless_it_was_told_not_to(
    state: AuthorityState, fields: dict[str, Any], trouble: str
) -> None:
    """What an operator has disabled, retired, revoked or deleted is not being made, and needs nobody's help."""
    assert shown(state, **fields).trouble == trouble


LATE = "it is out of date: relying parties may refuse every certificate"


def published(next_update: datetime) -> dict[str, Any]:
    return {"published": PublishedList(sha256="00", made_at=NOW - DAY, next_update=next_update)}


@pytest.mark.parametrize(
    ("state", "fields", "trouble"),
    [
        (AuthorityState.ACTIVE, {}, "it has not been published yet"),
        (AuthorityState.ACTIVE, published(NOW), ""),
        (AuthorityState.ACTIVE, published(NOW - timedelta(seconds=1)), LATE),
        (AuthorityState.RETIRED, published(NOW - timedelta(seconds=1)), LATE),
        (AuthorityState.REVOKED, published(NOW - timedelta(seconds=1)), LATE),
        (AuthorityState.REQUESTED, {}, ""),
        (AuthorityState.DELETED, published(NOW - timedelta(seconds=1)), ""),
    ],
)
def test_the_list_of_a_ca_that_was_opened_is_looked_after(
    state: AuthorityState, fields: dict[str, Any], trouble: str
) -> None:
    """A CA that signs no more answers by its list for what it has signed."""
    assert shown(state, **fields).list_trouble == trouble


@pytest.mark.parametrize(
    ("now", "used"),
    [(NOW - DAY, 0), (NOW, 0), (NOW + timedelta(hours=6), 25), (NOW + DAY, 100), (NOW + 2 * DAY, 100)],
)
def test_a_life_is_told_in_per_cent(now: datetime, used: int) -> None:
    assert shown(now=now, not_before=NOW, not_after=NOW + DAY).life_used == used


def test_a_ca_without_a_certificate_has_no_life_and_no_end() -> None:
    """And one that has a certificate ends before whatever comes after its end."""
    assert shown().life_used is None
    assert not shown().ends_before(NOW)
    assert shown(not_after=NOW).ends_before(NOW + timedelta(seconds=1))
    assert not shown(not_after=NOW).ends_before(NOW)
