"""The rules of C2SP/x509-limbo for our own chain check, on certificates of our own.

Each case is named after the limbo test case that it re-expresses for a TLS client: the leaf's purpose is clientAuth, its
name is its CN, and the chain comes in order, as DPS wants it. Every case of limbo is here, or is left out with a reason
(``LEFT_OUT``). Where we judge otherwise than limbo, the case says why.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID, NameOID

from shared.pki.chains import check_chain
from shared.pki.names import common_name
from tests.pki.hierarchy import NOW
from tests.unit.pki.limbo_expectations import EXPECTED
from tests.unit.pki.mutations import parsed, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Why we judge otherwise than limbo.
NO_DEVICE = "a CA can't be a device in DPS"
ISSUERS_DUTY = (
    "a duty of whoever issues, which path validation (RFC 5280 section 6) does not ask for: an owner's existing CA is not "
    "refused for it; what this project issues keeps it (test_linting.py)"
)
BROWSERS = "a rule of the CA/Browser Forum for servers on the web"
NOT_READ = "DPS goes by the CN, and reads no alternative name"

NAME = "press-001"
YEAR = timedelta(days=365)
type Extensions = Mapping[type[x509.ExtensionType], tuple[x509.ExtensionType, bool] | None]


@dataclass(frozen=True)
class Made:
    certificate: x509.Certificate
    key: Any


def name_of(text: str) -> x509.Name:
    return x509.Name.from_rfc4514_string(text) if "=" in text else x509.Name(_common_name(text))


def _common_name(text: str) -> list[x509.NameAttribute[str]]:
    return [x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else []


def usage(*names: str) -> x509.KeyUsage:
    flags = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{flag: flag in names for flag in flags})


def made(
    subject: str,
    issuer: Made | None,
    changes: Extensions | None,
    extensions: Extensions,
    *,
    key: Any = None,
    begins: datetime = NOW - YEAR,
    ends: datetime = NOW + YEAR,
    serial: int = 1000,
    named: x509.Name | None = None,
    named_issuer: x509.Name | None = None,
) -> Made:
    """Make a certificate; changes replace extensions by kind, or take them away (None)."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    own = name_of(subject) if named is None else named
    above = issuer.certificate.subject if issuer else own
    builder = x509.CertificateBuilder(
        above if named_issuer is None else named_issuer, own, key.public_key(), serial, begins, ends
    )
    identifiers = _identifiers(key, issuer)
    for extension in {**identifiers, **extensions, **(changes or {})}.values():
        if extension is not None:
            builder = builder.add_extension(extension[0], critical=extension[1])
    return Made(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _identifiers(key: Any, issuer: Made | None) -> Extensions:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()) if issuer else None
    return {x509.SubjectKeyIdentifier: (own, False), x509.AuthorityKeyIdentifier: (above, False) if above else None}


def ca(
    subject: str, issuer: Made | None, changes: Extensions | None = None, *, length: int | None = None, **more: Any
) -> Made:
    extensions: Extensions = {
        x509.BasicConstraints: (x509.BasicConstraints(ca=True, path_length=length), True),
        x509.KeyUsage: (usage("key_cert_sign", "crl_sign"), False),
    }
    return made(subject, issuer, changes, extensions, **more)


def leaf(issuer: Made, changes: Extensions | None = None, *, subject: str = NAME, **more: Any) -> Made:
    extensions: Extensions = {
        x509.KeyUsage: (usage("digital_signature"), False),
        x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    }
    return made(subject, issuer, changes, extensions, **more)


@dataclass(frozen=True)
class Case:
    """A chain, leaf first, without the root.

    Attributes:
        root: or another CA, as the one that DPS knows.
        others: that DPS knows as well.
        wanted: the registration id, if it is not the leaf's CN.
    """

    chain: tuple[Made, ...]
    root: Made
    now: datetime = NOW
    others: tuple[Made, ...] = ()
    wanted: str | None = None

    def codes(self) -> list[str]:
        certificates = [each.certificate for each in self.chain]
        found = check_chain(
            certificates,
            registration_id=common_name(certificates[0].subject) if self.wanted is None else self.wanted,
            group_certificates=[self.root.certificate, *certificates[1:]],
            verified_authorities=[each.certificate for each in (self.root, *self.others)],
            now=self.now,
        )
        return [finding.code for finding in found]


CASES: dict[str, tuple[Callable[[], Case], tuple[str, ...]]] = {}
DIFFERENCES: dict[str, str] = {}
"""Why we judge otherwise than limbo, by the case's name."""


def limbo(identifier: str, *codes: str, differs: str = "") -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a case under limbo's name for it, with what is to be found, and why that is not what limbo wants."""

    def register(build: Callable[[], Case]) -> Callable[[], Case]:
        assert identifier not in CASES, f"{identifier} is there twice"
        CASES[identifier] = (build, codes)
        if differs:
            DIFFERENCES[identifier] = differs
        return build

    return register


def below(root: Made, *, ca_changes: Extensions | None = None, leaf_changes: Extensions | None = None) -> Case:
    """Root -> ICA -> leaf."""
    middle = ca("ica", root, ca_changes)
    return Case((leaf(middle, leaf_changes), middle), root)


# --- path lengths ----------------------------------------------------------------------------------------------------


def with_lengths(*lengths: int | None, same_name: bool = False) -> Case:
    """Root -> one CA for each length -> leaf."""
    root = above = ca("root", None)
    chain: list[Made] = []
    for position, length in enumerate(lengths):
        # A self-issued CA has the name of the one that signs it.
        subject = "ica-0" if same_name and position <= 1 else f"ica-{position}"
        above = ca(subject, above, length=length)
        chain.insert(0, above)
    return Case((leaf(above), *chain), root)


