"""Under which name a CA is here: one name for one CA, and one CA for one name."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.public_keys import PublicKeyRecord
from shared.errors import Conflict, Deferred, Overtaken
from shared.ledger.table import Stale
from shared.workflows.authorities.keys import WRAPPING_KEY
from shared.workflows.key_owners import check_never_a_devices

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.authorities import AuthorityRecord
    from shared.errors import Rejected
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ledger.public_keys import PublicKeys
    from shared.ledger.table import Versioned

_GIVEN_BACK = timedelta(seconds=1)


def check_name(name: str) -> None:
    """See that a CA may have a name.

    Raises:
        Conflict: the vault's key that wraps others has it.
    """
    if name.lower() == WRAPPING_KEY:
        raise Conflict.because(
            f"{name!r} is the name of the vault's key that wraps others; choose another name", field="name"
        )


def check_holder(holder: AuthorityRecord, name: str, fingerprint: str) -> None:
    """See that the CA that has a name is the one that is meant.

    Raises:
        Conflict: it is another one.
    """
    if holder.name != name:
        raise Conflict.because(
            f"the CA {holder.name!r} exists, and the names of vault keys can't differ by case alone; choose "
            "another name",
            field="name",
        )
    if holder.fingerprint != fingerprint:
        raise Conflict.because(
            f"{name!r} exists as {holder.kind} CA of another definition; choose another name", field="name"
        )


async def claim_name(records: Authorities, record: AuthorityRecord) -> Versioned[AuthorityRecord]:
    """Take a CA's name, or find that it was taken for the same CA.

    Raises:
        Conflict: it was taken for another one.
        Deferred: it was given back at this moment.
    """
    check_name(record.name)
    made = await records.try_insert(record)
    if made is not None:
        return made
    holder = await records.holder(record.name)
    if holder is None:
        raise Deferred(f"the name {record.name!r} was just given back; it can be taken", retry_after=_GIVEN_BACK)
    check_holder(holder.record, record.name, record.fingerprint)
    return holder


async def claim_identity(records: Authorities, identity: str, name: str) -> None:
    """See that a CA is here under one name: each name would have a list with half of the truth.

    Raises:
        Conflict: it is here under another one.
        Overtaken: others claim it at this moment.
    """
    try:
        holder = await records.claim_identity(identity, name)
    except Stale:
        raise Overtaken(f"others bring the CA {name!r} along at this moment") from None
    if holder != name:
        raise same_authority(holder)


async def claim_key(public_keys: PublicKeys, devices: Devices, fingerprint: str, name: str, at: datetime) -> None:
    """See that the key of a CA is not, and was not, a device's, and that devices can't have it.

    Args:
        public_keys: whose keys are whose.
        devices: all devices: one may have claimed it in vain.
        fingerprint: SHA-256 of the SubjectPublicKeyInfo, hexadecimal.
        name: of the CA.
        at: now.

    Raises:
        Conflict: it is a device's, or was, or it is compromised.
        Overtaken: others claim it at this moment.
    """
    claim = PublicKeyRecord(fingerprint=fingerprint, registration_id="", authority=name, recorded_at=at)
    try:
        known = await public_keys.claim(claim)
        if known.record.authority is None:
            await check_never_a_devices(devices, known.record, field="name")
            await public_keys.replace(known, claim)
    except Stale:
        raise Overtaken(f"others claim the key of the CA {name!r} at this moment") from None


def same_authority(name: str) -> Rejected:
    """Say that a CA is here under a name."""
    return Conflict.because(
        f"this CA is here as {name!r}: what makes a CA the same is its subject and its key; use it, and give it "
        "further certificates, under that name",
        field="name",
    )
