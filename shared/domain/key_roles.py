"""What function keys may do, as the settings say: each key by a name, with its roles and the SHA-256 of the key.

The Functions host tells its Python worker of no identity, so not which of its keys was used (datumdef.py of
azure-functions-runtime 1.3.0 takes method, URL, headers, body and parameters of RpcHttp, and leaves ``identities``). So
the app looks at the key itself. The digest of a random key of 256 bits gives nobody the key.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256

from shared.domain.callers import Grant

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile("[0-9a-f]{64}")
_PARTS = 3


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A function key that has roles.

    Attributes:
        digests: SHA-256 of the key, in hexadecimal; of two keys while the one is changed for the other.
    """

    name: str
    grants: frozenset[Grant]
    digests: tuple[str, ...]


def read_named_keys(text: str) -> tuple[NamedKey, ...]:
    """Read entries such as ``erp Orders.Write,Bundles.Read:line-1 <digest>,<digest>``, separated by ``;``.

    Raises:
        ValueError: with one argument for each thing that is wrong; none of them repeats what may be a key.
    """
    found, problems = list[NamedKey](), list[str]()
    for number, entry in enumerate(filter(None, (each.strip() for each in text.split(";"))), start=1):
        try:
            found.append(_read(number, entry.split()))
        except ValueError as error:
            problems.extend(error.args)
    for what, values in (
        ("the name", [each.name for each in found]),
        ("the digest", [digest for each in found for digest in each.digests]),
    ):
        twice = sorted({value for value in values if values.count(value) > 1})
        problems.extend(f"has {what} {value!r} more than once" for value in twice)
    if problems:
        raise ValueError(*problems)
    return tuple(found)


def _read(number: int, parts: list[str]) -> NamedKey:
    if len(parts) != _PARTS:
        raise ValueError(
            f"has an entry, number {number}, with {len(parts)} parts; it must have three, separated by blanks: a name, "
            "roles, and the SHA-256 of the key"
        )
    name, roles, digests = parts
    problems = list[str]()
    if not _NAME.fullmatch(name):
        problems.append(f"has an entry, number {number}, whose name is not 1 to 64 letters, digits and - . _")
    grants = set[Grant]()
    for each in roles.split(","):
        try:
            grants.add(Grant.read(each))
        except ValueError as error:
            problems.append(f"has an entry, number {number}, in which {error}")
    known = tuple(each.lower() for each in digests.split(","))
    if not all(map(_DIGEST.fullmatch, known)):
        # Not repeated: it may be the key itself.
        problems.append(
            f"has an entry, number {number}, with something else than SHA-256 digests, which have 64 hexadecimal "
            'digits: printf %s "$key" | sha256sum'
        )
    if problems:
        raise ValueError(*problems)
    return NamedKey(name, frozenset(grants), known)


def named_key(keys: tuple[NamedKey, ...], key: str) -> NamedKey | None:
    """Find who a key belongs to; ``None`` for one that is not named. It takes as long whichever it is."""
    digest = sha256(key.encode(errors="replace")).hexdigest()
    found = None
    for each in keys:
        for known in each.digests:
            if hmac.compare_digest(digest, known):
                found = each
    return found
