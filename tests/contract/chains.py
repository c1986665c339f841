"""The PKI of tests/contract/test_previews.py: CAs good and bad, what DPS holds of them, and leaves of every kind.

Certificates are made without the app's engine, which would refuse most of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

START = datetime.now(UTC).replace(microsecond=0)
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
ANY_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
DAMAGED = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"no DER")
_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
           "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip


def usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in _USAGES})


def named(common_name: str, *more: str, unit: str | None = None) -> x509.Name:
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []
    return x509.Name([*units, *(x509.NameAttribute(NameOID.COMMON_NAME, each) for each in (common_name, *more))])


@dataclass(frozen=True)
class Party:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return str(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "ascii")


def made(
    subject: str | x509.Name,
    signer: Party | None,
    *extensions: x509.ExtensionType,
    key: Any = None,
    days: tuple[float, float] = (-1, 365),
    serial: int | None = None,
    critical: tuple[x509.ExtensionType, ...] = (),
) -> Party:
    """Make a certificate; days are counted from now."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = named(subject) if isinstance(subject, str) else subject
    begin, end = (START + timedelta(days=day) for day in days)
    issuer = signer.certificate.subject if signer else subject
    builder = x509.CertificateBuilder(
        issuer, subject, key.public_key(), serial or x509.random_serial_number(), begin, end
    )
    for extension in (*extensions, *critical):
        builder = builder.add_extension(extension, critical=extension in critical)
    signing_key = signer.key if signer else key
    edwards = isinstance(signing_key, ed25519.Ed25519PrivateKey)
    return Party(builder.sign(signing_key, None if edwards else hashes.SHA256()), key)


def ca(
    name: str | x509.Name, signer: Party | None, *extensions: x509.ExtensionType, length: int | None = None, **more: Any
) -> Party:
    """Make a CA."""
    return made(name, signer, x509.BasicConstraints(ca=True, path_length=length), *extensions, **more)


def weakened(party: Party, signer: Party) -> Party:
    """Sign an RSA CA's certificate anew with SHA-1, which cryptography does not write any more."""
    names = (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05")
    content = party.certificate.tbs_certificate_bytes.replace(*names)
    signature = signer.key.sign(content, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    whole = party.certificate.public_bytes(Encoding.DER).replace(*names)
    whole = whole.replace(party.certificate.tbs_certificate_bytes, content)
    return Party(x509.load_der_x509_certificate(whole.replace(party.certificate.signature, signature)), party.key)


def permitted(unit: str) -> x509.NameConstraints:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)])
    return x509.NameConstraints([x509.DirectoryName(name)], None)


def identifier_of(party: Party) -> x509.AuthorityKeyIdentifier:
    """The form that names the issuer's certificate, by its maker and number."""
    maker = [x509.DirectoryName(party.certificate.issuer)]
    return x509.AuthorityKeyIdentifier(None, maker, party.certificate.serial_number)


# --- CAs ---

