"""CRLs: right in the eyes of OpenSSL, pkilint and cryptography, and linear in their entries."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.pki.issuance import new_serial_number
from shared.pki.issuers import Issuer, IssuerError
from shared.pki.revocation_lists import (
    REASON_CODES,
    RevocationError,
    RevokedCertificate,
    build_crl,
    changed_entries,
    encode_entry,
)
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from tests.pki.foreign import authority, issuer
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.pki.linting import findings_of_crl

if TYPE_CHECKING:
    from pathlib import Path

KEY_USAGES = (
    *("digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign"),
    *("cRLSign", "encipherOnly", "decipherOnly"),
)
SERIALS = [new_serial_number() for _ in range(3)]
REASONS = ["unspecified", "keyCompromise", "certificateHold"]


def crl(algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256, *, empty: bool = False) -> bytes:
    pairs = zip(SERIALS, REASONS, strict=True)
    entries = [encode_entry(RevokedCertificate(serial, NOW, reason)) for serial, reason in pairs]
    return build_crl(
        [] if empty else entries,
        issuer=hierarchy(algorithm).issuing,
        crl_number=7,
        now=NOW,
        next_update=NOW + timedelta(days=7),
    )


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048])
def test_a_list_holds_what_was_put_in(algorithm: KeyAlgorithm) -> None:
    """Entries, reasons, number, times and signature are as asked for."""
    parsed = x509.load_der_x509_crl(crl(algorithm))
    issuer = hierarchy(algorithm).issuing.certificate
    assert parsed.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    assert parsed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    assert parsed.last_update_utc == NOW - timedelta(minutes=10)  # for clocks that are late, as notBefore
    assert parsed.next_update_utc == NOW + timedelta(days=7)
    assert [entry.serial_number for entry in parsed] == SERIALS
    assert [entry.revocation_date_utc for entry in parsed] == [NOW] * 3
    found = [
        extension.value.reason.value
        for entry in parsed
        for extension in entry.extensions
        if isinstance(extension.value, x509.CRLReason)
    ]
    assert found == REASONS[1:], "unspecified is left out, as RFC 5280 asks"


@pytest.mark.parametrize("empty", [False, True])
def test_linter_and_openssl_accept_it(tmp_path: Path, *, empty: bool) -> None:
    """Pkilint finds nothing from NOTICE up, and ``openssl crl`` verifies it; an empty list too."""
    der = crl(empty=empty)
    assert findings_of_crl(der) == []
    (tmp_path / "list.crl").write_bytes(der)
    (tmp_path / "ca.pem").write_bytes(hierarchy().issuing.certificate.public_bytes(Encoding.PEM))
    done = subprocess.run(
        ["openssl", "crl", "-inform", "DER", "-in", "list.crl", "-CAfile", "ca.pem", "-noout"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == "verify OK\n"


@pytest.mark.parametrize("reason", REASON_CODES)
def test_openssl_reads_each_reason(reason: str, tmp_path: Path) -> None:
    """Every reason name is the one that OpenSSL shows for the entry."""
    entry = encode_entry(RevokedCertificate(SERIALS[0], NOW, reason))
    (tmp_path / "list.crl").write_bytes(listed([entry]))
    shown = subprocess.run(
        ["openssl", "crl", "-inform", "DER", "-in", "list.crl", "-noout", "-text"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    words = {
        "keyCompromise": "Key Compromise",
        "cACompromise": "CA Compromise",
        "affiliationChanged": "Affiliation Changed",
        "superseded": "Superseded",
        "cessationOfOperation": "Cessation Of Operation",
        "certificateHold": "Certificate Hold",
        "privilegeWithdrawn": "Privilege Withdrawn",
    }
    assert f"Serial Number: {SERIALS[0]:040X}" in shown
    assert ("CRL Reason Code" in shown) == (reason != "unspecified")
    assert words.get(reason, "") in shown


def listed(entries: list[bytes], **changes: Any) -> bytes:
    known = {"issuer": hierarchy().issuing, "crl_number": 1, "now": NOW, "next_update": NOW + timedelta(days=7)}
    return build_crl(entries, **{**known, **changes})


def test_it_is_the_list_that_the_builder_of_cryptography_makes() -> None:
    """What is encoded here is byte for byte what cryptography's builder signs."""
    issuing = hierarchy().issuing
    identifier = issuing.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuing.certificate.subject)
        .last_update(NOW - timedelta(minutes=10))
        .next_update(NOW + timedelta(days=7))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.CRLNumber(7), critical=False)
    )
    for serial, reason in zip(SERIALS, REASONS, strict=True):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
        if reason != "unspecified":
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(reason)), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    expected = builder.sign(issuing.signing_key, hashes.SHA256())
    assert x509.load_der_x509_crl(crl()).tbs_certlist_bytes == expected.tbs_certlist_bytes