for identifier, lengths, found in (
    ("ee-with-intermediate-pathlen-0", (0,), ()),
    ("ee-with-intermediate-pathlen-1", (1,), ()),
    ("ee-with-intermediate-pathlen-2", (2,), ()),
    ("intermediate-violates-pathlen-0", (0, 0), ("path-length",)),
    ("intermediate-pathlen-may-increase", (1, 2), ()),
    ("intermediate-pathlen-too-long", (1, 0, 0), ("path-length", "path-length")),
    ("max-chain-depth-0", (), ()),
):
    limbo(f"pathlen::{identifier}", *found)(lambda lengths=lengths: with_lengths(*lengths))  # type: ignore[misc]
limbo("pathlen::max-chain-depth-1")(lambda: with_lengths(None))
limbo("pathlen::self-issued-certs-pathlen")(lambda: with_lengths(1, 1, 0, same_name=True))
limbo("pathlen::max-chain-depth-1-self-issued")(lambda: with_lengths(None, None, same_name=True))


@limbo("pathlen::validation-ignores-pathlen-in-leaf", "leaf-is-ca", "key-usage", differs=NO_DEVICE)
def pathlen_in_a_leaf() -> Case:
    root = ca("root", None)
    first = ca("ica", root, length=0)
    return Case((ca("ica-2", first, length=0), first), root)


# --- pathological chains ---------------------------------------------------------------------------------------------


def cycle(first_name: str, second_name: str) -> Case:
    """Two CAs that sign each other, below nothing."""
    first_key, second_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    first, second = (
        ca(own, Made(ca(other, None, key=key_above).certificate, key_above), key=key)
        for own, other, key, key_above in (
            (first_name, second_name, first_key, second_key),
            (second_name, first_name, second_key, first_key),
        )
    )
    return Case((leaf(first), first, second), ca("root", None))


limbo("pathological::intermediate-cycle-distinct-cas", "no-verified-ca")(lambda: cycle("a", "b"))
limbo("pathological::intermediate-cycle-distinct-cas-max-depth", "no-verified-ca")(lambda: cycle("a", "b"))
limbo("pathological::intermediate-cycle-same-logical-ca", "not-verified")(lambda: cycle("a", "a"))


def endless(*, same_name: bool, same_key: bool) -> Case:
    """A hundred CAs above one another."""
    key = ec.generate_private_key(ec.SECP256R1()) if same_key else None
    root = above = ca("root", None, key=key)
    chain: list[Made] = []
    for number in range(100):
        above = ca("ica" if same_name else f"ica-{number}", above, key=key)
        chain.insert(0, above)
    return Case((leaf(above), *chain), root)


for names in ("distinct", "same"):
    for keys in ("distinct", "same"):
        limbo(f"pathological::pathological-chain-{names}-subject-{keys}-key", "too-long")(
            lambda names=names, keys=keys: endless(same_name=names == "same", same_key=keys == "same")  # type: ignore[misc]
        )


def many_names(permitted: int, alternative: int) -> Case:
    allowed = [x509.DNSName(f"t{number}.example") for number in range(permitted)]
    constraints = x509.NameConstraints(permitted_subtrees=allowed, excluded_subtrees=None)
    own = x509.SubjectAlternativeName([x509.DNSName(f"t{number}.example") for number in range(alternative)])
    root = ca("root", None, {x509.NameConstraints: (constraints, True)})
    return below(root, leaf_changes={x509.SubjectAlternativeName: (own, False)})


limbo("pathological::nc-dos-1", "name-constraints")(lambda: many_names(2048, 2048))
limbo("pathological::nc-dos-2", "name-constraints")(lambda: many_names(1024, 1024))


@limbo("pathological::nc-dos-3", "name-constraints")
def many_addresses() -> Case:
    """The names are thousands of e-mail addresses in the subject, which constraints for addresses apply to."""
    permitted = [*(x509.DNSName(f"t{number}.test") for number in range(2048)), x509.DNSName("test")]
    excluded = [x509.DNSName(f"x{number}.test") for number in range(2048)]
    root = ca("root", None, {x509.NameConstraints: (x509.NameConstraints(permitted, excluded), True)})
    addresses = [x509.NameAttribute(NameOID.EMAIL_ADDRESS, f"t{number}@test") for number in range(2048)]
    return Case((leaf(root, named=x509.Name([*addresses, *_common_name(NAME)])),), root)


# --- RFC 5280: extensions --------------------------------------------------------------------------------------------

UNKNOWN: Extensions = {
    x509.UnrecognizedExtension: (
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55738.666.1"), b""),
        True,
    )
}
NOT_CA: Extensions = {x509.BasicConstraints: (x509.BasicConstraints(ca=False, path_length=None), True)}


def aia(*, critical: bool) -> Extensions:
    place = x509.UniformResourceIdentifier("http://pki.example.com/ca.cer")
    access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)
    return {x509.AuthorityInformationAccess: (x509.AuthorityInformationAccess([access]), critical)}


@limbo("rfc5280::unknown-critical-extension-ee", "critical-extension")
def unknown_in_the_leaf() -> Case:
    return below(ca("root", None), leaf_changes=UNKNOWN)


@limbo("rfc5280::unknown-critical-extension-root", "critical-extension")
def unknown_in_the_root() -> Case:
    return below(ca("root", None, UNKNOWN))


