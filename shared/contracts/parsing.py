"""Reading a body by its contract, with a reason for each problem."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError

from shared.contracts.base import Contract
from shared.errors import REASONS_MOST, Reason, Rejected
from shared.reading.json_text import read_json
from shared.reading.text import text_of
from shared.redaction import private_keys, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHOLE, _NUMBER = "must be a whole number", "must be a number"
_TIME, _URL = "must be a time as RFC 3339 has it, as in 2026-05-01T12:00:00Z", "must be a URL"
_TEXTS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field; known are {known}",
    "json_invalid": "is not valid JSON: {error}",
    "too_short": "needs at least {min_length}, and has {actual_length}",
    "too_long": "takes at most {max_length}, and has {actual_length}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "finite_number": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "string_type": "must be a text",
    "string_too_short": "has too few characters; at least {min_length} must be there",
    "string_too_long": "has too many characters; at most {max_length} are taken",
    "string_pattern_mismatch": "must match {pattern}",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "url_type": _URL,
    "url_parsing": _URL,
    "url_scheme": "must be a URL that begins with {expected_schemes}",
    "url_too_long": "has too many characters; at most {max_length} are taken",
}
"""What is said of each type of error of pydantic that a contract may give; others are the contracts' own."""


class OfLaterVersion(dict[str, Any]):
    """A body that a later version of this app wrote: what this one does not know in it is left out."""


def parse[C: Contract](contract: type[C], body: Any, *, field: str = "") -> C:
    """Check a decoded body against its contract.

    Args:
        contract: the model of the body.
        body: the decoded JSON.
        field: path of the body inside the request, put before the paths of its fields.

    Raises:
        Rejected: with one reason per problem: field, value and rule; for a private key, unless the contract asks for
            one, with its place alone.
    """
    if not isinstance(body, dict):
        raise Rejected(Reason(field, f"must be a JSON object, and is {kind_of(body)}"))
    if not _secrets(contract):
        refuse_private_keys({name: each for name, each in body.items() if name not in contract.read_later}, field=field)
    try:
        return contract.model_validate(
            body, by_name=False, by_alias=True, extra="ignore" if isinstance(body, OfLaterVersion) else None
        )
    except ValidationError as error:
        problems = error.errors(include_url=False)
        reasons = (reason_of(contract, problem, field) for problem in problems[:REASONS_MOST])
        raise Rejected(*reasons, more=len(problems[REASONS_MOST:])) from None


def refuse_private_keys(body: Any, *, field: str = "") -> None:
    """Refuse a private key in a decoded body, before the body is put anywhere.

    Args:
        body: the decoded JSON.
        field: path of the body inside the request.

    Raises:
        Rejected: with a reason for each key, which names its place.
    """
    found = [
        Reason(
            place,
            "a private key comes with the CSR; it must stay in the device"
            if place.endswith("csr")
            else "there is a private key in it; a private key is not sent here, and one that was sent is no longer "
            "secret",
        )
        for place in private_keys(body, field)
    ]
    if found:
        raise Rejected(*found)


def kind_of(value: Any) -> str:
    """Name the JSON kind of a decoded value, for a message."""
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def reason_of(contract: type[BaseModel], problem: Any, prefix: str) -> Reason:
    """Turn a problem that pydantic found into a reason.

    Args:
        contract: the model of the body.
        problem: one of the errors of a :class:`pydantic.ValidationError`.
        prefix: path of the body inside the request.
    """
    path = prefix
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    text = _TEXTS.get(problem["type"])
    if text is not None:
        known = ", ".join(sorted(_fields(_holder(contract, problem["loc"][:-1]))))
        return Reason(path, text.format(known=known, **problem.get("ctx", {})) + _shown(contract, problem))
    message = problem["msg"]
    if message[1:2].islower():  # a sentence, and no abbreviation
        message = message[:1].lower() + message[1:]
    return Reason(path, message + _shown(contract, problem))


def _shown(contract: type[BaseModel], problem: Any) -> str:
    """Repeat a value that was refused, if it is a plain one and no secret."""
    value = problem["input"]
    hidden = problem["type"] in _OWN_TEXT or not _secrets(contract).isdisjoint(problem["loc"])
    if hidden or not isinstance(value, str | int | float | bool):
        return ""
    return f"; it is {without_secrets(str(value))[:140]!r}"


@cache
def _fields(contract: type[BaseModel]) -> Mapping[str, Any]:
    """Give the annotations of a contract's fields by their names on the wire."""
    return {field.alias or name: field.annotation for name, field in contract.model_fields.items()}


def _holder(contract: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """Find the contract that a field at a path belongs to."""
    for part in path:
        annotation = _fields(contract).get(str(part))
        inner = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
        contract = next((each for each in inner if issubclass(each, BaseModel)), contract)
    return contract


_OWN_TEXT = frozenset(
    {
        "api_version",
        "devices_url",
        "enrollment_group_id",
        "extra_forbidden",
        "authority_name",
        "private_key",
        "registration_id",
        "request_id",
        "serial_number",
    }
)
"""Error types whose message names the value already, or must not."""


@cache
def _secrets(contract: type[BaseModel]) -> frozenset[str]:
    """Give the fields whose values are never repeated."""
    fields = contract.model_fields.items()
    return frozenset(
        field.alias or name for name, field in fields if SecretStr in (field.annotation, *get_args(field.annotation))
    )


def decoded(content: str | bytes, what: str, *, field: str = "") -> Any:
    """Read JSON.

    Args:
        content: the text, or its octets: UTF-8, or UTF-16 with a byte order mark.
        what: names it, for messages.
        field: where it stands in the request.

    Raises:
        Rejected: it is not valid, or holds what is not text.
    """
    text = content if isinstance(content, str) else text_of(content, what, field=field)
    try:
        return read_json(text)
    except ValueError as error:
        raise Rejected.because(f"{what} is not valid JSON: {error}", field=field) from None
