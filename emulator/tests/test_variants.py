"""What differs between the public accounts of the real services: either behaviour can be had."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding

from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService, HttpsDevice, MqttDevice
from emulator.tests.running import emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.tests.running import RunningEmulator

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


# --- entryCertificates ---


def entry_of(kind: str, **certificates: Any) -> tuple[str, dict[str, Any], str]:
    """Give path and body of an entry with these certificates, and the name of the field that holds them."""
    field, id_field = (
        ("signingCertificates", "enrollmentGroupId") if kind == "group" else ("clientCertificates", "registrationId")
    )
    body = {id_field: "entry", "attestation": {"type": "x509", "x509": {field: certificates}}}
    return f"/{'enrollmentGroups' if kind == 'group' else 'enrollments'}/entry", body, field


@pytest.mark.parametrize("kind", ["group", "individual"])
@pytest.mark.parametrize(
    ("chosen", "fields"),
    [
        ({}, {"info"}),
        ({"entryCertificates": "info"}, {"info"}),
        ({"entryCertificates": "certificate"}, {"certificate", "info"}),
    ],
)
def test_the_certificates_of_an_entry(
    running: RunningEmulator, kind: str, chosen: dict[str, str], fields: set[str]
) -> None:
    """PUT, GET, query and attestation mechanism show what a certificate says, and itself only if that is chosen."""
    choose(running, **chosen)
    service = DpsService(running)
    service.dps("DELETE", "/enrollmentGroups/variants").raise_for_status()
    path, body, field = entry_of(kind, primary={"certificate": ISSUING.pem})
    answers = [
        service.dps("PUT", path, body).json(),
        service.dps("GET", path).json(),
        service.dps("POST", f"{path.removesuffix('/entry')}/query", {"query": "*"}).json()[0],
        {"attestation": service.dps("POST", f"{path}/attestationmechanism").json()},
    ]
    for answer in answers:
        shown = answer["attestation"]["x509"][field]["primary"]
        assert set(shown) == fields
        der = ISSUING.certificate.public_bytes(Encoding.DER)
        assert shown["info"]["sha256Thumbprint"] == hashlib.sha256(der).hexdigest().upper()
        assert shown.get("certificate", ISSUING.pem) == ISSUING.pem


@pytest.mark.parametrize("kind", ["group", "individual"])
@pytest.mark.parametrize("value", ["info", "certificate"])
def test_info_alone_keeps_a_certificate(running: RunningEmulator, kind: str, value: str) -> None:
    """What was shown can be sent back, in either place; what is left out goes, and a strange one is refused."""
    service = DpsService(running)
    first, second = make("first", ROOT, ca=True), make("second", ROOT, ca=True)
    path, body, field = entry_of(kind, primary={"certificate": first.pem}, secondary={"certificate": second.pem})
    service.dps("PUT", path, body).raise_for_status()

    def update(**certificates: Any) -> requests.Response:
        return service.call(
            "PUT",
            path,
            entry_of(kind, **certificates)[1],
            resource="https://azure-devices-provisioning.net",
            if_match="*",
            **{"api-version": "2021-10-01"},
        )

    def held() -> dict[str, str]:
        choose(running, entryCertificates="certificate")
        found = service.dps("GET", path).json()["attestation"]["x509"][field]
        choose(running, entryCertificates=value)
        return {place: each["certificate"] for place, each in found.items()}

    choose(running, entryCertificates=value)
    shown = service.dps("GET", path).json()["attestation"]["x509"][field]
    alone = {place: {"info": each["info"]} for place, each in shown.items()}
    assert update(**alone).ok
    assert held() == {"primary": first.pem, "secondary": second.pem}
    assert update(primary=alone["secondary"]).ok
    assert held() == {"primary": second.pem}
    gone = update(primary=alone["primary"])
    assert gone.status_code == 400
    assert (
        gone.json()["message"] == "the primary certificate is missing, and its info describes none that the entry has."
    )
    assert update(primary={}).status_code == 400
    assert held() == {"primary": second.pem}


# --- dpsRegistration ---


@pytest.mark.parametrize("chosen", [{}, {"dpsRegistration": "assigning"}])
def test_a_registration_is_accepted_first_and_looked_up(
    running: RunningEmulator, tmp_path: Path, chosen: dict[str, str]
) -> None:
    """Over MQTT and HTTPS alike the first answer is 202 with retry-after, and says nothing of the hub yet."""
    choose(running, **chosen)
    files = make("accepted", ISSUING).files(tmp_path)
    begun = HttpsDevice(running, "accepted", files).register()
    assert (begun.status_code, begun.headers["Retry-After"]) == (202, "3")
    assert begun.json() == {"operationId": begun.json()["operationId"], "status": "assigning"}
    with MqttDevice(running, "accepted", files).connected() as device:
        topic, body = device.ask("PUT/iotdps-register/?$rid=7")
        assert topic == "$dps/registrations/res/202/?$rid=7&retry-after=3"
        operation_id = json.loads(body)["operationId"]
        assert json.loads(body) == {"operationId": operation_id, "status": "assigning"}
        topic, body = device.ask(f"GET/iotdps-get-operationstatus/?$rid=8&operationId={operation_id}")
        assert topic == "$dps/registrations/res/200/?$rid=8"
        assert json.loads(body)["registrationState"]["deviceId"] == "accepted"


def test_a_registration_can_be_answered_at_once(running: RunningEmulator, tmp_path: Path) -> None:
    """With the variant the first answer is 200 with the hub, over MQTT and HTTPS alike."""
    choose(running, dpsRegistration="atOnce")
    files, hub = make("at-once", ISSUING).files(tmp_path), running.endpoints["iotHubs"][0]["hostName"]
    begun = HttpsDevice(running, "at-once", files).register()
    assert (begun.status_code, begun.json()["registrationState"]["assignedHub"]) == (200, hub)
    assert "Location" not in begun.headers
    with MqttDevice(running, "at-once", files).connected() as device:
        topic, body = device.ask("PUT/iotdps-register/?$rid=7")
        assert topic == "$dps/registrations/res/200/?$rid=7"
        assert json.loads(body)["registrationState"]["assignedHub"] == hub


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