@limbo("rfc5280::unknown-critical-extension-intermediate", "critical-extension")
def unknown_in_the_ca() -> Case:
    return below(ca("root", None), ca_changes=UNKNOWN)


@limbo("rfc5280::unknown-critical-extension-unrelated-root")
def unknown_in_another_root() -> Case:
    case = below(ca("root", None))
    return Case(case.chain, case.root, others=(ca("root-b", None, UNKNOWN),))


limbo("rfc5280::intermediate-ca-without-ca-bit", "not-a-ca")(lambda: below(ca("root", None), ca_changes=NOT_CA))
limbo("rfc5280::intermediate-ca-missing-basic-constraints", "not-a-ca")(
    lambda: below(ca("root", None), ca_changes={x509.BasicConstraints: None})
)
limbo("rfc5280::root-missing-basic-constraints", "not-a-ca")(
    lambda: below(ca("root", None, {x509.BasicConstraints: None}))
)
limbo("rfc5280::root-inconsistent-ca-extensions", "key-usage")(
    lambda: below(ca("root", None, {x509.KeyUsage: (usage("digital_signature"), True)}))
)
limbo("rfc5280::ica-ku-keycertsign", "key-usage")(
    lambda: below(ca("root", None), ca_changes={x509.KeyUsage: (usage("crl_sign"), True)})
)
limbo("rfc5280::ee-aia")(lambda: below(ca("root", None), leaf_changes=aia(critical=False)))
limbo("rfc5280::ee-critical-aia-invalid", differs=ISSUERS_DUTY)(
    lambda: below(ca("root", None), leaf_changes=aia(critical=True))
)
limbo("rfc5280::leaf-ku-keycertsign", differs=ISSUERS_DUTY)(
    lambda: below(
        ca("root", None), leaf_changes={**NOT_CA, x509.KeyUsage: (usage("digital_signature", "key_cert_sign"), True)}
    )
)
limbo("rfc5280::root-non-critical-basic-constraints", differs=ISSUERS_DUTY)(
    lambda: below(ca("root", None, {x509.BasicConstraints: (x509.BasicConstraints(ca=True, path_length=None), False)}))
)
limbo("rfc5280::pc::ica-noncritical-pc", differs=ISSUERS_DUTY)(
    lambda: below(ca("root", None), ca_changes={x509.PolicyConstraints: (x509.PolicyConstraints(3, None), False)})
)
limbo("rfc5280::no-keyusage")(lambda: below(ca("root", None), leaf_changes={x509.KeyUsage: None}))
limbo("rfc5280::no-basicconstraints")(lambda: below(ca("root", None)))
limbo("rfc5280::eku::ee-without-eku")(lambda: below(ca("root", None), leaf_changes={x509.ExtendedKeyUsage: None}))
limbo("rfc5280::eku::ee-wrong-eku", "extended-key-usage")(
    lambda: below(
        ca("root", None),
        leaf_changes={
            x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        },
    )
)


def purposes(*oids: x509.ObjectIdentifier, critical: bool = False) -> Extensions:
    return {x509.ExtendedKeyUsage: (x509.ExtendedKeyUsage(oids), critical)}


CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
limbo("webpki::eku::ee-anyeku", differs=BROWSERS)(
    lambda: below(ca("root", None), leaf_changes=purposes(CLIENT, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE))
)
limbo("webpki::eku::ee-critical-eku", differs=BROWSERS)(
    lambda: below(ca("root", None), leaf_changes=purposes(CLIENT, critical=True))
)
limbo("webpki::eku::ee-without-eku", differs=BROWSERS)(
    lambda: below(ca("root", None), leaf_changes={x509.ExtendedKeyUsage: None})
)
limbo("webpki::eku::root-has-eku", differs=BROWSERS)(lambda: below(ca("root", None, purposes(CLIENT))))


def raw(oid: x509.ObjectIdentifier, content: str) -> tuple[x509.UnrecognizedExtension, bool]:
    """An extension of known kind with any content, in hexadecimal."""
    return x509.UnrecognizedExtension(oid, bytes.fromhex(content)), False


limbo("rfc5280::eku::ee-eku-empty", "unreadable")(
    lambda: below(ca("root", None), leaf_changes={x509.ExtendedKeyUsage: raw(ExtensionOID.EXTENDED_KEY_USAGE, "3000")})
)
limbo("rfc5280::san::malformed", "unreadable")(
    lambda: below(
        ca("root", None),
        leaf_changes={x509.SubjectAlternativeName: raw(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, "696e76616c6964")},
    )
)
limbo("webpki::malformed-aia", "unreadable")(
    lambda: below(
        ca("root", None),
        leaf_changes={x509.AuthorityInformationAccess: raw(ExtensionOID.AUTHORITY_INFORMATION_ACCESS, "6d616c")},
    )
)


@limbo("rfc5280::duplicate-extensions", "unreadable")
def duplicate_extensions() -> Case:
    """The builder refuses a second one, so another identifier becomes the first one's in the finished file."""
    case = below(
        ca("root", None), leaf_changes={x509.SubjectKeyIdentifier: raw(x509.ObjectIdentifier("2.5.29.99"), "0500")}
    )
    return Case((_replaced(case.chain[0], "0603551d63", "0603551d0e"), *case.chain[1:]), case.root)


def _replaced(original: Made, old: str, new: str) -> Made:
    der = original.certificate.public_bytes(Encoding.DER).replace(bytes.fromhex(old), bytes.fromhex(new), 1)
    return Made(x509.load_der_x509_certificate(der), original.key)


# --- identifiers of keys ----------------------------------------------------------------------------------------------

