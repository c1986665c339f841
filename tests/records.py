"""Rows as tests enter them: with what each must have, and nothing says anything about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.domain.authorities import AuthorityRecord, AuthorityState
from shared.domain.certificates import CertificateState
from shared.domain.held_certificates import HeldCertificate, Purpose
from shared.domain.words import CertificateKind

if TYPE_CHECKING:
    from datetime import datetime


def authority_record(name: str, at: datetime, **fields: Any) -> AuthorityRecord:
    """Give the row of a CA, of an issuing one in use if nothing else is said.

    Args:
        name: of the CA.
        at: when it was asked for.
        fields: others than these, or instead of them.
    """
    given: dict[str, Any] = {
        "kind": CertificateKind.INTERMEDIATE,
        "state": AuthorityState.ACTIVE,
        "key_algorithm": "EC-P256",
        "fingerprint": "f",
        "cause": "c",
        **fields,
    }
    return AuthorityRecord(name=name, requested_at=at, **given)


def held_certificate(serial_number: str, at: datetime, **fields: Any) -> HeldCertificate:
    """Give a certificate as its device's row has it, one in force from an order if nothing else is said.

    Args:
        serial_number: of the certificate.
        at: when it was recorded.
        fields: others than these, or instead of them.
    """
    given: dict[str, Any] = {
        "state": CertificateState.ACTIVE,
        "issuer": "ca",
        "purpose": Purpose.ORDER,
        "cause": "o",
        "public_key": "k",
        **fields,
    }
    return HeldCertificate(serial_number=serial_number, recorded_at=at, **given)
