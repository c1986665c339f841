"""The pre-flight check: would DPS accept this chain, and if not, why not, in words.

DPS answers ``401002`` for nearly all of these causes, and devices meet it in the field. Sources: Microsoft, "X.509
certificate attestation" and "How to troubleshoot DPS"; RFC 5280 section 6 for the path itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime


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
        return (Finding("empty", "there is no certificate; send the leaf first, then every intermediate"),)
    return (
        *_leaf_findings(chain[0], registration_id),
        *_life_findings(chain, now),
        *_link_findings(chain),
        *_path_findings(chain),
        *_anchor_findings(chain, verified_authorities),
        *_group_findings(chain, group_certificates),
    )


def _leaf_findings(leaf: x509.Certificate, registration_id: str) -> Iterator[Finding]:
    name = names.common_name(leaf.subject)
    if name.lower() != registration_id.lower():
        yield Finding(
            "common-name",
            f"the leaf's CN is {name!r} and the registration id {registration_id!r}; they must be the same",
        )
    constraints = _find(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        yield Finding("leaf-is-ca", f"the first certificate, {name!r}, is a CA; the device's own comes first")
    usage = _find(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        yield Finding("key-usage", "the leaf's key usage lacks digitalSignature, which a TLS client needs")
    purposes = _find(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *purposes
    }:
        yield Finding("extended-key-usage", "the leaf's extended key usage lacks clientAuth")


def _life_findings(chain: Sequence[x509.Certificate], now: datetime) -> Iterator[Finding]:
    for certificate in chain:
        name = names.common_name(certificate.subject)
        if now < certificate.not_valid_before_utc:
            yield Finding(
                "not-yet-valid", f"{name!r} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            )
        if now > certificate.not_valid_after_utc:
            yield Finding("expired", f"{name!r} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


def _link_findings(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for lower, upper in pairwise(chain):
        if issued_by(lower, upper):
            continue
        names_of = f"{names.common_name(lower.subject)!r} is not signed by {names.common_name(upper.subject)!r}"
        if any(issued_by(lower, other) for other in chain if other is not lower):
            yield Finding(
                "misordered", f"{names_of}, which follows it: the order is leaf first, then each one's issuer"
            )
        else:
            yield Finding("broken-link", f"{names_of}, which follows it: an intermediate between them is missing")


def _path_findings(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for depth, authority in enumerate(chain[1:]):
        name = names.common_name(authority.subject)
        constraints = _find(authority, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            yield Finding("not-a-ca", f"{name!r} stands above another certificate and is no CA")
        elif constraints.path_length is not None and depth > constraints.path_length:
            yield Finding(
                "path-length", f"{name!r} allows {constraints.path_length} CAs below it, and {depth} are there"
            )
        usage = _find(authority, x509.KeyUsage)
        if usage is not None and not usage.key_cert_sign:
            yield Finding("key-usage", f"the key usage of {name!r} forbids signing certificates (keyCertSign)")


def _anchor_findings(chain: Sequence[x509.Certificate], verified: Sequence[x509.Certificate]) -> Iterator[Finding]:
    top = chain[-1]
    if any(each in verified for each in chain) or any(issued_by(top, authority) for authority in verified):
        return
    wanted, subject = top.issuer.rfc4514_string(), names.common_name(top.subject)
    if top.issuer == top.subject:
        yield Finding(
            "not-verified",
            f"the root {subject!r} is not verified in this DPS: upload it and prove possession of its key",
        )
    else:
        yield Finding(
            "no-verified-ca",
            f"the chain ends at {subject!r}, whose issuer is {wanted!r}: send every intermediate up to a CA that is "
            "verified in this DPS by proof of possession, or verify that CA",
        )


def _group_findings(chain: Sequence[x509.Certificate], group: Sequence[x509.Certificate]) -> Iterator[Finding]:
    if any(authority in group for authority in chain[1:]) or any(issued_by(chain[-1], each) for each in group):
        return
    present = ", ".join(repr(names.common_name(each.subject)) for each in chain[1:]) or "none"
    wanted = " or ".join(repr(names.common_name(each.subject)) for each in group) or "none"
    yield Finding(
        "wrong-group",
        f"the enrollment group's signing certificate is {wanted}, and the chain's CAs are {present}: the group holds "
        "another CA certificate, perhaps another one of the same name",
    )


def issued_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Tell whether one certificate is signed by another, by name and by signature."""
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _find[E: x509.ExtensionType](certificate: x509.Certificate, kind: type[E]) -> E | None:
    found: Iterable[x509.Extension[E]] = (
        extension for extension in certificate.extensions if isinstance(extension.value, kind)
    )
    return next((extension.value for extension in found), None)
