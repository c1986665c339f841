"""PEM (RFC 7468) as people paste it: any line ends or none, indented, with text around, with a byte order mark.

What is not asked for is refused by its name, and nothing of it is repeated: it may be a private key.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass

from shared.errors import Rejected
from shared.reading.text import text_of, without_mark
from shared.redaction import has_private_key

CERTIFICATE_BEGIN = "-----BEGIN CERTIFICATE-----"
_BLOCK = re.compile(
    r"-----BEGIN ([A-Z0-9][A-Z0-9 #./+]{0,60})-----"
    r"(.*?)(?:-----END ([A-Z0-9 #./+]{0,60})-----|(?=-----BEGIN )|\Z)",
    re.DOTALL,
)
_HEADER = re.compile(r"\s*[A-Za-z][A-Za-z0-9\-]*: ")
_ESCAPED_LINE_END = re.compile(r"\\r\\n|\\r|\\n")
_CERTIFICATES = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
_PARAMETERS = frozenset({"EC PARAMETERS", "DH PARAMETERS", "DSA PARAMETERS", "X9.42 DH PARAMETERS"})
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")  # PKCS#7 (RFC 2315 section 14)

_KINDS = {
    "CERTIFICATE REQUEST": "a certificate signing request (CSR); give the certificate that was issued for it",
    "NEW CERTIFICATE REQUEST": "a certificate signing request (CSR); give the certificate that was issued for it",
    "PKCS7": "PKCS#7; make PEM certificates of it: openssl pkcs7 -in file.p7b -print_certs -out chain.pem",
    "CMS": "CMS; make PEM certificates of it: openssl pkcs7 -in file.p7b -print_certs -out chain.pem",
    "TRUSTED CERTIFICATE": "OpenSSL's own form, with trust settings; make a plain certificate of it, which begins with "
    f"'{CERTIFICATE_BEGIN}': openssl x509 -in file.pem -out plain.pem",
    "EC PARAMETERS": "the parameters of a curve, and neither key nor certificate; leave them out",
    "PUBLIC KEY": "a public key without a certificate",
    "RSA PUBLIC KEY": "a public key without a certificate",
    "X509 CRL": "a certificate revocation list; leave it out",
    "ATTRIBUTE CERTIFICATE": "an attribute certificate, which names no key",
    "SSH2 PUBLIC KEY": "a public key of SSH",
}


@dataclass(frozen=True, slots=True)
class Block:
    """One block.

    Attributes:
        label: between BEGIN and the dashes.
        content: what its base64 holds, DER as a rule.
        headers: lines such as ``Proc-Type: 4,ENCRYPTED``, before the base64 (RFC 1421 section 4.6).
    """

    label: str
    content: bytes
    headers: tuple[str, ...] = ()

    @property
    def is_private_key(self) -> bool:
        """Whether it says that it is one, encrypted or not."""
        return self.label.endswith("PRIVATE KEY")

    @property
    def pem(self) -> bytes:
        """The block as RFC 7468 section 2 has it."""
        text = binascii.b2a_base64(self.content, newline=False)
        lines = [text[start : start + 64] for start in range(0, len(text), 64)]
        head = [*(each.encode() for each in self.headers), b""] if self.headers else []
        label = self.label.encode()
        return b"\n".join((b"-----BEGIN " + label + b"-----", *head, *lines, b"-----END " + label + b"-----", b""))


def blocks(content: str | bytes, *, field: str) -> list[Block]:
    """Read all blocks of a PEM text, in their order; text around them counts for nothing.

    Raises:
        Rejected: a block has no end, or no base64; the message names the block by its number and label.
    """
    text = without_mark(content) if isinstance(content, str) else text_of(content, "the PEM", field=field)
    text = _ESCAPED_LINE_END.sub("\n", text)  # PEM that was put into JSON or an environment variable twice
    return [_block(number, *match.groups(), field=field) for number, match in enumerate(_BLOCK.finditer(text), start=1)]


def certificates(content: str | bytes, *, field: str, wanted: str = "certificates in PEM") -> list[bytes]:
    """Read certificates, as DER, in their order.

    Args:
        content: PEM, with nothing but certificates in it.
        field: path of the PEM in the request.
        wanted: what is asked for, for messages, as in ``the device's certificate in PEM``.

    Raises:
        Rejected: there are none, or there is something else: a private key, a CSR, PKCS#7, OpenSSL's TRUSTED
            CERTIFICATE, EC PARAMETERS; each is named.
    """
    found = blocks(content, field=field)
    if not found:
        raise Rejected.because(_no_block(content, wanted), field=field)
    for number, block in enumerate(found, start=1):
        if block.label not in _CERTIFICATES or _is_signed_data(block.content) or has_private_key(block.pem.decode()):
            raise Rejected.because(f"block {number} of the PEM is {kind_of(block)}", field=field)
    return [block.content for block in found]


def kind_of(block: Block) -> str:
    """Name what a block is that is not a certificate, and what to give instead."""
    if block.is_private_key or has_private_key(block.pem.decode()):
        return (
            f"a private key ({block.label}); give certificates only. A private key stays where it was made: one that "
            "was sent is no longer secret"
        )
    if _is_signed_data(block.content):
        return f"{_KINDS['PKCS7']}; its label says {block.label}" if block.label != "PKCS7" else _KINDS["PKCS7"]
    known = _KINDS.get(block.label) or (_KINDS["EC PARAMETERS"] if block.label in _PARAMETERS else None)
    if known is None:
        return f"{block.label}; a certificate begins with '{CERTIFICATE_BEGIN}'"
    return f"{block.label}: {known}" if block.label not in known else known


def without_parameters(found: list[Block]) -> list[Block]:
    """Leave out the parameters that OpenSSL writes before an EC key; the key names its curve itself."""
    return [block for block in found if block.label not in _PARAMETERS]


def _block(number: int, label: str, body: str, end: str | None, *, field: str) -> Block:
    if end is None:
        raise Rejected.because(f"block {number} of the PEM, {label}, has no '-----END {label}-----'", field=field)
    if end != label:
        raise Rejected.because(
            f"block {number} of the PEM begins as {label} and ends as {end}; both must be the same", field=field
        )
    headers: list[str] = []
    lines = body.strip().splitlines()
    while lines and _HEADER.match(lines[0]):
        headers.append(lines.pop(0).strip())
    try:
        return Block(label, b64decode("".join("".join(lines).split()), validate=True), tuple(headers))
    except ValueError:
        raise Rejected.because(
            f"block {number} of the PEM, {label}, can't be read: between its BEGIN and END there must be base64",
            field=field,
        ) from None


def _is_signed_data(content: bytes) -> bool:
    return _SIGNED_DATA in content[:24]


def _no_block(content: str | bytes, wanted: str) -> str:
    text = content if isinstance(content, str) else content.decode("latin-1")
    if has_private_key(text):
        return f"it holds a private key, and no {wanted}; a key that was sent is no longer secret"
    begin = f"a certificate in PEM begins with '{CERTIFICATE_BEGIN}'"
    try:
        der = b64decode("".join(text.split()), validate=True)
    except ValueError:
        return f"it holds no {wanted}: {begin}"
    if _is_signed_data(der):
        return f"it is PKCS#7 in base64, and not PEM: {_KINDS['PKCS7']}"
    if der[:1] == b"\x30":
        return f"it is DER in base64, and not PEM: {begin}, and ends with '-----END CERTIFICATE-----'"
    return f"it holds no {wanted}: {begin}"
