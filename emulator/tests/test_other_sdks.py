"""What Microsoft's SDKs of other languages send, and Python's do not: each request is one that such an SDK makes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.tests.api_descriptions.validation import descriptions
from emulator.tests.certificates import make
from emulator.tests.iot_hub_clients import PATIENCE, device_certificate, raw_device
from emulator.tests.running import MQTT_PORT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from emulator.tests.running import RunningEmulator

AUDIENCES = {
    "dps": "https://azure-devices-provisioning.net",
    "hub": "https://iothubs.azure.net",
    "management": "https://management.azure.com",
    "vault": "https://vault.azure.net",
}
VERSIONS = {"dps": "2021-10-01", "hub": "2021-04-12", "management": "2023-06-30", "vault": "7.5"}
ROOT = make("other SDKs' root", ca=True)
SIGNER = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": ROOT.pem}}}}
GROUP = {"enrollmentGroupId": "other-sdks", "attestation": SIGNER}


class Caller:
    """Plain requests to one service, with a token that is good there."""

    def __init__(self, emulator: RunningEmulator, http: requests.Session) -> None:
        self._emulator = emulator
        self._http = http

    def __call__(
        self, service: str, method: str, path: str, body: Any = None, *, version: str | None = None
    ) -> requests.Response:
        return self._http.request(
            method,
            f"{self._emulator.https_url}{path}",
            json=body,
            params={"api-version": VERSIONS[service] if version is None else version},
            headers={"Authorization": f"Bearer {self._emulator.token(AUDIENCES[service])}"},
            timeout=PATIENCE,
        )


@pytest.fixture
def call(emulator: RunningEmulator, http: requests.Session) -> Caller:
    return Caller(emulator, http)


# --- paths ---


@pytest.mark.parametrize(
    ("service", "method", "path", "body"),
    [
        ("dps", "POST", "/enrollmentgroups/other-sdks/attestationmechanism", None),  # azure-iot-provisioning-service
        ("dps", "POST", "/enrollments/", {"mode": "delete", "enrollments": []}),
        ("dps", "GET", "/ENROLLMENTGROUPS/other-sdks/", None),
        ("hub", "GET", "/devices/", None),  # azure-iothub
        ("hub", "GET", "/Statistics/Devices", None),
        ("vault", "GET", "/Keys", None),
    ],
)
def test_paths_are_read_in_any_case_and_with_a_slash_at_the_end(
    call: Caller, service: str, method: str, path: str, body: Any
) -> None:
    """As the services of Azure read them; Node.js' SDKs have both on the way."""
    if not call("dps", "GET", "/enrollmentGroups/other-sdks").ok:
        call("dps", "PUT", "/enrollmentGroups/other-sdks", GROUP).raise_for_status()
    assert call(service, method, path, body).status_code == 200


def test_names_in_paths_keep_their_case(call: Caller) -> None:
    """Only the fixed parts of a path are in any case: a device id is not."""
    call("hub", "PUT", "/devices/Case", {"deviceId": "Case"}).raise_for_status()
    assert call("hub", "GET", "/DEVICES/Case/").json()["deviceId"] == "Case"
    assert call("hub", "GET", "/devices/case").status_code == 404


def test_a_planned_fault_meets_every_spelling(fresh_emulator: RunningEmulator) -> None:
    """An operation has one name in a plan, that of the documentation, however a client spells the path."""
    rule = {"service": "key_vault", "operation": "GET /keys/{name}/{version}", "count": 1, "status": 503}
    plan = {"rules": [rule]}
    requests.put(f"{fresh_emulator.admin_url}/faults", json=plan, timeout=PATIENCE).raise_for_status()
    with requests.Session() as session:
        session.trust_env = False
        session.verify = fresh_emulator.ca_file
        assert session.get(f"{fresh_emulator.https_url}/KEYS/any/", timeout=PATIENCE).status_code == 503


# --- DPS ---


@pytest.mark.parametrize("kind", ["enrollments", "enrollmentGroups"])
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("*", 200),  # azure-iot-provisioning-service's own sample
        ("select * from {}", 200),
        ("SELECT *", 200),
        ("{{'additional_properties': {{}}, 'query': 'SELECT *'}}", 200),  # azure-iot-cli-extension
        ("SELECT * FROM {} WHERE provisioningStatus = 'disabled'", 200),
        ("SELECT etag FROM {}", 501),
        ("SELECT TOP 1 * FROM {}", 501),
        ("SELECT COUNT() FROM {}", 501),
        ("SELECT * FROM devices", 400),
        ("SELECT * FROM {} WHERE provisioningStatus", 400),
        ("everything", 400),
        ("", 400),
    ],
)
def test_queries_of_enrollments(call: Caller, kind: str, query: str, status: int) -> None:
    """All entries can be asked for in any form; what asks for some fields of them is named as not offered."""
    answer = call("dps", "POST", f"/{kind}/query", {"query": query.format(kind)})
    assert answer.status_code == status
    if status == 501:
        assert "does not offer the query" in answer.json()["message"]


