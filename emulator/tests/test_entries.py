"""Enrollments and groups in the emulated DPS, as clients meet them that no SDK of Python stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService, HttpsDevice

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.tests.running import RunningEmulator


@pytest.fixture
def service(fresh_emulator: RunningEmulator) -> DpsService:
    return DpsService(fresh_emulator)


def test_an_individual_enrollment_tells_how_its_device_is_registered(
    fresh_emulator: RunningEmulator, service: DpsService, tmp_path: Path
) -> None:
    """``registrationState`` is the registration record; it is read-only, and absent while there is none."""
    party = make("one-device")
    certificates = {"primary": {"certificate": party.pem}}
    body = {
        "registrationId": "one-device",
        "attestation": {"type": "x509", "x509": {"clientCertificates": certificates}},
        "registrationState": {"status": "assigned", "assignedHub": "nowhere"},
    }
    assert "registrationState" not in service.dps("PUT", "/enrollments/one-device", body).json()
    HttpsDevice(fresh_emulator, "one-device", party.files(tmp_path)).registered()
    record = service.registration("one-device")
    assert (record["status"], record["deviceId"]) == ("assigned", "one-device")
    assert service.dps("GET", "/enrollments/one-device").json()["registrationState"] == record
    listed = service.dps("POST", "/enrollments/query", {"query": "SELECT * FROM enrollments"}).json()
    assert [each["registrationState"] for each in listed] == [record]
    service.dps("DELETE", "/registrations/one-device").raise_for_status()
    assert "registrationState" not in service.dps("GET", "/enrollments/one-device").json()


def test_entries_are_found_by_a_condition(service: DpsService) -> None:
    """A condition finds entries by what is in them; a page has as many as were asked for, without gap or repetition."""
    certificates = {"primary": {"certificate": make("any").pem}}
    attestation = {"type": "x509", "x509": {"clientCertificates": certificates}}
    for number in range(6):
        status = "disabled" if number % 2 else "enabled"
        body = {"registrationId": f"d{number}", "attestation": attestation, "provisioningStatus": status}
        service.dps("PUT", f"/enrollments/d{number}", body).raise_for_status()

    def found(condition: str, size: int) -> list[list[str]]:
        pages, continuation = [], ""
        while True:
            answer = service.call(
                "POST",
                "/enrollments/query",
                {"query": f"SELECT * FROM enrollments WHERE {condition}"},  # noqa: S608 - the emulator's own language
                resource="https://azure-devices-provisioning.net",
                continuation=continuation,
                page_size=str(size),
                **{"api-version": "2021-10-01"},
            )
            pages.append([each["registrationId"] for each in answer.json()])
            if "x-ms-continuation" not in answer.headers:
                return pages
            continuation = answer.headers["x-ms-continuation"]

    assert found("provisioningStatus = 'disabled'", 2) == [["d1", "d3"], ["d5"]]
    assert found("provisioningStatus = 'enabled' AND STARTSWITH(registrationId, 'd')", 3) == [["d0", "d2", "d4"]]
    assert found("registrationId IN ['d0', 'd5', 'none']", 1) == [["d0"], ["d5"]]
    assert found("registrationId = 'none'", 5) == [[]]
