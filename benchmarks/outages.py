"""Outages: each service is away for ten minutes, longer than five deliveries of a message, while the work goes on.

A service that is silent takes a connection and never answers; one that fails answers 503 at once (storage refuses the
connection). Meanwhile an ERP orders devices, and devices are revoked. When the service is back, all has to end by
itself: nothing is set aside, every order is complete, every device that was to be revoked is kept out.
``make outages``, or ``make outages ARGS="--minutes 10 --service iot_hub --way silent"``; each outage has a stack of its
own, and they run side by side.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import secrets
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from azure.core.exceptions import AzureError

from benchmarks.kept_up import KeptUp
from benchmarks.storm import tell
from devstack.auditing import audited
from devstack.outside import Failed, World, until

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT, FAILING = "silent", "failing"
WAYS = (SILENT, FAILING)
STORAGE, IDENTITY = "storage", "identity"
EMULATED = {
    "dps": ("dps", "dps_device"),
    "iot_hub": ("iot_hub", "iot_hub_service"),
    "key_vault": ("key_vault",),
    IDENTITY: ("identity",),
}
"""The services of the emulator that are away together, as its plan of faults names them."""

GROUP = "outage"
_BEFORE = 20
"""Devices that are there before it."""

_ORDER_EVERY, _IN_ORDER, _REVOKE_EVERY = 20.0, 3, 60.0
_SILENCE_MILLISECONDS = 600_000
_ASKED_SECONDS = 15
_IMPATIENT = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 5}
_BACK_SECONDS = 1200
"""The lease of a message whose host is killed lasts ten minutes."""


@dataclass
class Outage:
    """One service that is away for a while.

    Attributes:
        minutes: for so long.
        kept: ids of orders that the ERP has still to put into the queue.
        orders: of those that are there.
        asked: revocations of devices that are still to be answered, by device, with their keys.
        revoked: where each revocation can be followed that was accepted, by device.
        ended: how often the host ended by itself, and was started again.
    """

    stack: KeptUp
    world: World
    service: str
    way: str
    minutes: float
    kept: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    asked: dict[str, str] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)
    ended: int = 0

    @property
    def name(self) -> str:
        """What it is called when it is told of."""
        return f"{self.service}, {self.way}"

    def prepare(self) -> list[str]:
        """Have devices that can be revoked meanwhile; give their ids."""
        self.world.open_group(GROUP)
        ids = [f"before-{number:02d}" for number in range(_BEFORE)]
        self._post("before", ids)
        self._complete("before", seconds=300)
        return ids

    def _post(self, order_id: str, ids: Sequence[str]) -> None:
        devices = [{"registrationId": each} for each in ids]
        order = {"orderId": order_id, "enrollmentGroup": GROUP, "devices": devices}
        self.world.queue("device-orders").send_message(json.dumps(order), **_IMPATIENT)

    def _complete(self, order_id: str, *, seconds: float) -> None:
        until(
            f"order {order_id} is complete",
            lambda: self._read(f"device-orders/{order_id}?pageSize=1").get("state"),
            lambda state: state == "completed",
            seconds=seconds,
        )

    def _read(self, path: str) -> dict[str, Any]:
        """Read what may not be there, or not to be had, for now."""
        self.ended += len(self.stack.keep_up())
        with suppress(Failed, requests.RequestException):
            found: dict[str, Any] = self.world.get(path, missing={})
            return found
        return {}

    # --- the service goes, and comes back ---

    def take_away(self) -> None:
        """Have the service be away. A token that the host has would last for an hour: it starts without one."""
        if self.service == STORAGE:
            if self.way == SILENT:
                os.kill(self.stack.process_id("azurite"), signal.SIGSTOP)
            else:
                self.stack.end("azurite")
            return
        how = {"latencyMilliseconds": _SILENCE_MILLISECONDS} if self.way == SILENT else {"status": 503}
        self.world.plan_faults(*({"service": each, "probability": 1.0, **how} for each in EMULATED[self.service]))
        if self.service == IDENTITY:
            self.stack.kill("functions_host")
            self.stack.start_host("functions_host")

    def bring_back(self) -> None:
        """Have the service answer as before."""
        if self.service != STORAGE:
            self.world.plan_faults()
        elif self.way == SILENT:
            os.kill(self.stack.process_id("azurite"), signal.SIGCONT)
        else:
            self.stack.start_azurite()

    # --- meanwhile ---

    def work(self, present: list[str]) -> None:
        """Order devices, and revoke such as are there, until the time is over."""
        began = ordered = revoked = time.monotonic()
        while time.monotonic() - began < self.minutes * 60:
            now = time.monotonic()
            if now >= ordered:
                self.kept.append(f"during-{len(self.orders) + len(self.kept):03d}")
                ordered += _ORDER_EVERY
            if now >= revoked and present:
                self.asked[present.pop()] = secrets.token_hex(8)
                revoked += _REVOKE_EVERY
            self._order()
            self.ask()
            self.ended += len(self.stack.keep_up())
            time.sleep(1)

    def _order(self) -> None:
        """Put orders into the queue, as an ERP does: one that can't be put there is kept, and put there later."""
        for order_id in list(self.kept):
            try:
                self._post(order_id, [f"{order_id}-{number}" for number in range(_IN_ORDER)])
            except AzureError:
                return
            self.kept.remove(order_id)
            self.orders.append(order_id)

    def ask(self) -> None:
        """Ask for each revocation that has not been answered, again with the same key."""
        for device_id, key in list(self.asked.items()):
            with suppress(requests.RequestException):
                answer = requests.post(
                    f"{self.stack.endpoints.functions_url}/api/devices/{device_id}/revoke",
                    json={"reason": "keyCompromise"},
                    headers={"x-functions-key": self.stack.endpoints.function_key, "Idempotency-Key": key},
                    timeout=_ASKED_SECONDS,
                )
                if answer.status_code == requests.codes.accepted:
                    self.revoked[device_id] = answer.headers["location"].removeprefix("/api/")
                    del self.asked[device_id]

    # --- afterwards ---

    def settle(self) -> str:
        """Wait until all has ended; tell how long that took, and what was set aside meanwhile.

        Raises:
            Failed: something has not ended, or was set aside, or the auditor has found something.
        """
        began = time.monotonic()
        accepted = len(self.revoked)
        until("every revocation is accepted", self._unasked, lambda left: not left, seconds=_BACK_SECONDS)
        for location in self.revoked.values():
            until(
                f"the end of {location}",
                lambda path=location: self._read(path).get("state"),  # type: ignore[misc]
                lambda state: state == "done",
                seconds=_BACK_SECONDS,
            )
        shut = time.monotonic() - began
        until("every order is in the queue", self._unsent, lambda left: not left, seconds=_BACK_SECONDS)
        for order_id in self.orders:
            self._complete(order_id, seconds=_BACK_SECONDS)
        whole = time.monotonic() - began
        aside = until("what is set aside is told", self._set_aside, lambda found: found is not None)
        found = audited(self.stack.options.state_dir)
        if aside or found.returncode:
            raise Failed(f"{self.name}: set aside {aside}; the auditor: {found.stdout}{found.stderr}")
        return (
            f"{self.name}: {len(self.orders)} orders of {_IN_ORDER} devices and {len(self.revoked)} revocations, "
            f"{accepted} of them accepted meanwhile; the host ended {self.ended} times; back: the revocations ended "
            f"after {shut:.0f} s, all of it after {whole:.0f} s; nothing was set aside, and the auditor finds nothing"
        )

    def _unsent(self) -> int:
        self._order()
        return len(self.kept)

    def _unasked(self) -> int:
        self.ask()
        return len(self.asked)

    def _set_aside(self) -> list[Any] | None:
        items: list[Any] | None = self._read("rejections?kind=poison&pageSize=1000").get("items")
        return items


