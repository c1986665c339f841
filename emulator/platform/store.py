"""Documents in SQLite: the one place where the emulator's state lives.

A commit is in the write-ahead log before the answer leaves, so killing the process loses nothing acknowledged
(``synchronous=NORMAL`` gives up only what a power cut could take). One process owns the file.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PRIVATE, PRIVATE_FOLDER = 0o600, 0o700
"""Modes: the owner alone, since there are private keys in plain text."""

SCAN_PAGE = 256
TABLE = (
    "CREATE TABLE IF NOT EXISTS documents"
    " (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID"
)
LAST_CODE_POINT = "\U0010ffff"
FIRST_SURROGATE, AFTER_SURROGATES = 0xD800, 0xE000  # what lies between is not a character


class StoreInUse(Exception):
    """Another process has the state directory open."""


class Store:
    """JSON documents by kind and key, in key order (Unicode code points); a key has at least one character.

    Calls are synchronous and take tens of microseconds; they may be made on the event loop.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        path.touch(PRIVATE)
        path.chmod(PRIVATE)  # an earlier version left it to the umask; SQLite gives its log the same mode
        self._depth = 0
        # check_same_thread: a test may read the state from its own thread while the loop's thread is idle.
        self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            for statement in (
                "PRAGMA locking_mode = EXCLUSIVE",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = NORMAL",
                TABLE,
                "BEGIN IMMEDIATE",  # takes the lock now, so that a second process is refused at its start
                "COMMIT",
            ):
                self._database.execute(statement)
        except sqlite3.OperationalError as error:
            self._database.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise StoreInUse(
                f"state directory {path.parent} is in use by another emulator: stop it, or name another --state-dir"
            ) from None

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the document, or None."""
        row = self._database.execute("SELECT body FROM documents WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return None if row is None else _document(row[0])

    def put(self, kind: str, key: str, body: Mapping[str, Any]) -> None:
        """Create or replace the document."""
        text = json.dumps(body, separators=(",", ":"))  # ASCII: JSON may hold what UTF-8 can't
        self._database.execute("INSERT OR REPLACE INTO documents (kind, key, body) VALUES (?, ?, ?)", (kind, key, text))

    def delete(self, kind: str, key: str) -> bool:
        """Remove the document; False when there was none."""
        cursor = self._database.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))
        return cursor.rowcount > 0

    def scan(
        self, kind: str, *, prefix: str = "", after: str = "", limit: int | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (key, document) in key order.

        Reads page by page, so the caller may write in between; what is written behind the reading point is not seen.

        Args:
            kind: which documents.
            prefix: only keys that start with it.
            after: only keys greater than it: the last key of the page before.
            limit: at most so many; None for all.
        """
        left = limit
        while left is None or left > 0:
            page = SCAN_PAGE if left is None else min(left, SCAN_PAGE)
            rows = self._database.execute(
                "SELECT key, body FROM documents WHERE kind = ? AND key >= ? AND key < ? AND key > ?"
                " ORDER BY key LIMIT ?",
                (kind, prefix, _above(prefix), after, page),
            ).fetchall()
            for key, body in rows:
                yield key, _document(body)
            if len(rows) < page:
                return
            after = rows[-1][0]
            left = None if left is None else left - len(rows)

    def count(self, kind: str, *, prefix: str = "") -> int:
        """How many documents there are."""
        row = self._database.execute(
            "SELECT COUNT(*) FROM documents WHERE kind = ? AND key >= ? AND key < ?",
            (kind, prefix, _above(prefix)),
        ).fetchone()
        return int(row[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the writes inside one commit, all or nothing; an inner transaction joins the outer one.

        No ``await`` inside: another task's writes would fall into the same commit.
        """
        if self._depth == 0:
            self._database.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._database.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Fold the log into the database and close it."""
        self._database.close()


def _above(prefix: str) -> str | bytes:
    """The least value that sorts after every key with the prefix."""
    head = prefix.rstrip(LAST_CODE_POINT)
    if not head:
        return b""  # SQLite sorts every BLOB after every TEXT
    following = ord(head[-1]) + 1
    return head[:-1] + chr(AFTER_SURROGATES if following == FIRST_SURROGATE else following)


def _document(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document
