"""Certification paths as DPS builds them, out of what a device sends and the CAs that are verified there.

The leaf comes first; the others may come in any order, twice, and with strangers among them (RFC 8446 section 4.4.2).
:mod:`shared.pki.chains` is stricter about what this service itself hands out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.pki.certificate_rules import readable
from shared.pki.certificates import UNREADABLE, issued_by
from shared.pki.chains import path_findings
from shared.pki.path_rules import identifiers_match

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from cryptography import x509

    from shared.pki.findings import Finding

    type _Certificates = tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """One way up from a leaf.

    Attributes:
        certificates: leaf first, each one followed by its issuer, as far as issuers are known.
        height: how many of them there are up to the highest verified CA that the leaf is good under; 0 if none is.
        faults: if none is, what is wrong with the way to the lowest verified CA; empty without a verified CA.
    """

    certificates: tuple[x509.Certificate, ...]
    height: int
    faults: tuple[Finding, ...] = ()

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """The CAs that may decide about the leaf, the lowest first."""
        return self.certificates[1 : self.height]


def paths(
    chain: Sequence[x509.Certificate],
    verified: Collection[x509.Certificate],
    now: datetime,
    *,
    tolerated: Collection[str] = (),
) -> list[Path]:
    """Find every path from a leaf.

    Args:
        chain: as the device sends it, leaf first; the leaf can be decoded.
        verified: the CA certificates whose possession was proved to the DPS; they need not be sent.
        now: the present time, UTC.
        tolerated: codes of findings that are not faults.
    """
    known = readable(dict.fromkeys((*verified, *chain[1:])))
    return [_judged(path, verified, now, tolerated) for path in _from((chain[0],), known)]


def _from(path: _Certificates, known: _Certificates) -> Iterator[_Certificates]:
    """Give every way up; no name and key stand twice on one (RFC 4158 section 5.2), which bounds their number."""
    uppers = [each for each in known if each not in path and _goes_on(path, each)]
    if not uppers:
        yield path
    for upper in uppers:
        yield from _from((*path, upper), known)


def _goes_on(path: _Certificates, upper: x509.Certificate) -> bool:
    lower = path[-1]
    if not issued_by(lower, upper) or not identifiers_match(lower, upper):
        return False
    return _name_and_key(upper) not in [_name_and_key(each) for each in path]


def _name_and_key(certificate: x509.Certificate) -> tuple[x509.Name, bytes]:
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:
        key = b""  # a leaf's, of an algorithm that can't be used
    return certificate.subject, key


def _judged(
    path: _Certificates, verified: Collection[x509.Certificate], now: datetime, tolerated: Collection[str]
) -> Path:
    faults: tuple[Finding, ...] = ()
    heights = [height for height, each in enumerate(path, start=1) if each in verified]
    for height in reversed(heights):
        found = path_findings(path[:height], now)
        faults = tuple(each for each in found if each.code not in tolerated)
        if not faults:
            return Path(path, height)
    return Path(path, 0, faults)
