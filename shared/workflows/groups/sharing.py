"""Which group has which CA: DPS finds a device's group by its CA, so an issuing CA is in one group at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import Conflict

if TYPE_CHECKING:
    from shared.ledger.groups import Groups


async def check_free(groups: Groups, group_id: str, authority: str, *, by_reference: bool = False) -> None:
    """See that no other group has a CA: DPS would register the devices of both in one of them.

    Groups that attest by reference share a CA, since it is in none of them.

    Args:
        groups: all groups.
        group_id: the one that is to have it.
        authority: name of the CA.
        by_reference: whether that group attests by reference.

    Raises:
        Conflict: another one has it.
    """
    for other in await groups.having({authority}):
        shared = by_reference and other.ca_references is not None
        if other.enrollment_group != group_id and not shared:
            raise Conflict.because(
                f"{authority!r} is an issuing CA of the enrollment group {other.enrollment_group!r}, and DPS finds a "
                "device's group by its CA; name another, or leave it out to have one made",
                field="issuer",
            )