@pytest.mark.parametrize("version", ["2019-03-31", "2018-11-01", "2025-07-01-preview", "2026-11-01"])
def test_older_and_newer_versions_of_dps(call: Caller, version: str) -> None:
    """Every version that DPS has had is spoken, on both its APIs: here neither finds what it is asked for."""
    assert call("dps", "GET", "/enrollmentGroups/none", version=version).json()["errorCode"] == 404201
    register = call("dps", "PUT", "/0ne00000001/registrations/none/register", {}, version=version)
    assert register.json()["errorCode"] == 401002  # it sends no certificate


@pytest.mark.parametrize("version", ["1999-01-01", "latest", ""])
def test_versions_that_dps_never_had(call: Caller, version: str) -> None:
    """A version that is none, or missing, is refused by both APIs in the service's own body."""
    for method, path in (("GET", "/enrollmentGroups/none"), ("PUT", "/0ne00000001/registrations/none/register")):
        answer = call("dps", method, path, {}, version=version)
        assert (answer.status_code, answer.json()["errorCode"]) == (400, 400000)
        assert "api-version" in answer.json()["message"]


@pytest.mark.parametrize(
    ("end", "code"), [("api-version=2019-03-31&ClientVersion=any", 0), ("api-version=1999-01-01", 5), ("", 5)]
)
def test_the_version_of_a_registration_over_mqtt(
    emulator: RunningEmulator, tmp_path: Path, end: str, code: int
) -> None:
    """DPS reads its version out of the user name, and refuses a connection that names none it knows."""
    username = f"{emulator.endpoints['idScope']}/registrations/version/{end}"
    with raw_device(emulator.ca_file, "version", username, device_certificate(tmp_path, "version")) as device:
        assert device.connect(emulator.endpoints["dpsDeviceHost"], MQTT_PORT) == code


# --- hub ---


def test_import_modes_and_etags_as_node_spells_them(call: Caller) -> None:
    """Modes and names of fields are read in any case: a stale ETag is refused however its field is written."""
    call("hub", "POST", "/devices/", [{"id": "bulk-case", "importMode": "create"}]).raise_for_status()
    etag = call("hub", "GET", "/devices/bulk-case").json()["etag"]

    def change(**fields: Any) -> requests.Response:
        return call("hub", "POST", "/devices/", [{"id": "bulk-case", **fields}])

    assert change(importMode="Update", status="disabled").ok
    stale = change(importMode="UpdateIfMatchETag", etag=etag, status="enabled")
    assert stale.json()["errors"][0]["errorCode"] == 412001
    assert call("hub", "GET", "/devices/bulk-case").json()["status"] == "disabled"
    assert change(importMode="DeleteIfMatchETag", etag=etag).status_code == 400
    assert change(importMode="Delete").ok
    assert call("hub", "GET", "/devices/bulk-case").status_code == 404


@pytest.mark.parametrize("version", ["1999-01-01", "latest", ""])
def test_versions_that_a_hub_never_had(call: Caller, version: str) -> None:
    """As the service says it: Azure/Industrial-IoT pull request 708 quotes the answer."""
    answer = call("hub", "GET", "/devices/none", version=version)
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (400, "InvalidProtocolVersion")
    assert answer.json()["Message"].startswith("ErrorCode:InvalidProtocolVersion;BadRequest")


@pytest.mark.parametrize("version", ["2018-06-30", "2020-05-31-preview", "2020-09-30", "2024-03-31"])
def test_other_versions_of_a_hub(call: Caller, version: str) -> None:
    """Versions that older SDKs and Azure CLI speak get the same answers."""
    answer = call("hub", "GET", "/devices/none", version=version)
    assert answer.headers["iothub-errorcode"] == "DeviceNotFound"


# --- Azure Resource Manager ---