ROOT = ca("root", None)
FACTORY = ca("factory", ROOT, length=1)
LINE = ca("line", FACTORY, length=0)
SHUT = ca("shut", ROOT)
BELOW_SHUT = ca("below shut", SHUT)
NO_GROUP = ca("no group", ROOT)
OLD, NEW = ca("old", ROOT), ca("new", ROOT)
STRANGE_ROOT = ca("strange root", None)
STRANGE = ca("strange", STRANGE_ROOT)
NAMESAKE = ca("line", STRANGE_ROOT)
CROSS = ca("strange", ROOT, key=STRANGE.key)
CORPORATE = ca("corporate", None)
OFFICE = ca("office", CORPORATE)
OFFICE_LINE = ca("office line", OFFICE)
REISSUED_ROOT = ca("root", None, key=ROOT.key)
REISSUED_LINE = ca("line", FACTORY, key=LINE.key, length=0)
LAPSED_LINE = ca("line", FACTORY, key=LINE.key, length=0, days=(-9, -1))
VERIFIED_LINE = ca("verified line", CORPORATE)
REISSUED_VERIFIED_LINE = ca("verified line", CORPORATE, key=VERIFIED_LINE.key)
EXPIRED = ca("expired", ROOT, days=(-9, -1))
EXPIRED_ROOT = ca("expired root", None, days=(-9, -1))
BELOW_EXPIRED_ROOT = ca("below expired root", EXPIRED_ROOT)
EARLY = ca("early", ROOT, days=(1, 9))
SHORT = ca("short", ROOT, length=0)
TOO_DEEP = ca("too deep", SHORT)
SELF_ISSUED = ca("short", SHORT)
UNSIGNING = ca("unsigning", ROOT, critical=(usage("digital_signature"),))
NO_CA = made("no ca", ROOT, x509.BasicConstraints(ca=False, path_length=None))
NO_CONSTRAINTS = made("no constraints", ROOT)
FOR_SERVERS = ca("for servers", ROOT, SERVERS)
CRITICAL = ca("critical", ROOT, critical=(UNKNOWN,))
STRONG = ca("strong", ROOT, key=ec.generate_private_key(ec.SECP384R1()))
P521 = ca("p-521", ROOT, key=ec.generate_private_key(ec.SECP521R1()))
RSA = ca("rsa", ROOT, key=rsa.generate_private_key(65537, 2048))
SHA1 = weakened(ca("sha-1", RSA), RSA)
CONSTRAINED = ca("constrained", ROOT, critical=(permitted("presses"),))
BELOW_CONSTRAINED = ca("below constrained", CONSTRAINED)
LIMITED = ca(
    "limited",
    ROOT,
    critical=(
        x509.NameConstraints(
            [x509.DNSName("example.com"), x509.RFC822Name("example.com"), x509.IPAddress(ip_network("10.0.0.0/8"))],
            [x509.DNSName("old.example.com"), x509.RFC822Name("root@example.com")],
        ),
    ),
)
IDENTIFIED = ca("identified", ROOT, x509.SubjectKeyIdentifier.from_public_key(ROOT.key.public_key()))
RENEWED_LINE = ca("renewed line", ROOT)
BROKEN = ca("broken", ROOT, DAMAGED)
POLICED = ca(
    "policed", ROOT, critical=(x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None),)
)


