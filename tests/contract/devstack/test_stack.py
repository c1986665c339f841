"""The stack as one thing: it says what is in its way, leaves others alone, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from devstack import azurite
from devstack.outside import until
from devstack.stack import Stack
from emulator.platform.tls import ensure_tls

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[3]


def options_in(folder: Path) -> list[str]:
    """Options of a stack on ports and an address of its own."""
    free = Stack.free(folder).options
    ports = ",".join(map(str, free.azurite_ports))
    return [
        *("--state-dir", str(folder), "--address", free.address, "--functions-port", str(free.functions_port)),
        *("--azurite-ports", ports, "--https-port", "0", "--identity-port", "0", "--admin-port", "0"),
    ]


def start(options: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "devstack", "run", *options]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ready(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until a stack says so, and give its processes."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("all of it"):
            return psutil.Process(process.pid).children(recursive=True)
    raise AssertionError("the stack ended before it was ready")


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def ended(processes: list[psutil.Process]) -> bool:
    return not any(map(runs, processes))


@dataclass(frozen=True)
class Running:
    """A stack that is ready.

    Attributes:
        parts: its other processes.
        options: what it was given.
    """

    process: subprocess.Popen[str]
    parts: list[psutil.Process]
    folder: Path
    options: list[str]


@contextmanager
def stack_in(folder: Path) -> Iterator[Running]:
    """Start a stack, and end it unless the test has."""
    options = options_in(folder)
    with start(options) as process:
        yield Running(process, ready(process), folder, options)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One stack for the tests that do not end it, and for one that does: the last one that asks for it."""
    with stack_in(tmp_path_factory.mktemp("stack") / "state") as started:
        yield started


def test_a_second_stack_in_the_same_place_says_what_is_in_its_way(running: Running) -> None:
    """The second stack names the port and the option that moves it, ends with 1, and the first one stays whole."""
    folder, given = running.folder, running.options
    second = subprocess.run(
        [sys.executable, "-m", "devstack", "run", *given],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    address, port = given[given.index("--address") + 1], given[given.index("--functions-port") + 1]
    assert second.returncode == 1
    assert second.stderr == (
        f"port {port} on {address} is in use by another program; stop it, or move this port with --functions-port, "
        "or everything with --address 127.0.0.2 and a --state-dir of its own\n"
    )
    endpoints = json.loads((folder / "endpoints.json").read_text(encoding="utf-8"))
    assert endpoints["functionsUrl"] == f"http://{address}:{port}"


def test_what_a_stack_keeps_is_for_its_owner_alone(running: Running) -> None:
    """Nobody else reads a file or a folder of it, Azurite's and the logs included."""
    folder = running.folder
    found = {each: each.stat().st_mode for each in (folder, *folder.rglob("*")) if each.exists()}
    assert [str(each) for each, mode in found.items() if mode & 0o077] == []
    names = {each.name for each in found}
    assert names >= {"endpoints.json", "emulator.sqlite3", "server.key", "emulator.log", "azurite.log", "azurite"}


def test_ctrl_c_leaves_nothing_behind(running: Running) -> None:
    """SIGINT ends the stack that the tests before have shared."""
    check_that_nothing_is_left(running, signal.SIGINT)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, how: signal.Signals) -> None:
    """Nor by any other signal."""
    with stack_in(tmp_path) as started:
        check_that_nothing_is_left(started, how)


def check_that_nothing_is_left(stack: Running, how: signal.Signals) -> None:
    """However the stack ends, all its processes end; asked to end, it takes its endpoints away."""
    assert len(stack.parts) == 3
    assert (stack.folder / "endpoints.json").exists()
    os.kill(stack.process.pid, how)
    assert stack.process.wait(30) == (-signal.SIGKILL if how is signal.SIGKILL else 0)
    until("all ended", lambda: ended(stack.parts), bool)
    assert (stack.folder / "endpoints.json").exists() == (how is signal.SIGKILL)


def test_a_part_that_ends_by_itself_ends_the_stack_with_its_name(tmp_path: Path) -> None:
    """When a part dies, the stack says which, and ends with 1."""
    with stack_in(tmp_path) as stack:
        emulator = next(each for each in stack.parts if "emulator" in each.cmdline())
        emulator.kill()
        assert stack.process.stdout is not None
        said = stack.process.stdout.read()
        assert stack.process.wait(30) == 1
    assert "emulator has ended unexpectedly with status -9" in said
    until("all ended", lambda: ended(stack.parts), bool)


def test_help_names_the_controls() -> None:
    """``--help`` of the stack names them, and each has its own."""
    for arguments, expected in (
        ([], "faults, throttling, assigning, hubs, roles, variants, tokens"),
        (["faults", "set"], "--retry-after"),
    ):
        command = [sys.executable, "-m", "devstack", *arguments, "--help"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY, check=True)
        assert expected in " ".join(ended.stdout.split())


def test_azurite_starts_without_the_library_of_its_telemetry(tmp_path: Path) -> None:
    """Azurite loads it also where telemetry is switched off, for half of its start."""
    tls = ensure_tls(tmp_path, ["localhost"])
    command = azurite.command(REPOSITORY, "127.0.0.1", (1, 2, 3), tmp_path, tls)
    node = command[: command.index(str(REPOSITORY / azurite.SCRIPT))]
    print_parts = "Object.keys(require('applicationinsights')).length"
    printed = subprocess.run([*node, "-p", print_parts], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert printed.stdout == "0\n"
