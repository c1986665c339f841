"""Which differences there are, and what may be done about each."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.domain.treatments import TREATMENTS, FindingKind, Policy, document, read_policies

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"


def test_every_kind_has_its_treatment() -> None:
    assert set(TREATMENTS) == set(FindingKind)


def test_the_page_is_made_from_the_table() -> None:
    """Whoever changes a kind runs `make docs`."""
    assert PAGE.read_text(encoding="utf-8") == document()


def test_policies_are_read_by_kind() -> None:
    assert read_policies("identityDisabled=mend; hubChanged=adopt;groupStatus=report;") == {
        FindingKind.IDENTITY_DISABLED: Policy.MEND,
        FindingKind.HUB_CHANGED: Policy.ADOPT,
        FindingKind.GROUP_STATUS: Policy.REPORT,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("identityDisabled", r"has 'identityDisabled'; an entry is kind=policy, with a policy of report, mend, adopt"),
        ("nothing=mend", r"has 'nothing=mend'; an entry is kind=policy"),
        ("doorOpen=report", r"has 'doorOpen=report', and that kind is always mended: leave it out"),
        ("hubChanged=mend", r"has 'hubChanged=mend', and the app can't mend that kind; it takes report or adopt"),
        ("keyUnusable=adopt", r"has 'keyUnusable=adopt', and the app can't adopt that kind; it takes report"),
    ],
)
def test_a_policy_that_can_not_be_had_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_policies(text)
