"""Go's implementation of logs takes what ours proves, and refuses what ours refuses; skipped where Go is missing.

Debian has it: ``apt-get install golang-go golang-golang-x-mod-dev``. What it made of a log of its own is in sumdb.json,
which is compared with everywhere.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.evidence.bundles import bundled
from tests.unit.evidence.logs import large, numbered
from tests.unit.evidence.test_trees import vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.evidence.verify import Proof

_GOPATH = Path("/usr/share/gocode")

pytestmark = pytest.mark.skipif(
    shutil.which("go") is None or not (_GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir(),
    reason="needs golang-go and golang-golang-x-mod-dev",
)


@pytest.fixture(scope="module")
def sumdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program."""
    folder = tmp_path_factory.mktemp("sumdb")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(_GOPATH), "GOCACHE": str(folder / "cache")}
    source = Path(__file__).with_name("sumdb.go")
    subprocess.run(["go", "build", "-o", str(folder / "sumdb"), str(source)], env=environment, check=True)
    return folder / "sumdb"


def _question(proof: Proof, key: object) -> dict[str, Any]:
    return {
        "Note": proof.checkpoint.decode(),
        "Keys": [str(key)],
        "Entry": base64.b64encode(proof.entry).decode(),
        "Index": proof.index,
        "Path": [base64.b64encode(each).decode() for each in proof.path],
    }


def _answers(program: Path, questions: Sequence[dict[str, Any]]) -> list[str]:
    lines = "".join(f"{json.dumps(each)}\n" for each in questions)
    ended = subprocess.run([program, "verify"], input=lines, capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()


def test_the_vectors_are_what_the_program_makes(sumdb: Path) -> None:
    made = subprocess.run([sumdb, "vectors"], capture_output=True, check=True)
    assert json.loads(made.stdout) == vectors()


def test_go_takes_each_proof_of_a_log(sumdb: Path) -> None:
    log, random = large(), Random(256)  # noqa: S311 - the same each time
    places = [(0, 1), (0, 70_000), (69_999, 70_000), (300, 342)]
    places += [(random.randrange(size), size) for size in random.sample(range(1, 70_001), 20)]
    questions = [_question(log.inclusion(index, size), log.key) for index, size in places]
    for first, second in ((1, 2), (4, 7), (256, 70_000), (69_999, 70_000), (65_537, 69_000)):
        path = [base64.b64encode(each).decode() for each in log.consistency(first, second)]
        notes = {"Note": log.checkpoint(second).decode(), "Older": log.checkpoint(first).decode()}
        questions.append({**notes, "Keys": [str(log.key)], "Path": path})
    assert _answers(sumdb, questions) == ["ok"] * len(questions)


def test_go_takes_the_proof_of_a_bundle(sumdb: Path) -> None:
    made = bundled()
    assert _answers(sumdb, [_question(made.log.inclusion(made.index), made.log.key)]) == ["ok"]


def test_go_refuses_a_proof_with_a_bit_changed(sumdb: Path) -> None:
    log, random = numbered(300), Random(300)  # noqa: S311 - the same each time
    questions = []
    for index in random.sample(range(300), 60):
        asked = _question(log.inclusion(index), log.key)
        part = random.choice(("Note", "Entry", "Path"))
        if part == "Note":
            at = random.randrange(len(asked["Note"].encode()) - 1)
            changed = bytearray(asked["Note"].encode())
            changed[at] ^= 1
            asked["Note"] = changed.decode("utf-8", "replace")
        else:
            texts = asked["Path"] if part == "Path" else [asked["Entry"]]
            content = bytearray(base64.b64decode(texts[0]))
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
            texts[0] = base64.b64encode(content).decode()
            if part == "Entry":
                asked["Entry"] = texts[0]
        questions.append(asked)
    assert "ok" not in _answers(sumdb, questions)
