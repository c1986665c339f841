"""CA certificates at a service that wants possession of their keys proved: a DPS, or an IoT hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509


@dataclass(frozen=True, slots=True)
class UploadedAuthority:
    """A CA certificate as a service holds it.

    Attributes:
        verified: whether possession of its key was proved.
        etag: guards the next step.
        thumbprint: SHA-1, upper-case hexadecimal.
    """

    verified: bool
    etag: str
    thumbprint: str


@dataclass(frozen=True, slots=True)
class VerifiedAuthority:
    """A CA certificate whose key's possession was proved to the DPS.

    Attributes:
        name: under which ``caReferences`` name it.
        thumbprint: SHA-1, upper-case hexadecimal.
        certificate: DER or PEM, where the service gives it.
    """

    name: str
    thumbprint: str
    certificate: bytes | None


class CaCertificates(Protocol):
    """The CA certificates of one service."""

    @property
    def holder(self) -> str:
        """The service, for messages."""
        ...

    async def get(self, name: str) -> UploadedAuthority | None:
        """Read the state of a CA certificate, ``None`` if it was not uploaded."""
        ...

    async def check(self) -> None:
        """Raise unless the service answers and lets the app see its CA certificates."""
        ...

    async def held(self) -> Mapping[str, UploadedAuthority]:
        """Read the state of all CA certificates, by name."""
        ...

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        """Upload a CA certificate, not yet verified."""
        ...

    async def verification_code(self, name: str, etag: str) -> tuple[str, str]:
        """Ask for a code that the CA has to put into the CN of a certificate.

        Returns:
            The code, and the new ETag.

        Raises:
            PreconditionFailed: it has changed or gone since it was read.
        """
        ...

    async def verify(self, name: str, certificate: x509.Certificate, etag: str) -> UploadedAuthority:
        """Prove possession with a certificate whose CN is the code, signed by the CA.

        Raises:
            PreconditionFailed: it has changed or gone since the code was given.
            Rejected: it proves nothing.
        """
        ...

    async def delete(self, name: str, etag: str) -> None:
        """Delete a CA certificate, as it was read; one that is not there is gone already.

        Raises:
            PreconditionFailed: it has changed since.
        """
        ...


class DpsCaCertificates(CaCertificates, Protocol):
    """The CA certificates of a DPS, and which hubs are linked to it."""

    async def verified(self) -> list[VerifiedAuthority]:
        """List the CA certificates that a device's chain may end at."""
        ...

    async def linked_hubs(self) -> tuple[str, ...]:
        """List the host names of the hubs that are linked to the DPS."""
        ...
