"""Starting emulators for tests: in a thread of the test's own process, or as a program of its own."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
import threading
import uuid
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from emulator.platform.configuration import ID_SCOPE, Configuration
from emulator.platform.context import utc_now
from emulator.platform.store import PRIVATE, PRIVATE_FOLDER, Store
from emulator.platform.tls import ensure_tls
from emulator.server import STORE_FILE, Emulator
from emulator.tests.api_descriptions.recorded import RECORDED

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from datetime import datetime

    from emulator.platform.context import Context

MQTT_PORT = 8883  # fixed in Microsoft's device SDK, so every emulator of a test run has an address of its own
AMQP_PORT = 5671  # fixed in Microsoft's service SDKs, likewise
READY_SECONDS = 20
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class RunningEmulator:
    """An emulator in a thread of this process, with an event loop of its own.

    Attributes:
        endpoints: as in the readiness line.
        context: the emulator's own parts, for what no client can do, such as making an expired token.
        loop: the emulator's event loop.
    """

    endpoints: Mapping[str, Any]
    context: Context
    loop: asyncio.AbstractEventLoop

    @property
    def https_url(self) -> str:
        return str(self.endpoints["httpsUrl"])

    @property
    def admin_url(self) -> str:
        return str(self.endpoints["adminUrl"])

    @property
    def ca_file(self) -> str:
        return str(self.endpoints["tlsCaFile"])

    def token(self, resource: str) -> str:
        """A valid token, without asking the identity endpoint for it."""
        return self.context.tokens.issue(resource).token

    def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the emulator's own loop and wait for the result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(READY_SECONDS)


class SetClock:
    """A clock that goes on when a test says so."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@cache
def addresses() -> tuple[str, ...]:
    """Loopback addresses for the emulators of this process, all served by one certificate."""
    numbers = [(random.randint(1, 254), random.randint(0, 254), random.randint(1, 254)) for _ in range(100)]  # noqa: S311  addresses, no secrets
    return tuple(f"127.{first}.{second}.{third}" for first, second, third in numbers)


@cache
def _turns() -> Iterator[str]:
    """Give each of them in its turn, so that two emulators at once have two."""
    return cycle(addresses())


@dataclass(frozen=True)
class MadeOnce:
    """What nearly all the time of an emulator's start goes into: RSA keys.

    Attributes:
        tls: files by their names.
        signing_key: of the identity endpoint, in PEM.
    """

    tls: Mapping[str, bytes]
    signing_key: str

    def put_into(self, state_dir: Path, tls_dir: Path) -> None:
        """Have an emulator's first start find them, as its second one does; its identity is another one each time."""
        if (state_dir / STORE_FILE).exists() or tls_dir.exists():
            return
        tls_dir.mkdir(PRIVATE_FOLDER, parents=True)
        for name, content in self.tls.items():
            path = tls_dir / name
            path.touch(PRIVATE)
            path.write_bytes(content)
        with closing(Store(state_dir / STORE_FILE)) as store:
            self.put_signing_key(store)

    def put_signing_key(self, store: Store) -> None:
        """Have the identity endpoint find its key."""
        kept = {"pem": self.signing_key, "keyId": uuid.uuid4().hex, "clientId": str(uuid.uuid4())}
        store.put("identity", "signing-key", kept)


@cache
def made_once() -> MadeOnce:
    """Make them at the first start of this process."""
    with TemporaryDirectory() as folder:
        ensure_tls(Path(folder), ["localhost", "127.0.0.1", *addresses()])
        tls = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return MadeOnce(tls, pem.decode())


def own_address(*more_ports: int) -> str:
    """A loopback address on which the ports that SDKs have fixed are free, and these as well."""
    while True:
        address = next(_turns())
        if all(can_bind(address, port) for port in (MQTT_PORT, AMQP_PORT, *more_ports)):
            return address


def can_bind(address: str, port: int) -> bool:
    """Whether a server could listen there."""
    with suppress(OSError), socket.create_server((address, port)):
        return True
    return False


@contextmanager
def emulator_in_thread(
    folder: Path,
    *,
    clock: Callable[[], datetime] = utc_now,
    extra_hub_addresses: Sequence[str] = (),
    websocket_port: int | None = None,
    variants: Mapping[str, str] | None = None,
    roles: Path | None = None,
    event_queue: str | None = None,
    id_scope: str = ID_SCOPE,
) -> Iterator[RunningEmulator]:
    """Run an emulator on an address of its own until the end of the ``with`` block."""
    configuration = Configuration(
        state_dir=folder / "state",
        tls_dir=folder / "tls",
        address=own_address(*([websocket_port] if websocket_port else [])),
        https_port=0,
        exchange_log=RECORDED.log(folder / "exchanges.jsonl"),
        mqtt_port=MQTT_PORT,
        amqp_port=AMQP_PORT,
        identity_port=0,
        admin_port=0,
        extra_hub_addresses=tuple(extra_hub_addresses),
        websocket_port=websocket_port,
        roles=roles,
        event_queue=event_queue,
        id_scope=id_scope,
        variants=variants or {},
    )
    made_once().put_into(configuration.state_dir, configuration.tls_dir)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="emulator", daemon=True)
    thread.start()
    emulator = Emulator(configuration, clock=clock)
    try:
        asyncio.run_coroutine_threadsafe(emulator.start(), loop).result(READY_SECONDS)
        yield RunningEmulator(emulator.endpoints, emulator.context, loop)
    finally:
        asyncio.run_coroutine_threadsafe(emulator.stop(), loop).result(READY_SECONDS)
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(READY_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def emulator_process(state_dir: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run ``python -m emulator`` on free ports; yields the process and its readiness line.

    Args:
        state_dir: kept from start to start by the caller.
        arguments: further options; ports given here win.
    """
    made_once().put_into(state_dir, state_dir / "tls")
    ports = [part for name in ("https", "mqtt", "amqp", "identity", "admin") for part in (f"--{name}-port", "0")]
    log_file = RECORDED.log(state_dir.parent / f"{state_dir.name}.exchanges.jsonl")
    kept = ["--state-dir", str(state_dir), "--exchange-log", str(log_file)]
    command = [sys.executable, "-m", "emulator", *kept, *ports, *arguments]
    with (
        (state_dir.parent / f"{state_dir.name}.log").open("ab") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=REPOSITORY) as process,
    ):
        try:
            yield process, json.loads(_first_line(process, Path(log.name)))
        finally:
            if process.poll() is None:
                process.terminate()


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    if process.stdout is None:
        raise AssertionError("the emulator was started without a pipe")
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"the emulator ended before it was ready: {log.read_text()}")
    return line
