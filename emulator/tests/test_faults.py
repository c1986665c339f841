"""Planned faults, set at the admin port and met by clients."""

from __future__ import annotations

import socket
import ssl
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.platform.faults import FaultError, Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.tests.running import RunningEmulator

FIELDS = "service, operation, skip, count, probability, latencyMilliseconds, status, retryAfterSeconds, drop"
SET_SECRET = {"service": "key_vault", "operation": "PUT /secrets/*"}


@pytest.fixture
def plan(emulator: RunningEmulator) -> Iterator[Any]:
    """Sets a plan at the admin port; it is gone after the test."""

    def put(*rules: dict[str, Any], seed: int = 0) -> None:
        body: Any = {"seed": seed, "rules": list(rules)}
        requests.put(f"{emulator.admin_url}/faults", json=body, timeout=10).raise_for_status()

    yield put
    assert requests.delete(f"{emulator.admin_url}/faults", timeout=10).status_code == 204


class Vault:
    """A plain client of the vault's secrets."""

    def __init__(self, emulator: RunningEmulator, http: requests.Session) -> None:
        self._url = f"{emulator.https_url}/secrets/{{}}?api-version=7.5"
        self._headers = {"Authorization": f"Bearer {emulator.token('https://vault.azure.net')}"}
        self._http = http

    def set(self, name: str) -> requests.Response:
        return self._http.put(self._url.format(name), json={"value": "x"}, headers=self._headers, timeout=10)

    def get(self, name: str) -> requests.Response:
        return self._http.get(self._url.format(name), headers=self._headers, timeout=10)


@pytest.fixture
def vault(emulator: RunningEmulator, http: requests.Session) -> Vault:
    """A client with a good token."""
    return Vault(emulator, http)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"name-{uuid.uuid4().hex}"


def test_a_status_comes_instead_of_the_effect(plan: Any, vault: Vault, name: str) -> None:
    """A planned 429 carries its Retry-After, hits as many calls as planned, and nothing took place."""
    plan({**SET_SECRET, "count": 2, "status": 429, "retryAfterSeconds": 7})
    answers = [vault.set(name), vault.set(name)]
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in answers] == [(429, "7"), (429, "7")]
    assert vault.get(name).status_code == 404
    assert vault.set(name).status_code == 200


def test_a_dropped_request_has_no_effect(plan: Any, vault: Vault, name: str) -> None:
    """The connection closes without an answer, and nothing took place."""
    plan({**SET_SECRET, "count": 1, "drop": "request"})
    with pytest.raises(requests.ConnectionError):
        vault.set(name)
    assert vault.get(name).status_code == 404


def test_a_lost_response_leaves_its_effect(plan: Any, vault: Vault, name: str) -> None:
    """The connection closes without an answer, but the secret is there."""
    plan({**SET_SECRET, "count": 1, "drop": "response"})
    with pytest.raises(requests.ConnectionError):
        vault.set(name)
    assert vault.get(name).status_code == 200


def test_latency_delays_the_answer(plan: Any, vault: Vault, name: str) -> None:
    """The answer comes as it would have, only later."""
    plan({**SET_SECRET, "latencyMilliseconds": 120})
    started = time.monotonic()
    assert vault.set(name).status_code == 200
    assert time.monotonic() - started >= 0.12


