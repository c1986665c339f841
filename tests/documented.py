"""What the served OpenAPI and AsyncAPI documents say, held against what is seen."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it has no annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FORMATS = FormatChecker()


def faults(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> list[str]:
    """Say where a value is not as a schema of a document has it."""
    return _found(_validator_of(document, schema), value)


def _validator_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]}, format_checker=FORMATS)


def _found(validator: Draft202012Validator, value: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give each operation with its path and its method."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def resolved(document: Mapping[str, Any], thing: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference, if there is one."""
    found: Any = thing
    if "$ref" in thing:
        found = document
        for part in thing["$ref"].removeprefix("#/").split("/"):
            found = found[part]
    return dict(found)


@dataclass
class Documented:
    """Holds answers and events against the documents of the deployment that gives them.

    Args:
        read: gives one of the documents by its name.
    """

    read: Callable[[str], dict[str, Any]]
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    checked: set[tuple[str, str, int]] = field(default_factory=set)
    _validators: dict[tuple[str, ...], Draft202012Validator] = field(default_factory=dict)

    def _faults(self, name: str, schema: Mapping[str, Any], value: Any, *place: str) -> list[str]:
        """Hold a value against a schema in a place of a document; what checks it is made once for each place."""
        if (name, *place) not in self._validators:
            self._validators[name, *place] = _validator_of(self._document(name), schema)
        return _found(self._validators[name, *place], value)

    def _document(self, name: str) -> dict[str, Any]:
        if name not in self.documents:
            self.documents[name] = self.read(name)
        return self.documents[name]

    def check_answer(self, method: str, url: str, status: int, content_type: str, body: bytes) -> None:
        """See that an answer is documented: its status, its kind and its shape; other paths are not the app's."""
        document, path = self._document("openapi.json"), urlsplit(url).path
        templates = [each for each in document["paths"] if _matches(each, path)]
        template = min(templates, key=lambda each: each.count("{"), default="")
        operation = document["paths"].get(template, {}).get(method.lower().replace("head", "get"))
        if operation is None:
            return
        assert str(status) in operation["responses"], f"{method} {path} answers {status}, which is not documented"
        self.checked.add((method, template, status))
        if not body:
            return
        content = resolved(document, operation["responses"][str(status)]).get("content", {})
        kind = content_type.partition(";")[0]
        assert kind in content, f"{method} {path} answers {status} with {kind!r}; documented is {[*content]}"
        if kind.endswith("json"):
            place = (template, method, str(status), kind)
            found = self._faults("openapi.json", content[kind]["schema"], json.loads(body), *place)
            assert not found, f"{method} {path}, {status}: {found}"

    def check_event(self, event: dict[str, Any]) -> None:
        """See that an event is documented."""
        document = self._document("asyncapi.json")
        name = event["type"].removeprefix("DeviceProvisioning.")
        message = resolved(document, document["channels"]["provisioning-events"]["messages"][name])
        found = self._faults("asyncapi.json", message["payload"], event, name)
        assert not found, f"{name}: {found}"


def _matches(template: str, path: str) -> bool:
    return _pattern_of(template).fullmatch(path) is not None


@cache
def _pattern_of(template: str) -> re.Pattern[str]:
    last = template.endswith("{request}")
    pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
    return re.compile(pattern + ("(/.*)?" if last else ""), flags=re.IGNORECASE)
