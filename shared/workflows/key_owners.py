"""Whose a public key is: one device's, or one CA's, and nobody's once it is compromised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.words import DeviceState, RevocationReason
from shared.errors import Conflict
from shared.workflows.entry_certificates import keys_of

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.domain.public_keys import PublicKeyRecord
    from shared.errors import Rejected
    from shared.ledger.devices import Devices

_COMPROMISE = RevocationReason.KEY_COMPROMISE


async def check_free(
    devices: Devices, known: PublicKeyRecord, registration_id: str, device: DeviceRecord | None, *, field: str
) -> None:
    """See that a device may have a key: it is its own already, or was claimed by another device in vain.

    Args:
        devices: all devices.
        known: whose the key is.
        registration_id: of the device.
        device: its record, as it was read; ``None`` if there is none.
        field: of the request that the key came in.

    Raises:
        Conflict: it is another device's or a CA's, or it is compromised.
    """
    # The device's record knows first, and is replaced as it was read.
    held = device.held if device else ()
    if any(each.public_key == known.fingerprint and each.reason is _COMPROMISE for each in held):
        raise _compromised(known, field)
    check_usable(known, field)
    if known.registration_id == registration_id:
        return
    owner = await devices.get(known.registration_id)
    if owner is not None and has_key(owner.record, known):
        raise of_another_device(known, field)


def check_usable(known: PublicKeyRecord, field: str) -> None:
    """See that a key may be a device's.

    Raises:
        Conflict: it is a CA's, or it is compromised.
    """
    if known.compromised:
        raise _compromised(known, field)
    if known.authority is not None:
        raise Conflict.because(
            f"its public key (SHA-256 {known.fingerprint}) is that of the CA {known.authority!r}; each device needs a "
            "key of its own",
            field=field,
        )


async def check_never_a_devices(devices: Devices, known: PublicKeyRecord, *, field: str) -> None:
    """See that a CA may have a key that a device has claimed: that was in vain.

    A deleted device's key can't be a CA's either, since others may have it.

    Raises:
        Conflict: it is a device's, or was, or it is compromised.
    """
    if known.compromised:
        raise _compromised(known, field)
    owner = await devices.get(known.registration_id)
    if known.is_confirmed or (owner is not None and _names_key(owner.record, known)):
        raise Conflict.because(
            f"its public key (SHA-256 {known.fingerprint}) is that of device {known.registration_id!r}; a CA needs a "
            "key of its own",
            field=field,
        )


def of_another_device(known: PublicKeyRecord, field: str) -> Rejected:
    """Say that a key is another device's."""
    return Conflict.because(
        f"its public key (SHA-256 {known.fingerprint}) is that of device {known.registration_id!r}; each device needs "
        "a key of its own",
        field=field,
    )


def has_key(owner: DeviceRecord, claim: PublicKeyRecord) -> bool:
    """Tell whether a key is its owner's; a claim that was in vain is not, and one under way is confirmed or lost."""
    if owner.state is DeviceState.DELETED:
        return False
    return claim.is_confirmed or _names_key(owner, claim)


def _names_key(owner: DeviceRecord, claim: PublicKeyRecord) -> bool:
    if claim.fingerprint in keys_of(owner.entry_change):
        return True
    return any(each.public_key == claim.fingerprint for each in owner.held)


def _compromised(known: PublicKeyRecord, field: str) -> Rejected:
    return Conflict.because(
        f"its public key (SHA-256 {known.fingerprint}) is compromised: a certificate with it was revoked for "
        "keyCompromise; make a new key",
        field=field,
    )
