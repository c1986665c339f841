"""Attestation by symmetric keys at the emulated DPS: entries that hold them, devices that sign with them, and their hub."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_plus, urlencode

import pytest
from azure.core.exceptions import HttpResponseError
from azure.iot.device import IoTHubDeviceClient, ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError

from emulator.protocols.amqp.composites import Properties
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import Symbol
from emulator.services.dps.attestation import Match
from emulator.services.dps.symmetric_keys import device_keys
from emulator.tests.amqp_clients import raw_client
from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService, HttpsDevice, MqttDevice
from emulator.tests.test_allocation import Webhook, listening

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests
    from azure.iot.deviceprovisioning import DeviceProvisioningClient

    from emulator.tests.running import RunningEmulator

    type Signed = Callable[[RunningEmulator, str, str], tuple[int, dict[str, Any]]]
    """Registers a device, of this id and with this signature; gives status and body."""

SCOPE = "0ne00000001"
OTHER = base64.b64encode(b"of nobody".ljust(32)).decode()
ROOT = make("keys root", ca=True)


class Collection(NamedTuple):
    """One kind of entry."""

    path: str
    id_field: str
    certificates: str


GROUPS = Collection("enrollmentGroups", "enrollmentGroupId", "signingCertificates")
ENROLLMENTS = Collection("enrollments", "registrationId", "clientCertificates")
BOTH = pytest.mark.parametrize("kind", [GROUPS, ENROLLMENTS], ids=["group", "individual"])


@pytest.fixture
def name() -> str:
    """An id that no other test has."""
    return f"keys-{uuid.uuid4().hex[:8]}"


def operations(service: DeviceProvisioningClient, kind: Collection) -> Any:
    return service.enrollment_group if kind is GROUPS else service.enrollment


def key_of(name: str, which: str = "primaryKey") -> str:
    """Give an entry's own: a signature does not say which group it is for."""
    return base64.b64encode(hashlib.sha256(f"{name} {which}".encode()).digest()).decode()


def keys_of(name: str) -> dict[str, str]:
    return {which: key_of(name, which) for which in ("primaryKey", "secondaryKey")}


def entry(kind: Collection, name: str, keys: Any = None, **fields: Any) -> dict[str, Any]:
    held = keys_of(name) if keys is None else keys
    return {kind.id_field: name, "attestation": {"type": "symmetricKey", "symmetricKey": held}, **fields}


def by_certificate(kind: Collection, name: str) -> dict[str, Any]:
    held = {"primary": {"certificate": ROOT.pem}}
    return {kind.id_field: name, "attestation": {"type": "x509", "x509": {kind.certificates: held}}}


def put(emulator: RunningEmulator, kind: Collection, name: str, body: Any) -> None:
    DpsService(emulator).dps("PUT", f"/{kind.path}/{name}", body).raise_for_status()


def derived(key: str, registration_id: str) -> str:
    """As ``az iot dps enrollment-group compute-device-key`` does it."""
    return base64.b64encode(hmac.digest(base64.b64decode(key), registration_id.encode(), hashlib.sha256)).decode()


def held_by(kind: Collection, key: str, registration_id: str) -> str:
    return derived(key, registration_id) if kind is GROUPS else key


def signed(uri: str, key: str, *, policy: str | None = "registration", seconds: int = 3600) -> str:
    """As the script in Microsoft's "How to use symmetric keys over HTTPS without an SDK" does it."""
    expiry = int(time.time()) + seconds
    text = f"{quote_plus(uri)}\n{expiry}"
    digest = hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)
    fields = {"sr": uri, "sig": base64.b64encode(digest), "se": str(expiry)}
    return "SharedAccessSignature " + urlencode(fields | ({"skn": policy} if policy else {}))


# --- entries ---


