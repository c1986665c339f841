"""The query language of IoT Hub (Microsoft, "IoT Hub query language"), over JSON documents.

``SELECT [TOP n] * | column, ... FROM collection [WHERE condition] [GROUP BY path, ...]``. A column is a path or an
aggregate (``COUNT()``, ``SUM``, ``AVG``, ``MIN``, ``MAX`` of a path), with or without ``AS name``. Conditions have
``= != <> < > <= >=``, ``IN``, ``NIN``, ``AND``, ``OR``, ``NOT``, parentheses and functions. A comparison with a
property that is not there, or of another type, is undefined, and undefined is not true.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Document = Mapping[str, Any]
    Condition = Callable[[Document], bool | None]
    Operand = Callable[[Document], Any]

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
    r"""|(?P<name>[A-Za-z_$][\w$-]*(?:\.[\w$-]+)*)|(?P<sign><=|>=|<>|!=|[=<>(),\[\]*]))""",
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


class QueryRefused(ValueError):
    """A query that can't be read; the text names the place that is not understood, or the rule."""


@dataclass(frozen=True, slots=True)
class Column:
    """One value of a row.

    Attributes:
        name: under which the row has it.
        path: where a document has it.
        aggregate: gives it of the values of a group's documents; None for a column of each document by itself.
        operand: gives a document's value.
    """

    name: str
    path: str
    aggregate: Callable[[list[Any]], Any] | None
    operand: Operand


@dataclass(frozen=True, slots=True)
class Query:
    """A query that was read.

    Attributes:
        source: the collection, in lower case.
        columns: None for whole documents.
        top: so many rows at most; None for all.
        groups: the paths that ``GROUP BY`` names.
        condition: what documents have to be; None for all.
    """

    source: str
    columns: Sequence[Column] | None
    top: int | None
    groups: Sequence[str]
    condition: Condition | None

    @property
    def is_grouped(self) -> bool:
        """Whether a row stands for several documents."""
        return bool(self.groups) or any(each.aggregate for each in self.columns or ())

    def matches(self, document: Document) -> bool:
        """Tell whether the condition is true of a document."""
        return self.condition is None or self.condition(document) is True

    def row(self, document: Document) -> dict[str, Any]:
        """Give the row of one document, in a query that is not grouped; without what the document lacks."""
        if self.columns is None:
            return dict(document)
        found = {each.name: each.operand(document) for each in self.columns}
        return {name: value for name, value in found.items() if value is not _UNDEFINED}

    def grouped(self, documents: Iterable[Document]) -> Iterator[dict[str, Any]]:
        """Give a row for each group, in the order of their first documents; without ``GROUP BY`` all are one group."""
        groups: dict[str, list[Document]] = {} if self.groups else {"": []}
        for document in documents:
            key = repr([_at(path)(document) for path in self.groups]) if self.groups else ""
            groups.setdefault(key, []).append(document)
        for members in groups.values():
            row = {each.name: _of_group(each, members) for each in self.columns or ()}
            yield {name: value for name, value in row.items() if value is not _UNDEFINED}


def parse(text: Any, form: str) -> Query:
    """Read a query.

    Args:
        text: as it was sent.
        form: what a query looks like, for the refusal.

    Raises:
        QueryRefused: it can't be read.
    """
    if not isinstance(text, str):
        raise QueryRefused(f"The query {text!r} is not of the form {form}.")
    try:
        return _Parser(text.strip().rstrip("; \n\t"), form).query()
    except RecursionError:
        raise QueryRefused("The query has too many parentheses within each other.") from None


