"""The log of certificates as an auditor sees it: by plain HTTP, with another implementation, and with one copied file."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import requests
from tlog_scales.reader import TilesReader

from devstack.outside import REPOSITORY, until
from shared.evidence.verify import Checkpoint, LogKeys, leaf_hash
from tests.end_to_end.conftest import GROUP

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.outside import World
    from devstack.stack import Stack


def test_an_auditor_mirrors_the_log_and_proves_a_bundle(stack_and_world: tuple[Stack, World], tmp_path: Path) -> None:
    """With the role Audit.Read; other tools read the same tiles. What was logged names the order."""
    stack, world = stack_and_world
    url, keys = f"{stack.endpoints.functions_url}/api/log", stack.endpoints.role_keys
    order = {"orderId": "logged", "enrollmentGroup": GROUP, "devices": [{"registrationId": "logged-1"}]}
    world.post("device-orders", order)
    until("it is registered", lambda: world.state("logged-1"), lambda state: state == "registered")
    bundle, key = tmp_path / "bundle.pem", tmp_path / "log.key"
    bundle.write_bytes(world.request("GET", "devices/logged-1/bundle").content)
    key.write_text(world.request("GET", "log/key").text)
    verify = [sys.executable, "-I", str(REPOSITORY / "shared/evidence/verify.py"), str(bundle), "--log-key", str(key)]
    proved = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (proved.returncode, proved.stderr) == (0, "")
    assert " of 'logged-1' was logged at " in proved.stdout
    assert " for 'logged'; it is entry " in proved.stdout
    mirror = [sys.executable, "-m", "shared.evidence", "mirror", url, str(tmp_path / "mirror"), "--log-key", str(key)]
    command = [*mirror, "--function-key", keys["Audit.Read"]]
    mirrored = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (mirrored.returncode, mirrored.stderr) == (0, "")

    checkpoint = world.request("GET", "log/checkpoint", headers={"x-functions-key": keys["Audit.Read"]})
    assert checkpoint.headers["Content-Type"] == "text/plain; charset=utf-8"
    tree = Checkpoint.opened(checkpoint.content, LogKeys.read(key.read_text())).tree

    class Served:
        def get(self, *path: str) -> bytes | None:
            found = world.request("GET", f"log/{'/'.join(path)}")
            return found.content if found.status_code == requests.codes.ok else None

    reader = TilesReader(Served())
    reader.set_size(tree.size)
    assert reader.calculate_root_hash() == tree.root
    entry = reader.get_entry(tree.size - 1)
    reader.get_inclusion_proof(tree.size - 1, tree.size).check(leaf_hash(entry), tree.root)

    # The key is changed: whoever has the first one learns the next one from the log, also after the change.
    assert world.post("log/key/renew").json()["keys"][1]["state"] == "next"
    states = [each["state"] for each in world.post("log/key/retire").json()["keys"]]
    assert states == ["signs", "retired"]
    mirrored = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (mirrored.returncode, mirrored.stderr) == (0, "")
    assert "; the log has announced another key, which " in mirrored.stdout
    learned = (tmp_path / "mirror/log.key").read_text()
    assert learned.splitlines()[0] == world.request("GET", "log/key").text.splitlines()[0]
    proved = subprocess.run(
        [*verify[:-1], str(tmp_path / "mirror/log.key")], capture_output=True, text=True, check=False
    )
    assert (proved.returncode, proved.stderr) == (0, "")

    refused = world.request("GET", "log/checkpoint", headers={"x-functions-key": keys["Fleet.Read"]})
    assert (refused.status_code, refused.json()["detail"]) == (403, "this needs the role Audit.Read")
