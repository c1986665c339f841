"""How an enrollment group's entry in DPS is changed: read, changed, and written under the ETag it was read with."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.adapters.dps_service import x509_attestation
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Rejected
from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from shared.adapters.dps_service import ProvisioningService

    type Entry = dict[str, Any]


async def read_entry(provisioning: ProvisioningService, group_id: str) -> Entry:
    """Read a group's entry.

    Raises:
        NotFound: DPS does not have it.
    """
    entry = await provisioning.get_group(group_id)
    if entry is None:
        raise NotFound.because(
            f"the enrollment group {group_id!r} is gone from the DPS; create it anew", field="enrollmentGroup"
        )
    return entry


async def change_entry(provisioning: ProvisioningService, group_id: str, change: Callable[[Entry], Entry]) -> None:
    """Change a group's entry. One that would stay as it is is not written, so that its ETag stays as well.

    Args:
        provisioning: the DPS.
        group_id: the group.
        change: gives the new entry for the present one.

    Raises:
        NotFound: DPS does not have it.
        Deferred: somebody else changed it meanwhile; the next try looks at what they made of it.
    """
    entry = await read_entry(provisioning, group_id)
    changed = change(entry)
    if changed == entry:
        return
    try:
        await provisioning.put_group(changed, etag=entry["etag"])
    except PreconditionFailed as error:
        raise busy(group_id) from error


def busy(group_id: str) -> Deferred:
    """Tell that another writer was faster."""
    return Deferred(
        f"the enrollment group {group_id!r} is being changed by someone else", retry_after=timedelta(seconds=2)
    )


# --- which CAs a group accepts ---


def signers(entry: Entry) -> tuple[str | None, str | None]:
    """Give the SHA-256 thumbprints of a group's primary and secondary signing certificates."""
    certificates = entry["attestation"]["x509"].get("signingCertificates") or {}
    primary, secondary = (
        str(held["info"]["sha256Thumbprint"]).upper() if (held := certificates.get(place)) else None
        for place in ("primary", "secondary")
    )
    return primary, secondary


def check_alone(entry: Entry, certificate: x509.Certificate) -> None:
    """See that a group accepts one CA, and no other.

    Raises:
        Conflict: it accepts others.
    """
    present = signers(entry)
    if present != (names.sha256_thumbprint(certificate), None):
        raise _foreign(entry, present)


def with_next(entry: Entry, source: x509.Certificate, target: x509.Certificate) -> Entry:
    """Let a group accept the next CA beside the present one.

    Raises:
        Conflict: it accepts others than these, which may have devices.
    """
    present, wanted = signers(entry), (names.sha256_thumbprint(source), names.sha256_thumbprint(target))
    if present == wanted:
        return entry
    if present != (wanted[0], None):
        raise _foreign(entry, present)
    return {**entry, "attestation": x509_attestation(source, target)}


def without_previous(entry: Entry, source: x509.Certificate, target: x509.Certificate) -> Entry:
    """Let a group accept the CA that took over alone: it becomes primary, and the secondary place is free again.

    Raises:
        Conflict: it accepts others than these, which may have devices.
    """
    present, both = signers(entry), (names.sha256_thumbprint(source), names.sha256_thumbprint(target))
    if present == (both[1], None):
        return entry
    if present != both:
        raise _foreign(entry, present)
    return {**entry, "attestation": x509_attestation(target)}


def _foreign(entry: Entry, present: tuple[str | None, str | None]) -> Rejected:
    primary, secondary = (thumbprint or "none" for thumbprint in present)
    return Conflict.because(
        f"in the DPS the enrollment group {entry['enrollmentGroupId']!r} has other signing certificates than this app "
        f"put there (SHA-256 of the primary {primary}, of the secondary {secondary}); replacing them could cut devices "
        "off: put them right in the DPS first",
        field="action",
    )
