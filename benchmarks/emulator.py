"""The emulator: how soon it is there, how many devices it registers a second, and how many it keeps connected.

``python -m benchmarks.emulator [--quick]``; ``make bench-emulator`` is the same. The devices are bare MQTT clients in
this process, and the emulator is a process of its own. What it could do with its clients elsewhere is told by its own
processor time: it is one thread, so a registration that takes it 2 ms makes 500 a second on a core of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import requests

from benchmarks.emulated_devices import all_of, connect, make_devices, register
from benchmarks.engine_world import World
from benchmarks.measuring import Bar, Figure
from emulator.tests.running import own_address
from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.emulated_devices import Connection, Device

AT_ONCE = 32
START_BAR = Bar(2.0)
REGISTRATION_BAR = Bar(200, at_least=True)
CONNECTION_BAR = Bar(1000, at_least=True)
_PATIENCE = 30  # seconds


@contextmanager
def emulator(folder: Path) -> Iterator[tuple[psutil.Process, dict[str, Any], float]]:
    """Run an emulator on free ports; gives its process, its endpoints, and the seconds until it was ready."""
    ports = [part for name in ("https", "mqtt", "identity", "admin") for part in (f"--{name}-port", "0")]
    options = ["--state-dir", str(folder), "--address", own_address(), "--log-level", "error", *ports]
    began = time.perf_counter()
    command = [sys.executable, "-m", "emulator", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            endpoints = json.loads(process.stdout.readline())
            yield psutil.Process(process.pid), endpoints, time.perf_counter() - began
        finally:
            process.terminate()


def start_up(folder: Path, times: int) -> list[Figure]:
    """Start over an empty state, and over one that is there."""
    empty: list[float] = []
    present: list[float] = []
    for number in range(times):
        for seconds in (empty, present):
            with emulator(folder / f"start-{number}") as (_, _, taken):
                seconds.append(taken)
    return [
        Figure.of("start-up over an empty state", empty, unit="s", bar=START_BAR),
        Figure.of("start-up over a state that is there", present, unit="s", bar=START_BAR),
    ]


def enroll(world: World, endpoints: dict[str, Any]) -> None:
    """Verify the root in DPS, and make the enrollment group of the issuing CA."""

    def put(url: str, body: dict[str, Any], resource: str, version: str) -> None:
        identity = requests.get(
            endpoints["identityEndpoint"],
            params={"api-version": "2019-08-01", "resource": resource},
            headers={"X-IDENTITY-HEADER": endpoints["identityHeader"]},
            timeout=_PATIENCE,
        )
        headers = {"Authorization": f"Bearer {identity.json()['access_token']}"}
        trusted = endpoints["tlsCaFile"]
        query = {"api-version": version}
        answer = requests.put(url, json=body, params=query, headers=headers, verify=trusted, timeout=_PATIENCE)
        answer.raise_for_status()

    root = {"properties": {"certificate": names.pem(world.root.certificate), "isVerified": True}}
    certificates = f"{endpoints['armUrl']}{endpoints['dpsResourceId']}/certificates"
    put(f"{certificates}/root", root, "https://management.azure.com", "2022-12-12")
    signing = {"primary": {"certificate": names.pem(world.issuing.certificate)}}
    group = {
        "enrollmentGroupId": "bench",
        "attestation": {"type": "x509", "x509": {"signingCertificates": signing}},
    }
    put(
        f"{endpoints['dpsServiceUrl']}/enrollmentGroups/bench",
        group,
        "https://azure-devices-provisioning.net",
        "2021-10-01",
    )


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def registrations(process: psutil.Process, endpoints: dict[str, Any], devices: Sequence[Device]) -> list[Figure]:
    """Register devices in several parts, each device with a connection of its own, as at first boot."""
    here, alone = [], []
    size = len(devices) // 5
    for start in range(0, len(devices), size):
        part = devices[start : start + size]
        used, began = _processor_seconds(process), time.perf_counter()
        await all_of(part, lambda device: register(device, endpoints), at_once=AT_ONCE)
        here.append(len(part) / (time.perf_counter() - began))
        alone.append(len(part) / (_processor_seconds(process) - used))
    return [
        Figure.of(f"registrations a second, {AT_ONCE} at once, client on the same machine", here, unit="/s"),
        Figure.of("... by the emulator's processor time alone", alone, unit="/s", bar=REGISTRATION_BAR),
    ]


async def connections(process: psutil.Process, endpoints: dict[str, Any], devices: Sequence[Device]) -> list[Figure]:
    """Connect devices to their hub, keep them, and let each send and be acknowledged."""
    hub, port = endpoints["iotHubs"][0]["hostName"], endpoints["mqttPort"]
    memory = process.memory_info().rss
    used, began = _processor_seconds(process), time.perf_counter()
    connected: list[Connection] = await all_of(devices, lambda device: connect(device, hub, port), at_once=AT_ONCE)
    here = len(connected) / (time.perf_counter() - began)
    alone = len(connected) / (_processor_seconds(process) - used)
    each = (process.memory_info().rss - memory) / len(connected) / 1024
    began = time.perf_counter()
    await asyncio.gather(*(
        connection.publish(f"devices/{device.name}/messages/events/", b'{"pressure": 4.2}')
        for device, connection in zip(devices, connected, strict=True)
    ))  # fmt: skip
    telemetry = len(connected) / (time.perf_counter() - began)
    answer = await asyncio.to_thread(requests.get, f"{endpoints['adminUrl']}/connections", timeout=_PATIENCE)
    kept = float(answer.json()["count"])
    for connection in connected:
        await connection.close()
    bar = CONNECTION_BAR if len(devices) >= CONNECTION_BAR.value else None
    return [
        Figure.of("devices connected at the same time", [kept], unit="", bar=bar),
        Figure.of("connections a second, client on the same machine", [here], unit="/s"),
        Figure.of("... by the emulator's processor time alone", [alone], unit="/s"),
        Figure.of("memory of a connection", [each], unit="KiB"),
        Figure.of("messages a second from all of them at once, each acknowledged", [telemetry], unit="/s"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; gives 1 when a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emulator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it runs, not how fast")
    count, starts = (50, 1) if parser.parse_args(arguments).quick else (1000, 5)
    world = World.made()
    with tempfile.TemporaryDirectory(prefix="bench-emulator-") as name:
        folder = Path(name)
        figures = start_up(folder, starts)
        with emulator(folder / "state") as (process, endpoints, _):
            enroll(world, endpoints)
            ca_file = endpoints["tlsCaFile"]
            devices = make_devices("bench", count, issuer=world.issuing, now=world.now, ca_file=ca_file, folder=folder)
            figures += asyncio.run(registrations(process, endpoints, devices))
            figures += asyncio.run(connections(process, endpoints, devices))
    print("\n".join(map(str, figures)))
    return 1 if any(figure.verdict == "MISSED" for figure in figures) and count >= CONNECTION_BAR.value else 0


if __name__ == "__main__":
    sys.exit(main())
