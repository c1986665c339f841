"""Checks, offline, that a bundle's certificate was logged: ``python verify.py bundle.pem --log-key log.key``.

This file can be copied and used alone: it needs Python 3.13 and ``cryptography``, and nothing else of this project.
Sources: RFC 9162 section 2.1; C2SP signed-note, tlog-checkpoint, tlog-cosignature and tlog-proof (https://c2sp.org).
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ED25519, ECDSA, COSIGNATURE = 0x01, 0x02, 0x04
"""Types of signatures (C2SP signed-note, "Signature types"). ECDSA is over SHA-256; 0x04 is a witness's."""

PROOF_LABEL, PROOF_LINE = "TLOG PROOF", "c2sp.org/tlog-proof@v1"
"""Label of the PEM block that holds a proof, so that the bundle stays ASCII; and its first line."""

_HASH_SIZE, _KEY_ID_SIZE, _TIMESTAMP_SIZE = 32, 4, 8
_SIGNATURES_LIMIT, _PATH_LIMIT = 100, 63
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\n([A-Za-z0-9+/=\n]+)-----END \1-----\n")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_NAME = re.compile(r"[^\s+]+")
_KEY_LINE = re.compile(r"(\S+)(?: until (0|[1-9][0-9]{0,18}))?")


class NotProved(ValueError):
    """Something is not what it is said to be, or can't be read. All that reads here raises it."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry as a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees together."""
    return sha256(b"\x01" + left + right).digest()


def check_inclusion(leaf: bytes, index: int, path: Sequence[bytes], tree: Tree) -> None:
    """See that the hash of a leaf leads, with the hashes beside its way, to the root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < tree.size:
        raise NotProved(f"entry {index} is not in a log with {tree.size} entries")
    place, last, found = index, tree.size - 1, leaf
    for each in path:
        if last == 0:
            raise NotProved("the inclusion path is too long")
        if place & 1 or place == last:
            found = node_hash(each, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, each)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise NotProved("the inclusion path is too short")
    if found != tree.root:
        raise NotProved("the inclusion path does not lead from the entry to the checkpoint's root")


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree: how many leaves it has, and its root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key that verifies notes: its name, 4 bytes that tell the name's keys apart, type, and the key.

    The id of an ECDSA key is the beginning of the SHA-256 of its SubjectPublicKeyInfo in DER, which is its material
    (github.com/transparency-dev/formats, note/note_verifier.go); Ed25519 has its 32 bytes.
    """

    name: str
    key_id: bytes
    kind: int
    material: bytes

    @classmethod
    def of(cls, name: str, kind: int, material: bytes) -> VerifierKey:
        """Give the key of a name, with its id."""
        if not _NAME.fullmatch(name):
            raise NotProved(f"{name!r} can't name a key: it is empty, or has a space or a plus sign")
        identified = material if kind == ECDSA else name.encode() + b"\n" + bytes([kind]) + material
        return cls(name, sha256(identified).digest()[:_KEY_ID_SIZE], kind, material)

    @classmethod
    def read(cls, text: str) -> VerifierKey:
        """Read a key as it is written: name, id and key, joined by plus signs."""
        parts = text.strip().split("+", 2)
        if len(parts) != 3:  # noqa: PLR2004 - name, id, key
            raise NotProved(f"{text.strip()[:80]!r} is not a verifier key: name+id+key is needed")
        content = read_base64(parts[2], "the key")
        found = cls.of(parts[0], content[0] if content else 0, content[1:])
        if found.key_id.hex() != parts[1]:
            raise NotProved(f"the key of {found.name!r} has the id {parts[1]!r}, and {found.key_id.hex()} is right")
        found.public_key()
        return found

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.material).decode()}"

    def public_key(self) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
        """Give the key."""
        try:
            if self.kind in {ED25519, COSIGNATURE}:
                return ed25519.Ed25519PublicKey.from_public_bytes(self.material)
            loaded = load_der_public_key(self.material) if self.kind == ECDSA else None
        except (ValueError, UnsupportedAlgorithm) as error:
            raise NotProved(f"the verifier key of {self.name!r} can't be read: {error}") from None
        if not isinstance(loaded, ec.EllipticCurvePublicKey):
            raise NotProved(
                f"the verifier key of {self.name!r} is of type {self.kind:#04x}; 0x01, 0x02 and 0x04 are known"
            )
        return loaded

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Tell whether a signature is this key's, of a note's text."""
        if self.kind == COSIGNATURE:
            time = int.from_bytes(signature[:_TIMESTAMP_SIZE])
            text, signature = f"cosignature/v1\ntime {time}\n".encode() + text, signature[_TIMESTAMP_SIZE:]
        key = self.public_key()
        with suppress(InvalidSignature):
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, text)
            else:
                key.verify(signature, text, ec.ECDSA(SHA256()))
            return True
        return False


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys of a log, and up to how many entries each has signed; ``None`` of one that still signs."""

    ends: dict[VerifierKey, int | None]

    @classmethod
    def read(cls, text: str) -> LogKeys:
        """Read keys, a line each; behind one that has ended stand ``until`` and a number of entries."""
        lines = [_KEY_LINE.fullmatch(line) for line in map(str.strip, text.splitlines()) if line]
        ends = {VerifierKey.read(line[1]): int(line[2]) if line[2] else None for line in lines if line}
        if None in lines or len({key.name for key in ends}) != 1:
            raise NotProved("keys of one log are needed, a line each, as /api/log/key gives them")
        return cls(ends)

    def check(self, note: Note, size: int) -> None:
        """See that one of them has signed a checkpoint of so many entries."""
        if not (signers := note.signers(self.ends)):
            wanted = " or ".join(f"{key.name!r} with the key {key.key_id.hex()}" for key in self.ends)
            raise NotProved(f"the checkpoint is not signed by {wanted}")
        if all((end := self.ends[key]) is not None and size > end for key in signers):
            raise NotProved(f"the checkpoint has {size} entries, and the key that has signed it ended before")


