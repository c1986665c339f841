"""A storm: requests of all kinds on two hosts, while hosts are killed, services fail, and others change the hub.

From time to time DPS or the hub is put back to what it was some minutes before, with all that it loses or has again by
that. The ledger is not put back: after that an operator has things to do (docs/recover.md). What is done, and to whom,
follows a seed; what meets what does not. After it everything is left to itself, differences are mended, and the auditor
looks: nothing may be wrong. ``make storm ARGS="--minutes 60 --devices 2000 --seed 1"``; without arguments a short one.
"""

from __future__ import annotations

import argparse
import base64
import random
import secrets
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import requests
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.iot.deviceprovisioning import DeviceProvisioningClient
from azure.iot.hub import IoTHubRegistryManager
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from msrest.exceptions import ClientException, HttpOperationError

from benchmarks.kept_up import KeptUp
from devstack.auditing import audited
from devstack.outside import Failed, World, until
from devstack.stack import free_ports
from emulator.server import STORE_FILE
from shared.domain.treatments import TREATMENTS, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

GROUP = "storm"
_AT_ONCE = 8
_TELL_SECONDS = 300
_LONGEST = 300
"""Devices of an order: as many as a message has room for."""

_ORDERS_UNTIL = 0.8
"""In this part of the time all devices are ordered."""
_UNDER_WAY = ("queued", "running")
"""States of requests that end by themselves: a renewal waits until its device registers."""

_TRIES, _RETRY_SECONDS = 10, 2.0
_READ_SECONDS = 2.0
_DEVICE_SECONDS = 20
_QUIET_SECONDS = 1800
"""A lease lasts ten minutes, and what was never sent is given up after a while."""
_SETTINGS = {
    "RECONCILIATION_POLICY": ";".join(
        f"{kind}={Policy.MEND}"
        for kind, each in TREATMENTS.items()
        if each.allows(Policy.MEND) and not each.always_mended
    ),
    "RECONCILIATION_QUOTA_PERCENT": "50",
    "RECONCILIATION_INTERVAL_MINUTES": "5",
    "IOT_HUB_UNITS": "200",
}
_DRIFT = ("enable", "disable", "delete", "thumbprint", "keys", "copy")
"""What others do to an identity; a copy is made in the other hub."""

_DRIFT_AT_DPS = ("enable", "disable", "delete", "keys")

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


