"""What holds for whatever the engine is given. The tests try some of it, ``benchmarks/fuzz.py`` for as long as asked.

Each property takes generated input and raises AssertionError, or an undocumented exception, when it does not hold.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.pki import names
from shared.pki.authority_files import answered_authority, authority_from_pem, authority_from_pfx, signing_request
from shared.pki.bundles import BundleError, pack
from shared.pki.chains import check_chain
from shared.pki.issuance import DistributionPoints, Issuer, IssuerError, Subject, issue, prepare
from shared.pki.ocsp import UnreadableRequest, read_request
from shared.pki.profiles import (
    Profile,
    ProfileError,
    device_profile,
    issuing_profile,
    root_profile,
    verification_profile,
)
from shared.pki.requests import requested_key
from shared.pki.revocation_lists import REASON_CODES, RevocationError, RevokedCertificate, build_crl, encode_entry
from shared.pki.signing_keys import KeyAlgorithm, algorithm_of
from shared.registration_ids import canonical_registration_id, same_registration_id
from tests.unit.pki.hierarchy import NOW, URLS, Hierarchy, certificate_authority, hierarchy, spare_key
from tests.unit.pki.mutations import edits, mutated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
NAME = "press-001"
_MESSAGE_LIMIT = 2000


# --- real files, to be damaged ---------------------------------------------------------------------------------------


def _request(algorithm: KeyAlgorithm) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return builder.sign(spare_key(algorithm), hashes.SHA256()).public_bytes(Encoding.DER)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@cache
def deep() -> Hierarchy:
    """Root -> factory -> line."""
    root = certificate_authority("deep", None, KeyAlgorithm.EC_P256, root_profile(), now=NOW - timedelta(days=1))
    factory = certificate_authority("factory", root, KeyAlgorithm.EC_P256, issuing_profile(path_length=1))
    return Hierarchy(root, certificate_authority("line", factory, KeyAlgorithm.EC_P256, issuing_profile()))


@cache
def seeds() -> dict[str, tuple[bytes, ...]]:
    """Give requests and certificates of several algorithms, in DER."""
    algorithms = (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048)
    leaves = [hierarchy(KeyAlgorithm.EC_P256).device(key=spare_key(algorithm)) for algorithm in algorithms]
    authorities = [deep().root, *(hierarchy(algorithm).issuing for algorithm in algorithms)]
    return {
        "requests": tuple(map(_request, algorithms)),
        "leaves": tuple(map(_der, (deep().device(NAME), *leaves))),
        "authorities": tuple(_der(authority.certificate) for authority in authorities),
    }


def all_seeds() -> tuple[bytes, ...]:
    """Give all of them, as donors for one another."""
    return tuple(seed for each in seeds().values() for seed in each)


def damaged(kind: str) -> st.SearchStrategy[bytes]:
    """Draw a damaged file of a kind."""
    return st.builds(mutated, st.sampled_from(seeds()[kind]), edits, st.sampled_from(all_seeds()))


def armoured(der: bytes, label: str, width: int = 64) -> bytes:
    """Write PEM."""
    text = base64.b64encode(der)
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return b"\n".join((b"-----BEGIN %s-----" % label.encode(), *lines, b"-----END %s-----" % label.encode(), b""))


# --- what the engine is asked ----------------------------------------------------------------------------------------

FORMS: Sequence[Callable[[bytes], str | bytes]] = (
    lambda der: der,
    lambda der: armoured(der, "CERTIFICATE REQUEST"),
    lambda der: armoured(der, "NEW CERTIFICATE REQUEST", 77).replace(b"\n", b"\r\n"),
    base64.encodebytes,
    lambda der: armoured(der, "CERTIFICATE REQUEST").decode(),
    lambda der: der.decode("latin-1"),
)


def a_request_is_taken_or_rejected(der: bytes, form: int = 0) -> None:
    """A damaged request gives a key that DPS takes, or a rejection that is no longer than a page."""
    try:
        key = requested_key(FORMS[form](der), registration_id=NAME)
    except Rejected as rejection:
        assert 0 < len(str(rejection)) < _MESSAGE_LIMIT  # noqa: PT017 - either outcome is right
        return
    algorithm_of(key)
    taken = x509.load_der_x509_csr(der)
    assert taken.is_signature_valid
    assert same_registration_id(names.common_name(taken.subject), NAME)


def loaded(der: bytes) -> x509.Certificate | None:
    """Load a certificate as whoever asks would, ``None`` if cryptography already refuses."""
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):
        return None


def a_chain_is_judged(position: int, certificate: x509.Certificate) -> None:
    """A chain with a damaged certificate in it is judged in words, and passes only if nothing signed was changed."""
    world = deep()
    good = [_seed_leaf(), *world.issuing.chain]
    chain = [*good]
    chain[position] = certificate
    for sent in (chain, chain[:-1]):
        _judge(sent, good, group=world.issuing.certificate, verified=world.root.certificate)
    # The damaged one as what the owner keeps in DPS.
    _judge(good, good, group=certificate, verified=world.root.certificate)
    _judge(good[:-1], good, group=world.issuing.certificate, verified=certificate)


@cache
def _seed_leaf() -> x509.Certificate:
    return x509.load_der_x509_certificate(seeds()["leaves"][0])


def _judge(
    chain: list[x509.Certificate], good: list[x509.Certificate], *, group: x509.Certificate, verified: x509.Certificate
) -> None:
    found = check_chain(
        chain,
        registration_id=NAME,
        group_certificates=[group],
        verified_authorities=[verified],
        now=NOW + timedelta(days=1),
    )
    assert all(0 < len(finding.message) < _MESSAGE_LIMIT for finding in found)
    if not found:
        signed = [each.tbs_certificate_bytes for each in good[:-1]]
        assert [each.tbs_certificate_bytes for each in chain[: len(signed)]] == signed


def an_issuer_is_made_or_refused(certificate: x509.Certificate) -> None:
    """A CA of a damaged certificate is refused with IssuerError, in its own place as well as above another."""
    world = deep()
    key = world.issuing.signing_key
    for own, chain in (
        (certificate, (certificate, *world.issuing.chain[1:])),
        (world.issuing.certificate, (world.issuing.certificate, certificate, world.root.certificate)),
        (world.issuing.certificate, (*world.issuing.chain[:2], certificate)),
    ):
        try:
            Issuer(own, key, chain)
        except IssuerError as error:
            assert 0 < len(str(error)) < _MESSAGE_LIMIT  # noqa: PT017 - either outcome is right


@cache
def whole_bundle() -> bytes:
    """Give an undamaged one, with its key under the password ``sesame``."""
    world, key = deep(), spare_key(KeyAlgorithm.EC_P256)
    chain = world.issuing.chain[:-1]
    return pack(
        certificate=world.device(NAME, key=key), chain=chain, friendly_name=NAME, key=key, password="sesame"
    ).pem


PASSWORDS = (None, "", "sesame", "x", "\ud800", "a\0b", "é")


@cache
def whole_pfx() -> bytes:
    """Give an owner's CA as PKCS#12: its key, itself and its root, under the password ``sesame``."""
    issuing = hierarchy(KeyAlgorithm.EC_P256).issuing
    encryption = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1).build(b"sesame")
    key = spare_key(KeyAlgorithm.EC_P256)
    return pkcs12.serialize_key_and_certificates(b"ca", key, _own_leaf(), list(issuing.chain), encryption)


