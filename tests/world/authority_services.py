"""Services that want possession of CAs' keys proved, in memory; each call is a step.

``tests/contract/in_memory/test_ca_certificates.py`` holds them against the app's adapters over the emulator.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from shared.domain.authority_audit import UploadedCertificate
from shared.errors import PreconditionFailed, Rejected
from shared.pki import names
from shared.ports.ca_certificates import UploadedAuthority, VerifiedAuthority
from shared.workflows.status.revocation_lists import CRLS
from tests.world.services import HUB
from tests.world.storage import Blobs

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from shared.ports.blobs import StoredBlob
    from tests.world.conductor import Conductor


@dataclass
class Computing:
    """Runs what computes: nobody outside sees it, so it is not a step."""

    signed: Counter[str]

    async def run(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        made = call(*args, **named)
        if isinstance(made, x509.Certificate):
            self.signed[names.serial_text(made.serial_number)] += 1
        return made


@dataclass
class Sent:
    """Queues that remember what was sent."""

    conductor: Conductor
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def send(self, queue: str, text: str, *, delay: Any = None) -> None:
        del delay
        async with self.conductor.step(f"send {queue}"):
            self.conductor.trace.note("sent", changed=True)
            self.sent.append((queue, json.loads(text)))


@dataclass(frozen=True)
class Place:
    """One CA certificate as a service has it; a new code makes the one before void."""

    certificate: x509.Certificate
    etag: str
    code: str = ""
    verified: bool = False


@dataclass
class CaPlaces:
    """The CA certificates of a DPS or a hub, under ETags.

    Microsoft: Azure IoT Hub Device Provisioning Service REST API, DPS Certificate: an ETag is required to update a
    certificate that is there. Whether a certificate that is verified stays so while another code is asked for, no
    source says: here it does not, which asks more of the app; in the emulator it does.
    """

    conductor: Conductor
    holder: str
    places: dict[str, Place] = field(default_factory=dict)
    limit: int = 25
    writes: int = 0

    def _next(self) -> str:
        self.writes += 1
        return f"c{self.writes}"

    def _shown(self, name: str) -> UploadedAuthority:
        place = self.places[name]
        return UploadedAuthority(
            verified=place.verified, etag=place.etag, thumbprint=names.thumbprint(place.certificate)
        )

    async def get(self, name: str) -> UploadedAuthority | None:
        async with self.conductor.step(f"{self.holder}.get", self.holder):
            return self._shown(name) if name in self.places else None

    async def check(self) -> None:
        pass

    async def held(self) -> Mapping[str, UploadedAuthority]:
        async with self.conductor.step(f"{self.holder}.held", self.holder):
            return {name: self._shown(name) for name in self.places}

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        async with self.conductor.step(f"{self.holder}.upload", self.holder):
            if name in self.places:
                raise PreconditionFailed.because(f"{name!r} is there; an update wants its ETag")
            if name not in self.places and len(self.places) >= self.limit:
                raise Rejected.because(f"{self.holder} has no place left for {name!r}")
            self.places[name] = Place(certificate, self._next())
            return self._shown(name)

    def _check(self, name: str, etag: str) -> Place:
        place = self.places.get(name)
        if place is None or place.etag != etag:
            raise PreconditionFailed.because(f"{name!r} has another ETag")
        return place

    async def verification_code(self, name: str, etag: str) -> tuple[str, str]:
        async with self.conductor.step(f"{self.holder}.verification_code", self.holder):
            place, new = self._check(name, etag), self._next()
            self.places[name] = replace(place, etag=new, code=f"CODE-{new}", verified=False)
            return f"CODE-{new}", new

    async def verify(self, name: str, certificate: x509.Certificate, etag: str) -> UploadedAuthority:
        async with self.conductor.step(f"{self.holder}.verify", self.holder):
            place = self._check(name, etag)
            if names.common_name(certificate.subject) != place.code:
                raise Rejected.because("the certificate's CN is not the code")
            try:
                certificate.verify_directly_issued_by(place.certificate)
            except (ValueError, TypeError, InvalidSignature):
                raise Rejected.because("the certificate is not signed by this CA") from None
            self.places[name] = replace(place, etag=self._next(), verified=True)
            return self._shown(name)

    async def delete(self, name: str, etag: str) -> None:
        async with self.conductor.step(f"{self.holder}.delete", self.holder):
            if name in self.places:
                self._check(name, etag)
                del self.places[name]
                self.writes += 1

    def shown(self, name: str) -> UploadedCertificate | None:
        """Give what is held under a name, for the audit."""
        place = self.places.get(name)
        return UploadedCertificate(names.thumbprint(place.certificate), place.verified) if place else None


@dataclass
class DpsPlaces(CaPlaces):
    """The CA certificates of a DPS, which shows those that are verified; and its hubs."""

    linked: tuple[str, ...] = (HUB,)

    async def verified(self) -> list[VerifiedAuthority]:
        return [
            VerifiedAuthority(name, self._shown(name).thumbprint, place.certificate.public_bytes(Encoding.PEM))
            for name, place in self.places.items()
            if place.verified
        ]

    async def linked_hubs(self) -> tuple[str, ...]:
        return self.linked


@dataclass
class PublishedBlobs(Blobs):
    """Blobs that remember every list that was ever there."""

    lists: tuple[tuple[str, bytes], ...] = ()

    def _store(self, container: str, name: str, content: bytes, metadata: Mapping[str, str], content_type: str) -> None:
        super()._store(container, name, content, metadata, content_type)
        if name.endswith(".crl"):
            self.lists = (*self.lists, (name, content))

    def newest(self, name: str) -> StoredBlob | None:
        return self.blobs.get((CRLS, f"{name}.crl"))
