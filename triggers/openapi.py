"""The OpenAPI document (3.1), from the routes and the contracts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.json_schema import models_json_schema

from shared.contracts.answers import Problem
from shared.contracts.base import example_of
from shared.contracts.ids import (
    AuthorityName,
    EnrollmentGroupId,
    EntityTags,
    RegistrationId,
    RequestId,
    SerialNumber,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from shared.contracts.base import Contract
    from shared.domain.callers import Role

PROBLEM = "application/problem+json"
"""RFC 9457."""

JSON = "application/json"
SCHEMA_JSON = "application/schema+json"
"""As JSON Schema 2020-12 names it (section 14)."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query or a header.

    Attributes:
        kind: type whose JSON schema is published.
    """

    name: str
    meaning: str
    kind: Any = str
    place: str = "query"

    def described(self) -> dict[str, Any]:
        """Give its Parameter Object."""
        return {
            "name": self.name,
            "in": self.place,
            "description": self.meaning,
            "schema": TypeAdapter(self.kind).json_schema(),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """One good answer.

    Attributes:
        status: of the answer.
        meaning: in a few words.
        content: what it can hold: models for JSON, media types for all else; nothing for an answer without a body.
        headers: name and meaning of each header of its own.
    """

    status: int
    meaning: str
    content: tuple[type[Contract] | str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as it is published.

    Attributes:
        answers: what it answers when all is well.
        refuses: statuses of refusals beside those that follow from the route.
        body: of the request: its model, or the media type of what is not JSON.
        body_required: whether a request without it is refused.
        other_bodies: media types that it takes as well.
        parameters: in the query and in headers.
        role: that a caller needs; ``None`` if it is anonymous.
        scope: finds the enrollment group that the role must be given for (:mod:`triggers.http.scopes`).
        act: what it does at once, for the audit log.
        alone: whether it asks no service, so that none can be down.
    """

    name: str
    method: str
    route: str
    summary: str
    anonymous: bool
    answers: tuple[Answer, ...]
    refuses: frozenset[int] = frozenset()
    body: type[Contract] | str | None = None
    body_required: bool = True
    other_bodies: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    role: Role | None = None
    scope: Any = None
    act: str | None = None
    alone: bool = False

    @property
    def path(self) -> str:
        """Give its path as it stands in the document."""
        return f"/api/{self.route}".replace("{*", "{")

    def statuses(self) -> Iterator[int]:
        """Give the statuses of all its refusals."""
        yield from self.refuses
        if "{" in self.route or self.parameters or self.body is not None:
            yield 400
        if not self.anonymous:
            yield from (401, 503)  # whether a function key is one may have to be asked for
        if self.method != "GET":
            yield from (411, 413)
        if IDEMPOTENCY_KEY in self.parameters:
            yield 422
        yield from (403, 429, 500)
        if not self.alone:
            yield 503


_REFUSALS: Mapping[int, str] = {
    400: "What is asked for can't be carried out; `errors` names each bad field.",
    401: "Who asks is not known, or the webhook's signature is missing or wrong. Where the host checks function "
    "keys, it answers without a body.",
    403: "The caller has not the role that the operation needs, see `x-required-role`. Without a body: the rules of "
    "the deployment's network keep the caller out.",
    404: "What is named does not exist.",
    409: "It contradicts what exists; also where the id was used before with other content.",
    410: "It was handed out before, and is not kept.",
    411: "The body did not arrive, because it came with Transfer-Encoding: chunked.",
    412: "What it was based on has changed: the ETag is another one.",
    413: "The body is larger than the host takes; the host answers, without a body.",
    422: "The `Idempotency-Key` was used for something else (draft-ietf-httpapi-idempotency-key-header).",
    429: "The caller makes too many requests (RATE_LIMIT_REQUESTS, RATE_LIMIT_DENIED, RATE_LIMIT_PUBLIC); "
    "`Retry-After` says when to come again. Without a body: the host has more requests than it takes.",
    500: "Something failed that is not the request's fault; the log has it.",
    503: "A service that is needed is down or busy; `Retry-After` says when to come again.",
}