@cache
def owned() -> tuple[bytes, bytes, bytes]:
    """Give an owner's CA as it comes: its key and itself in PEM, and its own and its root's certificate in DER."""
    root, key = deep().root, spare_key(KeyAlgorithm.EC_P256)
    prepared = prepare(
        issuing_profile(),
        subject=Subject("owned"),
        public_key=key.public_key(),
        issuer=root,
        serial_number=1 << 158,
        now=NOW,
        urls=URLS,
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, _der(issue(prepared, root)), _der(root.certificate)


def a_damaged_authority_is_imported_or_rejected(own: bytes, root: bytes) -> None:
    """A CA with its key, of which a certificate is damaged, is a CA that can sign, or is rejected."""
    pem = owned()[0] + armoured(own, "CERTIFICATE") + armoured(root, "CERTIFICATE")
    _import(lambda: authority_from_pem(pem, None, now=NOW))
    certificates = [each for each in (loaded(own), loaded(root)) if each]
    if len(certificates) == 2:
        key = spare_key(KeyAlgorithm.EC_P256)
        encryption = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1).build(b"sesame")
        pfx = pkcs12.serialize_key_and_certificates(b"ca", key, None, certificates, encryption)
        _import(lambda: authority_from_pfx(pfx, "sesame", now=NOW))


def a_pfx_is_imported_or_rejected(pfx: bytes, password: str | None) -> None:
    """A damaged PFX gives a CA that can sign, or a rejection."""
    _import(lambda: authority_from_pfx(pfx, password, now=NOW))


