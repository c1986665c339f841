"""Answers that OpenSSL and pkilint accept, and requests that are not about this CA or not readable at all."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as wire
from hypothesis import given
from hypothesis import strategies as st

from shared.pki import ocsp
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.ocsp import Responder, Revoked, UnreadableRequest
from shared.pki.profiles import ocsp_responder_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.pki.linting import findings_of_certificate, findings_of_ocsp_response, findings_of_pair

if TYPE_CHECKING:
    from pathlib import Path

ISSUER = hierarchy().issuing
LEAF = hierarchy().device()
NONCE = b"n" * 16


def responder(algorithm: KeyAlgorithm = KeyAlgorithm.EC_P256) -> Responder:
    issuer = hierarchy(algorithm).issuing
    key = generate_key(KeyAlgorithm.EC_P256)
    prepared = prepare(
        ocsp_responder_profile(),
        subject=Subject("OCSP line-1-ca1"),
        public_key=key.public_key(),
        issuer=issuer,
        serial_number=new_serial_number(),
        now=NOW,
        urls=DistributionPoints(),
    )
    return Responder(issue(prepared, issuer), key)


RESPONDER = responder()


def request(*, nonce: bytes | None = NONCE, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    builder = wire.OCSPRequestBuilder().add_certificate(LEAF, ISSUER.certificate, algorithm or hashes.SHA256())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def answered(content: bytes, status: ocsp.Status) -> bytes:
    asked = ocsp.read_request(content, ISSUER)
    return ocsp.answer(asked, status, responder=RESPONDER, now=NOW, next_update=NOW + timedelta(hours=1))


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=["SHA-1", "SHA-256"])  # noqa: S303
def test_an_answer_says_what_is_known(algorithm: hashes.HashAlgorithm) -> None:
    """Good, revoked with time and reason, unknown; about the certificate that was asked for, with its nonce."""
    content = request(algorithm=algorithm)
    good = wire.load_der_ocsp_response(answered(content, ocsp.GOOD))
    assert good.certificate_status is wire.OCSPCertStatus.GOOD
    assert findings_of_ocsp_response(good.public_bytes(Encoding.DER)) == []
    assert (good.serial_number, good.hash_algorithm.name) == (LEAF.serial_number, algorithm.name)
    assert (good.this_update_utc, good.next_update_utc) == (NOW - timedelta(minutes=10), NOW + timedelta(hours=1))
    assert good.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == NONCE
    assert good.certificates == [RESPONDER.certificate]
    revoked = wire.load_der_ocsp_response(answered(content, Revoked(NOW, "keyCompromise")))
    assert revoked.certificate_status is wire.OCSPCertStatus.REVOKED
    assert (revoked.revocation_time_utc, revoked.revocation_reason) == (NOW, x509.ReasonFlags.key_compromise)
    plain = wire.load_der_ocsp_response(answered(content, Revoked(NOW, "unspecified")))
    assert plain.revocation_reason is None
    unknown = wire.load_der_ocsp_response(answered(request(nonce=None), ocsp.UNKNOWN))
    assert unknown.certificate_status is wire.OCSPCertStatus.UNKNOWN
    assert len(unknown.extensions) == 0


def test_openssl_trusts_the_answer(tmp_path: Path) -> None:
    """OpenSSL verifies signature, delegation and nonce, and reads the status."""
    for name, certificate in (("leaf", LEAF), ("ca", ISSUER.certificate), ("root", hierarchy().root.certificate)):
        (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    ask = ["openssl", "ocsp", "-sha256", "-issuer", "ca.pem", "-cert", "leaf.pem"]
    # Without a responder's address it only writes the request, and says so by its status.
    subprocess.run([*ask, "-reqout", "request.der"], cwd=tmp_path, check=False, capture_output=True)
    content = answered((tmp_path / "request.der").read_bytes(), Revoked(NOW, "superseded"))
    (tmp_path / "response.der").write_bytes(content)
    done = subprocess.run(
        ["openssl", "ocsp", "-reqin", "request.der", "-respin", "response.der", "-resp_text", "-CAfile", "root.pem", "-verify_other", "ca.pem",
         "-attime", str(int(NOW.timestamp()) + 60), "-validity_period", "99999999"],
        cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert "Response verify OK" in done.stderr, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    assert "Cert Status: revoked" in done.stdout
    assert "Revocation Reason: superseded" in done.stdout


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048])
def test_the_responders_certificate_is_linted(algorithm: KeyAlgorithm) -> None:
    """Pkilint finds nothing in it; its purpose is OCSPSigning alone, and it is exempt from being checked itself."""
    certificate = responder(algorithm).certificate
    assert findings_of_certificate(certificate) == []
    assert findings_of_pair(hierarchy(algorithm).issuing.certificate, certificate) == []
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [purpose.dotted_string for purpose in usage] == ["1.3.6.1.5.5.7.3.9"]
    assert certificate.extensions.get_extension_for_class(x509.OCSPNoCheck)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", wire.OCSPResponseStatus.MALFORMED_REQUEST),
        (b"\x30" * 5000, wire.OCSPResponseStatus.MALFORMED_REQUEST),
        (request(nonce=b"n" * 129), wire.OCSPResponseStatus.MALFORMED_REQUEST),
        (
            wire.OCSPRequestBuilder()
            .add_certificate(ISSUER.certificate, hierarchy().root.certificate, hashes.SHA1())  # noqa: S303
            .build()
            .public_bytes(Encoding.DER),
            wire.OCSPResponseStatus.UNAUTHORIZED,
        ),
    ],
    ids=["empty", "5000 octets", "long nonce", "certificate of another CA"],
)
def test_what_can_not_be_answered_is_named(content: bytes, status: wire.OCSPResponseStatus) -> None:
    """A malformed request and one about another CA get the status that RFC 6960 has for it."""
    with pytest.raises(UnreadableRequest) as caught:
        ocsp.read_request(content, ISSUER)
    assert wire.load_der_ocsp_response(ocsp.refusal(caught.value)).response_status is status


GOOD_REQUEST = request()


@given(st.data())
def test_no_damaged_request_raises_anything_else(data: st.DataObject) -> None:
    """Whatever is done to a request's bytes, it is read or refused."""
    damaged = bytearray(GOOD_REQUEST)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        ocsp.read_request(bytes(damaged), ISSUER)
    except UnreadableRequest as refusal:
        assert ocsp.refusal(refusal)  # noqa: PT017 - either outcome is right
