"""Documented rates: off until they are switched on, then met by clients of every service."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.platform.throttling import RATES, Throttling, ThrottlingError
from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService, HttpsDevice, MqttDevice
from emulator.tests.iot_hub_clients import PATIENCE, device_certificate, raw_device
from emulator.tests.running import MQTT_PORT, RunningEmulator, SetClock, emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROOT = make("throttled root", ca=True)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def running(tmp_path: Path, clock: SetClock) -> Iterator[RunningEmulator]:
    """An emulator whose clock stands still, with a group for devices."""
    with emulator_in_thread(tmp_path, clock=clock) as emulator:
        service = DpsService(emulator)
        service.verified("root", ROOT)
        service.group("throttled", ROOT)
        yield emulator


def throttle(emulator: RunningEmulator, **body: Any) -> requests.Response:
    return requests.put(f"{emulator.admin_url}/throttling", json=body, timeout=PATIENCE)


# --- the rates themselves ---


def test_a_rate_holds_in_every_window_of_its_length() -> None:
    """So many calls go through in any window, and the wait is told to the second in which the next one would."""
    rates = Throttling(enabled=True, scale=0.002)  # two a minute
    assert rates.admit(["dps.registrations"], NOON) is None
    assert rates.admit(["dps.registrations"], NOON + timedelta(seconds=40)) is None
    assert rates.admit(["dps.registrations"], NOON + timedelta(seconds=50)) == 10
    assert rates.admit(["dps.registrations"], NOON + timedelta(seconds=60)) is None
    assert rates.admit(["dps.registrations"], NOON + timedelta(seconds=60)) == 40
    assert rates.to_json()["rates"]["dps.registrations"] == {
        "calls": 2,
        "seconds": 60,
        "admitted": 3,
        "refused": 2,
    }


def test_a_refused_call_counts_towards_nothing() -> None:
    """A call that falls under two rates and is refused by one leaves the other as it was."""
    rates = Throttling(enabled=True, scale=0.001)
    assert rates.admit(["dps.operations"], NOON) is None
    assert rates.admit(["dps.registrations", "dps.operations"], NOON) == 60
    assert rates.admit(["dps.registrations"], NOON) is None


def test_each_subject_has_its_own_rate() -> None:
    """Five looks in ten seconds are each device's, not all devices' together."""
    rates = Throttling(enabled=True)
    assert [rates.admit(["dps.polling"], NOON, "a") for _ in range(6)] == [None] * 5 + [10]
    assert rates.admit(["dps.polling"], NOON, "b") is None


def test_nothing_is_counted_while_it_is_off() -> None:
    """Switched on, the rates begin with nothing behind them."""
    rates = Throttling()
    for _ in range(RATES["iot_hub.queries"].calls + 1):
        assert rates.admit(["iot_hub.queries"], NOON, "hub") is None
    rates.set({"enabled": True})
    assert rates.admit(["iot_hub.queries"], NOON, "hub") is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'throttling is set by {"enabled": true or false, "scale": number}, or one of them'),
        ({"on": True}, 'throttling is set by {"enabled": true or false, "scale": number}, or one of them'),
        ({"enabled": 1}, "enabled is 1; it must be true or false"),
        ({"scale": 0}, "scale is 0; it must be a number above 0, at most 1000000"),
        ({"scale": "half"}, "scale is 'half'; it must be a number above 0, at most 1000000"),
    ],
)
def test_a_setting_that_cannot_be_read_changes_nothing(body: Any, message: str) -> None:
    """The message says which field, and what would be right."""
    rates = Throttling(enabled=True, scale=0.5)
    with pytest.raises(ThrottlingError) as caught:
        rates.set(body)
    assert str(caught.value) == message
    assert (rates.enabled, rates.scale) == (True, 0.5)


# --- at the services ---


def test_it_is_off_until_switched_on(emulator: RunningEmulator) -> None:
    """The documented rates are shown, and nothing is enforced."""
    shown = requests.get(f"{emulator.admin_url}/throttling", timeout=PATIENCE).json()
    assert (shown["enabled"], shown["scale"]) == (False, 1.0)
    assert shown["rates"]["dps.operations"] == {
        "calls": 1000,
        "seconds": 60,
        "admitted": 0,
        "refused": 0,
    }
    refusal = throttle(emulator, scale=-1)
    assert refusal.status_code == 400
    assert refusal.json()["error"]["message"] == "scale is -1; it must be a number above 0, at most 1000000"


def test_dps_answers_429_to_its_service_and_its_devices(
    running: RunningEmulator, clock: SetClock, tmp_path: Path
) -> None:
    """Registrations are operations too; over the rate both sides get 429, the wait, and the service's own body."""
    assert throttle(running, enabled=True, scale=0.002).status_code == 200
    service = DpsService(running)
    files = make("a", ROOT).files(tmp_path)
    assert service.dps("GET", "/enrollmentGroups/throttled").status_code == 200
    clock.pass_(20)
    assert HttpsDevice(running, "a", files).register().status_code == 202
    for answer in (service.dps("GET", "/enrollmentGroups/throttled"), HttpsDevice(running, "a", files).register()):
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "40")
        assert answer.json()["errorCode"] == 429001
        assert answer.json()["message"] == "Operations are being throttled for this tenant."
    with MqttDevice(running, "a", files).connected() as device:
        topic, body = device.ask("PUT/iotdps-register/?$rid=1")
        assert topic == "$dps/registrations/res/429/?$rid=1&retry-after=40"
        assert json.loads(body)["errorCode"] == 429001
    clock.pass_(60)
    assert HttpsDevice(running, "a", files).register().status_code == 202