def a_pem_is_imported_or_rejected(pem: bytes, password: str | None) -> None:
    """Damaged PEM gives a CA that can sign, or a rejection, also as the answer to a request."""
    _import(lambda: authority_from_pem(pem, password, now=NOW))
    _import(lambda: answered_authority(pem, asked(), deep().issuing.signing_key, now=NOW))


@cache
def asked() -> x509.CertificateSigningRequest:
    """Give the request of the line's CA."""
    return signing_request(issuing_profile(), Subject("line", "Example", "US"), deep().issuing.signing_key)


def _import(read: Callable[[], Issuer]) -> None:
    try:
        issuer = read()
    except Rejected as rejection:
        assert 0 < len(str(rejection)) < _MESSAGE_LIMIT  # noqa: PT017 - either outcome is right
        return
    assert issuer.signing_key.public_key() == issuer.certificate.public_key()


@cache
def ocsp_request() -> bytes:
    """Give a question about a device of the deep hierarchy."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(_own_leaf(), deep().issuing.certificate, hashes.SHA256())
    return builder.add_extension(x509.OCSPNonce(b"0123456789abcdef"), critical=False).build().public_bytes(Encoding.DER)


def an_ocsp_request_is_read_or_refused(content: bytes) -> None:
    """A damaged question is read, or refused with the status that says so."""
    with suppress(UnreadableRequest):
        read_request(content, deep().issuing)


# --- names, numbers, times -------------------------------------------------------------------------------------------

NASTY = (
    "", " ", NAME, NAME.upper(), "*", "*.example.com", "a" * 64, "a" * 65, "é" * 64, "\U0001f525" * 64, "a\0b",
    "a\r\nSet-Cookie: x", "CN=root,O=x", "a/../b", "\u202egnp", "\u212a-1", "ß", "ﬁ", "\ud800", "a" * 100_000, "-", ".",
    "a.", "xn--", "' OR 1=1", "${jndi:x}", "\ufeffpress", "press\u00ad-1",
)  # fmt: skip

any_text: st.SearchStrategy[str] = (
    st.sampled_from(NASTY) | st.text(st.characters(), max_size=80) | st.text("abz09-._:A ", min_size=1, max_size=66)
)
any_time: st.SearchStrategy[datetime] = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    (NOW, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), datetime(1950, 1, 1, tzinfo=UTC))
)
any_number: st.SearchStrategy[int] = st.integers(-(2**170), 2**170) | st.sampled_from(
    (0, -1, 1, 2**158, 2**159 - 1, 2**159, 2**160)
)
PROFILES = (device_profile(), verification_profile(), issuing_profile(), root_profile())


def a_name_is_certified_as_it_is_or_refused(name: str, profile: Profile, more: tuple[str | None, str | None]) -> None:
    """Whatever a name is, the certificate that comes of it has that name exactly, or there is none."""
    try:
        certificate = _certified(profile, name, more, NOW, 1 << 158)
    except (Rejected, ProfileError):
        return
    assert names.common_name(certificate.subject) == name
    assert name.isprintable()
    if profile.kind is device_profile().kind:
        assert canonical_registration_id(name) == name


def a_life_is_inside_the_issuer_or_refused(now: datetime, days: int, serial_number: int) -> None:
    """Whatever time and number, a certificate lives inside its issuer's life and has that number, or there is none."""
    issuer = deep().issuing.certificate
    try:
        profile = device_profile(validity=timedelta(days=days))
        certificate = _certified(profile, NAME, (None, None), now, serial_number)
    except (Rejected, ProfileError):
        return
    assert certificate.serial_number == serial_number > 0
    assert issuer.not_valid_before_utc <= certificate.not_valid_before_utc < certificate.not_valid_after_utc
    assert certificate.not_valid_after_utc <= issuer.not_valid_after_utc


def _certified(
    profile: Profile, name: str, more: tuple[str | None, str | None], now: datetime, serial_number: int
) -> x509.Certificate:
    key = spare_key(KeyAlgorithm.EC_P256)
    is_root = profile == root_profile()
    # The root signs what is a CA: below the line there is none.
    issuer = None if is_root else deep().root if profile.is_ca else deep().issuing
    prepared = prepare(
        profile,
        subject=Subject(name, *more),
        public_key=key.public_key(),
        issuer=issuer,
        signing_key=key if is_root else None,
        serial_number=serial_number,
        now=now,
        urls=URLS,
    )
    return issue(prepared, issuer)