def outage(service: str, way: str, minutes: float, folder: Path) -> str:
    """Have one outage on a stack of its own; tell what came of it."""
    with KeptUp.free(folder) as stack, closing(World(stack.endpoints, folder / "devices")) as world:
        one = Outage(stack=stack, world=world, service=service, way=way, minutes=minutes)
        present = one.prepare()
        one.take_away()
        one.work(present)
        one.bring_back()
        return one.settle()


def main(arguments: list[str]) -> int:
    """Have the outages that are asked for, side by side: 1 if one of them leaves anything behind."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outages", description=__doc__)
    every = (STORAGE, *EMULATED)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--service", choices=every, action="append", help="more than once, or none for all")
    parser.add_argument("--way", choices=WAYS, action="append", help="likewise")
    parser.add_argument("--at-once", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="where ledger, services and logs stay; without it, nowhere")
    options = parser.parse_args(arguments)
    status = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        # A process trusts the certificates of one stack.
        ProcessPoolExecutor(options.at_once, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        where = options.keep or Path(folder)
        wanted = [(service, way) for way in options.way or WAYS for service in options.service or every]
        running = [
            processes.submit(outage, service, way, options.minutes, where / f"{service}-{way}")
            for service, way in wanted
        ]
        for (service, way), each in zip(wanted, running, strict=True):
            try:
                tell(each.result())
            except (Failed, requests.RequestException, AzureError) as wrong:
                tell(f"{service}, {way}: {wrong}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
