"""The app's way to register a device, by Microsoft's device SDK, against the emulated DPS: what a refusal becomes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import requests
from azure.iot.device.aio import ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError, ServiceError
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService
from emulator.tests.running import RunningEmulator, emulator_in_thread
from shared.adapters.dps_device import DeviceRegistrar
from shared.adapters.sdk_errors import is_outage
from shared.errors import Deferred
from shared.ports.registrar import Assignment, AssignmentFailed, ClientCredentials, RegistrationRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.tests.certificates import Party

ROOT = make("root of registered devices", ca=True)
NOWHERE = {"webhookUrl": "http://127.0.0.1:1/", "apiVersion": "2019-03-31"}


@pytest.fixture(params=["assigning", "atOnce"])
def emulator(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningEmulator]:
    """One that has registrations looked up, as DPS does, and one that answers them at once."""
    with emulator_in_thread(tmp_path, variants={"dpsRegistration": request.param}) as running:
        monkeypatch.setenv("SSL_CERT_FILE", running.ca_file)
        DpsService(running).verified("root", ROOT)
        yield running


def registrar(emulator: RunningEmulator) -> DeviceRegistrar:
    endpoints = emulator.endpoints
    return DeviceRegistrar(endpoints["dpsDeviceHost"], endpoints["idScope"], timeout=timedelta(seconds=20))


def credentials(party: Party) -> ClientCredentials:
    encryption = BestAvailableEncryption(b"sesame")
    key = party.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return ClientCredentials(party.certificate.public_bytes(Encoding.PEM) + key, "sesame")


def lookups_end_with(emulator: RunningEmulator, status: int) -> None:
    plan = {"rules": [{"service": "dps_device", "operation": "operationStatus", "status": status}]}
    requests.put(f"{emulator.admin_url}/faults", json=plan, timeout=10).raise_for_status()


async def test_a_device_is_registered(emulator: RunningEmulator) -> None:
    """The hub that DPS chose comes back."""
    DpsService(emulator).group("line", ROOT)
    assignment = await registrar(emulator).register("press-1", credentials(make("press-1", ROOT)))
    assert assignment.assigned_hub == emulator.endpoints["iotHubs"][0]["hostName"]
    assert assignment.device_id == "press-1"


async def test_a_device_that_no_group_knows_is_rejected(emulator: RunningEmulator) -> None:
    """A 401 is final: the message says what may be the cause."""
    with pytest.raises(RegistrationRefused, match="DPS refused to register 'press-1' with status 401: ") as refused:
        await registrar(emulator).register("press-1", credentials(make("press-1", make("other", ca=True))))
    assert refused.value.status == 401


async def test_a_device_for_which_no_hub_is_found_is_no_wrong_request(emulator: RunningEmulator) -> None:
    """A webhook that does not answer may do so later; DPS's record has the reason."""
    service = DpsService(emulator)
    service.group("custom", ROOT, allocationPolicy="custom", customAllocationDefinition=NOWHERE)
    with pytest.raises(AssignmentFailed, match="DPS found no hub for 'press-1'"):
        await registrar(emulator).register("press-1", credentials(make("press-1", ROOT)))
    record = service.registration("press-1")
    assert (record["status"], record["errorCode"]) == ("failed", 400207)


async def test_two_registrations_of_one_device_at_once_leave_it_in_its_hub(emulator: RunningEmulator) -> None:
    """DPS keeps the later operation and does not know the earlier one any more: that one is tried again."""
    DpsService(emulator).group("line", ROOT)
    same = credentials(make("press-1", ROOT))
    outcomes = await asyncio.gather(
        *(registrar(emulator).register("press-1", same) for _ in range(2)), return_exceptions=True
    )
    placed = [each for each in outcomes if isinstance(each, Assignment)]
    waiting = [each for each in outcomes if isinstance(each, Deferred)]
    assert len(placed) + len(waiting) == len(outcomes), outcomes
    assert {each.device_id for each in placed} == {"press-1"}


@pytest.mark.parametrize("emulator", ["atOnce"], indirect=True)
async def test_a_dps_that_is_silent_is_an_outage(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK raises after minutes stays as it is, with its cause: that tells an outage from a fault of ours."""
    silence = "Operation timed out before provisioning service could respond for register operation"

    async def register(_client: ProvisioningDeviceClient) -> None:
        raise ClientError("Unexpected failure") from ServiceError(silence)

    monkeypatch.setattr(ProvisioningDeviceClient, "register", register)
    with pytest.raises(ClientError) as failed:
        await registrar(emulator).register("press-1", credentials(make("press-1", ROOT)))
    assert str(failed.value.__cause__) == silence
    assert is_outage(failed.value)


@pytest.mark.parametrize("status", [404, 409, 412])
@pytest.mark.parametrize("emulator", ["assigning"], indirect=True)
async def test_a_registration_that_dps_has_lost_is_tried_again(emulator: RunningEmulator, status: int) -> None:
    """It says nothing of the device, which is not to fail for it."""
    DpsService(emulator).group("line", ROOT)
    lookups_end_with(emulator, status)
    with pytest.raises(Deferred, match=f"that was begun \\(status {status}\\): another one has taken its place"):
        await registrar(emulator).register("press-1", credentials(make("press-1", ROOT)))
