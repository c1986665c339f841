"""Notes, checkpoints and keys, against the examples of their specifications and another implementation."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint as OtherCheckpoint

from shared.evidence.notes import signature_line
from shared.evidence.verify import COSIGNATURE, Checkpoint, LogKeys, Note, NotProved, VerifierKey
from tests.unit.evidence.logs import ORIGIN, numbered
from tests.unit.evidence.test_trees import vectors

# C2SP signed-note, "Example".
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH"
    "3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# ECDSA keys of two logs (github.com/transparency-dev/formats, note/note_verifier_test.go).
ECDSA_KEYS = [
    "rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=",
    "pixel6_transparency_log+91c16e30+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN+4x0Jk1yTwvLFI9A4NDdGZcX0aiWVdWM5XJVy0M4VWD3AvyW5Q6Hs9A0mcDkpUoYgn+KKPNzFC0H3nN3q6JQ8=",
]
# C2SP tlog-cosignature: a checkpoint, its log's signature, and that of a witness.
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)


def test_the_example_of_the_specification_is_verified_by_its_key() -> None:
    note = Note.read(EXAMPLE.encode())
    assert note.text == "This is an example message.\n"
    assert [key.name for key in note.signers([VerifierKey.read(EXAMPLE_KEY)])] == ["example.com/foo"]


def test_notes_of_go_are_verified_by_their_key() -> None:
    key = VerifierKey.read(vectors()["Key"])
    texts = ["one line\n", "two\n\nparts\n", "example.com/log\n5\nfKo0Xb2JKmZFTWxlEuo8PqPw0+whvj/C4jdXBf049nI=\n"]
    found = [Note.read(note.encode()) for note in vectors()["Notes"]]
    assert [note.text for note in found] == texts
    assert [note.signers([key]) for note in found] == [[key]] * 3


@pytest.mark.parametrize("text", [EXAMPLE_KEY, *ECDSA_KEYS])
def test_a_key_reads_and_is_written_as_others_write_it(text: str) -> None:
    assert str(VerifierKey.read(text + "\n")) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("example.com/foo", r"^'example.com/foo' is not a verifier key: name\+id\+key is needed$"),
        (EXAMPLE_KEY.replace("530d", "530e"), r"^the key of 'example.com/foo' has the id '530e903a', and 530d903a is right$"),
        ("foo+12345678+!", r"^the key is not base64$"),
        ("a b+12345678+AQ==", r"^'a b' can't name a key: it is empty, or has a space or a plus sign$"),
        ("foo+3a30b78d+A+kyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", r"^the key of 'foo' has the id "),
        (str(VerifierKey.of("foo", 3, bytes(32))), r"^the verifier key of 'foo' is of type 0x03; 0x01, 0x02 and 0x04 are known$"),
        (str(VerifierKey.of("foo", 1, bytes(31))), r"^the verifier key of 'foo' can't be read: "),
        (str(VerifierKey.of("foo", 2, bytes(31))), r"^the verifier key of 'foo' can't be read: "),
    ],
)  # fmt: skip
def test_a_key_that_is_not_one_is_refused_with_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(NotProved, match=message):
        VerifierKey.read(text)


def test_a_checkpoint_has_origin_size_and_root() -> None:
    found = Checkpoint.read(Note.read(COSIGNED.encode()).text)
    assert (found.origin, found.tree.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert found.tree.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"


@pytest.mark.parametrize(
    "text",
    ["", "origin\n", "origin\n5\n", "\n5\nfKo0Xb2JKmZFTWxlEuo8PqPw0+whvj/C4jdXBf049nI=\n", "o\n05\nfKo0Xb2JKmZFTWxlEuo8PqPw0+whvj/C4jdXBf049nI=\n"],
)  # fmt: skip
def test_a_checkpoint_without_its_three_lines_is_refused(text: str) -> None:
    with pytest.raises(NotProved, match=r"^the checkpoint does not begin with three lines: origin, size and root$"):
        Checkpoint.read(text)


def test_a_root_that_is_not_a_hash_is_refused() -> None:
    for root, message in (("AAAA", "a hash has 3 bytes, and 32 are needed"), ("%", "a hash is not base64")):
        with pytest.raises(NotProved, match=message):
            Checkpoint.read(f"o\n5\n{root}\n")


def test_another_implementation_reads_a_checkpoint_of_ours() -> None:
    log = numbered(300)
    other = OtherCheckpoint.from_text(log.checkpoint().decode())
    assert (other.origin, other.size, other.root_hash) == (ORIGIN, 300, log.head.tree.root)
    key = Vkey.from_string(str(log.key))
    assert (key.name, key.sig_type) == (ORIGIN, 2)
    assert [key.match(signature) for signature in other.signatures] == [True]


def _witness(name: str = "witness.example/w1") -> tuple[Ed25519PrivateKey, VerifierKey]:
    secret = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
    return secret, VerifierKey.of(name, COSIGNATURE, secret.public_key().public_bytes_raw())


def _cosigned(checkpoint: bytes, time: int = 1_679_315_147) -> bytes:
    """Cosign a checkpoint as a witness does (C2SP tlog-cosignature, "Ed25519 signed message")."""
    secret, key = _witness()
    text = checkpoint[: checkpoint.index(b"\n\n") + 1]
    message = b"cosignature/v1\ntime " + str(time).encode() + b"\n" + text
    return checkpoint + signature_line(key, time.to_bytes(8) + secret.sign(message)).encode()


def test_a_cosignature_is_that_of_its_witness() -> None:
    log, (_, witness) = numbered(3), _witness()
    cosigned = _cosigned(log.checkpoint())
    assert Checkpoint.opened(cosigned, log.keys, [witness], needed=1).witnesses == ("witness.example/w1",)
    other = OtherCheckpoint.from_text(cosigned.decode())
    Vkey.from_string(str(witness)).get_verifier().verify(other.signatures[1].payload, other)


def test_a_cosignature_of_an_unknown_witness_is_ignored_and_a_wrong_one_is_not() -> None:
    log, (_, witness), (_, stranger) = numbered(3), _witness(), _witness("witness.example/w2")
    cosigned = _cosigned(log.checkpoint())
    assert Checkpoint.opened(cosigned, log.keys, [stranger]).witnesses == ()
    with pytest.raises(NotProved, match=r"^0 of the witnesses have cosigned the checkpoint, and 1 are needed$"):
        Checkpoint.opened(cosigned, log.keys, [stranger], needed=1)
    *lines, last = cosigned.decode().splitlines()
    spoiled = bytearray(base64.b64decode(last.split(" ")[2]))
    spoiled[11] ^= 1  # the last byte of the time
    forged = "\n".join((*lines, f"\u2014 witness.example/w1 {base64.b64encode(spoiled).decode()}", ""))
    with pytest.raises(NotProved, match=r"^the signature of 'witness.example/w1' does not fit the note$"):
        Checkpoint.opened(forged.encode(), log.keys, [witness])


def test_a_checkpoint_of_another_key_or_another_log_is_refused() -> None:
    log = numbered(3)
    other = VerifierKey.read(ECDSA_KEYS[0])
    with pytest.raises(
        NotProved, match=r"^the checkpoint is not signed by 'rekor.sigstore.dev' with the key c0d23d6a$"
    ):
        Checkpoint.opened(log.checkpoint(), LogKeys({other: None}))
    key = VerifierKey.read(vectors()["Key"])
    with pytest.raises(NotProved, match=r"^the checkpoint does not begin with three lines"):
        Checkpoint.opened(vectors()["Notes"][0].encode(), LogKeys({key: None}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "the note is not UTF-8"),
        (EXAMPLE.replace(" an ", "\t").encode(), "the note has control characters"),
        (EXAMPLE[:-1].encode(), "the note has no signatures, or does not end with a line end"),
        (b"text\n", "the note has no signatures, or does not end with a line end"),
        (EXAMPLE.replace("\u2014", "-").encode(), "the note has a line among its signatures that is not a signature"),
        (b"text\n\n\xe2\x80\x94 name AAAAAA==\n", "the note has a line among its signatures that is not a signature"),
        (b"text\n\n\xe2\x80\x94 name AAAAAB==\n", "a signature is not base64"),
        (b"text\n\n" + b"\xe2\x80\x94 n AAAAAAA=\n" * 101, "the note has more than 100 signatures"),
    ],
)
def test_what_is_not_a_note_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(NotProved, match=f"^{message}$"):
        Note.read(content)