@dataclass(frozen=True, slots=True)
class Note:
    """A text, and signatures of it: name, key id and signature of each."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def read(cls, content: bytes) -> Note:
        """Read a note, whose signatures are not verified by that."""
        try:
            whole = content.decode()
        except UnicodeDecodeError:
            raise NotProved("the note is not UTF-8") from None
        if any(character < " " and character != "\n" for character in whole):
            raise NotProved("the note has control characters")
        text, found, lines = whole.rpartition("\n\n")
        if not found or not lines.endswith("\n"):
            raise NotProved("the note has no signatures, or does not end with a line end")
        split = lines[:-1].split("\n")
        if len(split) > _SIGNATURES_LIMIT:
            raise NotProved(f"the note has more than {_SIGNATURES_LIMIT} signatures")
        return cls(text + "\n", tuple(map(_signature, split)))

    def signers(self, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
        """Give those of some keys that have signed; signatures of others are ignored."""
        found = dict[VerifierKey, None]()
        for key in keys:
            for name, key_id, signature in self.signatures:
                if (name, key_id) != (key.name, key.key_id):
                    continue
                if not key.verifies(self.text.encode(), signature):
                    raise NotProved(f"the signature of {name!r} does not fit the note")
                found[key] = None
        return list(found)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log, which its origin names, has signed of itself; and the names of witnesses who have cosigned."""

    origin: str
    tree: Tree
    witnesses: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        """Read the text of a checkpoint's note."""
        lines = text.split("\n")
        origin, size, root = lines[:3] if len(lines) > 3 else ("", "", "")  # noqa: PLR2004 - three, and an empty one
        if not origin or not _NUMBER.fullmatch(size) or "" in lines[3:-1]:
            raise NotProved("the checkpoint does not begin with three lines: origin, size and root")
        return cls(origin, Tree(int(size), read_hash(root)))

    @classmethod
    def opened(
        cls, content: bytes, log: LogKeys, witnesses: Iterable[VerifierKey] = (), *, needed: int = 0
    ) -> Checkpoint:
        """Read the note of a checkpoint that the log has signed, and as many witnesses as are needed."""
        note = Note.read(content)
        found = cls.read(note.text)
        log.check(note, found.tree.size)
        if (name := next(iter(log.ends)).name) != found.origin:
            raise NotProved(f"the checkpoint is of the log {found.origin!r}, and the key is that of {name!r}")
        cosigned = tuple(key.name for key in note.signers(witnesses))
        if len(cosigned) < needed:
            raise NotProved(f"{len(cosigned)} of the witnesses have cosigned the checkpoint, and {needed} are needed")
        return cls(found.origin, found.tree, cosigned)


