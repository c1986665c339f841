"""``python -m devstack.functions_host``: run a Functions app on this machine."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from devstack.functions_host import configuration, http_server
from devstack.functions_host.authentication import Authentication
from devstack.functions_host.configuration import ConfigurationError, HostSettings, resolve
from devstack.functions_host.keys import Keys
from devstack.functions_host.queue_listener import LEASE_SECONDS, QueueListener
from devstack.functions_host.timer_listener import LOCK_SECONDS, HostStorage, TimerListener
from devstack.functions_host.worker import AppError, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devstack.functions_host.worker import Function

_LOG = logging.getLogger("functions_host")
_LAST_CALLS_SECONDS = 10.0
_RESTART_SECONDS = 1.0
_RESTARTED = "FUNCTIONS_HOST_RESTARTED"
_SHORTEST_LOCK = 15
"""Seconds of the shortest lease of a blob (Lease Blob, REST API of Azure Storage)."""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m devstack.functions_host", description=__doc__)
    parser.add_argument("--app-dir", type=Path, default=Path(), help="folder of function_app.py and host.json")
    parser.add_argument("--settings", type=Path, help="local.settings.json; default: the one in --app-dir")
    parser.add_argument("--address", default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--port", type=int, default=7071, help="0 for a free one")
    parser.add_argument("--keys-file", type=Path, default=Path(".devstack/function-keys.json"))
    parser.add_argument(
        "--message-lease",
        type=float,
        default=LEASE_SECONDS,
        metavar="SECONDS",
        help="how long a queue message is leased (the real host: 600); shorter for tests that kill this host",
    )
    parser.add_argument(
        "--sign-in-keys", metavar="URL", help="stand in for App Service authentication: keys of its issuer"
    )
    parser.add_argument("--sign-in-audience", default="", metavar="AUDIENCE", help="that tokens must be for")
    return parser.parse_args(argv)


class _Host:
    def __init__(self, arguments: argparse.Namespace, settings: HostSettings) -> None:
        self._arguments = arguments
        self._settings = settings
        self._worker = Worker(arguments.app_dir.resolve(), settings.function_timeout)
        self._broken = asyncio.Event()
        self._listeners: list[QueueListener] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._services: dict[str, tuple[Any, Any]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> dict[str, Any]:
        place = self._bound()
        functions = await self._worker.start()
        keys = Keys.kept(self._arguments.keys_file)
        sign_in = self._arguments.sign_in_keys
        authentication = Authentication(sign_in, self._arguments.sign_in_audience) if sign_in else None
        application = http_server.application(
            self._worker, functions, keys, self._settings.route_prefix, authentication
        )
        # The real host hands a compressed body on as it came.
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=1, auto_decompress=False
        )
        await self._runner.setup()
        await web.SockSite(self._runner, place).start()
        port = self._arguments.port
        storage = await self._host_storage() if any(each.kind == "timerTrigger" for each in functions) else None
        for function in functions:
            self._listen(function, storage)
        return {
            "functionsUrl": f"http://{self._arguments.address}:{port}",
            "functionKey": keys.function,
            "masterKey": keys.master,
            "functions": [function.name for function in functions],
        }

    def _bound(self) -> socket.socket:
        """Take the port, before anybody can connect, and tell the app where it is reached, as every host does."""
        place = socket.socket(socket.AF_INET6 if ":" in self._arguments.address else socket.AF_INET)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((self._arguments.address, self._arguments.port))
        self._arguments.port = place.getsockname()[1]
        os.environ["WEBSITE_HOSTNAME"] = f"{self._arguments.address}:{self._arguments.port}"
        return place

    async def _host_storage(self) -> HostStorage:
        service = self._services["blobs"] = configuration.blob_service("AzureWebJobsStorage")
        lock = max(_SHORTEST_LOCK, min(LOCK_SECONDS, int(self._arguments.message_lease)))
        storage = HostStorage(service[0], configuration.host_id(), lock)
        await storage.create()
        return storage

    def _listen(self, function: Function, storage: HostStorage | None) -> None:
        if function.kind == "queueTrigger":
            service = self._queue_service(str(function.trigger.get("connection") or "AzureWebJobsStorage"))
            listener = QueueListener(
                service,
                resolve(str(function.trigger["queueName"])),
                self._settings.queues,
                partial(self._worker.invoke, function),
                self._end,
                lease_seconds=self._arguments.message_lease,
            )
            self._listeners.append(listener)
            self._tasks.append(asyncio.create_task(listener.run()))
        elif function.kind == "timerTrigger" and storage is not None:
            timer = TimerListener(function.name, function.trigger, storage, partial(self._worker.invoke, function))
            task = asyncio.create_task(timer.run())
            task.add_done_callback(self._ticked)
            self._tasks.append(task)
        elif function.kind != "httpTrigger":
            raise ConfigurationError(f"{function.name} has a {function.kind}, which this host does not offer")

    def _queue_service(self, connection: str) -> Any:
        if connection not in self._services:
            self._services[connection] = configuration.queue_service(connection)
        return self._services[connection][0]

    def _ticked(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._end(error)

    def _end(self, error: Exception) -> None:
        if not self._broken.is_set():
            text = " ".join(str(error).split())[:500]
            _LOG.critical("an unhandled error has occurred, and the host ends: %s: %s", type(error).__name__, text)
            self._broken.set()

    async def ended(self) -> None:
        """Wait until the host can't go on, and the platform would start it anew."""
        waits = [asyncio.create_task(self._broken.wait()), asyncio.create_task(self._worker.lost())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def stop(self) -> None:
        await asyncio.gather(*(listener.stop(seconds=_LAST_CALLS_SECONDS) for listener in self._listeners))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        for service, credential in self._services.values():
            await service.close()
            if credential is not None:
                await credential.close()
        self._worker.stop()


async def serve(arguments: argparse.Namespace, settings: HostSettings) -> bool:
    """Serve until a signal comes, or the host can't go on; tell whether it is to be started anew."""
    ended = asyncio.Event()
    told, loop = threading.Event(), asyncio.get_running_loop()

    def tell(_number: int, _frame: object) -> None:
        told.set()  # at once, and not in one of the loop's next rounds, which may not come any more
        loop.call_soon_threadsafe(ended.set)

    before = {name: signal.signal(name, tell) for name in (signal.SIGINT, signal.SIGTERM)}
    host = _Host(arguments, settings)
    try:
        gc.disable()  # until the app is there: next to nothing of what is imported is garbage, and all of it stays
        ready = await host.start()
        gc.freeze()
        gc.enable()
        if _RESTARTED not in os.environ:
            print(json.dumps(ready), flush=True)
        signalled, broken = asyncio.create_task(ended.wait()), asyncio.create_task(host.ended())
        await asyncio.wait((signalled, broken), return_when=asyncio.FIRST_COMPLETED)
        for each in (signalled, broken):
            each.cancel()
    finally:
        await host.stop()
    for name, handler in before.items():
        signal.signal(name, handler)  # from here on a signal ends the process
    return not told.is_set()  # it may have come while the host that could not go on was being stopped


def _restart(arguments: argparse.Namespace) -> None:
    """Start anew in this process's place, at the same port, as the platform starts a host that has ended."""
    time.sleep(_RESTART_SECONDS)
    options = {
        "--app-dir": arguments.app_dir,
        "--address": arguments.address,
        "--port": arguments.port,
        "--keys-file": arguments.keys_file,
        "--message-lease": arguments.message_lease,
        **({"--settings": arguments.settings} if arguments.settings else {}),
    }
    command = [
        sys.executable,
        "-m",
        "devstack.functions_host",
        *(str(part) for each in options.items() for part in each),
    ]
    os.environ[_RESTARTED] = "true"
    os.execv(sys.executable, command)  # noqa: S606 - ourselves


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM."""
    arguments = _arguments(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("azure.core.pipeline.policies.http_logging_policy", "azure.identity", "azure.functions"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        configuration.apply_local_settings(arguments.settings or arguments.app_dir / "local.settings.json")
        settings = configuration.read_host_json(arguments.app_dir / "host.json")
        with suppress(KeyboardInterrupt):
            if asyncio.run(serve(arguments, settings)):
                _restart(arguments)
    except (ConfigurationError, AppError, OSError) as error:
        sys.stderr.write(f"the functions host can't start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
