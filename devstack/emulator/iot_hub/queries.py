"""The query language over twins (Microsoft, "IoT Hub query language"): ``SELECT * FROM devices [WHERE condition]``.

Conditions have ``= != <> < > <= >=``, ``IN``, ``NIN``, ``IS_DEFINED``, ``AND``, ``OR``, ``NOT`` and parentheses. A
comparison with a property that is not there, or of another type, is undefined, and undefined is not true.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any

from devstack.emulator.iot_hub import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Twin = Mapping[str, Any]
    Condition = Callable[[Twin], bool | None]
    Operand = Callable[[Twin], Any]

_SHAPE = re.compile(r"select\s+(?P<list>.+?)\s+from\s+(?P<source>\S+)(?:\s+(?P<rest>.+))?", re.IGNORECASE | re.DOTALL)
_FORM = "SELECT * FROM devices [WHERE condition]"
_WHERE = re.compile(r"where\s+(?P<condition>.+)", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
    r"""|(?P<name>[A-Za-z_$][\w$-]*(?:\.[\w$-]+)*)|(?P<sign><=|>=|<>|!=|[=<>(),\[\]]))""",
    re.ASCII,
)
_ESCAPED = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_CONSTANTS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
_UNDEFINED = object()


def predicate(query: Any) -> Callable[[Twin], bool]:
    """Read a query, and give a test for twins.

    Raises:
        HubError: 400, it can't be read; 501, it asks for what the emulator lacks.
    """
    shape = _SHAPE.fullmatch(query.strip().rstrip("; \n\t")) if isinstance(query, str) else None
    if shape is None:
        raise errors.bad_argument(f"The query {query!r} is not of the form {_FORM}.")
    if shape["source"].lower() != "devices":
        raise errors.not_offered(f"queries FROM {shape['source']}: devices only")
    if shape["list"] != "*":
        raise errors.not_offered(f"projections and aggregates: SELECT {shape['list']}")
    if not shape["rest"]:
        return lambda _: True
    where = _WHERE.fullmatch(shape["rest"])
    if where is None:
        raise errors.not_offered(f"what follows FROM devices: {shape['rest']}")
    condition = _Parser(where["condition"]).whole()
    return lambda twin: condition(twin) is True


class _Parser:
    """Reads a condition by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._position = 0

    def whole(self) -> Condition:
        """Read all of it."""
        condition = self._either()
        if self._position < len(self._tokens):
            raise self._unexpected()
        return condition

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._took_word("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda twin: _any([part(twin) for part in parts])

    def _both(self) -> Condition:
        parts = [self._negated()]
        while self._took_word("and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else lambda twin: _all([part(twin) for part in parts])

    def _negated(self) -> Condition:
        if self._took_word("not"):
            inner = self._negated()
            return lambda twin: None if (value := inner(twin)) is None else not value
        if self._took("sign", "("):
            inner = self._either()
            self._expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        if self._took_word("is_defined"):
            self._expect("(")
            path = self._path()
            self._expect(")")
            return lambda twin: path(twin) is not _UNDEFINED
        left = self._operand()
        if self._took_word("in"):
            wanted = self._list()
            return lambda twin: _among(left(twin), wanted)
        if self._took_word("nin"):
            unwanted = self._list()
            return lambda twin: None if (found := _among(left(twin), unwanted)) is None else not found
        kind, sign = self._next()
        if kind != "sign" or sign not in _COMPARISONS:
            raise self._unexpected(back=1)
        right, compare = self._operand(), _COMPARISONS[sign]
        return lambda twin: _compared(compare, left(twin), right(twin))

    def _operand(self) -> Operand:
        kind, token = self._next()
        if kind == "name" and self._took("sign", "("):
            raise errors.bad_argument(f"The function {token} is none of twin queries; the only one is IS_DEFINED.")
        if kind == "name" and token.lower() not in _CONSTANTS:
            return _at(token)
        value = self._value(kind, token)
        return lambda _: value

    def _path(self) -> Operand:
        kind, token = self._next()
        if kind != "name":
            raise self._unexpected(back=1)
        return _at(token)

    def _list(self) -> list[Any]:
        self._expect("[")
        values = [self._value(*self._next())]
        while self._took("sign", ","):
            values.append(self._value(*self._next()))
        self._expect("]")
        return values

    def _value(self, kind: str, token: str) -> Any:
        if kind == "text":
            return _ESCAPED.sub(_unescaped, token[1:-1])
        if kind == "number":
            return float(token)
        if kind == "name" and token.lower() in _CONSTANTS:
            return _CONSTANTS[token.lower()]
        raise self._unexpected(back=1)

    def _next(self) -> tuple[str, str]:
        if self._position == len(self._tokens):
            raise errors.bad_argument(f"The condition {self._text!r} ends too early.")
        self._position += 1
        return self._tokens[self._position - 1]

    def _took(self, kind: str, token: str) -> bool:
        found = self._position < len(self._tokens) and self._tokens[self._position] == (kind, token)
        self._position += found
        return found

    def _took_word(self, word: str) -> bool:
        found = self._position < len(self._tokens) and self._tokens[self._position][1].lower() == word
        self._position += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._took("sign", sign):
            raise self._unexpected() if self._position < len(self._tokens) else self._too_early(sign)

    def _too_early(self, sign: str) -> errors.HubError:
        return errors.bad_argument(f"The condition {self._text!r} ends before {sign!r}.")

    def _unexpected(self, *, back: int = 0) -> errors.HubError:
        token = self._tokens[self._position - back][1]
        return errors.bad_argument(f"The condition {self._text!r} is not understood at {token!r}.")


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise errors.bad_argument(f"The condition {text!r} is not understood at {text[position:].strip()[:20]!r}.")
        found.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else code


def _at(path: str) -> Operand:
    names = path.split(".")

    def find(twin: Twin) -> Any:
        value: Any = twin
        for name in names:
            if not isinstance(value, dict) or name not in value:
                return _UNDEFINED
            value = value[name]
        return value

    return find


def _among(value: Any, constants: list[Any]) -> bool | None:
    if value is _UNDEFINED:
        return None
    return any(_compared(operator.eq, value, constant) is True for constant in constants)


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
    kind = _kind(left)
    if kind is None or kind != _kind(right):
        return None
    if kind == "null" and compare not in (operator.eq, operator.ne):
        return None
    return compare(left, right)


def _kind(value: Any) -> str | None:
    """Name the type by which values compare; None for those that never do."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None


def _all(values: list[bool | None]) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def _any(values: list[bool | None]) -> bool | None:
    if True in values:
        return True
    return None if None in values else False