KEY = ec.generate_private_key(ec.SECP256R1())
OWN = x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
OWN_AS_ISSUER = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(OWN)
ROOT_NAME = x509.DirectoryName(name_of("root"))
NO_SKI: Extensions = {x509.SubjectKeyIdentifier: None}
NO_AKI: Extensions = {x509.AuthorityKeyIdentifier: None}


def with_root_aki(identifier: x509.AuthorityKeyIdentifier, *, critical: bool = False) -> Case:
    """Root, which says of itself who its issuer is -> ICA -> leaf."""
    return below(ca("root", None, {x509.AuthorityKeyIdentifier: (identifier, critical)}, key=KEY))


@limbo("rfc5280::aki::cross-signed-root-missing-aki", differs=ISSUERS_DUTY)
def cross_signed_root() -> Case:
    """Another root signs the one that DPS knows."""
    return below(ca("root", ca("other", None), NO_AKI))


limbo("rfc5280::aki::critical-aki", differs=ISSUERS_DUTY)(lambda: with_root_aki(OWN_AS_ISSUER, critical=True))
limbo("rfc5280::aki::leaf-missing-aki", differs=ISSUERS_DUTY)(lambda: below(ca("root", None), leaf_changes=NO_AKI))
limbo("rfc5280::aki::intermediate-missing-aki", differs=ISSUERS_DUTY)(
    lambda: below(ca("root", None), ca_changes=NO_AKI)
)
limbo("rfc5280::aki::self-signed-root-missing-aki")(lambda: below(ca("root", None, NO_AKI)))
limbo("rfc5280::ski::critical-ski", differs=ISSUERS_DUTY)(
    lambda: below(ca("root", None, {x509.SubjectKeyIdentifier: (OWN, True)}, key=KEY))
)
limbo("rfc5280::ski::root-missing-ski", differs=ISSUERS_DUTY)(lambda: below(ca("root", None, NO_SKI)))
limbo("rfc5280::ski::intermediate-missing-ski", differs=ISSUERS_DUTY)(
    lambda: below(ca("root", None), ca_changes=NO_SKI)
)
limbo("webpki::aki::root-with-aki-missing-keyidentifier", differs=BROWSERS)(
    lambda: with_root_aki(x509.AuthorityKeyIdentifier(None, None, None))
)
limbo("webpki::aki::root-with-aki-all-fields", differs=BROWSERS)(
    lambda: with_root_aki(x509.AuthorityKeyIdentifier(OWN.digest, [ROOT_NAME], 1000))
)
limbo("webpki::aki::root-with-aki-ski-mismatch", differs=BROWSERS)(
    lambda: with_root_aki(x509.AuthorityKeyIdentifier(b"0", None, None))
)
# One of two that belong together, [1] the issuer and [2] its serial number: cryptography refuses to read it. The root is
# what DPS knows, and what the group has.
for identifier, content in (
    ("authoritycertissuer", "3012a110a40e300c310a300806035504030c0178"),
    ("authoritycertserialnumber", "3004820204d2"),
):
    limbo(f"webpki::aki::root-with-aki-{identifier}", "no-verified-ca", "unreadable", "unreadable")(
        lambda content=content: below(  # type: ignore[misc]
            ca("root", None, {x509.AuthorityKeyIdentifier: raw(ExtensionOID.AUTHORITY_KEY_IDENTIFIER, content)})
        )
    )

# --- RFC 5280: names and trust ---------------------------------------------------------------------------------------


@limbo("rfc5280::ee-empty-issuer", "broken-link")
def empty_issuer() -> Case:
    root = ca("root", None)
    middle = ca("ica", root)
    return Case((leaf(middle, named_issuer=x509.Name([])), middle), root)


@limbo("rfc5280::ca-empty-subject", differs=ISSUERS_DUTY)
def ca_without_a_name() -> Case:
    root = ca("root", None)
    middle = ca("", root)
    return Case((leaf(middle), middle), root)


@limbo("rfc5280::san::noncritical-with-empty-subject", "common-name")
def leaf_without_a_name() -> Case:
    root = ca("root", None)
    return Case((leaf(root, alternative(NAME), subject=""),), root, wanted=NAME)


def alternative(*names: str) -> Extensions:
    return {x509.SubjectAlternativeName: (x509.SubjectAlternativeName(dns(*names)), False)}


limbo("rfc5280::san::underscore-dns", differs=NOT_READ)(
    lambda: below(ca("root", None), leaf_changes=alternative("ex_ample.com"))
)
limbo("rfc5280::san::ip-in-dns", differs=NOT_READ)(
    lambda: below(ca("root", None), leaf_changes=alternative("127.0.0.1"))
)


@limbo("webpki::v1-cert", differs=BROWSERS)
def leaf_of_version_1() -> Case:
    """Neither version nor extensions, as certificates were in 1988."""
    root = ca("root", None)
    nodes = parsed(leaf(root).certificate.tbs_certificate_bytes)
    assert nodes
    nodes[0].children = nodes[0].children[1:-1]
    bare = x509.load_der_x509_certificate(signed(nodes[0].encoded(), root.key))
    assert bare.version is x509.Version.v1
    return Case((Made(bare, None),), root)


@limbo("rfc5280::chain-untrusted-root", "not-verified")
def untrusted_root() -> Case:
    stranger = ca("stranger", None)
    middle = ca("ica", stranger)
    return Case((leaf(middle), middle, stranger), ca("root", None))


@limbo("webpki::cryptographydotio-chain")
def plain_chain() -> Case:
    return below(ca("root", None))


