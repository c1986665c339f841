"""Azurite, Microsoft's storage emulator, over HTTPS and with bearer tokens (``--oauth basic``)."""

from __future__ import annotations

import base64
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emulator.platform.tls import TlsFiles

ACCOUNT = "devstoreaccount1"
SCRIPT = Path("node_modules") / "azurite" / "dist" / "src" / "azurite.js"
_WITHOUT_TELEMETRY = Path(__file__).with_name("azurite_without_telemetry.cjs")


_KEPT_SECONDS = 60
"""How long a connection without a request stays open.

By itself Azurite closes one after 5 seconds (Node's own default), and aiohttp, which the SDKs use, uses one for 15
seconds: a request that is sent in between is cut off.
"""


class AzuriteMissing(RuntimeError):
    """Node or Azurite is not installed; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class StorageEndpoints:
    """Where the account's services are, and its key, which only outside tools use."""

    blob: str
    queue: str
    table: str
    key: str

    def queue_of(self, account: str) -> str:
        """Give where the queues of another account are: Azurite has the accounts side by side."""
        return f"{self.queue.removesuffix(ACCOUNT)}{account}"

    @property
    def connection_string(self) -> str:
        """Give what tools without bearer tokens take."""
        return (
            f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={self.key};"
            f"BlobEndpoint={self.blob};QueueEndpoint={self.queue};TableEndpoint={self.table};"
        )


def endpoints(address: str, ports: tuple[int, int, int], folder: Path) -> StorageEndpoints:
    """Give the endpoints of an account whose key is made at random at the first start, and kept.

    Args:
        address: that Azurite listens on.
        ports: of blobs, queues and tables.
        folder: where the account's key and content are.
    """
    folder.mkdir(0o700, parents=True, exist_ok=True)
    key_file = folder / "account-key"
    if not key_file.exists():
        key_file.touch(mode=0o600)
        key_file.write_text(base64.b64encode(secrets.token_bytes(64)).decode(), encoding="ascii")
    blob, queue, table = (f"https://{address}:{port}/{ACCOUNT}" for port in ports)
    return StorageEndpoints(blob, queue, table, key_file.read_text(encoding="ascii"))


def command(
    repository: Path,
    address: str,
    ports: tuple[int, int, int],
    folder: Path,
    tls: TlsFiles,
    *,
    access_log: bool = False,
    in_memory: bool = False,
) -> list[str]:
    """Give the command that runs Azurite.

    Args:
        repository: where it is installed.
        address: where it listens.
        ports: of blobs, queues and tables.
        folder: where it keeps everything.
        tls: its certificate.
        access_log: whether it prints a line per request.
        in_memory: whether it keeps nothing. Otherwise it writes each of its databases whole, every five seconds, and
            answers nobody meanwhile: for seconds, with some ten thousand rows on a busy machine.

    Raises:
        AzuriteMissing: Node or Azurite is not there.
    """
    node, script = shutil.which("node"), repository / SCRIPT
    if node is None:
        raise AzuriteMissing("Node.js is not installed, and Azurite needs it: install Node 20 or later")
    if not script.exists():
        raise AzuriteMissing("Azurite is not installed: run `make setup`")
    blob, queue, table = map(str, ports)
    return [
        *(node, "--require", str(_WITHOUT_TELEMETRY), str(script), "--skipApiVersionCheck", "--disableTelemetry"),
        *(("--inMemoryPersistence",) if in_memory else ("--location", str(folder))),
        *(() if access_log else ("--silent",)),
        *("--oauth", "basic", "--cert", str(tls.certificate_file), "--key", str(tls.key_file)),
        *("--blobHost", address, "--blobPort", blob, "--queueHost", address, "--queuePort", queue),
        *("--tableHost", address, "--tablePort", table),
        *(part for each in ("blob", "queue", "table") for part in (f"--{each}KeepAliveTimeout", str(_KEPT_SECONDS))),
    ]


def environment(storage: StorageEndpoints, further: Iterable[str] = ()) -> dict[str, str]:
    """Give what Azurite reads from its environment.

    Args:
        storage: the account that has everything.
        further: names of accounts beside it. Nobody has their keys: whoever reaches them has a token.
    """
    keys = {each: base64.b64encode(secrets.token_bytes(64)).decode() for each in further}
    return {"AZURITE_ACCOUNTS": ";".join(f"{name}:{key}" for name, key in {ACCOUNT: storage.key, **keys}.items())}