def test_a_schedule_hits_the_calls_it_names(emulator: RunningEmulator, plan: Any, vault: Vault, name: str) -> None:
    """``skip`` and ``count`` pick calls by number, other operations are left alone, and the plan shows its counts."""
    plan({**SET_SECRET, "skip": 1, "count": 2, "status": 503})
    assert [vault.set(name).status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    assert vault.get(name).status_code == 200
    assert requests.get(f"{emulator.admin_url}/faults", timeout=10).json() == {
        "seed": 0,
        "rules": [{**SET_SECRET, "skip": 1, "count": 2, "status": 503, "matched": 5, "applied": 2}],
    }


def hits(seed: int) -> list[bool]:
    """Which of 200 calls a rule of probability 0.3 hits."""
    faults = Faults()
    faults.plan({"seed": seed, "rules": [{"probability": 0.3, "status": 500}]})
    return [faults.next("key_vault", "GET /keys") is not None for _ in range(200)]


def test_a_seed_always_gives_the_same_faults() -> None:
    """The same seed hits the same calls, another seed hits others, and about as many as the probability says."""
    assert hits(7) == hits(7)
    assert hits(7) != hits(8)
    assert 40 <= sum(hits(7)) <= 80


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], 'a fault plan is an object {"seed": whole number, "rules": [rule, ...]}'),
        ({"rules": [], "sede": 1}, 'a fault plan is an object {"seed": whole number, "rules": [rule, ...]}'),
        ({"rules": [], "seed": 1.5}, "seed is 1.5; it must be a whole number from 0"),
        ({"rules": [{}]}, "rules[0] has no effect: give latencyMilliseconds, status or drop"),
        (
            {"rules": [{"state": 500}]},
            f"rules[0] has the unknown field 'state'; known are: {FIELDS}",
        ),
        (
            {"rules": [{"status": 500}, {"status": 200}]},
            "rules[1]: status is 200; it must be an error status, 400 to 599, or null",
        ),
        ({"rules": [{"drop": "both"}]}, "rules[0]: drop is 'both'; it must be 'request', 'response' or null"),
        (
            {"rules": [{"status": 500, "probability": 2}]},
            "rules[0]: probability is 2; it must be a number from 0 to 1",
        ),
    ],
)
def test_a_plan_that_can_not_be_read_is_refused(body: Any, message: str) -> None:
    """The refusal names rule, field, value and what would be right, and the plan before stays."""
    faults = Faults()
    faults.plan({"rules": [{"status": 500}]})
    with pytest.raises(FaultError) as refusal:
        faults.plan(body)
    assert str(refusal.value) == message
    assert faults.next("any", "any") is not None


def test_the_admin_port_answers_a_bad_plan_with_400(emulator: RunningEmulator) -> None:
    """What is wrong with a plan reaches the one who sent it."""
    answer = requests.put(f"{emulator.admin_url}/faults", data=b"{", timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("The request body is not JSON: ")


def test_the_admin_port_is_apart(emulator: RunningEmulator, http: requests.Session) -> None:
    """No protocol port serves the admin's paths, and the admin port serves no protocol; it tells the endpoints."""
    assert http.get(f"{emulator.https_url}/faults", timeout=10).status_code == 501
    assert requests.get(f"{emulator.admin_url}/keys", timeout=10).status_code == 501
    assert requests.get(f"{emulator.admin_url}/endpoints", timeout=10).json() == emulator.endpoints


def test_a_wrong_method_is_named(emulator: RunningEmulator) -> None:
    """405 says which methods there are, in words and in Allow."""
    answer = requests.post(f"{emulator.admin_url}/faults", timeout=10)
    assert answer.status_code == 405
    assert answer.json()["error"]["message"] == "POST is not an operation of /faults; offered: DELETE, GET, HEAD, PUT."


def test_every_answer_has_a_request_id(emulator: RunningEmulator) -> None:
    """The client's own request id comes back beside the service's."""
    headers = {"x-ms-client-request-id": "mine"}
    answer = requests.get(f"{emulator.admin_url}/health", headers=headers, timeout=10)
    assert answer.headers["x-ms-client-request-id"] == "mine"
    assert uuid.UUID(answer.headers["x-ms-request-id"])


def test_the_admin_port_counts_connections(fresh_emulator: RunningEmulator) -> None:
    """A TLS connection to the MQTT port is counted as soon as it stands."""
    url = f"{fresh_emulator.admin_url}/connections"
    assert requests.get(url, timeout=10).json() == {"count": 0}
    trusting = ssl.create_default_context(cafile=fresh_emulator.ca_file)
    host, port = fresh_emulator.endpoints["dpsDeviceHost"], fresh_emulator.endpoints["mqttPort"]
    with socket.create_connection((host, port)) as plain, trusting.wrap_socket(plain, server_hostname=host):
        assert requests.get(url, timeout=10).json() == {"count": 1}


def test_telemetry_is_asked_for_by_hub_and_device(emulator: RunningEmulator) -> None:
    """A question without a device, or for a hub that is not there, is answered in words."""
    url = f"{emulator.admin_url}/telemetry"
    hub = emulator.endpoints["dpsDeviceHost"]
    for params, message in (
        ({}, "The query has no 'device'; name the device id, e.g. /telemetry?device=thermostat-1."),
        ({"hub": "elsewhere", "device": "d"}, f"The hub 'elsewhere' does not exist; the hubs are {hub}."),
    ):
        answer = requests.get(url, params=params, timeout=10)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == message
    assert requests.get(url, params={"device": "silent"}, timeout=10).json() == {"messages": []}
