"""Ids, and other texts with a rule of their own; the rule stands in the error text."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from typing import Annotated, LiteralString

from pydantic import AfterValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.contracts.base import TAKEN_OUT, Contract
from shared.contracts.parsing import parse
from shared.errors import Rejected
from shared.redaction import has_private_key, is_marked
from shared.rules.registration_ids import canonical_registration_id
from shared.rules.shown_text import hidden_in


def checked_registration_id(text: str) -> str:
    """Give a registration id in canonical form, for a validator."""
    try:
        return canonical_registration_id(text)
    except Rejected as rejection:
        message = rejection.reasons[0].message
        raise PydanticCustomError("registration_id", "{message}", {"message": message}) from None


def _enrollment_group_id(text: str) -> str:
    canonical = text.lower()
    if not text.isascii() or not re.fullmatch(r"[a-z0-9\-._:]{0,127}[a-z0-9\-]", canonical):
        raise PydanticCustomError(
            "enrollment_group_id",
            "'{text}' is not a valid enrollment group id: 1 to 128 letters, digits and - . _ :, the last a "
            "letter, digit or -",
            {"text": text[:140]},
        )
    return canonical


def checked_authority_name(text: str) -> str:
    """Check the name of a CA, for a validator."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9\-]{0,62}[A-Za-z0-9]", text):
        raise PydanticCustomError(
            "authority_name",
            "'{text}' is not a valid name for a certificate authority: 2 to 64 letters, digits and dashes, no dash at "
            "the ends (it names a Key Vault key and is the CN)",
            {"text": text[:140]},
        )
    return text


def _signing_request(text: str) -> str:
    # Here, before anything is kept; what a request says is checked when its device is looked at.
    if has_private_key(text):
        raise PydanticCustomError("private_key", "a private key comes with the CSR; it must stay in the device")
    if is_marked(text) and "-----BEGIN" not in text:
        raise PydanticCustomError("marked", TAKEN_OUT)
    return text


def _request_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}", text):
        raise PydanticCustomError(
            "request_id",
            "'{text}' is not a valid id: 1 to 128 letters, digits and - . _ :, the first a letter or a digit",
            {"text": text[:140]},
        )
    return text


def _serial_number(text: str) -> str:
    canonical = text.lower().removeprefix("0x").replace(":", "").zfill(40)
    if not re.fullmatch(r"[0-9a-f]{40}", canonical) or not canonical.strip("0"):
        raise PydanticCustomError(
            "serial_number",
            "'{text}' is not a valid serial number: up to 40 hexadecimal digits (20 octets, RFC 5280 section 4.1.2.2)",
            {"text": text[:140]},
        )
    return canonical


def _api_version(text: str) -> str:
    matched = re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(-preview)?", text)
    with suppress(ValueError):
        if matched and date.fromisoformat(matched[1]):
            return text
    raise PydanticCustomError(
        "api_version",
        "'{text}' is not a valid API version: a date as in 2021-10-01, or 2021-11-01-preview",
        {"text": text[:140]},
    )


def _published(pattern: str, limit: int) -> WithJsonSchema:
    """Publish an id's rule. What breaks it is refused by the validator beside it, whose message says how."""
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": limit, "pattern": pattern})


RegistrationId = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(checked_registration_id),
    _published(r"^[A-Za-z0-9\-._:]{0,63}[A-Za-z0-9\-]$", 64),
]
EnrollmentGroupId = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_enrollment_group_id),
    _published(r"^[A-Za-z0-9\-._:]{0,127}[A-Za-z0-9\-]$", 128),
]
AuthorityName = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(checked_authority_name),
    _published(r"^[A-Za-z0-9][A-Za-z0-9\-]{0,62}[A-Za-z0-9]$", 64),
]
RequestId = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_request_id),
    _published(r"^[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}$", 128),
]
SerialNumber = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_serial_number),
    _published(r"^(0[xX])?:*([0-9A-Fa-f]:*){1,40}$", 130),
]
ApiVersion = Annotated[str, AfterValidator(_api_version), _published(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?$", 18)]


def _words(text: str) -> str:
    hidden = hidden_in(text)
    if hidden is not None:
        raise PydanticCustomError("hidden_character", "{message}", {"message": f"has {HIDDEN.format(hidden)}"})
    return text


HIDDEN: LiteralString = "the character {}, which is not shown but obeyed; leave it out. Tabs and line ends may stay"
Words = AfterValidator(_words)
"""Of text that people say to something, for others to read."""

PemText = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]


EntityTags = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


SigningRequest = Annotated[PemText, AfterValidator(_signing_request)]


class _PathValues(Contract):
    """Ids as they stand in a path or a header."""

    registration_id: RegistrationId | None = None
    enrollment_group: EnrollmentGroupId | None = None
    serial_number: SerialNumber | None = None
    request_id: RequestId | None = None
    order_id: RequestId | None = None
    id: RequestId | None = None
    name: AuthorityName | None = None


def path_value(field: str, value: str) -> str:
    """Check an id from a path or a header, and give its canonical form.

    Args:
        field: ``registrationId``, ``enrollmentGroup``, ``serialNumber``, ``requestId``, ``orderId``, ``id``, of a
            rejection, or ``name``, of a CA.
        value: the id as given.

    Raises:
        Rejected: with the id's rule.
    """
    checked = parse(_PathValues, {field: value}).model_dump(by_alias=True)[field]
    return str(checked)
