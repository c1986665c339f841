"""Keys that an SDK wants as a file: nothing of them is left, whatever becomes of the process."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from shared.adapters.held_files import discard_abandoned, held, on_disk
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from tests.pki.hierarchy import hierarchy

MARK = b"-----BEGIN ENCRYPTED PRIVATE KEY----- press-1"
HOLDS = f"""
import sys
from shared.adapters.held_files import held
with held({MARK!r}) as path:
    print(open(path, "rb").read(), flush=True)
    sys.stdin.read()
"""


def test_a_file_can_be_read_as_often_as_it_takes_while_it_is_held() -> None:
    """Microsoft's SDK reads it twice, once for the certificates and once for the key."""
    with held(b"content") as path:
        assert [Path(path).read_bytes() for _ in range(2)] == [b"content"] * 2
    assert not Path(path).exists()


def test_openssl_reads_certificates_and_key_out_of_it() -> None:
    """As the SDK has it do."""
    key = generate_key(KeyAlgorithm.EC_P256)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
    with held(hierarchy().device("press-1", key=key).public_bytes(Encoding.PEM) + locked) as path:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path, path, "sesame")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file on disk is taken away later")
def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    """No file of it is anywhere in the folders that it could write to."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert MARK.decode() in process.stdout.readline().decode()
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.rglob("*")) == []


def test_on_a_disk_a_file_is_its_owner_s_only_and_goes_with_the_block(tmp_path: Path) -> None:
    """Where files have no place in memory."""
    folder = tmp_path / "held"
    with on_disk(b"content", folder) as name:
        assert (folder.stat().st_mode & 0o777, Path(name).stat().st_mode & 0o777) == (0o700, 0o600)
        assert Path(name).read_bytes() == b"content"
    assert list(folder.iterdir()) == []


def test_on_a_disk_what_killed_processes_left_is_taken_away(tmp_path: Path) -> None:
    """After ten minutes, in which a process that lives is done with it."""
    left = tmp_path / "left"
    left.write_bytes(MARK)
    changed = left.stat().st_mtime
    discard_abandoned(tmp_path, changed + 599)
    assert left.exists()
    discard_abandoned(tmp_path, changed + 601)
    assert not left.exists()
