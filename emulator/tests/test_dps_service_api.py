"""The DPS service API, operation by operation, with Microsoft's own client; every exchange is held to its description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService, HttpsDevice

if TYPE_CHECKING:
    from pathlib import Path

    from azure.iot.deviceprovisioning import DeviceProvisioningClient

    from emulator.tests.running import RunningEmulator

ROOT = make("service api root", ca=True)
PERSON = make("single", ROOT)
X509 = {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": PERSON.pem}}}}

STALE = "Precondition failed: the ETag does not match"


def enrollment(registration_id: str, **fields: Any) -> dict[str, Any]:
    return {"registrationId": registration_id, "attestation": X509, **fields}


def test_an_individual_enrollment_from_birth_to_death(service: DeviceProvisioningClient) -> None:
    """Made, read, changed under its ETag, and deleted once: a stale ETag and a second deletion are refused."""
    made = service.enrollment.create_or_update("life", enrollment("life", deviceId="named"))
    assert service.enrollment.get("life") == made
    assert (made["deviceId"], made["provisioningStatus"], made["allocationPolicy"]) == ("named", "enabled", "hashed")
    changed = service.enrollment.create_or_update(
        "life", enrollment("life", provisioningStatus="disabled"), if_match=made["etag"]
    )
    assert changed["provisioningStatus"] == "disabled"
    with pytest.raises(HttpResponseError, match=STALE):
        service.enrollment.delete("life", if_match=made["etag"])
    service.enrollment.delete("life", if_match=changed["etag"])
    with pytest.raises(ResourceNotFoundError):
        service.enrollment.delete("life")


def test_what_identifies_a_device_is_told(service: DeviceProvisioningClient) -> None:
    """The attestation mechanism of an enrollment has what is to be read in its certificate."""
    service.enrollment.create_or_update("told", enrollment("told"))
    told = service.enrollment.get_attestation_mechanism("told")
    primary = told["x509"]["clientCertificates"]["primary"]
    assert told["type"] == "x509"
    assert primary["info"]["subjectName"] == "CN=single"


def test_a_group_that_refers_to_a_ca(emulator: RunningEmulator, service: DeviceProvisioningClient) -> None:
    """A group by CA reference has no certificates of its own, in the group as in its attestation mechanism."""
    DpsService(emulator).verified("referred", ROOT)
    attestation = {"type": "x509", "x509": {"caReferences": {"primary": "referred"}}}
    made = service.enrollment_group.create_or_update(
        "referring", {"enrollmentGroupId": "referring", "attestation": attestation}
    )
    assert made["attestation"] == attestation
    assert service.enrollment_group.get_attestation_mechanism("referring") == attestation


def test_enrollments_are_listed_page_by_page(service: DeviceProvisioningClient) -> None:
    """A query gives every enrollment once, over as many pages as it takes."""
    names = {f"page-{number}" for number in range(5)}
    for name in names:
        service.enrollment.create_or_update(name, enrollment(name))
    found = [each["registrationId"] for each in service.enrollment.query({"query": "SELECT * FROM enrollments"}, top=2)]
    assert len(found) == len(set(found))
    assert names <= set(found)


def test_a_registration_is_forgotten_once(
    emulator: RunningEmulator, service: DeviceProvisioningClient, tmp_path: Path
) -> None:
    """The record of a registration is read, and deleted under its ETag alone."""
    service.enrollment.create_or_update("single", enrollment("single"))
    HttpsDevice(emulator, "single", PERSON.files(tmp_path)).registered()
    state = service.device_registration_state.get("single")
    assert (state["status"], state["registrationId"]) == ("assigned", "single")
    with pytest.raises(HttpResponseError, match=STALE):
        service.device_registration_state.delete("single", if_match='"stale"')
    service.device_registration_state.delete("single", if_match=state["etag"])
    with pytest.raises(ResourceNotFoundError):
        service.device_registration_state.get("single")


@pytest.mark.parametrize("kind", ["tpm", "none"])
def test_other_attestation_is_not_offered(service: DeviceProvisioningClient, kind: str) -> None:
    """The kinds of attestation that the emulator lacks are named."""
    says = f"does not offer attestation of type '{kind}': x509 and symmetricKey only"
    with pytest.raises(HttpResponseError, match=says) as refused:
        service.enrollment.create_or_update("other", {"registrationId": "other", "attestation": {"type": kind}})
    assert refused.value.status_code == 501