@limbo("webpki::cryptographydotio-chain-missing-intermediate", "no-verified-ca", "wrong-group")
def missing_intermediate() -> Case:
    case = below(ca("root", None))
    return Case(case.chain[:1], case.root)


@limbo("rfc5280::mismatching-signature-algorithm", "other-key")
def mismatching_algorithms() -> Case:
    """The second of the two algorithm identifiers, outside of what is signed, says SHA-384."""
    case = below(ca("root", None))
    der = case.chain[0].certificate.public_bytes(Encoding.DER)
    head, _, tail = der.rpartition(bytes.fromhex("06082a8648ce3d040302"))
    changed = x509.load_der_x509_certificate(head + bytes.fromhex("06082a8648ce3d040303") + tail)
    return Case((Made(changed, None), *case.chain[1:]), case.root)


@limbo("rfc5280::ca-as-leaf", "leaf-is-ca", "key-usage", differs=NO_DEVICE)
def ca_as_leaf() -> Case:
    root = ca("root", None)
    return Case((ca("ica", root),), root)


limbo("webpki::ca-as-leaf", "leaf-is-ca", "key-usage")(ca_as_leaf)


@limbo("rfc5280::ca-as-leaf-wrong-san", "common-name", "leaf-is-ca", "key-usage")
def ca_as_leaf_of_another_name() -> Case:
    case = ca_as_leaf()
    return Case(case.chain, case.root, wanted=NAME)


limbo("webpki::ee-basicconstraints-ca", "leaf-is-ca")(
    lambda: below(
        ca("root", None),
        leaf_changes={x509.BasicConstraints: (x509.BasicConstraints(ca=True, path_length=None), True)},
    )
)


@limbo("rfc5280::root-and-intermediate-swapped", "broken-link", "not-verified", differs="DPS wants a chain in order")
def swapped() -> Case:
    """DPS knows the intermediate, and the device sends the root: what is sent must be in order all the same."""
    root = ca("root", None)
    middle = ca("ica", root)
    return Case((leaf(middle), root), middle)


# --- RFC 5280: serial numbers and life -------------------------------------------------------------------------------


def numbered(old: str, new: str) -> Case:
    """The builder takes no wrong number, so one of the finished file is changed; its signature is wrong then, too."""
    root = ca("root", None)
    middle = ca("ica", root)
    return Case((_replaced(leaf(middle, serial=0x7E), old, new), middle), root)


limbo("rfc5280::serial::zero", "serial-number", "other-key")(lambda: numbered("02017e", "020100"))
limbo("rfc5280::serial::negative", "serial-number", "other-key")(lambda: numbered("02017e", "0201fe"))


@limbo("rfc5280::serial::too-long", "serial-number")
def overlong_number() -> Case:
    root = ca("root", None)
    middle = ca("ica", root)
    return Case((leaf(middle, serial=1 << 159),), middle)  # 21 octets with the sign


def expired(position: int) -> Case:
    ends = [NOW + YEAR] * 3
    ends[position] = NOW - timedelta(seconds=1)
    root = ca("root", None, ends=ends[2])
    middle = ca("ica", root, ends=ends[1])
    return Case((leaf(middle, ends=ends[0]), middle), root)


limbo("rfc5280::validity::expired-leaf", "expired")(lambda: expired(0))
limbo("rfc5280::validity::expired-intermediate", "expired")(lambda: expired(1))
limbo("rfc5280::validity::expired-root", "expired")(lambda: expired(2))


def at(now: datetime) -> Case:
    """Root -> leaf, both valid from NOW for a year."""
    root = ca("root", None, begins=NOW, ends=NOW + YEAR)
    return Case((leaf(root, begins=NOW, ends=NOW + YEAR),), root, now)


HALF = timedelta(microseconds=500_000)
EARLY, LATE = ("not-yet-valid",) * 2, ("expired",) * 2
for identifier, moment, found in (
    ("notbefore-exact", NOW, ()),
    ("notbefore-fractional", NOW - HALF, EARLY),
    ("notafter-exact", NOW + YEAR, ()),
    ("notafter-fractional", NOW + YEAR + HALF, ()),
    ("expired-1-second", NOW + YEAR + timedelta(seconds=1), LATE),
    ("expired-5-seconds", NOW + YEAR + timedelta(seconds=5), LATE),
    ("not-yet-valid-1-second", NOW - timedelta(seconds=1), EARLY),
    ("not-yet-valid-5-seconds", NOW - timedelta(seconds=5), EARLY),
):
    limbo(f"rfc5280::validity::{identifier}", *found)(lambda moment=moment: at(moment))  # type: ignore[misc]


# --- keys ------------------------------------------------------------------------------------------------------------

WEAK_KEYS: dict[str, Callable[[], Any]] = {
    "p192": lambda: ec.generate_private_key(ec.SECP192R1()),
    "dsa": lambda: dsa.generate_private_key(1024),  # noqa: S505 - weak on purpose
}


def weak_leaf(key: Any) -> Case:
    root = ca("root", None)
    return Case((leaf(root, key=key),), root)


def weak_root(key: Any) -> Case:
    root = ca("root", None, key=key)
    return Case((leaf(root),), root)


for kind, make in WEAK_KEYS.items():
    limbo(f"webpki::forbidden-{kind}-leaf", "key-algorithm")(lambda make=make: weak_leaf(make()))  # type: ignore[misc]
    limbo(f"webpki::forbidden-{kind}-root", "key-algorithm")(lambda make=make: weak_root(make()))  # type: ignore[misc]