@BOTH
def test_keys_are_told_to_who_writes_them_and_to_who_asks_for_them(
    service: DeviceProvisioningClient, kind: Collection, name: str
) -> None:
    """They are in the answer to a PUT and in the attestation mechanism, and neither in the entry nor in a query."""
    entries = operations(service, kind)
    made = entries.create_or_update(name, entry(kind, name))
    assert made["attestation"] == {"type": "symmetricKey", "symmetricKey": keys_of(name)}
    assert entries.get_attestation_mechanism(name) == made["attestation"]
    shown = entries.get(name)
    assert shown == {**made, "attestation": {"type": "symmetricKey"}}
    assert shown in list(entries.query({"query": "SELECT *"}))


@BOTH
@pytest.mark.parametrize(
    "attestation",
    [
        {"type": "symmetricKey"},  # README of azure-iot-deviceprovisioning
        {"type": "symmetricKey", "symmetricKey": {}},  # azure-iot-cli-extension
        {"type": "symmetricKey", "symmetricKey": {"primaryKey": None, "secondaryKey": None}},  # tests of the former
        {"type": "symmetricKey", "symmetricKey": {"primaryKey": base64.b64encode(b"given".ljust(32)).decode()}},
    ],
)
def test_keys_that_are_left_out_are_made(
    service: DeviceProvisioningClient, kind: Collection, name: str, attestation: dict[str, Any]
) -> None:
    """Of 64 bytes, and others each time."""
    entries = operations(service, kind)
    given = (attestation.get("symmetricKey") or {}).get("primaryKey")
    made = []
    for each in (name, f"{name}-2"):
        keys = entries.create_or_update(each, {kind.id_field: each, "attestation": attestation})["attestation"][
            "symmetricKey"
        ]
        assert entries.get_attestation_mechanism(each)["symmetricKey"] == keys
        made += [key for key in keys.values() if key != given]
    assert [len(base64.b64decode(key)) for key in made] == [64] * len(made)
    assert len(set(made)) == (2 if given else 4)


@BOTH
@pytest.mark.parametrize("size", [16, 64])
def test_keys_of_16_to_64_bytes_are_taken(
    service: DeviceProvisioningClient, kind: Collection, name: str, size: int
) -> None:
    key = base64.b64encode(bytes(size)).decode()
    made = operations(service, kind).create_or_update(name, entry(kind, name, {**keys_of(name), "secondaryKey": key}))
    assert made["attestation"]["symmetricKey"]["secondaryKey"] == key


@BOTH
@pytest.mark.parametrize("field", ["primaryKey", "secondaryKey"])
@pytest.mark.parametrize(
    "key", ["", "no base64!", "c2hvcnQ=", *(base64.b64encode(bytes(n)).decode() for n in (15, 65))]
)
def test_a_key_that_can_not_be_one_is_refused(
    service: DeviceProvisioningClient, kind: Collection, name: str, field: str, key: str
) -> None:
    """By the name of its field, and without itself."""
    with pytest.raises(HttpResponseError) as refused:
        operations(service, kind).create_or_update(name, entry(kind, name, {**keys_of(name), field: key}))
    assert refused.value.status_code == 400
    assert f"attestation.symmetricKey.{field} is not base64 of 16 to 64 bytes." in str(refused.value)


def test_keys_that_are_no_object_are_refused(emulator: RunningEmulator, name: str) -> None:
    answer = DpsService(emulator).dps("PUT", f"/enrollments/{name}", entry(ENROLLMENTS, name, "c2hvcnQ="))
    assert (answer.status_code, answer.json()["message"]) == (400, "attestation.symmetricKey is not an object.")


@BOTH
def test_an_entry_changes_its_type_of_attestation_and_changes_it_back(
    service: DeviceProvisioningClient, kind: Collection, name: str
) -> None:
    """Under its ETag. Nothing of the other type stays, and the certificate is not known any more."""
    entries = operations(service, kind)
    first = entries.create_or_update(name, by_certificate(kind, name))
    keyed = entries.create_or_update(
        name, {**first, "attestation": entry(kind, name)["attestation"]}, if_match=first["etag"]
    )
    assert keyed["attestation"] == {"type": "symmetricKey", "symmetricKey": keys_of(name)}
    with pytest.raises(HttpResponseError, match="its info describes none that the entry has"):
        entries.create_or_update(name, first, if_match=keyed["etag"])
    back = entries.create_or_update(name, by_certificate(kind, name), if_match=keyed["etag"])
    assert back["attestation"] == first["attestation"]
    assert entries.get_attestation_mechanism(name) == first["attestation"]


