"""Files for SDKs that take a path, of which nothing is left on a disk, not even by a process that is killed."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ABANDONED_SECONDS = 600.0
"""Nothing holds a file for as long as that: a registration takes 200 s at most (REGISTRATION_TIMEOUT_SECONDS)."""


@contextmanager
def held(content: bytes) -> Iterator[str]:
    """Give the path of a file with some content, for this process and while the block lasts.

    On Linux the file is in memory and has no name but this process's descriptor of it, so it ends with the process
    (memfd_create(2), proc_pid_fd(5)). Elsewhere it is in a folder of its own, its owner's only.
    """
    with _in_memory(content) if _has_memory_files() else on_disk(content, _folder()) as path:
        yield path


def _has_memory_files() -> bool:
    return hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("held")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / "device-identity-factory-held"


@contextmanager
def on_disk(content: bytes, folder: Path) -> Iterator[str]:
    """Give the path of a file in a folder, and take out of it what processes left that were killed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    discard_abandoned(folder, time.time())
    path = folder / secrets.token_hex(16)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def discard_abandoned(folder: Path, now: float) -> None:
    """Delete the files that nobody can hold any more.

    Args:
        folder: where files are held.
        now: seconds since 1970.
    """
    for path in folder.iterdir():
        if now - path.stat().st_mtime > _ABANDONED_SECONDS:
            path.unlink(missing_ok=True)
