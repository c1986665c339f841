"""The entries of DPS (enrollment groups and individual enrollments): what can be set, and under which conditions.

Pure: each function gives a new entry for the one that was read.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import attestation_of, same_attestation
from shared.domain.group_signers import OF_GROUPS, with_references
from shared.domain.groups import STATUS
from shared.errors import Conflict, PreconditionFailed
from shared.rules.etags import ANY_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from shared.domain.attestations import Entry
    from shared.domain.groups import Change
    from shared.errors import Rejected

_PLACES = {
    "allocationPolicy": "allocationPolicy",
    "customAllocation": "customAllocationDefinition",
    "iotHubs": "iotHubs",
    "initialTwin.tags": "initialTwin.tags",
    "initialTwin.properties.desired": "initialTwin.properties.desired",
    "reprovisionPolicy.updateHubAssignment": "reprovisionPolicy.updateHubAssignment",
    "reprovisionPolicy.migrateDeviceData": "reprovisionPolicy.migrateDeviceData",
    "iotEdge": "capabilities.iotEdge",
}
"""Where in an entry DPS has what a request sets, each by its path."""

_INFORMATION = "optionalDeviceInformation"
"""What a webhook is given beside the twin (``IndividualEnrollment`` of the service API). No request sets it."""

_ABSENT: dict[str, Entry] = {"reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True}}
"""What DPS takes a part for that an entry does not have, where it wants that part whole."""


def values_of(settings: BaseModel) -> dict[str, Any]:
    """Give what a request sets, by its place in an entry; ``None`` for what is to be taken out of it."""
    body = settings.model_dump(mode="json", by_alias=True)
    found = {place: value for path, place in _PLACES.items() if (value := _at(body, path)) is not None}
    if "allocationPolicy" in found:
        found.setdefault("customAllocationDefinition", None)  # a webhook goes with the policy it belongs to
    return found


def _at(body: Any, path: str) -> Any:
    for name in path.split("."):
        body = body.get(name) if body is not None else None
    return body


def whole(settings: Mapping[str, Any], present: Entry | None) -> dict[str, Any]:
    """Give settings by their place in an entry, with ``None`` for what an entry has beside them."""
    places = (*_PLACES.values(), _INFORMATION)
    return {place: value for place in places if (value := _at(settings, place)) is not None or _at(present, place)}


def with_values(entry: Entry, values: Mapping[str, Any]) -> Entry:
    """Put values into an entry, each at its place; everything else stays."""
    changed = deepcopy(entry)
    for path, value in values.items():
        *above, last = path.split(".")
        part = changed
        for name in above:
            part[name] = part.get(name) or dict(_ABSENT.get(name, {}))
            part = part[name]
        if value is None:
            part.pop(last, None)
        else:
            part[last] = value
    return changed


# --- groups ---


def group_entry(group_id: str, attestation: Entry, status: str = "enabled") -> Entry:
    """Give the entry of a group for which nothing else was asked."""
    return {
        "enrollmentGroupId": group_id,
        "attestation": attestation,
        STATUS: status,
        "allocationPolicy": "hashed",
        "reprovisionPolicy": dict(_ABSENT["reprovisionPolicy"]),
    }


def with_change(entry: Entry, change: Change, *, is_made: bool = False) -> Entry:
    """Give the entry of a group as a change wants it; what that does not name stays.

    One that was made for the change is disabled until then.

    Raises:
        Conflict: it names CAs by reference, and the group holds its issuing CA's certificate itself.
    """
    changed = with_values(entry, change.settings)
    if is_made or STATUS in change.asked:
        changed[STATUS] = change.state.value
    return with_references(changed, change.ca_references) if change.ca_references else changed


def taken_over(entry: Entry, wanted: Entry) -> Entry:
    """Give an entry that is there as a new group wants it to be.

    Raises:
        Conflict: it lets in devices of other CAs.
    """
    if not same_attestation(entry, wanted):
        raise foreign(wanted["enrollmentGroupId"], entry)
    return {**entry, **{name: value for name, value in wanted.items() if name != "attestation"}}


def foreign(group_id: str, entry: Entry) -> Rejected:
    """Say that DPS has a group of that id that is not the app's."""
    present = attestation_of(entry)
    by = "other CAs" if present.kind in OF_GROUPS else present.words
    return Conflict.because(
        f"the DPS has an enrollment group {group_id!r} that this app did not make, and its devices are let in by {by}; "
        "delete it there, or take another id",
        field="enrollmentGroup",
    )


_KEPT = (
    "allocationPolicy",
    "customAllocationDefinition",
    "iotHubs",
    "initialTwin",
    "reprovisionPolicy",
    "capabilities",
    _INFORMATION,
)


def kept_settings(entry: Entry) -> dict[str, Any]:
    """Give what a group's entry has beside its attestation and its status: what others may change unseen."""
    return {name: entry[name] for name in _KEPT if entry.get(name) is not None}


def settings_after(noted: Mapping[str, Any] | None, change: Change, written: Entry) -> dict[str, Any]:
    """Give what a group's entry is to have beside attestation and status, when DPS has followed a change.

    What the change names is as DPS has it now. Everything else is as it was wanted before, not as others have made it.

    Args:
        noted: what it was to have before; ``None`` if that is not known, as of a new group.
        change: what DPS has followed.
        written: the entry as DPS has it now.
    """
    if noted is None:
        return kept_settings(written)
    return with_values({**noted}, {place: _at(written, place) for place in change.settings})


# --- individual enrollments ---


