"""Whoever makes something of the workflows names what it is made of: no argument changes places unseen."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.sources import sources

if TYPE_CHECKING:
    from collections.abc import Iterator


def positional(tree: ast.AST) -> Iterator[str]:
    """Name the classes that take arguments by their place: with a constructor of their own, or a generated one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        made = [each for each in node.decorator_list if "dataclass" in ast.unparse(each)]
        if (
            (any("kw_only=True" not in ast.unparse(each) for each in made) and _has_fields(node))
            or any(ast.unparse(base).endswith(("NamedTuple", "namedtuple")) for base in node.bases)
            or any(_takes_by_place(each) for each in node.body if isinstance(each, ast.FunctionDef))
        ):
            yield node.name


def _has_fields(node: ast.ClassDef) -> bool:
    return any(isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each.annotation) for each in node.body)


def _takes_by_place(function: ast.FunctionDef) -> bool:
    arguments = function.args
    by_place = [*arguments.posonlyargs, *arguments.args]
    return function.name == "__init__" and (len(by_place) > 1 or arguments.vararg is not None)


def test_a_constructor_of_the_workflows_takes_its_arguments_by_their_names() -> None:
    files = sources("shared/workflows")
    found = {name: [*positional(ast.parse(source))] for name, source in files.items()}
    assert len(files) > 100, "the workflows are where they are looked for"
    assert {name: classes for name, classes in found.items() if classes} == {}


@pytest.mark.parametrize(
    "source",
    [
        "@dataclass\nclass A:\n    a: int",
        "@dataclass(frozen=True, slots=True)\nclass A:\n    a: int",
        "@dataclasses.dataclass(kw_only=False)\nclass A:\n    a: int",
        "class A(NamedTuple):\n    a: int",
        "class A:\n    def __init__(self, a): ...",
        "class A:\n    def __init__(self, *a): ...",
        "class A:\n    def __init__(self, a, /, *, b): ...",
        "def f():\n    class A:\n        def __init__(self, a): ...",
    ],
)
def test_a_constructor_that_takes_arguments_by_their_place_is_found(source: str) -> None:
    assert [*positional(ast.parse(source))] == ["A"]


@pytest.mark.parametrize(
    "source",
    [
        "@dataclass(frozen=True, slots=True, kw_only=True)\nclass A:\n    a: int",
        "@dataclass\nclass A:\n    a: ClassVar[int] = 1",
        "class A:\n    def __init__(self): ...",
        "class A:\n    def __init__(self, *, a, **b): ...",
        "class A(Protocol):\n    a: int\n    def call(self, b): ...",
    ],
)
def test_one_that_takes_them_by_their_names_is_not(source: str) -> None:
    assert [*positional(ast.parse(source))] == []
