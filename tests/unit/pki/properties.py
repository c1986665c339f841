"""What holds for whatever the engine is given. The tests try some of it, ``benchmarks/fuzz.py`` for as long as asked.

Each property takes generated input and says in a few words what came of it, so that whoever runs it can tell what was
reached; it raises AssertionError, or an undocumented exception, when it does not hold.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs12
from OpenSSL import crypto

from shared.errors import Rejected
from shared.pki import names
from shared.pki.authority_files import answered_authority, authority_from_pem, authority_from_pfx
from shared.pki.bundles import BundleError, pack
from shared.pki.chains import check_chain
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import issue, prepare
from shared.pki.issuers import Issuer, IssuerError
from shared.pki.ocsp import UnreadableRequest, read_request
from shared.pki.profiles import (
    Profile,
    ProfileError,
    device_profile,
    issuing_profile,
    root_profile,
    verification_profile,
)
from shared.pki.readable import load_certificate
from shared.pki.requests import requested_key
from shared.pki.revocation_lists import RevocationError, RevokedCertificate, build_crl, encode_entry
from shared.pki.signing_keys import KeyAlgorithm, algorithm_of
from shared.pki.subjects import Subject
from shared.rules.registration_ids import canonical_registration_id, same_registration_id
from tests.pki.hierarchy import NOW, URLS
from tests.unit.pki import seeds
from tests.unit.pki.seeds import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_MESSAGE_LIMIT = 2000
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME


def _refused_because(message: str, phrases: Iterable[str]) -> str:
    """Tell which rule a refusal is about: the first phrase that stands in its message, which is not a page."""
    assert 0 < len(message) < _MESSAGE_LIMIT
    return next((phrase for phrase in phrases if phrase in message), "another reason")


def armoured(der: bytes, label: str, width: int = 64) -> bytes:
    """Write PEM."""
    text = base64.b64encode(der)
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return b"\n".join((b"-----BEGIN %s-----" % label.encode(), *lines, b"-----END %s-----" % label.encode(), b""))


@lru_cache(maxsize=64)
def loaded(der: bytes) -> x509.Certificate | None:
    """Load a certificate as whoever asks would, ``None`` if it is refused already.

    Most of those in a chain are the same every time, and are kept.
    """
    try:
        return load_certificate(der)
    except (ValueError, x509.InvalidVersion):
        return None


# --- requests --------------------------------------------------------------------------------------------------------

FORMS: Sequence[Callable[[bytes], str | bytes]] = (
    lambda der: der,
    lambda der: armoured(der, "CERTIFICATE REQUEST"),
    lambda der: armoured(der, "NEW CERTIFICATE REQUEST", 77).replace(b"\n", b"\r\n"),
    base64.encodebytes,
    lambda der: armoured(der, "CERTIFICATE REQUEST").decode(),
    lambda der: der.decode("latin-1"),
)
TEXT_THAT_IS_NO_REQUEST = len(FORMS) - 1
_REQUEST_RULES = (
    *(
        "not PKCS#10",
        "extensions that can't be read",
        "PEM",
        "signature is wrong",
        "attributes that ask",
        "CN",
        "CA:TRUE",
        "other names",
        "key usage",
    ),
    *("key can't be used", "is not known", "twice", "signed with SHA1"),
)


def a_request_is_taken_or_rejected(der: bytes, form: int = 0) -> str:
    """A damaged request gives a key that DPS takes, for the device alone, or a rejection that names the rule."""
    try:
        key = requested_key(FORMS[form](der), registration_id=NAME)
    except Rejected as rejection:
        return _refused_because(str(rejection), _REQUEST_RULES)
    algorithm_of(key)
    try:
        taken = x509.load_der_x509_csr(der)
        subject, extensions, valid = taken.subject, taken.extensions, taken.is_signature_valid
    except (ValueError, x509.InvalidVersion):
        return "taken"  # OpenSSL reads more than cryptography does, and so do we; test_requests.py says what
    assert valid
    assert same_registration_id(names.common_name(subject), NAME)
    for extension in extensions:
        if isinstance(extension.value, x509.BasicConstraints):
            assert not extension.value.ca
        if isinstance(extension.value, x509.KeyUsage):
            assert not extension.value.key_cert_sign
        if isinstance(extension.value, x509.SubjectAlternativeName):
            assert all(same_registration_id(str(name.value), NAME) for name in extension.value)
    return "taken"


@dataclass(frozen=True)
class Request:
    """A well-formed request, with whether a device may have what it asks for."""

    der: bytes
    allowed: bool


def a_request_is_taken_if_it_asks_for_no_more_than_a_device_gets(request: Request, form: int) -> str:
    """A signed request is taken exactly if its one name is the device's, its key is DPS's, and it asks for no more."""
    outcome = a_request_is_taken_or_rejected(request.der, form)
    if form != TEXT_THAT_IS_NO_REQUEST:
        assert (outcome == "taken") == request.allowed, outcome
    return outcome


# --- chains ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A chain as a device may send it, and what DPS has; all in DER.

    Attributes:
        chain: leaf first.
        group: the enrollment group's certificates.
        verified: the CAs whose possession was proved.
    """

    chain: tuple[bytes, ...]
    group: tuple[bytes, ...]
    verified: tuple[bytes, ...]


