"""Reads Bicep as the tests need it: what a file declares, what it uses, and the objects in it.

tree-sitter-bicep gives the syntax. kinds.py has the types that Bicep's compiler would look at.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tree_sitter_bicep
from tree_sitter import Language, Parser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

INFRA = Path(__file__).parents[2] / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))
_PARSER = Parser(Language(tree_sitter_bicep.language()))
_OBJECTS_IN = {"for_statement", "if_statement", "ternary_expression", "parenthesized_expression"}


def text(node: Node) -> str:
    """Give the source of a node."""
    return (node.text or b"").decode()


def line(node: Node) -> int:
    """Give the line on which a node begins."""
    return node.start_point[0] + 1


def literal(node: Node | None) -> str | int | bool | None:
    """Give the value of a literal; ``None`` for anything that is computed."""
    if node is None:
        return None
    if node.type == "string" and not any(each.type == "interpolation" for each in node.named_children):
        return text(node)[1:-1].replace("\\'", "'")
    if node.type == "number":
        return int(text(node))
    return {"true": True, "false": False}.get(text(node)) if node.type == "boolean" else None


def fields(node: Node) -> Iterator[tuple[str, Node]]:
    """Give the properties of an object, by name; computed names as they are written."""
    for child in node.named_children:
        if child.type == "object_property":
            kids = [each for each in child.named_children if each.type != "comment"]
            yield text(kids[0]).strip("'"), kids[-1]


def field(node: Node, *path: str) -> Node:
    """Give the value at a path of property names.

    Raises:
        KeyError: a name of the path is not there.
    """
    for name in path:
        node = dict(fields(node))[name]
    return node


def alternatives(node: Node) -> Iterator[Node]:
    """Give what a value may be: both sides of a condition, and the body of a loop, for each of its turns."""
    if node.type in _OBJECTS_IN:
        parts = [node.child_by_field_name(name) for name in ("consequence", "alternative", "body")]
        for each in [part for part in parts if part is not None] or node.named_children[-1:]:
            yield from alternatives(each)
    else:
        yield node


def walk(node: Node) -> Iterator[Node]:
    """Give a node and everything in it."""
    yield node
    for child in node.children:
        yield from walk(child)


@dataclass(frozen=True, slots=True)
class Declared:
    """A resource or a module.

    Attributes:
        symbol: its name in the file.
        what: type and version of a resource, or the path of a module.
        existing: it is only referred to.
        bodies: its object, or the objects that it may be.
        node: where it stands.
    """

    symbol: str
    what: str
    existing: bool
    bodies: tuple[Node, ...]
    node: Node


@dataclass(frozen=True, slots=True)
class Source:
    """One Bicep file."""

    path: Path
    root: Node

    @property
    def parameters(self) -> dict[str, Node]:
        """What it takes, by name."""
        return {text(each.named_children[0]): each for each in self._of("parameter_declaration")}

    @property
    def required(self) -> set[str]:
        """The parameters that have no default."""
        return {name for name, node in self.parameters.items() if not any(text(each) == "=" for each in node.children)}

    @property
    def variables(self) -> dict[str, Node]:
        """Its variables with their values."""
        return {text(each.named_children[0]): each.named_children[-1] for each in self._of("variable_declaration")}

    @property
    def outputs(self) -> dict[str, Node]:
        """What it gives, by name."""
        return {text(each.named_children[0]): each.named_children[-1] for each in self._of("output_declaration")}

    @property
    def resources(self) -> list[Declared]:
        """Its resources, also those that are only referred to."""
        return [_declared(each) for each in self._of("resource_declaration")]

    @property
    def modules(self) -> list[Declared]:
        """What it deploys by other files."""
        return [_declared(each) for each in self._of("module_declaration")]

    def resource(self, symbol: str) -> Node:
        """Give the object of the resource that has a name."""
        return next(each.bodies[0] for each in self.resources if each.symbol == symbol)

    def _of(self, kind: str) -> list[Node]:
        return [each for each in self.root.named_children if each.type == kind]


def _declared(node: Node) -> Declared:
    symbol, what = node.named_children[:2]
    body = node.named_children[-1]
    return Declared(
        symbol=text(symbol),
        what=text(what)[1:-1],
        existing="existing" in [text(each) for each in node.children],
        bodies=tuple(each for each in alternatives(body) if each.type == "object"),
        node=node,
    )


@functools.cache
def source(path: Path) -> Source:
    """Read a file."""
    return Source(path, parse(path.read_bytes()))


def parse(content: bytes) -> Node:
    """Give the syntax tree of a text in Bicep."""
    return _PARSER.parse(content).root_node


def module(name: str) -> Source:
    """Read a module of ours by its name."""
    return source(INFRA / "modules" / f"{name}.bicep")
