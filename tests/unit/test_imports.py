"""No modules or packages import each other in a circle; what only the type checker imports counts as well."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import grimp

from tests.side_by_side import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ("shared", "triggers", "emulator", "devstack", "tests", "benchmarks")


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Find circles among what is directly in each package; a module deeper down stands for its package there."""
    arrows: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            package = _shared_package(importer, imported)
            arrows[package][_member(package, importer)].add(_member(package, imported))
    return [circle for members in arrows.values() if (circle := _circle(members))]


def _shared_package(one: str, other: str) -> str:
    parts = []
    for mine, theirs in zip(one.split("."), other.split("."), strict=False):
        if mine != theirs:
            break
        parts.append(mine)
    return ".".join(parts)


def _member(package: str, module: str) -> str:
    """Give what a module is in a package around it: a member of that, or the package's own ``__init__``."""
    if module == package:
        return f"{package}.__init__"
    depth = package.count(".") + 2 if package else 1
    return ".".join(module.split(".")[:depth])


def _circle(arrows: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def graph_of(*arrows: tuple[str, str]) -> grimp.ImportGraph:
    graph = grimp.ImportGraph()
    for importer, imported in arrows:
        graph.add_import(importer=importer, imported=imported)
    return graph


def test_nothing_imports_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    assert "shared.domain.devices" in graph.modules
    assert circles(graph) == []


def test_imports_for_the_type_checker_alone_are_among_those_looked_at() -> None:
    graph = grimp.build_graph("shared", cache_dir=None)
    assert "shared.domain.devices" in graph.find_modules_directly_imported_by("shared.domain.entry_changes")
    tree = ast.parse((REPOSITORY / "shared/domain/entry_changes.py").read_text())
    assert not [
        each for each in tree.body if isinstance(each, ast.ImportFrom) and each.module == "shared.domain.devices"
    ]


def test_a_circle_of_modules_is_found() -> None:
    graph = graph_of(("a.one", "a.two"), ("a.two", "a.three"), ("a.three", "a.one"), ("a.four", "a.one"))
    assert [set(each) for each in circles(graph)] == [{"a.one", "a.two", "a.three"}]


def test_a_circle_of_packages_without_one_of_modules_is_found() -> None:
    assert [set(each) for each in circles(graph_of(("a.one", "b.one"), ("b.two", "a.two")))] == [{"a", "b"}]


def test_a_package_that_imports_what_imports_it_is_found() -> None:
    assert [set(each) for each in circles(graph_of(("a", "a.one"), ("a.one", "a")))] == [{"a.__init__", "a.one"}]


def _imported_by(file: Path) -> set[str]:
    found = set[str]()
    for each in ast.walk(ast.parse(file.read_text())):
        if isinstance(each, ast.Import):
            found |= {alias.name.split(".")[0] for alias in each.names}
        elif isinstance(each, ast.ImportFrom):
            found.add((each.module or "").split(".")[0])
    return found


def test_the_app_itself_imports_triggers_alone() -> None:
    """It is a module beside the packages, and no contract of the import linter names it."""
    assert _imported_by(REPOSITORY / "function_app.py") == {"gc", "triggers"}


def test_samples_import_nothing_of_the_project() -> None:
    """They are for whoever has no more than the contract."""
    samples = [*REPOSITORY.glob("samples/**/*.py")]
    assert samples
    for each in samples:
        assert _imported_by(each).isdisjoint(PACKAGES), each.name