def a_chain_with_damage_is_judged(sent: Sent) -> str:
    """A chain is judged in words; one that passes is whole, alive and allowed, by rules written out once more."""
    chain, group, verified = ([loaded(der) for der in each] for each in (sent.chain, sent.group, sent.verified))
    if None in (*chain, *group, *verified):
        return "not loaded"
    return _judged(
        [each for each in chain if each], [each for each in group if each], [each for each in verified if each]
    )


def a_built_chain_is_judged(sent: Sent) -> str:
    """The same of chains that are well-formed, and almost right."""
    outcome = a_chain_with_damage_is_judged(sent)
    assert outcome not in {"not loaded", "empty", "too-long"}, "the generator does not write what it should"
    return outcome


def _judged(chain: list[x509.Certificate], group: list[x509.Certificate], verified: list[x509.Certificate]) -> str:
    now = NOW + timedelta(days=1)
    found = check_chain(chain, registration_id=NAME, group_certificates=group, verified_authorities=verified, now=now)
    assert all(0 < len(finding.message) < _MESSAGE_LIMIT for finding in found)
    if found:
        return found[0].code
    _assert_whole(chain, group, verified)
    _assert_alive_and_allowed(chain, now)
    return "accepted"


def _assert_whole(
    chain: list[x509.Certificate], group: list[x509.Certificate], verified: list[x509.Certificate]
) -> None:
    """Check names, signatures, the anchor and the group."""
    assert same_registration_id(names.common_name(chain[0].subject), NAME)
    for lower, upper in pairwise(chain):
        assert _signs(upper, lower)
    assert any(each in verified for each in chain) or any(_signs(each, chain[-1]) for each in verified)
    assert any(each in group for each in chain[1:]) or any(_signs(each, chain[-1]) for each in group)


def _signs(upper: x509.Certificate, lower: x509.Certificate) -> bool:
    if type(upper) is type(lower) is x509.Certificate:
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True
    return _signs_by_openssl(upper, lower)


def _signs_by_openssl(upper: x509.Certificate, lower: x509.Certificate) -> bool:
    above, below = (
        crypto.load_certificate(crypto.FILETYPE_ASN1, each.public_bytes(Encoding.DER)) for each in (upper, lower)
    )
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | crypto.X509StoreFlags.CHECK_SS_SIGNATURE | _NO_CHECK_TIME)
    store.add_cert(above)
    try:
        crypto.X509StoreContext(store, below).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


