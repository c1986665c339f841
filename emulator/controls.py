"""Controls of a running emulator, from the command line: each command is one call of its admin port."""

from __future__ import annotations

import argparse
import json
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from emulator.platform.variants import KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COMMANDS = ("faults", "throttling", "assigning", "hubs", "roles", "variants", "tokens")
ADMIN_URL = "http://127.0.0.1:8444"
"""Where an emulator is that was started without options."""

AUDIENCE = "api://my-api"
"""The API that tokens of users and apps are for, unless an option says another one."""

COMMAND = "azure-iot-emulator"
"""The name that the installed program has."""

_URL_FIELDS = ("emulatorAdminUrl", "adminUrl")
"""What a stack's endpoints.json calls it, and what the emulator's own readiness line does."""

_SECONDS = 10
_RULE: Mapping[str, tuple[type, str, str]] = {
    "service": (str, "PATTERN", "such as key_vault, dps, dps_device; *: every one"),
    "operation": (str, "PATTERN", "such as 'POST /keys/*/sign', or register over MQTT"),
    "skip": (int, "N", "let so many calls through first"),
    "count": (int, "N", "hit so many after them (all)"),
    "probability": (float, "P", "hit only this share of them"),
    "latencyMilliseconds": (int, "N", "wait first"),
    "status": (int, "STATUS", "answer with it instead of acting"),
    "retryAfterSeconds": (int, "N", "of that answer"),
    "drop": (str, "WHAT", "request: close the connection before anything happens; response: after it did"),
}
"""The fields of a fault rule, as options."""


class ControlError(Exception):
    """The emulator can't be reached, or refuses; the text says why and what would be right."""


def main(argv: Sequence[str], *, prog: str = COMMAND, endpoints: Path | None = None) -> int:
    """Run one command; gives the exit status.

    Args:
        argv: the command, its action and its options.
        prog: the program's name in its help.
        endpoints: the file that names the emulator, unless an option does; None: it is at ``ADMIN_URL``.
    """
    options = _parser(prog, endpoints).parse_args(argv)
    try:
        method, path, body = options.request(options)
        answer = _call(_admin_url(options), method, path, body)
    except ControlError as error:
        print(error, file=sys.stderr)
        return 1
    if answer is not None:
        print(json.dumps(answer, indent=2))
    return 0


def _admin_url(options: argparse.Namespace) -> str:
    if options.admin_url:
        return str(options.admin_url)
    path: Path | None = options.endpoints
    if path is None:
        return ADMIN_URL
    try:
        endpoints = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ControlError(
            f"{path} does not exist: start what writes it, or name the emulator with --admin-url {ADMIN_URL}"
        ) from None
    except ValueError:
        raise ControlError(f"{path} is not valid JSON; the line that the emulator prints when it is ready is") from None
    found = next((endpoints[name] for name in _URL_FIELDS if name in endpoints), None)
    if found is None:
        raise ControlError(f"{path} has none of {', '.join(_URL_FIELDS)}; name the emulator with --admin-url")
    return str(found)


def _call(url: str, method: str, path: str, body: Any) -> Any:
    """Call the admin port; gives the JSON of its answer, or None for an empty one."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ControlError(f"admin URL {url!r} is not of the form http://127.0.0.1:8444")
    connection = HTTPConnection(parts.hostname, parts.port, timeout=_SECONDS)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, HTTPException) as error:
        raise ControlError(f"no emulator answers at {url}: {error}") from None
    finally:
        connection.close()
    if response.status >= 400:  # noqa: PLR2004 - the classes of errors
        raise ControlError(_reason(text))
    return json.loads(text) if text else None


def _reason(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text


type _Request = tuple[str, str, Any]
"""Method, path and JSON body of a call; None for no body."""

type _Making = Callable[[argparse.Namespace], _Request]


class _Control:
    """One control's actions, each with the options that say which emulator is meant."""

    def __init__(self, commands: Any, name: str, text: str, endpoints: Path | None) -> None:
        self._endpoints = endpoints
        command = commands.add_parser(name, help=text, description=text)
        self._actions = command.add_subparsers(required=True, metavar="ACTION")

    def action(self, name: str, text: str, request: _Request | _Making) -> argparse.ArgumentParser:
        """Add an action; ``request`` is its call, or makes it from the options."""
        parser: argparse.ArgumentParser = self._actions.add_parser(name, help=text, description=text)
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--admin-url", metavar="URL", help="of the emulator's admin port")
        where.add_argument(
            "--endpoints",
            type=Path,
            default=self._endpoints,
            metavar="FILE",
            help=f"JSON that names it: the emulator's first line ({self._endpoints or ADMIN_URL})",
        )
        parser.set_defaults(request=request if callable(request) else lambda _: request)
        return parser


