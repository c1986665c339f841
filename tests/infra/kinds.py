"""The types of Bicep, held against values: what a function takes, what a parameter says, what Azure has for a property.

Bicep's compiler does this with expressions. Here the values are looked at that the expressions come to, so a fault shows
where it is computed; test_kinds.py sees that everything in infra/ is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.infra.bicep import literal, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

_FACTS = Path(__file__).parent / "facts"
TYPES: Mapping[str, Any] = json.loads((_FACTS / "resource_types.json").read_text(encoding="utf-8"))["types"]
READ: Mapping[str, Mapping[str, str]] = json.loads((_FACTS / "read_properties.json").read_text(encoding="utf-8"))[
    "types"
]
OF_EVERY_RESOURCE = {"scope", "parent", "dependsOn"}


class FaultError(Exception):
    """Bicep, or Azure, would refuse this; the text says where and why."""


class Later(str):
    """A text that only Azure knows: a property of a resource, such as ``<vault.properties.vaultUri>``.

    Attributes:
        what: type and version of the resource.
        path: of the property.
    """

    __slots__ = ("path", "what")
    what: str
    path: str

    def __new__(cls, name: str, what: str, path: str) -> Self:
        """Compose the text."""
        made = super().__new__(cls, f"<{name}.{path}>")
        made.what, made.path = what, path
        return made

    def part(self, name: str) -> Later:
        """Give a property below.

        Raises:
            FaultError: the resource does not have it, or nobody has looked it up yet.
        """
        return read(self[1:-1].partition(".")[0], self.what, f"{self.path}.{name}")


def read(name: str, what: str, path: str) -> Later:
    """Give a property of a resource.

    Raises:
        FaultError: facts/read_properties.json does not have it.
    """
    known = READ.get(what, {})
    if path not in ("id", "location", "name", "type") and not any(f"{each}.".startswith(f"{path}.") for each in known):
        raise FaultError(f"{what} has no property {path!r}; looked up are {', '.join(known) or 'none'}")
    return Later(name, what, path)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes.

    Attributes:
        kinds: of each argument; several are divided by ``|``.
        least: so many have to be there.
        more: kind of any number of further ones; empty for none.
    """

    kinds: tuple[str, ...] = ()
    least: int = 0
    more: str = ""


def _takes(*kinds: str, least: int | None = None, more: str = "") -> Signature:
    return Signature(kinds, len(kinds) if least is None else least, more)


SIGNATURES: Mapping[str, Signature] = {
    # Microsoft's pages "Bicep functions - ..." (azure/azure-resource-manager/bicep/bicep-functions-array and its like).
    "any": _takes("any"),
    "cidrSubnet": _takes("string", "int", "int"),
    "concat": _takes("array|string", more="array|string"),
    "contains": _takes("array|object|string", "any"),
    "empty": _takes("array|null|object|string"),
    "environment": _takes(),
    "filter": _takes("array", "lambda"),
    "flatten": _takes("array"),
    "guid": _takes("string", more="string"),
    "indexOf": _takes("array|string", "any"),
    "intersection": _takes("array|object", "array|object", more="array|object"),
    "items": _takes("object"),
    "join": _takes("array", "string"),
    "last": _takes("array|string"),
    "length": _takes("array|object|string"),
    "loadJsonContent": _takes("string", "string", "string", least=1),
    "loadTextContent": _takes("string", "string", least=1),
    "map": _takes("array", "lambda"),
    "range": _takes("int", "int"),
    "replace": _takes("string", "string", "string"),
    "resourceGroup": _takes("string", "string", least=0),
    "resourceId": _takes("string", "string", more="string"),
    "skip": _takes("array|string", "int"),
    "split": _takes("string", "array|string"),
    "string": _takes("any"),
    "subscription": _takes("string", least=0),
    "subscriptionResourceId": _takes("string", "string", more="string"),
    "take": _takes("array|string", "int"),
    "tenant": _takes(),
    "toLower": _takes("string"),
    "toObject": _takes("array", "lambda", "lambda", least=2),
    "union": _takes("array|object", "array|object", more="array|object"),
    "uniqueString": _takes("string", more="string"),
}


