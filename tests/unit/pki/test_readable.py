"""CAs and devices' certificates that OpenSSL and Java read and cryptography does not: from file to OCSP.

OpenSSL on the command line says what is right.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ssl import DER_cert_to_PEM_cert
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.errors import Rejected
from shared.pki import der, names, ocsp
from shared.pki.authority_files import authority_from_pem, authority_from_pfx
from shared.pki.bundles import pack
from shared.pki.certificates import issued_by, issuer_in_der, subject_in_der
from shared.pki.chains import check_chain
from shared.pki.damage import UnreadableCertificate, read_certificate
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, new_serial_number, prepare
from shared.pki.list_checks import ListError, listed_serial_numbers, read_list
from shared.pki.ocsp import Responder
from shared.pki.opened_files import CanNotOpen, open_pfx
from shared.pki.profiles import device_profile, ocsp_responder_profile
from shared.pki.readable import load_certificate, load_certificates
from shared.pki.revocation_lists import RevokedCertificate, build_crl, encode_entry
from shared.pki.subjects import Subject
from tests.pki.hierarchy import URLS, hierarchy
from tests.unit.pki.handmade import (
    BMP,
    CA_EXTENSIONS,
    CN,
    ECDSA,
    ECDSA_WITH_NULL,
    PRINTABLE,
    TELETEX,
    UTF8,
    O,
    certificate,
    name,
    plain,
)

if TYPE_CHECKING:
    from pathlib import Path

    from shared.pki.issuers import Issuer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROOT_KEY, KEY, DEVICE_KEY = (ec.derive_private_key(number, ec.SECP256R1()) for number in (2001, 2002, 2003))
IA5 = 0x16
LATIN, UTF = "Müller".encode("latin-1"), "Müller".encode()


@dataclass(frozen=True)
class Form:
    """How a CA's certificates are written, and what its O reads as."""

    organization: tuple[str, int, bytes]
    reads: str
    algorithm: bytes = ECDSA


FORMS = {
    "Latin-1 in a TeletexString": Form((O, TELETEX, LATIN), "Müller"),
    "Latin-1 in an IA5String": Form((O, IA5, LATIN), "Müller"),
    "Latin-1 in a PrintableString": Form((O, PRINTABLE, LATIN), "Müller"),
    "UTF-8 in a PrintableString": Form((O, PRINTABLE, UTF), "Müller"),
    "underscore in a PrintableString": Form((O, PRINTABLE, b"R_D@corp"), "R_D@corp"),
    "NULL parameters with ECDSA": Form((O, UTF8, UTF), "Müller", ECDSA_WITH_NULL),
}


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pem(*encoded: bytes) -> bytes:
    return "".join(map(DER_cert_to_PEM_cert, encoded)).encode()


@cache
def chain_of(form: str) -> tuple[bytes, bytes]:
    """Write an issuing CA and its root, in DER."""
    written = FORMS[form]
    root, line = (name(written.organization, (CN, UTF8, text)) for text in (b"Root", b"Line"))
    return (
        certificate(line, KEY, issuer=root, issuer_key=ROOT_KEY, algorithm=written.algorithm),
        certificate(root, ROOT_KEY, algorithm=written.algorithm),
    )


@cache
def issuer_of(form: str) -> Issuer:
    return authority_from_pem(key_pem(KEY) + pem(*chain_of(form)), None, now=NOW)


@cache
def device_of(form: str) -> x509.Certificate:
    issuer = issuer_of(form)
    prepared = prepare(
        device_profile(),
        subject=Subject("press-001"),
        public_key=DEVICE_KEY.public_key(),
        issuer=issuer,
        serial_number=new_serial_number(),
        now=NOW,
        urls=URLS,
    )
    return issue(prepared, issuer)


def openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("form", FORMS)
def test_cryptography_does_not_read_it_and_openssl_does(form: str, tmp_path: Path) -> None:
    """It is an odd one; where this fails, cryptography has learnt to read it, and the twin can go."""
    line, root = chain_of(form)
    with pytest.raises(ValueError, match="error parsing asn1 value"):
        _ = x509.load_der_x509_certificate(line).subject
    (tmp_path / "line.pem").write_bytes(pem(line))
    (tmp_path / "root.pem").write_bytes(pem(root))
    assert openssl(tmp_path, "verify", "-attime", "1772366400", "-CAfile", "root.pem", "line.pem") == "line.pem: OK\n"


@pytest.mark.parametrize("form", FORMS)
def test_it_is_read_as_openssl_reads_it_and_given_out_as_it_is(form: str) -> None:
    """Names are text; the thumbprints, DER, PEM and what was signed are those of the octets that came."""
    line, root = map(read_certificate, chain_of(form))
    encoded = chain_of(form)[0]
    assert line.subject.rfc4514_string() == f"CN=Line,O={FORMS[form].reads}"
    assert line.issuer.rfc4514_string() == f"CN=Root,O={FORMS[form].reads}"
    assert line.public_key() == KEY.public_key()
    assert line.public_bytes(Encoding.DER) == encoded
    assert names.pem(line).encode() == pem(encoded)
    assert names.thumbprint(line) == hashlib.sha1(encoded).hexdigest().upper()  # noqa: S324 - IoT Hub's name for it
    assert names.sha256_thumbprint(line) == hashlib.sha256(encoded).hexdigest().upper()
    assert line.tbs_certificate_bytes == next(der.parts(encoded))
    assert subject_in_der(line) == name(FORMS[form].organization, (CN, UTF8, b"Line"))
    assert issuer_in_der(line) == subject_in_der(root) == name(FORMS[form].organization, (CN, UTF8, b"Root"))


@pytest.mark.parametrize("form", FORMS)
def test_it_is_equal_to_itself_alone(form: str) -> None:
    """Loaded twice it is one, and never what it reads as, which is another certificate."""
    encoded, root = chain_of(form)
    one, other = load_certificate(encoded), load_certificate(encoded)
    assert one == other
    assert len({one, other, load_certificate(root)}) == 2
    assert load_certificates(pem(encoded, root)) == (one, load_certificate(root))
    assert load_certificate(hierarchy().root.certificate.public_bytes(Encoding.DER)) != one


def test_a_certificate_that_cryptography_reads_has_no_twin() -> None:
    """It is cryptography's own object."""
    encoded = hierarchy().root.certificate.public_bytes(Encoding.DER)
    assert type(load_certificate(encoded)) is x509.Certificate


def test_what_would_give_the_octets_of_the_twin_is_not_there() -> None:
    """Who asks for it gets an error, and not a wrong answer."""
    line = load_certificate(chain_of("Latin-1 in a TeletexString")[0])
    assert not hasattr(line, "verify_directly_issued_by")
    assert not hasattr(line, "tbs_precertificate_bytes")


@pytest.mark.parametrize("form", FORMS)
def test_a_chain_of_it_is_judged_as_any_other(form: str) -> None:
    """It passes whole; a signature that is wrong, or a missing root, is found as ever."""
    line, root = map(load_certificate, chain_of(form))
    leaf = device_of(form)

    def codes(*chain: x509.Certificate, verified: x509.Certificate = root) -> list[str]:
        found = check_chain(
            chain, registration_id="press-001", group_certificates=[line], verified_authorities=[verified], now=NOW
        )
        return [each.code for each in found]

    assert codes(leaf, line, root) == []
    assert codes(leaf, line) == []
    assert codes(leaf, line, verified=hierarchy().root.certificate) == ["no-verified-ca"]
    encoded = chain_of(form)[0]
    forged = load_certificate(encoded[:-1] + bytes([encoded[-1] ^ 1]))
    assert codes(leaf, forged, root) == ["other-key", "wrong-group"]
    assert not issued_by(forged, root)
    assert not issued_by(line, line)


