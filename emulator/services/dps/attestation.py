"""Whether DPS lets a device in: a pure decision over the chain it sent and what the service knows.

Order and rules: Microsoft, "X.509 certificate attestation" (chain, verified CA, CN = registration id), "How to
disenroll or revoke a device" (individual enrollment first, then the group of the lowest CA, the first found decides)
and "How to verify X.509 CA certificates" (a group's certificate is verified, or rolls up to a verified one in the
device's chain: so a verified CA below a group's own does not hide that group). A verified CA need not be sent
(Azure/azure-iot-sdk-csharp#1010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.platform.certificates import sha256_thumbprint
from emulator.protocols.path_validation import ChainRefused, NoTrustedAuthority, check_leaf, climb
from emulator.services.dps import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from emulator.protocols.path_validation import Path


X509, SYMMETRIC_KEY = "x509", "symmetricKey"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a device shows to be let in.

    Attributes:
        chain: its certificates as TLS got them, leaf first; empty if it sent none.
        signature: ``SharedAccessSignature sr=...``; None if it has shown none. Beside a certificate it does not count.
    """

    chain: Sequence[x509.Certificate] = ()
    signature: str | None = None

    @property
    def leaf(self) -> x509.Certificate | None:
        """Its own certificate, if it has sent one."""
        return self.chain[0] if self.chain else None


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

    @property
    def attestation_type(self) -> str:
        """What it asks of devices: ``x509`` or ``symmetricKey``."""
        return str(self.entry["attestation"]["type"])


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
            return _individual(chain, known.enrollment, known.verified, now)
        return _group(climb(chain, list(known.verified.values()), now), known)
    except NoTrustedAuthority as refused:
        raise errors.unauthorized(errors.CA_NOT_FOUND, hint=str(refused)) from None
    except ChainRefused as refused:
        raise errors.unauthorized(errors.INVALID_CERTIFICATE, hint=str(refused)) from None


def _individual(
    chain: Sequence[x509.Certificate],
    enrollment: Mapping[str, Any],
    verified: Mapping[str, x509.Certificate],
    now: datetime,
) -> Match:
    """Decide by an individual enrollment: by the leaf alone, unless it refers to CAs."""
    if enrollment.get("provisioningStatus") == "disabled":
        raise errors.unauthorized(errors.DISABLED, hint="the individual enrollment is disabled")
    attestation = enrollment["attestation"].get(X509)
    if attestation is None:
        raise errors.unauthorized(errors.UNAUTHORIZED, hint="the individual enrollment asks for no certificate")
    if sha256_thumbprint(chain[0]) in thumbprints(attestation.get("clientCertificates") or {}):
        return Match(enrollment, None)
    if not attestation.get("caReferences"):
        raise errors.unauthorized(errors.INVALID_CERTIFICATE, hint="the individual enrollment has another certificate")
    signers = _signers(enrollment, verified)
    if not any(sha256_thumbprint(each) in signers for path in climb(chain, [*verified.values()], now) for each in path):
        raise errors.unauthorized(errors.NO_MATCH, hint="the individual enrollment refers to other CAs")
    return Match(enrollment, None)


def _group(paths: Sequence[Path], known: Knowledge) -> Match:
    """Take the group of the lowest CA that has one; at each height the paths are looked at in their order."""
    for height in range(1, max(map(len, paths))):
        for authority in [path[height] for path in paths if height < len(path)]:
            group = _group_of(authority, known)
            if group is None:
                continue
            if group.get("provisioningStatus") == "disabled":
                raise errors.unauthorized(errors.DISABLED, hint=f"group {group['enrollmentGroupId']} is disabled")
            return Match(group, group["enrollmentGroupId"])
    raise errors.unauthorized(errors.NO_MATCH, hint="no enrollment group has a certificate of this chain")


def _group_of(authority: x509.Certificate, known: Knowledge) -> Mapping[str, Any] | None:
    thumbprint = sha256_thumbprint(authority)
    return next((group for group in known.groups if thumbprint in _signers(group, known.verified)), None)


def _signers(group: Mapping[str, Any], authorities: Mapping[str, x509.Certificate]) -> set[str]:
    attestation = group["attestation"].get(X509) or {}
    references = (attestation.get("caReferences") or {}).values()
    named = {sha256_thumbprint(authorities[name]) for name in references if name in authorities}
    return named | thumbprints(attestation.get("signingCertificates") or {})


def thumbprints(certificates: Mapping[str, Any]) -> set[str]:
    """Give the SHA-256 thumbprints of a primary and a secondary certificate."""
    return {each["info"]["sha256Thumbprint"] for each in certificates.values() if each}
