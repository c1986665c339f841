"""How long the doors stay open: a device at a time, while an order runs, and a group of devices at once.

The times are those that ``GET /api/devices/{id}`` gives: of each door, since when it is closed, as it was read back at
the service. They are counted from the moment before the request is sent. What was closed is looked at from outside as
well. The calls of a group's revocation are those that the emulator was asked, and are compared with the estimate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from azure.iot.hub import IoTHubRegistryManager
from cryptography import x509

from benchmarks.measuring import Bar, Figure
from devstack.outside import World, until
from devstack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SINGLE, MANY = "single", "many"
DOORS = {"dps", "hub", "crl", "ocsp"}
BAR = Bar(5.0)
"""Seconds to the last door closed, of one device."""

_REVOKED, _DISABLED = "keyCompromise", "disabled"
_VARIANTS = {"dpsRegistration": "atOnce"}
_PATIENCE = 3600.0


class Watched(Stack):
    """A stack whose emulator writes down what it is asked."""

    __slots__ = ()

    @property
    def exchanges(self) -> Path:
        """Where to."""
        return self.options.state_dir / "exchanges.jsonl"

    def _emulator_options(self) -> list[str]:
        return [*super()._emulator_options(), "--exchange-log", str(self.exchanges)]


@dataclass
class Doors:
    """A world whose devices are revoked."""

    world: World
    stack: Watched
    revoked: list[str] = field(default_factory=list)

    def ordered(self, group: str, count: int, *, wait: bool = True) -> list[str]:
        """Order devices, and wait for them."""
        order_id = f"{group}-{uuid.uuid4().hex[:6]}"
        ids = [f"{order_id}-{number}" for number in range(count)]
        devices = [{"registrationId": each} for each in ids]
        self.world.post_message("device-orders", {"orderId": order_id, "enrollmentGroup": group, "devices": devices})
        if wait:
            until(
                f"{count} devices are there",
                lambda: self.world.get(f"device-orders/{order_id}?pageSize=1", missing={}).get("state"),
                lambda state: state == "completed",
                seconds=_PATIENCE,
            )
        return ids

    def revoke(self, registration_id: str) -> dict[str, float]:
        """Revoke a device; give the seconds until each door was closed."""
        began = datetime.now(UTC)
        answer = self.world.post(f"devices/{registration_id}/revoke", {"reason": _REVOKED})
        answer.raise_for_status()
        self.world.followed(answer)
        self.revoked.append(registration_id)
        return self.closed(registration_id, began)

    def closed(self, registration_id: str, began: datetime) -> dict[str, float]:
        """Give the seconds until each door of a device was closed."""
        doors = until(
            f"the doors of {registration_id} are closed",
            lambda: self.world.get(f"devices/{registration_id}")["closedDoors"],
            lambda found: {each["door"] for each in found} == DOORS,
        )
        last = dict[str, float]()
        for each in doors:  # each linked hub is one: the last of them counts
            took = (datetime.fromisoformat(each["since"]) - began).total_seconds()
            last[each["door"]] = max(took, last.get(each["door"], took))
        return last

    def check(self, group: str, ids: Sequence[str]) -> None:
        """See from outside that devices are kept out: the list names as many, and their identities are disabled."""
        issuer = self.world.get(f"enrollment-groups/{group}")["issuer"]
        listed = x509.load_der_x509_crl(self.world.anonymous(f"crl/{issuer}.crl"))
        self.world.check(len(listed) == len(ids), f"the list names {len(listed)} certificates, and not {len(ids)}")
        for each in ids[:: max(1, len(ids) // 20)]:
            identity = self.world.identity(self.world.hub_name, each)
            self.world.check(identity.status == _DISABLED, f"the hub keeps {each} out")

    def list_number(self, group: str) -> int:
        """Give the number of a group's list: each one that was signed has the next."""
        issuer = self.world.get(f"enrollment-groups/{group}")["issuer"]
        listed = x509.load_der_x509_crl(self.world.anonymous(f"crl/{issuer}.crl"))
        return listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def hub_shut(self, ids: Sequence[str], began: datetime) -> float:
        """Give the seconds until the hub kept all of some devices out, by its own clock."""
        registry = IoTHubRegistryManager.from_connection_string(self.stack.endpoints.iot_hub_connection_strings[0])
        times = [str(registry.get_device(each).status_updated_time) for each in ids]
        return (max(map(datetime.fromisoformat, times)) - began).total_seconds()

    def throttle(self, scale: float) -> None:
        """Have the emulator hold to the services' rates, times a number; 0 for no rates."""
        url = f"{self.stack.endpoints.emulator_admin_url}/throttling"
        wanted = {"enabled": True, "scale": scale} if scale else {"enabled": False}
        requests.put(url, json=wanted, timeout=10).raise_for_status()

    def calls_since(self, position: int) -> Counter[str]:
        """Count what DPS and hub were asked after a position in the log of exchanges."""
        with self.stack.exchanges.open(encoding="utf-8") as log:
            log.seek(position)
            asked = [json.loads(line) for line in log]
        return Counter(
            f"{each['service']}{' refused' if each['status'] == requests.codes.too_many_requests else ''}"
            for each in asked
            if each["service"] in {"dps", "iot_hub"}
        )


