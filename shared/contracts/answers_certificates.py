"""Answers about certificate authorities and certificates."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from shared.contracts.answers import Serial, Thumbprint
from shared.contracts.base import Contract, with_example
from shared.domain.authorities import AuthorityState, ProofOfPossession
from shared.domain.certificates import CertificateState, InternalKind
from shared.domain.words import CertificateKind, KeyCustody, RevocationReason

_PEM = "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n"
_SERIAL = "1f7d1b3c5a6e4f8091a2b3c4d5e6f70819203142"
_THUMBPRINT = "0A1B2C3D4E5F60718293A4B5C6D7E8F901234567"
_AUTHORITY = {
    "name": "line-1-ca1",
    "kind": "intermediate",
    "state": "active",
    "issuer": "dpsCa",
    "enrollmentGroup": "line-1",
    "keyAlgorithm": "EC-P256",
    "custody": "wrapped",
    "keyId": None,
    "pathLength": 0,
    "serialNumber": _SERIAL,
    "thumbprint": _THUMBPRINT,
    "notBefore": "2026-05-01T11:50:00Z",
    "notAfter": "2031-05-01T11:59:59Z",
    "proofOfPossession": None,
    "problem": None,
    "crlNumber": 3,
}


class AuthoritySummary(Contract):
    """A certificate authority. ``issuer`` is who signed it: a root itself."""

    model_config = with_example(_AUTHORITY)

    name: str
    kind: CertificateKind
    state: AuthorityState
    issuer: str
    enrollment_group: str | None
    key_algorithm: str
    custody: KeyCustody
    key_id: str | None
    path_length: int | None
    serial_number: Serial | None
    thumbprint: Thumbprint | None
    not_before: datetime | None
    not_after: datetime | None
    proof_of_possession: ProofOfPossession | None
    problem: str | None
    crl_number: int


class Authority(AuthoritySummary):
    """A certificate authority, with its certificate and further ones of the same CA, in PEM.

    ``devicesRequest`` is the id of the request by which the devices of a revoked CA are revoked
    (``GET /requests/{id}?kind=revocation-requests``).
    """

    model_config = with_example(
        {**_AUTHORITY, "certificate": _PEM, "furtherCertificates": None, "devicesRequest": None}
    )

    certificate: str | None
    further_certificates: str | None
    devices_request: str | None


class AuthorityPage(Contract):
    """All certificate authorities."""

    model_config = with_example({"items": [_AUTHORITY], "continuationToken": None})

    items: list[AuthoritySummary]
    continuation_token: str | None


class VerificationCertificate(Contract):
    """A certificate whose CN is the code of a service, in PEM: it proves possession of the CA's key."""

    model_config = with_example({"serialNumber": _SERIAL, "certificate": _PEM})

    serial_number: Serial
    certificate: str


class Certificate(Contract):
    """A certificate. ``requestedBy`` is the order or request that asked for it, ``certificate`` its PEM."""

    model_config = with_example(
        {
            "serialNumber": _SERIAL,
            "kind": "device",
            "state": "active",
            "subject": "press-1",
            "issuer": "line-1-ca1",
            "enrollmentGroup": "line-1",
            "thumbprint": _THUMBPRINT,
            "notBefore": "2026-05-01T11:50:00Z",
            "notAfter": "2027-05-01T11:59:59Z",
            "revokedAt": None,
            "revocationReason": None,
            "predecessor": None,
            "successor": None,
            "requestedBy": "order-1",
            "certificate": _PEM,
        }
    )

    serial_number: Serial
    kind: CertificateKind | InternalKind
    state: CertificateState
    subject: str
    issuer: str
    enrollment_group: str | None
    thumbprint: Thumbprint | None
    not_before: datetime | None
    not_after: datetime | None
    revoked_at: datetime | None
    revocation_reason: RevocationReason | None
    predecessor: Serial | None
    successor: Serial | None
    requested_by: str
    certificate: str | None


class Match(Contract):
    """The entry that DPS would match; ``by`` is the CN of the certificate that it is found by."""

    kind: Literal["enrollmentGroup", "individualEnrollment"]
    id: str
    provisioning_status: Literal["enabled", "disabled"]
    by: str | None


class DpsAnswer(Contract):
    """What DPS would answer."""

    status: Literal[200, 401]
    error_code: int | None
    message: str | None


class Finding(Contract):
    """One finding about a chain: DPS refuses the device for it, or others may mind it."""

    code: str
    effect: Literal["refusal", "advice"]
    message: str


class Check(Contract):
    """What DPS would do with a device that comes with a chain, and why."""

    model_config = with_example(
        {
            "registrationId": "press-1",
            "enrollmentGroup": "line-1",
            "accepted": True,
            "match": {
                "kind": "enrollmentGroup",
                "id": "line-1",
                "provisioningStatus": "enabled",
                "by": "line-1-ca1",
            },
            "matchesGroup": True,
            "answer": {"status": 200, "errorCode": None, "message": None},
            "reasons": [],
        }
    )

    registration_id: str
    enrollment_group: str | None
    accepted: bool
    match: Match | None
    matches_group: bool
    answer: DpsAnswer
    reasons: list[Finding]
