"""If-Match and If-None-Match, compared as RFC 9110 says."""

from __future__ import annotations

import pytest

from shared.errors import PreconditionFailed
from triggers.preconditions import check

WHAT = "the enrollment group 'g'"


@pytest.mark.parametrize(
    ("headers", "etag"),
    [
        ({}, None),
        ({}, '"1"'),
        ({"If-Match": '"1"'}, '"1"'),
        ({"If-Match": '"0", "1"'}, "1"),
        ({"If-Match": "*"}, '"1"'),
        ({"If-None-Match": "*"}, None),
        ({"If-None-Match": '"2"'}, '"1"'),
    ],
)
def test_what_holds_is_let_through(headers: dict[str, str], etag: str | None) -> None:
    check(headers, WHAT, etag)


@pytest.mark.parametrize(
    ("headers", "etag", "message"),
    [
        (
            {"If-Match": '"1"'},
            '"2"',
            "If-Match: the enrollment group 'g' was changed since it was read: its ETag is \"2\", and If-Match says "
            '"1"; read it again and decide anew',
        ),
        (
            {"If-Match": 'W/"2"'},
            '"2"',
            "If-Match: the enrollment group 'g' was changed since it was read: its ETag is \"2\", and If-Match says "
            'W/"2"; read it again and decide anew',
        ),
        (
            {"If-Match": "*"},
            None,
            "If-Match: the enrollment group 'g' does not exist, and If-Match says *: leave it out to create one",
        ),
        (
            {"If-None-Match": "*"},
            '"2"',
            "If-None-Match: the enrollment group 'g' exists, with ETag \"2\", and If-None-Match says *",
        ),
    ],
)
def test_what_does_not_hold_is_refused_in_words(headers: dict[str, str], etag: str | None, message: str) -> None:
    """The message gives both tags, and what to do."""
    with pytest.raises(PreconditionFailed) as refused:
        check(headers, WHAT, etag)
    assert str(refused.value) == message