@pytest.mark.parametrize("form", FORMS)
def test_devices_are_issued_below_it(form: str, tmp_path: Path) -> None:
    """A device's certificate has the issuer's name octet by octet, and OpenSSL verifies it."""
    line, root = chain_of(form)
    leaf = device_of(form)
    assert issuer_in_der(leaf) == name(FORMS[form].organization, (CN, UTF8, b"Line"))
    for file, content in (("leaf", leaf.public_bytes(Encoding.DER)), ("line", line), ("root", root)):
        (tmp_path / f"{file}.pem").write_bytes(pem(content))
    arguments = ("-attime", "1772366400", "-purpose", "sslclient", "-CAfile", "root.pem", "-untrusted", "line.pem")
    assert openssl(tmp_path, "verify", *arguments, "leaf.pem") == "leaf.pem: OK\n"


@pytest.mark.parametrize("form", FORMS)
def test_its_list_is_made_and_read_back(form: str, tmp_path: Path) -> None:
    """The list is named after the CA octet by octet, OpenSSL verifies it, and it is read before it is published."""
    issuer = issuer_of(form)
    entry = encode_entry(RevokedCertificate(serial_number=17, revoked_at=NOW))
    crl = build_crl([entry], issuer=issuer, crl_number=5, now=NOW, next_update=NOW + timedelta(days=1))
    (tmp_path / "line.crl").write_bytes(crl)
    (tmp_path / "line.pem").write_bytes(pem(chain_of(form)[0]))
    told = openssl(tmp_path, "crl", "-inform", "DER", "-in", "line.crl", "-noout", "-CAfile", "line.pem")
    assert told == "verify OK\n"
    read = read_list(crl, issuer)
    assert (read.number, read.length, read.next_update) == (5, 1, NOW + timedelta(days=1))
    assert listed_serial_numbers(crl, issuer) == {17}


def test_another_cas_list_is_refused() -> None:
    """Of a CA that is written otherwise and reads the same, too."""
    crl = build_crl(
        [], issuer=issuer_of("UTF-8 in a PrintableString"), crl_number=5, now=NOW, next_update=NOW + timedelta(days=1)
    )
    for form in ("Latin-1 in a TeletexString", "Latin-1 in a PrintableString"):
        with pytest.raises(ListError, match="the list is not one of 'Line'"):
            read_list(crl, issuer_of(form))
    with pytest.raises(ListError, match="can't be read"):
        read_list(b"\x30\x03\x02\x01\x00", issuer_of("Latin-1 in a TeletexString"))


@pytest.mark.parametrize("form", FORMS)
def test_openssl_takes_an_answer_about_its_devices(form: str, tmp_path: Path) -> None:
    """OpenSSL's question is taken to be about this CA, and the answer with its responder's certificate is verified."""
    issuer = issuer_of(form)
    line, root = chain_of(form)
    for file, content in (("leaf", device_of(form).public_bytes(Encoding.DER)), ("line", line), ("root", root)):
        (tmp_path / f"{file}.pem").write_bytes(pem(content))
    openssl(tmp_path, "ocsp", "-issuer", "line.pem", "-cert", "leaf.pem", "-reqout", "asked.der", "-no_nonce")
    asked = ocsp.read_request((tmp_path / "asked.der").read_bytes(), issuer)
    assert asked.serial_number == device_of(form).serial_number
    prepared = prepare(
        ocsp_responder_profile(),
        subject=Subject("OCSP"),
        public_key=DEVICE_KEY.public_key(),
        issuer=issuer,
        serial_number=new_serial_number(),
        now=NOW,
        urls=DistributionPoints(),
    )
    responder = Responder(issue(prepared, issuer), DEVICE_KEY)
    answer = ocsp.answer(asked, ocsp.GOOD, responder=responder, now=NOW, next_update=NOW + timedelta(days=1))
    (tmp_path / "answer.der").write_bytes(answer)
    arguments = ("-respin", "answer.der", "-issuer", "line.pem", "-cert", "leaf.pem", "-attime", "1772366400")
    told = openssl(tmp_path, "ocsp", *arguments, "-CAfile", "root.pem", "-verify_other", "line.pem", "-no_nonce")
    assert "Response verify OK" in told
    assert "good" in told.replace("leaf.pem: ", "").splitlines()