def kind_of(value: Any) -> str:
    """Name the type that Bicep has for a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    kinds = ((int, "int"), (str, "string"), (Mapping, "object"), (Sequence, "array"), (Callable, "lambda"))
    return next((name for python, name in kinds if isinstance(value, python)), "object")  # type: ignore[arg-type]


def check_call(name: str, given: Sequence[Any]) -> None:
    """See that a function exists and takes what it is given.

    Raises:
        FaultError: it does not.
    """
    if name not in SIGNATURES:
        raise FaultError(f"there is no function {name!r}, or nobody has looked it up yet")
    signature = SIGNATURES[name]
    if len(given) < signature.least or (len(given) > len(signature.kinds) and not signature.more):
        raise FaultError(f"{name} does not take {len(given)} arguments")
    for i, value in enumerate(given):
        wanted = signature.kinds[i] if i < len(signature.kinds) else signature.more
        if wanted != "any" and kind_of(value) not in wanted.split("|"):
            raise FaultError(f"argument {i + 1} of {name} is {kind_of(value)}, expected {wanted}")


def check_declared(node: Node, value: Any) -> None:
    """See that a value is what a ``param`` or an ``output`` declares, and what the decorators of a ``param`` allow.

    Raises:
        FaultError: it is not.
    """
    name, declared = text(node.named_children[0]), text(node.named_children[1])
    _check_type(declared, value, name)
    for decorator, argument in _decorators(node):
        if decorator == "allowed":
            allowed = [literal(each) for each in argument.named_children]
            if value not in allowed:
                raise FaultError(f"{name} is {value!r}, and {allowed} are allowed")
        elif decorator in _LIMITS and not (isinstance(value, str) and "<" in value):
            fits = _LIMITS[decorator]
            limit = literal(argument)
            if isinstance(limit, int) and not fits(value, limit):
                raise FaultError(f"{name} is {value!r}, against its {decorator} {limit}")


_LIMITS: Mapping[str, Callable[[Any, int], bool]] = {
    "minValue": lambda value, limit: value >= limit,
    "maxValue": lambda value, limit: value <= limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "maxLength": lambda value, limit: len(value) <= limit,
}


def _check_type(declared: str, value: Any, name: str) -> None:
    if declared.endswith("[]"):
        _check_type("array", value, name)
        for i, each in enumerate(value):
            _check_type(declared.removesuffix("[]"), each, f"{name}[{i}]")
    elif kind_of(value) != declared:
        raise FaultError(f"{name} is {kind_of(value)}, expected {declared}")


def _decorators(node: Node) -> Iterator[tuple[str, Node]]:
    before = node.prev_named_sibling
    if before is not None and before.type == "decorators":
        for each in before.named_children:
            called, arguments = each.named_children[0].named_children
            yield text(called), arguments.named_children[0]


def check_deployment_name(name: Any) -> None:
    """See that a module can be deployed under a name ("Naming rules", Microsoft.Resources/deployments: 1 to 64).

    Raises:
        FaultError: it can't.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= 64:
        raise FaultError(f"{name!r} is not the name of a deployment: 1 to 64 characters")


def check_body(what: str, body: Mapping[str, Any]) -> None:
    """See that what a resource is deployed with has the shape that Azure has for it.

    Raises:
        FaultError: it has not.
    """
    if what in TYPES:
        _check_shape(TYPES[what], body, what.partition("@")[0].rsplit("/", 1)[-1])


def _check_shape(fact: Mapping[str, Any], value: Any, path: str) -> None:
    if value is None or fact["type"] == "any":
        return
    if kind_of(value) != fact["type"]:
        raise FaultError(f"{path} is {kind_of(value)}, expected {fact['type']}")
    if fact["type"] == "object":
        known = fact.get("properties", {})
        for name, each in value.items():
            if name in known or "additional" in fact:
                _check_shape(known.get(name) or fact["additional"], each, f"{path}.{name}")
            elif "properties" in fact and not (name in OF_EVERY_RESOURCE and "." not in path):
                raise FaultError(f"{path}.{name}: Azure does not know this property")
    elif fact["type"] == "array":
        for i, each in enumerate(value):
            _check_shape(fact.get("items", {"type": "any"}), each, f"{path}[{i}]")
    elif "values" in fact and not fact.get("open") and value not in fact["values"]:
        raise FaultError(f"{path} is {value!r}, expected one of {fact['values']}")
