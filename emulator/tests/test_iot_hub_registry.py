"""The hub's registry: device identities one by one and in bulk, with ``azure-iot-hub`` and with plain requests."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.iot.hub import IoTHubConfigurationManager, IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import AuthenticationMechanism, Device, ExportImportDevice, QuerySpecification
from msrest.exceptions import HttpOperationError

from emulator.platform.identity.tokens import IOT_HUB_AUDIENCE, KEY_VAULT_AUDIENCE
from emulator.tests.iot_hub_clients import registry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.identity import ManagedIdentityCredential

    from emulator.tests.running import RunningEmulator

SHA1 = "0123456789ABCDEF0123456789ABCDEF01234567"
OTHER_SHA1 = "76543210FEDCBA9876543210FEDCBA9876543210"
VERSION = {"api-version": "2021-04-12"}
NEVER = "0001-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def trust(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``azure-iot-hub`` trust the emulator of the test."""
    name = "fresh_emulator" if "fresh_emulator" in request.fixturenames else "emulator"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", request.getfixturevalue(name).ca_file)


@pytest.fixture
def registry(emulator: RunningEmulator, managed_identity: ManagedIdentityCredential) -> IoTHubRegistryManager:
    """The registry as the app reaches it: by managed identity."""
    host = emulator.endpoints["iotHubs"][0]["serviceUrl"].removeprefix("https://")
    return IoTHubRegistryManager.from_token_credential(host, managed_identity)


