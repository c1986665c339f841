"""Finds places at which something that works is reached through something else that works, in the code as it stands.

A workflow works, and so do stores, ports and adapters. Records and values only hold: what they have may be taken from
them, even if it works itself, as that of a wing.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

type _Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True, kw_only=True)
class Shape:
    """What is known of a class.

    Attributes:
        works: it is a protocol, or something of it is awaited, or it does something with what works.
        does: it has methods.
        bases: full names of the classes that it is made of.
        fields: by name, the full names of the classes in the annotation.
        answers: by name, what the methods give, as it is annotated.
    """

    works: bool
    does: bool
    bases: set[str]
    fields: dict[str, set[str]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)


class Code:
    """Classes and functions of some modules.

    Args:
        modules: the trees, by the modules' names.
        records: full names of classes that only hold, although something of them is awaited.
    """

    def __init__(self, modules: Mapping[str, ast.Module], *, records: Collection[str] = ()) -> None:
        self._modules, self._records = modules, records
        self._names, classes = dict[str, dict[str, str]](), dict[str, list[ast.ClassDef]]()
        for module, tree in modules.items():
            self._names[module] = _names(module, tree)
            classes[module] = [node for node in _nodes(tree) if isinstance(node, ast.ClassDef)]
        self._shapes = dict[str, Shape]()
        self._gives = dict[str, set[str]]()
        for module, tree in modules.items():
            names = {each: self._defined(full) for each, full in self._names[module].items()}
            self._names[module] = names
            for made in classes[module]:
                self._shapes[f"{module}.{made.name}"] = self._shape(made, names)
            for node in tree.body:
                if isinstance(node, ast.FunctionDef):
                    self._gives[f"{module}.{node.name}"] = self._classes(node.returns, names)
        while more := [each for each in self._shapes.values() if each.does and not each.works and self._holds(each)]:
            for each in more:
                each.works = True

    def _defined(self, name: str) -> str:
        """Give the name of something where it is defined, from where it is imported again."""
        module, _, own = name.rpartition(".")
        there = self._names.get(module, {}).get(own, name)
        return name if there == name else self._defined(there)

    def works(self, name: str) -> bool:
        """Tell whether a class does more than to hold."""
        if name not in self._shapes or name in self._records:
            return False
        return self._shapes[name].works or any(map(self.works, self._shapes[name].bases))

    def _holds(self, shape: Shape) -> bool:
        return any(self.works(name) for names in shape.fields.values() for name in names)

    def _field(self, name: str, attribute: str) -> set[str]:
        """Give the classes of an attribute, which a class may have from those that it is made of."""
        shape = self._shapes.get(name)
        if shape is None:
            return set()
        inherited = {each for base in shape.bases for each in self._field(base, attribute)}
        return shape.fields.get(attribute, set()) | inherited

    def _classes(self, annotation: ast.expr | None, names: Mapping[str, str]) -> set[str]:
        """Give the classes that an annotation names."""
        if annotation is None or ast.unparse(annotation).startswith("Callable"):
            return set()  # of what is called, a caller knows no more than of a method
        return {names[node.id] for node in ast.walk(annotation) if isinstance(node, ast.Name) and node.id in names}

    def _shape(self, node: ast.ClassDef, names: Mapping[str, str]) -> Shape:
        called = [
            each
            for each in node.body
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            and not each.name.startswith("__")
            and not {"classmethod", "staticmethod"} & {ast.unparse(one) for one in each.decorator_list}
        ]
        shape = Shape(
            works=any(ast.unparse(base).startswith("Protocol") for base in node.bases)
            or any(isinstance(each, ast.AsyncFunctionDef) for each in called),
            does=bool(called),
            bases={each for base in node.bases for each in self._classes(base, names)},
        )
        shape.answers = {each.name: ast.unparse(each.returns) for each in called if each.returns}
        for each in node.body:
            match each:
                case ast.AnnAssign(target=ast.Name(id=name)):
                    shape.fields[name] = self._classes(each.annotation, names)
                case ast.FunctionDef(name="__init__"):
                    shape.fields |= self._kept(each, names)
                case ast.FunctionDef() if any("property" in ast.unparse(one) for one in each.decorator_list):
                    shape.fields[each.name] = self._classes(each.returns, names)
        return shape

    def _kept(self, init: ast.FunctionDef, names: Mapping[str, str]) -> dict[str, set[str]]:
        """Give what a constructor that is written out keeps of what it is given, or makes."""
        given, kept = self._given(init, names), dict[str, set[str]]()
        for target, value, annotation in _assigned(init):
            if isinstance(target, ast.Attribute):
                used = {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}
                made = {names[each] for each in used if each in names} if isinstance(value, ast.Call) else set()
                kept[target.attr] = (
                    self._classes(annotation, names) or made or {one for each in used for one in given.get(each, set())}
                )
        return kept

    def _given(self, function: _Function, names: Mapping[str, str]) -> dict[str, set[str]]:
        arguments = function.args
        return {each.arg: self._classes(each.annotation, names) for each in [*arguments.args, *arguments.kwonlyargs]}

    def reached(self, module: str) -> list[str]:
        """Name the places in a module, by line, at which something that works is reached through something else."""
        names, places = self._names[module], list[tuple[int, str]]()
        for function, owner in _functions(self._modules[module], None):
            here = self._known_in(function, names, f"{module}.{owner}" if owner else None)
            for node in _nodes(function):
                if not isinstance(node, ast.Attribute):
                    continue
                before = (self._of(each, here, names) for each in _before(node))
                third = self._of(node, here, names)
                if any(map(self.works, third)) and any(self.works(each) for classes in before for each in classes):
                    places.append((node.lineno, ast.unparse(node)))
        return [f"{line}: {text}" for line, text in sorted({*places})]

    def answer_of(self, name: str, method: str) -> str | None:
        """Give what a method of a class gives, as it is annotated; ``None`` if the class does not have it."""
        shape = self._shapes.get(name)
        if shape is None:
            return None
        inherited = (self.answer_of(base, method) for base in shape.bases)
        return shape.answers.get(method) or next(filter(None, inherited), None)

    def awaited(self, module: str) -> Iterator[tuple[ast.stmt, str, set[tuple[str, str]]]]:
        """Give the statements that await a method and keep nothing of its answer.

        Yields:
            The statement, the method's name, and the classes that it may be of, each with what it gives.
        """
        names = self._names[module]
        for function, owner in _functions(self._modules[module], None):
            here = self._known_in(function, names, f"{module}.{owner}" if owner else None)
            for node in _nodes(function):
                match node:
                    case (
                        ast.Expr(value=ast.Await(value=ast.Call(func=ast.Attribute() as called)))
                        | ast.Assign(
                            targets=[ast.Name(id="_")],
                            value=ast.Await(value=ast.Call(func=ast.Attribute() as called)),
                        )
                    ):
                        of = self._of(called.value, here, names)
                        answers = {(each, self.answer_of(each, called.attr)) for each in of}
                        yield node, called.attr, {(each, answer) for each, answer in answers if answer}

    def _known_in(self, function: _Function, names: Mapping[str, str], owner: str | None) -> dict[str, set[str]]:
        """Give the classes of what has a name in a function."""
        inner = [each for each in _nodes(function) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        here = {name: of for each in inner for name, of in self._given(each, names).items()}
        if owner:
            here["self"] = {owner}
        for target, value, annotation in _assigned(function):
            if isinstance(target, ast.Name):
                found = self._classes(annotation, names) or self._of(value, here, names)
                here[target.id] = here.get(target.id, set()) | found
        return here

    def _of(self, node: ast.expr, here: Mapping[str, set[str]], names: Mapping[str, str]) -> set[str]:
        """Give the classes that an expression may be of, as far as its names tell."""
        match node:
            case ast.Name(id=name):
                return here.get(name, set())
            case ast.Attribute(value=value, attr=name):
                return {each for one in self._of(value, here, names) for each in self._field(one, name)}
            case ast.Call(func=ast.Name(id=name)) if name in names:
                return self._gives.get(names[name], {names[name]})
        return set()


def _before(node: ast.Attribute) -> Iterator[ast.expr]:
    """Give what an attribute is reached through, but for the instance itself."""
    value = node.value
    while not (isinstance(value, ast.Name) and value.id in {"self", "cls"}):
        yield value
        if not isinstance(value, ast.Attribute):
            return
        value = value.value


@lru_cache(maxsize=2)
def _nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Give all that is in a tree; the same one is looked through several times."""
    return tuple(ast.walk(tree))


def _names(module: str, tree: ast.Module) -> dict[str, str]:
    """Give the full names of what a module imports and defines."""
    defined = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    known = {name: f"{module}.{name}" for name in defined}
    for node in _nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            known |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return known


def _assigned(function: _Function) -> Iterator[tuple[ast.expr, ast.expr, ast.expr | None]]:
    """Give each target with its value, and its annotation if it has one."""
    for node in _nodes(function):
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                for target, value in zip(targets, values, strict=True):
                    yield target, value, None
            case ast.Assign(targets=[target], value=value):
                yield target, value, None
            case ast.AnnAssign(target=target, value=value, annotation=annotation):
                yield target, value or annotation, annotation


def _functions(tree: ast.AST, owner: str | None) -> Iterator[tuple[_Function, str | None]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, owner
