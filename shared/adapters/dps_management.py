"""The DPS as an Azure resource: its CA certificates and their proof of possession (Azure Resource Manager)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

from azure.core import MatchConditions
from azure.mgmt.iothubprovisioningservices.aio import IotDpsClient
from azure.mgmt.iothubprovisioningservices.models import (
    CertificateProperties,
    CertificateResponse,
    VerificationCodeRequest,
)
from cryptography.hazmat.primitives.serialization import Encoding

from shared.adapters.ca_certificates import as_it_was_read, uploaded
from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import translated
from shared.errors import NotFound
from shared.ports.ca_certificates import VerifiedAuthority

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from cryptography import x509

    from shared.ports.ca_certificates import UploadedAuthority
    from shared.reading.settings import AzureResource


class ProvisioningServiceAuthorities:
    """CA certificates of one DPS. A device is accepted only under a CA that is verified here."""

    def __init__(self, resource: AzureResource, credential: AsyncTokenCredential, resource_manager_url: str) -> None:
        self._resource = resource
        self._client = IotDpsClient(
            credential,
            resource.subscription_id,
            base_url=resource_manager_url,
            credential_scopes=["https://management.azure.com/.default"],
            transport=ObservedTransport("resource_manager", "Azure Resource Manager", read_seconds=30),
        )

    @property
    def holder(self) -> str:
        """The DPS, for messages."""
        return "the DPS"

    async def get(self, name: str) -> UploadedAuthority | None:
        """Read the state of a CA certificate, ``None`` if it was not uploaded."""
        try:
            with translated(f"CA certificate {name!r} of the DPS"):
                return uploaded(
                    await self._client.dps_certificate.get(name, self._resource.resource_group, self._resource.name)
                )
        except NotFound:
            return None

    async def held(self) -> dict[str, UploadedAuthority]:
        """Read the state of all CA certificates, by name."""
        with translated("CA certificates of the DPS"):
            answer = await self._client.dps_certificate.list(self._resource.resource_group, self._resource.name)
        return {each.name or "": uploaded(each) for each in answer.value or []}

    async def verified(self) -> list[VerifiedAuthority]:
        """List the CA certificates that a device's chain may end at."""
        with translated("CA certificates of the DPS"):
            answer = await self._client.dps_certificate.list(self._resource.resource_group, self._resource.name)
        return [
            VerifiedAuthority(each.name or "", (held.thumbprint or "").upper(), held.certificate)
            for each in answer.value or []
            if (held := each.properties) and held.is_verified
        ]

    async def linked_hubs(self) -> tuple[str, ...]:
        """List the host names of the hubs that are linked to the DPS."""
        with translated("the DPS"):
            answer = await self._client.iot_dps_resource.get(self._resource.name, self._resource.resource_group)
        return tuple(hub.name for hub in answer.properties.iot_hubs or [] if hub.name)

    async def check_links(self) -> None:
        """Raise unless the linked hubs can be read."""
        await self.linked_hubs()

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        """Upload a CA certificate, not yet verified."""
        body = CertificateResponse(
            properties=CertificateProperties(certificate=certificate.public_bytes(Encoding.PEM), is_verified=False)
        )
        with translated(f"CA certificate {name!r} of the DPS"):
            return uploaded(
                await self._client.dps_certificate.create_or_update(
                    self._resource.resource_group, self._resource.name, name, body
                )
            )

    async def verification_code(self, name: str, etag: str) -> tuple[str, str]:
        """Ask for a code that the CA has to put into the CN of a certificate.

        Returns:
            The code, and the new ETag.
        """
        with as_it_was_read(), translated(f"verification code for CA certificate {name!r} of the DPS"):
            answer = await self._client.dps_certificate.generate_verification_code(
                name,
                self._resource.resource_group,
                self._resource.name,
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
            )
        properties = answer.properties
        if properties is None or not properties.verification_code:
            raise RuntimeError(f"the DPS gave no verification code for CA certificate {name!r}")
        return properties.verification_code, cast("str", answer.etag)

    async def verify(self, name: str, certificate: x509.Certificate, etag: str) -> UploadedAuthority:
        """Prove possession with a certificate whose CN is the code, signed by the CA."""
        request = VerificationCodeRequest(certificate=certificate.public_bytes(Encoding.PEM).decode("ascii"))
        with as_it_was_read(), translated(f"proof of possession for CA certificate {name!r} of the DPS"):
            return uploaded(
                await self._client.dps_certificate.verify_certificate(
                    name,
                    self._resource.resource_group,
                    self._resource.name,
                    request,
                    etag=etag,
                    match_condition=MatchConditions.IfNotModified,
                )
            )

    async def delete(self, name: str, etag: str) -> None:
        """Delete a CA certificate, as it was read; one that is not there is gone already.

        Raises:
            PreconditionFailed: it has changed since.
        """
        with suppress(NotFound), translated(f"CA certificate {name!r} of the DPS"):
            await self._client.dps_certificate.delete(
                self._resource.resource_group,
                self._resource.name,
                name,
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
            )

    async def check(self) -> None:
        """Raise unless the service answers and lets this identity see its CA certificates."""
        await self.get("readiness-check")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
