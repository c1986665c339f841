"""Twins and queries, as the service sees them: with ``azure-iot-hub``, and their rules by themselves."""

from __future__ import annotations

import base64
import uuid
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.iot.hub.models import QuerySpecification, Twin, TwinProperties
from hypothesis import given
from hypothesis import strategies as st
from msrest.exceptions import HttpOperationError

from emulator.platform.identity.tokens import IOT_HUB_AUDIENCE
from emulator.services.iot_hub import queries, twins
from emulator.services.iot_hub.errors import HubError
from emulator.tests.iot_hub_clients import registry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.iot.hub import IoTHubRegistryManager

    from emulator.tests.running import RunningEmulator

SHA1 = "0123456789ABCDEF0123456789ABCDEF01234567"


@pytest.fixture
def device_id() -> str:
    """An id that no other test has."""
    return f"twin-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def registry(emulator: RunningEmulator, device_id: str, monkeypatch: pytest.MonkeyPatch) -> IoTHubRegistryManager:
    """The registry of the shared emulator, with that device in it."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.ca_file)
    manager = registry_of(emulator.endpoints)
    manager.create_device_with_x509(device_id, SHA1, None, "enabled")
    return manager


def patch_of(desired: dict[str, Any] | None = None, tags: dict[str, Any] | None = None) -> Twin:
    return Twin(tags=tags, properties=TwinProperties(desired=desired))


def refused(action: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(HttpOperationError) as caught:
        action()
    return caught.value.response.status_code, caught.value.response.json()["Message"]


def test_a_new_twin(registry: IoTHubRegistryManager, device_id: str) -> None:
    """A new device has an empty twin at version 1 of both sections, with the identity's own fields beside it."""
    twin = registry.get_twin(device_id)
    assert (twin.etag, twin.version, twin.tags) == ("AAAAAAAAAAE=", 2, {})
    assert twin.device_etag == registry.get_device(device_id).etag
    assert (twin.status, twin.connection_state, twin.authentication_type) == ("enabled", "Disconnected", "selfSigned")
    assert twin.x509_thumbprint.primary_thumbprint == SHA1
    for section in (twin.properties.desired, twin.properties.reported):
        assert section["$version"] == 1
        assert set(section) == {"$metadata", "$version"}


def test_patches_merge(registry: IoTHubRegistryManager, device_id: str) -> None:
    """A patch adds, replaces, and deletes with null, on every level, in tags and desired properties alike."""
    registry.update_twin(device_id, patch_of({"a": {"x": 1, "y": 2}, "b": True}, {"site": {"hall": 1, "row": 2}}))
    changed = registry.update_twin(device_id, patch_of({"a": {"x": None, "z": 3}, "b": 0}, {"site": {"hall": None}}))
    assert twins.plain(changed.properties.desired) == {"a": {"y": 2, "z": 3}, "b": 0}
    assert changed.tags == {"site": {"row": 2}}
    assert (changed.properties.desired["$version"], changed.version) == (3, 4)
    assert base64.b64decode(changed.etag) == (3).to_bytes(8)
    assert registry.get_twin(device_id).as_dict() == changed.as_dict()


def test_metadata_tells_what_was_set_when(registry: IoTHubRegistryManager, device_id: str) -> None:
    """A patch stamps what it touches and everything above, and leaves the stamps of the rest."""
    first = registry.update_twin(device_id, patch_of({"a": {"x": 1, "y": 2}, "b": 3})).properties.desired["$metadata"]
    second = registry.update_twin(device_id, patch_of({"a": {"x": 5}})).properties.desired["$metadata"]
    assert second["b"] == first["b"]
    assert second["a"]["y"] == first["a"]["y"]
    touched = (second, second["a"], second["a"]["x"])
    assert {stamp["$lastUpdatedVersion"] for stamp in touched} == {3}
    assert len({stamp["$lastUpdated"] for stamp in touched}) == 1
    assert datetime.fromisoformat(second["$lastUpdated"]) > datetime.fromisoformat(first["$lastUpdated"])