@pytest.mark.parametrize("form", FORMS)
def test_a_bundle_with_it_opens_in_openssl(form: str, tmp_path: Path) -> None:
    """The PFX holds the device's key and the certificates as they were issued."""
    line, _ = chain_of(form)
    issuer, leaf = issuer_of(form), device_of(form)
    packed = pack(
        certificate=leaf, chain=issuer.sent_chain, friendly_name="press-001", key=DEVICE_KEY, password="open-sesame"
    )
    assert packed.pfx is not None
    (tmp_path / "device.pfx").write_bytes(packed.pfx)
    told = openssl(tmp_path, "pkcs12", "-in", "device.pfx", "-nodes", "-passin", "pass:open-sesame")
    assert load_certificates(told.encode()) == (leaf, load_certificate(line))
    assert key_pem(DEVICE_KEY).decode() in told
    assert "friendlyName: press-001" in told
    info = openssl(tmp_path, "pkcs12", "-in", "device.pfx", "-info", "-noout", "-passin", "pass:open-sesame")
    assert "PKCS7 Encrypted data: PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256" in info
    assert packed.pem.startswith(pem(leaf.public_bytes(Encoding.DER), line))


@pytest.mark.long
@pytest.mark.skipif(shutil.which("keytool") is None, reason="Java's keytool is not installed")
@pytest.mark.parametrize("form", ["underscore in a PrintableString", "NULL parameters with ECDSA"])
def test_a_bundle_with_it_opens_in_java(form: str, tmp_path: Path) -> None:
    """Java's keytool finds the key under the friendly name, with its chain."""
    packed = pack(
        certificate=device_of(form),
        chain=issuer_of(form).sent_chain,
        friendly_name="press-001",
        key=DEVICE_KEY,
        password="open-sesame",
    )
    (tmp_path / "device.pfx").write_bytes(packed.pfx or b"")
    done = subprocess.run(
        ["keytool", "-list", "-v", "-keystore", "device.pfx", "-storetype", "PKCS12", "-storepass", "open-sesame"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Alias name: press-001" in done.stdout, done.stdout + done.stderr
    assert "Certificate chain length: 2" in done.stdout


WRITERS = {
    "OpenSSL 3": (),
    "OpenSSL before 3, Java before 16": ("-legacy",),
    "Windows": ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"),
    "RC2 with 128 bits": ("-legacy", "-certpbe", "PBE-SHA1-RC2-128"),
    "AES-128 with a MAC of SHA-384": ("-keypbe", "AES-128-CBC", "-certpbe", "AES-128-CBC", "-macalg", "sha384"),
    "3DES by PBES2": ("-keypbe", "DES-EDE3-CBC", "-certpbe", "DES-EDE3-CBC"),
    "certificates in the open": ("-certpbe", "NONE"),
}


def pfx_of(form: str, folder: Path, *arguments: str, password: str = "sesame") -> bytes:  # noqa: S107 - of test files
    (folder / "ca.pem").write_bytes(key_pem(KEY) + pem(*chain_of(form)))
    told = openssl(
        folder, "pkcs12", "-export", "-in", "ca.pem", "-out", "ca.pfx", "-passout", f"pass:{password}", *arguments
    )
    assert told == ""
    return (folder / "ca.pfx").read_bytes()


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("form", ["underscore in a PrintableString", "NULL parameters with ECDSA"])
def test_a_ca_is_read_out_of_a_pfx_of_many_makers(form: str, writer: str, tmp_path: Path) -> None:
    """Key and chain are what was put in."""
    issuer = authority_from_pfx(pfx_of(form, tmp_path, *WRITERS[writer]), "sesame", now=NOW)
    assert [each.public_bytes(Encoding.DER) for each in issuer.chain] == [*chain_of(form)]
    assert issuer.signing_key.public_key() == KEY.public_key()


@pytest.mark.parametrize("form", FORMS)
def test_a_ca_of_each_form_is_read_out_of_a_pfx(form: str, tmp_path: Path) -> None:
    """With a password, and with an empty one."""
    for password in ("sesame", ""):
        issuer = authority_from_pfx(pfx_of(form, tmp_path, password=password), password, now=NOW)
        assert [each.public_bytes(Encoding.DER) for each in issuer.chain] == [*chain_of(form)]


def test_a_pfx_with_it_needs_the_right_password_and_is_not_changed(tmp_path: Path) -> None:
    """A wrong password, or an octet changed anywhere, opens nothing."""
    pfx = pfx_of("NULL parameters with ECDSA", tmp_path, "-iter", "1", "-maciter")
    with pytest.raises(Rejected, match="it can't be opened: the password is wrong, or it is not PKCS#12"):
        authority_from_pfx(pfx, "mesame", now=NOW)
    good = open_pfx(pfx, b"sesame").certificates
    assert len(good) == 2
    for at in range(0, len(pfx), 7):
        damaged = pfx[:at] + bytes([pfx[at] ^ 0x10]) + pfx[at + 1 :]
        with suppress(CanNotOpen):
            assert open_pfx(damaged, b"sesame").certificates == good  # an octet that says nothing


MAKER = der.tagged(0xA1, der.tagged(0xA4, name((O, TELETEX, LATIN), (CN, UTF8, b"Root"))))


def test_names_in_extensions_are_read() -> None:
    """An authority key identifier that names the issuer's certificate, by a name of such a form and its number."""
    identifier = der.extension("2.5.29.35", der.sequence(MAKER, b"\x82\x01\x11"))
    root = certificate(name((O, TELETEX, LATIN), (CN, UTF8, b"Root")), ROOT_KEY)
    line = certificate(
        plain("Line"),
        KEY,
        issuer=name((O, TELETEX, LATIN), (CN, UTF8, b"Root")),
        issuer_key=ROOT_KEY,
        extensions=(*CA_EXTENSIONS, identifier),
    )
    issuer = authority_from_pem(key_pem(KEY) + pem(line, root), None, now=NOW)
    found = issuer.certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert [each.value.rfc4514_string() for each in found.authority_cert_issuer or ()] == ["CN=Root,O=Müller"]


def test_a_device_with_an_underscore_in_a_printable_string_has_that_name() -> None:
    """Registration ids may have one (DPS: letters, digits, ``-._:``), and makers write PrintableStrings."""
    leaf = load_certificate(certificate(plain("press_001", PRINTABLE), DEVICE_KEY, extensions=()))
    assert names.common_name(leaf.subject) == "press_001"


STILL_REFUSED = {
    "Latin-1 in a UTF8String": certificate(name((O, UTF8, LATIN), (CN, TELETEX, LATIN)), KEY),
    "half a character in a BMPString": certificate(name((CN, BMP, b"\0a\0"), (O, PRINTABLE, b"R_D")), KEY),
    "a string whose length has needless octets": certificate(
        der.sequence(der.tagged(0x31, der.sequence(der.object_identifier(O), b"\x13\x81\x03R_D"))), KEY
    ),
    "a SET of what is signed": b"\x30"
    + certificate(name((O, PRINTABLE, b"R_D")), KEY)[1:].replace(b"\x30", b"\x31", 1),
    "a name whose length has needless octets": certificate(b"\x30\x81" + name((O, PRINTABLE, b"R_D"))[1:], KEY),
}


@pytest.mark.parametrize("case", STILL_REFUSED)
def test_what_is_wrong_otherwise_is_refused(case: str) -> None:
    """The twin puts the three forms right, and nothing else."""
    with pytest.raises(UnreadableCertificate):
        read_certificate(STILL_REFUSED[case])


def test_nesting_without_end_is_refused() -> None:
    """A name of ten thousand levels takes no stack."""
    nested = b""
    for _ in range(10_000):
        nested = der.sequence(nested)
    with pytest.raises(UnreadableCertificate):
        read_certificate(certificate(nested, KEY))