class TwoHosts(KeptUp):
    """A stack with a second functions host on the same storage, whose services can be put back to an earlier state."""

    __slots__ = ("second_port",)

    def put_back(self, service: str) -> None:
        """Stop the emulated services, have one of them as it was at the last call, and start them.

        Args:
            service: what its kinds of documents begin with: ``dps.`` or ``hub.``.
        """
        self.kill("emulator")
        store = self.options.state_dir / "emulator" / STORE_FILE
        earlier, present = store.with_suffix(".earlier"), store.with_suffix(".present")
        with closing(sqlite3.connect(store, isolation_level=None)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copyfile(store, present)
            if earlier.exists():
                database.execute("ATTACH ? AS earlier", (str(earlier),))
                database.execute("BEGIN")
                of_it = (f"{service}%",)
                database.execute("DELETE FROM main.documents WHERE kind LIKE ?", of_it)
                database.execute("INSERT INTO main.documents SELECT * FROM earlier.documents WHERE kind LIKE ?", of_it)
                database.execute("COMMIT")
        present.replace(earlier)
        self.start_emulator()

    @property
    def ports(self) -> Mapping[str, int]:
        """Where both hosts listen."""
        if not hasattr(self, "second_port"):
            [self.second_port] = free_ports(self.options.address, 1)
        return {**super().ports, "second_host": self.second_port}


@dataclass(frozen=True)
class Asked:
    """What was asked of the app, to be asked again with the same key."""

    what: str
    method: str
    path: str
    body: Any
    key: str


@dataclass
class Storm:
    """One storm.

    Attributes:
        seconds: that it lasts.
        pause: seconds between one thing and the next.
        kill_every: seconds between one host killed and the next, on average.
        put_back_every: likewise of services put back.
        done: how often each thing was done.
        unanswered: what is to be asked once more when all is quiet.
        set_aside: how many messages were given up, and put back when all was quiet, by queue.
    """

    stack: TwoHosts
    world: World
    devices: int
    seconds: float
    pause: float
    kill_every: float
    put_back_every: float
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    ordered: list[str] = field(default_factory=list)
    began: float = 0.0
    down: dict[str, float] = field(default_factory=dict)
    unanswered: list[Asked] = field(default_factory=list)
    set_aside: Counter[str] = field(default_factory=Counter)

    @property
    def _deeds(self) -> Sequence[tuple[float, Callable[[], str]]]:
        return (
            (40, self._order),
            (12, self._revoke),
            (12, self._hold),
            (12, self._reinstate),
            (20, self._renew),
            (20, self._boot),
            (8, self._switch),
            (4, self._delete),
            (15, self._drift),
            (10, self._drift_at_dps),
            (15, self._fault),
        )

    @property
    def _seldom(self) -> Mapping[Callable[[], str], float]:
        """What is done by the clock, with the seconds from one time to the next on average."""
        return {self._kill: self.kill_every, self._put_back: self.put_back_every}

    def rage(self) -> None:
        """Do one thing after the other, at random."""
        began = self.began = time.monotonic()
        told = began
        weights, choices = zip(*self._deeds, strict=True)
        due = {deed: began + self.chance.uniform(0, 2 * every) for deed, every in self._seldom.items()}
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            pending: set[Future[None]] = set()
            while time.monotonic() - began < self.seconds:
                [deed] = self.chance.choices(choices, weights)
                if deed == self._order:  # one at a time
                    self._do(deed)
                elif len(pending) < _AT_ONCE:
                    pending.add(threads.submit(self._do, deed))
                for each, every in self._seldom.items():
                    if time.monotonic() >= due[each]:
                        self._do(each)
                        due[each] = time.monotonic() + self.chance.uniform(0.5 * every, 1.5 * every)
                self._bring_back()
                time.sleep(self.pause)
                pending = {each for each in pending if not each.done()}
                if time.monotonic() - told > _TELL_SECONDS:
                    told = time.monotonic()
                    tell(f"{(told - began) / 60:.0f} minutes: {len(self.ordered)} devices, {self.done.total()} things")

    def _do(self, deed: Callable[[], str]) -> None:
        try:
            self.done[deed()] += 1
        except (requests.RequestException, ClientException, AzureError) as error:
            self.done[f"{deed.__name__.strip('_')}, {type(error).__name__}"] += 1

    # --- what the ERP does besides ---

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read the events as they come: what Azurite does for one message takes the longer, the more there are."""
        over = Event()

        def read() -> None:
            while not over.wait(_READ_SECONDS):
                with suppress(AzureError):
                    self.world.events("any")

        with ThreadPoolExecutor(1) as thread:
            reader = thread.submit(read)
            try:
                yield
            finally:
                over.set()
            reader.result()

    # --- what is asked for ---

    def _order(self) -> str:
        passed = (time.monotonic() - self.began) / (_ORDERS_UNTIL * self.seconds)
        behind = round(self.devices * min(1.0, passed)) - len(self.ordered)
        if behind <= 0:
            return "nothing"
        count = min(self.devices - len(self.ordered), self.chance.randint(1, 2 * behind), _LONGEST)
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
        return self._ask(what, "POST", path, body)

    def _ask(self, what: str, method: str, path: str, body: Any = None) -> str:
        """Ask until there is an answer, as a client does that has to know: each time with the same key."""
        asked = Asked(what, method, path, body, secrets.token_hex(8))
        status = self._answer(asked)
        for _ in range(_TRIES):
            if status is not None:
                return f"{what} {status}"
            time.sleep(_RETRY_SECONDS)
            status = self._answer(asked)
        self.unanswered.append(asked)
        return f"{what}, not answered"

    def _answer(self, asked: Asked) -> int | None:
        """Ask once; ``None`` without an answer, or if it says that it may be another one later."""
        headers = {"Idempotency-Key": asked.key}
        try:
            status = self.world.request(asked.method, asked.path, json=asked.body, headers=headers).status_code
        except requests.RequestException:
            return None
        return status if status < requests.codes.internal_server_error else None

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
        return self._ask("delete", "DELETE", f"devices/{self._device()}")

    def _boot(self) -> str:
        """Fetch a device's bundle and register with it, as its installer and it do."""
        device_id = self._device()
        answer = self.world.request("GET", f"devices/{device_id}/bundle", headers={"Idempotency-Key": device_id})
        if answer.status_code != requests.codes.ok:
            return f"bundle {answer.status_code}"
        key = load_pem_private_key(answer.content, self.world.secret(answer.headers["x-password-secret"]).encode())
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in x509.load_pem_x509_certificates(answer.content))
        with tempfile.NamedTemporaryFile() as file:
            file.write(chain + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            endpoints = self.stack.endpoints
            done = requests.put(
                f"{endpoints.dps_service_url}/{endpoints.id_scope}/registrations/{device_id}/register",
                params={"api-version": "2019-03-31"},
                json={"registrationId": device_id},
                cert=file.name,
                timeout=_DEVICE_SECONDS,
            )
        return f"boot {done.status_code}"

    # --- what others do ---

    def _drift(self) -> str:
        """Change an identity as somebody in the portal does, or somebody who wants to come in as the device."""
        device_id, kind = self._device(), self.chance.choice(_DRIFT)
        hubs = self.stack.endpoints.iot_hub_connection_strings
        registry, other = map(IoTHubRegistryManager.from_connection_string, hubs)
        try:
            registry.get_device(device_id)
        except HttpOperationError:
            registry, other = other, registry
        if kind == "delete":
            registry.delete_device(device_id)
        elif kind == "keys":
            keys = [base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2)]
            registry.update_device_with_sas(device_id, "*", *keys, "enabled")
        else:
            device = registry.get_device(device_id)
            if kind == "thumbprint":
                device.authentication.x509_thumbprint.primary_thumbprint = "A" * 64
                device.authentication.x509_thumbprint.secondary_thumbprint = "A" * 64
            elif kind == "copy":
                taken = device.authentication.x509_thumbprint.primary_thumbprint
                other.create_device_with_x509(device_id, taken, taken, "enabled")
                return "identity copied"
            else:
                device.status = f"{kind}d"
            registry.protocol.devices.create_or_update_identity(device_id, device, "*")
        return f"identity changed ({kind})"

    def _drift_at_dps(self) -> str:
        """Change an individual enrollment as somebody does who has rights at the DPS."""
        device_id, kind = self._device(), self.chance.choice(_DRIFT_AT_DPS)
        with DeviceProvisioningClient.from_connection_string(self.stack.endpoints.dps_connection_string) as client:
            entries = client.enrollment
            try:
                present = entries.get(device_id)
            except ResourceNotFoundError:
                return "no entry to change"
            if kind == "delete":
                entries.delete(device_id)
            elif kind == "keys":
                changed = {**present, "attestation": {"type": "symmetricKey"}}
                entries.create_or_update(device_id, changed, if_match=present["etag"])
            else:
                changed = {**present, "provisioningStatus": f"{kind}d"}
                entries.create_or_update(device_id, changed, if_match=present["etag"])
        return f"entry changed ({kind})"

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

    def _put_back(self) -> str:
        service = self.chance.choice(["dps.", "hub."])
        self.stack.put_back(service)
        return f"{service.rstrip('.')} put back"

    def _bring_back(self, *, all_of_them: bool = False) -> None:
        for name, at in list(self.down.items()):
            if all_of_them or time.monotonic() >= at:
                del self.down[name]
                self.stack.start_host(name)
        self.done["host ended by itself"] += len(self.stack.keep_up())

    # --- quiet ---

    def settle(self) -> float:
        """Leave everything to itself until it is at rest; give the seconds that takes.

        Raises:
            TimeoutError: it does not come to rest.
        """
        self.world.plan_faults()
        self._bring_back(all_of_them=True)
        began = time.monotonic()
        left: Mapping[str, int] = {}
        while time.monotonic() - began < _QUIET_SECONDS:
            try:
                now = self._left()
            except (Failed, requests.RequestException) as unanswered:
                tell(f"quiet for {time.monotonic() - began:.0f} s: {unanswered}")
                time.sleep(5)
                continue
            if not any(now.values()):
                return time.monotonic() - began
            if now != left:
                left = now
                tell(f"quiet for {time.monotonic() - began:.0f} s: {left}")
            time.sleep(5)
        raise TimeoutError(f"after {_QUIET_SECONDS} s there is no rest: {left}")

    def _left(self) -> Mapping[str, int]:
        """Count what is not at rest; findings after a pass over everything, when nothing else is left."""
        self.unanswered = [each for each in self.unanswered if self._answer(each) is None]
        with self.world.table("unsettled") as table:
            unsettled = sum(1 for _ in table.list_entities())
        orders = self._open_orders()
        requests_left = {state: self._count(f"requests?state={state}&pageSize=1000") for state in _UNDER_WAY}
        left = {
            "unsettled": unsettled,
            "orders": orders,
            "unanswered": len(self.unanswered),
            "setAside": self._replay(),
            **requests_left,
        }
        if any(left.values()):
            return left
        unread = self._compare()
        return {"findings": len(self.world.get("findings")["items"]), "unread": unread}

    def _count(self, path: str) -> int:
        return len(self.world.get(path)["items"])

    def _open_orders(self) -> int:
        """Count the orders that are not done; the devices on hold that one of them waits for are reinstated."""
        orders = self.world.get("device-orders?pageSize=1000")["items"]
        under_way = [each["orderId"] for each in orders if each["state"] in {"accepted", "processing"}]
        for order_id in under_way:
            for line in self.world.get(f"device-orders/{order_id}")["devices"]:
                if "is on hold" in str(line.get("reason")):
                    self._ask("reinstate", "POST", f"devices/{line['registrationId']}/reinstate")
        return len(under_way)

    def _compare(self) -> int:
        """Have everything compared, to the end, and tell how much could not be looked at.

        A pass over many devices uses its share of the quotas up, and waits. A service that has just failed may not be
        asked yet.
        """
        answer = self.world.post("reconciliations", {})
        answer.raise_for_status()
        location = answer.headers["location"].removeprefix("/api/")
        ended = until(
            f"the end of {location}",
            lambda: self.world.get(location),
            lambda body: body["state"] == "done",
            seconds=_QUIET_SECONDS,
        )
        return int(ended["unread"])

    def _replay(self) -> int:
        """Put back what was set aside, as an operator does when all is well again, and tell how much that was."""
        found = self.world.get("rejections?kind=poison&pageSize=1000")["items"]
        self.set_aside.update(each["queue"] for each in found)
        if found:
            self.world.post("rejections/replay", {"kind": "poison"}).raise_for_status()
        return len(found)