def new_enrollment(registration_id: str) -> Entry:
    """Give an individual enrollment for which nothing else was asked, without its attestation."""
    return {
        "registrationId": registration_id,
        "deviceId": registration_id,
        STATUS: "enabled",
        "allocationPolicy": "hashed",
        "reprovisionPolicy": dict(_ABSENT["reprovisionPolicy"]),
    }


def own_settings(enrollment: Entry) -> dict[str, Any]:
    """Give what an individual enrollment has beside its attestation and its status, its device id among it."""
    device_id = enrollment.get("deviceId")
    own = device_id is not None and device_id != str(enrollment["registrationId"]).lower()
    return {**kept_settings(enrollment), **({"deviceId": device_id} if own else {})}


def device_id_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give what an operator has set of an entry that follows its group: no more than a device id."""
    return {name: value for name, value in settings.items() if name == "deviceId"}


def with_own_settings(enrollment: Entry, settings: Mapping[str, Any]) -> Entry:
    """Give an individual enrollment with these settings, as :func:`own_settings` gives them, and no others."""
    rest = {name: value for name, value in enrollment.items() if name not in _KEPT}
    return {**rest, "deviceId": str(enrollment["registrationId"]).lower(), **settings}


def with_named(enrollment: Entry, settings: BaseModel, device_id: str | None) -> Entry:
    """Give an individual enrollment with the settings that a request names, and the device id; the others stay."""
    changed = with_values(enrollment, values_of(settings))
    return {**changed, "deviceId": device_id} if device_id is not None else changed


# --- settings that are compared ---

_TAKEN = {
    "allocationPolicy": "hashed",
    "reprovisionPolicy.updateHubAssignment": True,
    "reprovisionPolicy.migrateDeviceData": True,
    "capabilities.iotEdge": False,
}
"""What is taken for a setting that an entry does not have. DPS shows ``capabilities`` and ``reprovisionPolicy`` of an
entry for which they were not asked, and does not show an initial twin in which nothing is (MicrosoftDocs/azure-docs,
articles/iot-dps/how-to-use-custom-allocation-policies.md: the entry in the webhook's log is of an
``az iot dps enrollment-group create``, which sends an empty twin, as the log in Azure/azure-cli#26889 has it). Both
parts of the reprovision policy are true by default (Microsoft: ``ReprovisionPolicy`` class of the service SDK)."""

_PLACES_COMPARED = (*_PLACES.values(), _INFORMATION, "deviceId")

_NOT_SHOWN = frozenset(
    {"customAllocationDefinition", "initialTwin.tags", "initialTwin.properties.desired", _INFORMATION}
)
"""A webhook's URL may have its key in it, and whatever the owner likes stands in a twin."""


def settings_apart(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> tuple[str, str] | None:
    """Compare the settings of an entry with those that it is to have; what DPS fills in by itself does not count.

    Returns:
        What is wanted where they differ, and what is there, in words; ``None`` if they do not.
    """
    pairs = [(place, _set(wanted, place), _set(present, place)) for place in _PLACES_COMPARED]
    apart = [each for each in pairs if each[1] != each[2]]
    if not apart:
        return None
    ours = (
        f"{place} is {'as it was last asked for' if place in _NOT_SHOWN else _text(own)}" for place, own, _ in apart
    )
    theirs = (f"{place} is {'otherwise' if place in _NOT_SHOWN else _text(there)}" for place, _, there in apart)
    return ", ".join(ours), ", ".join(theirs)


def _set(settings: Mapping[str, Any], place: str) -> Any:
    value = _at(settings, place)
    if value is None or value in ({}, []):
        return _TAKEN.get(place)
    return sorted(each.lower() for each in value) if place == "iotHubs" else value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "not set" if value is None else ", ".join(value) if isinstance(value, list) else str(value)


# --- conditions ---


def check_etag(what: str, present: str, expected: str | None) -> None:
    """Compare an entry's ETag with those that its writer expects.

    Args:
        what: names the entry, for messages.
        present: its ETag.
        expected: a list of ETags, or ``*``, as in ``If-Match``; ``None`` for any.

    Raises:
        PreconditionFailed: it has none of these.
    """
    if expected is None or _is_among(present, expected):
        return
    raise PreconditionFailed.because(
        f"{what} was changed since it was read: its ETag is {present.strip('"')!r}, and the request expects "
        f"{expected.strip('"')!r}; read it again and decide anew",
        field="ifMatch",
    )


def check_conditions(what: str, present: str | None, expected: str | None, unwanted: str | None = None) -> None:
    """Compare an entry's ETag, ``None`` without an entry, with what its writer expects it to be, and not to be.

    Raises:
        PreconditionFailed: it is otherwise (RFC 9110 section 13.1).
    """
    if present is None and expected is not None:
        raise PreconditionFailed.because(
            f"{what} does not exist, and the request expects {expected.strip('"')!r}: leave it out to create one",
            field="ifMatch",
        )
    if present is not None and unwanted is not None and _is_among(present, unwanted):
        raise PreconditionFailed.because(
            f"{what} exists, with ETag {present.strip('"')!r}, and the request does not want {unwanted.strip('"')!r}",
            field="ifNoneMatch",
        )
    if present is not None:
        check_etag(what, present, expected)


def _is_among(etag: str, tags: str) -> bool:
    """Look for an ETag in a list; a weak one matches none (RFC 9110 section 13.1.1)."""
    return tags.strip() == ANY_VERSION or etag.strip('"') in {tag.strip().strip('"') for tag in tags.split(",")}


def place_of(registration: Mapping[str, Any]) -> tuple[str, str] | None:
    """Give the hub, and the device id there, of a registration record; ``None`` if DPS has assigned none."""
    hub, device_id = registration.get("assignedHub"), registration.get("deviceId")
    return (str(hub), str(device_id)) if hub and device_id else None
