"""A file that an archive is written into: one export at a time, and it has its name when it is whole."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from shared.backup.sealing import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that only its owner can read, and that gets its name at the end.

    What is written stands beside it, and is locked. The system takes the lock away from an export that was killed, so
    the next one writes over what that left behind.

    Raises:
        ArchiveError: there is a file of that name, or another export writes it, or its folder does not exist.
    """
    if not path.parent.is_dir():
        raise ArchiveError(f"the folder {path.parent} does not exist")
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(_locked(part), "wb") as file:
        try:
            _check_free(path)
            file.truncate()
            yield file
            file.flush()
            os.fsync(file.fileno())
            _check_free(path)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _check_free(path: Path) -> None:
    if path.exists():
        raise ArchiveError(f"{path} exists; an archive is not overwritten")


def _locked(part: Path) -> int:
    """Open and lock a file, which is a new one or was left behind."""
    while True:
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), part.stat()):
                    return file
        except BlockingIOError:
            os.close(file)
            raise ArchiveError(f"another export into {part.with_suffix('')} is under way") from None
        os.close(file)  # another export has ended meanwhile, and has given the file its name, or deleted it