def test_replacing(registry: IoTHubRegistryManager, device_id: str) -> None:
    """PUT leaves nothing of the tags and desired properties before it, and counts on."""
    registry.update_twin(device_id, patch_of({"a": 1, "b": {"c": 2}}, {"site": "north"}))
    replaced = registry.replace_twin(device_id, patch_of({"b": {"d": 4}}, {"hall": 7}))
    assert twins.plain(replaced.properties.desired) == {"b": {"d": 4}}
    assert replaced.tags == {"hall": 7}
    assert replaced.properties.desired["$version"] == 3
    assert set(replaced.properties.desired["$metadata"]) == {"$lastUpdated", "$lastUpdatedVersion", "b"}


def test_an_etag_guards_a_twin(registry: IoTHubRegistryManager, device_id: str) -> None:
    """Of two writers who read the same twin, the second one is told, and its change is not made."""
    read = registry.get_twin(device_id).etag
    registry.update_twin(device_id, patch_of(tags={"first": 1}), read)
    for action in (registry.update_twin, registry.replace_twin):
        assert refused(partial(action, device_id, patch_of(tags={"second": 2}), read)) == (
            412,
            "ErrorCode:PreconditionFailed;Precondition failed: Invalid ETag",
        )
    assert registry.get_twin(device_id).tags == {"first": 1}


def test_what_was_read_can_be_written_back(registry: IoTHubRegistryManager, device_id: str) -> None:
    """A twin as it was read, with its versions and metadata, is taken as a patch; the reported section is not."""
    registry.update_twin(device_id, patch_of({"a": 1}))
    twin = registry.get_twin(device_id)
    twin.properties.reported = {"forged": True}
    written = registry.update_twin(device_id, twin, twin.etag)
    assert twins.plain(written.properties.desired) == {"a": 1}
    assert "forged" not in written.properties.reported


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"leaf": 1}
    for _ in range(depth):
        value = {"in": value}
    return value


LIMITS = [
    ({"a.b": 1}, "has the name 'a.b'; a name has 1 to 1024 bytes and no control character, '.', '$' or space."),
    ({"$a": 1}, "has the name '$a'; a name has 1 to 1024 bytes and no control character, '.', '$' or space."),
    ({"": 1}, "has the name ''; a name has 1 to 1024 bytes and no control character, '.', '$' or space."),
    (nested(11), None),
    ({"a": 2**52}, ".a is 4503599627370496; integers are from -4503599627370496 to 4503599627370495."),
    ({"a": ["b", "x" * 4097]}, ".a is a text of more than 4096 bytes."),
]


@pytest.mark.parametrize(("part", "rule"), LIMITS, ids=[str(index) for index in range(len(LIMITS))])
def test_limits_of_names_and_values(part: dict[str, Any], rule: str | None) -> None:
    """Each rule of names and values holds for tags, desired and reported properties, and is named."""
    twin = twins.new_twin(None, "now")
    writes: dict[str, Callable[[], Any]] = {
        "tags": lambda: twins.with_tags(twin, part, replace=False),
        "properties.desired": lambda: twins.with_desired(twin, part, "now", replace=False),
        "properties.reported": lambda: twins.with_reported(twin, part, "now"),
    }
    for where, write in writes.items():
        with pytest.raises(HubError) as caught:
            write()
        text = f"{where}{rule}" if rule and rule.startswith(".") else f"{where} {rule}"
        assert caught.value.message == (text if rule else f"{where}{'.in' * 11} is nested deeper than 10 levels.")


def test_what_is_just_within_the_limits() -> None:
    """Ten levels, the largest integer and the longest text are taken."""
    part = nested(10) | {"n": 2**52 - 1, "t": "x" * 4096, "#": [1, {"a": None}]}
    assert twins.with_tags(twins.new_twin(None, "now"), part, replace=False)["n"] == 2**52 - 1


def test_sizes(registry: IoTHubRegistryManager, device_id: str) -> None:
    """Tags end at 8 KiB and desired properties at 32 KiB, counted as the hub counts; smaller ones get in again."""
    texts = {f"t{index}": "x" * 4094 for index in range(8)}  # 4,096 each, with its name
    assert registry.update_twin(device_id, patch_of(tags={"t0": texts["t0"], "t1": texts["t1"]})).version == 3
    assert refused(lambda: registry.update_twin(device_id, patch_of(tags={"n": ""}))) == (
        400,
        "ErrorCode:ArgumentInvalid;tags would have 8193 bytes; at most 8192 are allowed.",
    )
    assert registry.update_twin(device_id, patch_of(texts)).properties.desired["$version"] == 2
    assert refused(lambda: registry.update_twin(device_id, patch_of({"n": ""}))) == (
        400,
        "ErrorCode:ArgumentInvalid;properties.desired would have 32769 bytes; at most 32768 are allowed.",
    )
    assert registry.update_twin(device_id, patch_of({"t0": None})).properties.desired["$version"] == 3


