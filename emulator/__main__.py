"""Command line of the emulator: start, print one line of JSON when ready, serve until told to stop; or control one."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emulator import controls
from emulator.platform.configuration import DEFAULT_ADDRESS, ID_SCOPE, Configuration, ConfigurationError
from emulator.platform.log_format import OneLine
from emulator.platform.store import StoreInUse
from emulator.platform.throttling import checked_scale
from emulator.platform.variants import OPTION_HELP, option_value
from emulator.protocols.listeners import PortTaken
from emulator.server import Emulator
from emulator.services.dps.state import MAX_SECONDS, checked_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

LAST_PORT = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator, or give a running one a command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in controls.COMMANDS:
        return controls.main(given)
    options = _parser().parse_args(given)
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=options.log_level.upper(), handlers=[lines])
    try:
        configuration = Configuration(
            state_dir=options.state_dir,
            tls_dir=options.tls_dir or options.state_dir / "tls",
            address=options.address,
            https_port=options.https_port,
            mqtt_port=options.mqtt_port,
            amqp_port=options.amqp_port,
            identity_port=options.identity_port,
            admin_port=options.admin_port,
            extra_hub_addresses=tuple(options.extra_hub),
            id_scope=options.id_scope,
            websocket_port=options.websocket_port,
            assigning_seconds=options.assigning_seconds,
            throttling=options.throttling,
            variants=dict(options.variant),
            exchange_log=options.exchange_log,
            roles=options.roles,
            event_queue=options.event_queue,
        )
        asyncio.run(_run(configuration))
    except (ConfigurationError, PortTaken, StoreInUse) as error:
        print(f"emulator: {error}", file=sys.stderr)
        return 1
    return 0


def _take_all_descriptors() -> None:
    """A thousand devices need a thousand descriptors, which is the usual soft limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(configuration: Configuration) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    _take_all_descriptors()
    emulator = Emulator(configuration)
    await emulator.start()
    gc.freeze()  # what start-up made stays; collections then look at requests only
    print(json.dumps(emulator.endpoints), flush=True)
    try:
        await stopped.wait()
    finally:
        await emulator.stop()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 (any free one) to {LAST_PORT}")
    return int(text)


def _port_or_none(text: str) -> int | None:
    if text != "none" and (not text.isdecimal() or int(text) > LAST_PORT):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port; give a number from 0 (any free one) to {LAST_PORT}, or none"
        )
    return None if text == "none" else int(text)


def _seconds(text: str) -> float:
    try:
        return checked_seconds(float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {MAX_SECONDS}") from None


def _scale(text: str) -> float:
    try:
        return checked_scale(float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a scale; give a number above 0, e.g. 0.01") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=controls.COMMAND,
        description="Local stand-in for Azure DPS, IoT Hub, Key Vault, an Event Grid topic and managed identity. "
        "Prints its endpoints as one line of JSON when it is ready. Loopback only.",
        epilog=f"Controls of a running emulator: {', '.join(controls.COMMANDS)}; each has its own --help.",
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="folder of all state; made if absent")
    parser.add_argument("--tls-dir", type=Path, help="folder of the local CA and server certificate (STATE_DIR/tls)")
    parser.add_argument("--address", default=DEFAULT_ADDRESS, help="loopback address to listen on (%(default)s)")
    for name, port in (("https", 8443), ("mqtt", 8883), ("identity", 8442), ("admin", 8444)):
        parser.add_argument(f"--{name}-port", type=_port, default=port, help="0: any free one (%(default)s)")
    parser.add_argument(
        "--amqp-port",
        type=_port_or_none,
        default=5671,
        metavar="PORT",
        help="of the hubs' service side; service SDKs know only %(default)s. 0: any free one; none: leave it out",
    )
    parser.add_argument(
        "--extra-hub", action="append", default=[], metavar="ADDRESS", help="one more IoT hub, on this loopback address"
    )
    parser.add_argument(
        "--id-scope",
        default=ID_SCOPE,
        metavar="SCOPE",
        help="of the DPS (%(default)s). With another one than before it is another DPS, which has nothing",
    )
    parser.add_argument(
        "--websocket-port",
        type=_port,
        metavar="PORT",
        help="one more port for all of HTTPS; device SDKs with websockets know only 443 (none)",
    )
    parser.add_argument(
        "--assigning-seconds",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="for so long a registration at DPS is 'assigning' (%(default)s: until its device looks)",
    )
    parser.add_argument(
        "--throttling",
        type=_scale,
        nargs="?",
        const=1.0,
        metavar="SCALE",
        help="enforce the documented rates, times SCALE (off; 1 when no scale is given)",
    )
    parser.add_argument(
        "--variant",
        type=option_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"where public sources differ on what a service does: {OPTION_HELP}",
    )
    parser.add_argument(
        "--exchange-log",
        type=Path,
        metavar="FILE",
        help="append what is asked and answered over HTTPS to FILE, a line of JSON each, without keys (none)",
    )
    parser.add_argument(
        "--roles",
        type=Path,
        metavar="FILE",
        help="what identities may do, in JSON; it is read again when it changes (none: everything)",
    )
    parser.add_argument(
        "--event-queue",
        metavar="URL",
        help="of a storage queue that subscribes to the Event Grid topic, as in https://.../account/queue (none)",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


if __name__ == "__main__":
    sys.exit(main())