def a_url_is_written_or_refused(url: str) -> None:
    """Text that is no URL never gets near a certificate."""
    try:
        DistributionPoints(url, url)
    except ProfileError:
        return
    x509.UniformResourceIdentifier(url)


def a_registration_id_has_one_form(text: str) -> None:
    """Canonical ids stay as they are, whatever gave them, and every rejection is a short one."""
    try:
        canonical = canonical_registration_id(text)
    except Rejected as rejection:
        assert len(str(rejection)) < _MESSAGE_LIMIT  # noqa: PT017 - either outcome is right
        return
    assert canonical_registration_id(canonical) == canonical
    assert same_registration_id(text, canonical)


def a_bundle_opens_with_its_password(password: str, friendly_name: str) -> None:
    """Whatever the password, what is written under it opens with it and with nothing else, or is not written."""
    key, world = spare_key(KeyAlgorithm.EC_P256), deep()
    certificate, chain = _own_leaf(), world.issuing.chain[:-1]
    try:
        packed = pack(certificate=certificate, chain=chain, friendly_name=friendly_name, key=key, password=password)
    except BundleError:
        return
    key_block = packed.pem[packed.pem.rindex(b"-----BEGIN") :]
    assert load_pem_private_key(key_block, password.encode()).public_key() == key.public_key()
    assert pkcs12.load_pkcs12(packed.pfx or b"", password.encode()).cert is not None


@cache
def _own_leaf() -> x509.Certificate:
    return deep().device(NAME, key=spare_key(KeyAlgorithm.EC_P256))


def a_revocation_is_listed_or_refused(serial_number: int, at: datetime, reason: str, crl_number: int) -> None:
    """Whatever is to be revoked is read back from the list as it was, to the second, or refused."""
    issuer = deep().issuing
    try:
        entry = encode_entry(RevokedCertificate(serial_number, at, reason))
        der = build_crl([entry], issuer=issuer, crl_number=crl_number, now=NOW, next_update=NOW + timedelta(days=7))
    except RevocationError:
        return
    listed = x509.load_der_x509_crl(der)
    found = listed.get_revoked_certificate_by_serial_number(serial_number)
    assert found is not None
    assert found.revocation_date_utc == at.replace(microsecond=0)
    assert listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == crl_number


any_reason: st.SearchStrategy[str] = st.sampled_from((*REASON_CODES, "removeFromCRL", "", "keycompromise"))


# --- chains of strange but well-formed certificates ------------------------------------------------------------------

_POOL = tuple(ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
_PURPOSES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


@st.composite
def strange_certificates(draw: st.DrawFn) -> x509.Certificate:
    """Draw a certificate of few names and keys, so that chains loop, cross and almost fit."""
    label = st.sampled_from(("a", "b", NAME))
    subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, draw(label))]) for _ in range(2))
    begins = NOW + timedelta(days=draw(st.integers(-3, 3)))
    builder = x509.CertificateBuilder(
        issuer, subject, draw(st.sampled_from(_POOL)).public_key(), draw(st.integers(1, 3)), begins,
        begins + timedelta(days=draw(st.integers(1, 3))),
    )  # fmt: skip
    choices = draw(st.integers(0, 255))
    if choices & 1:
        is_ca = bool(choices & 2)
        length = draw(st.none() | st.integers(0, 2)) if is_ca else None
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=length), critical=True)
    if choices & 4:
        usage = x509.KeyUsage(*(bool(choices & 8) and flag in {0, 5} for flag in range(9)))
        builder = builder.add_extension(usage, critical=True)
    if choices & 16:
        builder = builder.add_extension(x509.ExtendedKeyUsage([_PURPOSES[choices >> 7]]), critical=bool(choices & 32))
    if choices & 64:
        identifier = x509.AuthorityKeyIdentifier(draw(st.sampled_from((None, b"", b"1"))), None, None)
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(draw(st.sampled_from(_POOL)), hashes.SHA256())


def any_chain_is_judged(chain: list[x509.Certificate], kept: list[x509.Certificate]) -> None:
    """Chains that loop, repeat, expire or almost fit are judged; one that passes verifies link by link."""
    found = check_chain(
        chain, registration_id=NAME, group_certificates=kept[:1], verified_authorities=kept[1:], now=NOW
    )
    if found:
        return
    for lower, upper in pairwise(chain):
        lower.verify_directly_issued_by(upper)
    for each in chain:
        assert each.not_valid_before_utc <= NOW <= each.not_valid_after_utc