def spelled(party: Party, name: str, string: _ASN1Type) -> Party:
    """A party that signs under its name in another string type or case."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _type=string)])
    return Party(made(subject, None, key=party.key).certificate, party.key)


DEEP: list[Party] = [ca("deep 0", ROOT)]
for _level in range(1, 17):
    DEEP.append(ca(f"deep {_level}", DEEP[-1]))

VERIFIED = {
    "corporate": CORPORATE,
    "expired-root": EXPIRED_ROOT,
    "office": OFFICE,
    "root": ROOT,
    "verified-line": VERIFIED_LINE,
}
"""By name, what is verified in DPS."""


def holding(*signers: Party, status: str = "enabled") -> dict[str, Any]:
    """A group that holds certificates of its own."""
    places = zip(("primary", "secondary"), signers, strict=False)
    certificates = {place: {"certificate": signer.pem} for place, signer in places}
    return {
        "attestation": {"type": "x509", "x509": {"signingCertificates": certificates}},
        "provisioningStatus": status,
    }


def referring(*names: str) -> dict[str, Any]:
    """An entry that names CAs of the DPS."""
    places = dict(zip(("primary", "secondary"), names, strict=False))
    return {"attestation": {"type": "x509", "x509": {"caReferences": places}}, "provisioningStatus": "enabled"}


GROUPS: dict[str, dict[str, Any]] = {
    "by-reference": referring("corporate"),
    "shut": holding(SHUT, status="disabled"),
    "rolling": holding(OLD, NEW),
    "line": holding(LINE),
    "factory": holding(FACTORY),
    "strange": holding(STRANGE),
    "verified-line": holding(VERIFIED_LINE),
    "expired": holding(EXPIRED),
    "below-expired-root": holding(BELOW_EXPIRED_ROOT),
    "early": holding(EARLY),
    "short": holding(SHORT),
    "unsigning": holding(UNSIGNING),
    "no-ca": holding(NO_CA),
    "no-constraints": holding(NO_CONSTRAINTS),
    "for-servers": holding(FOR_SERVERS),
    "critical": holding(CRITICAL),
    "strong": holding(STRONG),
    "p-521": holding(P521),
    "rsa": holding(RSA),
    "sha-1": holding(SHA1),
    "constrained": holding(CONSTRAINED),
    "limited": holding(LIMITED),
    "identified": holding(IDENTIFIED),
    "policed": holding(POLICED),
    "renewed-line": holding(RENEWED_LINE),
    "deep": holding(DEEP[0]),
}
"""By id, the groups of the DPS."""


def enrolled(*leaves: Party, status: str = "enabled") -> dict[str, Any]:
    """An individual enrollment."""
    places = zip(("primary", "secondary"), leaves, strict=False)
    certificates = {place: {"certificate": leaf.pem} for place, leaf in places}
    return {"attestation": {"type": "x509", "x509": {"clientCertificates": certificates}}, "provisioningStatus": status}


@dataclass(frozen=True)
class Row:
    """One device.

    Attributes:
        device: its registration id.
        leaf: its own certificate.
        above: what it sends along, in this order.
        answer: the id of the group that lets it in, "itself" for its individual enrollment, or DPS's refusal.
        advice: codes of what DPS does not mind and the check says all the same.
        enrollment: its individual enrollment, if it has one.
    """

    device: str
    leaf: Party
    above: tuple[Party, ...]
    answer: str
    advice: tuple[str, ...] = ()
    enrollment: dict[str, Any] | None = field(default=None)

    @property
    def chain_pem(self) -> str:
        return "".join(party.pem for party in (self.leaf, *self.above))


INVALID = "Invalid certificate"
NOT_FOUND = "CA certificate not found"
NO_MATCH = "Signing certificate info did not match chain elements"
DISABLED = "Enrollment is disabled"


def leaf(device: str | x509.Name, signer: Party | None, *extensions: x509.ExtensionType, **more: Any) -> Party:
    return made(device, signer, *extensions, **more)


def sent(
    device: str, answer: str, signer: Party | None, *above: Party, advice: tuple[str, ...] = (), **more: Any
) -> Row:
    """A device whose leaf has nothing unusual."""
    return Row(device, leaf(device, signer, **more), above, answer, advice)


def with_leaf(
    device: str, answer: str, *extensions: x509.ExtensionType, advice: tuple[str, ...] = (), **more: Any
) -> Row:
    """A device of the line, with a good chain and an unusual leaf."""
    return Row(device, leaf(device, LINE, *extensions, **more), (LINE, FACTORY), answer, advice)


def alone(
    device: str, answer: str, own: Party, *above: Party, enrollment: dict[str, Any] | None = None, **more: Any
) -> Row:
    """A device with an individual enrollment, by default for its leaf."""
    return Row(device, own, above, answer, enrollment=enrollment or enrolled(own), **more)


def far_up(device: str, height: int, answer: str) -> Row:
    """A device so many CAs below the group's."""
    return sent(device, answer, DEEP[height], *reversed(DEEP[: height + 1]))


def also_named(device: str, answer: str, name: x509.GeneralName) -> Row:
    """A device of the CA that limits names, with another name beside its CN."""
    return Row(device, leaf(device, LIMITED, x509.SubjectAlternativeName([name])), (LIMITED,), answer)


AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)

