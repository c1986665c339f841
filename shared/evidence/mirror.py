"""Keeps a copy of a log, checks all of it, and compares checkpoints by it: for auditors, by plain HTTP reads.

A mirror is a folder with the newest checkpoint and the bundles of entries, under the paths that C2SP tlog-tiles has.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from shared.evidence.leaves import announced_key
from shared.evidence.tiles import ENTRIES, WIDTH, Tile, unbundled
from shared.evidence.trees import EMPTY_ROOT, GrowingTree
from shared.evidence.verify import Checkpoint, LogKeys, Note, NotProved, Tree, VerifierKey, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_SECONDS = 60
_HANDOVERS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of a log in a folder."""

    folder: Path

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def keys_file(self) -> Path:
        """The keys of the log that were learned from the log itself."""
        return self.folder / "log.key"

    def keys(self, given: LogKeys) -> LogKeys:
        """Give keys that are trusted, with those that were learned from the log by them."""
        if not self.keys_file.exists():
            return given
        learned = LogKeys.read(self.keys_file.read_text()).ends
        ended = {key: end for key, end in given.ends.items() if end is not None}
        return LogKeys({**given.ends, **learned, **ended})

    def known(self, keys: LogKeys) -> Tree:
        """Give the tree that was copied before; an empty one if there is none."""
        if not self._checkpoint.exists():
            return Tree(0, EMPTY_ROOT)
        return Checkpoint.opened(self._checkpoint.read_bytes(), keys).tree

    def bundles(self, size: int) -> Iterator[Sequence[bytes]]:
        """Read the entries of a log with so many, bundle by bundle."""
        for tile in tiles_of(size):
            whole = self.folder / tile.full.path
            yield unbundled((whole if whole.exists() else self.folder / tile.path).read_bytes())[: tile.width]

    def update(self, read: Callable[[str], bytes], given: LogKeys) -> tuple[Tree, int]:
        """Copy what is new, and check everything.

        Args:
            read: gives what is served under a path.
            given: keys of the log that are trusted. One that these have announced in the log is trusted then.

        Returns:
            The log's tree, and how many bundles were read.

        Raises:
            NotProved: the checkpoint is not signed, the entries are not those that it is of, or they do not continue
                those that were copied before. Then the copy stays as it was.
        """
        content, keys, new = read("checkpoint"), self.keys(given), list[Path]()
        before, note = self.known(keys), Note.read(content)
        tree, signing = Checkpoint.read(note.text).tree, [key for key, end in keys.ends.items() if end is None]
        handovers = [] if len(note.signers(signing)) == len(signing) else list(_handovers(read))
        if not handovers:
            Checkpoint.opened(content, keys)
        for tile in tiles_of(tree.size):
            file = self.folder / tile.path
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(read(tile.path))
                new.append(file)
        try:
            trees = list[Tree]()
            for each in handovers:
                trees.append(Checkpoint.opened(each, keys).tree)
                keys = self._learned(keys, tree, trees[-1].size, is_end=True)
            Checkpoint.opened(content, keys)
            check_grows(self.bundles(tree.size), (before, *trees, tree))
        except NotProved:
            for file in new:
                file.unlink()
            raise
        self.folder.mkdir(parents=True, exist_ok=True)
        self._checkpoint.write_bytes(content)
        self._keep(self._learned(keys, tree, tree.size, is_end=False))
        return tree, len(new)

    def _learned(self, keys: LogKeys, tree: Tree, size: int, *, is_end: bool) -> LogKeys:
        """Add the keys that the first entries announce; at an end, the last of them alone signs more than these."""
        name = next(iter(keys.ends)).name
        entries = islice((entry for bundle in self.bundles(tree.size) for entry in bundle), size)
        found = [VerifierKey.read(key) for key in map(announced_key, entries) if key is not None]
        ends = {**dict.fromkeys(key for key in found if key.name == name), **keys.ends}
        if is_end and found:
            ends = {key: size if end is None and key != found[-1] else end for key, end in ends.items()}
        return LogKeys(ends)

    def _keep(self, keys: LogKeys) -> None:
        lines = [f"{key}\n" if end is None else f"{key} until {end}\n" for key, end in keys.ends.items()]
        self.keys_file.write_text("".join(lines))

    def compare(self, older: Tree, newer: Tree) -> None:
        """See that one tree begins with the other, and both are those of the copy.

        Raises:
            NotProved: they are not.
        """
        if older.size > newer.size:
            raise NotProved(f"a log does not get shorter: it had {older.size} entries, and has {newer.size}")
        check_grows(self.bundles(newer.size), (older, newer))


