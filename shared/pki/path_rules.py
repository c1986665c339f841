"""What the certificates of a path must be to each other (RFC 5280 section 6)."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING

from cryptography import x509

from shared.pki import names
from shared.pki.certificate_rules import digest_name
from shared.pki.certificates import (
    BROKEN_HASHES,
    CLIENT_PURPOSES,
    find_extension,
    is_self_issued,
    issued_by,
    issued_under_other_encoding,
)
from shared.pki.findings import Finding
from shared.pki.name_constraints import forbidden_names, names_in
from shared.pki.policies import policy_gap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NAMES_SHOWN = 5  # of those that one CA forbids another certificate


def link_findings(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    """Find which certificates of a chain are not signed by the one that follows."""
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
        if digest_name(lower) in BROKEN_HASHES:
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


def policy_findings(path: Sequence[x509.Certificate]) -> Iterator[Finding]:
    """Find a certificate that lacks a policy which a CA above it asks for (RFC 5280 section 6.1)."""
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


def authority_findings(authorities: Sequence[x509.Certificate]) -> Iterator[Finding]:
    """Find which CAs, the lowest first, may not sign what stands below them (RFC 5280 sections 4.2.1.3 and 4.2.1.9)."""
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


def constraint_findings(chain: Sequence[x509.Certificate], *, leaves: int) -> Iterator[Finding]:
    """Find which names a CA above forbids (RFC 5280 section 4.2.1.10).

    Args:
        chain: the lowest certificate first.
        leaves: how many at its beginning are no CAs.
    """
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


def _name(certificate: x509.Certificate) -> str:
    return names.quoted(certificate.subject)
