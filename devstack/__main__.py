"""``python -m devstack``: the local stack, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from devstack import zones
from devstack.azurite import ACCOUNT, AzuriteMissing
from devstack.stack import GENERATED, REPOSITORY, Options, Stack, StackError, write_owner_only
from devstack.zoned_stack import ZonedStack
from emulator import controls
from emulator.platform.configuration import HTTPS_PORT
from emulator.platform.variants import OPTION_HELP, option_value
from shared.domain.callers import Role
from shared.reading.queue_settings import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

_WATCH_SECONDS = 0.5
_PROGRAMS = {"audit": "devstack.auditing", "trace": "devstack.traces", "rehearse": "devstack.rehearsal"}
"""Imported by who runs them: they bring Microsoft's SDKs, and a stack does not need those to start."""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    default = Options()
    parser = argparse.ArgumentParser(
        prog="python -m devstack",
        description=__doc__,
        epilog=f"Controls of a running stack: {', '.join(controls.COMMANDS)}; each has its own --help. "
        "audit [STATE_DIR]: see whether ledger, DPS, hubs and lists of a running stack agree. "
        "trace: carry out one order on a stack of its own, and print its trace. "
        "rehearse PLAN.json: revoke as many devices as a plan names, on a stack of its own with Microsoft's quotas.",
    )
    parser.add_argument("what", choices=("run", "stack"), help="run: everything; stack: without the functions host")
    parser.add_argument("--state-dir", type=Path, default=default.state_dir)
    parser.add_argument(
        "--zones",
        type=int,
        choices=(1, len(zones.ZONES)),
        default=1,
        help="how many apps share the work, each with an identity that has its zone's roles alone (%(default)s)",
    )
    parser.add_argument(
        "--address",
        default=default.address,
        help="loopback address; 8883 and 5671 are fixed, so a second stack moves it",
    )
    parser.add_argument("--functions-port", type=int, default=default.functions_port)
    parser.add_argument(
        "--azurite-ports", default=",".join(map(str, default.azurite_ports)), help="of blobs, queues and tables"
    )
    parser.add_argument(
        "--https-port",
        type=int,
        default=default.https_port,
        help=f"of the emulated services; with {HTTPS_PORT} all names in endpoints.json are without a port, for clients "
        f"that know no other: Azure CLI, Node's SDKs, websockets (%(default)s)",
    )
    parser.add_argument("--identity-port", type=int, default=default.identity_port)
    parser.add_argument("--admin-port", type=int, default=default.admin_port)
    parser.add_argument(
        "--amqp-port",
        default=default.amqp_port,
        type=_port_or_none,
        help="of the hubs' service side; none: leave it out",
    )
    parser.add_argument(
        "--otlp-endpoint",
        default=os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        metavar="URL",
        help="send telemetry there by OTLP over HTTP, as in http://127.0.0.1:4318 (OTEL_EXPORTER_OTLP_ENDPOINT)",
    )
    parser.add_argument(
        "--event-topic",
        action="store_true",
        help="send events to the emulated Event Grid topic; a subscription brings them into provisioning-events",
    )
    parser.add_argument(
        "--queue-account",
        action="append",
        default=[],
        type=_queue_account,
        metavar="QUEUE=ACCOUNT",
        help="give a queue a storage account of its own, as in device-orders=erp",
    )
    parser.add_argument("--extra-hub", action="append", default=[], metavar="ADDRESS", help="one more IoT hub")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        type=option_value,
        metavar="NAME=VALUE",
        help=f"where public sources differ on what a service does: {OPTION_HELP}",
    )
    arguments = parser.parse_args(argv)
    try:
        blob, queue, table = map(int, arguments.azurite_ports.split(","))
    except ValueError:
        parser.error(f"--azurite-ports is {arguments.azurite_ports!r}; give three numbers, as in 10000,10001,10002")
    arguments.azurite_ports = (blob, queue, table)
    if arguments.what == "stack" and arguments.zones > 1:
        parser.error(f"--zones {arguments.zones} goes with run: `func start` runs one app for everything")
    return arguments


def _queue_account(text: str) -> tuple[str, str]:
    queue, _, account = text.partition("=")
    if queue not in CONNECTIONS or not re.fullmatch("[a-z0-9]{3,24}", account) or account == ACCOUNT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not QUEUE=ACCOUNT, with a queue of {', '.join(CONNECTIONS)}, and 3 to 24 lower-case letters "
            "and digits"
        )
    return queue, account


