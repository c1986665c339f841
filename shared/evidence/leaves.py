"""What the log is about: its entries, each a line of JSON with its names in order.

An entry has no secret. It names devices, so whoever reads entries needs the right to.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

VERSION = 1


class CertificateLeaf(TypedDict):
    """A certificate that is about to be signed.

    Attributes:
        serialNumber: 40 hexadecimal digits.
        tbs: SHA-256 of its to-be-signed part, hexadecimal.
        issuer: name of the CA.
        kind: of the certificate.
        subject: whom it names.
        cause: id of the order or request.
        chain: of a device's: SHA-256 of the CAs above it, hexadecimal; see
            :func:`shared.evidence.verify.chain_hash`.
        actor: who asked for it, as far as that is known where it is issued.
    """

    serialNumber: str
    tbs: str
    issuer: str
    kind: str
    subject: str
    cause: str
    chain: str
    actor: str | None


class ListLeaf(TypedDict):
    """A CRL that is about to be published.

    Attributes:
        issuer: name of the CA.
        number: of the list (RFC 5280 section 5.2.3).
        sha256: of the list in DER, hexadecimal.
    """

    issuer: str
    number: int
    sha256: str


def certificate_entry(at: datetime, leaf: CertificateLeaf) -> bytes:
    """Write the entry about a certificate."""
    return _written("certificate", at, leaf)


def list_entry(at: datetime, leaf: ListLeaf) -> bytes:
    """Write the entry about a CRL."""
    return _written("crl", at, leaf)


def key_entry(at: datetime, key: str) -> bytes:
    """Write the entry that announces a key, which will sign checkpoints, as verifiers take it."""
    return _written("key", at, {"key": key})


def announced_key(entry: bytes) -> str | None:
    """Give the key that an entry announces; ``None`` if it is about something else."""
    if b'"type":"key"' not in entry:  # most are not, and need not be read
        return None
    found = read_entry(entry)
    return str(found["key"]) if found["type"] == "key" else None


def act_entry(at: datetime, act: Mapping[str, Any]) -> bytes:
    """Write the entry about an act, as the audit log has it."""
    return _written("act", at, act)


def _written(kind: str, at: datetime, fields: Mapping[str, Any]) -> bytes:
    content = {"v": VERSION, "type": kind, "at": at.isoformat(timespec="milliseconds"), **fields}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def read_entry(entry: bytes) -> Mapping[str, Any]:
    """Read an entry.

    Raises:
        ValueError: it is not one.
    """
    found = json.loads(entry)
    if not isinstance(found, dict) or "type" not in found:
        raise ValueError("an entry of the log is not an object with a type")
    return found