def _assert_alive_and_allowed(chain: list[x509.Certificate], now: datetime) -> None:
    below = 0
    for position, each in enumerate(chain):
        assert each.not_valid_before_utc <= now <= each.not_valid_after_utc
        assert position or 0 < each.serial_number < 1 << 159  # DPS takes whatever numbers CAs have
        assert not any(it.critical and isinstance(it.value, x509.UnrecognizedExtension) for it in each.extensions)
        found = {type(extension.value): extension.value for extension in each.extensions}
        constraints, usage = found.get(x509.BasicConstraints), found.get(x509.KeyUsage)
        is_ca = isinstance(constraints, x509.BasicConstraints) and constraints.ca
        assert is_ca == (position > 0)
        if isinstance(constraints, x509.BasicConstraints) and constraints.path_length is not None:
            assert below <= constraints.path_length
        if isinstance(usage, x509.KeyUsage):
            assert usage.key_cert_sign if position else usage.digital_signature
        below += position > 0 and each.issuer != each.subject


# --- CAs -------------------------------------------------------------------------------------------------------------

_ISSUER_RULES = (
    *(
        "has no CA rights",
        "forbids signing certificates",
        "CAs below it",
        "is not signed by",
        "is not a root",
        "other key",
    ),
    *("does not match its certificate", "has no SubjectKeyIdentifier", "can't be read"),
)


def an_issuer_is_made_or_refused(chain: tuple[bytes, ...]) -> str:
    """A line's CA of a damaged chain is refused with IssuerError, or may sign, by rules written out once more."""
    certificates = [loaded(der) for der in chain]
    if None in certificates:
        return "not loaded"
    whole = tuple(each for each in certificates if each)
    try:
        issuer = Issuer(whole[0], seeds.world().line.key, whole)
    except IssuerError as error:
        return _refused_because(str(error), _ISSUER_RULES)
    _assert_may_sign(issuer)
    return "made"


def _assert_may_sign(issuer: Issuer) -> None:
    assert issuer.signing_key.public_key() == issuer.certificate.public_key()
    assert issuer.chain[0] == issuer.certificate
    assert _signs(issuer.chain[-1], issuer.chain[-1])
    for lower, upper in pairwise(issuer.chain):
        assert _signs(upper, lower)
    for authority in issuer.chain:
        extensions = authority.extensions
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        for extension in extensions:
            assert not isinstance(extension.value, x509.KeyUsage) or extension.value.key_cert_sign


PASSWORDS = (None, "", "x", "\ud800", "a\0b", "é")
_IMPORT_RULES = (
    *("can't be opened", "can't be typed", "private keys", "no EC or RSA key", "rounds of key derivation"),
    *("can't be read", "none of its certificates", "the issuer of", "bytes; at most"),
    *_ISSUER_RULES,
)


def a_pfx_is_imported_or_rejected(pfx: bytes, password: str | None) -> str:
    """A damaged PFX gives a CA that can sign, or a rejection."""
    return _imported(lambda: authority_from_pfx(pfx, password, now=NOW))


def a_pem_is_imported_or_rejected(pem: bytes, password: str | None) -> str:
    """Damaged PEM gives a CA that can sign, or a rejection."""
    return _imported(lambda: authority_from_pem(pem, password, now=NOW))


def an_answer_is_taken_or_rejected(pem: bytes) -> str:
    """Damaged PEM as the answer to the owner's request gives a CA that can sign, or a rejection."""
    return _imported(lambda: answered_authority(pem, seeds.owned_request(), seeds.owned().key, now=NOW))


def _imported(read: Callable[[], Issuer]) -> str:
    try:
        issuer = read()
    except Rejected as rejection:
        return _refused_because(str(rejection), _IMPORT_RULES)
    _assert_may_sign(issuer)
    return "imported"


def an_ocsp_request_is_read_or_refused(content: bytes) -> str:
    """A damaged question is read, or refused with the status that says so."""
    try:
        asked = read_request(content, seeds.world().line.issuer)
    except UnreadableRequest as refusal:
        return refusal.status.name
    assert asked.serial_number > 0
    return "read"


# --- names, numbers, times -------------------------------------------------------------------------------------------

PROFILES = (device_profile(), verification_profile(), issuing_profile(), root_profile())

_NAME_RULES = ("RFC 5280 ub-common-name", "can't be printed", "lower case", "registrationId", "organization", "country")
_LIFE_RULES = ("is too short", "year 9999", "which leaves", "when it becomes valid", "20 octets")


