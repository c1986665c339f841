"""Checks at rest: what must be true of a group, whatever was asked for and whatever broke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.messages import Queue
from shared.domain.audit import group_faults
from shared.domain.groups import STATUS, GroupState
from tests.world.auditor import audit, told_by
from tests.world.groups_world import thumbprint
from tests.world.world import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.domain.attestations import Entry
    from shared.domain.groups import GroupRecord
    from tests.world.groups_world import GroupWorld
    from tests.world.world import Asked

_EXISTENCE = ("create", "put", "delete the group")
_STATUS = ("disable the group", "enable the group")


async def audit_groups(world: GroupWorld) -> list[str]:
    """Give everything that is wrong, also with the device; nothing if all is well."""
    found, record = await audit(world), world.group()
    found += messages_at_rest(world)
    if record is None:
        return [*found, *(["DPS has a group that the ledger does not know"] if world.provisioning.groups else [])]
    entry = world.provisioning.groups.get(GROUP)
    if not (world.killed_late and is_left_disabled(record, entry)):
        found += group_faults(record, entry, {name: thumbprint(name) for name in world.authorities.made})
    found += _outcome(world, record)
    return found


def is_left_disabled(record: GroupRecord, entry: Entry | None) -> bool:
    """Tell whether DPS has a disabled entry of a deleted group: a worker has made it too late, and was killed then."""
    return record.state is GroupState.DELETED and (entry or {}).get(STATUS) == GroupState.DISABLED


def _about_groups(world: GroupWorld) -> list[Asked]:
    """Give the requests about the group, in the order in which they were made."""
    return [asked for asked in world.asked.values() if asked.queue is Queue.ENROLLMENT_GROUP_REQUESTS]


def messages_at_rest(world: GroupWorld) -> Iterator[str]:
    """No request waits for ever, and each one is told once: that it is done, or that it is refused."""
    told = told_by(world)
    for asked in _about_groups(world):
        request_id = asked.body["requestId"]
        done, refused = (("EnrollmentGroupChanged", request_id) in told, ("RequestRejected", request_id) in told)
        if world.lying(asked):
            yield f"{asked.name} waits"
        elif done == refused:
            yield f"{asked.name} was told as {'done and as refused' if done else 'nothing'}"
        elif refused != world.rejected(asked):
            yield f"{asked.name} was {'refused' if not refused else 'not refused'}, and told otherwise"


def _outcome(world: GroupWorld, record: GroupRecord) -> Iterator[str]:
    """Of two requests that contradict each other the later one decides."""
    names = [asked.name for asked in _about_groups(world) if not world.rejected(asked)]
    existence = [name for name in names if name in _EXISTENCE]
    exists = record.state is not GroupState.DELETED
    if existence and exists == (existence[-1] == "delete the group"):
        yield f"the last request was {existence[-1]}, and the group is {record.state}"
    status = [name for name in names if name in _STATUS]
    if status and not existence and record.state not in {f"{name.split()[0]}d" for name in status[-1:]}:
        yield f"the last request was {status[-1]}, and the group is {record.state}"
    entry = world.provisioning.groups.get(GROUP) or {}
    if exists and names[-1:] == ["put"] and entry.get("allocationPolicy") != "static":
        yield "the last request was put, and its setting is not in DPS"
    if exists and names[-1:] == ["update"] and entry.get("capabilities") != {"iotEdge": True}:
        yield "the last request was update, and its setting is not in DPS"
