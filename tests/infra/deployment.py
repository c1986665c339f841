"""Computes what infra/ deploys for given parameters, so that tests can look at it: a what-if without Azure.

It knows the part of Bicep that infra/ uses. What only Azure knows, such as an address, is a text in angle brackets.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.infra.bicep import INFRA, Source, fields, line, parse, source, text
from tests.infra.kinds import FaultError, Later, check_body, check_call, check_declared, check_deployment_name, read

if TYPE_CHECKING:
    from pathlib import Path

    from tree_sitter import Node

type Env = dict[str | int, Any]
"""What loops and lambdas bring, by name; and the ids of lambdas that are being computed."""

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"
_LAMBDA_FIRST = {"member_expression", "subscript_expression", "binary_expression", "ternary_expression"}


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that is deployed, or only referred to.

    Attributes:
        kind: its type, without the version.
        name: as it is said; without its parent's where a parent is named.
        path: the same with those of its parents.
        group: id of what it is deployed in: a resource group, or the subscription.
        body: what it is deployed with; empty if it was there.
        on: the resource that it extends, such as what a role is assigned on.
        version: of its type.
    """

    kind: str
    name: str
    path: str
    group: str
    body: Mapping[str, Any] = field(default_factory=dict)
    on: Resource | None = None
    version: str = ""

    @property
    def id(self) -> str:
        """Its id, as Azure makes it."""
        if self.kind == "Microsoft.Resources/resourceGroups":
            return f"{self.group}/resourceGroups/{self.name}"
        provider, *types = self.kind.split("/")
        parts = [part for pair in zip(types, self.path.split("/"), strict=True) for part in pair]
        return "/".join((self.on.id if self.on else self.group, "providers", provider, *parts))


