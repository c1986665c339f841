"""What the individual enrollment of a device is to have beside its certificates and its status.

DPS looks for a device's individual enrollment before it looks for a group, and the first entry that it finds decides
(Microsoft: "How to disenroll or revoke a device", ``iot-dps/how-to-revoke-device-access``). That entry names the hubs,
or the policy that chooses one (Microsoft: "How to manage device enrollments"). So an entry that the app makes for a
device of a group has what the group has: hubs, allocation policy with its webhook, initial twin, reprovision policy and
capabilities. It follows when these change. An operator who sets one of them for the device takes the entry over: from
then on it has what the operator has set, and for the rest what the group had then.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.domain.wanted import wanted
from shared.rules.twin_limits import TAGS_LIMIT, twin_fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.domain.devices import DeviceRecord
    from shared.domain.groups import GroupRecord

_DEVICE_ID = "deviceId"


@dataclass(frozen=True, slots=True)
class Given:
    """What an individual enrollment is to have beside certificates and status.

    Attributes:
        settings: by their names; ``None`` if they are not known.
        digest: tells those of the group from others; ``None`` if the entry does not follow a group.
    """

    settings: Mapping[str, Any] | None = None
    digest: str | None = None

    @property
    def follows(self) -> bool:
        """Whether the entry has what its group has."""
        return self.digest is not None


UNKNOWN = Given()


def given(record: DeviceRecord, group: GroupRecord | None) -> Given:
    """Give what the individual enrollment of a device is to have: what an operator has set, or else what its group has.

    Args:
        record: of the device.
        group: its own; ``None`` if it has none.
    """
    own = record.entry_settings
    is_set = bool(own and own.keys() - {_DEVICE_ID})  # a group has no device id, so that alone leaves the rest to it
    if is_set or group is None or group.entry_settings is None:
        return Given(own)
    settings = _with_tags(group.entry_settings, record.tags)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return Given({**settings, **(own or {})}, digest)


def given_device_id(registration_id: str, wants: Given) -> str:
    """Give the id under which DPS is to register a device: its registration id, unless an operator has set another."""
    return str((wants.settings or {}).get(_DEVICE_ID) or registration_id)


def outdated(record: DeviceRecord, wants: Given, now: datetime) -> bool:
    """Tell whether a device's own entry was made by the app, and with other settings than its group has now.

    An entry that somebody else has made is theirs, also where it is not known yet what it has.
    """
    if record.shut_out or record.entry_settings is None or not wants.follows or record.entry_follows == wants.digest:
        return False
    return record.entry_follows is not None or wanted(record, now).own_entry


def _with_tags(settings: Mapping[str, Any], tags: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give a group's settings with the tags that a device was ordered with, as far as a twin takes both."""
    twin = settings.get("initialTwin") or {}
    both = _merged(twin.get("tags") or {}, tags or {})
    if not tags or twin_fault(both, TAGS_LIMIT) is not None:
        return dict(settings)
    return {**settings, "initialTwin": {**twin, "tags": both}}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        present = merged.get(name)
        merged[name] = _merged(present, value) if isinstance(present, dict) and isinstance(value, dict) else value
    return merged
