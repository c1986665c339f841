"""``python -m devstack.package``: write the package that is deployed, what .funcignore leaves out being left out.

The same files give the same bytes: names in order, and no times of this machine.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / ".devstack" / "device-identity-factory.zip"
_IGNORING = (".gitignore", ".funcignore")
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip file can say (APPNOTE 4.4.6)."""


def packaged(root: Path = REPOSITORY) -> Iterator[Path]:
    """Give the files of the package, relative to ``root``, in order."""
    lines = [line for name in _IGNORING for line in (root / name).read_text(encoding="utf-8").splitlines()]
    ignored = GitIgnoreSpec.from_lines(lines)

    def within(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            relative = path.relative_to(root)
            if ignored.match_file(f"{relative.as_posix()}/" if path.is_dir() else relative.as_posix()):
                continue
            if path.is_dir():
                yield from within(path)
            else:
                yield relative

    return within(root)


def write(target: Path, root: Path = REPOSITORY) -> str:
    """Write the package and give its SHA-256 in hexadecimal."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for path in packaged(root):
            entry = zipfile.ZipInfo(path.as_posix(), _EARLIEST)
            entry.external_attr = 0o644 << 16
            package.writestr(entry, (root / path).read_bytes(), zipfile.ZIP_DEFLATED)
    return hashlib.sha256(target.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.stdout.write(f"{PACKAGE}  sha256 {write(PACKAGE)}\n")