_PATH_VALUES: Mapping[str, Any] = {
    "registrationId": RegistrationId,
    "serialNumber": SerialNumber,
    "orderId": RequestId,
    "requestId": RequestId,
    "name": AuthorityName,
    "issuer": AuthorityName,
    "file": Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9\-]{0,62}[A-Za-z0-9]\.(crl|cer)$")],
    "schema": Annotated[str, Field(pattern=r"^[A-Za-z]{1,64}\.json$")],
    "request": Annotated[str, Field(min_length=1)],
    "number": Annotated[str, Field(pattern="^[1-9][0-9]{0,8}$")],
}

IDEMPOTENCY_KEY = Parameter("Idempotency-Key", "becomes the request's id; made up without it", RequestId, "header")
CONDITIONS = (
    Parameter("If-Match", "the ETag that is expected: RFC 9110 section 13.1.1", EntityTags, "header"),
    Parameter("If-None-Match", "`*`: only if it does not exist; RFC 9110 section 13.1.2", EntityTags, "header"),
)
SIGNATURE = tuple(
    Parameter(name, f"{meaning} (Standard Webhooks), where the deployment has a secret", str, "header")
    for name, meaning in (
        ("webhook-id", "the request's id"),
        ("webhook-timestamp", "seconds since 1970"),
        ("webhook-signature", "signatures of id, time and body"),
    )
)


_SCHEMES = {
    "functionKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-functions-key",
        "description": "What it may do is in the setting KEY_ROLES.",
    },
    "entra": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of Microsoft Entra ID, whose app roles say what its bearer may do; where App Service "
        "authentication is on. `x-required-role` of an operation names the role, which may be given for one "
        "enrollment group, as in `Devices.Revoke:line-1`.",
    },
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Compose the document."""
    models: set[type[Contract]] = {Problem, *(each for operation in operations for each in _models(operation))}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation") for model in ordered], by_alias=True, ref_template="#/components/schemas/{model}"
    )
    for schema in schemas["$defs"].values():  # what a body does not name is taken from Idempotency-Key, or made up
        if "requestId" in schema.get("required", ()):
            schema["required"].remove("requestId")
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
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
            "schemas": schemas["$defs"],
            "responses": {f"Refused{status}": _refusal(status) for status in _REFUSALS},
            "securitySchemes": _SCHEMES,
        },
    }


def _models(operation: Operation) -> Iterator[type[Contract]]:
    if operation.body is not None and not isinstance(operation.body, str):
        yield operation.body
    for answer in operation.answers:
        yield from (each for each in answer.content if not isinstance(each, str))


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation), *(each.described() for each in operation.parameters)],
        "responses": dict(sorted(_responses(operation), key=lambda each: each[0])),
    }
    if not operation.anonymous:
        described["security"] = [{"functionKey": []}, {"entra": []}]
        described["x-required-role"] = operation.role
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": _content([operation.body, *operation.other_bodies]),
        }
    return described


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{\*?(\w+)}", operation.route):
        kind = _PATH_VALUES.get(name) or (EnrollmentGroupId if "enrollment-groups" in operation.route else RequestId)
        yield {"name": name, "in": "path", "required": True, "schema": TypeAdapter(kind).json_schema()}


def _responses(operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    for status in operation.statuses():
        yield str(status), {"$ref": f"#/components/responses/Refused{status}"}
    for answer in operation.answers:
        response: dict[str, Any] = {"description": answer.meaning}
        if answer.content:
            response["content"] = _content(answer.content)
        if answer.headers:
            response["headers"] = {
                name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in answer.headers
            }
        yield str(answer.status), response


def _content(kinds: Iterable[type[Contract] | str]) -> dict[str, Any]:
    return dict((kind, {"schema": {}}) if isinstance(kind, str) else (JSON, _media(kind)) for kind in kinds)


def _media(model: type[Contract]) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "example": example_of(model)}


def _refusal(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _REFUSALS[status]}
    if status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": _REFUSALS[status],
        }
        example = example_of(Problem) if status == HTTPStatus.BAD_REQUEST else detail
        described["content"] = {PROBLEM: {**_media(Problem), "example": example}}
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        described["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
    return described
