"""``python -m benchmarks.directory [AZURITE_DEVICES]``: what a page of each question takes with 1,000,000 devices.

The rows of the directory are those that :func:`shared.domain.listing.listing_of` gives; they are made when they are
read, so that a million devices need no day to be written. A read gives up to 1,000 rows, and ends after so many that do
not match as a partition of Azure Tables gives out in five seconds (Microsoft: "Query timeout and pagination",
"Scalability and performance targets for Table storage").

With a number, so many devices are written into Azurite by the app's own code, and the same pages are read there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import batched
from typing import TYPE_CHECKING, Any, cast

from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables.aio import TableServiceClient

from shared.adapters.tables import StoredRow, Table
from shared.domain.devices import DeviceRecord
from shared.domain.held_certificates import CertificateSummary
from shared.domain.history import HistoryEntry
from shared.domain.listing import listing_of
from shared.domain.words import DeviceState
from shared.ledger.changes import ChangeNotes
from shared.ledger.devices import Devices
from shared.ledger.directory import Directory, Projection
from shared.workflows.devices.directory import DeviceDirectory
from shared.workflows.devices.finding import DeviceFilters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from shared.domain.listing import Listing

DEVICES = 1_000_000
PAGE = 100
READ_LIMIT = 10
_ROWS_OF_A_READ = 1_000
_LOOKED_AT = 10_000
"""2,000 rows a second from a partition, and five seconds a query."""

_START = datetime(2026, 1, 1, tzinfo=UTC)
_AZURITE = "node_modules/azurite/dist/src/table/main.js"
_ACCOUNT, _KEY = "devstoreaccount1", "a2V5"
_BATCH = 90
_RARE = 3


def record_of(number: int) -> DeviceRecord:
    """Give a device of the fleet: 50 groups, 4 hubs, orders of 1,000; three in 1,000 are revoked, one has failed."""
    name, at = f"d{number:07}", _START + timedelta(seconds=number * 20)
    state = _state(number)
    digest = sha256(name.encode()).hexdigest()
    certificate = CertificateSummary(
        serial_number=digest[:40],
        thumbprint=digest[:40].upper(),
        not_before=at - timedelta(minutes=10),
        not_after=at + timedelta(days=365),
        issuer=f"line-{number % 50}-ca1",
    )
    return DeviceRecord(
        registration_id=name,
        state=state,
        order_id=f"order-{number // 1000}",
        updated_at=at,
        enrollment_group=f"line-{number % 50}",
        device_id=name,
        assigned_hub=f"hub-{number % 4}.azure-devices.net",
        certificate=certificate,
        sha256_thumbprints=(digest.upper(),),
        tags={"plant": "Bremen" if _is_rare(number) else "Ulm"},
        history=(HistoryEntry(at=at, state=DeviceState.ISSUED), HistoryEntry(at=at, state=DeviceState.REGISTERED)),
    )


def _state(number: int) -> DeviceState:
    rest = {1: DeviceState.REVOKED, 201: DeviceState.REVOKED, 401: DeviceState.REVOKED, 2: DeviceState.FAILED}
    return rest.get(number % 1000, DeviceState.REGISTERED)


def _is_rare(number: int) -> bool:
    return number % 10_000 == _RARE


@lru_cache(20_000)
def _listing(number: int) -> Listing:
    return listing_of(record_of(number))


QUESTIONS: Mapping[str, DeviceFilters] = {
    "all": DeviceFilters(),
    "enrollmentGroup": DeviceFilters(group="line-7"),
    "state=registered": DeviceFilters(state=DeviceState.REGISTERED),
    "state=failed": DeviceFilters(state=DeviceState.FAILED),
    "state=failed, enrollmentGroup": DeviceFilters(state=DeviceState.FAILED, group="line-2"),
    "hub": DeviceFilters(hub="hub-1.azure-devices.net"),
    "hub, enrollmentGroup": DeviceFilters(hub="hub-1.azure-devices.net", group="line-7"),
    "issuer": DeviceFilters(issuer="line-7-ca1"),
    "order": DeviceFilters(order="order-77"),
    "tag": DeviceFilters(tag=("plant", "Bremen")),
    "idPrefix": DeviceFilters(id_prefix="d05"),
    "expiresBefore": DeviceFilters(expires_before=_START + timedelta(days=500)),
    "expiresBefore, enrollmentGroup": DeviceFilters(expires_before=_START + timedelta(days=500), group="line-7"),
    "registeredSince": DeviceFilters(registered_since=_START + timedelta(days=100)),
    "notRenewedSince": DeviceFilters(not_renewed_since=_START + timedelta(days=30)),
    "notRenewedSince, hub": DeviceFilters(not_renewed_since=_START + timedelta(days=30), hub="hub-3.azure-devices.net"),
}


@dataclass
class Fleet:
    """The directory of the fleet as a table; a row is made when it is read.

    Attributes:
        reads: how often it was read.
    """

    count: int
    reads: int = 0
    _members: dict[str, Sequence[int]] = field(default_factory=dict)

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[list[StoredRow], str | None]:
        """Read as Azure Tables does: rows of a partition in the order of their keys, of which few may match."""
        self.reads += 1
        partition = str(parameters["partition"])
        terms = [term.split() for term in condition.split(" and ")]
        first = max(
            [str(parameters[name[1:]]) for column, verb, name in terms if column == "RowKey" and verb in {"gt", "ge"}],
            default="",
        )
        first = max(first, continuation.partition("\n")[2] if continuation else "")
        members = self._in(partition)
        begin = bisect_left(members, first, key=lambda number: self._key(partition, number))
        found = list[StoredRow]()
        for looked_at, number in enumerate(members[begin:]):
            key = self._key(partition, number)
            if looked_at == _LOOKED_AT or len(found) == min(size, _ROWS_OF_A_READ):
                return found, f"{partition}\n{key}"
            row = {**_listing(number).columns, "PartitionKey": partition, "RowKey": key}
            if any(column == "RowKey" and verb == "lt" and key >= parameters[name[1:]] for column, verb, name in terms):
                break  # the keys are in order: the table looks no further
            if all(column in row and _VERBS[verb](row[column], parameters[name[1:]]) for column, verb, name in terms):
                found.append(StoredRow(row, ""))
        return found, None

    def _in(self, partition: str) -> Sequence[int]:
        """Give the devices of a partition. They are numbered in the order of all keys, times included."""
        if partition not in self._members:
            self._members[partition] = [
                number for number in self._candidates(partition) if self._is_in(partition, number)
            ]
        return self._members[partition]

    def _candidates(self, partition: str) -> range:
        kind, _, value = partition.partition("|")
        if kind in {"group", "issuer"}:
            return range(int(value.split("-")[1]), self.count, 50)
        if kind == "order":
            start = int(value.split("-")[1]) * 1000
            return range(start, min(start + 1000, self.count))
        if kind == "hub":
            return range(int(value[4]), self.count, 4)
        return range(self.count)

    def _is_in(self, partition: str, number: int) -> bool:
        kind, _, value = partition.partition("|")
        match kind:
            case "state":
                return _state(number) == value
            case "tag":
                return _is_rare(number)
            case "expires" | "renewed":
                return _state(number) is DeviceState.REGISTERED
        return True

    def _key(self, partition: str, number: int) -> str:
        name = f"d{number:07}"
        if partition == "id":
            return name
        by_time = {"expires": timedelta(days=365), "registered": timedelta(), "renewed": -timedelta(minutes=10)}
        if partition not in by_time:
            return name
        return f"{_START + timedelta(seconds=number * 20) + by_time[partition]:%Y-%m-%dT%H:%M:%S}|{name}"


_VERBS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda one, other: bool(one == other),
    "ge": lambda one, other: bool(one >= other),
    "gt": lambda one, other: bool(one > other),
    "lt": lambda one, other: bool(one < other),
}


class Counted:
    """Counts what is read of a table."""

    def __init__(self, subject: Any) -> None:
        self._subject, self.reads = subject, 0

    def __getattr__(self, method: str) -> Any:
        self.reads += method in {"get", "page"}
        return getattr(self._subject, method)


def directory_on(table: Any) -> DeviceDirectory:
    """Give what answers the questions, on a table."""
    nothing: Any = None
    changes = ChangeNotes(cast("Any", table), clock=lambda: datetime.now(UTC))
    return DeviceDirectory(
        devices=Devices(identities=nothing, unsettled=nothing, changes=changes),
        changes=changes,
        certificates=nothing,
        directory=Directory(cast("Any", table)),
        bundles=nothing,
        settings=nothing,
        clock=lambda: datetime.now(UTC),
        log=None,
    )


async def pages(table: Any, filters: DeviceFilters) -> list[tuple[int, int]]:
    """Give the reads and the devices of the first page, and of the second where there is one."""
    directory, found, continuation = directory_on(table), list[tuple[int, int]](), None
    for _ in range(2):
        before = table.reads
        items, continuation = await directory.page(filters, size=PAGE, continuation=continuation)
        found.append((table.reads - before, len(items)))
        if continuation is None:
            break
    return found


class WithoutNotes(Fleet):
    """The fleet at rest: its partition of notes is empty."""

    async def page(
        self, condition: str, parameters: Mapping[str, Any], *, size: int, continuation: str | None
    ) -> tuple[list[StoredRow], str | None]:
        """Read a page; of notes there is an empty one."""
        if parameters["partition"] == "!changes":
            self.reads += 1
            return [], None
        return await super().page(condition, parameters, size=size, continuation=continuation)


def check_rows(fleet: Fleet) -> None:
    """See that the rows that are made are those of the app: each device is where its listing says."""
    for number in (*range(50), *range(0, fleet.count, max(1, fleet.count // 500))):
        listing = _listing(number)
        for partition, key in listing.places:
            if fleet._key(partition, number) != key or not (partition[:4] == "tag|" or fleet._is_in(partition, number)):  # noqa: SLF001
                raise AssertionError(f"{listing.registration_id} is not at {partition} {key}")


async def fill(table: Table, count: int) -> float:
    """Write a fleet by the app's own code; give the devices a second."""
    projection, began = Projection(table), time.perf_counter()
    for numbers in batched(range(count), _BATCH, strict=False):
        listings = [listing_of(record_of(number)) for number in numbers]
        rows: dict[str, dict[str, Listing]] = defaultdict(dict)
        for each in listings:
            for partition, key in each.places:
                rows[partition][key] = each
        await projection.guard(["id", *rows])
        await projection.enter([(each, None) for each in listings])
        for partition, some in rows.items():
            await projection.write(partition, some, ())
        await projection.name({name: each.registration_id for each in listings for name in each.thumbprints})
        await projection.settle(listings)
    return count / (time.perf_counter() - began)


