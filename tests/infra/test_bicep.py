"""The Bicep of infra/ can be parsed, its names lead somewhere, and Azure knows what it deploys.

What stands in for the compiler: facts/resource_types.json has the shapes of Azure's resource types. Here it is looked at
what is written; test_kinds.py looks at what it comes to.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.bicep import FILES, INFRA, alternatives, fields, line, literal, parse, source, text, walk
from tests.infra.kinds import OF_EVERY_RESOURCE, SIGNATURES, TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

FACTS = Path(__file__).parent / "facts"
ROLES: dict[str, str] = json.loads((FACTS / "roles.json").read_text(encoding="utf-8"))["roles"]

NODES = {"string": {"string"}, "int": {"number"}, "bool": {"boolean"}, "array": {"array"}, "object": {"object"}}
LITERALS = {"string", "number", "boolean", "array", "object"}


def syntax_faults(root: Node) -> list[str]:
    """Say where the syntax is broken."""
    return [f"{line(each)}: {text(each)[:60]!r}" for each in walk(root) if each.type == "ERROR" or each.is_missing]


def shape_faults(fact: dict[str, Any], node: Node, path: str) -> Iterator[str]:
    """Say what of a value does not fit the shape that Azure has for it. What is computed is taken as it is."""
    for each in alternatives(node):
        if each.type in LITERALS and fact["type"] != "any":
            at = f"{line(each)}: {path}"
            if each.type not in NODES[fact["type"]] and not (fact["type"] == "array" and node.type == "for_statement"):
                yield f"{at}: {each.type}, expected {fact['type']}"
            elif fact["type"] == "object":
                yield from _object_faults(fact, each, path)
            elif fact["type"] == "array":
                turns = (
                    [each] if node.type == "for_statement" else [c for c in each.named_children if c.type != "comment"]
                )
                for turn in turns:
                    yield from shape_faults(fact.get("items", {"type": "any"}), turn, f"{path}[]")
            elif fact["type"] == "string" and not fact.get("open"):
                yield from _text_faults(fact, literal(each), at)


def _object_faults(fact: dict[str, Any], node: Node, path: str) -> Iterator[str]:
    given = dict(fields(node))
    known = fact.get("properties", {})
    for name, value in given.items():
        if name in known:
            yield from shape_faults(known[name], value, f"{path}.{name}")
        elif "additional" in fact:
            yield from shape_faults(fact["additional"], value, f"{path}.{name}")
        elif "properties" in fact and not (name in OF_EVERY_RESOURCE and "." not in path):
            yield f"{line(value)}: {path}.{name}: Azure does not know this property"
    for name in known:
        if known[name].get("required") and name not in given:
            yield f"{line(node)}: {path}.{name} is missing"


def _text_faults(fact: dict[str, Any], said: Any, at: str) -> Iterator[str]:
    if said is None:
        return
    if "values" in fact and said not in fact["values"]:
        yield f"{at}: {said!r}, expected one of {fact['values']}"
    if not fact.get("minLength", 0) <= len(said) <= fact.get("maxLength", len(said)):
        yield f"{at}: {said!r} has a length that Azure does not take"


def resource_faults(path: Path) -> list[str]:
    """Say what of the resources in a file Azure does not know."""
    found = []
    for resource in source(path).resources:
        if resource.what not in TYPES:
            found.append(f"{line(resource.node)}: {resource.what} is not in facts/resource_types.json")
        elif not resource.existing:
            name = resource.what.split("@")[0].rsplit("/", 1)[-1]
            for body in resource.bodies:
                found += shape_faults(TYPES[resource.what], body, name)
    return found


def names_in(node: Node, known: frozenset[str]) -> Iterator[Node]:
    """Give the names that a node uses without knowing them: parameters, variables, symbols, and what loops bring."""
    known |= _brought_by_lambda(node)
    if node.type == "for_statement":
        brought = node.child_by_field_name("initializer") or node.named_children[0]
        known |= {
            text(each) for each in walk(brought) if each.type in {"identifier", "loop_variable", "loop_enumerator"}
        }
        for each in node.named_children[1:]:
            yield from names_in(each, known)
    elif node.type == "object_property":
        for each in node.named_children if node.named_children[0].type == "string" else node.named_children[1:]:
            yield from names_in(each, known)
    elif node.type == "identifier":
        if text(node) not in known:
            yield node
    else:
        for each in node.named_children:
            yield from names_in(each, known)


def _brought_by_lambda(node: Node) -> set[str]:
    """Give the parameters of a lambda. The grammar ends one too early: ``x => y[x].z`` is ``(x => y)[x].z`` to it."""
    while node.type != "lambda_expression":
        if node.type not in {"member_expression", "subscript_expression", "binary_expression", "ternary_expression"}:
            return set()
        node = node.named_children[0]
    return {text(each) for each in walk(node.named_children[0]) if each.type == "identifier"}


def name_faults(path: Path) -> list[str]:
    """Say which names in a file lead nowhere."""
    file = source(path)
    declared = {*file.parameters, *file.variables, *(each.symbol for each in (*file.resources, *file.modules))}
    known = frozenset(declared | set(SIGNATURES))
    found = []
    for statement in file.root.named_children:
        if statement.type in {
            "variable_declaration",
            "output_declaration",
            "resource_declaration",
            "module_declaration",
        }:
            found += [f"{line(n)}: {text(n)}" for part in statement.named_children[1:] for n in names_in(part, known)]
    return found


def module_faults(path: Path) -> list[str]:
    """Say what a file gives to modules that they do not take, leaves out that they need, or asks that they do not give."""
    file, found = source(path), []
    for module in file.modules:
        target = source((path.parent / module.what).resolve())
        for body in module.bodies:
            given = {name for name, _ in fields(dict(fields(body))["params"])}
            where = f"{line(module.node)}: {module.what}"
            found += [f"{where} does not take {name}" for name in sorted(given - set(target.parameters))]
            found += [f"{where} needs {name}" for name in sorted(target.required - given)]
        outputs = re.findall(rf"\b{module.symbol}(?:\[\w+\])?!?\.outputs\.(\w+)", text(file.root))
        found += [f"{module.what} does not give {name}" for name in sorted(set(outputs) - set(target.outputs))]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_bicep_whose_names_lead_somewhere_and_whose_resources_azure_knows(path: Path) -> None:
    assert syntax_faults(source(path).root) == []
    assert name_faults(path) == []
    assert module_faults(path) == []
    assert resource_faults(path) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("param x string = \n", ["1: ''"]),
        ("resource a 'B' = {\n  name: \n", ["1: \"resource a 'B' = {\\n  name:\""]),
    ],
)
def test_broken_syntax_is_found(wrong: str, said: list[str]) -> None:
    assert bool(syntax_faults(parse(wrong.encode()))) == bool(said)


def test_a_resource_that_azure_does_not_know_is_found(tmp_path: Path) -> None:
    """A misspelt property, a value that does not exist, a type that does not fit, and what must be said."""
    path = tmp_path / "wrong.bicep"
    path.write_text(
        "param n string\n"
        "resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {\n"
        "  name: n\n"
        "  properties: {\n"
        "    tenantId: tenant().tenantId\n"
        "    sku: {\n      family: 'A'\n      name: 'platinum'\n    }\n"
        "    enablePurgeprotection: true\n"
        "    softDeleteRetentionInDays: '90'\n"
        "  }\n"
        "}\n"
        "resource old 'Microsoft.KeyVault/vaults@2019-09-01' = {\n  name: n\n}\n",
        encoding="utf-8",
    )
    assert resource_faults(path) == [
        "8: vaults.properties.sku.name: 'platinum', expected one of ['premium', 'standard']",
        "10: vaults.properties.enablePurgeprotection: Azure does not know this property",
        "11: vaults.properties.softDeleteRetentionInDays: string, expected int",
        "2: vaults.location is missing",
        "14: Microsoft.KeyVault/vaults@2019-09-01 is not in facts/resource_types.json",
    ]


def test_a_name_or_a_parameter_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "part.bicep").write_text("param a string\nparam b string = ''\noutput o string = a\n", encoding="utf-8")
    path = tmp_path / "whole.bicep"
    path.write_text(
        "param x string\n"
        "var all = map([x], each => '${each}${other}')\n"
        "module part 'part.bicep' = [\n"
        "  for (one, i) in all: {\n    params: {\n      b: one\n      c: i\n    }\n  }\n"
        "]\n"
        "output o string = part[0].outputs.p\n",
        encoding="utf-8",
    )
    assert name_faults(path) == ["2: other"]
    assert module_faults(path) == [
        "3: part.bicep does not take c",
        "3: part.bicep needs a",
        "part.bicep does not give p",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_uses_everything_that_it_takes_and_computes(path: Path) -> None:
    file = source(path)
    used = {
        text(each)
        for statement in file.root.named_children
        for part in statement.named_children[1:]
        for each in names_in(part, frozenset())
    }
    assert {*file.parameters, *file.variables} - used == set()


def test_every_module_is_our_own_and_is_used() -> None:
    """Nothing is taken from a module registry (br:, ts:)."""
    used = {(each.parent / module.what).resolve() for each in FILES for module in source(each).modules}
    assert used == {each.resolve() for each in FILES if each.parent.name == "modules"}


def test_every_fact_is_of_a_resource_that_is_deployed() -> None:
    assert set(TYPES) == {resource.what for path in FILES for resource in source(path).resources}


def test_a_role_that_bicep_names_by_its_id_is_one_of_azures() -> None:
    """The comment beside it gives the role's name."""
    named = {
        found[1]: found[2]
        for path in FILES
        for found in re.finditer(r"'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})' // (.+)", path.read_text("utf-8"))
    }
    ids = {
        found
        for path in FILES
        for found in re.findall(r"'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'", path.read_text("utf-8"))
    }
    assert ids == set(named)
    assert named == {each: ROLES[each] for each in named}


def test_the_parameter_file_gives_what_main_takes() -> None:
    """Each parameter from a variable of azd's environment, and the same default as in main.bicep."""
    given = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    main = source(INFRA / "main.bicep")
    assert set(given) == set(main.parameters)
    for name, node in main.parameters.items():
        variable = re.fullmatch(r"\$\{([A-Z_]+)(?:=(.*))?\}", given[name]["value"])
        assert variable, name
        if variable[2] is not None:
            default = node.named_children[-1]
            said = literal(default)
            assert variable[2] == (str(said).lower() if isinstance(said, bool) else text(default).strip("'")), name
