"""A storm: requests of all kinds on two hosts, while hosts are killed, services fail, and others change the hub.

What is done, and to whom, follows a seed; what meets what does not. After it everything is left to itself, differences
are mended, and the auditor looks: nothing may be wrong. ``make storm ARGS="--minutes 60 --devices 2000 --seed 1"``;
without arguments a short one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from azure.iot.hub import IoTHubRegistryManager
from msrest.exceptions import HttpOperationError

from devstack.auditing import audited
from devstack.outside import World
from devstack.stack import Stack, free_ports
from shared.domain.findings import TREATMENTS, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

GROUP = "storm"
_PAUSE = 0.4
_AT_ONCE = 8
_QUIET_SECONDS = 1800
"""A lease lasts ten minutes, and what was never sent is given up after a while."""
_SETTINGS = {
    "RECONCILIATION_POLICY": ";".join(
        f"{kind}={Policy.MEND}"
        for kind, each in TREATMENTS.items()
        if each.allows(Policy.MEND) and not each.always_mended
    ),
    "RECONCILIATION_QUOTA_PERCENT": "50",
    "IOT_HUB_UNITS": "200",
}
_FAULTS: Sequence[dict[str, Any]] = (
    {"service": "dps", "probability": 0.3, "status": 503},
    {"service": "dps", "probability": 0.3, "status": 429, "retryAfterSeconds": 2},
    {"service": "dps", "probability": 0.2, "drop": "response"},
    {"service": "dps_device", "operation": "register", "probability": 0.3, "drop": "response"},
    {"service": "iot_hub", "probability": 0.3, "status": 500},
    {"service": "iot_hub", "probability": 0.3, "drop": "response"},
    {"service": "iot_hub", "probability": 1.0, "latencyMilliseconds": 60_000},
    {"service": "key_vault", "probability": 0.3, "status": 503},
    {"service": "key_vault", "operation": "POST /keys/*/sign", "probability": 0.3, "drop": "response"},
    {"service": "key_vault", "operation": "PUT /secrets/*", "probability": 0.3, "status": 429, "retryAfterSeconds": 1},
)


class TwoHosts(Stack):
    """A stack with a second functions host, on the same storage."""

    __slots__ = ("second_port",)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Both hosts."""
        return ("functions_host", "second_host")

    def start_functions_host(self) -> None:
        """Start both."""
        if not hasattr(self, "second_port"):
            [self.second_port] = free_ports(self.options.address, 1)
        for name in self.hosts:
            self.start_host(name)

    def start_host(self, name: str) -> None:
        """Start one of them."""
        port = self.options.functions_port if name == "functions_host" else self.second_port
        ready = self._spawn_host(name, self._written("local.settings.json", self.settings()), port)
        if name == "functions_host":
            self._host = ready


