"""The auditor names what does not agree about a CA, and nothing on a healthy one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.authorities import AuthorityRecord, AuthorityState, ProofOfPossession, WantedAuthority
from shared.domain.authority_audit import ObservedAuthority, PublishedNumber, UploadedCertificate, authority_faults
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.words import CertificateKind
from tests.pki.hierarchy import NOW
from tests.records import authority_record

SERIAL = "4" * 40
LIST = PublishedNumber(3, frozenset({"11"}), frozenset({"11"}))


def ca(state: AuthorityState = AuthorityState.ACTIVE, **fields: Any) -> AuthorityRecord:
    record = authority_record(
        "root", NOW, kind=CertificateKind.ROOT, state=state, cause="r", wanted=WantedAuthority(), serial_number=SERIAL,
        thumbprint="AB", certificate="PEM", proof_of_possession=ProofOfPossession.VERIFIED, crl_number=3,
    )  # fmt: skip
    return record.model_copy(update=fields)


def row(**fields: Any) -> CertificateRecord:
    record = CertificateRecord(
        serial_number=SERIAL, kind=CertificateKind.ROOT, state=CertificateState.ACTIVE, subject="root", issuer="root",
        cause="r", recorded_at=NOW, not_after=NOW + timedelta(days=9), pem="PEM",
    )  # fmt: skip
    return record.model_copy(update=fields)


def seen(**fields: Any) -> ObservedAuthority:
    held = {"the DPS": UploadedCertificate("AB", verified=True)}
    return replace(ObservedAuthority(row(), uploads=held, published=LIST), **fields)


MADE: dict[str, Any] = {"certificate": None, "serial_number": None}


@pytest.mark.parametrize(
    ("record", "observed"),
    [
        (ca(), seen()),
        (ca(proof_of_possession=ProofOfPossession.BY_HAND), seen(uploads={"the DPS": None})),
        (ca(), seen(certificate=row(state=CertificateState.REVOKED))),
        (ca(), seen(certificate=row(subject="another whose serial number is 1", pem="OTHER"))),
        (ca(), seen(published=None, signs_lists=False)),
        (
            ca(AuthorityState.REVOKED),
            seen(
                certificate=row(state=CertificateState.REVOKED),
                uploads={"the DPS": None, "the hub": UploadedCertificate("CD", verified=True)},
            ),
        ),
        (ca(AuthorityState.AWAITING_CERTIFICATE, **MADE), seen(certificate=None, uploads={}, published=None)),
        (ca(AuthorityState.REQUESTED, problem="refused", **MADE), seen(certificate=None, has_key=False)),
        (
            ca(AuthorityState.SIGNED, proof_of_possession=ProofOfPossession.PENDING, problem="no place"),
            seen(certificate=None, uploads={"the DPS": None}, published=None),
        ),
    ],
)
def test_a_healthy_ca_has_no_fault(record: AuthorityRecord, observed: ObservedAuthority) -> None:
    """It is open, waits for its owner, or its row says what is in the way."""
    assert list(authority_faults(record, observed)) == []


@pytest.mark.parametrize(
    ("record", "observed", "fault"),
    [
        (ca(AuthorityState.SIGNED), seen(), "it is signed, lacks opening, and nothing says why"),
        (ca(AuthorityState.REQUESTED, **MADE), seen(), "it is requested, lacks certificate, and nothing says why"),
        (
            ca(AuthorityState.REQUESTED, wanted=None, **MADE),
            seen(),
            "it is requested, lacks its key, and nothing says why",
        ),
        (ca(), seen(has_key=False), "its key is not in its place"),
        (ca(), seen(key_fits=False), "its key is not the one of its certificate"),
        (ca(), seen(certificate=None), f"its certificate {SERIAL} is not recorded"),
        (
            ca(),
            seen(certificate=row(state=CertificateState.ABANDONED)),
            f"its certificate {SERIAL} is recorded as another one, which is abandoned",
        ),
        (ca(), seen(uploads={"the DPS": None}), "the DPS does not know of its proof of possession"),
        (
            ca(),
            seen(uploads={"the DPS": UploadedCertificate("AB", verified=False)}),
            "the DPS does not know of its proof of possession",
        ),
        (
            ca(),
            seen(uploads={"the DPS": UploadedCertificate("CD", verified=True)}),
            "the DPS holds another certificate, of thumbprint CD",
        ),
        (
            ca(AuthorityState.REVOKED),
            seen(certificate=row(state=CertificateState.REVOKED), uploads={}, groups=("g",)),
            "it is revoked, and the enrollment group 'g' lets in by it",
        ),
        (
            ca(AuthorityState.REVOKED),
            seen(uploads={}),
            f"it is revoked, and its certificate {SERIAL} is active",
        ),
        (
            ca(AuthorityState.REVOKED),
            seen(certificate=row(state=CertificateState.REVOKED)),
            "it is revoked, and the DPS lets in by it",
        ),
        (
            ca(AuthorityState.DELETED),
            seen(certificate=row(state=CertificateState.REVOKED), has_key=False),
            "it is deleted, and the DPS lets in by it",
        ),
        (ca(), seen(published=None), "it has no list"),
        (ca(crl_number=2), seen(), "its list has number 3, and the newest that was begun 2"),
        (ca(), seen(published=replace(LIST, listed=frozenset())), "revoked and not on its list: ['11']"),
        (ca(), seen(published=replace(LIST, revoked=frozenset())), "on its list and not revoked: ['11']"),
    ],
)
def test_what_does_not_agree_about_a_ca_is_named(
    record: AuthorityRecord, observed: ObservedAuthority, fault: str
) -> None:
    """Each fault by itself, in words."""
    assert list(authority_faults(record, observed)) == [fault]
