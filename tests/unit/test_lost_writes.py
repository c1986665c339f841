"""A guarded write that others have overtaken says so: whoever does not ask says why losing is fine.

The type checker can't see it: mypy has no check for an answer that is not used, but for one that is awaitable.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.sources import modules
from tests.unit.reaching import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STORES = ("shared.ledger.", "shared.ports.rows.", "shared.ports.blobs.")
"""Where guarded writes are declared. Each answers by ``False`` or ``None`` if it was overtaken."""

UNKNOWN = frozenset({"insert_together", "write_together", "delete_unchanged", "try_insert", "try_replace", "try_put"})
"""Names of guarded writes, where it can't be told from the code what they are called on."""

ELSEWHERE = {
    (
        "shared.ledger.requests.Requests",
        "enter",
    ): "it tries until it has won; its answer tells that the id is another's",
    ("shared.ledger.directory.Projection", "guard"): "it reads; a write that a guard does not let through raises Stale",
}
"""Methods that answer so and are no guarded writes, and why."""


def unasked(code: Code, module: str, source: str) -> Iterator[str]:
    """Name the statements that drop the answer of a guarded write without a reason."""
    lines = source.splitlines()
    for statement, method, of in code.awaited(module):
        guarded = [
            name
            for name, answer in of
            if name.startswith(STORES) and (answer == "bool" or "| None" in answer) and (name, method) not in ELSEWHERE
        ]
        if not guarded and (of or method not in UNKNOWN):
            continue
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        has_reason = lines[first - 2].strip().startswith("#") or "  # " in lines[last - 1]
        if not (isinstance(statement, ast.Assign) and has_reason):
            yield f"{first}: {lines[first - 1].strip()}"


def judged(files: Mapping[str, str]) -> dict[str, list[str]]:
    code = Code({module: ast.parse(source) for module, source in files.items()})
    found = {module: [*unasked(code, module, source)] for module, source in files.items()}
    return {module: lines for module, lines in found.items() if lines}


def test_who_does_not_ask_whether_a_guarded_write_has_won_says_why() -> None:
    """It is written ``_ = await ...``, with a comment on its line or on the one above."""
    files = modules("shared", "triggers")
    assert len(files) > 400, "the app is where it is looked for"
    assert judged(files) == {}


LEDGER = """
class Rows:
    async def try_replace(self, known, record) -> Record | None: ...
    async def replace(self, known, record) -> Record: ...
    async def withdraw(self, known) -> bool: ...
    async def get(self, key) -> Record | None: ...
    async def put(self, record) -> None: ...
"""
USER = "from shared.ledger.rows import Rows\nclass A:\n    rows: Rows\n    async def f(self, known):\n        "


@pytest.mark.parametrize(
    "statement",
    [
        "await self.rows.try_replace(known, 1)",
        "await self.rows.try_replace(known, 1)  # others were here",
        "# others were here\n        await self.rows.withdraw(known)",
        "_ = await self.rows.withdraw(known)",
        "rows = self.rows\n        await rows.withdraw(known)",
        "if known:\n            await self.rows.withdraw(known)",
        "await known.write_together([])",
    ],
)
def test_an_answer_that_is_dropped_without_a_reason_is_found(statement: str) -> None:
    assert list(judged({"shared.ledger.rows": LEDGER, "shared.user": USER + statement})) == ["shared.user"]


@pytest.mark.parametrize(
    "statement",
    [
        "_ = await self.rows.try_replace(known, 1)  # others were here",
        "# others were here\n        _ = await self.rows.withdraw(known)",
        "won = await self.rows.withdraw(known)",
        "return await self.rows.withdraw(known)",
        "if await self.rows.withdraw(known):\n            pass",
        "await self.rows.replace(known, 1)",
        "await self.rows.put(1)",
        "await known.replace()",
    ],
)
def test_one_that_is_asked_for_or_has_a_reason_is_not(statement: str) -> None:
    assert judged({"shared.ledger.rows": LEDGER, "shared.user": USER + statement}) == {}
