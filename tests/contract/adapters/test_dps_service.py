"""A device's own entry in DPS, written by Microsoft's client against the emulated service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.identity.aio import ManagedIdentityCredential
from azure.iot.deviceprovisioning.aio import DeviceProvisioningClient

from emulator.tests.running import RunningEmulator, emulator_in_thread, own_address
from shared.adapters.dps_service import ProvisioningService
from shared.domain.attestations import leaf_attestation
from shared.domain.entries import own_settings, settings_apart
from shared.errors import Conflict, PreconditionFailed, Rejected
from shared.pki import names
from tests.pki.hierarchy import hierarchy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from cryptography import x509

    type Entry = dict[str, Any]

DEVICE = "press-001"
FIRST, SECOND, THIRD = (hierarchy().device(DEVICE) for _ in range(3))


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    with emulator_in_thread(tmp_path, extra_hub_addresses=[own_address()]) as running:
        monkeypatch.setenv("IDENTITY_ENDPOINT", running.endpoints["identityEndpoint"])
        monkeypatch.setenv("IDENTITY_HEADER", running.endpoints["identityHeader"])
        yield running


@pytest.fixture
async def dps(emulator: RunningEmulator) -> AsyncIterator[ProvisioningService]:
    url, trusted = emulator.endpoints["dpsServiceUrl"], emulator.endpoints["tlsCaFile"]
    async with ManagedIdentityCredential() as credential:
        service = ProvisioningService(url, credential)
        await service.close()
        service._client = DeviceProvisioningClient(url, credential, connection_verify=trusted)  # noqa: SLF001
        yield service
        await service.close()


async def entry_of(dps: ProvisioningService) -> Entry:
    entry = await dps.get_enrollment(DEVICE)
    assert entry is not None
    return entry


def held(entry: Entry) -> set[str]:
    """Give the SHA-256 thumbprints of an entry's certificates."""
    places = entry["attestation"]["x509"]["clientCertificates"].values()
    return {each["info"]["sha256Thumbprint"].upper() for each in places if each}


def thumbprints(*certificates: x509.Certificate) -> set[str]:
    return {names.sha256_thumbprint(each) for each in certificates}


async def test_a_device_is_shut_out_whatever_is_there(dps: ProvisioningService) -> None:
    """A new entry, an enabled one that keeps its other values, and one that is disabled already: that is outdated."""
    await dps.shut_out(DEVICE, FIRST)
    entry = await entry_of(dps)
    assert (entry["provisioningStatus"], held(entry)) == ("disabled", thumbprints(FIRST))
    enabled = {**entry, "provisioningStatus": "enabled", "allocationPolicy": "static"}
    await dps.put_enrollment(enabled, etag=entry["etag"])
    await dps.shut_out(DEVICE, SECOND)
    entry = await entry_of(dps)
    assert (entry["provisioningStatus"], entry["allocationPolicy"], held(entry)) == (
        "disabled",
        "static",
        thumbprints(SECOND),
    )
    await dps.shut_out(DEVICE, SECOND)
    with pytest.raises(PreconditionFailed):
        await dps.admit_only(DEVICE, entry, [SECOND])
    assert (await entry_of(dps))["provisioningStatus"] == "disabled"


async def test_a_device_is_admitted_with_its_certificates_and_no_other(dps: ProvisioningService) -> None:
    """As its entry was seen; what is so already is not written, and an entry made meanwhile is not overwritten."""
    await dps.admit_only(DEVICE, None, [FIRST, SECOND])
    entry = await entry_of(dps)
    assert (entry["provisioningStatus"], held(entry)) == ("enabled", thumbprints(FIRST, SECOND))
    await dps.admit_only(DEVICE, entry, [FIRST, SECOND])
    assert (await entry_of(dps))["etag"] == entry["etag"]
    with pytest.raises(Conflict):
        await dps.admit_only(DEVICE, None, [THIRD])
    await dps.admit_only(DEVICE, entry, [THIRD])
    assert held(await entry_of(dps)) == thumbprints(THIRD)
    with pytest.raises(PreconditionFailed):
        await dps.admit_only(DEVICE, entry, [FIRST])


