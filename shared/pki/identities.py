"""What makes a CA the same: its subject and its key, however many certificates it has (RFC 5280 section 3.2, 6.1).

Certificates for one subject and key, as after a renewal or a cross-certification, are verified by one list and one OCSP
responder: whoever checks a certificate finds its issuer by that name and key.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.pki import names

if TYPE_CHECKING:
    from cryptography import x509

    from shared.pki.signing_keys import PublicKey


def authority_identity(subject: x509.Name, key: PublicKey) -> str:
    """Name a CA by its subject and key: SHA-256 in hexadecimal.

    Subjects are compared as RFC 5280 section 7.1 asks: whatever string type they are written in, and without regard to
    case and to how many spaces there are.
    """
    written = [sorted(attributes) for attributes in names.folded(subject)]
    key_info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(json.dumps(written).encode() + key_info).hexdigest()