def _parser(prog: str, endpoints: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_faults(_Control(commands, "faults", "what goes wrong, and how often", endpoints))
    _add_throttling(_Control(commands, "throttling", "the documented rates, answered with 429", endpoints))
    _add_assigning(_Control(commands, "assigning", "for how long a registration at DPS is 'assigning'", endpoints))
    _add_hubs(_Control(commands, "hubs", "which hubs are linked to the DPS", endpoints))
    _add_roles(_Control(commands, "roles", "at which services identities have no role", endpoints))
    _add_variants(_Control(commands, "variants", "which behaviour holds where public sources differ", endpoints))
    _add_tokens(_Control(commands, "tokens", "tokens of users and apps for an API of your own", endpoints))
    return parser


def _add_tokens(tokens: _Control) -> None:
    text = "issue one, in the place of a sign-in"
    issue = tokens.action("issue", text, lambda given: ("POST", "/tokens", _sign_in(given)))
    issue.add_argument("kind", metavar="KIND", help="user or app")
    issue.add_argument("name", metavar="NAME", help="of a user as they sign in, such as ada@example.com; of an app")
    issue.add_argument("role", nargs="*", metavar="ROLE", help="app roles that it has, such as Fleet.Read")
    issue.add_argument("--audience", default=AUDIENCE, help="the API that the token is for (%(default)s)")


def _sign_in(given: argparse.Namespace) -> dict[str, Any]:
    return {"kind": given.kind, "name": given.name, "roles": given.role, "audience": given.audience}


def _add_faults(faults: _Control) -> None:
    faults.action("show", "show the plan and what came of it", ("GET", "/faults", None))
    faults.action("clear", "nothing goes wrong from now on", ("DELETE", "/faults", None))
    load = faults.action(
        "load", "replace the plan by one in a file", lambda given: ("PUT", "/faults", _plan(given.file))
    )
    load.add_argument("file", metavar="FILE", help="JSON; -: standard input")
    one = faults.action("set", "replace the plan by one rule", lambda given: ("PUT", "/faults", _one_rule(given)))
    for name, (kind, shape, text) in _RULE.items():
        one.add_argument(_option(name), dest=name, type=kind, default=argparse.SUPPRESS, metavar=shape, help=text)
    one.add_argument("--seed", type=int, default=0, help="decides which calls a probability hits (%(default)s)")


def _add_throttling(throttling: _Control) -> None:
    throttling.action("show", "show the rates and what they have refused", ("GET", "/throttling", None))
    throttling.action("off", "enforce no rates", ("PUT", "/throttling", {"enabled": False}))
    on = throttling.action("on", "enforce the rates", lambda given: ("PUT", "/throttling", _throttling(given.scale)))
    on.add_argument("scale", nargs="?", type=float, metavar="SCALE", help="every rate times this (stays as it is)")


def _add_assigning(assigning: _Control) -> None:
    assigning.action("show", "show it", ("GET", "/assigning", None))
    change = assigning.action("set", "set it", lambda given: ("PUT", "/assigning", {"seconds": given.seconds}))
    change.add_argument("seconds", type=float, metavar="SECONDS", help="0: the answer is there at once")


def _add_hubs(hubs: _Control) -> None:
    hubs.action("show", "show them", ("GET", "/linked-hubs", None))
    text = "link these and no others, until the emulator is started anew"
    link = hubs.action("link", text, lambda given: ("PUT", "/linked-hubs", {"iotHubs": given.host}))
    link.add_argument("host", nargs="+", metavar="HOST", help="host name of a hub")


def _add_roles(roles: _Control) -> None:
    roles.action("show", "show which roles are withheld", ("GET", "/roles", None))
    roles.action("grant", "give all roles back", ("PUT", "/roles", {"withheld": []}))
    text = "withhold these roles and no others"
    withhold = roles.action("withhold", text, lambda given: ("PUT", "/roles", {"withheld": given.service}))
    withhold.add_argument(
        "service", nargs="+", metavar="SERVICE", help="dps, iot_hub, key_vault, management, event_grid"
    )


def _add_variants(variants: _Control) -> None:
    variants.action("show", "show all of them", ("GET", "/variants", None))
    text = "change one and leave the rest"
    change = variants.action("set", text, lambda given: ("PUT", "/variants", {given.name: given.value}))
    change.add_argument("name", metavar="NAME", help=", ".join(KNOWN))
    change.add_argument("value", metavar="VALUE", help="; ".join("|".join(values) for values in KNOWN.values()))


def _option(field: str) -> str:
    return "--" + "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in field)


def _plan(name: str) -> Any:
    try:
        return json.loads(sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ControlError(f"{name} is not valid JSON: {error}") from None
    except OSError as error:
        raise ControlError(f"{name} can't be read: {error.strerror}") from None


def _one_rule(given: argparse.Namespace) -> dict[str, Any]:
    rule = {name: getattr(given, name) for name in _RULE if hasattr(given, name)}
    return {"seed": given.seed, "rules": [rule]}


def _throttling(scale: float | None) -> dict[str, Any]:
    return {"enabled": True} if scale is None else {"enabled": True, "scale": scale}
