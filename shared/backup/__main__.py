"""Exports, verifies and restores the ledger: ``python -m shared.backup export|verify|restore FILE``.

``export`` and ``restore`` take the app's settings in their environment, and an identity that may read or write the
ledger's account, and tag the key of the ledger's epoch. ``verify`` takes neither. An archive is sealed with a
passphrase (``--passphrase-file``), or for a public key (``--recipient``), whose private half opens it
(``--private-key``). The exit status is 0 when it is done, and 2 when it is not; then the message says why.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.backup.copying import Backup
from shared.backup.reading import verified
from shared.backup.sealing import ArchiveError, Passphrase, Recipient, RecipientKey
from shared.commands import failed, refused
from shared.errors import DeviceFactoryError
from shared.services import build
from shared.settings import InvalidSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.backup.contents import Manifest
    from shared.backup.sealing import Lock, Opener


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m shared.backup", description=__doc__)
    acts = parser.add_subparsers(dest="act", required=True)
    for name in ("export", "verify", "restore"):
        act = acts.add_parser(name)
        act.add_argument("file", type=Path)
        keys = act.add_mutually_exclusive_group(required=True)
        keys.add_argument("--passphrase-file", type=Path, help="a file whose first line is the passphrase")
        if name == "export":
            keys.add_argument("--recipient", type=Path, help="a public RSA key in PEM")
        else:
            keys.add_argument("--private-key", type=Path, help="the recipient's private key in PEM")
            act.add_argument("--key-password-file", type=Path, help="a file whose first line opens the private key")
    return parser.parse_args(arguments)


def _line(path: Path) -> str:
    try:
        return (path.read_text(encoding="utf-8").splitlines() or [""])[0]
    except UnicodeDecodeError:
        raise ArchiveError(f"{path} is not text in UTF-8; its first line must be the passphrase or password") from None


def _lock(options: argparse.Namespace) -> Lock:
    if options.recipient:
        return Recipient.read(options.recipient.read_bytes())
    return Passphrase(_line(options.passphrase_file))


def _opener(options: argparse.Namespace) -> Opener:
    if options.private_key:
        password = _line(options.key_password_file).encode() if options.key_password_file else None
        return RecipientKey.read(options.private_key.read_bytes(), password)
    return Passphrase(_line(options.passphrase_file))


async def _with_ledger(options: argparse.Namespace) -> Manifest:
    services = build(Settings.from_environment(os.environ))
    clients = services.clients
    backup = Backup(table=clients.tables.table, blobs=clients.blobs, epochs=services.epochs, clock=services.clock)
    try:
        if options.act == "export":
            return await backup.export(options.file, _lock(options))
        return await backup.restore(options.file, _opener(options))
    finally:
        await services.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out what the command line asks for, and give the exit status."""
    options = _options(arguments)
    try:
        if options.act == "verify":
            manifest = verified(options.file, _opener(options))
        else:
            manifest = asyncio.run(_with_ledger(options))
    except (ArchiveError, DeviceFactoryError, InvalidSettings, OSError) as error:
        return refused(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not done
        status = failed(None, error)
        if options.act == "restore":
            sys.stderr.write("if it has begun to write, run it again with the same archive: it goes on\n")
        return status
    done = {"export": "exported", "verify": "it is whole", "restore": "restored"}[options.act]
    sys.stdout.write(f"{done}: {manifest.shown()}\n")
    if options.act == "restore":
        sys.stdout.write("now run python -m shared.restoration: until then nothing is signed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