for label, bits in (("weak-rsa", 1024), ("rsa-key-not-divisible-by-8", 2052)):
    limbo(f"webpki::forbidden-{label}-in-leaf", "key-algorithm")(
        lambda bits=bits: weak_leaf(rsa.generate_private_key(65537, bits))  # type: ignore[misc]
    )


for label, bits in (("weak-rsa-key", 1024), ("rsa-not-divisible-by-8", 2052)):
    limbo(f"webpki::forbidden-{label}-in-root", "key-algorithm")(
        lambda bits=bits: weak_root(rsa.generate_private_key(65537, bits))  # type: ignore[misc]
    )


# --- name constraints ------------------------------------------------------------------------------------------------

GOOD, BAD = "example.com", "not-example.com"
PLANT = "CN=press-001,O=Plant 1,C=US"


def constrained(
    permitted: list[x509.GeneralName] | None,
    excluded: list[x509.GeneralName] | None,
    *alternative: x509.GeneralName,
    subject: str = NAME,
    critical: bool = True,
) -> Case:
    """Constrained root -> leaf."""
    constraints = x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=excluded)
    root = ca("root", None, {x509.NameConstraints: (constraints, critical)})
    names: Extensions = {x509.SubjectAlternativeName: (x509.SubjectAlternativeName(alternative), False)}
    return Case((leaf(root, names if alternative else None, subject=subject),), root)


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def network(*names: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_network(name)) for name in names]


def address(name: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(name))


def folder(name: str) -> list[x509.GeneralName]:
    return [x509.DirectoryName(name_of(name))]


def mail(*names: str) -> list[x509.GeneralName]:
    # Not by the constructor, which refuses what others write.
    return [x509.RFC822Name._init_without_validation(name) for name in names]  # noqa: SLF001


OTHER_NAME = x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
for identifier, build, allowed in (
    ("permitted-dns-mismatch", lambda: constrained(dns(GOOD), None, *dns(BAD)), False),
    ("excluded-dns-match", lambda: constrained(None, dns(BAD), *dns(BAD)), False),
    ("permitted-dns-match", lambda: constrained(dns(GOOD), None, *dns(GOOD)), True),
    ("permitted-dns-match-more", lambda: constrained(dns(GOOD), None, *dns("foo.bar.example.com")), True),
    ("excluded-dns-match-second", lambda: constrained(None, dns(BAD), *dns(GOOD, BAD)), False),
    ("permitted-ip-mismatch", lambda: constrained(network("192.0.2.0/24"), None, address("192.0.3.1")), False),
    ("excluded-ipv4-match", lambda: constrained(None, network("192.0.2.0/24"), address("192.0.2.1")), False),
    ("excluded-ipv6-match", lambda: constrained(None, network("::/16"), address("::1")), False),
    ("permitted-ipv4-match", lambda: constrained(network("192.0.2.0/24"), None, address("192.0.2.1")), True),
    ("permitted-ipv6-match", lambda: constrained(network("::/16"), None, address("::1")), True),
    ("permitted-dn-mismatch", lambda: constrained(folder("O=Plant 2,C=US"), None, subject=PLANT), False),
    ("excluded-dn-match", lambda: constrained(None, folder("O=Plant 1,C=US"), subject=PLANT), False),
    ("permitted-dn-match", lambda: constrained(folder("O=Plant 1,C=US"), None, subject=PLANT), True),
    (
        "permitted-dn-match-subject-san-mismatch",
        lambda: constrained(folder("O=Plant 1,C=US"), None, *folder("O=Plant 2,C=US"), subject=PLANT),
        False,
    ),
    (
        "excluded-dn-match-sub-mismatch",
        lambda: constrained(None, folder("O=Plant 1,C=US"), *folder("O=Plant 2,C=US"), subject=PLANT),
        False,
    ),
    ("excluded-match-permitted-and-excluded", lambda: constrained(dns(GOOD), dns(GOOD), *dns(GOOD)), False),
    ("permitted-different-constraint-type", lambda: constrained(network("192.0.2.0/24"), None, *dns(GOOD)), True),
    ("excluded-different-constraint-type", lambda: constrained(None, network("192.0.2.0/24"), *dns(GOOD)), True),
    ("invalid-dnsname-leading-period", lambda: constrained(dns(f".{GOOD}"), None, *dns(f"a.{GOOD}")), False),
    ("nc-permits-email-exact", lambda: constrained(mail("user@a.test"), None, *mail("user@a.test")), True),
    ("nc-permits-email-domain", lambda: constrained(mail("a.test"), None, *mail("user@a.test")), True),
    (
        "nc-permits-email-literal-asterisk-exact-match",
        lambda: constrained(mail("*@a.test"), None, *mail("*@a.test")),
        True,
    ),
    (
        "nc-permits-email-literal-asterisk-rejects-user",
        lambda: constrained(mail("*@a.test"), None, *mail("user@a.test")),
        False,
    ),
    (
        "nc-permits-email-literal-double-asterisk-rejects-single",
        lambda: constrained(mail("**@a.test"), None, *mail("*@a.test")),
        False,
    ),
    (
        "nc-permits-email-literal-asterisk-rejects-subdomain",
        lambda: constrained(mail("*@a.test"), None, *mail("*@b.a.test")),
        False,
    ),
    (
        "nc-permits-email-literal-double-asterisk",
        lambda: constrained(mail("**@a.test"), None, *mail("**@a.test")),
        True,
    ),
    (
        "nc-permits-email-literal-mid-asterisk",
        lambda: constrained(mail("user*@a.test"), None, *mail("user*@a.test")),
        True,
    ),
    (
        "nc-permits-invalid-ip-san",
        lambda: constrained(network("192.0.2.0/24"), None, *network("192.0.2.0/24"), address("192.0.2.1")),
        False,
    ),
    ("invalid-email-address", lambda: constrained(mail("a@b@a.test"), None, *mail("a@a.test")), False),
    ("nc-forbids-othername", lambda: constrained(None, [OTHER_NAME], OTHER_NAME), False),
    ("nc-forbids-othername-noop", lambda: constrained(None, [OTHER_NAME], *dns(GOOD)), True),
    ("nc-forbids-dnsname-wildcard-san", lambda: constrained(None, dns(f"a.{GOOD}"), *dns(f"*.{GOOD}")), False),
):
    limbo(f"rfc5280::nc::{identifier}", *(() if allowed else ("name-constraints",)))(build)
