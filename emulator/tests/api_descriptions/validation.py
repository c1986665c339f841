"""Hold what was asked and answered against the descriptions: ``contradictions`` says in words where they differ.

A description lists its service's operations and, by name, the schemas (JSON Schema) of their bodies. An object with named
properties has no others, in what is asked and in what is answered: so a misspelt name is found.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it has no annotations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FOLDER = Path(__file__).parent
NOT_OFFERED = frozenset({404, 405, 501})
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer, as a line of the emulator's exchange log has them.

    Attributes:
        service: which of the emulator's services answered; ``unknown`` for none.
        path: as it was sent, percent-encoded.
        request_headers: names in lower case; so ``response_headers``.
        request_body: JSON value; None for no body.
    """

    service: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    request_headers: Mapping[str, str] = field(default_factory=dict)
    request_body: Any = None
    status: int
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response_body: Any = None

    @classmethod
    def parse(cls, line: str) -> Exchange:
        """Read a line of the log."""
        given = json.loads(line)
        return cls(**{re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name): given[name] for name in given})


@dataclass(frozen=True, slots=True)
class Description:
    """What Microsoft says about one service.

    Attributes:
        service: the emulator's name for it.
        content: the whole description, as its file has it.
    """

    service: str
    content: Mapping[str, Any]
    _validators: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By the identity of the schema, which is a part of the content."""

    @property
    def operations(self) -> Sequence[Mapping[str, Any]]:
        operations: Sequence[Mapping[str, Any]] = self.content["operations"]
        return operations

    @property
    def title(self) -> str:
        return f"{self.content['title']} {self.content['sources'][0]['apiVersion']}"

    def operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        """Find the operation of a request: of those that fit, the one with the fewest parameters in its path."""
        fitting = [one for one in self.operations if one["method"] == method and _pattern(one["path"]).fullmatch(path)]
        return min(fitting, key=lambda one: one["path"].count("{"), default=None)

    def faults(self, schema: Mapping[str, Any], value: Any) -> Iterator[str]:
        """Say where a JSON value breaks a schema of this description."""
        validator = self._validators.get(id(schema))
        if validator is None:
            whole = _closed({"schemas": self.content["schemas"], **schema})
            validator = self._validators[id(schema)] = Draft202012Validator(whole, format_checker=_FORMATS)
        for error in validator.iter_errors(value):
            yield f"{error.json_path}: {error.message}"


@cache
def descriptions() -> Mapping[str, Description]:
    """All descriptions, by the emulator's names of the services."""
    contents = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*_*.json"))]
    return {content["service"]: Description(content["service"], content) for content in contents}


def described(exchange: Exchange) -> tuple[Description, Mapping[str, Any]] | None:
    """Find the operation of an exchange; None: it belongs to no service that has a description, or to no operation."""
    for description in descriptions().values():
        operation = description.operation(exchange.method, exchange.path)
        if operation is not None and exchange.service in (description.service, "unknown"):
            return description, operation
    return None


def contradictions(exchange: Exchange) -> list[str]:
    """Say where an exchange contradicts the descriptions; nothing for services without one.

    A request that was refused need not be right: only its answer is looked at. A 501 says itself that the emulator lacks
    the operation.
    """
    found = described(exchange)
    if found is None:
        undescribed = exchange.service in descriptions() or exchange.service == "unknown"
        if not undescribed or exchange.status in NOT_OFFERED:
            return []
        return [f"{exchange.method} {exchange.path} -> {exchange.status}: no such operation is documented"]
    description, operation = found
    if exchange.status == 501 or (exchange.service == "unknown" and exchange.status in NOT_OFFERED):
        return []
    where = f"{exchange.method} {exchange.path} -> {exchange.status} ({operation['id']}, {description.title})"
    return [f"{where}: {fault}" for fault in _faults(description, operation, exchange)]


def _faults(description: Description, operation: Mapping[str, Any], exchange: Exchange) -> Iterator[str]:
    response = operation["responses"].get(str(exchange.status))
    if response is None:
        if exchange.status < 400:
            yield f"the status is not one of the documented {', '.join(operation['responses'])}"
            return
        response = description.content["error"]
    if exchange.status < 400:
        yield from _request_faults(description, operation, exchange)
    yield from _parameter_faults(description, response.get("headers", {}), exchange.response_headers, "response header")
    yield from _body_faults(description, response.get("schema"), exchange.response_body, "response body")


def _request_faults(description: Description, operation: Mapping[str, Any], exchange: Exchange) -> Iterator[str]:
    for kind, rules, given in (
        ("query parameter", operation["query"], exchange.query),
        ("request header", operation.get("headers", {}), exchange.request_headers),
    ):
        for name, rule in rules.items():
            if rule["required"] and _lower(given).get(name.lower()) is None:
                yield f"the required {kind} {name} is missing"
        schemas = {name: rule["schema"] for name, rule in rules.items()}
        yield from _parameter_faults(description, schemas, given, kind)
    for name in exchange.query:
        if name not in operation["query"]:
            yield f"the query parameter {name} is not documented"
    body = operation.get("body")
    if body is not None:
        yield from _body_faults(description, body["schema"], exchange.request_body, "request body")


def _parameter_faults(
    description: Description, schemas: Mapping[str, Any], given: Mapping[str, str], kind: str
) -> Iterator[str]:
    """Say which parameters have a wrong value; all are text on the wire, a whole number as its digits."""
    values = _lower(given)
    for name, schema in schemas.items():
        text = values.get(name.lower())
        if text is None:
            continue
        value = int(text) if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", text) else text
        yield from (f"{kind} {name} {fault}" for fault in description.faults(schema, value))


def _body_faults(description: Description, schema: Mapping[str, Any] | None, body: Any, which: str) -> Iterator[str]:
    if schema is not None:
        yield from (f"{which} {fault}" for fault in description.faults(schema, body))
    elif body is not None:
        yield f"{which}: there is one, and none is documented"


def _lower(parameters: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in parameters.items()}


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Any case of letters, and a slash at the end: Azure's paths are read so, and SDKs of other languages rely on it."""
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)) + "/?", re.IGNORECASE)


def _closed(schema: Any) -> Any:
    """The same schema, in which an object with named properties has no others unless it says so."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if schema.get("type") == "object" and "properties" in schema else {}
    return more | {name: _closed(value) for name, value in schema.items()}


_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]  # jsonschema has no annotations
def _is_date_time(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    datetime.fromisoformat(value)
    return _DATE_TIME.fullmatch(value) is not None


@_FORMATS.checks("rfc7231", raises=(ValueError, TypeError))  # type: ignore[untyped-decorator]  # the same
def _is_http_date(value: Any) -> bool:
    return not isinstance(value, str) or (parsedate_to_datetime(value) is not None and value.endswith(" GMT"))