def a_name_is_certified_as_it_is_or_refused(name: str, profile: Profile, more: tuple[str | None, str | None]) -> str:
    """Whatever a name is, the certificate that comes of it has that name exactly, or there is none."""
    try:
        certificate = _certified(profile, name, more, NOW, 1 << 158)
    except (Rejected, ProfileError) as refusal:
        return _refused_because(str(refusal), _NAME_RULES)
    assert names.common_name(certificate.subject) == name
    assert name.isprintable()
    if profile.kind is device_profile().kind:
        assert canonical_registration_id(name) == name
    return "certified"


def a_life_is_inside_the_issuer_or_refused(now: datetime, days: int, serial_number: int) -> str:
    """Whatever time and number, a certificate lives inside its issuer's life and has that number, or there is none."""
    issuer = seeds.world().line.certificate
    try:
        profile = device_profile(validity=timedelta(days=days))
        certificate = _certified(profile, NAME, (None, None), now, serial_number)
    except (Rejected, ProfileError) as refusal:
        return _refused_because(str(refusal), _LIFE_RULES)
    assert certificate.serial_number == serial_number > 0
    assert issuer.not_valid_before_utc <= certificate.not_valid_before_utc < certificate.not_valid_after_utc
    assert certificate.not_valid_after_utc <= issuer.not_valid_after_utc
    return "certified"


def _certified(
    profile: Profile, name: str, more: tuple[str | None, str | None], now: datetime, serial_number: int
) -> x509.Certificate:
    key = seeds.fixed_key(KeyAlgorithm.EC_P256)
    is_root = profile == root_profile()
    # The root signs what is a CA: below the line there is none.
    issuer = None if is_root else seeds.world().root.issuer if profile.is_ca else seeds.world().line.issuer
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


def a_url_is_written_or_refused(url: str) -> str:
    """Text that is not a URL never gets near a certificate."""
    try:
        DistributionPoints(url, url)
    except ProfileError:
        return "refused"
    x509.UniformResourceIdentifier(url)
    return "written"


def a_registration_id_has_one_form(text: str) -> str:
    """Canonical ids stay as they are, whatever gave them, and every rejection is a short one."""
    try:
        canonical = canonical_registration_id(text)
    except Rejected as rejection:
        return _refused_because(str(rejection), ("characters", "contains", "ends with"))
    assert canonical_registration_id(canonical) == canonical
    assert same_registration_id(text, canonical)
    return "taken"


def a_bundle_opens_with_its_password(password: str, friendly_name: str) -> str:
    """Whatever the password, what is written under it opens with it and with nothing else, or is not written."""
    key, made = seeds.fixed_key(KeyAlgorithm.EC_P256), seeds.world()
    certificate, chain = made.device(), made.line.issuer.chain[:-1]
    try:
        packed = pack(certificate=certificate, chain=chain, friendly_name=friendly_name, key=key, password=password)
    except BundleError:
        return "refused"
    key_block = packed.pem[packed.pem.rindex(b"-----BEGIN") :]
    assert load_pem_private_key(key_block, password.encode()).public_key() == key.public_key()
    assert pkcs12.load_pkcs12(packed.pfx or b"", password.encode()).cert is not None
    return "opened"


def a_revocation_is_listed_or_refused(serial_number: int, at: datetime, reason: str, crl_number: int) -> str:
    """Whatever is to be revoked is read back from the list as it was, to the second, or refused."""
    issuer = seeds.world().line.issuer
    try:
        entry = encode_entry(RevokedCertificate(serial_number, at, reason))
        der = build_crl([entry], issuer=issuer, crl_number=crl_number, now=NOW, next_update=NOW + timedelta(days=7))
    except RevocationError as refusal:
        return _refused_because(str(refusal), ("serial number", "CRL number", "revocation reason", "begin with 1950"))
    listed = x509.load_der_x509_crl(der)
    found = listed.get_revoked_certificate_by_serial_number(serial_number)
    assert found is not None
    assert found.revocation_date_utc == at.replace(microsecond=0)
    assert listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == crl_number
    return "listed"