limbo("rfc5280::nc::nc-permits-invalid-dns-san", "name-constraints")(
    lambda: constrained(dns(GOOD), None, *dns(f".{GOOD}"))
)
limbo("rfc5280::nc::nc-permits-invalid-email-san", "name-constraints")(
    lambda: constrained(mail("a.test"), None, *mail("a@b@a.test"))
)
limbo("rfc5280::nc::permitted-dns-match-noncritical", differs=ISSUERS_DUTY)(
    lambda: constrained(dns(GOOD), None, *dns(GOOD), critical=False)
)
limbo("webpki::nc::permitted-dns-match-noncritical")(lambda: constrained(dns(GOOD), None, *dns(GOOD), critical=False))
limbo("webpki::nc::nc-permits-dns-san-pattern")(lambda: constrained(dns(GOOD), None, *dns(f"*.{GOOD}")))
for identifier, critical in (("noncritical", False), ("critical", True)):
    limbo(f"rfc5280::nc::not-allowed-in-ee-{identifier}", differs=ISSUERS_DUTY)(
        lambda critical=critical: below(  # type: ignore[misc]
            ca("root", None), leaf_changes={x509.NameConstraints: (x509.NameConstraints(dns(GOOD), None), critical)}
        )
    )
limbo("cve::cve-2025-61727", "name-constraints")(lambda: constrained(None, dns(f"b.{GOOD}"), *dns(f"*.{GOOD}")))
limbo("cve::cve-2025-61727-nc-permits-variant", "name-constraints")(
    lambda: constrained(dns(f"b.{GOOD}"), None, *dns(f"*.{GOOD}"))
)


def through(root_permits: str, ica_permits: str | None, ica_name: str | None, leaf_name: str, ica: str = "ica") -> Case:
    """Constrained root -> CA, constrained or with a name of its own -> leaf."""

    def changes(permits: str | None, name: str | None) -> Extensions:
        allowed = x509.NameConstraints(permitted_subtrees=dns(permits or ""), excluded_subtrees=None)
        return {
            x509.NameConstraints: (allowed, True) if permits else None,
            x509.SubjectAlternativeName: (x509.SubjectAlternativeName(dns(name)), False) if name else None,
        }

    root = ca("root", None, changes(root_permits, None))
    middle = ca(ica, root, changes(ica_permits, ica_name))
    return Case((leaf(middle, changes(None, leaf_name)), middle), root)


@limbo("rfc5280::nc::excluded-self-issued-leaf", "name-constraints")
def self_issued_leaf() -> Case:
    """The exemption of self-issued CAs is not for leaves: this one has its issuer's name."""
    allowed = x509.NameConstraints(permitted_subtrees=dns(GOOD), excluded_subtrees=None)
    root = ca("root", None, {x509.NameConstraints: (allowed, True)})
    middle = ca(NAME, root)
    names: Extensions = {x509.SubjectAlternativeName: (x509.SubjectAlternativeName(dns(BAD)), False)}
    return Case((leaf(middle, names), middle), root)


@limbo("rfc5280::nc::intermediate-with-san-rejected-by-intermediate-nc", "name-constraints")
def named_authority_below_a_constrained_one() -> Case:
    """Root -> constrained CA -> CA of a forbidden name -> leaf of a permitted one."""
    constraints = x509.NameConstraints(dns(f"permitted.{GOOD}"), dns(f"forbidden.{GOOD}"))
    root = ca("root", None)
    first = ca("ica-1", root, {x509.NameConstraints: (constraints, True)})
    second = ca("ica-2", first, alternative(f"forbidden.{GOOD}"))
    return Case((leaf(second, alternative(f"permitted.{GOOD}")), second, first), root)


limbo("rfc5280::nc::permitted-self-issued")(lambda: through(GOOD, None, BAD, GOOD, ica="root"))
limbo("rfc5280::nc::intermediate-with-san-rejected-by-root-nc", "name-constraints")(
    lambda: through(GOOD, None, BAD, GOOD)
)
limbo("rfc5280::nc::restrictive-permits-in-intermediates-narrows", "name-constraints")(
    lambda: through(GOOD, f"foo.{GOOD}", None, f"bar.{GOOD}")
)
limbo("rfc5280::nc::restrictive-permits-in-intermediates-widens", "name-constraints")(
    lambda: through(f"foo.{GOOD}", GOOD, None, f"bar.{GOOD}")
)