@dataclass
class Storm:
    """One storm.

    Attributes:
        done: how often each thing was done.
    """

    stack: TwoHosts
    world: World
    devices: int
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    ordered: list[str] = field(default_factory=list)
    down: dict[str, float] = field(default_factory=dict)

    def rage(self, seconds: float) -> None:
        """Do one thing after the other, at random."""
        deeds: Sequence[tuple[int, Callable[[], str]]] = (
            (40, self._order),
            (12, self._revoke),
            (12, self._hold),
            (12, self._reinstate),
            (20, self._renew),
            (8, self._switch),
            (4, self._delete),
            (15, self._drift),
            (15, self._fault),
            (1, self._kill),
        )
        until = time.monotonic() + seconds
        weights, choices = zip(*deeds, strict=True)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            pending: set[Future[None]] = set()
            while time.monotonic() < until:
                [deed] = self.chance.choices(choices, weights)
                if deed in {self._kill, self._order}:  # one at a time
                    self._do(deed)
                elif len(pending) < _AT_ONCE:
                    pending.add(threads.submit(self._do, deed))
                self._bring_back()
                time.sleep(_PAUSE)
                pending = {each for each in pending if not each.done()}

    def _do(self, deed: Callable[[], str]) -> None:
        with suppress(requests.RequestException, HttpOperationError):
            self.done[deed()] += 1

    # --- what is asked for ---

    def _order(self) -> str:
        left = self.devices - len(self.ordered)
        if left <= 0:
            return "nothing"
        count = min(left, self.chance.randint(1, 12))
        ids = [f"storm-{len(self.ordered) + n:05d}" for n in range(count)]
        self.ordered += ids
        order = {
            "orderId": f"storm-{len(self.ordered)}",
            "enrollmentGroup": GROUP,
            "devices": [{"registrationId": each} for each in ids],
        }
        self.world.post_message("device-orders", order)
        return "order"

    def _device(self) -> str:
        return self.chance.choice(self.ordered) if self.ordered else "storm-00000"

    def _post(self, what: str, path: str, body: Any = None) -> str:
        answer = self.world.post(path, body)
        return f"{what} {answer.status_code}"

    def _revoke(self) -> str:
        return self._post("revoke", f"devices/{self._device()}/revoke", {"reason": "keyCompromise"})

    def _hold(self) -> str:
        return self._post("hold", f"devices/{self._device()}/revoke", {"reason": "certificateHold"})

    def _reinstate(self) -> str:
        return self._post("reinstate", f"devices/{self._device()}/reinstate")

    def _renew(self) -> str:
        return self._post("renew", f"devices/{self._device()}/renew", {})

    def _switch(self) -> str:
        return self._post("switch", f"devices/{self._device()}/{self.chance.choice(['disable', 'enable'])}", {})

    def _delete(self) -> str:
        return f"delete {self.world.request('DELETE', f'devices/{self._device()}').status_code}"

    # --- what others do ---

    def _drift(self) -> str:
        """Change an identity as somebody in the portal does."""
        connection = self.stack.endpoints.iot_hub_connection_strings[0]
        registry = IoTHubRegistryManager.from_connection_string(connection)
        device_id, kind = self._device(), self.chance.choice(["enable", "disable", "delete", "thumbprint"])
        if kind == "delete":
            registry.delete_device(device_id)
            return "identity deleted"
        device = registry.get_device(device_id)
        if kind == "thumbprint":
            device.authentication.x509_thumbprint.primary_thumbprint = "A" * 64
            device.authentication.x509_thumbprint.secondary_thumbprint = "A" * 64
        else:
            device.status = f"{kind}d"
        registry.protocol.devices.create_or_update_identity(device_id, device, "*")
        return f"identity changed ({kind})"

    def _fault(self) -> str:
        rules = self.chance.sample(list(_FAULTS), self.chance.randint(0, 2))
        self.world.plan_faults(*rules, seed=self.chance.randint(0, 1 << 30))
        return f"{len(rules)} faults"

    def _kill(self) -> str:
        name = self.chance.choice(self.stack.hosts)
        if name in self.down or len(self.down) + 1 == len(self.stack.hosts):
            return "nothing"
        self.stack.kill(name)
        self.down[name] = time.monotonic() + self.chance.uniform(1, 20)
        return "host killed"

    def _bring_back(self, *, all_of_them: bool = False) -> None:
        for name, at in list(self.down.items()):
            if all_of_them or time.monotonic() >= at:
                del self.down[name]
                self.stack.start_host(name)

    # --- quiet ---

    def settle(self) -> float:
        """Leave everything to itself until it is at rest; give the seconds that takes.

        Raises:
            TimeoutError: it does not come to rest.
        """
        self.world.plan_faults()
        self._bring_back(all_of_them=True)
        began = time.monotonic()
        while time.monotonic() - began < _QUIET_SECONDS:
            if self._is_quiet():
                return time.monotonic() - began
            time.sleep(5)
        raise TimeoutError(f"after {_QUIET_SECONDS} s there is no rest: {self._left()}")

    def _left(self) -> dict[str, int]:
        with self.world.table("unsettled") as table:
            unsettled = sum(1 for _ in table.list_entities())
        orders = self.world.get("device-orders?pageSize=1000")["items"]
        running = sum(1 for each in orders if each["state"] in {"accepted", "processing"})
        waiting = self.world.get("requests?state=running&pageSize=1000")["items"]
        queued = self.world.get("requests?state=queued&pageSize=1000")["items"]
        return {"unsettled": unsettled, "orders": running, "running": len(waiting), "queued": len(queued)}

    def _is_quiet(self) -> bool:
        if any(self._left().values()):
            return False
        answer = self.world.post("reconciliations", {})
        if answer.status_code != requests.codes.accepted:
            return False
        return answer.json()["state"] == "done" and not self.world.get("findings")["items"]


def main(arguments: list[str]) -> int:
    """Have a storm, and tell what came of it: 1 if the auditor finds anything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--devices", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        state_dir = Path(folder)
        stack = TwoHosts.free(state_dir, settings=_SETTINGS)
        with stack, closing(World(stack.endpoints, state_dir / "devices")) as world:
            world.open_group(GROUP)
            storm = Storm(stack, world, options.devices, random.Random(options.seed))  # noqa: S311 - the same each time
            storm.rage(options.minutes * 60)
            quiet = storm.settle()
            found = audited(stack.options.state_dir)
            for what, count in sorted(storm.done.items()):
                print(f"{count:6}  {what}")
            print(f"{len(storm.ordered)} devices, {options.minutes:g} minutes, seed {options.seed}")
            print(f"at rest after {quiet:.0f} s")
            print(found.stdout, end="")
            print(found.stderr, end="", file=sys.stderr)
            return found.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
