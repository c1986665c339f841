"""The emulator against Microsoft's descriptions, operation by operation; the fixture ``as_documented`` checks each answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from emulator.tests.api_descriptions import coverage
from emulator.tests.api_descriptions.recorded import RECORDED
from emulator.tests.api_descriptions.validation import Description, descriptions
from emulator.tests.certificates import make
from emulator.tests.running import emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from emulator.tests.running import RunningEmulator

AUDIENCES = {
    "dps": "https://azure-devices-provisioning.net",
    "dps_device": "https://azure-devices-provisioning.net",
    "management": "https://management.azure.com",
    "iot_hub_management": "https://management.azure.com",
    "iot_hub": "https://iothubs.azure.net",
}
OPERATIONS = [(each, operation) for each in descriptions().values() for operation in each.operations]


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator that nothing else is told from; it is called with made-up names."""
    with emulator_in_thread(tmp_path_factory.mktemp("probed")) as running:
        yield running


def smallest(description: Description, schema: Mapping[str, Any]) -> Any:
    """The smallest value of a schema: what must be there, and nothing else."""
    if "$ref" in schema:
        return smallest(description, description.content["schemas"][schema["$ref"].rpartition("/")[2]])
    if "enum" in schema:
        return schema["enum"][0]
    required, properties = schema.get("required", ()), schema.get("properties", {})
    if schema.get("type", "object") == "object":
        return {name: smallest(description, properties[name]) for name in required}
    plain: dict[str, Any] = {"array": [], "boolean": False, "integer": 1, "string": "x"}
    return plain[schema["type"]]


def called(emulator: RunningEmulator, http: requests.Session, path: str, **request: Any) -> requests.Response:
    resource = emulator.endpoints["dpsResourceId"].split("/")
    names = {
        "subscriptionId": resource[2],
        "resourceGroupName": resource[4],
        "provisioningServiceName": resource[-1],
        "resourceName": emulator.endpoints["iotHubs"][0]["resourceId"].split("/")[-1],
        "idScope": emulator.endpoints["idScope"],
    }
    for part in path.split("/"):
        if part.startswith("{"):
            path = path.replace(part, names.get(part[1:-1], "nobody"))
    return http.request(url=f"{emulator.https_url}{path}", verify=emulator.ca_file, timeout=10, **request)


@pytest.mark.parametrize(("description", "operation"), OPERATIONS, ids=[each["id"] for _, each in OPERATIONS])
def test_every_documented_operation_gets_a_documented_answer(
    probed: RunningEmulator, http: requests.Session, description: Description, operation: Mapping[str, Any]
) -> None:
    """The smallest request that is as documented is served, refused as documented, or answered 501: never 500."""
    body = operation.get("body")
    answer = called(
        probed,
        http,
        operation["path"],
        method=operation["method"],
        params={"api-version": description.content["sources"][0]["apiVersion"]},
        headers={"Authorization": f"Bearer {probed.token(AUDIENCES[description.service])}", "If-Match": "*"},
        json=None if body is None else smallest(description, body["schema"]),
    )
    assert answer.status_code < 500 or answer.status_code == 501


@pytest.mark.parametrize("service", ["dps", "management", "iot_hub"])
def test_a_call_without_api_version(probed: RunningEmulator, http: requests.Session, service: str) -> None:
    """Each service refuses a request that does not say which version it speaks."""
    operation = next(each for each in descriptions()[service].operations if each["method"] == "GET")
    headers = {"Authorization": f"Bearer {probed.token(AUDIENCES[service])}"}
    answer = called(probed, http, operation["path"], method="GET", headers=headers)
    assert answer.status_code == 400
    assert "api-version" in answer.text


def test_a_group_with_all_that_is_documented(probed: RunningEmulator, http: requests.Session) -> None:
    """A group with every property of the published example EnrollmentGroup_CreateOrUpdate_MaximumSet comes back whole."""
    hub = probed.endpoints["iotHubs"][0]["hostName"]
    twin = {"count": 1, "metadata": {"lastUpdated": "2025-10-01T17:42:04.76Z", "lastUpdatedVersion": 3}, "version": 2}
    group = {
        "enrollmentGroupId": "whole",
        "attestation": {
            "type": "x509",
            "x509": {"signingCertificates": {"primary": {"certificate": make("whole", ca=True).pem}}},
        },
        "capabilities": {"iotEdge": True},
        "initialTwin": {"tags": {"site": {}, **twin}, "properties": {"desired": {"rate": {}, **twin}}},
        "iotHubs": [hub],
        "allocationPolicy": "hashed",
        "provisioningStatus": "enabled",
        "reprovisionPolicy": {"migrateDeviceData": True, "updateHubAssignment": True},
    }
    asked = {
        "params": {"api-version": "2021-10-01"},
        "headers": {"Authorization": f"Bearer {probed.token(AUDIENCES['dps'])}"},
    }
    made = called(probed, http, "/enrollmentGroups/whole", method="PUT", json=group, **asked)
    read = called(probed, http, "/enrollmentGroups/whole", method="GET", **asked).json()
    assert made.status_code == 200
    assert {name: read[name] for name in group if name != "attestation"} == {
        name: value for name, value in group.items() if name != "attestation"
    }


def test_what_was_seen_is_written_down(complete_run: bool) -> None:  # noqa: FBT001 - a fixture
    """The committed list has what the contract tests saw; this test runs last."""
    seen, file = RECORDED.seen(), os.environ.get(coverage.WRITE_TO)
    if file and complete_run:
        coverage.write_seen(seen, file)
    else:
        assert list(coverage.out_of_date(seen, complete=complete_run)) == [], f"run: {coverage.COMMAND} --run"
