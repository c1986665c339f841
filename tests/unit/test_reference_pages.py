"""docs/api.md, docs/events.md and docs/rfc5280.md say what the code says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from devstack import api_page, events_page, rfc5280_page, shapes
from shared.contracts.events import EVENTS
from triggers.http.endpoints import published

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.domain.words import EventType


@pytest.mark.parametrize(
    ("path", "page"),
    [
        (api_page.PAGE, api_page.api_page),
        (events_page.PAGE, events_page.events_page),
        (rfc5280_page.PAGE, rfc5280_page.rfc5280_page),
    ],
    ids=lambda each: getattr(each, "stem", ""),
)
def test_the_page_is_the_one_that_the_code_makes(path: Path, page: Callable[[], str]) -> None:
    """Who changes a model, an operation or a rule runs `make docs`."""
    assert path.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("kind", EVENTS)
def test_each_field_of_an_event_has_its_meaning(kind: EventType) -> None:
    """Whoever reads an event finds each field explained, in its place on the wire."""
    name = kind.rpartition(".")[2]
    section = re.split(
        r"^## ", events_page.PAGE.read_text(encoding="utf-8").split(f"\n## `{name}`\n")[1], flags=re.MULTILINE
    )[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.*) \|$", section, re.MULTILINE)
    assert [field for field, _, _ in rows] == [each.alias for each in EVENTS[kind].model_fields.values()]
    assert [field for field, kinds, meaning in rows if not (kinds and meaning)] == []


def test_every_operation_and_what_it_answers_is_on_the_page() -> None:
    """Each link of the page leads to a shape that it shows."""
    page = api_page.PAGE.read_text(encoding="utf-8")
    assert [each.path for each in published if f"`{each.method} {each.path}`" not in page] == []
    shown = {each.lower() for each in re.findall(r"^### `(\w+)`$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) - shown == {"shapes"}


def test_what_a_docstring_says_of_a_field_stands_beside_it() -> None:
    """By its name on the wire, in the table, and not as lines of a docstring."""
    schema = {
        "description": "An entry.\n\nAttributes:\n    asked_by: who asked; ``None`` if\n        nobody did.",
        "properties": {"at": {"type": "string", "description": "when"}, "askedBy": {"type": "string"}},
    }
    assert shapes.prose(schema) == "An entry."
    assert shapes.table(schema, {}, {}).splitlines()[2:] == [
        "| `at` | string | when |",
        "| `askedBy` | string | who asked; `null` if nobody did |",
    ]
    for page in (api_page, events_page):
        assert "Attributes:" not in page.PAGE.read_text(encoding="utf-8")


SOURCE = '''"""What RFC 5280 section 6 asks for."""

LIMIT = 20
"""Octets (RFC 5280 section 4.1.2.2)."""


def of_lists() -> str:
    # Section 5.1 and RFC 5758 section 3.2, X.690 section 8.19
    return f"{LIMIT} (RFC 5280 sections 5.1.2.4 and 5.2.3)"
'''


def test_a_rule_is_found_where_it_is_named() -> None:
    """In docstrings, comments and messages; what another document has in such a section is not RFC 5280."""
    assert sorted(rfc5280_page.places(SOURCE)) == [
        ("4.1.2.2", "LIMIT"),
        ("5.1", "of_lists"),
        ("5.1.2.4", "of_lists"),
        ("5.2.3", "of_lists"),
        ("6", ""),
    ]


def test_a_section_without_a_heading_is_named_with_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a section for the first time reads what to add, and where."""
    known = {section: title for section, title in rfc5280_page.TITLES.items() if section != "5.2.3"}
    monkeypatch.setattr(rfc5280_page, "TITLES", known)
    with pytest.raises(LookupError) as refused:
        rfc5280_page.rfc5280_page()
    said = str(refused.value)
    assert said.startswith("section 5.2.3 of RFC 5280, named in ")
    assert "shared/pki/revocation_lists.py" in said
    assert "has no heading: add it to TITLES in devstack/rfc5280_page.py" in said


def test_the_parts_of_a_certificate_and_a_list_are_on_the_page() -> None:
    """A few that whoever looks for a rule asks for first."""
    page = rfc5280_page.PAGE.read_text(encoding="utf-8")
    for section, module in (
        ("4.1.2.5", "certificate_rules.py"),
        ("4.2.1.10", "name_constraints.py"),
        ("5.2.3", "revocation_lists.py"),
    ):
        (row,) = re.findall(rf"^\| {re.escape(section)} \| .*$", page, re.MULTILINE)
        assert module in row
