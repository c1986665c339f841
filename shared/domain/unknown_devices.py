"""Differences about devices that DPS has, and the ledger does not know. Pure."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import AttestationKind
from shared.domain.findings import Difference, SubjectKind
from shared.domain.hub_authentication import SAS
from shared.domain.reconciliation import DPS
from shared.domain.treatments import FindingKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.domain.attestations import Attestation, HeldCertificate
    from shared.domain.groups import GroupRecord
    from shared.ports.hubs import HubIdentity

_NEVER = "the certificate was never issued here"
_PLACED = "; the device is "
_SLOTS = 24


def is_told(difference: Difference, before: Difference) -> bool:
    """Tell whether an entry accepts what it accepted when it was told of; wherever its device was then, or is now."""
    entry, told = (replace(each, service=each.service.partition(_PLACED)[0]) for each in (difference, before))
    return entry == told


def is_due(registration_id: str, now: datetime) -> bool:
    """Tell whether an entry that was told of is looked at anew in this hour: each one in one hour of the day."""
    return sha256(registration_id.encode()).digest()[0] % _SLOTS == now.hour


def unknown_device(
    group: GroupRecord, registration: Mapping[str, Any], identity: HubIdentity | None, *, rogue: bool
) -> Difference:
    """Give the difference of a registration that the ledger knows no device for.

    DPS gives an identity keys when it has let the device in by a key (Microsoft, "How to use symmetric keys over HTTPS
    without an SDK"; azure-iot-cli-extension's tests of ``az iot device registration``). Then no CA has signed for it,
    and the group has, or had, another attestation than its own.

    Args:
        group: that DPS found for it.
        registration: as DPS has it.
        identity: at its hub.
        rogue: whether nobody else may sign for the group: then a key of ours has signed the certificate, which the
            ledger does not know.
    """
    hub = str(registration.get("assignedHub") or "no hub")
    by_key = identity is not None and identity.authentication == SAS
    shown = ", ".join(sorted(identity.thumbprints)) if identity else "unknown"
    return Difference(
        kind=FindingKind.ROGUE_CERTIFICATE if rogue and not by_key else FindingKind.UNKNOWN_DEVICE,
        subject_kind=SubjectKind.DEVICE,
        subject=str(registration["registrationId"]).lower(),
        ledger="no such device was ever ordered",
        service=f"it is registered by the enrollment group {group.enrollment_group!r}, in {hub}, with "
        f"{'a symmetric key' if by_key else f'the certificate {shown}'}",
        where=DPS,
        enrollment_group=group.enrollment_group,
        certificate_authority=group.issuer,
    )


def rogue_enrollment(difference: Difference, certificate: HeldCertificate, authority: str) -> Difference:
    """Give the difference of an entry that accepts a certificate which a CA of ours has signed elsewhere.

    Args:
        difference: that it accepts another certificate than those of its device, which the ledger knows.
        certificate: the certificate.
        authority: the CA.
    """
    return replace(
        difference,
        kind=FindingKind.ROGUE_CERTIFICATE,
        ledger=f"{difference.ledger}, and {_NEVER}",
        service=f"its individual enrollment accepts {_signed(certificate, authority)}",
        certificate_authority=authority,
    )


def _signed(certificate: HeldCertificate, authority: str) -> str:
    return f"the certificate {certificate.serial_number} of the CA {authority!r} (SHA-256 {certificate.thumbprint})"


def unknown_enrollment(
    entry: Mapping[str, Any],
    registration: Mapping[str, Any] | None,
    present: Attestation,
    *,
    asked_for: bool,
    rogue: tuple[HeldCertificate, str] | None,
    group: str | None,
) -> Difference:
    """Give the difference of an individual enrollment that the ledger knows no device for.

    Args:
        entry: as DPS has it; it lets its device in.
        registration: of its device; ``None`` without one.
        present: what it accepts.
        asked_for: whether the app has made it, for a device that is known to others alone.
        rogue: one of them that a CA of ours has signed and the ledger does not have, and that CA.
        group: the enrollment group that has this CA.
    """
    if rogue is not None:
        accepts = _signed(*rogue)
    elif present.kind is AttestationKind.CLIENT_CERTIFICATES and present.held:
        accepts = ", ".join(f"the certificate {each.shown} of {each.issuer or 'unknown'}" for each in present.held)
    else:
        accepts = present.words
    ledger = "it was asked for with certificates of its device" if asked_for else "no such device was ever ordered"
    hub = str((registration or {}).get("assignedHub") or "")
    return Difference(
        kind=FindingKind.ENROLLMENT_UNKNOWN if rogue is None else FindingKind.ROGUE_CERTIFICATE,
        subject_kind=SubjectKind.DEVICE,
        subject=str(entry["registrationId"]).lower(),
        ledger=ledger + ("" if rogue is None else f", and {_NEVER}"),
        service=f"its individual enrollment is enabled, and accepts {accepts}{_PLACED}"
        f"{f'in {hub}' if hub else 'in no hub'}",
        where=DPS,
        enrollment_group=group,
        certificate_authority=rogue[1] if rogue is not None else None,
    )