def test_what_is_too_large_already_may_shrink() -> None:
    """Only a change that adds to what is over the limit is refused."""
    twin = twins.new_twin({"tags": {f"t{index}": "x" * 4094 for index in range(4)}}, "now")
    assert len(twins.with_tags(twin, {"t0": None}, replace=False)) == 3
    with pytest.raises(HubError) as caught:
        twins.with_tags(twin, {"n": [True, 1, None]}, replace=False)
    assert caught.value.message == "tags would have 16397 bytes; at most 8192 are allowed."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tags": []}, "tags must be a JSON object."),
        ({"properties": {"desired": 7}}, "properties.desired must be a JSON object."),
        ([], 'The body must be a twin: {"tags": {...}, "properties": {"desired": {...}}}.'),
        ({"properties": 7}, 'The body must be a twin: {"tags": {...}, "properties": {"desired": {...}}}.'),
    ],
)
def test_bodies_that_are_no_twin(
    emulator: RunningEmulator,
    registry: IoTHubRegistryManager,
    device_id: str,
    body: Any,
    message: str,
) -> None:
    """A body of the wrong shape is refused, and the twin stays."""
    url = f"{emulator.https_url}/twins/{device_id}"
    headers = {"Authorization": f"Bearer {emulator.token(IOT_HUB_AUDIENCE)}"}
    version = {"api-version": "2021-04-12"}
    answer = requests.patch(url, json=body, params=version, headers=headers, verify=emulator.ca_file, timeout=10)
    assert (answer.status_code, answer.json()["Message"]) == (400, f"ErrorCode:ArgumentInvalid;{message}")
    assert registry.get_twin(device_id).version == 2


NAMES = st.sampled_from("abc")
VALUES = st.recursive(st.none() | st.integers(0, 3), lambda inner: st.dictionaries(NAMES, inner, max_size=3))
PATCHES = st.dictionaries(NAMES, VALUES, max_size=3)