@dataclass(frozen=True, slots=True)
class Module:
    """A deployed module: its outputs."""

    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployment came to.

    Attributes:
        resources: all that are deployed.
        computed: ids of the nodes that were computed.
    """

    resources: list[Resource] = field(default_factory=list)
    computed: set[int] = field(default_factory=set)


def compute(expression: str, **known: Any) -> Any:
    """Give the value of an expression in Bicep."""
    file = Source(INFRA / "nowhere.bicep", parse(f"var it = {expression}\n".encode()))
    here = f"{SUBSCRIPTION}/resourceGroups/here"
    return _File(file, here, known, Deployment()).value(file.variables["it"], {})


def deploy(**parameters: Any) -> tuple[list[Resource], Mapping[str, Any]]:
    """Give all that main.bicep deploys with some parameters, and its outputs.

    Raises:
        FaultError: Bicep or Azure would refuse it.
    """
    deployed = Deployment()
    return deployed.resources, deploy_file(source(INFRA / "main.bicep"), deployed, **parameters)


def deploy_file(file: Source, deployed: Deployment, **parameters: Any) -> Mapping[str, Any]:
    """Deploy a file, and give its outputs; what was deployed and computed is added to ``deployed``.

    Raises:
        FaultError: Bicep or Azure would refuse it.
    """
    return _File(file, SUBSCRIPTION, parameters, deployed).deploy()


class _File:
    """One file, deployed once."""

    def __init__(self, file: Source, group: str, parameters: Mapping[str, Any], deployed: Deployment) -> None:
        self._file, self._group, self._deployed = file, group, deployed
        self._known: dict[str, Any] = dict(parameters)
        self._lazy = dict(file.variables)
        for name, node in file.parameters.items():
            if name not in self._known:
                self._lazy[name] = node.named_children[-1]

        declared = {"resource_declaration", "module_declaration"}
        self._waiting = {
            text(each.named_children[0]): each for each in file.root.named_children if each.type in declared
        }

    def deploy(self) -> Mapping[str, Any]:
        for name, node in self._file.parameters.items():
            self._checked(node, lambda name=name, node=node: check_declared(node, self._named(name)))  # type: ignore[misc]
        while self._waiting:
            self._declare(next(iter(self._waiting)))
        return {name: self._output(name) for name in self._file.outputs}

    def _output(self, name: str) -> Any:
        value = self._file.outputs[name]
        computed = self.value(value, {})
        self._checked(value, lambda: check_declared(value.parent, computed))  # type: ignore[arg-type]
        return computed

    def _checked[T](self, node: Node, does: Callable[[], T]) -> T:
        """Do something, and say of a fault where it is."""
        try:
            return does()
        except FaultError as fault:
            if str(fault).startswith(_SAYS_WHERE):
                raise
            raise FaultError(f"{_SAYS_WHERE}{self._file.path.name}:{line(node)}: {fault}") from None

    def _declare(self, symbol: str) -> None:
        node = self._waiting.pop(symbol)
        what = text(node.named_children[1])[1:-1]
        if node.type == "module_declaration":

            def make(body: Node, env: Env) -> Any:
                return self._module(what, body, env)

        else:
            existing = "existing" in [text(each) for each in node.children]

            def make(body: Node, env: Env) -> Any:
                return self._resource(what, body, env, existing=existing)

        self._known[symbol] = self._turns(node.named_children[-1], {}, make)

    def _turns(self, node: Node, env: Env, make: Callable[[Node, Env], Any]) -> Any:
        """Do something with a body: once, for each turn of a loop, or not at all if a condition does not hold."""
        if node.type == "for_statement":
            return [self._turns(_body(node), env | turn, make) for turn in self._loop(node, env)]
        if node.type == "if_statement":
            return make(node.named_children[-1], env) if self.value(node.named_children[0], env) else None
        return make(node, env)

    def _loop(self, node: Node, env: Env) -> list[Env]:
        names = [text(each) for each in node.named_children[0].named_children] or [text(node.named_children[0])]
        return [
            dict(zip(names, (item, i), strict=False)) for i, item in enumerate(self.value(node.named_children[1], env))
        ]

    def _resource(self, what: str, body: Node, env: Env, *, existing: bool) -> Resource:
        kind, _, version = what.partition("@")
        said = {key: self.value(value, env) for key, value in fields(body) if key != "dependsOn"}
        parent, scope = said.pop("parent", None), said.pop("scope", None)
        path = f"{parent.path}/{said['name']}" if parent else said["name"]
        on = scope if isinstance(scope, Resource) and not existing else None
        group = scope.id if isinstance(scope, Resource) and existing else self._group
        made = Resource(kind, said["name"], path, group, {} if existing else said, on, version)
        if not existing:
            self._checked(body, lambda: check_body(what, said))
            self._deployed.resources.append(made)
        return made

    def _module(self, path: str, body: Node, env: Env) -> Module:
        said = dict(fields(body))
        scope = self.value(said["scope"], env)
        if "name" in said:
            named = self.value(said["name"], env)
            self._checked(said["name"], lambda: check_deployment_name(named))
        given = {key: self.value(value, env) for key, value in fields(said["params"])}
        inner = _File(source(self._file.path.parent / path), scope.id, given, self._deployed)
        return Module(inner.deploy())

    # Expressions

    def value(self, node: Node, env: Env) -> Any:
        """Compute an expression."""
        self._deployed.computed.add(node.id)
        first = _first(node)
        if first.type == "lambda_expression" and first.id not in env:
            return self._lambda(node, first, env)
        method: Callable[[Node, Env], Any] = getattr(self, f"_{node.type}")
        return method(node, env)

    def _lambda(self, whole: Node, node: Node, env: Env) -> Callable[..., Any]:
        """Make a function. The grammar ends a lambda too early, so its body is the whole in which it comes first."""
        names = [text(each) for each in node.named_children[:-1]]
        return lambda *given: self.value(whole, {**env, **dict(zip(names, given, strict=False)), node.id: True})

    def _lambda_expression(self, node: Node, env: Env) -> Any:
        return self.value(node.named_children[-1], env)

    def _identifier(self, node: Node, env: Env) -> Any:
        name = text(node)
        return env[name] if name in env else self._named(name)

    def _named(self, name: str) -> Any:
        if name in self._waiting:
            self._declare(name)
        if name not in self._known:
            self._known[name] = self.value(self._lazy[name], {})
        return self._known[name]

    def _string(self, node: Node, env: Env) -> str:
        """Put a text together. The grammar drops spaces at its ends, so what is said is taken from the source."""
        raw, at, parts = node.text or b"", 1, list[str]()
        for each in node.named_children:
            if each.type == "interpolation":
                self._deployed.computed.add(each.id)
                start, end = each.children[0].end_byte - 2 - node.start_byte, each.end_byte - node.start_byte
                parts += [_said(raw[at:start]), str(self.value(each.named_children[0], env))]
                at = end
        return "".join([*parts, _said(raw[at:-1])])

    def _number(self, node: Node, _env: Env) -> int:
        return int(text(node))

    def _boolean(self, node: Node, _env: Env) -> bool:
        return text(node) == "true"

    def _null(self, _node: Node, _env: Env) -> None:
        return None

    def _array(self, node: Node, env: Env) -> list[Any]:
        return [self.value(each, env) for each in node.named_children if each.type != "comment"]

    def _object(self, node: Node, env: Env) -> dict[str, Any]:
        computed = (each.named_children[0] for each in node.named_children if each.type == "object_property")
        keys = [self.value(key, env) if key.type == "string" else text(key) for key in computed]
        return dict(zip(keys, (self.value(value, env) for _, value in fields(node)), strict=True))

    def _for_statement(self, node: Node, env: Env) -> Any:
        return self._turns(node, env, self.value)

    def _parenthesized_expression(self, node: Node, env: Env) -> Any:
        return self.value(node.named_children[0], env)

    def _ternary_expression(self, node: Node, env: Env) -> Any:
        condition, yes, no = node.named_children
        return self.value(yes if self.value(condition, env) else no, env)

    def _unary_expression(self, node: Node, env: Env) -> Any:
        value = self.value(node.named_children[0], env)
        return not value if text(node.children[0]) == "!" else -value

    def _binary_expression(self, node: Node, env: Env, then: Callable[[Any], Any] = lambda value: value) -> Any:
        left = self.value(node.named_children[0], env)

        def right() -> Any:
            return self._last(node.named_children[-1], env, then)

        decide: dict[str, Callable[[], Any]] = {
            "==": lambda: left == right(),
            "!=": lambda: left != right(),
            "&&": lambda: left and right(),
            "||": lambda: left or right(),
            "??": lambda: right() if left is None else left,
            ">": lambda: left > right(),
            "+": lambda: left + right(),
        }
        return decide[text(node.children[1])]()

    def _member_expression(self, node: Node, env: Env) -> Any:
        """Take a part of a value. To the grammar ``a ? b : c.d`` is ``(a ? b : c).d``, so parts are taken of what is last."""
        parts = []
        while node.type in {"member_expression", "subscript_expression"}:
            parts.append(node)
            node = node.named_children[0]

        def part(of: Any) -> Any:
            return functools.reduce(lambda value, each: self._part(each, value, env), reversed(parts), of)

        return self._last(node, env, part)

    _subscript_expression = _member_expression

    def _last(self, node: Node, env: Env, then: Callable[[Any], Any]) -> Any:
        if node.type == "ternary_expression":
            condition, yes, no = node.named_children
            return self.value(yes, env) if self.value(condition, env) else self._last(no, env, then)
        if node.type == "binary_expression":
            return self._binary_expression(node, env, then)
        if node.type == "lambda_expression":
            return self._last(node.named_children[-1], env, then)
        return then(self.value(node, env))

    def _part(self, node: Node, of: Any, env: Env) -> Any:
        self._deployed.computed.add(node.id)
        if node.type == "subscript_expression":
            index = self.value(node.named_children[1], env)
            return self._checked(node, lambda: _at(of, index))
        name = text(node.named_children[-1])
        if isinstance(of, Mapping) and f".?{name}" in text(node):
            return of.get(name)
        return self._checked(node, lambda: _property(of, name))

    def _call_expression(self, node: Node, env: Env) -> Any:
        called, arguments = node.named_children
        given = [self.value(each, env) for each in arguments.named_children]
        if called.type == "member_expression":
            of = self.value(called.named_children[0], env)
            self._deployed.computed.add(called.id)
            return Answered(f"<{of.name}.{text(called.named_children[1])}()>")
        name = text(called)
        self._checked(node, lambda: check_call(name, given))
        if name in {"loadJsonContent", "loadTextContent"}:
            return _load(self._file.path.parent / given[0], as_json=name == "loadJsonContent")
        here = self._group.split("/")[2::2]
        if name == "resourceGroup":
            return _group(given or here)
        if name == "resourceId" and len(given) == 2:
            return _resource_id(*here, *given)
        return _FUNCTIONS[name](*given)


class Answered(str):
    """What a call of a resource, such as ``listkeys``, answers: anything, as far as is known here."""

    __slots__ = ()


_SAYS_WHERE = "at "


def _at(of: Any, index: Any) -> Any:
    if isinstance(of, Answered):
        return Answered(f"{of.removesuffix('>')}[{index}]>")
    if isinstance(of, Mapping):
        return _property(of, index)
    if not isinstance(of, Sequence) or not isinstance(index, int) or not 0 <= index < len(of):
        raise FaultError(f"there is no {index!r} in it")
    return of[index]


def _property(of: Any, name: str) -> Any:
    if isinstance(of, Answered):
        return Answered(f"{of.removesuffix('>')}.{name}>")
    if isinstance(of, Later):
        return of.part(name)
    if isinstance(of, Mapping):
        if name not in of:
            raise FaultError(f"it has no {name!r}; it has {', '.join(map(str, of)) or 'nothing'}")
        return of[name]
    if isinstance(of, Module) and name == "outputs":
        return of.outputs
    if isinstance(of, Resource):
        return getattr(of, name) if name in {"id", "name"} else read(of.name, f"{of.kind}@{of.version}", name)
    raise FaultError(f"it has no {name!r}, since it is {of!r}")


def _said(raw: bytes) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), raw.decode())


def _body(loop: Node) -> Node:
    return loop.child_by_field_name("body") or loop.named_children[-1]


def _first(node: Node) -> Node:
    while node.type in _LAMBDA_FIRST:
        node = node.named_children[0]
    return node


def _load(path: Path, *, as_json: bool) -> Any:
    content = path.read_text(encoding="utf-8")
    return json.loads(content) if as_json else content


def _group(named: Sequence[str]) -> Resource:
    return Resource("Microsoft.Resources/resourceGroups", named[1], named[1], f"/subscriptions/{named[0]}")


def _unique(*of: Any) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:13].translate(str.maketrans("0123456789", "ghijklmnop"))


def _guid(*of: Any) -> str:
    found = hashlib.sha256(repr(of).encode()).hexdigest()
    return "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:32]))


def _union(*of: Any) -> Any:
    if isinstance(of[0], Mapping):
        return {key: value for each in of for key, value in each.items()}
    found: list[Any] = []
    for item in (item for each in of for item in each):
        if item not in found:
            found.append(item)
    return found


def _resource_id(subscription: str, group: str, kind: str, name: str) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{kind}/{name}"


def _subnet(space: str, bits: int, index: int) -> str:
    return str(list(ipaddress.ip_network(space).subnets(new_prefix=bits))[index])


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "any": lambda of: of,
    "cidrSubnet": _subnet,
    "concat": lambda *of: [item for each in of for item in each],
    "contains": lambda of, what: what in of,
    "empty": lambda of: not of,
    "environment": lambda: {
        "suffixes": {"storage": "core.windows.net"},
        "authentication": {"loginEndpoint": "https://login.microsoftonline.com/"},
        "resourceManager": "https://management.azure.com/",
    },
    "filter": lambda of, fits: [item for item in of if fits(item)],
    "flatten": lambda of: [item for each in of for item in each],
    "guid": _guid,
    "indexOf": lambda of, what: of.index(what),
    "intersection": lambda one, other: [item for item in one if item in other],
    "items": lambda of: [{"key": key, "value": of[key]} for key in sorted(of)],
    "join": lambda of, between: between.join(of),
    "last": lambda of: of[-1],
    "length": len,
    "map": lambda of, made: [made(item) for item in of],
    "range": lambda start, count: list(range(start, start + count)),
    "replace": lambda of, old, new: of.replace(old, new),
    "resourceId": _resource_id,
    "skip": lambda of, count: of[count:],
    "split": lambda of, at: of.split(at),
    "subscription": lambda: {"id": SUBSCRIPTION, "subscriptionId": SUBSCRIPTION.rsplit("/", 1)[1]},
    "subscriptionResourceId": lambda kind, name: f"{SUBSCRIPTION}/providers/{kind}/{name}",
    "take": lambda of, count: of[:count],
    "tenant": lambda: {"tenantId": "11111111-1111-1111-1111-111111111111"},
    "toLower": lambda of: of.lower(),
    "toObject": lambda of, key, value: {key(item): value(item) for item in of},
    "union": _union,
    "uniqueString": _unique,
}
