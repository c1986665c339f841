"""An auditor's copy of the log, and the commands that make it and compare checkpoints by it."""

from __future__ import annotations

import http.client
import http.server
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from shared.evidence import mirror
from shared.evidence.mirror import Mirror
from shared.evidence.tiles import Tile
from shared.evidence.trees import EMPTY_ROOT
from shared.evidence.verify import NotProved, Tree
from tests.side_by_side import REPOSITORY
from tests.unit.evidence.logs import Log, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def served(log: Log) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        if path == "checkpoint":
            return log.checkpoint()
        tile = Tile.read(path)
        assert tile is not None
        found = log.head.tile(tile)
        return log.tiles[tile] if found is None else found

    return read


def test_a_mirror_reads_what_is_new_and_has_the_log_s_tree(tmp_path: Path) -> None:
    log, copy = numbered(600), Mirror(tmp_path)
    assert copy.update(served(log), log.keys) == (log.head.tree, 3)
    assert copy.update(served(log), log.keys) == (log.head.tree, 0)
    log.append(*(b"entry %d" % number for number in range(600, 900)))
    assert copy.update(served(log), log.keys) == (log.head.tree, 2), "the third one, which is full now, and the fourth"
    assert sum(map(len, copy.bundles(900))) == 900


def test_a_mirror_refuses_a_log_that_does_not_continue_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    log, copy = numbered(300), Mirror(tmp_path)
    copy.update(served(log), log.keys)
    other = Log()
    for number in range(280):
        other.append(b"entry %d" % number)
    for number in range(280, 310):
        other.append(b"another %d" % number)
    with pytest.raises(NotProved, match=r"^the first 300 entries are not those that the checkpoint is of$"):
        copy.update(served(other), log.keys)
    with pytest.raises(NotProved, match=r"^there are 250 entries, and the checkpoint is of 300$"):
        copy.update(served(numbered(250)), log.keys)
    assert copy.known(log.keys) == log.head.tree


def test_a_mirror_refuses_entries_that_the_checkpoint_is_not_of(tmp_path: Path) -> None:
    log = numbered(300)
    spoilt = served(log)
    with pytest.raises(NotProved, match=r"^the first 300 entries are not those that the checkpoint is of$"):
        Mirror(tmp_path).update(lambda path: spoilt(path).replace(b"entry 17", b"entry 71"), log.keys)
    assert Mirror(tmp_path).known(log.keys).size == 0
    assert Mirror(tmp_path).update(served(log), log.keys) == (log.head.tree, 2), "what was wrong is not kept"


@contextmanager
def serving(log: Log) -> Iterator[str]:
    read = served(log)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("x-functions-key") == "a key"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            if allowed:
                self.wfile.write(read(self.path.removeprefix("/api/log/")))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/log"
        finally:
            server.shutdown()
            thread.join()


def test_an_answer_that_breaks_off_is_not_taken_for_a_log_that_is_not_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can't be read, which is 2; a traceback would end with 1."""

    def broken(_path: str) -> bytes:
        raise http.client.IncompleteRead(b"half", 4)

    (tmp_path / "log.key").write_text(f"{numbered(1).key}\n")
    monkeypatch.setattr(mirror, "_reader", lambda _url, _key: broken)
    asked = ["mirror", "https://app/api/log", str(tmp_path / "copy"), "--log-key", str(tmp_path / "log.key")]
    assert mirror.main(asked) == 2
    assert capsys.readouterr().err == (
        "https://app/api/log can't be read: IncompleteRead(4 bytes read, 4 more expected)\n"
    )


def test_the_commands_copy_a_log_and_compare_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, key, copy = numbered(300), tmp_path / "log.key", tmp_path / "mirror"
    key.write_text(f"{log.key}\n")
    older, newer = tmp_path / "older", tmp_path / "newer"
    older.write_bytes(log.checkpoint(7))
    newer.write_bytes(log.checkpoint())
    with serving(log) as url:
        asked = ["mirror", url, str(copy), "--log-key", str(key)]
        command = [sys.executable, "-m", "shared.evidence", *asked, "--function-key", "a key"]
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        told = "mirrored: 300 entries, 2 new bundles; the checkpoint is signed, and has their root\n"
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, told, "")
        assert mirror.main(asked) == 2
        assert "HTTP Error 401" in capsys.readouterr().err
    compared = ["--mirror", str(copy), "--log-key", str(key)]
    assert mirror.main(["consistency", str(older), str(newer), *compared]) == 0
    assert capsys.readouterr().out == "consistent: the log with 300 entries begins with the one with 7\n"
    assert mirror.main(["consistency", str(newer), str(older), *compared]) == 1
    assert capsys.readouterr().err == "not proved: a log does not get shorter: it had 300 entries, and has 7\n"
    older.write_bytes(numbered(1).checkpoint())
    other = Log()
    other.append(b"another")
    older.write_bytes(other.checkpoint())
    assert mirror.main(["consistency", str(older), str(newer), *compared]) == 1
    assert capsys.readouterr().err == "not proved: the first 1 entries are not those that the checkpoint is of\n"


def test_a_checkpoint_of_nothing_is_continued_by_every_log() -> None:
    mirror.check_grows([[b"entry 0"]], [Tree(0, EMPTY_ROOT), numbered(1).head.tree])
