"""Every port is held here, in memory and against the services, or says why it is not."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _pytest.fixtures import FixtureFunctionDefinition

import shared.ports

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent

HELD: Mapping[str, str] = {
    "Blobs": "test_storage.py",
    "Queues": "test_storage.py",
    "Row": "test_storage.py",
    "Table": "test_storage.py",
    "ProvisioningService": "test_services.py test_groups.py",
    "IotHubRegistries": "test_services.py",
    "DeviceRegistrar": "test_services.py",
    "CaCertificates": "test_ca_certificates.py",
    "DpsCaCertificates": "test_ca_certificates.py",
    "KeyTags": "test_vault.py",
    "VaultKeys": "test_vault.py",
    "VaultSecrets": "test_vault.py",
    "EventTopic": "test_event_topic.py",
    "EvidenceLog": "test_log.py",
}
"""The contract tests of each protocol, which run once in memory and once against the service."""

SERVICES = {"emulator", "Azurite", "DPS", "hub", "the app's"}
"""What fixtures call the places of what is not there for tests alone."""

NOT_HELD: Mapping[str, str] = {
    "Lists": "the app's own lists stand behind it, and no service; tests/world has them themselves (ListsInBlobs)",
    "Witnesses": "no witness of others runs here; tests/unit/evidence/test_witnesses_over_http.py holds the adapter to "
    "what C2SP tlog-witness says of answers",
}


def ports() -> dict[str, type]:
    """Give every protocol of ``shared.ports``."""
    found = dict[str, type]()
    for module in pkgutil.iter_modules(shared.ports.__path__, "shared.ports."):
        for name, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if each.__module__ == module.name and getattr(each, "_is_protocol", False):
                found[name] = each
    return found


def members(port: type) -> set[str]:
    """Give what can be called or read of it, inherited or its own."""
    bases = [each for each in port.__mro__ if each.__module__.startswith("shared.ports.")]
    return {name for each in bases for name in (*vars(each), *each.__annotations__) if not name.startswith("_")}


def used(*files: str) -> set[str]:
    """Give every name that tests take of something."""
    trees = [ast.parse((HERE / each).read_text()) for each in files]
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def places(file: str) -> list[set[str]]:
    """Give where the tests of a file run, by each of its fixtures that have them run in several places."""
    held = vars(importlib.import_module(f"{__package__}.{file.removesuffix('.py')}")).values()
    fixtures = [each for each in held if isinstance(each, FixtureFunctionDefinition)]
    return [set(map(str, each._fixture_function_marker.params or ())) for each in fixtures]  # noqa: SLF001


def test_every_port_is_held_or_says_why_not() -> None:
    assert sorted([*HELD, *NOT_HELD]) == sorted(ports())


@pytest.mark.parametrize("name", HELD)
def test_everything_that_a_port_offers_is_held(name: str) -> None:
    """In memory and against the service: each file has a fixture for both."""
    files = HELD[name].split()
    assert members(ports()[name]) <= used(*files)
    for file in files:
        assert any(each & SERVICES and each - SERVICES for each in places(file)), file
