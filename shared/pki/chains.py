"""The pre-flight check of what this service hands out: would DPS accept this chain, and if not, why not, in words.

It is stricter than DPS, which takes any order (:mod:`shared.pki.paths`). What DPS does not mind of
CAs, and others may, is left out here (:data:`HARMLESS`) and is advice where a chain is previewed.

DPS answers ``401002`` for nearly all of these causes, and devices meet it in the field. Sources: Microsoft, "X.509
certificate attestation" and "How to troubleshoot DPS"; RFC 5280 section 6 for the path itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from shared.pki import names
from shared.pki.certificates import (
    BROKEN_HASHES,
    CLIENT_PURPOSES,
    SERIAL_LIMIT,
    UNREADABLE,
    find_extension,
    is_self_issued,
    issued_by,
    issued_under_other_encoding,
)
from shared.pki.damage import decode, why_unreadable
from shared.pki.name_constraints import forbidden_names, names_in
from shared.pki.policies import MAPPINGS, policy_gap
from shared.pki.public_keys import WeakKey, key_of
from shared.pki.signing_keys import UnsupportedKey
from shared.rules.registration_ids import same_registration_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

LENGTH_LIMIT = 16
"""Certificates in a chain; path lengths of a CA hierarchy are far below."""

HARMLESS = frozenset({"serial-number", "policy"})
"""Codes of findings that DPS does not refuse a CA for, and others may: RFC 5280 asks to take unusual serial numbers
(section 4.1.2.2), and DPS asks for no policies."""

_NAMES_SHOWN = 5  # of those that one CA forbids another certificate


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why DPS would refuse a chain.

    Attributes:
        code: a word for it, for programs.
        message: what is wrong and what would be right.
    """

    code: str
    message: str


def check_chain(
    chain: Sequence[x509.Certificate],
    *,
    registration_id: str,
    group_certificates: Sequence[x509.Certificate],
    verified_authorities: Sequence[x509.Certificate],
    now: datetime,
) -> tuple[Finding, ...]:
    """Check a chain as a device would send it.

    Args:
        chain: leaf first, then its intermediates; the root may be left out.
        registration_id: of the device, in canonical form.
        group_certificates: the enrollment group's primary and secondary signing certificates.
        verified_authorities: the CA certificates whose possession was proved to this DPS.
        now: the present time, UTC.

    Returns:
        Every reason found, none if DPS would accept it.
    """
    if not chain:
        return (Finding("empty", "the chain is empty; send the leaf first, then every intermediate"),)
    if len(chain) > LENGTH_LIMIT:
        return (too_long(len(chain)),)
    unreadable = tuple(unreadable_findings(chain, "the chain"))
    if unreadable:
        return unreadable
    group, verified = readable(group_certificates), readable(verified_authorities)
    # What is damaged there matters to those chains only that need it.
    found = _findings(chain, registration_id, group, verified, now)
    return found and (
        *found,
        *unreadable_findings(group_certificates, "the enrollment group"),
        *unreadable_findings(verified_authorities, "the CAs verified in DPS"),
    )


def device_findings(leaf: x509.Certificate, registration_id: str, now: datetime) -> tuple[Finding, ...]:
    """Check a device's own certificate alone, whoever signed it; ``now`` is UTC."""
    return (*_leaf_findings(leaf, registration_id), *life_findings([leaf], now), *_content_findings([leaf]))


def path_findings(path: Sequence[x509.Certificate], now: datetime) -> tuple[Finding, ...]:
    """Check the CAs above a leaf, each of which has signed the one before it; ``now`` is UTC."""
    return (
        *life_findings(path[1:], now),
        *_content_findings(path[1:]),
        *_path_findings(path[1:]),
        *_constraint_findings(path, leaves=1),
        *_policy_findings(path),
    )