@pytest.fixture
def call(emulator: RunningEmulator, http: requests.Session) -> Callable[..., requests.Response]:
    """Plain requests with a good token."""
    token = emulator.token(IOT_HUB_AUDIENCE)

    def send(method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        given = {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return http.request(method, f"{emulator.https_url}{path}", params=VERSION, json=body, headers=given, timeout=10)

    return send


def refused(action: Callable[[], Any]) -> tuple[int, str]:
    """Status and message of an SDK's error."""
    with pytest.raises(HttpOperationError) as caught:
        action()
    response = caught.value.response
    body = response.json()
    assert re.fullmatch(r"Tracking ID:[0-9a-f]{32}-G:0-TimeStamp:[\d/]{10} [\d:]{8}", body["ExceptionMessage"])
    assert body["Message"].startswith(f"ErrorCode:{response.headers['iothub-errorcode']};")
    return response.status_code, body["Message"]


# --- one by one ---


def test_a_device_with_a_certificate(registry: IoTHubRegistryManager) -> None:
    """A created identity carries the thumbprint, is enabled, has never been seen, and reads back the same."""
    created = registry.create_device_with_x509("reg-x509", SHA1, None, "enabled", status_reason="new")
    assert created.authentication.type == "selfSigned"
    assert created.authentication.x509_thumbprint.primary_thumbprint == SHA1
    assert created.authentication.x509_thumbprint.secondary_thumbprint is None
    assert created.authentication.symmetric_key.primary_key is None
    assert (created.status, created.status_reason, created.connection_state) == ("enabled", "new", "Disconnected")
    assert created.cloud_to_device_message_count == 0
    assert created.capabilities.iot_edge is False
    assert created.last_activity_time.year == 1
    assert registry.get_device("reg-x509").as_dict() == created.as_dict()


def test_the_wire_form_of_an_identity(call: Callable[..., requests.Response]) -> None:
    """An identity has the real one's fields, and its ETag stands quoted in the header too."""
    answer = call("PUT", "/devices/reg-wire", {"deviceId": "reg-wire", "capabilities": {"iotEdge": True}})
    body = answer.json()
    keys = body["authentication"]["symmetricKey"]
    assert [len(base64.b64decode(keys[name])) for name in ("primaryKey", "secondaryKey")] == [32, 32]
    generation = body["generationId"]
    assert body | {"etag": "", "authentication": {}} == {
        "deviceId": "reg-wire",
        "generationId": generation,
        "etag": "",
        "connectionState": "Disconnected",
        "status": "enabled",
        "statusReason": None,
        "connectionStateUpdatedTime": NEVER,
        "statusUpdatedTime": NEVER,
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "authentication": {},
        "capabilities": {"iotEdge": True},
        "deviceScope": f"ms-azure-iot-edge://reg-wire-{generation}",
        "parentScopes": [],
    }
    assert body["authentication"]["type"] == "sas"
    assert body["authentication"]["x509Thumbprint"] == {"primaryThumbprint": None, "secondaryThumbprint": None}
    assert answer.headers["ETag"] == f'"{body["etag"]}"'


def test_scopes(call: Callable[..., requests.Response]) -> None:
    """A device is in its parent's scope, which the hub copies to ``parentScopes``; an edge device has one of its own."""

    def scopes(device_id: str, **fields: Any) -> tuple[Any, Any]:
        headers = {} if call("GET", f"/devices/{device_id}").status_code == 404 else {"If_Match": "*"}
        body = {"deviceId": device_id, **fields}
        shown = call("PUT", f"/devices/{device_id}", body, **headers).json()
        twin = call("GET", f"/twins/{device_id}").json()
        both = shown.get("deviceScope"), shown["parentScopes"]
        assert (twin.get("deviceScope"), twin["parentScopes"]) == both
        return both

    own, _ = scopes("scope-edge", capabilities={"iotEdge": True})
    other, none = scopes("scope-edge-2", capabilities={"iotEdge": True})
    assert none == []
    assert scopes("scope-edge-2", parentScopes=[own]) == (other, [own])
    assert scopes("scope-edge-2", status="disabled") == (other, [own])
    assert scopes("scope-edge-2", parentScopes=[]) == (other, [])
    assert scopes("scope-leaf", deviceScope=own) == (own, [own])
    assert scopes("scope-leaf", deviceScope=other, parentScopes=[own]) == (other, [other])
    assert scopes("scope-leaf", status="disabled") == (other, [other])
    assert scopes("scope-leaf", deviceScope="") == (None, [])
    assert scopes("scope-leaf", parentScopes=[own]) == (own, [own])
    answer = call("PUT", "/devices/scope-two", {"deviceId": "scope-two", "parentScopes": [own, other]})
    assert answer.status_code == 400
    assert "is not a list of at most one scope" in answer.json()["Message"]


def test_a_device_with_keys_and_one_with_a_ca(registry: IoTHubRegistryManager) -> None:
    """Keys given are kept; an identity that trusts a CA holds neither key nor thumbprint."""
    key = base64.b64encode(bytes(range(32))).decode()
    with_keys = registry.create_device_with_sas("reg-sas", key, key, "enabled")
    assert with_keys.authentication.symmetric_key.primary_key == key
    with_ca = registry.create_device_with_certificate_authority("reg-ca", "disabled")
    assert (with_ca.authentication.type, with_ca.status) == ("certificateAuthority", "disabled")
    assert with_ca.authentication.symmetric_key.primary_key is None


def test_a_device_with_nothing_to_authenticate_with(registry: IoTHubRegistryManager) -> None:
    """The REST reference has ``none`` among the types: neither key nor thumbprint."""
    held = AuthenticationMechanism(type="none")
    registry.protocol.devices.create_or_update_identity("reg-none", Device(device_id="reg-none", authentication=held))
    shown = registry.get_device("reg-none").authentication
    assert (shown.type, shown.symmetric_key.primary_key, shown.x509_thumbprint.primary_thumbprint) == (
        "none",
        None,
        None,
    )
    assert registry.get_twin("reg-none").authentication_type == "none"


def test_creating_twice(registry: IoTHubRegistryManager) -> None:
    """The second create of an id is a conflict, and changes nothing."""
    created = registry.create_device_with_x509("reg-twice", SHA1, None, "enabled")
    assert refused(lambda: registry.create_device_with_x509("reg-twice", OTHER_SHA1, None, "enabled")) == (
        409,
        "ErrorCode:DeviceAlreadyExists;A device with ID 'reg-twice' is already registered.",
    )
    assert registry.get_device("reg-twice").as_dict() == created.as_dict()


def test_of_two_writers_the_slower_one_is_told(registry: IoTHubRegistryManager) -> None:
    """An update with the ETag that was read goes through once; the second writer with the same one gets 412."""
    read = registry.create_device_with_x509("reg-etag", SHA1, None, "enabled").etag
    changed = registry.update_device_with_x509("reg-etag", read, OTHER_SHA1, SHA1, "disabled", status_reason="lost")
    assert (changed.status, changed.status_reason) == ("disabled", "lost")
    assert changed.etag != read
    assert refused(lambda: registry.update_device_with_x509("reg-etag", read, SHA1, None, "enabled")) == (
        412,
        "ErrorCode:PreconditionFailed;Precondition failed: Invalid ETag",
    )
    assert registry.get_device("reg-etag").as_dict() == changed.as_dict()
    assert registry.update_device_with_x509("reg-etag", None, SHA1, None, "enabled").status == "enabled"


def test_the_time_of_the_status(registry: IoTHubRegistryManager) -> None:
    """The status' time is set when the status changes, and at no other change."""
    created = registry.create_device_with_x509("reg-time", SHA1, None, "enabled")
    disabled = registry.update_device_with_x509("reg-time", "*", SHA1, None, "disabled")
    again = registry.update_device_with_x509("reg-time", "*", OTHER_SHA1, None, "disabled")
    assert created.status_updated_time.year == 1
    assert disabled.status_updated_time.year > 2000
    assert again.status_updated_time == disabled.status_updated_time


def test_what_is_not_there(registry: IoTHubRegistryManager) -> None:
    """Reading, changing and deleting an unknown id, or its twin, is 404 with the id."""
    for action in (
        lambda: registry.get_device("reg-ghost"),
        lambda: registry.update_device_with_x509("reg-ghost", None, SHA1, None, "enabled"),
        lambda: registry.delete_device("reg-ghost"),
        lambda: registry.get_twin("reg-ghost"),
    ):
        assert refused(action) == (404, "ErrorCode:DeviceNotFound;reg-ghost")


def test_deleting(registry: IoTHubRegistryManager) -> None:
    """A stale ETag deletes nothing; a deleted id can be used again, for another generation with a new twin."""
    first = registry.create_device_with_x509("reg-delete", SHA1, None, "enabled")
    registry.update_twin("reg-delete", {"tags": {"site": "north"}})
    assert refused(lambda: registry.delete_device("reg-delete", "stale")) == (
        412,
        "ErrorCode:PreconditionFailed;Precondition failed: Invalid ETag",
    )
    registry.delete_device("reg-delete", first.etag)
    second = registry.create_device_with_x509("reg-delete", SHA1, None, "enabled")
    assert second.generation_id != first.generation_id
    assert registry.get_twin("reg-delete").tags == {}


def test_ids_are_case_sensitive(registry: IoTHubRegistryManager) -> None:
    """Two ids that differ by case are two devices."""
    registry.create_device_with_x509("reg-Case", SHA1, None, "enabled")
    registry.create_device_with_x509("reg-case", OTHER_SHA1, None, "enabled")
    assert registry.get_device("reg-Case").authentication.x509_thumbprint.primary_thumbprint == SHA1


BROKEN = [
    ({"status": "on"}, "status 'on' is not one of enabled, disabled."),
    ({"statusReason": "x" * 129}, f"statusReason {'x' * 129!r} is not text of at most 128 characters."),
    ({"deviceId": "other"}, "The body must be a device identity with deviceId 'reg-broken'."),
    ([], "The body must be a device identity with deviceId 'reg-broken'."),
    ({"capabilities": {"iotEdge": "yes"}}, "capabilities {'iotEdge': 'yes'} is not of the form {\"iotEdge\": true}."),
    ({"authentication": "sas"}, "authentication 'sas' is not an object."),
    (
        {"authentication": {"type": "x509"}},
        "authentication.type 'x509' is not one of sas, selfSigned, certificateAuthority, none.",
    ),
    (
        {"authentication": {"type": "selfSigned"}},
        "authentication.type 'selfSigned' needs x509Thumbprint.primaryThumbprint.",
    ),
    (
        {"authentication": {"x509Thumbprint": {"primaryThumbprint": "AB:CD"}}},
        "primaryThumbprint 'AB:CD' is not a SHA-1 or SHA-256 thumbprint in hexadecimal.",
    ),
    (
        {"authentication": {"symmetricKey": {"secondaryKey": "c2hvcnQ="}}},
        "symmetricKey.secondaryKey is not base64 of 16 to 64 octets.",
    ),
]


@pytest.mark.parametrize(("body", "message"), BROKEN, ids=[str(index) for index in range(len(BROKEN))])
def test_identities_that_can_not_be(call: Callable[..., requests.Response], body: Any, message: str) -> None:
    """Each broken rule is named with the value, and nothing is created."""
    answer = call("PUT", "/devices/reg-broken", body)
    assert (answer.status_code, answer.json()["Message"]) == (400, f"ErrorCode:ArgumentInvalid;{message}")
    assert call("GET", "/devices/reg-broken").status_code == 404


def test_an_id_with_a_space(call: Callable[..., requests.Response]) -> None:
    """A character that no device id has is refused together with the rule."""
    assert call("PUT", "/devices/reg%20space", {}).json()["Message"] == (
        "ErrorCode:ArgumentInvalid;deviceId 'reg space' is not 1 to 128 ASCII letters, digits and"
        " - : . + % _ # * ? ! ( ) , = @ ; $ '."
    )


def test_a_thumbprint_without_a_type_means_self_signed(call: Callable[..., requests.Response]) -> None:
    """What is given decides the type when none is named."""
    body = {"authentication": {"x509Thumbprint": {"primaryThumbprint": SHA1}}}
    assert call("PUT", "/devices/reg-untyped", body).json()["authentication"]["type"] == "selfSigned"


# --- many ---


def test_listing_and_counting(fresh_emulator: RunningEmulator) -> None:
    """Devices come in the order of their ids, at most so many as asked for; the statistics count them by status."""
    registry = registry_of(fresh_emulator.endpoints)
    for name, status in (("c", "enabled"), ("a", "disabled"), ("b", "enabled")):
        registry.create_device_with_x509(name, SHA1, None, status)
    assert [device.device_id for device in registry.get_devices()] == ["a", "b", "c"]
    assert [device.device_id for device in registry.get_devices(2)] == ["a", "b"]
    assert len(registry.get_devices(5000)) == 3
    assert registry.get_device_registry_statistics().as_dict() == {
        "total_device_count": 3,
        "enabled_device_count": 2,
        "disabled_device_count": 1,
    }
    assert registry.get_service_statistics().connected_device_count == 0


def test_bulk_modes(fresh_emulator: RunningEmulator) -> None:
    """A call creates with a twin, updates by ETag, and deletes; what fails is named, and the rest is done."""
    registry = registry_of(fresh_emulator.endpoints)
    kept = registry.create_device_with_x509("kept", SHA1, None, "enabled")
    registry.create_device_with_x509("gone", SHA1, None, "enabled")
    authentication = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": OTHER_SHA1}}
    new = {"tags": {"site": "north"}, "properties": {"desired": {"interval": 5}}, "authentication": authentication}
    result = registry.bulk_create_or_update_devices(
        [
            {"id": "new", "importMode": "create", "status": "disabled", **new},
            {"id": "kept", "importMode": "updateIfMatchETag", "eTag": kept.etag, "status": "disabled"},
            {"id": "gone", "importMode": "delete"},
            {"id": "ghost", "importMode": "update"},
        ]
    )
    assert result.is_successful is False
    assert [error.as_dict() for error in result.errors] == [
        {"device_id": "ghost", "error_code": "404001", "error_status": "ghost"}
    ]
    assert [(device.device_id, device.status) for device in registry.get_devices()] == [
        ("kept", "disabled"),
        ("new", "disabled"),
    ]
    twin = registry.get_twin("new")
    assert (twin.tags, twin.properties.desired["interval"]) == ({"site": "north"}, 5)
    assert registry.get_device("kept").authentication.x509_thumbprint.primary_thumbprint == SHA1


def test_bulk_without_a_mode_and_by_etag(fresh_emulator: RunningEmulator) -> None:
    """Without a mode a device is created or updated; a stale ETag is told for devices and twins alike."""
    registry = registry_of(fresh_emulator.endpoints)
    for status in ("enabled", "disabled"):
        assert registry.bulk_create_or_update_devices([ExportImportDevice(id="d", status=status)]).is_successful
    assert registry.get_device("d").status == "disabled"
    stale = [
        {"id": "d", "importMode": mode, "eTag": "stale", "twinETag": "stale", "tags": {"a": 1}}
        for mode in (
            "updateIfMatchETag",
            "createOrUpdateIfMatchETag",
            "deleteIfMatchETag",
            "updateTwinIfMatchETag",
        )
    ]
    for entry in stale:
        result = registry.bulk_create_or_update_devices([entry])
        assert [error.as_dict() for error in result.errors] == [
            {"device_id": "d", "error_code": "412001", "error_status": "Precondition failed: Invalid ETag"}
        ]
    assert registry.bulk_create_or_update_devices([{"id": "d", "importMode": "updateTwin", "tags": {"a": 1}}])
    assert registry.get_twin("d").tags == {"a": 1}


def test_a_bulk_entry_is_made_whole_or_not(call: Callable[..., requests.Response]) -> None:
    """An identity whose twin is refused is not created either."""
    entry = {"id": "reg-whole", "importMode": "create", "tags": {"a.b": 1}}
    answer = call("POST", "/devices", [entry])
    assert (answer.status_code, answer.json()["errors"][0]["errorCode"]) == (400, 400004)
    assert call("GET", "/devices/reg-whole").status_code == 404


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "The body must be a list of devices."),
        (["d"], "The body must be a list of devices."),
        ([], "The list has 0 devices; a call takes 1 to 100."),
        ([{"id": str(index)} for index in range(101)], "The list has 101 devices; a call takes 1 to 100."),
        ([{"id": "d"}, {"status": "enabled"}], "Device 1 of the list has no id."),
        ([{"id": "d"}, {"id": "d"}], "Device 'd' is twice in the list."),
        (
            [{"id": "d", "importMode": "merge"}],
            "importMode 'merge' of device 'd' is not one of create, update, updateIfMatchETag, createOrUpdate, "
            "createOrUpdateIfMatchETag, delete, deleteIfMatchETag, updateTwin, updateTwinIfMatchETag.",
        ),
    ],
)
def test_bulk_lists_that_can_not_be(call: Callable[..., requests.Response], entries: Any, message: str) -> None:
    """A list that breaks a rule is refused as a whole."""
    answer = call("POST", "/devices", entries)
    assert (answer.status_code, answer.json()["Message"]) == (400, f"ErrorCode:ArgumentInvalid;{message}")


