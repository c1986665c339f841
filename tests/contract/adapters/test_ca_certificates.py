"""Places of CA certificates in a DPS and a hub, as the tests' world has them and as the emulated services do."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from azure.identity.aio import ManagedIdentityCredential

from emulator.tests.running import emulator_in_thread
from shared.adapters import dps_management, iot_hub_management
from shared.adapters.observed import ObservedTransport
from shared.errors import PreconditionFailed
from shared.pki.names import thumbprint
from shared.reading.settings import AzureResource
from tests.pki.hierarchy import hierarchy
from tests.world.authority_services import CaPlaces
from tests.world.conductor import Conductor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.ports.ca_certificates import CaCertificates

ROOT = hierarchy().root.certificate


def resource(text: str) -> AzureResource:
    found = re.fullmatch(
        r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft.Devices/[^/]+/([^/]+)", text
    )
    assert found is not None
    return AzureResource(*found.groups())


@pytest.fixture(params=["in memory", "dps", "hub"])
async def places(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CaCertificates]:
    if request.param == "in memory":
        in_memory: Any = CaPlaces(Conductor(), "the DPS")
        yield in_memory
        return
    with emulator_in_thread(tmp_path) as running:
        monkeypatch.setenv("IDENTITY_ENDPOINT", running.endpoints["identityEndpoint"])
        monkeypatch.setenv("IDENTITY_HEADER", running.endpoints["identityHeader"])
        trusting = partial(ObservedTransport, connection_verify=running.ca_file)
        for module in (dps_management, iot_hub_management):
            monkeypatch.setattr(module, "ObservedTransport", trusting)
        url = running.endpoints["armUrl"]
        async with ManagedIdentityCredential() as credential:
            service: dps_management.ProvisioningServiceAuthorities | iot_hub_management.IotHubAuthorities
            if request.param == "dps":
                of_dps = resource(running.endpoints["dpsResourceId"])
                service = dps_management.ProvisioningServiceAuthorities(of_dps, credential, url)
            else:
                of_hub = resource(running.endpoints["iotHubs"][0]["resourceId"])
                service = iot_hub_management.IotHubAuthorities(of_hub, credential, url)
            yield service
            await service.close()


async def test_a_place_is_freed_as_it_was_read_and_only_then(places: CaCertificates) -> None:
    """Another ETag is refused, since somebody has changed the place; one that is free stays so; others are left."""
    for name in ("root", "other"):
        await places.upload(name, ROOT)
    held = await places.get("root")
    assert held is not None
    assert held.thumbprint == thumbprint(ROOT)
    _, changed = await places.verification_code("root", held.etag)
    with pytest.raises(PreconditionFailed):
        await places.delete("root", held.etag)
    await places.delete("root", changed)
    assert (await places.get("root"), set(await places.held())) == (None, {"other"})
    await places.delete("root", changed)
