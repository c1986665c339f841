"""CRLs: right in the eyes of OpenSSL, pkilint and cryptography, and linear in their entries."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.pki.issuance import new_serial_number
from shared.pki.revocation_lists import RevokedCertificate, build_crl, encode_entry
from shared.pki.signing_keys import KeyAlgorithm
from tests.unit.pki.hierarchy import NOW, hierarchy
from tests.unit.pki.linting import findings_of_crl

if TYPE_CHECKING:
    from pathlib import Path

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
    assert parsed.last_update_utc == NOW
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