def test_a_host_name_that_no_hub_has(fresh_emulator: RunningEmulator, http: requests.Session) -> None:
    """Such a Host header reaches the first hub."""
    registry_of(fresh_emulator.endpoints).create_device_with_x509("d", SHA1, None, "enabled")
    http.verify = fresh_emulator.ca_file
    token = fresh_emulator.token(IOT_HUB_AUDIENCE)
    headers = {"Host": "elsewhere.example", "Authorization": f"Bearer {token}"}
    url = f"{fresh_emulator.https_url}/devices/d"
    assert http.get(url, params=VERSION, headers=headers, timeout=10).json()["deviceId"] == "d"


# --- who may ---


def test_tokens_and_signatures(emulator: RunningEmulator, http: requests.Session) -> None:
    """No token, one for another service, and a signature with another key are turned away with the reason."""
    url = f"{emulator.https_url}/statistics/devices"
    port = emulator.https_url.rsplit(":", 1)[1]
    forged = f"SharedAccessSignature sr=127.0.0.1%3A{port}&sig=AAAA&se=9999999999&skn=nobody"
    for header, reason in (
        (None, "the request has no Authorization header"),
        (
            f"Bearer {emulator.token(KEY_VAULT_AUDIENCE)}",
            "the token's audience is 'https://vault.azure.net'; 'https://iothubs.azure.net' is expected",
        ),
        (forged, "the shared access policy 'nobody' does not exist"),
    ):
        headers = {} if header is None else {"Authorization": header}
        answer = http.get(url, params=VERSION, headers=headers, timeout=10)
        assert answer.status_code == 401
        assert answer.json()["Message"] == f"ErrorCode:IotHubUnauthorizedAccess;{reason}"


