"""Registration ids: one rule, decided here for everything that is put into a certificate or compared with one.

Microsoft, "X.509 certificate attestation": not case-sensitive; letters, digits and ``- . _ :``, the last a letter, a
digit or a dash. DPS takes 128 characters, but with X.509 the id is the leaf's CN, and a CN holds 64 (RFC 5280
appendix A.1, ub-common-name).
"""

from __future__ import annotations

import re

from shared.errors import Rejected

REGISTRATION_ID_LIMIT = 64
"""Characters."""

_CANONICAL = re.compile(r"[a-z0-9\-._:]{0,63}[a-z0-9\-]")
_FORBIDDEN = re.compile(r"[^A-Za-z0-9\-._:]")


def canonical_registration_id(text: str, *, field: str = "registrationId") -> str:
    """Give the canonical form, lower case: DPS compares registration ids without case, IoT Hub device ids with it.

    Args:
        text: as it was given.
        field: path of the id in the request, for messages.

    Raises:
        Rejected: it breaks the rule; the message says how.
    """
    if text.isascii() and _CANONICAL.fullmatch(canonical := text.lower()):
        return canonical
    raise Rejected.because(_fault(text), field=field)


def same_registration_id(first: str, second: str) -> bool:
    """Compare as DPS does: without case, and only ASCII letters have one (the Kelvin sign is not a ``k``)."""
    return first == second or (first.isascii() and second.isascii() and first.lower() == second.lower())


def _fault(text: str) -> str:
    if not text:
        return f"'' is empty; a registration id has 1 to {REGISTRATION_ID_LIMIT} characters"
    if len(text) > REGISTRATION_ID_LIMIT:
        shown = text if len(text) <= 2 * REGISTRATION_ID_LIMIT else text[:REGISTRATION_ID_LIMIT] + "..."
        return (
            f"{shown!r} has {len(text)} characters; a registration id has at most {REGISTRATION_ID_LIMIT}, because it "
            "is the certificate's CN"
        )
    forbidden = sorted(set(_FORBIDDEN.findall(text)))
    if forbidden:
        shown = ", ".join(map(repr, forbidden))
        return f"{text!r} contains {shown}; a registration id has letters, digits and - . _ : only"
    return f"{text!r} must end with a letter, a digit or a dash"