for identifier, content in (
    # A permitted subtree of *.example.com, of a network with two octets, of an address without its mask, neither of both
    # kinds of subtrees, and both of them empty.
    ("rfc5280::nc::invalid-dnsname-wildcard", "3013a011300f820d2a2e6578616d706c652e636f6d"),
    ("rfc5280::nc::invalid-ipv4-address", "3008a00630048702c000"),
    ("rfc5280::nc::invalid-ipv6-address", "3016a0143012871000000000000000000000000000000001"),
    ("webpki::nc::intermediate-permitted-excluded-subtrees-both-null", "3000"),
    ("webpki::nc::intermediate-permitted-excluded-subtrees-both-empty-sequences", "3004a000a100"),
):
    limbo(identifier, "unreadable")(
        lambda content=content: below(  # type: ignore[misc]
            ca("root", None), ca_changes={x509.NameConstraints: raw(ExtensionOID.NAME_CONSTRAINTS, content)}
        )
    )


# --- the tests -------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


LEFT_OUT: Mapping[str, tuple[str, ...]] = {
    "DPS and IoT Hub read no revocation lists": (
        *("crl::certificate-not-on-crl", "crl::certificate-serial-on-crl-different-issuer", "crl::crlnumber-critical"),
        *("crl::crlnumber-missing", "crl::issuer-missing-crlsign", "crl::issuer-no-keyusage-extension"),
        *("crl::issuer-valid-crlsign-and-keycertsign", "crl::revoked-certificate-with-crl"),
    ),
    "choosing a path among several; a device sends one": (
        *("cve::cve-2024-0567", "pathological::multiple-chains-expired-intermediate"),
        *("rfc5280::nc::nc-forbids-alternate-chain-ica", "rfc5280::nc::nc-forbids-same-chain-ica"),
        "rfc5280::unknown-critical-extension-unrelated-intermediate",
    ),
    "an option of the verifier; here 16 certificates are the limit for all": (
        *("pathlen::max-chain-depth-0-exhausted", "pathlen::max-chain-depth-1-exhausted"),
    ),
    "cryptography can neither load nor make such a key": ("invalid::invalid-issuer-key",),
    "cryptography takes a curve that is spelt out for the named one, if it is that one's": ("webpki::explicit-curve",),
    "names of servers, in the CN beside the alternative name; a device has a CN alone": (
        *("webpki::cn::case-mismatch", "webpki::cn::ipv4-hex-mismatch", "webpki::cn::ipv4-leading-zeros-mismatch"),
        *("webpki::cn::ipv6-non-rfc5952-mismatch", "webpki::cn::ipv6-uncompressed-mismatch"),
        *("webpki::cn::ipv6-uppercase-mismatch", "webpki::cn::not-in-san", "webpki::cn::punycode-not-in-san"),
        "webpki::cn::utf8-vs-punycode-mismatch",
    ),
    "alternative names of servers, compared with the name asked for; a device has a CN alone": (
        *("webpki::san::exact-dns-san", "webpki::san::exact-localhost-ip-san", "webpki::san::leftmost-wildcard-san"),
        *("webpki::san::mismatch-apex-subdomain-san", "webpki::san::mismatch-domain-san"),
        *("webpki::san::mismatch-subdomain-apex-san", "webpki::san::mismatch-subdomain-san", "webpki::san::no-san"),
        "webpki::san::public-suffix-multi-label-wildcard-san",
        "webpki::san::public-suffix-private-namespace-wildcard-san",
        *("webpki::san::public-suffix-wildcard-san", "webpki::san::san-critical-with-nonempty-subject"),
        *("webpki::san::san-wildcard-only", "webpki::san::san-wildcard-only-tld", "webpki::san::unicode-emoji-san"),
        *("webpki::san::wildcard-embedded-leftmost-san", "webpki::san::wildcard-embedded-ulabel-san"),
        *("webpki::san::wildcard-match-across-labels-san", "webpki::san::wildcard-not-in-leftmost-san"),
    ),
}
"""The cases of limbo that are not here, by the reason."""


def test_every_case_of_limbo_is_here_or_left_out_for_a_reason() -> None:
    """No case of limbo is forgotten, none is here that limbo has not, and none is both here and left out."""
    left_out = [identifier for each in LEFT_OUT.values() for identifier in each]
    assert sorted([*CASES, *left_out]) == sorted(EXPECTED)


@pytest.mark.parametrize("identifier", CASES)
def test_each_case_is_judged_for_its_reason(identifier: str) -> None:
    """What is accepted has no finding, and what is refused is refused for the reason that the case is about."""
    build, codes = CASES[identifier]
    assert tuple(build().codes()) == codes


@pytest.mark.parametrize("identifier", CASES)
def test_limbo_agrees_but_where_a_reason_says_why_not(identifier: str) -> None:
    """What limbo accepts is accepted here, and what it refuses is refused, but for the differences that are explained."""
    accepted = CASES[identifier][1] == ()
    assert (accepted == EXPECTED[identifier]) == (identifier not in DIFFERENCES)


def test_not_every_one_of_a_thousand_forbidden_names_is_told() -> None:
    """A certificate with many forbidden names is refused with the first few of them."""
    assert (
        constrained(dns(GOOD), None, *dns(*(f"{number}.{BAD}" for number in range(1000)))).codes()
        == ["name-constraints"] * 5
    )


def test_a_forbidden_name_is_told_with_who_forbids_it() -> None:
    """The message names the CA, the certificate and the name."""
    case = constrained(dns(GOOD), None, *dns(BAD))
    chain = [each.certificate for each in case.chain]
    found = check_chain(
        chain,
        registration_id=NAME,
        group_certificates=[case.root.certificate],
        verified_authorities=[case.root.certificate],
        now=NOW,
    )
    assert [finding.message for finding in found] == [
        "'root' constrains the names below it, and 'press-001' has the name 'not-example.com', which is not permitted "
        "there"
    ]