async def test_a_new_entry_gets_the_settings_that_the_ledger_has_and_shows_no_others(dps: ProvisioningService) -> None:
    """One that is there keeps its own; and what the service fills in does not count as a difference."""
    asked = {"deviceId": "one", "initialTwin": {"tags": {"plant": "Bremen"}}, "capabilities": {"iotEdge": True}}
    for settings in ({}, asked):
        await dps.shut_out(DEVICE, FIRST, settings=settings)
        assert settings_apart(settings, own_settings(await entry_of(dps))) is None
        await dps.shut_out(DEVICE, SECOND, settings={"deviceId": "other"})
        entry = await entry_of(dps)
        assert settings_apart(settings, own_settings(entry)) is None
        await dps.delete_enrollment(DEVICE, etag=entry["etag"])
        await dps.admit_only(DEVICE, None, [FIRST], settings=settings)
        entry = await entry_of(dps)
        assert settings_apart(settings, own_settings(entry)) is None
        await dps.delete_enrollment(DEVICE, etag=entry["etag"])


async def test_a_device_is_shut_out_though_dps_refuses_the_settings_of_its_entry(
    dps: ProvisioningService, emulator: RunningEmulator
) -> None:
    """A hub that its entry names is not linked any more. One that lets nobody in needs no settings but its device id."""

    def link(*hosts: str) -> None:
        requests.put(f"{emulator.admin_url}/linked-hubs", json={"iotHubs": hosts}, timeout=5).raise_for_status()

    first, second = (each["hostName"] for each in emulator.endpoints["iotHubs"])
    asked = {"deviceId": "one", "allocationPolicy": "static", "iotHubs": [second]}
    bare = {"deviceId": "one", "allocationPolicy": "hashed"}
    link(first)
    await dps.shut_out(DEVICE, FIRST, settings=asked)
    entry = await entry_of(dps)
    assert (entry["provisioningStatus"], held(entry)) == ("disabled", thumbprints(FIRST))
    assert settings_apart(bare, own_settings(entry)) is None
    link(first, second)
    await dps.put_enrollment({**entry, **asked, "provisioningStatus": "enabled"}, etag=entry["etag"])
    link(first)
    await dps.shut_out(DEVICE, SECOND)
    entry = await entry_of(dps)
    assert (entry["provisioningStatus"], held(entry)) == ("disabled", thumbprints(SECOND))
    assert settings_apart(bare, own_settings(entry)) is None
    with pytest.raises(Rejected, match="is not linked"):
        await dps.admit_only(DEVICE, {**entry, **asked}, [FIRST])


async def test_a_disabled_entry_may_name_other_certificates_and_stay_disabled(dps: ProvisioningService) -> None:
    """An operator has disabled it; when it is enabled again it has the certificates in use."""
    entry = {
        "registrationId": DEVICE,
        "attestation": leaf_attestation(names.pem(FIRST)),
        "provisioningStatus": "disabled",
    }
    await dps.put_enrollment(entry, etag=None)
    await dps.admit_only(DEVICE, await entry_of(dps), [SECOND], enabled=False)
    now = await entry_of(dps)
    assert (now["provisioningStatus"], held(now)) == ("disabled", thumbprints(SECOND))
    await dps.admit_only(DEVICE, now, [SECOND], enabled=True)
    assert (await entry_of(dps))["provisioningStatus"] == "enabled"


async def test_an_entry_is_deleted_as_it_was_seen(dps: ProvisioningService) -> None:
    """One that has changed since stays; one that is gone is deleted."""
    await dps.admit_only(DEVICE, None, [FIRST])
    seen = await entry_of(dps)
    await dps.shut_out(DEVICE, FIRST)
    with pytest.raises(PreconditionFailed):
        await dps.delete_enrollment(DEVICE, etag=seen["etag"])
    await dps.delete_enrollment(DEVICE, etag=(await entry_of(dps))["etag"])
    await dps.delete_enrollment(DEVICE, etag=seen["etag"])
    assert await dps.get_enrollment(DEVICE) is None


async def test_a_group_that_the_dps_does_not_have_has_no_registrations(dps: ProvisioningService) -> None:
    """Whoever compares group by group goes on, where another DPS is in the place of the one before."""
    assert await dps.page_of_registrations("line-1", size=10, continuation=None) == ([], None)