@BOTH
def test_what_azure_cli_sends(service: DeviceProvisioningClient, kind: Collection, name: str) -> None:
    """``az iot dps enrollment[-group] create`` and ``update`` of azure-iot-cli-extension: it reads the keys to keep them."""
    entries = operations(service, kind)
    body = entry(kind, name, {}, capabilities={"iotEdge": False})
    keys = entries.create_or_update(name, body)["attestation"]["symmetricKey"]
    record = {**entries.get(name), "attestation": entries.get_attestation_mechanism(name)}
    swapped = {"primaryKey": keys["secondaryKey"], "secondaryKey": keys["primaryKey"]}
    record |= {"provisioningStatus": "disabled", "attestation": {"type": "symmetricKey", "symmetricKey": swapped}}
    changed = entries.create_or_update(name, record, if_match="*")
    assert (changed["provisioningStatus"], changed["attestation"]["symmetricKey"]) == ("disabled", swapped)


def test_groups_of_each_type_are_limited_on_their_own(fresh_emulator: RunningEmulator) -> None:
    """A hundred of them by key leave room for those by certificate, and no group by certificate becomes one by key."""
    for number in range(100):
        put(fresh_emulator, GROUPS, f"g-{number}", entry(GROUPS, f"g-{number}"))
    put(fresh_emulator, GROUPS, "x509", by_certificate(GROUPS, "x509"))
    service = DpsService(fresh_emulator)
    message = "The service has 100 symmetric key enrollment groups, and takes no more."
    more = service.dps("PUT", "/enrollmentGroups/more", entry(GROUPS, "more"))
    changed = service.call(
        "PUT",
        "/enrollmentGroups/x509",
        entry(GROUPS, "x509"),
        resource="https://azure-devices-provisioning.net",
        if_match="*",
        **{"api-version": "2021-10-01"},
    )
    assert [(each.status_code, each.json()["message"]) for each in (more, changed)] == [(400, message)] * 2
    again = service.call(
        "PUT",
        "/enrollmentGroups/g-0",
        entry(GROUPS, "g-0"),
        resource="https://azure-devices-provisioning.net",
        if_match="*",
        **{"api-version": "2021-10-01"},
    )
    assert again.status_code == 200


# --- devices ---


def test_the_key_that_a_device_of_a_group_holds() -> None:
    """The example of Microsoft's "Symmetric key attestation"."""
    key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    match = Match(entry(GROUPS, "g", {"primaryKey": key, "secondaryKey": key}), "g")
    of_device = "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="
    expected = {"primaryKey": of_device, "secondaryKey": of_device}
    assert device_keys(match, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6") == expected


@BOTH
@pytest.mark.parametrize("which", ["primaryKey", "secondaryKey"])
def test_microsofts_sdk_registers_with_a_key_and_connects_with_it(
    emulator: RunningEmulator, kind: Collection, name: str, which: str
) -> None:
    """Over MQTT. The hub's identity has the keys of the device, and neither a thumbprint nor the group's own keys."""
    put(emulator, kind, name, entry(kind, name))
    own, authority = held_by(kind, key_of(name, which), name), Path(emulator.ca_file).read_text()
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        emulator.endpoints["dpsDeviceHost"], name, SCOPE, own, server_verification_cert=authority
    )
    result = client.register()
    assert result is not None
    assert result.registration_state is not None
    assert (result.status, result.registration_state.device_id) == ("assigned", name)
    identity = DpsService(emulator).hub("GET", f"/devices/{name}").json()["authentication"]
    assert identity == {
        "type": "sas",
        "symmetricKey": {field: held_by(kind, value, name) for field, value in keys_of(name).items()},
        "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
    }
    device = IoTHubDeviceClient.create_from_symmetric_key(
        own, result.registration_state.assigned_hub, name, server_verification_cert=authority
    )
    try:
        device.connect()
        assert device.connected
    finally:
        device.shutdown()


