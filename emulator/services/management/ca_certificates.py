"""The CA certificates of a DPS or an IoT hub: uploaded, and used once possession of their key is proved.

Rules: Microsoft, "How to verify X.509 CA certificates with your Device Provisioning Service", and the same for IoT hubs
("Tutorial: Create and upload certificates for testing").
"""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding

from emulator.platform.certificates import read_certificate
from emulator.protocols.path_validation import ChainRefused, check_life, common_names, is_signed
from emulator.services.management import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from emulator.platform.context import Context

LIMIT = 25


class CaCertificates:
    """All CA certificates of one service; a record has name, certificate (PEM), isVerified, created, updated, etag."""

    def __init__(self, context: Context, store_kind: str) -> None:
        self._context = context
        self._store = context.store
        self._kind = store_kind
        self._verified: dict[str, x509.Certificate] | None = None

    def _now(self) -> str:
        return self._context.clock().isoformat()

    @property
    def verified(self) -> Mapping[str, x509.Certificate]:
        """By name, those whose key's possession was proved: what a device's chain may end at."""
        if self._verified is None:
            self._verified = {
                name: read_certificate(body["certificate"])
                for name, body in self._store.scan(self._kind)
                if body["isVerified"]
            }
        return self._verified

    def list(self) -> list[dict[str, Any]]:
        """List them by name."""
        return [body for _, body in self._store.scan(self._kind)]

    def get(self, name: str) -> dict[str, Any]:
        """Read one.

        Raises:
            WireError: 404.
        """
        found = self._store.get(self._kind, name)
        if found is None:
            raise errors.not_found(f"The certificate {name!r}")
        return found

    def put(self, name: str, text: str, if_match: str | None, *, verified: bool) -> tuple[dict[str, Any], bool]:
        """Upload one; whether it was not there before is given with it.

        Raises:
            WireError: 400 if it is not a certificate, or there are 25; 412.
        """
        present = self._store.get(self._kind, name)
        if present is not None and not _matches(if_match, present):
            raise errors.precondition_failed()
        if present is None and self._store.count(self._kind) >= LIMIT:
            raise errors.bad_request(f"The service has {LIMIT} CA certificates, and takes no more.")
        certificate = _read(text, "certificate")
        record = {
            "name": name,
            "certificate": certificate.public_bytes(Encoding.PEM).decode(),
            "isVerified": verified,
            "created": self._now(),
            "updated": self._now(),
        }
        return self._write(record), present is None

    def delete(self, name: str, if_match: str | None) -> bool:
        """Delete one; gives whether it was there.

        Raises:
            WireError: 412.
        """
        present = self._store.get(self._kind, name)
        if present is None:
            return False
        if not _matches(if_match, present):
            raise errors.precondition_failed()
        self._store.delete(self._kind, name)
        self._verified = None
        return True

    def verification_code(self, name: str, if_match: str | None) -> dict[str, Any]:
        """Draw a code that the CA has to sign.

        Raises:
            WireError: 404, 412.
        """
        return self._write({**self._present(name, if_match), "verificationCode": secrets.token_hex(24).upper()})

    def verify(self, name: str, text: str, if_match: str | None) -> dict[str, Any]:
        """Take the proof of possession: a certificate whose CN is the code, signed by the CA.

        Raises:
            WireError: 400 if it proves nothing; 404, 412.
        """
        present = self._present(name, if_match)
        proof = _read(text, "verification certificate")
        if not present.get("verificationCode") or common_names(proof) != [present["verificationCode"]]:
            raise errors.bad_request("The CN of the verification certificate is not the verification code.")
        if not is_signed(proof, read_certificate(present["certificate"])):
            raise errors.bad_request("The verification certificate is not signed by this CA.")
        try:
            check_life(proof, self._context.clock())
        except ChainRefused:
            raise errors.bad_request("The verification certificate is expired or not yet valid.") from None
        return self._write({**present, "isVerified": True, "updated": self._now()})

    def _present(self, name: str, if_match: str | None) -> dict[str, Any]:
        present = self.get(name)
        if not _matches(if_match, present):
            raise errors.precondition_failed()
        return present

    def _write(self, record: Mapping[str, Any]) -> dict[str, Any]:
        written = {**record, "etag": uuid.uuid4().hex}
        self._store.put(self._kind, written["name"], written)
        self._verified = None
        return written


def _read(text: str, what: str) -> x509.Certificate:
    try:
        return read_certificate(text)
    except ValueError as error:
        raise errors.bad_request(f"The {what} can't be read: {error}.") from None


def _matches(if_match: str | None, present: Mapping[str, Any]) -> bool:
    """Tell whether a change may take place: without If-Match it may not.

    It "is required to update an existing certificate, and ignored while creating a brand new certificate", and required
    of deleting, of verification codes and of verifying (Azure/azure-rest-api-specs, both services).
    """
    return if_match is not None and (if_match == "*" or if_match.strip('"') == present["etag"].strip('"'))
