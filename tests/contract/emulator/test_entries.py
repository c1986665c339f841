"""Enrollments and groups in the emulated DPS, as clients meet them that no SDK of Python stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.emulator.certificates import make
from tests.contract.emulator.dps_clients import DpsService, HttpsDevice

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.emulator.running import RunningEmulator


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