@dataclass(frozen=True, slots=True)
class Proof:
    """What proves that an entry, which it carries as its extra data, is in a log: its place, its path, and the note."""

    entry: bytes
    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    @classmethod
    def read(cls, content: bytes) -> Proof:
        """Read a proof."""
        head, found, checkpoint = content.partition(b"\n\n")
        try:
            first, extra, index, *path = head.decode("ascii").split("\n")
        except ValueError:
            raise NotProved("the proof does not have the lines of one (c2sp.org/tlog-proof)") from None
        numbered = index.removeprefix("index ")
        if first != PROOF_LINE or not found or not extra.startswith("extra ") or not _NUMBER.fullmatch(numbered):
            raise NotProved(f"the proof does not begin with {PROOF_LINE}, extra and index")
        if numbered == index or len(path) > _PATH_LIMIT:
            raise NotProved("the proof has no index, or a path that is too long")
        entry = read_base64(extra.removeprefix("extra "), "the extra data")
        return cls(entry, int(numbered), tuple(map(read_hash, path)), checkpoint)

    def check(self, log: LogKeys, witnesses: Iterable[VerifierKey] = (), *, needed: int = 0) -> Checkpoint:
        """See that the entry is in the log."""
        checkpoint = Checkpoint.opened(self.checkpoint, log, witnesses, needed=needed)
        check_inclusion(leaf_hash(self.entry), self.index, self.path, checkpoint.tree)
        return checkpoint


def chain_hash(chain: Iterable[bytes]) -> str:
    """Hash the CAs above a certificate, in DER and in the order in which they are sent; hexadecimal."""
    return sha256(b"".join(chain)).hexdigest()


def verify_bundle(
    pem: bytes, log: LogKeys, witnesses: Sequence[VerifierKey] = (), *, needed: int = 0
) -> tuple[x509.Certificate, Proof, Checkpoint]:
    """See that the certificate of a bundle, with the CAs above it, was logged. A private key in it is not looked at."""
    blocks = list(_blocks(pem))
    chain = [content for label, content in blocks if label == "CERTIFICATE"]
    proofs = [content for label, content in blocks if label == PROOF_LABEL]
    if not chain or len(proofs) != 1:
        raise NotProved(
            f"the bundle has {len(chain)} certificates and {len(proofs)} proofs; a bundle with a proof is needed"
        )
    certificate, *above = map(_certificate, chain)
    proof = Proof.read(proofs[0])
    checkpoint = proof.check(log, witnesses, needed=needed)
    try:
        entry = json.loads(proof.entry)
        logged = {name: str(entry[name]) for name in ("type", "serialNumber", "tbs", "chain")}
    except (ValueError, TypeError, KeyError):
        raise NotProved("the entry of the log is not one about a device's certificate") from None
    present = {
        "type": "certificate",
        "serialNumber": f"{certificate.serial_number:040x}",
        "tbs": sha256(certificate.tbs_certificate_bytes).hexdigest(),
        "chain": chain_hash(chain[1:]),
    }
    for name, value in present.items():
        if logged[name] != value:
            raise NotProved(f"the entry of the log has {name} {logged[name]}, and the bundle {value}")
    for issued, issuer in zip((certificate, *above), above, strict=False):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise NotProved("a certificate of the bundle is not signed by the next one") from None
    return certificate, proof, checkpoint