ROWS = [
    # what is sent
    sent("whole", "line", LINE, LINE, FACTORY),
    sent("with-root", "line", LINE, LINE, FACTORY, ROOT),
    sent("with-verified-root-reissued", "line", LINE, LINE, FACTORY, REISSUED_ROOT, advice=("unneeded",)),
    sent("bare", NOT_FOUND, LINE),
    sent("gap-above", NOT_FOUND, LINE, LINE),
    sent("gap-between", NOT_FOUND, LINE, FACTORY),
    sent("gap-with-root", NOT_FOUND, LINE, LINE, ROOT),
    sent("root-only", NOT_FOUND, LINE, ROOT),
    sent("swapped", "line", LINE, FACTORY, LINE, advice=("misordered",)),
    sent("root-first", "line", LINE, ROOT, FACTORY, LINE, advice=("misordered",)),
    sent("stranger-between", "line", LINE, LINE, STRANGE, FACTORY, advice=("unneeded",)),
    sent("stranger-first", "line", LINE, STRANGE_ROOT, LINE, FACTORY, advice=("unneeded",)),
    sent("expired-stranger", "line", LINE, LINE, FACTORY, EXPIRED, advice=("unneeded",)),
    sent("damaged-stranger", "line", LINE, LINE, FACTORY, BROKEN, advice=("unreadable",)),
    sent("twice", "line", LINE, LINE, LINE, FACTORY, advice=("duplicate",)),
    sent("all-twice", "line", LINE, LINE, FACTORY, LINE, FACTORY, advice=("duplicate", "duplicate")),
    sent("with-reissued", "line", LINE, LINE, REISSUED_LINE, FACTORY, advice=("unneeded",)),
    sent("reissued-first", "line", LINE, REISSUED_LINE, LINE, FACTORY, advice=("unneeded",)),
    sent("with-lapsed", "line", LINE, LAPSED_LINE, LINE, FACTORY, advice=("unneeded",)),
    sent("reissued-alone", "factory", LINE, REISSUED_LINE, FACTORY),
    sent("lapsed-alone", INVALID, LINE, LAPSED_LINE, FACTORY),
    sent("namesake", NOT_FOUND, LINE, NAMESAKE, STRANGE_ROOT),
    sent("damaged-ca", NOT_FOUND, BROKEN, BROKEN),
    Row("leaf-last", LINE, (leaf("leaf-last", LINE), FACTORY), INVALID, ("leaf-is-ca",)),
    far_up("fourteen-up", 14, "deep"),
    far_up("sixteen-up", 16, INVALID),
    # what is verified
    sent("below-root", NO_MATCH, ROOT),
    sent("strange-root", NOT_FOUND, STRANGE, STRANGE, STRANGE_ROOT),
    sent("cross-signed", NO_MATCH, STRANGE, STRANGE, CROSS, STRANGE_ROOT),
    sent("above-a-verified", "by-reference", OFFICE_LINE, OFFICE_LINE),
    sent("above-a-verified-sent", "by-reference", OFFICE_LINE, OFFICE_LINE, OFFICE, CORPORATE),
    sent("of-a-verified", "by-reference", OFFICE),
    sent("of-the-referred", "by-reference", CORPORATE),
    sent("verified-line", "verified-line", VERIFIED_LINE),
    sent("verified-line-sent", "verified-line", VERIFIED_LINE, VERIFIED_LINE),
    sent("verified-line-reissued", "verified-line", VERIFIED_LINE, REISSUED_VERIFIED_LINE, advice=("unneeded",)),
    # which entry
    sent("below-shut", DISABLED, BELOW_SHUT, BELOW_SHUT, SHUT),
    sent("of-shut", DISABLED, SHUT, SHUT),
    sent("no-group", NO_MATCH, NO_GROUP, NO_GROUP),
    sent("of-factory", "factory", FACTORY, FACTORY),
    sent("of-old", "rolling", OLD, OLD),
    sent("of-new", "rolling", NEW, NEW),
    # what the CAs are
    sent("expired-ca", INVALID, EXPIRED, EXPIRED),
    sent("expired-root", INVALID, BELOW_EXPIRED_ROOT, BELOW_EXPIRED_ROOT, EXPIRED_ROOT),
    sent("early-ca", INVALID, EARLY, EARLY),
    sent("short", "short", SHORT, SHORT),
    sent("too-deep", INVALID, TOO_DEEP, TOO_DEEP, SHORT),
    sent("self-issued", "short", SELF_ISSUED, SELF_ISSUED, SHORT),
    sent("unsigning", INVALID, UNSIGNING, UNSIGNING),
    sent("no-ca", INVALID, NO_CA, NO_CA),
    sent("no-constraints", INVALID, NO_CONSTRAINTS, NO_CONSTRAINTS),
    sent("for-servers", INVALID, FOR_SERVERS, FOR_SERVERS),
    sent("critical", INVALID, CRITICAL, CRITICAL),
    sent("strong", "strong", STRONG, STRONG),
    sent("below-p-521", INVALID, P521, P521),
    sent("sha-1-ca", NOT_FOUND, SHA1, SHA1, RSA),
    sent("unpermitted", INVALID, CONSTRAINED, CONSTRAINED),
    sent("unpermitted-far", INVALID, BELOW_CONSTRAINED, BELOW_CONSTRAINED, CONSTRAINED),
    Row("permitted", leaf(named("permitted", unit="Presses"), CONSTRAINED), (CONSTRAINED,), "constrained"),
    sent("no-other-name", "limited", LIMITED, LIMITED),
    also_named("host", "limited", x509.DNSName("press.Example.com")),
    also_named("other-host", INVALID, x509.DNSName("anexample.com")),
    also_named("old-host", INVALID, x509.DNSName("press.old.example.com")),
    also_named("mailbox", "limited", x509.RFC822Name("press@example.com")),
    also_named("other-mailbox", INVALID, x509.RFC822Name("press@press.example.com")),
    also_named("root-mailbox", INVALID, x509.RFC822Name("root@example.com")),
    also_named("address", "limited", x509.IPAddress(ip_address("10.1.2.3"))),
    also_named("other-address", INVALID, x509.IPAddress(ip_address("11.1.2.3"))),
    also_named("sixth-address", INVALID, x509.IPAddress(ip_address("fe80::1"))),
    also_named("locator", "limited", x509.UniformResourceIdentifier("https://example.org/")),
    # what the leaf is
    with_leaf("UPPER-CASE", "line"),
    Row("other-name", leaf("another", LINE), (LINE, FACTORY), INVALID),
    Row("kelvin", leaf("\u212aelvin", LINE), (LINE, FACTORY), INVALID),
    Row("no-name", leaf(x509.Name([]), LINE), (LINE, FACTORY), INVALID),
    Row("two-names", leaf(named("two-names", "two-names"), LINE), (LINE, FACTORY), INVALID),
    with_leaf("expired", INVALID, days=(-9, -1)),
    with_leaf("early", INVALID, days=(1, 9)),
    with_leaf("leaf-is-ca", "line", AUTHORITY, advice=("leaf-is-ca",)),
    with_leaf("good-usage", "line", usage("digital_signature"), CLIENTS),
    with_leaf("any-purpose", "line", ANY_PURPOSE),
    with_leaf("no-signature", INVALID, usage("key_encipherment")),
    with_leaf("server", INVALID, SERVERS),
    with_leaf("unknown-extension", "line", UNKNOWN),
    with_leaf("critical-extension", INVALID, critical=(UNKNOWN,)),
    with_leaf("p-384", "line", key=ec.generate_private_key(ec.SECP384R1())),
    with_leaf("p-521", INVALID, key=ec.generate_private_key(ec.SECP521R1())),
    with_leaf("rsa", "line", key=rsa.generate_private_key(65537, 2048)),
    with_leaf("ed25519", INVALID, key=ed25519.Ed25519PrivateKey.generate()),
    Row("sha-1", weakened(leaf("sha-1", RSA), RSA), (RSA,), INVALID),
    sent("of-rsa", "rsa", RSA, RSA),
    with_leaf("huge-serial", "line", serial=(1 << 159) - 1),
    Row(
        "other-key",
        leaf("other-key", IDENTIFIED, x509.AuthorityKeyIdentifier(b"another", None, None)),
        (IDENTIFIED,),
        NOT_FOUND,
    ),
    Row("same-number", leaf("same-number", RENEWED_LINE, identifier_of(RENEWED_LINE)), (RENEWED_LINE,), "renewed-line"),
    Row("other-number", leaf("other-number", RENEWED_LINE, identifier_of(LINE)), (RENEWED_LINE,), NOT_FOUND),
    sent("no-policy", "policed", POLICED, POLICED, advice=("policy",)),
    Row("other-string", leaf("other-string", spelled(LINE, "line", _ASN1Type.PrintableString)), (LINE,), NOT_FOUND),
    Row("other-case", leaf("other-case", spelled(LINE, "LINE", _ASN1Type.UTF8String)), (LINE,), NOT_FOUND),
    Row("self-signed", leaf("self-signed", None), (), NOT_FOUND),
    Row("self-signed-with-chain", leaf("self-signed-with-chain", None), (LINE, FACTORY), NOT_FOUND),
    Row("root", ROOT, (), NO_MATCH, ("leaf-is-ca",)),
    Row("shut-server", leaf("shut-server", SHUT, SERVERS), (SHUT,), INVALID),
    # individual enrollments
    alone("own", "itself", leaf("own", LINE)),
    alone("own-whole", "itself", leaf("own-whole", LINE), LINE, FACTORY),
    alone("own-self-signed", "itself", leaf("own-self-signed", None)),
    alone("own-ca", "itself", leaf("own-ca", None, AUTHORITY), advice=("leaf-is-ca",)),
    alone("own-strange", "itself", leaf("own-strange", STRANGE)),
    alone("own-expired-ca", "itself", leaf("own-expired-ca", EXPIRED), EXPIRED),
    alone("own-too-deep", "itself", leaf("own-too-deep", TOO_DEEP), TOO_DEEP, SHORT),
    alone("own-ca-twice", "itself", leaf("own-ca-twice", LINE), LINE, LINE, FACTORY),
    alone("own-with-stranger", "itself", leaf("own-with-stranger", LINE), STRANGE, LINE),
    alone("own-expired", INVALID, leaf("own-expired", LINE, days=(-9, -1))),
    alone("own-server", INVALID, leaf("own-server", None, SERVERS)),
    alone("own-of-shut", "itself", leaf("own-of-shut", SHUT), SHUT),
    alone("own-other", INVALID, leaf("own-other", LINE), LINE, FACTORY, enrollment=enrolled(leaf("own-other", LINE))),
    alone("own-name", INVALID, leaf("another", LINE)),
    alone(
        "secondary",
        "itself",
        (_second := leaf("secondary", None)),
        enrollment=enrolled(leaf("secondary", LINE), _second),
    ),
    alone(
        "own-shut",
        DISABLED,
        (_shut := leaf("own-shut", LINE)),
        LINE,
        FACTORY,
        enrollment=enrolled(_shut, status="disabled"),
    ),
    alone(
        "own-shut-other",
        DISABLED,
        leaf("own-shut-other", LINE),
        LINE,
        FACTORY,
        enrollment=enrolled(leaf("own-shut-other", LINE), status="disabled"),
    ),
    alone(
        "own-referring", "itself", leaf("own-referring", OFFICE_LINE), OFFICE_LINE, enrollment=referring("corporate")
    ),
    alone(
        "own-referring-other",
        NO_MATCH,
        leaf("own-referring-other", LINE),
        LINE,
        FACTORY,
        enrollment=referring("corporate"),
    ),
    alone("own-referring-bare", NOT_FOUND, leaf("own-referring-bare", LINE), enrollment=referring("corporate")),
]