def test_microsofts_sdk_is_told_that_its_key_is_wrong(emulator: RunningEmulator, name: str) -> None:
    """As with the real service: it connects, and is refused when it registers."""
    put(emulator, ENROLLMENTS, name, entry(ENROLLMENTS, name))
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        emulator.endpoints["dpsDeviceHost"],
        name,
        SCOPE,
        OTHER,
        server_verification_cert=Path(emulator.ca_file).read_text(),
    )
    with pytest.raises(ClientError) as refused:
        client.register()
    client._pipeline.shutdown(callback=lambda **_: None)  # noqa: SLF001 - the SDK ends by itself after a success only
    # What azure-iot-cli-extension looks for to say "Unauthorized".
    assert str(refused.value.__cause__) == "register request returned a service error status code 401"


def over_https(emulator: RunningEmulator, registration_id: str, signature: str) -> tuple[int, dict[str, Any]]:
    device, header = HttpsDevice(emulator, registration_id, None), {"Authorization": signature}
    answer = device.call("PUT", "/register", json={"registrationId": registration_id}, headers=header)
    if answer.ok:
        answer = device.call("GET", f"/operations/{answer.json()['operationId']}", headers=header)
        state = answer.json()["registrationState"]
        assert device.call("POST", "", json={"registrationId": registration_id}, headers=header).json() == state
    return answer.status_code, answer.json()


def over_mqtt(emulator: RunningEmulator, registration_id: str, signature: str) -> tuple[int, dict[str, Any]]:
    with MqttDevice(emulator, registration_id, None, password=signature).connected() as device:
        topic, body = device.ask("PUT/iotdps-register/?$rid=1")
        if "/res/202/" in topic:
            operation_id = json.loads(body)["operationId"]
            topic, body = device.ask(f"GET/iotdps-get-operationstatus/?$rid=2&operationId={operation_id}")
    return int(topic.split("/")[3]), json.loads(body)


def over_amqp(emulator: RunningEmulator, registration_id: str, signature: str) -> tuple[int, dict[str, Any]]:
    """As the SDKs for C# and Node: the signature is the password of SASL PLAIN."""
    address, version = f"{SCOPE}/registrations/{registration_id}", {Symbol("com.microsoft:api-version"): "2019-03-31"}

    def message(**properties: str) -> Message:
        fields = {f"iotdps-{name.replace('_', '-')}": value for name, value in properties.items()}
        return Message(body=b"", properties=Properties(correlation_id="c"), application_properties=fields)

    with raw_client(emulator) as client:
        assert client.sign_in("PLAIN", f"\0{address}\0{signature}".encode()) == 0
        client.open()
        client.begin()
        client.receiver(address, properties=version)
        handle = client.sender(address, properties=version)
        if "wrong" in registration_id:
            error = client.rejection(handle, message(operation_type="iotdps-register"))
            assert error.condition == "amqp:unauthorized-access"
            return 401, json.loads(error.description or "")
        client.transfer(handle, message(operation_type="iotdps-register"))
        operation_id = json.loads(client.receive()[1].body)["operationId"]
        assert client.told() is None
        client.transfer(handle, message(operation_type="iotdps-get-operationstatus", operation_id=operation_id))
        return 200, json.loads(client.receive()[1].body)


TRANSPORTS = pytest.mark.parametrize("over", [over_https, over_mqtt, over_amqp])


@TRANSPORTS
@BOTH
@pytest.mark.parametrize("policy", ["registration", None], ids=["skn", "without-skn"])
def test_a_device_registers_with_a_signature(
    emulator: RunningEmulator, kind: Collection, name: str, over: Signed, policy: str | None
) -> None:
    """Over every transport; it is told by which group, if by any."""
    put(emulator, kind, name, entry(kind, name))
    signature = signed(
        f"{SCOPE}/registrations/{name}", held_by(kind, key_of(name, "secondaryKey"), name), policy=policy
    )
    status, body = over(emulator, name, signature)
    assert (status, body["status"], body["registrationState"]["deviceId"]) == (200, "assigned", name)
    state = body["registrationState"]
    assert state.get("symmetricKey") == ({"enrollmentGroupId": name} if kind is GROUPS else None)
    assert "x509" not in state
    record = DpsService(emulator).registration(name)
    assert record == {field: value for field, value in state.items() if field != "symmetricKey"}