def link_findings(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    """Find which certificates of a chain are not signed by the one that follows."""
    return _link_findings(chain)


def authority_findings(chain: Sequence[x509.Certificate]) -> tuple[Finding, ...]:
    """Check a CA for what would make DPS refuse all its devices, its time aside.

    Args:
        chain: of the CA, its own certificate first, up to its root.

    Returns:
        Every reason found, none if it may sign for devices.
    """
    if len(chain) > LENGTH_LIMIT:
        return (too_long(len(chain)),)
    return tuple(unreadable_findings(chain, "the CA's chain")) or _refusals(
        (
            *_content_findings(chain),
            *_link_findings(chain),
            *_path_findings(chain),
            *_constraint_findings(chain, leaves=0),
        )
    )


def _refusals(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(each for each in findings if each.code not in HARMLESS)


def _findings(
    chain: Sequence[x509.Certificate],
    registration_id: str,
    group_certificates: Sequence[x509.Certificate],
    verified_authorities: Sequence[x509.Certificate],
    now: datetime,
) -> tuple[Finding, ...]:
    """Find what is wrong with certificates that can all be read."""
    return (
        *_leaf_findings(chain[0], registration_id),
        # Of several that could be above the chain, one that it passes with is enough.
        *min((_whole_findings(whole, now) for whole in _completed(chain, verified_authorities)), key=len),
        *_anchor_findings(chain, verified_authorities),
        *_group_findings(chain, group_certificates),
    )


def _whole_findings(chain: Sequence[x509.Certificate], now: datetime) -> tuple[Finding, ...]:
    return (
        *life_findings(chain, now),
        *_content_findings(chain[:1]),
        *_refusals(_content_findings(chain[1:])),
        *_link_findings(chain),
        *_path_findings(chain[1:]),
        *_constraint_findings(chain, leaves=1),
    )


def _completed(
    chain: Sequence[x509.Certificate], verified: Sequence[x509.Certificate]
) -> list[tuple[x509.Certificate, ...]]:
    """Add each verified CA that fits at the top if it was left out: its life and path length count as well."""
    above = [authority for authority in verified if issued_by(chain[-1], authority)]
    if not above or any(each in verified for each in chain):
        return [tuple(chain)]
    return [(*chain, authority) for authority in above]


def too_long(length: int) -> Finding:
    """Say that a chain has more certificates than are read."""
    return Finding("too-long", f"there are {length} certificates; at most {LENGTH_LIMIT} make a chain")


def unreadable_findings(certificates: Sequence[x509.Certificate], place: str) -> Iterator[Finding]:
    """Find which certificates can't be decoded; ``place`` says where they stand."""
    for position, certificate in enumerate(certificates, start=1):
        damage = _damage(certificate)
        if damage:
            yield Finding("unreadable", f"certificate {position} of {place} can't be read: {damage[:300]}")


def readable(certificates: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Leave out certificates that can't be decoded."""
    return tuple(certificate for certificate in certificates if not _damage(certificate))


def _damage(certificate: x509.Certificate) -> str:
    """Decode everything once: cryptography does so when it is asked, and others may have made these."""
    try:
        decode(certificate)
    except UNREADABLE:
        return why_unreadable(certificate.public_bytes(Encoding.DER))
    return ""


def _name(certificate: x509.Certificate) -> str:
    return names.quoted(certificate.subject)


def _leaf_findings(leaf: x509.Certificate, registration_id: str) -> Iterator[Finding]:
    name = _name(leaf)
    if not same_registration_id(names.common_name(leaf.subject), registration_id):
        yield Finding(
            "common-name",
            f"the leaf's CN is {name} and the registration id {registration_id!r}; they must be the same",
        )
    constraints = find_extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        yield Finding("leaf-is-ca", f"the first certificate, {name}, is a CA; the device's own comes first")
    elif issued_by(leaf, leaf):
        yield Finding(
            "self-signed-leaf", f"{name} is signed by itself; a group's device has a certificate of the group's CA"
        )
    usage = find_extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        yield Finding("key-usage", "the leaf's key usage lacks digitalSignature, which a TLS client needs")
    purposes = find_extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and not CLIENT_PURPOSES & {*purposes}:
        yield Finding("extended-key-usage", "the leaf's extended key usage lacks clientAuth")


def life_findings(chain: Sequence[x509.Certificate], now: datetime) -> Iterator[Finding]:
    """Find which certificates of a chain are not valid at a time, UTC."""
    second = now.replace(microsecond=0)  # notAfter is inclusive (RFC 5280 section 4.1.2.5): its whole second counts
    for certificate in chain:
        name = _name(certificate)
        if second < certificate.not_valid_before_utc:
            yield Finding(
                "not-yet-valid", f"{name} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            )
        if second > certificate.not_valid_after_utc:
            yield Finding("expired", f"{name} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


def _content_findings(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for certificate in chain:
        name = _name(certificate)
        try:
            key_of(certificate)
        except UnsupportedKey as error:
            code = "weak-key" if isinstance(error, WeakKey) else "key-algorithm"
            yield Finding(code, f"the key of {name} can't be used: {error}")
        if not 0 < certificate.serial_number < SERIAL_LIMIT:
            number = certificate.serial_number
            yield Finding(
                "serial-number",
                f"the serial number of {name} is {names.number(number)}; it must be positive and have at "
                "most 20 octets",
            )
        digest = _digest_name(certificate)
        # A root is trusted for itself and not for its signature.
        if digest in BROKEN_HASHES and not is_self_issued(certificate):
            yield Finding("weak-signature", f"{name} is signed with {digest.upper()}; SHA-256 or SHA-384 is needed")
        for extension in certificate.extensions:
            # RFC 5280 section 4.2: what is critical and not understood is refused.
            if (
                extension.critical
                and isinstance(extension.value, x509.UnrecognizedExtension)
                and extension.oid != MAPPINGS
            ):
                oid = extension.oid.dotted_string
                yield Finding("critical-extension", f"{name} has the critical extension {oid}, which is not known")


def _digest_name(certificate: x509.Certificate) -> str:
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return ""
    return digest.name if digest else ""


def _link_findings(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for lower, upper in pairwise(chain):
        if issued_by(lower, upper):
            if not identifiers_match(lower, upper):
                yield Finding(
                    "authority-key-identifier",
                    f"{_name(lower)} names another key or certificate as its issuer's than that of "
                    f"{_name(upper)}: the CA was renewed since",
                )
            continue
        if lower == upper:
            yield Finding("duplicate", f"{_name(lower)} is there twice; send it once")
            continue
        if _digest_name(lower) in BROKEN_HASHES:
            continue  # said already; such a signature is not even verified
        names_of = f"{_name(lower)} is not signed by {_name(upper)}"
        if any(issued_by(lower, other) for other in chain if other is not lower):
            yield Finding(
                "misordered", f"{names_of}, which follows it: the order is leaf first, then each one's issuer"
            )
        elif issued_under_other_encoding(lower, upper):
            yield other_encoding(lower, upper)
        elif names.same_name(lower.issuer, upper.subject):
            yield Finding(
                "other-key", f"{names_of}, which follows it: that is a CA of the right name, with another key"
            )
        else:
            yield Finding("broken-link", f"{names_of}, which follows it: an intermediate between them is missing")


def other_encoding(lower: x509.Certificate, upper: x509.Certificate) -> Finding:
    """Say that a name is written otherwise in a certificate than in its issuer's."""
    return Finding(
        "issuer-encoding",
        f"{_name(lower)} is signed by {_name(upper)}, and writes its issuer's name in another encoding (string type, "
        "case or spaces) than that certificate. RFC 5280 takes both as one name (section 7.1), Windows and Go compare "
        f"octets: have {_name(lower)} issued anew with the issuer's name as it stands there",
    )


def _policy_findings(path: Sequence[x509.Certificate]) -> Iterator[Finding]:
    without_anchor = path[:-1] if is_self_issued(path[-1]) else path
    gap = policy_gap(without_anchor)
    if gap is not None:
        yield Finding(
            "policy",
            f"a CA above {_name(gap)} asks for a certificate policy (requireExplicitPolicy), and {_name(gap)} has none "
            "that is valid up to there (RFC 5280 section 6.1): Java and others refuse the chain, DPS does not look at "
            "policies; give it a policy of the CAs above",
        )


def identifiers_match(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether what a certificate says of its issuer's key and certificate is true (RFC 5280 section 4.2.1.1)."""
    wanted = find_extension(lower, x509.AuthorityKeyIdentifier)
    if wanted is None:
        return True
    present = find_extension(upper, x509.SubjectKeyIdentifier)
    if wanted.key_identifier is not None and present is not None and wanted.key_identifier != present.digest:
        return False
    # The other form names the issuer's certificate by who made it, and its number there.
    makers = [each.value for each in wanted.authority_cert_issuer or () if isinstance(each, x509.DirectoryName)]
    return wanted.authority_cert_serial_number in {None, upper.serial_number} and (
        not makers or any(names.same_name(upper.issuer, maker) for maker in makers)
    )


def _path_findings(authorities: Sequence[x509.Certificate]) -> Iterator[Finding]:
    below = 0
    for authority in authorities:
        name = _name(authority)
        constraints = find_extension(authority, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            yield Finding(
                "not-a-ca", f"{name} stands above another certificate and has no CA rights (basicConstraints)"
            )
        elif constraints.path_length is not None and below > constraints.path_length:
            yield Finding("path-length", f"{name} allows {constraints.path_length} CAs below it, and {below} are there")
        usage = find_extension(authority, x509.KeyUsage)
        if usage is not None and not usage.key_cert_sign:
            yield Finding("key-usage", f"the key usage of {name} forbids signing certificates (keyCertSign)")
        purposes = find_extension(authority, x509.ExtendedKeyUsage)
        if purposes is not None and not CLIENT_PURPOSES & {*purposes}:
            # TLS stacks read a CA's extended key usage as a limit to what is below it.
            yield Finding("extended-key-usage", f"the extended key usage of {name} lacks clientAuth")
        below += not is_self_issued(authority)  # RFC 5280 section 4.2.1.9


def _constraint_findings(chain: Sequence[x509.Certificate], *, leaves: int) -> Iterator[Finding]:
    for position, authority in enumerate(chain):
        constraints = find_extension(authority, x509.NameConstraints)
        for level, lower in enumerate(chain[:position]):
            # A CA that signs its own new key is exempt, a leaf is not (RFC 5280 section 6.1.3 b).
            if constraints is None or (level >= leaves and is_self_issued(lower)):
                continue
            for reason in islice(forbidden_names(constraints, names_in(lower)), _NAMES_SHOWN):
                yield Finding(
                    "name-constraints",
                    f"{_name(authority)} constrains the names below it, and {_name(lower)} {reason}",
                )


def _anchor_findings(chain: Sequence[x509.Certificate], verified: Sequence[x509.Certificate]) -> Iterator[Finding]:
    top = chain[-1]
    if not any(each in verified for each in chain) and not any(issued_by(top, authority) for authority in verified):
        yield open_end(top)


def open_end(top: x509.Certificate) -> Finding:
    """Say that a chain ends below any verified CA; ``top`` is the last of it."""
    wanted, subject = names.shown(top.issuer.rfc4514_string()), _name(top)
    if is_self_issued(top):
        return Finding(
            "not-verified",
            f"the root {subject} is not verified in this DPS: upload it and prove possession of its key",
        )
    return Finding(
        "no-verified-ca",
        f"the chain ends at {subject}, whose issuer is {wanted}: send every intermediate up to a CA that is verified "
        "in this DPS by proof of possession, or verify that CA",
    )


def _group_findings(chain: Sequence[x509.Certificate], group: Sequence[x509.Certificate]) -> Iterator[Finding]:
    if not any(each in group for each in chain[1:]) and not any(issued_by(chain[-1], each) for each in group):
        yield wrong_group(chain[1:], group)


def wrong_group(
    authorities: Sequence[x509.Certificate], group: Sequence[x509.Certificate], *, unseen: Sequence[str] = ()
) -> Finding:
    """Say that none of a chain's CAs is the enrollment group's; ``unseen`` ones are known by their subjects alone."""
    present = ", ".join(map(_name, authorities)) or "none"
    wanted = " or ".join((*map(_name, group), *map(names.shown, unseen))) or "none"
    return Finding(
        "wrong-group",
        f"the enrollment group's signing certificate is {wanted}, and the chain's CAs are {present}: the group holds "
        "another CA certificate, perhaps another one of the same name",
    )
