"""The emulator as a program: start, readiness line, restart, sudden death, refusals."""

from __future__ import annotations

import itertools
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.iot.hub import IoTHubRegistryManager

from emulator.__main__ import main
from emulator.platform.configuration import Configuration
from emulator.tests.running import REPOSITORY, can_bind, emulator_process, own_address

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_LOOPBACK = (
    "emulator: address '0.0.0.0' is not a loopback address: the emulator binds to 127.0.0.0/8 only, e.g. 127.0.0.1\n"
)
READINESS = {
    "httpsUrl",
    "identityEndpoint",
    "identityHeader",
    "idScope",
    "dpsResourceId",
    "dpsServiceUrl",
    "dpsDeviceHost",
    "dpsDeviceUrl",
    "mqttPort",
    "amqpPort",
    "websocketPort",
    "iotHubs",
    "keyVaultUrl",
    "armUrl",
    "eventTopicUrl",
    "dpsConnectionString",
    "iotHubConnectionStrings",
    "adminUrl",
    "tlsCaFile",
}


def secret_call(endpoints: Mapping[str, Any], method: str, name: str, value: str | None = None) -> requests.Response:
    """Call the vault's secrets with a token from the identity endpoint."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = endpoints["tlsCaFile"]
        token = session.get(
            endpoints["identityEndpoint"],
            params={"api-version": "2019-08-01", "resource": "https://vault.azure.net"},
            headers={"X-IDENTITY-HEADER": endpoints["identityHeader"]},
            timeout=10,
        ).json()["access_token"]
        return session.request(
            method,
            f"{endpoints['keyVaultUrl']}/secrets/{name}?api-version=7.5",
            json=None if value is None else {"value": value},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_within_a_second(tmp_path: Path, number: signal.Signals) -> None:
    """One line of JSON says where everything is; a signal ends the program with status 0, even with a client there."""
    with emulator_process(tmp_path / "state") as (process, endpoints), requests.Session() as session:
        assert set(endpoints) == READINESS
        assert session.get(f"{endpoints['adminUrl']}/health", timeout=10).json()["status"] == "ok"
        started = time.monotonic()
        process.send_signal(number)
        rest, _ = process.communicate(timeout=10)
        assert time.monotonic() - started < 1
        assert rest == ""
        assert process.returncode == 0


def write_secrets(endpoints: Mapping[str, Any], acknowledged: queue.SimpleQueue[str]) -> None:
    """Set one secret after the other until the emulator is gone, and note those that were acknowledged."""
    with suppress(requests.ConnectionError, KeyError):
        for number in itertools.count():
            if secret_call(endpoints, "PUT", f"s-{number}", f"value of s-{number}").status_code == 200:
                acknowledged.put(f"s-{number}")


def test_killing_it_loses_nothing(tmp_path: Path) -> None:
    """After SIGKILL in the middle of writing, every acknowledged secret is there, and so are header, keys and CA."""
    queued: queue.SimpleQueue[str] = queue.SimpleQueue()
    with emulator_process(tmp_path / "state") as (process, before):
        writer = threading.Thread(target=write_secrets, args=(before, queued))
        writer.start()
        acknowledged = [queued.get(timeout=10) for _ in range(20)]
        process.kill()
        writer.join()
        acknowledged += [queued.get_nowait() for _ in range(queued.qsize())]
        authority = Path(before["tlsCaFile"]).read_bytes()
    with emulator_process(tmp_path / "state") as (_, after):
        for name in acknowledged:
            assert secret_call(after, "GET", name).json()["value"] == f"value of {name}"
        assert after["identityHeader"] == before["identityHeader"]
        assert key_of(after["dpsConnectionString"]) == key_of(before["dpsConnectionString"])
        assert key_of(after["iotHubConnectionStrings"][0]) == key_of(before["iotHubConnectionStrings"][0])
        assert Path(after["tlsCaFile"]).read_bytes() == authority


def key_of(connection_string: str) -> str:
    """The last field; host and port before it change with the port."""
    return connection_string.rpartition(";SharedAccessKey=")[2]


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    command = [sys.executable, "-m", "emulator", "--state-dir", str(tmp_path / "state"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=REPOSITORY, check=False)


def test_a_state_directory_has_one_owner(tmp_path: Path) -> None:
    """A second emulator over the same state is refused, and told what to do."""
    with emulator_process(tmp_path / "state"):
        ended = run(tmp_path, "--https-port=0", "--mqtt-port=0", "--amqp-port=0", "--identity-port=0", "--admin-port=0")
    assert ended.returncode == 1
    assert ended.stderr == (
        f"emulator: state directory {tmp_path / 'state'} is in use by another emulator: stop it, or name another "
        "--state-dir\n"
    )


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """A port in use ends the start with its number, its address and the option that moves it."""
    address = own_address()
    with socket.create_server((address, 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(tmp_path, f"--address={address}", f"--https-port={port}")
    assert ended.returncode == 1
    assert ended.stderr == (
        f"emulator: port {port} on {address} is in use by another program: "
        "choose another with --https-port, 0 for any\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--address=0.0.0.0"],
            NOT_LOOPBACK,
        ),
        (
            ["--extra-hub=127.0.0.1"],
            "emulator: addresses 127.0.0.1, 127.0.0.1: each hub needs an address of its own, and one is named twice\n",
        ),
        (
            ["--mqtt-port=70000"],
            "argument --mqtt-port: '70000' is not a port; give a number from 0 (any free one) to 65535\n",
        ),
        (
            ["--variant=hubThumbprints=md5"],
            "argument --variant: variant hubThumbprints: the value 'md5' does not exist; known are: sha256, sha1\n",
        ),
        (
            ["--amqp-port=off"],
            "argument --amqp-port: 'off' is not a port; give a number from 0 (any free one) to 65535, or none\n",
        ),
    ],
)
def test_a_wrong_option_is_refused_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """An address that is not loopback, a hub named twice and an impossible port each say so, and nothing starts."""
    monkeypatch.setattr("emulator.__main__._run", None)
    status: object
    try:
        status = main(["--state-dir", str(tmp_path / "state"), *arguments])
    except SystemExit as ended:  # argparse's way
        status = ended.code
    assert status in {1, 2}
    assert capsys.readouterr().err.endswith(message)
    assert not (tmp_path / "state").exists()


def test_names_are_without_a_port_at_443(tmp_path: Path) -> None:
    """As Azure's names are: some clients take a host with a port for a name. Any other port is part of the names."""
    hub = "127.9.8.7"

    def configured(port: int) -> Configuration:
        return Configuration(state_dir=tmp_path, tls_dir=tmp_path, https_port=port, extra_hub_addresses=[hub])

    standard, other = configured(443), configured(8443)
    assert (standard.authority, standard.https_url) == ("localhost", "https://localhost")
    assert [each.service_url for each in standard.hubs] == ["https://localhost", "https://127.9.8.7"]
    assert (other.authority, other.https_url) == ("localhost:8443", "https://localhost:8443")
    assert [each.authority for each in other.hubs] == ["localhost:8443", "127.9.8.7:8443"]


