"""The OpenAPI document, from the routes and the contracts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contracts.base import Contract


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as it is published.

    Attributes:
        body: schema of the request body.
        success: status and meaning of the good answer.
        parameters: query parameters, meaning by name.
    """

    name: str
    method: str
    route: str
    summary: str
    anonymous: bool
    success: tuple[int, str]
    body: type[Contract] | None = None
    parameters: tuple[tuple[str, str], ...] = ()


_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                "required": ["field", "message"],
            },
        },
    },
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Compose the document (OpenAPI 3.1)."""
    bodies = {operation.body for operation in operations if operation.body is not None}
    ordered = sorted(bodies, key=lambda body: body.__name__)
    _, schemas = models_json_schema(
        [(body, "validation") for body in ordered], by_alias=True, ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = f"/api/{operation.route}".replace("{*", "{")
        paths.setdefault(path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Device identity factory",
            "version": "1.0",
            "description": "HEAD is answered as GET is, without a body; a bundle's HEAD does not exist. A body needs "
            "Content-Length: with Transfer-Encoding: chunked it is refused (411).",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Problem": _PROBLEM},
            "securitySchemes": {"functionKey": {"type": "apiKey", "in": "header", "name": "x-functions-key"}},
        },
    }


def _described(operation: Operation) -> dict[str, Any]:
    status, meaning = operation.success
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{\*?(\w+)}", operation.route)
            ),
            *(
                {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
                for name, text in operation.parameters
            ),
        ],
        "responses": {
            str(status): {"description": meaning},
            "default": {
                "description": "what was wrong, naming each bad field (RFC 9457)",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if not operation.anonymous:
        described["security"] = [{"functionKey": []}]
    if operation.body is not None:
        schema = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described