class _Parser:
    """Reads a query by recursive descent."""

    def __init__(self, text: str, form: str) -> None:
        self._text = text
        self._form = form
        self._tokens = list(_tokens(text))
        self._position = 0

    # --- the whole ---

    def query(self) -> Query:
        """Read all of it."""
        if not self._took_word("select"):
            raise self._other_form()
        top = self._top() if self._took_word("top") else None
        columns = None if self._took("sign", "*") else self._several(self._column)
        if not self._took_word("from"):
            raise self._other_form()
        kind, source = self._next()
        if kind != "name":
            raise self._other_form()
        condition = self._either() if self._took_word("where") else None
        grouped = self._took_words("group", "by")
        groups = self._several(self._path) if grouped else []
        if self._position < len(self._tokens):
            raise self._unexpected()
        query = Query(source.lower(), columns, top, groups, condition)
        if query.is_grouped:
            _check_columns(query)
        return query

    def _other_form(self) -> QueryRefused:
        return QueryRefused(f"The query {self._text!r} is not of the form {self._form}.")

    def _top(self) -> int:
        kind, token = self._next()
        if kind != "number" or not token.isdecimal() or int(token) < 1:
            raise QueryRefused(f"TOP {token} is not a whole number from 1.")
        return int(token)

    def _several[T](self, read: Callable[[], T]) -> list[T]:
        found = [read()]
        while self._took("sign", ","):
            found.append(read())
        return found

    def _column(self) -> Column:
        kind, token = self._next()
        if kind != "name":
            raise self._unexpected(back=1)
        aggregate, path, name = None, token, token.rsplit(".", 1)[-1]
        if self._took("sign", "("):
            name = token.lower()
            if name not in _AGGREGATES:
                raise QueryRefused(f"The aggregate {token} does not exist; there are {', '.join(_AGGREGATES).upper()}.")
            aggregate = _AGGREGATES[name]
            path = "" if name == "count" else self._path()
            self._expect(")")
        if self._took_word("as"):
            kind, name = self._next()
            if kind != "name" or "." in name:
                raise self._unexpected(back=1)
        return Column(name, path, aggregate, _at(path) if path else _whole)

    # --- conditions ---

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._took_word("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda document: _any([part(document) for part in parts])

    def _both(self) -> Condition:
        parts = [self._negated()]
        while self._took_word("and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else lambda document: _all([part(document) for part in parts])

    def _negated(self) -> Condition:
        if self._took_word("not"):
            inner = self._negated()
            return lambda document: None if (value := inner(document)) is None else not value
        if self._took("sign", "("):
            inner = self._either()
            self._expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        if self._is_call():
            called = self._call()
            if self._is_sign():
                return self._compared_with(called)
            return lambda document: value if isinstance(value := called(document), bool) else None
        left = self._operand()
        if self._took_word("in"):
            wanted = self._list()
            return lambda document: _among(left(document), wanted)
        if self._took_word("nin"):
            unwanted = self._list()
            return lambda document: None if (found := _among(left(document), unwanted)) is None else not found
        return self._compared_with(left)

    def _compared_with(self, left: Operand) -> Condition:
        kind, sign = self._next()
        if kind != "sign" or sign not in _COMPARISONS:
            raise self._unexpected(back=1)
        right, compare = self._operand(), _COMPARISONS[sign]
        return lambda document: _compared(compare, left(document), right(document))

    def _operand(self) -> Operand:
        if self._is_call():
            return self._call()
        kind, token = self._next()
        if kind == "name" and token.lower() not in _CONSTANTS:
            return _at(token)
        value = self._value(kind, token)
        return lambda _: value

    def _is_call(self) -> bool:
        ahead = self._tokens[self._position : self._position + 2]
        return len(ahead) > 1 and ahead[0][0] == "name" and ahead[1] == ("sign", "(")

    def _is_sign(self) -> bool:
        ahead = self._tokens[self._position : self._position + 1]
        return bool(ahead) and ahead[0][1] in _COMPARISONS

    def _call(self) -> Operand:
        _, name = self._next()
        key = name.upper().replace("_", "")
        if key not in _FUNCTIONS:
            raise QueryRefused(f"The function {name} does not exist; there are {', '.join(_FUNCTION_NAMES)}.")
        count, function = _FUNCTIONS[key]
        self._expect("(")
        operands = self._several((lambda: _at(self._path())) if key == "ISDEFINED" else self._operand)
        self._expect(")")
        if len(operands) != count:
            raise QueryRefused(f"The function {name} takes {count} values, and was given {len(operands)}.")
        return lambda document: function(*[each(document) for each in operands])

    def _path(self) -> str:
        kind, token = self._next()
        if kind != "name":
            raise self._unexpected(back=1)
        return token

    def _list(self) -> list[Any]:
        self._expect("[")
        values = self._several(lambda: self._value(*self._next()))
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

    # --- tokens ---

    def _next(self) -> tuple[str, str]:
        if self._position == len(self._tokens):
            raise QueryRefused(f"The query {self._text!r} ends too early.")
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

    def _took_words(self, first: str, second: str) -> bool:
        if not self._took_word(first):
            return False
        if not self._took_word(second):
            raise self._other_form()
        return True

    def _expect(self, sign: str) -> None:
        if not self._took("sign", sign):
            if self._position < len(self._tokens):
                raise self._unexpected()
            raise QueryRefused(f"The query {self._text!r} ends before {sign!r}.")

    def _unexpected(self, *, back: int = 0) -> QueryRefused:
        token = self._tokens[self._position - back][1]
        return QueryRefused(f"The query {self._text!r} is not understood at {token!r}.")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise QueryRefused(f"The query {text!r} is not understood at {text[position:].strip()[:20]!r}.")
        yield match.lastgroup, match[match.lastgroup]
        position = match.end()


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else code


def _whole(document: Document) -> Any:
    return document


def _at(path: str) -> Operand:
    """Give a document's value at a path; its first name is read in any case, as ``DeviceID`` in the documentation."""
    first, *names = path.split(".")

    def find(document: Document) -> Any:
        own = first if first in document else next((each for each in document if each.lower() == first.lower()), first)
        value: Any = document
        for name in (own, *names):
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


# --- functions ---


def _of_texts(function: Callable[[str, str], bool]) -> Callable[..., Any]:
    """Undefined for what is not text."""
    return lambda left, right: function(left, right) if isinstance(left, str) and isinstance(right, str) else _UNDEFINED


def _array_contains(array: Any, wanted: Any) -> Any:
    if not isinstance(array, list):
        return _UNDEFINED
    return any(_compared(operator.eq, each, wanted) is True for each in array)


_FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "ISDEFINED": (1, lambda value: value is not _UNDEFINED),
    "ISNULL": (1, lambda value: value is None),
    "ISBOOL": (1, lambda value: isinstance(value, bool)),
    "ISNUMBER": (1, lambda value: _kind(value) == "number"),
    "ISSTRING": (1, lambda value: isinstance(value, str)),
    "ISARRAY": (1, lambda value: isinstance(value, list)),
    "ISOBJECT": (1, lambda value: isinstance(value, dict)),
    "ISPRIMITIVE": (1, lambda value: _kind(value) is not None),
    "STARTSWITH": (2, _of_texts(str.startswith)),
    "ENDSWITH": (2, _of_texts(str.endswith)),
    "CONTAINS": (2, _of_texts(operator.contains)),
    "ARRAYCONTAINS": (2, _array_contains),
    "LOWER": (1, lambda value: value.lower() if isinstance(value, str) else _UNDEFINED),
    "UPPER": (1, lambda value: value.upper() if isinstance(value, str) else _UNDEFINED),
    "LENGTH": (1, lambda value: len(value) if isinstance(value, str) else _UNDEFINED),
}
"""By their names without ``_``: Microsoft's documentation has STARTS_WITH, and its clients STARTSWITH as well."""

_FUNCTION_NAMES = (
    *("IS_DEFINED", "IS_NULL", "IS_BOOL", "IS_NUMBER", "IS_STRING", "IS_ARRAY", "IS_OBJECT", "IS_PRIMITIVE"),
    *("STARTSWITH", "ENDSWITH", "CONTAINS", "ARRAY_CONTAINS", "LOWER", "UPPER", "LENGTH"),
)


# --- aggregates ---


def _numbers(function: Callable[[list[float]], Any]) -> Callable[[list[Any]], Any]:
    """Leave out what is not a number, as the documentation has it; undefined where no number is left."""

    def of(values: list[Any]) -> Any:
        numbers = [each for each in values if _kind(each) == "number"]
        return function(numbers) if numbers else _UNDEFINED

    return of


_AGGREGATES: Mapping[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": _numbers(sum),
    "avg": _numbers(lambda numbers: sum(numbers) / len(numbers)),
    "min": _numbers(min),
    "max": _numbers(max),
}


def _of_group(column: Column, members: Sequence[Document]) -> Any:
    if column.aggregate is not None:
        return column.aggregate([column.operand(each) for each in members])
    return column.operand(members[0]) if members else _UNDEFINED


def _check_columns(query: Query) -> None:
    """See that a column of a group is an aggregate, or the same for the whole group.

    Raises:
        QueryRefused: it is neither.
    """
    paths = {path.lower() for path in query.groups}
    for each in query.columns or (_EVERYTHING,):
        if each.aggregate is None and each.path.lower() not in paths:
            raise QueryRefused(f"The column {each.path} is neither an aggregate nor named by GROUP BY.")


_EVERYTHING = Column("*", "*", None, _whole)
