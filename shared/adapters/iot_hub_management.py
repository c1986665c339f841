"""An IoT hub as an Azure resource: its CA certificates and their proof of possession (api-version 2023-06-30).

A hub that knows a CA lets devices in by it that were registered in the hub as ``certificateAuthority``, by others than
DPS. What DPS registers, it registers by thumbprint.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from azure.mgmt.iothub.v2023_06_30.aio import IotHubClient
from azure.mgmt.iothub.v2023_06_30.models import (
    CertificateDescription,
    CertificateProperties,
    CertificateVerificationDescription,
)
from cryptography.hazmat.primitives.serialization import Encoding

from shared.adapters.ca_certificates import as_it_was_read, uploaded
from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import translated
from shared.errors import NotFound

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from cryptography import x509

    from shared.ports.ca_certificates import UploadedAuthority
    from shared.reading.settings import AzureResource


class IotHubAuthorities:
    """CA certificates of one hub."""

    def __init__(self, resource: AzureResource, credential: AsyncTokenCredential, resource_manager_url: str) -> None:
        self._group, self._hub = resource.resource_group, resource.name
        self._client = IotHubClient(
            credential,
            resource.subscription_id,
            base_url=resource_manager_url,
            credential_scopes=["https://management.azure.com/.default"],
            transport=ObservedTransport("resource_manager", "Azure Resource Manager", read_seconds=30),
        )

    @property
    def holder(self) -> str:
        """The hub, for messages."""
        return f"the IoT hub {self._hub!r}"

    async def get(self, name: str) -> UploadedAuthority | None:
        """Read the state of a CA certificate, ``None`` if it was not uploaded."""
        try:
            with translated(f"CA certificate {name!r} of {self.holder}"):
                return uploaded(await self._client.certificates.get(self._group, self._hub, name))
        except NotFound:
            return None

    async def held(self) -> dict[str, UploadedAuthority]:
        """Read the state of all CA certificates, by name."""
        with translated(f"CA certificates of {self.holder}"):
            answer = await self._client.certificates.list_by_iot_hub(self._group, self._hub)
        return {each.name or "": uploaded(each) for each in answer.value or []}

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        """Upload a CA certificate, not yet verified."""
        text = certificate.public_bytes(Encoding.PEM).decode("ascii")
        body = CertificateDescription(properties=CertificateProperties(certificate=text, is_verified=False))
        with translated(f"CA certificate {name!r} of {self.holder}"):
            return uploaded(await self._client.certificates.create_or_update(self._group, self._hub, name, body))

    async def verification_code(self, name: str, etag: str) -> tuple[str, str]:
        """Ask for a code that the CA has to put into the CN of a certificate.

        Returns:
            The code, and the new ETag.
        """
        with as_it_was_read(), translated(f"verification code for CA certificate {name!r} of {self.holder}"):
            answer = await self._client.certificates.generate_verification_code(self._group, self._hub, name, etag)
        properties: Any = answer.properties  # the SDK types what only the service sets as None
        code = properties.verification_code if properties else None
        if not code:
            raise RuntimeError(f"{self.holder} gave no verification code for CA certificate {name!r}")
        return str(code), answer.etag or ""

    async def verify(self, name: str, certificate: x509.Certificate, etag: str) -> UploadedAuthority:
        """Prove possession with a certificate whose CN is the code, signed by the CA."""
        body = CertificateVerificationDescription(certificate=certificate.public_bytes(Encoding.PEM).decode("ascii"))
        with as_it_was_read(), translated(f"proof of possession for CA certificate {name!r} of {self.holder}"):
            return uploaded(await self._client.certificates.verify(self._group, self._hub, name, etag, body))

    async def delete(self, name: str, etag: str) -> None:
        """Delete a CA certificate, as it was read; one that is not there is gone already.

        Raises:
            PreconditionFailed: it has changed since.
        """
        with suppress(NotFound), translated(f"CA certificate {name!r} of {self.holder}"):
            await self._client.certificates.delete(self._group, self._hub, name, etag)

    async def check(self) -> None:
        """Raise unless the service answers and lets this identity see its CA certificates."""
        await self.get("readiness-check")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
