"""The verifier: the file that an auditor copies, on bundles as they are handed out."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from shared.evidence import verify
from shared.evidence.notes import proof_bytes, proof_pem
from shared.evidence.verify import NotProved, Proof, verify_bundle
from tests.unit.evidence.bundles import bundled
from tests.unit.evidence.logs import numbered

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_bundle_is_proved_by_the_log_that_has_its_certificate() -> None:
    made = bundled()
    certificate, proof, checkpoint = verify_bundle(made.pem, made.log.keys)
    assert certificate == x509.load_pem_x509_certificates(made.packed)[0]
    assert (proof.index, checkpoint.tree.size) == (300, 342)


def test_every_byte_of_the_certificates_and_of_the_proof_counts() -> None:
    made = bundled()
    for at in range(len(made.pem)):
        changed = bytearray(made.pem)
        changed[at] ^= 1 << at % 7
        with pytest.raises(NotProved):
            verify_bundle(bytes(changed), made.log.keys)


def test_a_bundle_that_a_mail_has_given_other_line_ends_is_proved() -> None:
    made = bundled()
    verify_bundle(made.pem.replace(b"\n", b"\r\n"), made.log.keys)


def test_a_private_key_in_the_bundle_is_not_looked_at() -> None:
    made = bundled(with_key=True)
    assert b"ENCRYPTED PRIVATE KEY" in made.pem
    verify_bundle(made.pem, made.log.keys)


def _without_proof(pem: bytes) -> bytes:
    return pem[: pem.index(b"-----BEGIN TLOG PROOF")]


def _without_issuer(pem: bytes) -> bytes:
    first, end, rest = pem.partition(b"-----END CERTIFICATE-----\n")
    return first + end + rest.partition(b"-----END CERTIFICATE-----\n")[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_proof, "the bundle has 2 certificates and 0 proofs; a bundle with a proof is needed"),
        (lambda pem: pem[pem.index(b"-----BEGIN TLOG") :], "the bundle has 0 certificates and 1 proofs; a bundle with"),
        (
            lambda pem: pem + pem[pem.index(b"-----BEGIN TLOG") :],
            "the bundle has 2 certificates and 2 proofs; a bundle",
        ),
        (
            _without_issuer,
            "the entry of the log has chain [0-9a-f]{64}, and the bundle e3b0c44298fc1c149afbf4c8996fb92427",
        ),
        (lambda _: bundled(before=3).packed + bundled().pem[len(bundled().packed) :], "the entry of the log has "),
    ],
    ids=["no proof", "no certificate", "two proofs", "no issuer", "the proof of another certificate"],
)
def test_what_is_not_the_bundle_that_was_made_is_refused(change: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(NotProved, match=f"^{message}"):
        verify_bundle(change(bundled().pem), bundled().log.keys)


def test_an_entry_about_something_else_proves_no_certificate() -> None:
    made = bundled()
    with pytest.raises(NotProved, match=r"^the entry of the log is not one about a device's certificate$"):
        verify_bundle(made.packed + proof_pem(made.log.inclusion(5)), made.log.keys)


def test_a_proof_from_a_log_of_the_same_name_with_another_content_is_refused() -> None:
    made, other = bundled(), numbered(400)
    proof = made.log.inclusion(300)
    forged = Proof(proof.entry, 300, proof.path, other.checkpoint())
    with pytest.raises(NotProved, match=r"^the inclusion path "):
        verify_bundle(made.packed + proof_pem(forged), made.log.keys)


def test_a_proof_is_written_as_the_specification_has_it() -> None:
    """C2SP tlog-proof, "Format"."""
    log = numbered(3)
    proof = log.inclusion(1)
    assert proof_bytes(proof) == (
        b"c2sp.org/tlog-proof@v1\n"
        b"extra ZW50cnkgMQ==\n"
        b"index 1\n" + base64.b64encode(proof.path[0]) + b"\n" + base64.b64encode(proof.path[1]) + b"\n"
        b"\n" + log.checkpoint()
    )
    assert Proof.read(proof_bytes(proof)) == proof


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"@v1", b"@v2", "the proof does not begin with c2sp.org/tlog-proof@v1, extra and index"),
        (b"index 1", b"index 01", "the proof does not begin with c2sp.org/tlog-proof@v1, extra and index"),
        (b"index 1", b"1", "the proof has no index, or a path that is too long"),
        (b"extra ZW50cnkgMQ==", b"extra ZW50cnkgMQ", "the extra data is not base64"),
        (b"c2sp.org/tlog-proof@v1\n", b"", "the proof does not begin with c2sp.org/tlog-proof@v1, extra and index"),
        (b"index 1\n", b"index 1\n" + b"A" * 43 + b"=\n", "the inclusion path is too long"),
        (b"index 1\n", b"index 7\n", "entry 7 is not in a log with 3 entries"),
    ],
)
def test_a_proof_that_is_not_written_so_is_refused(old: bytes, new: bytes, message: str) -> None:
    log = numbered(3)
    content = proof_bytes(log.inclusion(1)).replace(old, new, 1)
    with pytest.raises(NotProved, match=f"^{message}$"):
        Proof.read(content).check(log.keys)


def test_readers_of_pem_read_the_bundle_as_before(tmp_path: Path) -> None:
    made, file = bundled(with_key=True), tmp_path / "bundle.pem"
    file.write_bytes(made.pem)
    made.pem.decode("ascii")
    wanted = x509.load_pem_x509_certificates(made.packed)
    assert x509.load_pem_x509_certificates(made.pem) == wanted
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, password="secret")
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(cafile=str(file))
    assert len(trusting.get_ca_certs(binary_form=True)) == 1, "of the two, one is a CA's"
    shown = subprocess.run(["openssl", "x509", "-in", str(file), "-noout", "-subject"], capture_output=True, check=True)
    assert b"press-001" in shown.stdout
    subprocess.run(["openssl", "pkey", "-in", str(file), "-passin", "pass:secret", "-noout"], check=True)


def test_the_file_alone_verifies_a_bundle(tmp_path: Path) -> None:
    """As an auditor has it: a copy of one file, the bundle, and the log's key."""
    made = bundled()
    shutil.copy(Path(verify.__file__), tmp_path / "verify.py")
    (tmp_path / "bundle.pem").write_bytes(made.pem)
    (tmp_path / "log.key").write_text(f"{made.log.key}\n")
    command = [sys.executable, "-I", "verify.py", "bundle.pem", "--log-key", "log.key"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    serial = x509.load_pem_x509_certificates(made.packed)[0].serial_number
    assert ended.stdout == (
        f"proved: certificate {serial:040x} of 'press-001' was logged at 2026-03-01T12:00:00.000+00:00 for 'order-1'; it is "
        "entry 300 of the log 'example.com/log', whose checkpoint has 342 entries\n"
    )


def test_the_command_says_what_is_not_proved_and_what_can_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, bundle, key = bundled(), tmp_path / "bundle.pem", tmp_path / "log.key"
    key.write_text(str(made.log.key))
    bundle.write_bytes(made.packed)
    assert verify.main(["verify", str(bundle), "--log-key", str(key)]) == 1
    assert capsys.readouterr().err == (
        "not proved: the bundle has 2 certificates and 0 proofs; a bundle with a proof is needed\n"
    )
    assert verify.main([str(tmp_path / "none.pem"), "--log-key", str(key)]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none.pem'} can't be read: No such file or directory\n"


def test_as_many_witnesses_as_are_wanted_must_have_cosigned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, bundle, key = bundled(), tmp_path / "bundle.pem", tmp_path / "log.key"
    witnesses = tmp_path / "witnesses"
    witnesses.write_text("\nexample.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n")
    key.write_text(str(made.log.key))
    bundle.write_bytes(made.pem)
    given = [str(bundle), "--log-key", str(key), "--witness-keys", str(witnesses)]
    assert verify.main(given) == 0
    assert verify.main([*given, "--witnesses", "1"]) == 1
    assert capsys.readouterr().err == "not proved: 0 of the witnesses have cosigned the checkpoint, and 1 are needed\n"
