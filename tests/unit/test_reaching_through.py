"""A workflow is given what it works with: it does not reach through one thing that works for another."""

from __future__ import annotations

import ast

import pytest

from tests.sources import modules
from tests.unit.reaching import Code

RECORDS = {
    "shared.clients.Clients": "the clients that were opened, which it closes together",
    "shared.served.Services": "all that triggers call; it closes the clients",
}
"""Records, whatever is awaited of them, and why."""


def test_no_workflow_reaches_through_another_for_a_third() -> None:
    """What it needs it is given by its constructor, or the one in the middle does it."""
    trees = {module: ast.parse(source) for module, source in modules("shared").items()}
    code, wanted = Code(trees, records=RECORDS), [*modules("shared/workflows"), "shared.services"]
    assert len(wanted) > 100, "the workflows are where they are looked for"
    found = {module: code.reached(module) for module in wanted}
    assert {module: places for module, places in found.items() if places} == {}


PARTS = """
class Third(Protocol):
    async def act(self) -> None: ...

@dataclass
class Record:
    third: Third
    size: int

class Middle:
    third: Third | None
    record: Record
    limit: int
    clock: Callable[[], Third]

    async def act(self) -> None: ...

class Base:
    middle: Middle

class Doer:
    def __init__(self, third: Third, *, made: int) -> None:
        self.third, self._made = third, made

    @property
    def own(self) -> Third: ...

def middle_of(third: Third) -> Middle: ...

"""


@pytest.mark.parametrize(
    ("source", "place"),
    [
        (
            "class A:\n    middle: Middle\n    async def f(self):\n        await self.middle.third.act()",
            "self.middle.third",
        ),
        ("class A:\n    middle: Middle\n    def f(self):\n        return g(self.middle.third)", "self.middle.third"),
        ("class A(Base):\n    def f(self):\n        return self.middle.third", "self.middle.third"),
        ("class A:\n    middle: Middle | None\n    def f(self):\n        m = self.middle\n        m.third", "m.third"),
        (
            "class A:\n    def __init__(self, m: Middle):\n        self.m = m\n    def f(self):\n        self.m.third",
            "self.m.third",
        ),
        (
            "class A:\n    record: Record\n    def f(self, middle: Middle):\n        middle.record.third.act()",
            "middle.record.third",
        ),
        ("class A:\n    a: Doer\n    def f(self):\n        self.a.own.act()", "self.a.own"),
        ("class A:\n    a: Doer\n    def f(self):\n        self.a.third.act()", "self.a.third"),
        ("def f(middle: Middle):\n    middle.third", "middle.third"),
        ("def f(third: Third):\n    middle = middle_of(third)\n    middle.third", "middle.third"),
        ("def f():\n    def g(middle: Middle):\n        middle.third", "middle.third"),
    ],
)
def test_what_reaches_through_something_that_works_is_found(source: str, place: str) -> None:
    code = Code({"app": ast.parse(PARTS + source)})
    assert [each.partition(": ")[2] for each in code.reached("app")] == [place]


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    third: Third\n    def f(self):\n        return self.third.act()",
        "class A:\n    record: Record\n    def f(self):\n        return self.record.third.act()",
        "class A:\n    middle: Middle\n    def f(self):\n        return self.middle.act(), self.middle.limit, self.middle.clock()",
        "class A:\n    middle: Middle\n    def f(self):\n        return self.middle.record.size",
        "class A(Base):\n    def f(self, record: Record):\n        return record.third",
    ],
)
def test_what_is_told_or_taken_from_a_record_is_not(source: str) -> None:
    assert Code({"app": ast.parse(PARTS + source)}).reached("app") == []


def test_a_record_is_one_whatever_is_awaited_of_it() -> None:
    source = "class A:\n    middle: Middle\n    def f(self):\n        return self.middle.third"
    assert Code({"app": ast.parse(PARTS + source)}, records={"app.Middle"}).reached("app") == []
