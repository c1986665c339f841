"""Whether DPS lets a device in: a pure decision over the chain it sent and what the service knows.

Order and rules: Microsoft, "X.509 certificate attestation" (chain, verified CA, CN = registration id) and "How to
disenroll or revoke a device" (individual enrollment first, then the group of the lowest CA, the first found decides).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devstack.emulator.certificates import ChainRefused, NoTrustedAuthority, check_leaf, climb, sha256_thumbprint
from devstack.emulator.dps import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cryptography import x509


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the service decides by.

    Attributes:
        enrollment: the individual enrollment of the registration id, if there is one.
        groups: all enrollment groups.
        verified: by name, the CA certificates whose key's possession was proved.
    """

    enrollment: Mapping[str, Any] | None
    groups: Sequence[Mapping[str, Any]]
    verified: Mapping[str, x509.Certificate]


@dataclass(frozen=True, slots=True)
class Match:
    """The entry that lets the device in.

    Attributes:
        entry: the individual enrollment or enrollment group.
        group_id: ``None`` for an individual enrollment.
    """

    entry: Mapping[str, Any]
    group_id: str | None


def decide(chain: Sequence[x509.Certificate], registration_id: str, known: Knowledge, now: datetime) -> Match:
    """Find the entry that decides about a device.

    Args:
        chain: as the device sent it, leaf first; TLS has proved possession of the leaf's key.
        registration_id: what it registers as.
        known: what the service knows.
        now: the present time, UTC.

    Raises:
        ProvisioningError: the device is not let in.
    """
    if not chain:
        raise errors.unauthorized(errors.INVALID_CERTIFICATE, hint="the device sent no certificate")
    try:
        check_leaf(chain[0], registration_id, now)
        if known.enrollment is not None:
            return _individual(chain[0], known.enrollment)
        return _group(climb(chain, list(known.verified.values()), now), known)
    except NoTrustedAuthority as refused:
        raise errors.unauthorized(errors.CA_NOT_FOUND, hint=str(refused)) from None
    except ChainRefused as refused:
        raise errors.unauthorized(errors.INVALID_CERTIFICATE, hint=str(refused)) from None


def _individual(leaf: x509.Certificate, enrollment: Mapping[str, Any]) -> Match:
    if enrollment.get("provisioningStatus") == "disabled":
        raise errors.unauthorized(errors.DISABLED, hint="the individual enrollment is disabled")
    accepted = enrollment["attestation"]["x509"].get("clientCertificates") or {}
    if sha256_thumbprint(leaf) not in thumbprints(accepted):
        raise errors.unauthorized(errors.INVALID_CERTIFICATE, hint="the individual enrollment has another certificate")
    return Match(enrollment, None)


def _group(path: Sequence[x509.Certificate], known: Knowledge) -> Match:
    for authority in path[1:]:
        thumbprint = sha256_thumbprint(authority)
        for group in known.groups:
            if thumbprint not in _signers(group, known.verified):
                continue
            if group.get("provisioningStatus") == "disabled":
                raise errors.unauthorized(errors.DISABLED, hint=f"group {group['enrollmentGroupId']} is disabled")
            return Match(group, group["enrollmentGroupId"])
    raise errors.unauthorized(errors.NO_MATCH, hint="no enrollment group has a certificate of this chain")


def _signers(group: Mapping[str, Any], authorities: Mapping[str, x509.Certificate]) -> set[str]:
    attestation = group["attestation"]["x509"]
    references = (attestation.get("caReferences") or {}).values()
    named = {sha256_thumbprint(authorities[name]) for name in references if name in authorities}
    return named | thumbprints(attestation.get("signingCertificates") or {})


def thumbprints(certificates: Mapping[str, Any]) -> set[str]:
    """Give the SHA-256 thumbprints of a primary and a secondary certificate."""
    return {each["info"]["sha256Thumbprint"] for each in certificates.values() if each}