@pytest.mark.parametrize(
    ("resource", "version", "below"),
    [("dpsResourceId", "2021-10-15", False), ("dpsResourceId", "2022-12-12", True), ("hub", "2023-06-30", True)],
)
def test_a_certificate_as_azure_cli_uploads_it(
    emulator: RunningEmulator, call: Caller, resource: str, version: str, *, below: bool
) -> None:
    """It puts a file into base64, an SDK of its puts that into base64 once more; DPS has its fields at the top.

    So azure-cli 2.91 does with azure-mgmt-iothubprovisioningservices 1.1.0 in ``az iot dps certificate create``.
    """
    endpoints = emulator.endpoints
    name = endpoints["iotHubs"][0]["resourceId"] if resource == "hub" else endpoints[resource]
    path = f"{name}/certificates/az-{version}"

    def create(text: str) -> requests.Response:
        fields = {"certificate": text, "isVerified": True}
        return call("management", "PUT", path, {"properties": fields} if below else fields, version=version)

    once = base64.b64encode(ROOT.pem.encode())
    properties = create(base64.b64encode(once).decode()).json()["properties"]
    assert (properties["subject"], properties["isVerified"]) == ("CN=other SDKs' root", True)
    refused = create(base64.b64encode(base64.b64encode(base64.b64encode(b"nothing"))).decode())
    assert refused.status_code in {400, 412}
    if not below:
        assert call("management", "PUT", f"{name}/certificates/az-none", {}, version=version).status_code == 400


@pytest.mark.parametrize("resource", ["dps", "hub"])
def test_certificates_are_changed_under_their_etag_alone(
    emulator: RunningEmulator, http: requests.Session, resource: str
) -> None:
    """Without If-Match, or with a stale one, nothing is replaced, deleted, verified, or given a code; a new one needs none."""
    endpoints = emulator.endpoints
    name = endpoints["dpsResourceId"] if resource == "dps" else endpoints["iotHubs"][0]["resourceId"]
    body = {"properties": {"certificate": ROOT.pem, "isVerified": True}}

    def ask(method: str, end: str = "", etag: str | None = None, content: Any = body) -> requests.Response:
        return http.request(
            method,
            f"{emulator.https_url}{name}/certificates/guarded{end}",
            json=content,
            params={"api-version": "2022-12-12" if resource == "dps" else "2023-06-30"},
            headers={
                "Authorization": f"Bearer {emulator.token(AUDIENCES['management'])}",
                **({} if etag is None else {"If-Match": etag}),
            },
            timeout=PATIENCE,
        )

    first = ask("PUT").json()["etag"]
    second = ask("PUT", etag=first).json()["etag"]
    for stale in (None, first):
        for method, end, content in (
            ("PUT", "", body),
            ("DELETE", "", None),
            ("POST", "/generateVerificationCode", None),
            ("POST", "/verify", {"certificate": ROOT.pem}),
        ):
            refused = ask(method, end, stale, content)
            assert (refused.status_code, refused.json()["code"]) == (412, 412001)
            assert refused.json()["message"].startswith("Invalid ETag supplied. ")
    assert ask("GET", content=None).json()["etag"] == second
    assert ask("DELETE", etag=second, content=None).status_code == 200


@pytest.mark.parametrize(
    ("resource", "version"),
    [("dps", "1999-01-01"), ("dps", "2023-06-30"), ("hub", "1999-01-01"), ("hub", "2022-12-12")],
)
def test_versions_that_a_resource_never_had(
    emulator: RunningEmulator, call: Caller, resource: str, version: str
) -> None:
    """Azure Resource Manager refuses them, for each type by its own list, also where the emulator lacks the operation."""
    endpoints = emulator.endpoints
    name = endpoints["dpsResourceId"] if resource == "dps" else endpoints["iotHubs"][0]["resourceId"]
    for method, path in (
        ("GET", name),
        ("GET", f"{name}/certificates"),
        ("DELETE", name),
        ("POST", f"{name}/listkeys"),
    ):
        answer = call("management", method, path, version=version)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "NoRegisteredProviderFound")
        assert f"API version '{version}' for type" in answer.json()["error"]["message"]


RESOURCES = [
    operation
    for service in ("management", "iot_hub_management")
    for operation in descriptions()[service].operations
    if "Certificate" not in operation["id"] and not operation["id"].endswith("_Get")
]


@pytest.mark.parametrize("operation", RESOURCES, ids=[each["id"] for each in RESOURCES])
def test_resources_come_and_go_with_the_emulator(
    emulator: RunningEmulator, call: Caller, operation: Mapping[str, Any]
) -> None:
    """Making, changing, deleting and listing them, and their keys, is documented and not offered: it is named so."""
    names = emulator.endpoints["dpsResourceId"].split("/")
    version = "2022-12-12" if "provisioningServices" in operation["path"] else "2023-06-30"
    path = operation["path"].format(
        subscriptionId=names[2],
        resourceGroupName=names[4],
        provisioningServiceName="another",
        resourceName="another",
        keyName="any",
    )
    answer = call("management", operation["method"], path, {}, version=version)
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "NotImplemented")
    assert "does not offer Microsoft.Devices/" in answer.json()["error"]["message"]
    stranger = requests.request(
        operation["method"], f"{emulator.https_url}{path}", verify=emulator.ca_file, timeout=PATIENCE
    )
    assert stranger.status_code == 401
