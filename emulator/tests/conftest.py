"""An emulator for the contract tests, and the clients' credentials."""

from __future__ import annotations

import gc
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential
from azure.iot.deviceprovisioning import DeviceProvisioningClient
from hypothesis import HealthCheck, settings

from emulator.tests.api_descriptions.recorded import RECORDED
from emulator.tests.running import RunningEmulator, emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


FOLDER = Path(__file__).parent
LAST = "test_what_was_seen_is_written_down"

# The same inputs on every machine and in every run.
settings.register_profile(
    "same-every-time",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # it reads the clock, and on a busy machine it fails
)
settings.load_profile("same-every-time")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the test that looks back on the others' calls run after them."""
    items.sort(key=lambda item: item.name == LAST)


def pytest_collection_finish() -> None:
    """Spare what was imported from being looked through again and again: it stays."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def as_documented(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test whose requests and answers contradict Microsoft's description of the service.

    Only the tests of this folder are what docs/emulator-coverage.md tells about.
    """
    yield
    RECORDED.fail_if_contradicted(count=request.path.parent == FOLDER)


@pytest.fixture
def complete_run(request: pytest.FixtureRequest) -> bool:
    """Whether all contract tests of this folder have run, and none has failed."""
    session, options = request.session, request.config.option
    chosen = options.keyword or options.markexpr or any("::" in name for name in request.config.args)
    collected = {item.path for item in session.items}
    return not (chosen or session.testsfailed) and collected >= set(FOLDER.glob("test_*.py"))


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """One emulator for all tests of a run; tests use names of their own in it."""
    with emulator_in_thread(tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture
def fresh_emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator of the test's own, for tests that count, list or break things."""
    with emulator_in_thread(tmp_path) as running:
        yield running


@pytest.fixture
def managed_identity(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagedIdentityCredential]:
    """The app's credential, pointed at the shared emulator as App Service points it at its own endpoint."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", emulator.endpoints["identityEndpoint"])
    monkeypatch.setenv("IDENTITY_HEADER", emulator.endpoints["identityHeader"])
    with ManagedIdentityCredential() as credential:
        yield credential


@pytest.fixture
def service(
    emulator: RunningEmulator, managed_identity: ManagedIdentityCredential
) -> Iterator[DeviceProvisioningClient]:
    """The service side of the shared emulator's DPS, by Microsoft's SDK; some tests have a plainer client."""
    client = DeviceProvisioningClient(emulator.https_url, managed_identity, connection_verify=emulator.ca_file)
    with closing(client):
        yield client


@pytest.fixture
async def async_managed_identity(
    emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncManagedIdentityCredential]:
    """The same, asynchronous."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", emulator.endpoints["identityEndpoint"])
    monkeypatch.setenv("IDENTITY_HEADER", emulator.endpoints["identityHeader"])
    async with AsyncManagedIdentityCredential() as credential:
        yield credential


@pytest.fixture
def http(emulator: RunningEmulator) -> Iterator[requests.Session]:
    """A plain HTTP client that trusts the shared emulator, for what no SDK would send."""
    with requests.Session() as session:
        session.trust_env = False  # else REQUESTS_CA_BUNDLE would win over verify
        session.verify = emulator.ca_file
        yield session