def _handovers(read: Callable[[str], bytes]) -> Iterator[bytes]:
    """Give the last checkpoint of each key that has ended, which the next key has signed as well."""
    for number in range(1, _HANDOVERS_LIMIT):
        try:
            yield read(f"handover/{number}")
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return


def tiles_of(size: int) -> Iterator[Tile]:
    """Give the bundles of entries of a log with so many; the last one may not be full."""
    for number in range(-(-size // WIDTH)):
        yield Tile(ENTRIES, number, min(WIDTH, size - number * WIDTH))


def check_grows(bundles: Iterable[Sequence[bytes]], trees: Sequence[Tree]) -> None:
    """See that entries, one after the other, make these trees; one hash for each height is kept meanwhile.

    Raises:
        NotProved: they do not.
    """
    growing, wanted = GrowingTree(), sorted(trees, key=lambda tree: tree.size)
    for entry in (each for bundle in bundles for each in bundle):
        _check(wanted, growing)
        growing.append(leaf_hash(entry))
    _check(wanted, growing)
    if wanted:
        raise NotProved(f"there are {growing.size} entries, and the checkpoint is of {wanted[0].size}")


def _check(wanted: list[Tree], growing: GrowingTree) -> None:
    while wanted and wanted[0].size == growing.size:
        if wanted.pop(0) != growing.tree:
            raise NotProved(f"the first {growing.size} entries are not those that the checkpoint is of")


def _reader(url: str, function_key: str | None) -> Callable[[str], bytes]:
    headers = {"x-functions-key": function_key} if function_key else {}

    def read(path: str) -> bytes:
        request = urllib.request.Request(f"{url.rstrip('/')}/{path}", headers=headers)  # noqa: S310 - of who calls it
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content

    return read


def main(arguments: Sequence[str]) -> int:
    """Carry out ``mirror`` or ``consistency``: 0 if all is well, 1 if it is not proved, 2 if it can't be read."""
    parser = argparse.ArgumentParser(prog="python -m shared.evidence")
    commands = parser.add_subparsers(dest="command", required=True)
    copying = commands.add_parser("mirror", help="copies a log, and checks all of it")
    copying.add_argument("url", help="where the log is: its prefix, as in https://<app>/api/log")
    copying.add_argument("mirror", type=Path, help="folder of the copy")
    copying.add_argument("--function-key", help="a function key with the role Audit.Read")
    comparing = commands.add_parser("consistency", help="sees whether one checkpoint continues the other")
    comparing.add_argument("older", type=Path)
    comparing.add_argument("newer", type=Path)
    comparing.add_argument("--mirror", type=Path, required=True, help="folder of a copy that has the newer one")
    for each in (copying, comparing):
        each.add_argument("--log-key", type=Path, required=True, help="file with the log's key")
    options = parser.parse_args(arguments)
    try:
        given, mirror = LogKeys.read(options.log_key.read_text()), Mirror(options.mirror)
        before = mirror.keys(given)
        if options.command == "mirror":
            tree, new = mirror.update(_reader(options.url, options.function_key), given)
            told = f"mirrored: {tree.size} entries, {new} new bundles; the checkpoint is signed, and has their root"
            if mirror.keys(given).ends.keys() > before.ends.keys():
                told += f"; the log has announced another key, which {mirror.keys_file} has now"
        else:
            files = (options.older, options.newer)
            older, newer = (Checkpoint.opened(each.read_bytes(), before).tree for each in files)
            mirror.compare(older, newer)
            told = f"consistent: the log with {newer.size} entries begins with the one with {older.size}"
    except (OSError, http.client.HTTPException) as error:
        where = options.url if options.command == "mirror" else options.mirror
        sys.stderr.write(f"{getattr(error, 'filename', None) or where} can't be read: {error}\n")
        return 2
    except NotProved as error:
        sys.stderr.write(f"not proved: {error}\n")
        return 1
    sys.stdout.write(f"{told}\n")
    return 0
