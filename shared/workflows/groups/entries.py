"""The entries of groups in DPS: read, and what a request names there is checked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.groups import ChangeAction, GroupState
from shared.errors import Deferred, NotFound, Reason, Rejected

if TYPE_CHECKING:
    from shared.contracts.groups import EntrySettings
    from shared.domain.attestations import Entry
    from shared.domain.groups import CaReferences, GroupRecord
    from shared.ledger.groups import Groups
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService

RETRY = timedelta(seconds=2)
"""So long one waits for another writer."""

SHUTTING: frozenset[str] = frozenset({ChangeAction.DISABLE, ChangeAction.DELETE})
"""What lets nobody in. All else waits while the ledger is an older one, which may not know what was shut since."""


async def read_entry(provisioning: ProvisioningService, group_id: str) -> Entry:
    """Read a group's entry.

    Raises:
        NotFound: DPS does not have it.
    """
    entry = await provisioning.get_group(group_id)
    if entry is None:
        raise gone(group_id)
    return entry


def busy(group_id: str) -> Deferred:
    """Tell that another writer was faster."""
    return Deferred(f"{named(group_id)} is being changed by someone else", retry_after=RETRY)


def gone(group_id: str) -> Rejected:
    """Tell that DPS does not have a group's entry any more."""
    return NotFound.because(f"{named(group_id)} is gone from the DPS; create it anew", field="enrollmentGroup")


def unknown(group_id: str) -> Rejected:
    """Tell that a group does not exist."""
    return NotFound.because(f"{named(group_id)} does not exist", field="enrollmentGroup")


async def existing(groups: Groups, group_id: str) -> GroupRecord:
    """Find a group that was not deleted.

    Raises:
        NotFound: it does not exist.
    """
    known = await groups.get(group_id)
    if known is None or known.record.state is GroupState.DELETED:
        raise unknown(group_id)
    return known.record


def named(group_id: str) -> str:
    """Name a group in messages."""
    return f"the enrollment group {group_id!r}"


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