WRONG: dict[str, Callable[[str, str, str], str]] = {
    "another key": lambda uri, name, _: signed(uri, derived(OTHER, name)),
    "the group's own key": lambda uri, _, key: signed(uri, key),
    "another's derived key": lambda uri, _, key: signed(uri, derived(key, "another")),
    "expired": lambda uri, name, key: signed(uri, derived(key, name), seconds=-1),
    "for another device": lambda uri, name, key: signed(f"{uri}-2", derived(key, name)),
    "for another scope": lambda uri, name, key: signed(uri.replace(SCOPE, "0neOther"), derived(key, name)),
    "another policy": lambda uri, name, key: signed(uri, derived(key, name), policy="provisioningserviceowner"),
    "no signature": lambda uri, *_: f"SharedAccessSignature sr={quote(uri, safe='')}",
}


@TRANSPORTS
@pytest.mark.parametrize("wrong", WRONG)
def test_a_signature_that_is_not_good_is_refused(
    emulator: RunningEmulator, name: str, over: Signed, wrong: str
) -> None:
    """With 401002, and without saying what is wrong with it; the device is in no hub."""
    put(emulator, GROUPS, name, entry(GROUPS, name))
    device_id = f"{name}-wrong"
    signature = WRONG[wrong](f"{SCOPE}/registrations/{device_id}", device_id, key_of(name))
    status, body = over(emulator, device_id, signature)
    assert (status, body["errorCode"], body["message"]) == (401, 401002, "Unauthorized")
    assert DpsService(emulator).hub("GET", f"/devices/{device_id}").status_code == 404


def test_a_signature_is_needed_to_look_at_a_registration_too(emulator: RunningEmulator, name: str) -> None:
    """What a device has begun is told to nobody else."""
    put(emulator, ENROLLMENTS, name, entry(ENROLLMENTS, name))
    uri, device = f"{SCOPE}/registrations/{name}", HttpsDevice(emulator, name, None)

    def ask(method: str, path: str, key: str, **options: Any) -> requests.Response:
        return device.call(method, path, headers={"Authorization": signed(uri, key)}, **options)

    operation = f"/operations/{ask('PUT', '/register', key_of(name), json={}).json()['operationId']}"
    assert [ask("GET", operation, key).status_code for key in (key_of(name), OTHER)] == [200, 401]
    assert [ask("POST", "", key, json={}).status_code for key in (key_of(name), OTHER)] == [200, 401]
    assert device.operation(operation.rpartition("/")[2]).status_code == 401


def test_ids_have_no_case(emulator: RunningEmulator, name: str) -> None:
    """The derived key is that of the id in lower case, and the signature may name the id as the device spells it."""
    put(emulator, GROUPS, name, entry(GROUPS, name))
    spelled = name.upper()
    uri = f"{SCOPE}/registrations/{spelled}"
    assert over_https(emulator, spelled, signed(uri, derived(key_of(name), name)))[0] == 200
    assert over_https(emulator, spelled, signed(uri, derived(key_of(name), spelled)))[0] == 401


@BOTH
def test_a_disabled_entry_lets_nobody_in(emulator: RunningEmulator, kind: Collection, name: str) -> None:
    """It says so to who has its key, and to nobody else."""
    put(emulator, kind, name, entry(kind, name, provisioningStatus="disabled"))
    uri = f"{SCOPE}/registrations/{name}"
    messages = [
        over_https(emulator, name, signed(uri, held_by(kind, key, name)))[1]["message"] for key in (key_of(name), OTHER)
    ]
    assert messages == ["Enrollment is disabled", "Unauthorized"]