def p99(values: Sequence[float]) -> float:
    """Give the value that 99 of 100 do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def told(name: str, taken: Sequence[dict[str, float]]) -> list[Figure]:
    """Give the figures of some revocations: until the last door, and until each."""
    last = [max(each.values()) for each in taken]
    found = [
        Figure.of(f"{name}: last door, median", last, unit="s"),
        Figure(f"{name}: last door, 99 of 100", p99(last), p99(last), p99(last), "s", BAR),
        Figure(f"{name}: 99 of 100 / median", p99(last) / statistics.median(last), 0, 0),
    ]
    return found + [Figure.of(f"{name}: {door}", [each[door] for each in taken], unit="s") for door in sorted(DOORS)]


def singles(doors: Doors, count: int) -> Iterator[Figure]:
    """Revoke devices one after the other: first alone, then while an order runs."""
    alone, beside = doors.ordered(SINGLE, count), doors.ordered(SINGLE, count // 4)
    doors.revoke(alone.pop())  # warms up connections and caches
    quiet = [doors.revoke(each) for each in alone]
    yield from told("alone", quiet)
    ordered = doors.ordered(SINGLE, 5 * count, wait=False)
    until("the order runs", lambda: doors.world.state(ordered[0]), lambda state: state is not None)
    busy = list(_while_it_runs(doors, beside, ordered[0].rpartition("-")[0]))
    yield Figure("revoked while an order runs", len(busy), 0, 0, "")
    yield from told("while an order runs", busy)
    medians = [statistics.median(max(each.values()) for each in some) for some in (busy, quiet)]
    yield Figure("while an order runs / alone, medians", medians[0] / medians[1], 0, 0)
    doors.check(SINGLE, doors.revoked)


def _while_it_runs(doors: Doors, ids: Sequence[str], order_id: str) -> Iterator[dict[str, float]]:
    """Revoke devices until there are no more, or an order is complete."""
    for each in ids:
        if doors.world.get(f"device-orders/{order_id}?pageSize=1")["state"] == "completed":
            return
        yield doors.revoke(each)


def group(doors: Doors, count: int, scale: float) -> Iterator[Figure]:
    """Revoke a group's devices by one request, and compare it with its estimate.

    Args:
        doors: the world.
        count: of devices.
        scale: the services hold to their rates times this; 0 for no rates.
    """
    ids = doors.ordered(MANY, count)
    wanted = {"enrollmentGroup": MANY, "reason": _REVOKED, "devices": count}
    planned = until(
        "they are counted",
        lambda: doors.world.post("revocations?dryRun=true", wanted).json(),
        lambda answer: answer["devices"] == count,
    )
    lists, position = doors.list_number(MANY), doors.stack.exchanges.stat().st_size
    if scale:
        doors.throttle(scale)
    began = datetime.now(UTC)
    answer = doors.world.post("revocations", wanted)
    answer.raise_for_status()
    location = answer.headers["location"].removeprefix("/api/")
    until(
        "the request is done",
        lambda: doors.world.get(location)["state"],
        lambda state: state == "done",
        seconds=_PATIENCE,
    )
    calls = doors.calls_since(position)
    signed = doors.list_number(MANY) - lists
    doors.throttle(0)
    yield from _compared(planned, calls, scale)
    last = [max(doors.closed(each, began).values()) for each in ids]
    for what, name in (("hubsShutAfterMinutes", "the hub keeps all out"), ("doneAfterMinutes", "all doors are closed")):
        took = max(last) if what == "doneAfterMinutes" else doors.hub_shut(ids, began)
        yield Figure(f"group of {count}: {name}", took, took, took, "s")
        if scale:
            ratio = took / (60 * planned[what] / scale)
            yield Figure("... / estimated under the quotas", ratio, ratio, ratio)
    yield Figure(f"group of {count}: lists signed", signed, signed, signed, "")
    doors.check(MANY, ids)


def _compared(planned: dict[str, Any], calls: Counter[str], scale: float) -> Iterator[Figure]:
    for service, key in (("dps", "dpsCalls"), ("iot_hub", "hubCalls")):
        done, refused = calls[service], calls[f"{service} refused"]
        yield Figure(f"{service}: calls", done, done, done, "")
        yield Figure("... / estimated", done / planned[key], done / planned[key], done / planned[key])
        if scale:
            yield Figure("... refused, since the rate was reached", refused, refused, refused, "")


def main(arguments: list[str]) -> int:
    """Measure, and print the figures: 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doors", description=__doc__)
    parser.add_argument("--single", type=int, default=200, help="devices that are revoked one after the other")
    parser.add_argument("--group", type=int, default=1000, help="devices of the group")
    parser.add_argument("--scale", type=float, default=0, help="services hold to their rates times this; 0: no rates")
    options = parser.parse_args(arguments)
    found = list[Figure]()
    with (
        tempfile.TemporaryDirectory(prefix="doors-") as folder,
        Watched.free(Path(folder), variants=_VARIANTS) as stack,
        contextlib.closing(World(stack.endpoints, Path(folder) / "devices")) as world,
    ):
        doors = Doors(world, stack)
        world.open_group(SINGLE)
        world.post_message(
            "enrollment-group-requests", {"requestId": MANY, "enrollmentGroup": MANY, "action": "create"}
        )
        until(
            "the group is enabled",
            lambda: world.get(f"enrollment-groups/{MANY}", missing={}).get("state"),
            lambda state: state == "enabled",
        )
        parts = [singles(doors, options.single)] if options.single else []
        parts += [group(doors, options.group, options.scale)] if options.group else []
        for figure in chain.from_iterable(parts):
            print(figure, flush=True)
            found.append(figure)
    return int(any(each.verdict == "MISSED" for each in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
