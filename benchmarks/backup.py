"""``python -m benchmarks.backup [DEVICES]``: how long it takes to export, verify and restore the ledger, with Azurite.

The rows are as large as the app's, and in as many partitions: of each device its record, its certificate, what is in
force, when it ends, its key and its order's line, and a blob of a bundle's size. Tables are Azurite's, in memory; blobs
are in this process, so what is timed of them is the archive alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables.aio import TableServiceClient

from benchmarks.directory import azurite, record_of
from shared.adapters.tables import Table
from shared.backup.copying import Backup
from shared.backup.reading import verified
from shared.backup.sealing import Passphrase
from shared.domain.epochs import EpochRecord
from shared.ledger.epochs import EpochRows
from shared.ledger.table import keyed
from shared.ports.blobs import StoredBlob
from shared.storage_layout import TABLES
from shared.workflows.epochs import Epochs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.backup.contents import Manifest

DEVICES = 5_000
_ACCOUNT, _KEY = "devstoreaccount1", "a2V5"
_AT_ONCE = 32
_LIST = "crls"


@dataclass
class Memory:
    """Blobs, and the tags of a vault's key."""

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    tagged: dict[str, str] = field(default_factory=dict)

    async def names(self, container: str, _prefix: str) -> list[str]:
        """List blobs."""
        return [name for where, name in self.blobs if where == container]

    async def get(self, container: str, name: str) -> StoredBlob:
        """Read a blob."""
        return StoredBlob(self.blobs[container, name], {}, "1")

    async def create(self, container: str, name: str, content: bytes, **_more: object) -> bool:
        """Create a blob."""
        self.blobs[container, name] = content
        return True

    async def tags(self, _name: str) -> Mapping[str, str]:
        """Read the tags."""
        return self.tagged

    async def tag(self, _name: str, tags: Mapping[str, str]) -> None:
        """Write the tags."""
        self.tagged.update(tags)


def rows_of(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the rows of a device, each with its table."""
    record = record_of(number)
    name = record.registration_id
    partition = sha256(name.encode()).hexdigest()[:4]
    certificate = record.certificate
    serial, issuer = (certificate.serial_number, certificate.issuer) if certificate else ("none", "none")
    pem = b64encode(os.urandom(720)).decode()  # what can't be compressed, as a certificate can't
    yield "identities", keyed(partition, f"d:{name}", record)
    yield "identities", {"PartitionKey": partition, "RowKey": f"c:{serial}", "pem": pem, "subject": name}
    yield "inforce", {"PartitionKey": issuer, "RowKey": serial, "subject": name}
    yield "expiry", {"PartitionKey": f"2027-{number % 12 + 1:02}-{number % 28 + 1:02}", "RowKey": serial, "of": name}
    yield "publickeys", {"PartitionKey": serial[:4], "RowKey": serial, "registrationId": name}
    yield "orderlines", {"PartitionKey": record.order_id, "RowKey": f"{number % 1000:06}", "device": name, "s": serial}


async def measured(count: int, path: Path) -> Manifest:
    """Fill an account, export it, verify the archive, and restore it into another account."""
    memory, lock = Memory(), Passphrase("a passphrase for a benchmark")
    for number in range(count):
        memory.blobs[_LIST, f"{number:07}"] = os.urandom(3_000)
    with azurite() as first, azurite() as second:
        credential = AzureNamedKeyCredential(_ACCOUNT, _KEY)
        async with (
            TableServiceClient(first, credential=credential) as source,
            TableServiceClient(second, credential=credential) as target,
        ):
            for service in (source, target):
                await asyncio.gather(*(service.create_table_if_not_exists(name) for name in TABLES))
            await fill(source, count)
            began = time.perf_counter()
            await backup_of(source, memory).export(path, lock)
            exported = time.perf_counter() - began
            began = time.perf_counter()
            verified(path, lock)
            read = time.perf_counter() - began
            began = time.perf_counter()
            manifest = await backup_of(target, Memory(tagged=memory.tagged)).restore(path, lock)
            restored = time.perf_counter() - began
    print("| what | seconds | devices a second | seconds for 100,000 |\n| --- | --- | --- | --- |")
    for what, seconds in (("export", exported), ("verify", read), ("verify and restore", restored)):
        print(f"| {what} | {seconds:.1f} | {count / seconds:.0f} | {seconds * 100_000 / count:.0f} |")
    return manifest


async def fill(service: TableServiceClient, count: int) -> None:
    """Write the rows of a fleet."""
    for numbers in batched(range(count), _AT_ONCE, strict=False):
        rows = [row for number in numbers for row in rows_of(number)]
        await asyncio.gather(*(service.get_table_client(name).upsert_entity(values) for name, values in rows))
    rows_of_epoch = EpochRows(Table(service.get_table_client("issuers")))
    await rows_of_epoch.try_put(None, EpochRecord(number=1, reached_at=record_of(0).updated_at))


def backup_of(service: TableServiceClient, memory: Any) -> Backup:
    """Give what exports and restores an account."""

    def table(name: str) -> Table:
        return Table(service.get_table_client(name))

    def clock() -> Any:
        return record_of(0).updated_at

    epochs = Epochs(rows=EpochRows(table("issuers")), vault=memory, mark="epoch", clock=clock)
    return Backup(table=table, blobs=memory, epochs=epochs, clock=clock)


def main(count: int = DEVICES) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        manifest = asyncio.run(measured(count, archive))
        size = archive.stat().st_size
    print(f"{count:,} devices; {manifest.shown()}")
    print(f"an archive of {size / 1e6:.1f} MB, {size / count:.0f} bytes a device")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