def test_a_device_may_look_five_times_in_ten_seconds(running: RunningEmulator, clock: SetClock, tmp_path: Path) -> None:
    """The sixth look within ten seconds is too much, and looks are not operations of the service."""
    throttle(running, enabled=True)
    device = HttpsDevice(running, "a", make("a", ROOT).files(tmp_path))
    operation_id = device.register().json()["operationId"]
    assert [device.operation(operation_id).status_code for _ in range(6)] == [200] * 5 + [429]
    clock.pass_(10)
    assert device.operation(operation_id).status_code == 200


def test_a_hub_answers_429_for_each_kind_of_call(running: RunningEmulator, clock: SetClock) -> None:
    """Identities, queries and twins each have their own rate at a hub."""
    service = DpsService(running)
    service.hub("PUT", "/devices/d", {"deviceId": "d"}).raise_for_status()
    throttle(running, enabled=True, scale=0.01)
    answers = [service.hub("GET", "/devices/d") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["Retry-After"] == "60"
    assert answers[1].headers["iothub-errorcode"] == "ThrottlingException"
    assert answers[1].json()["Message"].startswith("ErrorCode:ThrottlingException;")
    for method, path, body, seconds in (
        ("POST", "/devices/query", {"query": "SELECT * FROM devices"}, 60),
        ("GET", "/twins/d", None, 1),
        ("PATCH", "/twins/d", {"tags": {}}, 1),
    ):
        assert service.hub(method, path, body).status_code == 200
        assert service.hub(method, path, body).headers["Retry-After"] == str(seconds)
    clock.pass_(60)
    assert service.hub("GET", "/devices/d").status_code == 200


def test_a_vault_answers_429(running: RunningEmulator) -> None:
    """Over its transactions the vault throttles, in its own words."""
    throttle(running, enabled=True, scale=1 / 4000)
    service = DpsService(running)
    answers = [
        service.call("GET", "/secrets", resource="https://vault.azure.net", **{"api-version": "7.5"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["Retry-After"] == "10"
    assert answers[1].json()["error"]["code"] == "Throttled"


def test_a_hub_throttles_its_devices(running: RunningEmulator, tmp_path: Path) -> None:
    """Too many connections are refused, too many twin reads answered 429, and too much telemetry ends the connection."""
    certificate = device_certificate(tmp_path, "d")
    thumbprint = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": certificate.sha1}}
    DpsService(running).hub("PUT", "/devices/d", {"deviceId": "d", "authentication": thumbprint}).raise_for_status()
    host = running.endpoints["iotHubs"][0]["hostName"]
    throttle(running, enabled=True, scale=0.01)
    name = f"{host}/d/?api-version=2021-04-12"
    with raw_device(running.ca_file, "d", name, certificate) as device:
        assert device.connect(host, MQTT_PORT) == 0
        device.subscribe("$iothub/twin/res/#")
        for expected in ("$iothub/twin/res/200/?$rid=1", "$iothub/twin/res/429/?$rid=2"):
            device.publish(f"$iothub/twin/GET/?$rid={expected[-1]}")
            assert device.messages.get(timeout=PATIENCE)[0] == expected
        with raw_device(running.ca_file, "d", name, certificate) as second:
            assert second.connect(host, MQTT_PORT) == 3
        device.publish("devices/d/messages/events/", b"one")
        device.publish("devices/d/messages/events/", b"two", acknowledged=False)
        assert device.endings.get(timeout=PATIENCE) is not None
    received = requests.get(f"{running.admin_url}/telemetry", params={"device": "d"}, timeout=PATIENCE).json()
    assert [message["body"] for message in received["messages"]] == ["one"]
    send = {"device": "d", "body": "x"}
    answers = [requests.post(f"{running.admin_url}/messages", json=send, timeout=PATIENCE) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 429]
