"""Writes notes: checkpoints, their signatures, and what proves an entry."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.evidence.verify import ECDSA, PROOF_LABEL, PROOF_LINE, VerifierKey, pem_block

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from shared.evidence.verify import Proof, Tree


def ecdsa_key(name: str, public_key: ec.EllipticCurvePublicKey) -> VerifierKey:
    """Give the key of a log that signs with ECDSA (type 0x02)."""
    return VerifierKey.of(name, ECDSA, public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def checkpoint_text(origin: str, tree: Tree) -> str:
    """Write what a checkpoint says (C2SP tlog-checkpoint, "Note text")."""
    return f"{origin}\n{tree.size}\n{base64.b64encode(tree.root).decode()}\n"


def signature_line(key: VerifierKey, signature: bytes) -> str:
    """Write a signature of a note (C2SP signed-note, "Signatures")."""
    return f"\u2014 {key.name} {base64.b64encode(key.key_id + signature).decode()}\n"


def signed_note(text: str, *lines: str) -> bytes:
    """Put a text and the lines of its signatures together."""
    return "\n".join((text, "".join(lines))).encode()


def proof_bytes(proof: Proof) -> bytes:
    """Write a proof (C2SP tlog-proof, "Format")."""
    lines = [PROOF_LINE, f"extra {base64.b64encode(proof.entry).decode()}", f"index {proof.index}"]
    lines += [base64.b64encode(each).decode() for each in proof.path]
    return "\n".join(lines).encode() + b"\n\n" + proof.checkpoint


def proof_pem(proof: Proof) -> bytes:
    """Write a proof as a PEM block (RFC 7468)."""
    return pem_block(PROOF_LABEL, proof_bytes(proof))
