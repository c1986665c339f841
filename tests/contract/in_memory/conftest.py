"""One emulator for all tests of this folder, which have names of their own in it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import requests

from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService
from emulator.tests.iot_hub_clients import PATIENCE
from emulator.tests.running import emulator_in_thread, own_address
from shared.adapters import dps_management, event_topic, iot_hub_management, vault_secrets
from shared.adapters.observed import ObservedTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.tests.running import RunningEmulator

ROOT = make("root of the devices", ca=True)
"""Possession of its key was proved to the emulator's DPS, whose group ``line`` takes every certificate of it."""


def linked(emulator: RunningEmulator, *hubs: str) -> None:
    """Link these hubs to the DPS, and no others."""
    url = f"{emulator.admin_url}/linked-hubs"
    requests.put(url, json={"iotHubs": hubs}, timeout=PATIENCE).raise_for_status()


@pytest.fixture(scope="package")
def one_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """Start it, with two hubs, of which the first is linked to its DPS."""
    folder = tmp_path_factory.mktemp("emulator")
    with emulator_in_thread(
        folder, variants={"dpsRegistration": "atOnce"}, extra_hub_addresses=[own_address()]
    ) as running:
        linked(running, running.endpoints["iotHubs"][0]["hostName"])
        DpsService(running).verified("root", ROOT)
        DpsService(running).group("line", ROOT)
        yield running


@pytest.fixture
def emulator(one_emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> RunningEmulator:
    """Have this process's clients get their tokens there, and trust it."""
    for name, value in (
        ("IDENTITY_ENDPOINT", one_emulator.endpoints["identityEndpoint"]),
        ("IDENTITY_HEADER", one_emulator.endpoints["identityHeader"]),
        ("REQUESTS_CA_BUNDLE", one_emulator.ca_file),
        ("SSL_CERT_FILE", one_emulator.ca_file),
    ):
        monkeypatch.setenv(name, value)
    trusting = partial(ObservedTransport, connection_verify=one_emulator.ca_file)
    for module in (dps_management, event_topic, iot_hub_management, vault_secrets):
        monkeypatch.setattr(module, "ObservedTransport", trusting)
    return one_emulator