@pytest.mark.skipif(not can_bind(own_address(), 443), reason="port 443 needs a privilege here")
def test_an_emulator_at_443_can_be_used_by_its_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that knows port 443 only uses the connection string of the readiness line as it is."""
    address = own_address(443)
    with emulator_process(tmp_path / "state", f"--address={address}", "--https-port=443") as (_, endpoints):
        assert endpoints["dpsConnectionString"].startswith(f"HostName={address};")
        [hub] = endpoints["iotHubConnectionStrings"]
        assert hub.startswith(f"HostName={address};")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", endpoints["tlsCaFile"])
        registry = IoTHubRegistryManager.from_connection_string(hub)
        registry.create_device_with_x509("at-443", "A" * 40, None, "enabled")
        assert registry.get_device("at-443").device_id == "at-443"


def test_variants_are_chosen_at_the_start(tmp_path: Path) -> None:
    """Those that are named hold from the first call on, and the others are the defaults."""
    with emulator_process(tmp_path / "state", "--variant=hubThumbprints=sha1") as (_, endpoints):
        shown = requests.get(f"{endpoints['adminUrl']}/variants", timeout=10).json()
    assert (shown["hubThumbprints"], shown["entryCertificates"]) == ("sha1", "info")


def test_amqp_can_be_left_out(tmp_path: Path) -> None:
    """Where another program has the port, the emulator does without it, and says so."""
    with emulator_process(tmp_path / "state", "--amqp-port", "none") as (_, endpoints):
        assert endpoints["amqpPort"] is None


def test_more_hubs_have_addresses_of_their_own(tmp_path: Path) -> None:
    """Each extra hub answers on its own loopback address, under a certificate that names it."""
    extra = own_address()
    with emulator_process(tmp_path / "state", f"--extra-hub={extra}") as (_, endpoints):
        hubs = endpoints["iotHubs"]
        assert [hub["hostName"] for hub in hubs] == ["localhost", extra]
        assert len(set(endpoints["iotHubConnectionStrings"])) == 2
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{hubs[1]['serviceUrl']}/nothing", verify=endpoints["tlsCaFile"], timeout=10)
        assert answer.status_code == 501
        assert answer.json()["error"]["message"] == "The emulator does not offer GET /nothing."
