"""Signing requests: only the key is taken, and everything else that is asked for is refused by name."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.pki.requests import requested_key

SUPPORTED = "supported are EC-P256, EC-P384, RSA-2048, RSA-3072, RSA-4096"
KEY = ec.generate_private_key(ec.SECP256R1())


def request(*names: str, extension: x509.ExtensionType | None = None, key: object = KEY) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()  # type: ignore[arg-type]


CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def test_the_key_of_a_good_request_is_taken() -> None:
    """A request whose CN is the registration id, in whatever case, gives its key."""
    assert requested_key(request("Press-001"), registration_id="press-001") == KEY.public_key()


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (request("other"), "the CSR's CN is 'other', and the registration id is 'press-001'; they must be the same"),
        (request(), "the CSR has 0 CNs; it must have one, the registration id 'press-001'"),
        (request("press-001", "x"), "the CSR has 2 CNs; it must have one, the registration id 'press-001'"),
        (
            request("press-001", extension=x509.BasicConstraints(ca=True, path_length=None)),
            "the CSR asks for a CA certificate (CA:TRUE); a device is none",
        ),
        (
            request("press-001", extension=x509.SubjectAlternativeName([x509.DNSName("bank.example")])),
            "the CSR asks for other names (bank.example); a device gets its registration id only",
        ),
        (
            request("press-001", extension=CA_USAGE),
            "the CSR asks for the key usage of a CA; a device gets digitalSignature",
        ),
        (
            request("press-001", key=rsa.generate_private_key(65537, 1024)),  # noqa: S505 - weak on purpose
            "the CSR's RSA key has 1024 bits; at least 2048 are needed",
        ),
        (
            request("press-001", key=ed25519.Ed25519PrivateKey.generate()),
            f"the CSR's key can't be used: the key is Ed25519; {SUPPORTED}",
        ),
        (
            request("press-001", key=ec.generate_private_key(ec.SECP521R1())),
            f"the CSR's key can't be used: the key is EC secp521r1; {SUPPORTED}",
        ),
        ("x" * 20_000, "the CSR has 20000 characters; at most 16384 are read"),
    ],
)
def test_a_request_that_asks_for_too_much_is_refused_by_name(pem: str, message: str) -> None:
    """Each fault of a request has its own message, with field, value and rule."""
    with pytest.raises(Rejected) as caught:
        requested_key(pem, registration_id="press-001", field="devices[3].csr")
    assert str(caught.value) == f"devices[3].csr: {message}"


GOOD = request("press-001").encode()


@settings(max_examples=3000, deadline=None)
@given(st.data())
def test_no_damaged_request_raises_anything_but_a_rejection(data: st.DataObject) -> None:
    """Whatever is done to a request's bytes, it is taken or rejected, and nothing else happens."""
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        requested_key(damaged.decode("latin-1"), registration_id="press-001")
    except Rejected as rejection:
        assert rejection.reasons  # noqa: PT017 - either outcome is right


@settings(max_examples=3000, deadline=None)
@given(st.text(max_size=300))
def test_no_text_raises_anything_but_a_rejection(text: str) -> None:
    """Text that is no request is rejected."""
    with pytest.raises(Rejected):
        requested_key(text, registration_id="press-001")