def test_a_caller_without_a_role(emulator: RunningEmulator, registry: IoTHubRegistryManager) -> None:
    """A known identity without a role gets 401 and not 403, as from the real hub, naming what it wanted."""
    roles = f"{emulator.admin_url}/roles"
    requests.put(roles, json={"withheld": ["iot_hub"]}, timeout=10).raise_for_status()
    try:
        assert refused(registry.get_device_registry_statistics) == (
            401,
            "ErrorCode:IotHubUnauthorized;The principal is not authorized for GET on /statistics/devices"
            " due to no assigned permissions",
        )
    finally:
        requests.put(roles, json={"withheld": []}, timeout=10).raise_for_status()
    assert registry.get_device_registry_statistics().total_device_count >= 0


def test_a_call_without_a_version(emulator: RunningEmulator, http: requests.Session) -> None:
    """api-version has to be there."""
    headers = {"Authorization": f"Bearer {emulator.token(IOT_HUB_AUDIENCE)}"}
    answer = http.get(f"{emulator.https_url}/devices/d", headers=headers, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["Message"].startswith(
        "ErrorCode:InvalidProtocolVersion;BadRequest: api-version is None; it must be one of 2016-02-03, "
    )


def test_a_body_that_is_no_json(emulator: RunningEmulator, http: requests.Session) -> None:
    """A body that can't be read is refused in the hub's own form."""
    headers = {"Authorization": f"Bearer {emulator.token(IOT_HUB_AUDIENCE)}"}
    answer = http.put(f"{emulator.https_url}/devices/d", data=b"{", params=VERSION, headers=headers, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["Message"].startswith("ErrorCode:ArgumentInvalid;The request body is not JSON: ")


def test_what_is_not_offered_says_so(emulator: RunningEmulator, registry: IoTHubRegistryManager) -> None:
    """Modules, configurations and jobs answer 501 by name through the SDK's own clients."""
    connection_string = emulator.endpoints["iotHubConnectionStrings"][0]
    configurations = IoTHubConfigurationManager.from_connection_string(connection_string)
    jobs = IoTHubJobManager.from_connection_string(connection_string)
    for action, what in (
        (lambda: registry.get_modules("d"), "modules"),
        (lambda: registry.get_module_twin("d", "m"), "modules"),
        (configurations.get_configurations, "configurations"),
        (lambda: jobs.get_scheduled_job("j"), "jobs"),
    ):
        assert refused(action) == (501, f"ErrorCode:NotImplemented;The emulator does not offer IoT Hub's {what}.")


def test_an_identity_read_and_written_back(registry: IoTHubRegistryManager) -> None:
    """What GET gives can be changed and PUT as a whole, as the app does it to disable a device."""
    registry.create_device_with_x509("reg-back", SHA1, None, "enabled")
    device: Device = registry.get_device("reg-back")
    device.status, device.status_reason = "disabled", "revoked: keyCompromise"
    written = registry.protocol.devices.create_or_update_identity("reg-back", device, f'"{device.etag}"')
    assert (written.status, written.status_reason) == ("disabled", "revoked: keyCompromise")
    assert written.authentication.as_dict() == device.authentication.as_dict()
    found = registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices WHERE deviceId = 'reg-back'")).items
    assert json.loads(json.dumps(found[0].as_dict()))["status_reason"] == "revoked: keyCompromise"
