"""Which CAs the entry of a group accepts, and which it is to accept next. Pure: each gives a new entry for the old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.attestations import (
    AttestationKind,
    attestation_of,
    reference_attestation,
    signers,
    x509_attestation,
)
from shared.errors import Conflict
from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from shared.domain.attestations import Attestation, Entry
    from shared.domain.groups import CaReferences, GroupRecord
    from shared.errors import Rejected

OF_GROUPS = frozenset({AttestationKind.SIGNING_CERTIFICATES, AttestationKind.CA_REFERENCES})
"""What the app writes into the entry of a group."""


def accepted(record: GroupRecord, entry: Entry, thumbprints: Mapping[str, str]) -> tuple[str, str]:
    """Say what a group is to accept, and what it accepts.

    Args:
        record: as the ledger has it.
        entry: as DPS has it.
        thumbprints: SHA-256 of the group's CAs, by their names.
    """
    present = attestation_of(entry)
    if record.ca_references is not None:
        kind, named = AttestationKind.CA_REFERENCES, record.ca_references.model_dump(exclude_none=True)
        wanted_ones, held = [named[place] for place in sorted(named)], list(present.references.values())
    else:
        kind, issuers = AttestationKind.SIGNING_CERTIFICATES, (record.previous_issuer, record.issuer)
        wanted_ones = [thumbprints.get(each, each) for each in issuers if each]
        held = [each.shown for each in present.held]
    shown = ", ".join(held) or "no CA"
    return ", ".join(wanted_ones) or "no CA", shown if present.kind is kind else present.words


def with_references(entry: Entry, wanted: CaReferences) -> Entry:
    """Let a group attest by other CA certificates of the DPS.

    Raises:
        Conflict: it holds its issuing CA's certificate itself, or attests otherwise.
    """
    present = _of_group(entry)
    if present.kind is not AttestationKind.CA_REFERENCES:
        raise Conflict.because(
            f"the enrollment group {entry['enrollmentGroupId']!r} holds the certificate of its issuing CA; that is "
            "changed by action 'roll', and caReferences belong to a group created with them",
            field="caReferences",
        )
    attestation = reference_attestation(wanted.primary, wanted.secondary)
    if present.references == attestation["x509"]["caReferences"]:
        return entry
    return {**entry, "attestation": attestation}


def check_alone(entry: Entry, certificate: x509.Certificate | None) -> None:
    """See that a group accepts one CA, and no other.

    Raises:
        Conflict: it accepts others.
    """
    if _of_group(entry).kind is AttestationKind.CA_REFERENCES:
        raise Conflict.because(
            f"the enrollment group {entry['enrollmentGroupId']!r} attests by caReferences; change them with action "
            "'update'",
            field="action",
        )
    present = _signers(entry)
    if certificate is None or present != (names.sha256_thumbprint(certificate), None):
        raise _other_signers(entry, present)


def check_place(entry: Entry, source: x509.Certificate, revoked: x509.Certificate | None) -> None:
    """See that a group accepts the CA that is leaving it, beside it one that was revoked or none, and no other.

    Raises:
        Conflict: it accepts others, which may have devices.
    """
    present, beside = _signers(entry), names.sha256_thumbprint(revoked) if revoked is not None else None
    if present not in {(names.sha256_thumbprint(source), each) for each in (beside, None)}:
        raise _other_signers(entry, present)


def with_next(
    entry: Entry, source: x509.Certificate, target: x509.Certificate, *, revoked: x509.Certificate | None = None
) -> Entry:
    """Let a group accept the next CA beside the present one, and instead of one that was revoked, if there is one.

    Raises:
        Conflict: it accepts others than these, which may have devices.
    """
    if _signers(entry) == (names.sha256_thumbprint(source), names.sha256_thumbprint(target)):
        return entry
    check_place(entry, source, revoked)
    return {**entry, "attestation": x509_attestation(source, target)}


def without_next(entry: Entry, source: x509.Certificate, target: x509.Certificate) -> Entry:
    """Let a group accept the next CA no more, if it is beside the present one; all else stays.

    A revoked CA that the next one had replaced does not come back: nobody is to be let in by it.
    """
    if signers(entry) != (names.sha256_thumbprint(source), names.sha256_thumbprint(target)):
        return entry
    return {**entry, "attestation": x509_attestation(source)}


def without_previous(entry: Entry, source: x509.Certificate, target: x509.Certificate) -> Entry:
    """Let a group accept the CA that took over alone: it becomes primary, and the secondary place is free again.

    Raises:
        Conflict: it accepts others than these, which may have devices.
    """
    present, both = _signers(entry), (names.sha256_thumbprint(source), names.sha256_thumbprint(target))
    if present == (both[1], None):
        return entry
    if present != both:
        raise _other_signers(entry, present)
    return {**entry, "attestation": x509_attestation(target)}


def _of_group(entry: Entry) -> Attestation:
    """Give what a group accepts, if it is what the app writes.

    Raises:
        Conflict: it is something else.
    """
    present = attestation_of(entry)
    if present.kind not in OF_GROUPS:
        raise Conflict.because(
            f"in the DPS the enrollment group {entry['enrollmentGroupId']!r} accepts {present.words}, and not what "
            "this app put there: mend the finding that says so, or put it right in the DPS first",
            field="action",
        )
    return present


def _signers(entry: Entry) -> tuple[str | None, str | None]:
    _of_group(entry)
    return signers(entry)


def _other_signers(entry: Entry, present: tuple[str | None, str | None]) -> Rejected:
    primary, secondary = ("none" if each is None else each or "not readable" for each in present)
    return Conflict.because(
        f"in the DPS the enrollment group {entry['enrollmentGroupId']!r} has other signing certificates than this app "
        f"put there (SHA-256 of the primary {primary}, of the secondary {secondary}); replacing them could cut devices "
        "off: put them right in the DPS first",
        field="action",
    )
