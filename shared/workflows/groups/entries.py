"""The entries of groups in DPS: read, and what a request names there is checked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.entries import check_etag
from shared.errors import Deferred, NotFound, PreconditionFailed, Reason, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.contracts.groups import EntrySettings
    from shared.domain.attestations import Entry
    from shared.domain.groups import CaReferences
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService

RETRY = timedelta(seconds=2)
"""So long one waits for another writer."""


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


async def change_entry(
    provisioning: ProvisioningService,
    group_id: str,
    change: Callable[[Entry], Entry],
    *,
    if_match: str | None = None,
) -> None:
    """Change a group's entry. One that would stay as it is is not written, so that its ETag stays as well.

    Args:
        provisioning: the DPS.
        group_id: the group.
        change: gives the new entry for the present one.
        if_match: the ETag that the entry is expected to have; ``None`` for any.

    Raises:
        NotFound: DPS does not have it.
        PreconditionFailed: it has another ETag than is expected.
        Deferred: somebody else changed it meanwhile; the next try looks at what they made of it.
    """
    entry = await read_entry(provisioning, group_id)
    changed = change(entry)
    if changed == entry:
        return  # also what an earlier attempt did, which has changed the ETag
    check_etag(f"the enrollment group {group_id!r}", entry["etag"], if_match)
    try:
        await provisioning.put_group(changed, etag=entry["etag"])
    except PreconditionFailed as error:
        raise busy(group_id) from error


def busy(group_id: str) -> Deferred:
    """Tell that another writer was faster."""
    return Deferred(f"the enrollment group {group_id!r} is being changed by someone else", retry_after=RETRY)


# --- what DPS must have ---


async def check_hubs(resource: DpsCaCertificates | None, settings: EntrySettings) -> None:
    """See that a request's hubs are linked to the DPS, where its management API can be asked.

    Raises:
        Rejected: for each one that is not.
    """
    if resource is None or settings.iot_hubs is None:
        return
    linked = await resource.linked_hubs()
    known = {hub.lower() for hub in linked}
    reasons = [
        Reason(f"iotHubs[{index}]", f"{hub!r} is not linked to the DPS; linked are {', '.join(sorted(linked))}")
        for index, hub in enumerate(settings.iot_hubs)
        if hub.lower() not in known
    ]
    if reasons:
        raise Rejected(*reasons)


async def check_references(resource: DpsCaCertificates | None, references: CaReferences | None) -> None:
    """See that what a request refers to is verified in the DPS, where its management API can be asked.

    Raises:
        Rejected: for each reference that is not.
    """
    if resource is None or references is None:
        return
    verified = {authority.name for authority in await resource.verified()}
    given = {"primary": references.primary, "secondary": references.secondary}
    reasons = [
        Reason(
            f"caReferences.{place}",
            f"no CA certificate named {name!r} is verified in the DPS; verified are "
            f"{', '.join(sorted(verified)) or 'none'}: upload it there and prove possession of its key",
        )
        for place, name in given.items()
        if name is not None and name not in verified
    ]
    if reasons:
        raise Rejected(*reasons)