def _blocks(pem: bytes) -> Iterator[tuple[str, bytes]]:
    for match in _BLOCK.finditer(pem.replace(b"\r\n", b"\n")):
        label = match[1].decode()
        content = read_base64(match[2].replace(b"\n", b"").decode(), f"the block {label!r}")
        if label in {"CERTIFICATE", PROOF_LABEL} and match[0] != pem_block(label, content):
            raise NotProved(f"the block {label!r} is not written as it was")
        yield label, content


def pem_block(label: str, content: bytes) -> bytes:
    """Write a PEM block (RFC 7468)."""
    text = base64.b64encode(content).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


def _certificate(content: bytes) -> x509.Certificate:
    try:
        with warnings.catch_warnings(action="error"):
            return x509.load_der_x509_certificate(content)
    except Exception as error:  # noqa: BLE001 - whatever the parser does not like, a device's certificate does not have
        raise NotProved(f"a certificate of the bundle can't be read: {error}") from None


def _signature(line: str) -> tuple[str, bytes, bytes]:
    mark, name, text = line.split(" ", 2) if line.count(" ") == 2 else ("", "", "")  # noqa: PLR2004
    content = read_base64(text, "a signature")
    if mark != "\u2014" or not _NAME.fullmatch(name) or len(content) <= _KEY_ID_SIZE:
        raise NotProved("the note has a line among its signatures that is not a signature")
    return name, content[:_KEY_ID_SIZE], content[_KEY_ID_SIZE:]


def read_hash(text: str) -> bytes:
    """Read a hash in base64."""
    if len(content := read_base64(text, "a hash")) != _HASH_SIZE:
        raise NotProved(f"a hash has {len(content)} bytes, and 32 are needed")
    return content


def read_base64(text: str, what: str) -> bytes:
    """Decode base64 that is written in the one way there is."""
    with suppress(ValueError):
        content = base64.b64decode(text, validate=True)
        if base64.b64encode(content).decode() == text:
            return content
    raise NotProved(f"{what} is not base64")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a bundle: 0 if it is proved, 1 if it is not, 2 if a file can't be read."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description="Checks that a bundle's certificate is in the log.")
    parser.add_argument("bundle", type=Path, help="the PEM file")
    parser.add_argument("--log-key", type=Path, required=True, help="file with its keys, as /api/log/key gives them")
    parser.add_argument("--witness-keys", type=Path, help="file with keys of witnesses, a line each")
    parser.add_argument("--witnesses", type=int, default=0, help="how many of them must have cosigned")
    options = parser.parse_args(given[1:] if given[:1] == ["verify"] else given)
    try:
        bundle, log = options.bundle.read_bytes(), LogKeys.read(options.log_key.read_text())
        keys = options.witness_keys.read_text().split() if options.witness_keys else []
        witnesses = list(map(VerifierKey.read, keys))
        certificate, proof, checkpoint = verify_bundle(bundle, log, witnesses, needed=options.witnesses)
    except OSError as error:
        sys.stderr.write(f"{error.filename} can't be read: {error.strerror}\n")
        return 2
    except NotProved as error:
        sys.stderr.write(f"not proved: {error}\n")
        return 1
    entry = json.loads(proof.entry)
    cosigned = f", cosigned by {', '.join(checkpoint.witnesses)}" if checkpoint.witnesses else ""
    sys.stdout.write(
        f"proved: certificate {certificate.serial_number:040x} of {entry.get('subject')!r} was logged at "
        f"{entry.get('at')} for {entry.get('cause')!r}; it is entry {proof.index} of the log {checkpoint.origin!r}, "
        f"whose checkpoint has {checkpoint.tree.size} entries{cosigned}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
