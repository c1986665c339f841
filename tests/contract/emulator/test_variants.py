"""What differs between the public accounts of the real services: either behaviour can be had."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding

from tests.contract.emulator.certificates import make
from tests.contract.emulator.dps_clients import DpsService, HttpsDevice
from tests.contract.emulator.running import emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.emulator.running import RunningEmulator

ROOT = make("variants root", ca=True)
ISSUING = make("variants issuing", ROOT, ca=True)


@pytest.fixture
def running(fresh_emulator: RunningEmulator) -> RunningEmulator:
    """An emulator with a group for the devices of these tests, and variants of its own."""
    service = DpsService(fresh_emulator)
    service.verified("variants", ROOT)
    service.group("variants", ISSUING)
    return fresh_emulator


def choose(emulator: RunningEmulator, **variants: str) -> dict[str, Any]:
    answer = requests.put(f"{emulator.admin_url}/variants", json=variants, timeout=10)
    answer.raise_for_status()
    chosen: dict[str, Any] = answer.json()
    return chosen


# --- hubThumbprints ---


@pytest.mark.parametrize("kind", ["group", "individual"])
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, ("sha256", "sha256")),
        ({"hubThumbprints": "sha256"}, ("sha256", "sha256")),
        ({"hubThumbprints": "sha1"}, ("sha1", None)),
    ],
)
def test_the_thumbprints_that_dps_gives_to_a_hub(
    running: RunningEmulator, tmp_path: Path, kind: str, chosen: dict[str, str], expected: tuple[str, str | None]
) -> None:
    """SHA-256 in both fields unless SHA-1 is chosen, in identity and twin, for both kinds of enrollment."""
    choose(running, **chosen)
    service, party = DpsService(running), make("thumbprints", ISSUING)
    if kind == "individual":
        certificates = {"primary": {"certificate": party.pem}, "secondary": {"certificate": ISSUING.pem}}
        attestation = {"type": "x509", "x509": {"clientCertificates": certificates}}
        body = {"registrationId": "thumbprints", "attestation": attestation}
        service.dps("PUT", "/enrollments/thumbprints", body).raise_for_status()
    HttpsDevice(running, "thumbprints", party.files(tmp_path)).registered()
    der = party.certificate.public_bytes(Encoding.DER)
    primary, secondary = [name and hashlib.new(name, der).hexdigest().upper() for name in expected]
    thumbprints = {"primaryThumbprint": primary, "secondaryThumbprint": secondary}
    assert service.hub("GET", "/devices/thumbprints").json()["authentication"]["x509Thumbprint"] == thumbprints
    assert service.hub("GET", "/twins/thumbprints").json()["x509Thumbprint"] == thumbprints


# --- all of them ---


@pytest.fixture
def chosen_at_the_start(tmp_path: Path) -> Iterator[RunningEmulator]:
    with emulator_in_thread(tmp_path, variants={"hubThumbprints": "sha1"}) as running:
        yield running


def test_a_start_option_chooses_as_well(chosen_at_the_start: RunningEmulator) -> None:
    """What is chosen at the start holds without a call of the admin port."""
    shown = requests.get(f"{chosen_at_the_start.admin_url}/variants", timeout=10).json()
    assert shown["hubThumbprints"] == "sha1"


@pytest.mark.parametrize("body", [[], "sha1", {"hubThumbprints": None}, {"hubThumbprints": []}, {"other": "sha1"}])
def test_what_does_not_exist_is_refused(fresh_emulator: RunningEmulator, body: Any) -> None:
    """A refusal changes nothing, not even what else the body names rightly."""
    before = requests.get(f"{fresh_emulator.admin_url}/variants", timeout=10).json()
    sent = {"hubThumbprints": "sha1", **body} if isinstance(body, dict) else body
    answer = requests.put(f"{fresh_emulator.admin_url}/variants", json=sent, timeout=10)
    assert answer.status_code == 400
    assert "hubThumbprints" in answer.json()["error"]["message"]
    assert requests.get(f"{fresh_emulator.admin_url}/variants", timeout=10).json() == before