def test_an_individual_enrollment_decides_alone(emulator: RunningEmulator, name: str) -> None:
    """Whether it has other keys or certificates: the key that the group would accept is refused."""
    put(emulator, GROUPS, name, entry(GROUPS, name))
    signature = signed(f"{SCOPE}/registrations/{name}", derived(key_of(name), name))
    assert over_https(emulator, name, signature)[0] == 200
    service = DpsService(emulator)
    for body in (entry(ENROLLMENTS, name, {"primaryKey": OTHER}), by_certificate(ENROLLMENTS, name)):
        put(emulator, ENROLLMENTS, name, body)
        assert over_https(emulator, name, signature)[1]["message"] == "Unauthorized"
        service.dps("DELETE", f"/enrollments/{name}").raise_for_status()


def test_a_certificate_does_not_do_for_a_key(emulator: RunningEmulator, name: str, tmp_path: Path) -> None:
    """A device with a certificate that a group accepts is refused by its own entry with keys, and by a group with keys."""
    service, root = DpsService(emulator), make("keys alone root", ca=True)
    service.verified("keys-alone", root)
    device = HttpsDevice(emulator, name, make(name, root).files(tmp_path))
    put(emulator, GROUPS, name, entry(GROUPS, name))
    assert device.register().json()["message"] == "Signing certificate info did not match chain elements"
    put(emulator, ENROLLMENTS, name, entry(ENROLLMENTS, name))
    refused = device.register()
    assert (refused.status_code, refused.json()["message"]) == (401, "Unauthorized")


def test_a_device_that_registers_in_another_way_is_known_to_its_hub_by_that(
    emulator: RunningEmulator, name: str, tmp_path: Path
) -> None:
    """From a certificate to a key and back: what it had before does not count any more, and its twin stays."""
    service, party = DpsService(emulator), make(name, ROOT)
    service.verified("keys", ROOT)

    def known() -> tuple[str, bool, bool]:
        found = service.hub("GET", f"/devices/{name}").json()["authentication"]
        return (
            found["type"],
            bool(found["symmetricKey"]["primaryKey"]),
            bool(found["x509Thumbprint"]["primaryThumbprint"]),
        )

    def enrolled(body: Any) -> None:
        service.dps("DELETE", f"/enrollments/{name}")
        put(emulator, ENROLLMENTS, name, body)

    held = {"primary": {"certificate": party.pem}}
    certified = {"registrationId": name, "attestation": {"type": "x509", "x509": {"clientCertificates": held}}}
    device = HttpsDevice(emulator, name, party.files(tmp_path))
    enrolled(certified)
    assert device.registered()["x509"] == {}
    assert known() == ("selfSigned", False, True)
    service.hub("PATCH", f"/twins/{name}", {"tags": {"line": "b"}}).raise_for_status()
    enrolled(entry(ENROLLMENTS, name))
    state = over_https(emulator, name, signed(f"{SCOPE}/registrations/{name}", key_of(name)))[1]["registrationState"]
    assert state["substatus"] == "reprovisionedToInitialAssignment"
    assert known() == ("sas", True, False)
    assert service.hub("GET", f"/twins/{name}").json()["tags"] == {"line": "b"}
    enrolled(certified)
    device.registered()
    assert known() == ("selfSigned", False, True)


def test_a_webhook_sees_no_key(emulator: RunningEmulator, name: str) -> None:
    """Neither the entry's nor the device's (the log in Microsoft's "Use custom allocation policies")."""
    webhook = Webhook()
    webhook.answer = {"iotHubHostName": emulator.endpoints["iotHubs"][0]["hostName"]}
    with listening(webhook):
        definition = {"webhookUrl": webhook.url, "apiVersion": "2021-10-01"}
        put(
            emulator,
            GROUPS,
            name,
            entry(GROUPS, name, allocationPolicy="custom", customAllocationDefinition=definition),
        )
        assert (
            over_https(emulator, name, signed(f"{SCOPE}/registrations/{name}", derived(key_of(name), name)))[0] == 200
        )
    [asked] = webhook.asked
    assert asked["enrollmentGroup"]["attestation"] == {"type": "symmetricKey"}
    assert asked["deviceRuntimeContext"] == {"registrationId": name, "symmetricKey": {}}