def stamped(properties: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Whether metadata has a stamp for each property, and for nothing else."""
    names = {name for name in metadata if not name.startswith("$")}
    return names == set(properties) and all(
        stamped(value if isinstance(value, dict) else {}, metadata[name]) for name, value in properties.items()
    )


@given(st.lists(PATCHES, max_size=5))
def test_metadata_has_the_shape_of_the_properties(patches: list[dict[str, Any]]) -> None:
    """Whatever patches come, each property has its stamp, no stamp is left over, and no null is kept."""
    twin = twins.new_twin(None, "0")
    for number, patch in enumerate(patches):
        twin["reported"] = twins.with_reported(twin, patch, str(number))
        twin["desired"] = twins.with_desired(twin, patch, str(number), replace=False)
    for section in (twin["reported"], twin["desired"]):
        assert stamped(twins.plain(section), section["$metadata"])
        assert section["$version"] == len(patches) + 1
        assert None not in leaves(section)


def leaves(value: Any) -> list[Any]:
    return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]


@given(PATCHES, PATCHES)
def test_merging_twice_is_merging_once(present: dict[str, Any], patch: dict[str, Any]) -> None:
    """A patch sent again changes nothing."""
    once = twins.merged(twins.merged({}, present), patch)
    assert twins.merged(once, patch) == once


# --- queries ---

TWINS: list[dict[str, Any]] = [
    {
        "deviceId": "a",
        "status": "enabled",
        "tags": {"site": {"hall": 1}, "owner": "Ann and 'Bob'"},
        "properties": {"desired": {}, "reported": {"battery": 80, "model": "T1"}},
    },
    {
        "deviceId": "b",
        "status": "disabled",
        "tags": {"site": {"hall": 2}, "spare": None},
        "properties": {"desired": {}, "reported": {"battery": 20.5, "model": "T2"}},
        "parentScopes": ["scope-1"],
    },
    {
        "deviceId": "c",
        "status": "enabled",
        "tags": {},
        "properties": {"desired": {}, "reported": {"battery": "low"}},
        "capabilities": {"iotEdge": True},
    },
]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("", "abc"),
        ("where status = 'enabled'", "ac"),
        ('WHERE status != "enabled"', "b"),
        ("where status <> 'enabled';", "b"),
        ("where tags.site.hall = 1", "a"),
        ("where tags.site.hall != 1", "b"),
        ("where NOT tags.site.hall = 1", "b"),
        ("where tags.owner = 'Ann and \\'Bob\\''", "a"),
        ("where tags.spare = null", "b"),
        ("where tags.spare < null", ""),
        ("where IS_DEFINED(tags.spare)", "b"),
        ("where not is_defined(tags.owner)", "bc"),
        ("where properties.reported.battery > 20.5", "a"),
        ("where properties.reported.battery >= 20.5 and properties.reported.battery <= 80", "ab"),
        ("where 50 < properties.reported.battery", "a"),
        ("where properties.reported.battery = 'low'", "c"),
        ("where capabilities.iotEdge = true", "c"),
        ("where deviceId IN ['a', 'c', 7]", "ac"),
        ("where properties.reported.model NIN ['T1']", "b"),
        ("where status = 'disabled' or status = 'enabled' and tags.site.hall = 1", "ab"),
        ("where (status = 'disabled' or status = 'enabled') and tags.site.hall = 1", "a"),
        ("where tags.site.hall = 1 or deviceId = 'c'", "ac"),
        ("where deviceId = '\\u0061'", "a"),
        ("where STARTSWITH(deviceId, 'a')", "a"),
        ("where starts_with(properties.reported.model, 'T')", "ab"),
        ("where NOT STARTSWITH(properties.reported.model, 'T1')", "b"),
        ("where ENDSWITH(properties.reported.model, '2') or endswith(deviceId, 'c')", "bc"),
        ("where CONTAINS(tags.owner, 'and')", "a"),
        ("where ARRAY_CONTAINS(parentScopes, 'scope-1')", "b"),
        ("where array_contains(parentScopes, 'none') or array_contains(tags.owner, 'Ann')", ""),
        ("where LOWER(properties.reported.model) = 't1' and LENGTH(deviceId) = 1", "a"),
        ("where is_string(properties.reported.battery)", "c"),
        ("where IS_NUMBER(properties.reported.battery) and IS_OBJECT(tags.site) and not IS_NULL(tags.spare)", "a"),
        ("where is_array(parentScopes) and is_bool(capabilities.iotEdge)", ""),
        ("where STARTSWITH(deviceId, 'a') = false", "bc"),
        ("where DEVICEID = 'a'", "a"),
    ],
)
def test_conditions(condition: str, found: str) -> None:
    """A condition finds the twins for which it is true; what is missing or of another type is neither true nor false."""
    query = queries.parse(f"SELECT * FROM devices {condition}")  # noqa: S608  the emulator's own language
    assert "".join(twin["deviceId"] for twin in TWINS if query.matches(twin)) == found


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT deviceId FROM devices", [{"deviceId": "a"}, {"deviceId": "b"}, {"deviceId": "c"}]),
        ("select DeviceID, Status from devices where status = 'disabled'", [{"DeviceID": "b", "Status": "disabled"}]),
        ("SELECT tags.site.hall FROM devices", [{"hall": 1}, {"hall": 2}, {}]),
        ("SELECT tags.site.hall AS place, deviceId FROM devices WHERE IS_DEFINED(tags.site)",
         [{"place": 1, "deviceId": "a"}, {"place": 2, "deviceId": "b"}]),
        ("SELECT TOP 2 deviceId FROM devices", [{"deviceId": "a"}, {"deviceId": "b"}]),
        ("SELECT TOP 1 * FROM devices WHERE deviceId = 'c'", [TWINS[2]]),
        ("SELECT COUNT() FROM devices", [{"count": 3}]),
        ("SELECT COUNT() AS numberOfDevices FROM devices WHERE status = 'enabled'", [{"numberOfDevices": 2}]),
        ("SELECT COUNT() AS n FROM devices WHERE status = 'none'", [{"n": 0}]),
        ("SELECT status, COUNT() AS n FROM devices GROUP BY status",
         [{"status": "enabled", "n": 2}, {"status": "disabled", "n": 1}]),
        ("SELECT tags.site.hall AS hall, count() AS n FROM devices GROUP BY tags.site.hall",
         [{"hall": 1, "n": 1}, {"hall": 2, "n": 1}, {"n": 1}]),
        ("SELECT TOP 1 status AS s, COUNT() AS n FROM devices GROUP BY status", [{"s": "enabled", "n": 2}]),
        ("SELECT MIN(properties.reported.battery) AS low, max(properties.reported.battery) AS high, "
         "AVG(properties.reported.battery) AS mean, SUM(properties.reported.battery) AS sum FROM devices",
         [{"low": 20.5, "high": 80, "mean": 50.25, "sum": 100.5}]),
        ("SELECT MIN(tags.none) AS low, COUNT() AS n FROM devices", [{"n": 3}]),
    ],
)  # fmt: skip
def test_columns_groups_and_aggregates(query: str, rows: list[dict[str, Any]]) -> None:
    """Rows have what was asked for, without what a twin lacks; aggregates pass over what is not a number."""
    page = queries.find(queries.parse(query), lambda _: iter(TWINS), "", 100)
    assert page.rows == rows
    assert (page.kind, page.continuation) == ("Twin" if "*" in query else "raw", None)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT * FROM devices", ["a", "b", "c"]),
        ("SELECT deviceId FROM devices WHERE status = 'enabled'", ["a", "c"]),
        ("SELECT TOP 2 deviceId FROM devices", ["a", "b"]),
        ("SELECT deviceId, COUNT() AS n FROM devices GROUP BY deviceId", ["a", "b", "c"]),
        ("SELECT TOP 2 deviceId, COUNT() AS n FROM devices GROUP BY deviceId", ["a", "b"]),
    ],
)
def test_pages_of_any_query(query: str, found: list[str], size: int) -> None:
    """Every row comes once, on whatever page; TOP counts over all pages."""
    rows, continuation, parsed = [], "", queries.parse(query)
    for _ in range(len(found)):
        page = queries.find(
            parsed, lambda after: (twin for twin in TWINS if twin["deviceId"] > after), continuation, size
        )
        assert 1 <= len(page.rows) <= size
        rows += [row["deviceId"] for row in page.rows]
        continuation = page.continuation or ""
        if not continuation:
            break
    assert (rows, continuation) == (found, "")


SHAPE = "is not of the form SELECT ... FROM devices [WHERE condition] [GROUP BY path, ...]."


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        (None, 400, f"The query None {SHAPE}"),
        ("DELETE devices", 400, f"The query 'DELETE devices' {SHAPE}"),
        ("SELECT * FROM devices.jobs", 501, "The emulator does not offer queries FROM devices.jobs: devices only."),
        ("SELECT * FROM jobs", 400, "The collection 'jobs' does not exist; there is 'devices'."),
        ("SELECT * devices", 400, f"The query 'SELECT * devices' {SHAPE}"),
        ("SELECT * FROM devices GROUP a", 400, f"The query 'SELECT * FROM devices GROUP a' {SHAPE}"),  # noqa: S608
        ("SELECT * FROM devices GROUP BY status", 400, "The column * is neither an aggregate nor named by GROUP BY."),
        (
            "SELECT deviceId, COUNT() FROM devices",
            400,
            "The column deviceId is neither an aggregate nor named by GROUP BY.",
        ),
        (
            "SELECT MEDIAN(tags.a) FROM devices",
            400,
            "The aggregate MEDIAN does not exist; there are COUNT, SUM, AVG, MIN, MAX.",
        ),
        ("SELECT TOP many * FROM devices", 400, "TOP many is not a whole number from 1."),
        ("SELECT TOP 0 * FROM devices", 400, "TOP 0 is not a whole number from 1."),
        (
            "SELECT * FROM devices WHERE SOUNDEX(a) = 'b'",
            400,
            "The function SOUNDEX does not exist; there are IS_DEFINED, IS_NULL, IS_BOOL, IS_NUMBER, IS_STRING, IS_ARRAY, IS_OBJECT, IS_PRIMITIVE, STARTSWITH, ENDSWITH, CONTAINS, ARRAY_CONTAINS, LOWER, UPPER, LENGTH.",
        ),
        ("SELECT * FROM devices WHERE STARTSWITH(a)", 400, "The function STARTSWITH takes 2 values, and was given 1."),
        (
            "SELECT * FROM devices WHERE a + 1 = 2",
            400,
            "The query 'SELECT * FROM devices WHERE a + 1 = 2' is not understood at '+ 1 = 2'.",
        ),
        (
            "SELECT * FROM devices WHERE a = 'b",
            400,
            'The query "SELECT * FROM devices WHERE a = \'b" is not understood at "\'b".',
        ),
        ("SELECT * FROM devices WHERE a", 400, "The query 'SELECT * FROM devices WHERE a' ends too early."),
        (
            "SELECT * FROM devices WHERE a = 1 b",
            400,
            "The query 'SELECT * FROM devices WHERE a = 1 b' is not understood at 'b'.",
        ),
        (
            "SELECT * FROM devices WHERE a = ,",
            400,
            "The query 'SELECT * FROM devices WHERE a = ,' is not understood at ','.",
        ),
        (
            "SELECT * FROM devices WHERE a b 1",
            400,
            "The query 'SELECT * FROM devices WHERE a b 1' is not understood at 'b'.",
        ),
        ("SELECT * FROM devices WHERE (a = 1", 400, "The query 'SELECT * FROM devices WHERE (a = 1' ends before ')'."),
        (
            "SELECT * FROM devices WHERE a IN (1)",
            400,
            "The query 'SELECT * FROM devices WHERE a IN (1)' is not understood at '('.",
        ),
        (
            "SELECT * FROM devices WHERE is_defined(1)",
            400,
            "The query 'SELECT * FROM devices WHERE is_defined(1)' is not understood at '1'.",
        ),
    ],
)
def test_queries_that_are_not_understood(query: Any, status: int, message: str) -> None:
    """A query beyond what is offered is refused with the place that is not understood, never guessed at."""
    with pytest.raises(HubError) as caught:
        queries.parse(query)
    assert (caught.value.status, caught.value.message) == (status, message)


def test_pages(fresh_emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages follow one another without gap or repetition up to a last one; 100 by default, and 1,000 at most."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", fresh_emulator.ca_file)
    registry = registry_of(fresh_emulator.endpoints)
    for first in range(0, 1100, 100):
        many = [{"id": f"d{n:04}", "tags": {"tenth": n % 10 == 0}} for n in range(first, first + 100)]
        assert registry.bulk_create_or_update_devices(many).is_successful
    query = QuerySpecification(query="SELECT * FROM devices WHERE tags.tenth = true")
    sizes, found, continuation = [], [], None
    while True:
        page = registry.query_iot_hub(query, continuation, 50)
        sizes.append(len(page.items))
        found += [twin.device_id for twin in page.items]
        continuation = page.continuation_token
        if continuation is None:
            break
    assert sizes == [50, 50, 10]
    assert found == [f"d{n:04}" for n in range(0, 1100, 10)]
    assert page.type == "Twin"
    assert len(registry.query_iot_hub(query).items) == 100
    assert len(registry.query_iot_hub(QuerySpecification(query="select * from devices"), None, 5000).items) == 1000


@pytest.mark.parametrize(
    ("continuation", "size", "message"),
    [
        ("d00*", "10", "x-ms-continuation 'd00*' was not given by this hub."),
        (None, "many", "x-ms-max-item-count 'many' is not a whole number from 1."),
        (None, "0", "x-ms-max-item-count '0' is not a whole number from 1."),
    ],
)
def test_pages_that_can_not_be(
    registry: IoTHubRegistryManager, continuation: str | None, size: str, message: str
) -> None:
    """A continuation that was never given, and a size that is not a number, are refused with their value."""
    query = QuerySpecification(query="SELECT * FROM devices")
    assert refused(lambda: registry.query_iot_hub(query, continuation, size)) == (
        400,
        f"ErrorCode:ArgumentInvalid;{message}",
    )
