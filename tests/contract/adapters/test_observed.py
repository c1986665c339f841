"""What calls of services tell: by Microsoft's clients against the emulator, with its faults."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.core.rest import HttpRequest
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncCredential
from msrest.exceptions import HttpOperationError

from emulator.tests.certificates import make
from emulator.tests.running import RunningEmulator, emulator_in_thread
from shared.adapters import dps_service, vault_secrets
from shared.adapters.dps_device import DeviceRegistrar
from shared.adapters.dps_service import ProvisioningService
from shared.adapters.iot_hub import IotHubRegistries
from shared.adapters.observed import ObservedTransport
from shared.adapters.vault import Ownership
from shared.adapters.vault_secrets import VaultSecrets
from shared.errors import Deferred
from shared.telemetry import metrics
from shared.telemetry.metrics import received
from tests.contract.adapters.test_dps_device import ROOT, credentials
from tests.measured import Kept, fires

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    with emulator_in_thread(tmp_path) as running:
        monkeypatch.setenv("IDENTITY_ENDPOINT", running.endpoints["identityEndpoint"])
        monkeypatch.setenv("IDENTITY_HEADER", running.endpoints["identityHeader"])
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.endpoints["tlsCaFile"])
        monkeypatch.setenv("SSL_CERT_FILE", running.ca_file)
        trusting = partial(ObservedTransport, connection_verify=running.ca_file)  # aiohttp reads no REQUESTS_CA_BUNDLE
        monkeypatch.setattr(dps_service, "ObservedTransport", trusting)
        monkeypatch.setattr(vault_secrets, "ObservedTransport", trusting)
        yield running


@pytest.fixture
def kept() -> Iterator[Kept]:
    receiver = Kept()
    with received(receiver):
        yield receiver


def fail(emulator: RunningEmulator, **rule: Any) -> None:
    plan = {"rules": [{"operation": "*", **rule}]}
    requests.put(f"{emulator.admin_url}/faults", json=plan, timeout=10).raise_for_status()


def attributes(kept: Kept, metric: metrics.Metric) -> list[dict[str, Any]]:
    return [held for name, _, held in kept.values if name == metric.name]


async def test_a_role_that_is_missing_fires_its_alert(emulator: RunningEmulator, kept: Kept) -> None:
    """403 of the DPS and of a hub. That the vault asks for a token first, by a 401, is no role that is missing."""
    url, hub = emulator.endpoints["keyVaultUrl"], emulator.endpoints["iotHubs"][0]
    async with AsyncCredential() as identity:
        secrets = VaultSecrets(url, identity, Ownership("here"), verify_challenge=False)
        await secrets.put("bundle", "a password", tags={}, ends=datetime(2030, 1, 1, tzinfo=UTC))
        await secrets.close()
        assert [held.get(metrics.STATUS) for held in attributes(kept, metrics.CALL_DURATION)] == [401, 404, 200]
        assert not fires("role-missing", kept)
        fail(emulator, service="dps", status=403)
        dps = ProvisioningService(emulator.endpoints["dpsServiceUrl"], identity)
        with pytest.raises(HttpResponseError):
            await dps.get_enrollment("press-1")
        await dps.close()
    assert fires("role-missing", kept)
    fail(emulator, service="iot_hub", status=403)
    with ManagedIdentityCredential() as credential:
        hubs = IotHubRegistries({hub["hostName"]: hub["serviceUrl"]}, credential)
        with pytest.raises(HttpOperationError):
            await hubs.get(hub["hostName"], "press-1")
        hubs.close()
    assert [held[metrics.SERVICE] for held in attributes(kept, metrics.ROLE_DENIALS)] == ["dps", "iot_hub"]


async def test_a_hub_that_throttles_is_counted_with_the_wait_that_it_asks_for(
    emulator: RunningEmulator, kept: Kept
) -> None:
    hub = emulator.endpoints["iotHubs"][0]
    fail(emulator, service="iot_hub", status=429, retryAfterSeconds=7)
    with ManagedIdentityCredential() as credential:
        hubs = IotHubRegistries({hub["hostName"]: hub["serviceUrl"]}, credential)
        registry = hubs._hub(hub["hostName"]).registry  # noqa: SLF001
        registry.protocol.config.retry_policy.retries = 0  # else it waits as it is told
        with pytest.raises(Deferred):
            await hubs.get(hub["hostName"], "press-1")
        hubs.close()
    assert attributes(kept, metrics.THROTTLED)
    assert {held[metrics.SERVICE] for held in attributes(kept, metrics.THROTTLED)} == {"iot_hub"}
    assert set(kept.of(metrics.THROTTLE_WAIT)) == {7}


async def test_each_operation_of_the_dps_counts_once(emulator: RunningEmulator, kept: Kept) -> None:
    """The quotas of service operations and of registrations are separate ones."""
    async with AsyncCredential() as identity:
        dps = ProvisioningService(emulator.endpoints["dpsServiceUrl"], identity)
        for registration_id in ("press-1", "press-2"):
            assert await dps.get_enrollment(registration_id) is None
        await dps.close()
    endpoints = emulator.endpoints
    registrar = DeviceRegistrar(endpoints["dpsDeviceHost"], endpoints["idScope"], timeout=timedelta(seconds=20))
    with pytest.raises(Exception, match="press-1"):
        await registrar.register("press-1", credentials(make("press-1", ROOT)))
    assert attributes(kept, metrics.DPS_OPERATIONS) == [
        {"device_factory.kind": "service"},
        {"device_factory.kind": "service"},
        {"device_factory.kind": "registration"},
    ]


async def test_a_call_that_gets_no_answer_is_told_with_its_error(kept: Kept) -> None:
    async with ObservedTransport("dps", "the DPS") as transport:
        with pytest.raises(ServiceRequestError):
            await transport.send(HttpRequest("GET", "http://127.0.0.1:1/enrollments/press-1?api-version=1"))
    [told] = attributes(kept, metrics.CALL_DURATION)
    assert told == {
        "http.request.method": "GET",
        "device_factory.service": "dps",
        "server.address": "127.0.0.1",
        "error.type": "ServiceRequestError",
    }


class Watched(ThreadPoolExecutor):
    """Threads that count what they are given to do."""

    given = 0

    def submit(self, *work: Any, **named: Any) -> Any:
        self.given += 1
        return super().submit(*work, **named)


async def test_no_call_waits_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself aiohttp looks for a proxy and for a password in ~/.netrc before each request, in threads."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    threads = Watched()
    asyncio.get_running_loop().set_default_executor(threads)
    async with ObservedTransport("dps", "the DPS") as transport:
        with pytest.raises(ServiceRequestError):
            await transport.send(HttpRequest("GET", "http://127.0.0.1:1/enrollments/press-1?api-version=1"))
    assert threads.given == 0


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    asked: list[bytes] = []
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        async with ObservedTransport("dps", "the DPS") as transport:
            answered = await transport.send(HttpRequest("GET", "http://dps.example/enrollments/press-1"))
    assert answered.status_code == 204
    assert asked == [b"GET http://dps.example/enrollments/press-1 HTTP/1.1\r\n"]
