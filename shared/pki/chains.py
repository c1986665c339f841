"""The pre-flight check of what this service hands out: would DPS accept this chain, and if not, why not, in words.

It is stricter than DPS, which takes any order (:mod:`shared.pki.paths`). What DPS does not mind of
CAs, and others may, is left out here (:data:`~shared.pki.findings.HARMLESS`) and is advice where a chain is previewed.

DPS answers ``401002`` for nearly all of these causes, and devices meet it in the field. Sources: Microsoft, "X.509
certificate attestation" and "How to troubleshoot DPS"; RFC 5280 section 6 for the path itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.pki import names, path_rules
from shared.pki.certificate_rules import content_findings, leaf_findings, life_findings, readable, unreadable_findings
from shared.pki.certificates import is_self_issued, issued_by
from shared.pki.findings import Finding, refusals
from shared.pki.path_rules import constraint_findings, link_findings, policy_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from cryptography import x509

LENGTH_LIMIT = 16
"""Certificates in a chain; path lengths of a CA hierarchy are far below."""


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
    return (*leaf_findings(leaf, registration_id), *life_findings([leaf], now), *content_findings([leaf]))


def path_findings(path: Sequence[x509.Certificate], now: datetime) -> tuple[Finding, ...]:
    """Check the CAs above a leaf, each of which has signed the one before it; ``now`` is UTC."""
    return (
        *life_findings(path[1:], now),
        *content_findings(path[1:]),
        *path_rules.authority_findings(path[1:]),
        *constraint_findings(path, leaves=1),
        *policy_findings(path),
    )


def authority_findings(chain: Sequence[x509.Certificate]) -> tuple[Finding, ...]:
    """Check a CA for what would make DPS refuse all its devices, its time aside.

    Args:
        chain: of the CA, its own certificate first, up to its root.

    Returns:
        Every reason found, none if it may sign for devices.
    """
    if len(chain) > LENGTH_LIMIT:
        return (too_long(len(chain)),)
    return tuple(unreadable_findings(chain, "the CA's chain")) or refusals(
        (
            *content_findings(chain),
            *link_findings(chain),
            *path_rules.authority_findings(chain),
            *constraint_findings(chain, leaves=0),
        )
    )


def _findings(
    chain: Sequence[x509.Certificate],
    registration_id: str,
    group_certificates: Sequence[x509.Certificate],
    verified_authorities: Sequence[x509.Certificate],
    now: datetime,
) -> tuple[Finding, ...]:
    """Find what is wrong with certificates that can all be read."""
    return (
        *leaf_findings(chain[0], registration_id),
        # Of several that could be above the chain, one that it passes with is enough.
        *min((_whole_findings(whole, now) for whole in _completed(chain, verified_authorities)), key=len),
        *_anchor_findings(chain, verified_authorities),
        *_group_findings(chain, group_certificates),
    )


def _whole_findings(chain: Sequence[x509.Certificate], now: datetime) -> tuple[Finding, ...]:
    return (
        *life_findings(chain, now),
        *content_findings(chain[:1]),
        *refusals(content_findings(chain[1:])),
        *link_findings(chain),
        *path_rules.authority_findings(chain[1:]),
        *constraint_findings(chain, leaves=1),
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


def _name(certificate: x509.Certificate) -> str:
    return names.quoted(certificate.subject)
