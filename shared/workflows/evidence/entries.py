"""Makes entries of certificates and lists, with who asked for them."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from shared import acting
from shared.evidence.leaves import CertificateLeaf, ListLeaf, certificate_entry, list_entry
from shared.evidence.verify import chain_hash

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cryptography import x509

    from shared.domain.certificates import CertificateRecord
    from shared.pki.issuance import Prepared


def entry_of_certificate(
    row: CertificateRecord, prepared: Prepared, at: datetime, *, chain: Iterable[x509.Certificate] = ()
) -> bytes:
    """Write the entry about a certificate whose serial number is recorded, and which is about to be signed.

    Args:
        row: of the serial number.
        prepared: what will be signed.
        at: the present time.
        chain: of a device's: the CAs that are sent with it.
    """
    actor = acting.actor()
    leaf: CertificateLeaf = {
        "serialNumber": row.serial_number,
        "tbs": prepared.digest,
        "issuer": row.issuer,
        "kind": str(row.kind),
        "subject": row.subject,
        "cause": row.cause,
        "chain": chain_hash(each.public_bytes(Encoding.DER) for each in chain),
        "actor": actor.label if actor else None,
    }
    return certificate_entry(at, leaf)


def entry_of_list(issuer: str, number: int, crl: bytes, at: datetime) -> bytes:
    """Write the entry about a CRL that is signed, and about to be published."""
    leaf: ListLeaf = {"issuer": issuer, "number": number, "sha256": sha256(crl).hexdigest()}
    return list_entry(at, leaf)