@contextmanager
def azurite() -> Iterator[str]:
    """Run an Azurite of our own, its tables in memory alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["node", _AZURITE, "--tableHost", "127.0.0.1", "--tablePort", str(port), "--inMemoryPersistence"]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{_ACCOUNT}:{_KEY}"}
    process = subprocess.Popen([*command, "--silent", "--skipApiVersionCheck"], env=environment)  # noqa: S603 - ours
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/{_ACCOUNT}"
    finally:
        process.terminate()
        process.wait()


async def in_azurite(url: str, count: int) -> None:
    """Write devices into Azurite, and read the same pages there."""
    credential = AzureNamedKeyCredential(_ACCOUNT, _KEY)
    async with TableServiceClient(url, credential=credential) as service:
        await service.create_table_if_not_exists("directory")
        table = Table(service.get_table_client("directory"))
        rate = await fill(table, count)
        print(f"\n{count:,} devices into Azurite, {rate:.0f} a second")
        await show(Counted(table), count)


async def show(table: Any, count: int) -> None:
    """Print what each question's pages took."""
    print(f"\n{count:,} devices, pages of {PAGE}")
    print("| question | reads of the first page, of the second | devices |\n| --- | --- | --- |")
    for name, filters in QUESTIONS.items():
        found = await pages(table, filters)
        reads, devices = (", ".join(str(each[index]) for each in found) for index in (0, 1))
        print(f"| `{name}` | {reads} | {devices} |", flush=True)
        if max(each for each, _ in found) > READ_LIMIT:
            raise AssertionError(f"{name} takes more than {READ_LIMIT} reads")


def main(azurite_devices: int = 0, devices: int = DEVICES) -> None:
    """Measure, print, and hold each page to its limit."""
    fleet = WithoutNotes(devices)
    check_rows(fleet)
    asyncio.run(show(fleet, devices))
    if azurite_devices:
        with azurite() as url:
            asyncio.run(in_azurite(url, azurite_devices))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