def _port_or_none(text: str) -> int | None:
    return None if text == "none" else int(text)


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        state_dir=arguments.state_dir.resolve(),
        address=arguments.address,
        functions_port=arguments.functions_port,
        azurite_ports=arguments.azurite_ports,
        https_port=arguments.https_port,
        identity_port=arguments.identity_port,
        admin_port=arguments.admin_port,
        amqp_port=arguments.amqp_port,
        event_topic=arguments.event_topic,
        queue_accounts=dict(arguments.queue_account),
        extra_hubs=tuple(arguments.extra_hub),
        variants=dict(arguments.variant),
        settings={"OTEL_EXPORTER_OTLP_ENDPOINT": arguments.otlp_endpoint} if arguments.otlp_endpoint else {},
    )


def _stack(arguments: argparse.Namespace) -> Stack:
    kind = ZonedStack if arguments.zones > 1 else Stack
    return kind(_options(arguments), with_host=arguments.what == "run")


def _write_settings_for_core_tools(stack: Stack) -> None:
    """Write local.settings.json for ``func start``, unless somebody wrote one by hand."""
    path = REPOSITORY / "local.settings.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")).get("_comment") != GENERATED:
        print(
            f"{path} was written by hand and stays; the stack's settings are in {stack.options.state_dir}", flush=True
        )
        path = stack.options.state_dir / "local.settings.json"
    values = {**stack.settings(), **stack.endpoints.environment()}
    content = {"_comment": GENERATED, "IsEncrypted": False, "Values": values}
    write_owner_only(path, content)
    print(f"settings for `func start` are in {path}", flush=True)


def _say_ready(stack: Stack) -> None:
    endpoints = stack.endpoints
    print(f"  storage   {endpoints.queue_service_url}", flush=True)
    for queue, url in endpoints.own_queue_service_urls.items():
        print(f"  {queue} {url}")
    for zone, url in endpoints.zones.items():
        print(f"  {zone:<9} {url}/api  (its zone alone; functions has them all)")
    print(f"  DPS       {endpoints.dps_service_url}  devices: {endpoints.dps_device_host}:8883")
    print(f"  key vault {endpoints.key_vault_url}")
    path, devices = stack.options.state_dir / "endpoints.json", f"{endpoints.functions_url}/api/devices"
    if endpoints.functions_url:
        print(f"  functions {endpoints.functions_url}/api")
        print(f"  console   {endpoints.functions_url}/api/console  (sign in with functionKey)")
        print("as somebody with one role, by a key of endpoints.json or by a token:")
        print(f'  curl -H "x-functions-key: $(jq -r \'.roleKeys["Fleet.Read"]\' {path})" {devices}')
        token = f"{sys.executable} -m devstack tokens issue user ada@example.com Fleet.Read --endpoints {path}"
        print(f'  curl -H "authorization: Bearer $({token} | jq -r .access_token)" {devices}')
        print(f"  roles: {', '.join(Role)}; for one group: Devices.Revoke:line-1")
    print(
        f"all of it, with keys, is in {stack.options.state_dir / 'endpoints.json'}; Ctrl-C stops everything", flush=True
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP, or until a part ends by itself; or give a running stack one command."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in controls.COMMANDS:
        return controls.main(given, prog="python -m devstack", endpoints=Options().state_dir / "endpoints.json")
    if given and given[0] in _PROGRAMS:
        status: int = import_module(_PROGRAMS[given[0]]).main(list(given[1:]))
        return status
    arguments = _arguments(given)
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: ended.set())
    hosts = " and the functions host" if arguments.zones == 1 else f" and {arguments.zones} functions hosts"
    parts = "Azurite, the emulated Azure services" + (hosts if arguments.what == "run" else "")
    print(f"starting {parts} ...", flush=True)
    started = time.perf_counter()
    try:
        with _stack(arguments) as stack:
            print(f"ready after {time.perf_counter() - started:.1f} s", flush=True)
            if arguments.what == "stack":
                _write_settings_for_core_tools(stack)
            _say_ready(stack)
            while not ended.wait(_WATCH_SECONDS):
                stack.watch()
            print("stopping ...", flush=True)
    except (StackError, AzuriteMissing) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
