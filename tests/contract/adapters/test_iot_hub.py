"""Identities changed in bulk, by Microsoft's registry client against the emulated hub."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
import requests
from azure.identity import ManagedIdentityCredential
from azure.iot.hub.models import AuthenticationMechanism, ExportImportDevice, X509Thumbprint

from emulator.tests.iot_hub_clients import registry_of
from emulator.tests.running import RunningEmulator, emulator_in_thread
from shared.adapters.iot_hub import IotHubRegistries
from shared.errors import Deferred

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REASON = "certificate revoked: superseded"


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    with emulator_in_thread(tmp_path) as running:
        monkeypatch.setenv("IDENTITY_ENDPOINT", running.endpoints["identityEndpoint"])
        monkeypatch.setenv("IDENTITY_HEADER", running.endpoints["identityHeader"])
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.endpoints["tlsCaFile"])
        yield running


@pytest.fixture
def hubs(emulator: RunningEmulator) -> Iterator[IotHubRegistries]:
    urls = {hub["hostName"]: hub["serviceUrl"] for hub in emulator.endpoints["iotHubs"]}
    with ManagedIdentityCredential() as credential:
        registries = IotHubRegistries(urls, credential)
        yield registries
        registries.close()


def identities(emulator: RunningEmulator, count: int) -> list[str]:
    """Make devices in the first hub, each with a thumbprint of its own."""
    ids = [f"bulk-{index:03}" for index in range(count)]
    made = [
        ExportImportDevice(
            id=device_id,
            import_mode="create",
            status="enabled",
            authentication=AuthenticationMechanism(
                type="selfSigned", x509_thumbprint=X509Thumbprint(primary_thumbprint=f"{index:040X}")
            ),
        )
        for index, device_id in enumerate(ids)
    ]
    for start in range(0, count, 100):
        registry_of(emulator.endpoints).bulk_create_or_update_devices(made[start : start + 100])
    return ids


def refuse(emulator: RunningEmulator, operation: str, status: int) -> None:
    rule = {"service": "iot_hub", "operation": operation, "status": status, "retryAfterSeconds": 7}
    requests.put(f"{emulator.admin_url}/faults", json={"seed": 0, "rules": [rule]}, timeout=5).raise_for_status()


async def test_many_are_disabled_with_what_they_authenticate_by(
    emulator: RunningEmulator, hubs: IotHubRegistries
) -> None:
    """More than a call takes are disabled, with the reason; thumbprints stay, and who is disabled is not counted."""
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    ids = identities(emulator, 130)
    await hubs.shut_out(hub, ids[0], reason="before")
    assert await hubs.disable_many(hub, [*ids, "bulk-unknown"], reason=REASON) == 129
    first, last = await hubs.get(hub, ids[0]), await hubs.get(hub, ids[-1])
    assert first is not None
    assert last is not None
    assert (first.enabled, first.reason, first.thumbprints) == (False, "before", frozenset({f"{0:040X}"}))
    assert (last.enabled, last.reason, last.thumbprints) == (False, REASON, frozenset({f"{129:040X}"}))
    assert await hubs.disable_many(hub, ids, reason=REASON) == 0


async def test_who_shuts_a_device_out_outdates_what_others_have_seen(
    emulator: RunningEmulator, hubs: IotHubRegistries
) -> None:
    """It is written though it is so already: whoever was about to let the device in does not."""
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    (device_id,) = identities(emulator, 1)
    seen = await hubs.shut_out(hub, device_id, reason="before")
    assert seen is not None
    assert await hubs.shut_out(hub, device_id, reason="before") is not None
    assert await hubs.let_in(hub, seen, reason="reinstated") is None
    present = await hubs.get(hub, device_id)
    assert present is not None
    assert (present.enabled, present.reason) == (False, "before")


async def test_a_device_is_let_in_as_it_was_seen(emulator: RunningEmulator, hubs: IotHubRegistries) -> None:
    """Once, with what it authenticates by; one that is gone is neither let in nor shut out."""
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    (device_id,) = identities(emulator, 1)
    seen = await hubs.shut_out(hub, device_id, reason=REASON)
    assert seen is not None
    let_in = await hubs.let_in(hub, seen, reason="reinstated")
    assert let_in is not None
    assert (let_in.enabled, let_in.reason, let_in.thumbprints) == (True, "reinstated", frozenset({f"{0:040X}"}))
    assert await hubs.let_in(hub, seen, reason="again") is None
    assert await hubs.delete_unchanged(hub, let_in)
    assert await hubs.let_in(hub, let_in, reason="gone") is None
    assert await hubs.shut_out(hub, device_id, reason="gone") is None


async def test_keys_are_gone_when_an_identity_takes_certificates(
    emulator: RunningEmulator, hubs: IotHubRegistries
) -> None:
    """Others have given it keys of theirs: none of them stays beside the thumbprints."""
    hub, registry = emulator.endpoints["iotHubs"][0]["hostName"], registry_of(emulator.endpoints)
    (device_id,) = identities(emulator, 1)
    key = base64.b64encode(bytes(range(32))).decode()
    registry.update_device_with_sas(device_id, "*", key, key, "enabled")
    assert registry.get_device(device_id).authentication.symmetric_key.primary_key == key
    seen = await hubs.get(hub, device_id)
    assert seen is not None
    assert await hubs.set_thumbprints(hub, seen, ["AB" * 32, "CD" * 32], reason=REASON) is not None
    held = registry.get_device(device_id).authentication
    assert (held.type, held.symmetric_key.primary_key, held.symmetric_key.secondary_key) == ("selfSigned", None, None)
    thumbprints = held.x509_thumbprint
    assert (thumbprints.primary_thumbprint, thumbprints.secondary_thumbprint) == ("AB" * 32, "CD" * 32)


async def test_a_hub_that_throttles_is_asked_again_later(emulator: RunningEmulator, hubs: IotHubRegistries) -> None:
    """429 to a bulk change is told as a matter of waiting."""
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    ids = identities(emulator, 2)
    refuse(emulator, "POST /devices", 429)
    with pytest.raises(Deferred) as deferred:
        await hubs.disable_many(hub, ids, reason=REASON)
    assert deferred.value.retry_after == timedelta(seconds=7)


async def test_a_device_that_others_keep_changing_is_shut_out_later(
    emulator: RunningEmulator, hubs: IotHubRegistries
) -> None:
    """After a few tries the message is put back; the device is not taken for shut out."""
    hub, [device_id] = emulator.endpoints["iotHubs"][0]["hostName"], identities(emulator, 1)
    refuse(emulator, "PUT /devices/*", 412)
    with pytest.raises(Deferred, match=f"^device '{device_id}' in {hub} is being changed by others$"):
        await hubs.shut_out(hub, device_id, reason=REASON)


async def test_a_device_is_disabled_though_the_first_answer_gets_lost(
    emulator: RunningEmulator, hubs: IotHubRegistries
) -> None:
    """The SDK sends the change again and meets its own effect: the ETag is another, and the status is as wanted."""
    [device_id] = identities(emulator, 1)
    hub = emulator.endpoints["iotHubs"][0]["hostName"]
    rule = {"service": "iot_hub", "operation": "PUT *", "count": 1, "drop": "response"}
    plan = partial(requests.put, f"{emulator.admin_url}/faults", json={"rules": [rule]}, timeout=10)
    (await asyncio.to_thread(plan)).raise_for_status()
    identity = await hubs.shut_out(hub, device_id, reason=REASON)
    assert identity is not None
    assert (identity.enabled, identity.reason) == (False, REASON)
