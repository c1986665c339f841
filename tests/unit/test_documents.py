"""The tables of the documents name everything that the code has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from shared.domain.words import EventType
from shared.storage_layout import TABLES
from triggers import http_api
from triggers.http.endpoints import published

DOCS = Path(__file__).parents[2] / "docs"


def section(document: str, heading: str) -> str:
    """Give a section of a document, without its heading."""
    text = (DOCS / document).read_text(encoding="utf-8")
    return re.split(r"^## ", text.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_architecture_says_what_each_table_holds() -> None:
    """Whoever looks into the storage account finds each table of the ledger explained, and no other."""
    rows = re.findall(r"^\| ([a-z, ]+) \|", section("architecture.md", "The ledger"), re.MULTILINE)
    named = {name for row in rows for name in row.split(", ")} - {"table"}
    assert named == set(TABLES)


def test_the_contract_names_each_event() -> None:
    """Whoever subscribes by the contract misses no type."""
    lines = re.findall(r"^- (?:`[A-Z][A-Za-z]+`(?:, )?)+$", section("contract.md", "Events"), re.MULTILINE)
    named = re.findall(r"`([A-Za-z]+)`", "".join(lines))
    assert {f"DeviceProvisioning.{name}" for name in named} == set(EventType)


def test_the_contract_names_each_resource() -> None:
    """Whoever reads the contract learns of each thing that can be asked for; OpenAPI has the operations."""
    assert http_api.__all__  # its modules have published their operations
    contract = (DOCS / "contract.md").read_text(encoding="utf-8")
    resources = {operation.route.split("/")[0] for operation in published}
    assert [name for name in sorted(resources) if f"/api/{name}" not in contract] == []


def test_a_decision_has_its_number_alone() -> None:
    """A page that refers to decision 0007 means one, and the list of them goes by their numbers."""
    numbers = [path.name[:4] for path in sorted((DOCS / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    listed = re.findall(r"^- \[(\d{4}): .*\]\(decisions/(\d{4})-", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    assert listed == [(number, number) for number in numbers]


def is_run(path: str, name: str) -> bool:
    """Tell whether a module of the tests has a test that ``make test`` does not skip."""
    module = DOCS.parent / "tests" / path
    if not module.is_file():
        return False
    found = [
        each
        for each in ast.parse(module.read_text(encoding="utf-8")).body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == name
    ]
    return bool(found) and not any("mark.skip" in ast.unparse(mark) for mark in found[0].decorator_list)


def test_what_broke_once_names_tests_that_are_run() -> None:
    """Each kind, and each case of it, has a test that would see it again."""
    decision = "decisions/0004-acts-change-what-is-wanted-one-converger-makes-it-so.md"
    _, *kinds = section(decision, "What broke once, and the tests that keep it so").split("\n### ")
    cases = {case.strip() for kind in kinds for case in re.split(r"^- ", kind, flags=re.MULTILINE)[1:]}
    assert len(kinds) == 8
    assert len(cases) > 20
    tests = {case: re.findall(r"^  - `([\w/]+\.py)::(\w+)`$", case, re.MULTILINE) for case in cases}
    assert [case for case, named in tests.items() if not named or len(named) != case.count("\n")] == []
    assert [each for named in tests.values() for each in named if not is_run(*each)] == []
