"""Bundles of devices whose certificates are in a log, with their proofs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from shared.evidence.leaves import certificate_entry
from shared.evidence.notes import proof_pem
from shared.evidence.verify import chain_hash
from shared.pki import names
from shared.pki.bundles import pack
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.evidence.logs import Log, numbered


@dataclass(frozen=True)
class Bundled:
    """A bundle and its log.

    Attributes:
        pem: with the proof at its end.
        packed: without.
    """

    log: Log
    packed: bytes
    pem: bytes
    index: int


@cache
def bundled(*, with_key: bool = False, before: int = 300, after: int = 41) -> Bundled:
    """Make a bundle whose certificate was logged after so many entries, and has so many after it."""
    log, made = numbered(before), hierarchy()
    key = ec.derive_private_key(7, ec.SECP256R1())
    certificate, chain = made.device(key=key), made.issuing.sent_chain
    entry = certificate_entry(
        NOW,
        {
            "serialNumber": names.serial_text(certificate.serial_number),
            "tbs": sha256(certificate.tbs_certificate_bytes).hexdigest(),
            "issuer": "line-1-ca1",
            "kind": "device",
            "subject": "press-001",
            "cause": "order-1",
            "chain": chain_hash([each.public_bytes(Encoding.DER) for each in chain]),
            "actor": None,
        },
    )
    log.append(entry)
    for number in range(after):
        log.append(b"later %d" % number)
    pem = pack(
        certificate=certificate,
        chain=chain,
        friendly_name="press-001",
        key=key if with_key else None,
        password="secret" if with_key else None,
    ).pem
    return Bundled(log, pem, pem + proof_pem(log.inclusion(before)), before)