def tell(line: str) -> None:
    """Print a line at once: a storm takes an hour."""
    print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Have a storm, and tell what came of it: 1 if the auditor finds anything, or nothing comes to rest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--devices", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between one thing and the next")
    parser.add_argument("--kill-every", type=float, default=50, help="seconds between hosts killed, on average")
    parser.add_argument("--put-back-every", type=float, default=240, help="seconds between services put back")
    parser.add_argument("--keep", type=Path, help="where ledger, services and logs stay; without it, nowhere")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        state_dir: Path = options.keep or Path(folder)
        stack = TwoHosts.free(state_dir, settings=_SETTINGS, extra_hubs=1)
        stack.options = replace(stack.options, storage_in_memory=True)
        with stack, closing(World(stack.endpoints, state_dir / "devices")) as world:
            world.open_group(GROUP)
            chance = random.Random(options.seed)  # noqa: S311 - the same each time
            storm = Storm(
                stack=stack,
                world=world,
                devices=options.devices,
                seconds=options.minutes * 60,
                pause=options.pause,
                kill_every=options.kill_every,
                put_back_every=options.put_back_every,
                chance=chance,
            )
            stack.put_back("nothing")  # but what is there is noted
            with storm.reading():
                storm.rage()
                return told(storm, options)


def told(storm: Storm, options: argparse.Namespace) -> int:
    """Tell what came of a storm; 1 if something is wrong."""
    for what, count in sorted(storm.done.items()):
        tell(f"{count:6}  {what}")
    tell(f"{len(storm.ordered)} devices, {options.minutes:g} minutes, seed {options.seed}")
    try:
        tell(f"at rest after {storm.settle():.0f} s")
    except TimeoutError as restless:
        tell(str(restless))
        return 1
    for queue, count in storm.set_aside.items():
        tell(f"{count:6}  set aside from {queue}, and put back when all was quiet")
    found = audited(storm.stack.options.state_dir)
    tell(found.stdout + found.stderr)
    return found.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
