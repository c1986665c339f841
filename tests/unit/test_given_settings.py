"""What a device's own entry in DPS is given: what an operator has set, or what its group has, with the device's tags."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.devices import DeviceRecord
from shared.domain.given_settings import Given, given, given_device_id, outdated
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.words import DeviceState, RevocationReason

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DESIRED = {"desired": {"rate": 1}}
GROUP: dict[str, Any] = {
    "allocationPolicy": "static",
    "iotHubs": ["hub-1"],
    "initialTwin": {"tags": {"plant": "north", "at": {"hall": 1, "row": 2}}, "properties": DESIRED},
}


def device(**fields: Any) -> DeviceRecord:
    record = DeviceRecord(
        registration_id="press", state=DeviceState.REGISTERED, order_id="o", updated_at=NOW, enrollment_group="line"
    )
    return record.changed(**fields)


def group(settings: dict[str, Any] | None = GROUP) -> GroupRecord:
    return GroupRecord(
        enrollment_group="line",
        state=GroupState.ENABLED,
        issuer="ca",
        updated_at=NOW,
        last_request="r",
        entry_settings=settings,
    )


def test_an_entry_has_what_the_group_has_and_the_tags_of_the_device_above_those_of_the_group() -> None:
    """Tag by tag, at every level; without tags of its own the device has the group's."""
    assert given(device(), group()).settings == GROUP
    assert given(device(tags={"at": {"row": 7}, "customer": "c"}), group()).settings == {
        **GROUP,
        "initialTwin": {
            "tags": {"plant": "north", "at": {"hall": 1, "row": 7}, "customer": "c"},
            "properties": DESIRED,
        },
    }
    assert given(device(tags={"customer": "c"}), group({"iotHubs": ["hub-1"]})).settings == {
        "iotHubs": ["hub-1"],
        "initialTwin": {"tags": {"customer": "c"}},
    }


def test_tags_that_no_twin_takes_beside_those_of_the_group_are_left_out() -> None:
    """Each is within the 8 KB that a twin takes of tags; DPS would store both, and the hub refuse the device."""
    large = {"initialTwin": {"tags": {"a": "x" * 4000}}}
    assert given(device(tags={"b": "x" * 4000}), group(large)).settings == {
        "initialTwin": {"tags": {"a": "x" * 4000, "b": "x" * 4000}}
    }
    assert given(device(tags={"b": "x" * 4000, "c": "x" * 4000}), group(large)).settings == large


@pytest.mark.parametrize(
    ("own", "of_group", "settings", "follows"),
    [
        (None, GROUP, GROUP, True),
        ({"deviceId": "p-1"}, GROUP, {**GROUP, "deviceId": "p-1"}, True),
        ({"iotHubs": ["hub-9"]}, GROUP, {"iotHubs": ["hub-9"]}, False),
        ({"deviceId": "p-1"}, None, {"deviceId": "p-1"}, False),
        (None, None, None, False),
    ],
)
def test_an_operator_who_sets_more_than_the_device_id_takes_the_entry_over(
    own: dict[str, Any] | None, of_group: dict[str, Any] | None, settings: dict[str, Any] | None, *, follows: bool
) -> None:
    wants = given(device(entry_settings=own), group(of_group))
    assert (wants.settings, wants.follows) == (settings, follows)
    assert given(device(entry_settings=own), None) == Given(own)


def test_a_device_is_registered_by_its_registration_id_unless_another_id_was_set() -> None:
    assert given_device_id("press", given(device(), group())) == "press"
    assert given_device_id("press", given(device(entry_settings={"deviceId": "p-1"}), group())) == "p-1"
    assert given_device_id("press", Given()) == "press"


def test_an_entry_that_the_app_has_made_is_outdated_when_its_group_or_its_device_s_tags_have_changed() -> None:
    """One that shuts the device out, or that others have made, is left as it is."""
    wants, changed = given(device(), group()), given(device(), group({**GROUP, "iotHubs": ["hub-2"]}))
    made = device(own_entry=True, entry_settings={}, entry_follows=wants.digest)
    assert not outdated(made, wants, NOW)
    assert outdated(made, changed, NOW)
    assert outdated(made, given(device(tags={"customer": "c"}), group()), NOW)
    set_by_operator = made.changed(entry_settings={"iotHubs": ["hub-9"]})
    assert not outdated(set_by_operator, given(set_by_operator, group()), NOW)
    assert not outdated(made.changed(state=DeviceState.REVOKED, revoked=RevocationReason.KEY_COMPROMISE), changed, NOW)
    assert not outdated(made.changed(entry_settings=None), changed, NOW), "it is not known what it has"
    assert not outdated(device(entry_settings={}), changed, NOW), "others have made it"