def test_times_are_written_in_utc_and_beyond_2049() -> None:
    """A time of another zone is written in UTC, and one from 2050 on with four digits of the year."""
    at = datetime(2051, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    entry = encode_entry(RevokedCertificate(5, at))
    parsed = x509.load_der_x509_crl(listed([entry], now=at, next_update=at + timedelta(days=1)))
    assert next(iter(parsed)).revocation_date_utc == datetime(2050, 12, 31, 23, 30, tzinfo=UTC)
    assert parsed.last_update_utc == datetime(2050, 12, 31, 23, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"serial_number": 0},
            "serial number 0 is not positive, or has more than 20 octets (RFC 5280 section 4.1.2.2)",
        ),
        (
            {"serial_number": 1 << 159},
            f"serial number {1 << 159} is not positive, or has more than 20 octets (RFC 5280 section 4.1.2.2)",
        ),
        ({"revoked_at": datetime(2026, 1, 1)}, "2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001 - wrong on purpose
        (
            {"reason": "stolen"},
            "'stolen' is not a revocation reason; the reasons are unspecified, keyCompromise, cACompromise, affiliationChanged, "
            "superseded, cessationOfOperation, certificateHold, privilegeWithdrawn",
        ),
    ],
)
def test_an_entry_that_no_list_can_hold_is_refused(fields: dict[str, Any], message: str) -> None:
    """Serial number, time and reason are checked when the entry is made."""
    with pytest.raises(RevocationError) as caught:
        RevokedCertificate(**{"serial_number": 5, "revoked_at": NOW, **fields})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crl_number": -1}, "CRL number -1 is negative, or has more than 20 octets"),
        ({"crl_number": 1 << 159}, f"CRL number {1 << 159} is negative, or has more than 20 octets"),
        (
            {"next_update": NOW},
            "nextUpdate, 2026-03-01T12:00:00+00:00, is not after the present time, 2026-03-01T12:00:00+00:00",
        ),
        ({"now": datetime(2026, 1, 1)}, "2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001 - wrong on purpose
    ],
)
def test_a_list_with_a_wrong_number_or_time_is_refused(changes: dict[str, Any], message: str) -> None:
    """Number and times are checked before anything is signed."""
    with pytest.raises(RevocationError) as caught:
        listed([], **changes)
    assert str(caught.value) == message


def test_a_ca_that_may_not_sign_lists_does_not() -> None:
    """An issuer without cRLSign is refused by name."""
    key = generate_key(KeyAlgorithm.EC_P256)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "no-lists")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(*(flag == "keyCertSign" for flag in KEY_USAGES)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(IssuerError) as caught:
        listed([], issuer=Issuer(certificate, key, (certificate,)))
    assert str(caught.value) == "the key usage of 'no-lists' forbids signing CRLs (cRLSign)"


def test_a_long_list_is_read_back_whole() -> None:
    """Ten thousand entries are all there, in their order, and the signature fits."""
    entries = [encode_entry(RevokedCertificate(serial, NOW, "superseded")) for serial in range(1, 10_001)]
    parsed = x509.load_der_x509_crl(listed(entries))
    assert [entry.serial_number for entry in parsed] == [*range(1, 10_001)]
    assert parsed.is_signature_valid(hierarchy().issuing.certificate.public_key())  # type: ignore[arg-type]


def joined(*serials: int) -> bytes:
    return b"".join(encode_entry(RevokedCertificate(serial, NOW, "keyCompromise")) for serial in serials)


def serials_in(entries: bytes) -> list[int]:
    return [entry.serial_number for entry in x509.load_der_x509_crl(listed([entries]))]


LIKE_5 = int("0102010533000000", 16)  # holds the octets of the INTEGER 5


@pytest.mark.parametrize(
    ("removed", "added", "left"),
    [
        ((5,), (), [LIKE_5, 7]),
        ((9,), (), [LIKE_5, 5, 7]),
        ((7, LIKE_5), (), [5]),
        ((), (5,), [LIKE_5, 7, 5]),
        ((7,), (9,), [LIKE_5, 5, 9]),
    ],
)
def test_entries_leave_and_come_by_their_serial_number(
    removed: tuple[int, ...], added: tuple[int, ...], left: list[int]
) -> None:
    """An entry whose serial number, or anything else in it, merely holds another number stays as it is."""
    coming = [RevokedCertificate(serial, NOW) for serial in added]
    changed = changed_entries(joined(LIKE_5, 5, 7), removed=removed, added=coming)
    assert serials_in(changed) == left


def test_many_changes_take_one_pass() -> None:
    """Thousands of changes among tens of thousands of entries read them once, and not thousands of times."""
    serials = [1 << 158 | number for number in range(40_000)]
    one = joined(serials[0])  # the serial number has 20 octets behind four
    entries = b"".join(one[:4] + serial.to_bytes(20, "big") + one[24:] for serial in serials)
    began = time.process_time()
    changed = changed_entries(entries, removed=serials[-8_000:], added=())
    assert time.process_time() - began < 0.5
    assert len(changed) == len(entries) * 4 // 5


def test_no_list_is_older_than_its_issuer() -> None:
    """A list of a CA that is one minute old begins with the CA, and not ten minutes before it is valid."""
    young = authority("young", days=(0, 4000))
    made = build_crl(
        (), issuer=issuer(young), crl_number=1, now=NOW + timedelta(minutes=1), next_update=NOW + timedelta(days=7)
    )
    assert x509.load_der_x509_crl(made).last_update_utc == NOW
