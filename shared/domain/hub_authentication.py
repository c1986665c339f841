"""How an identity in a hub authenticates, as its ``authentication.type`` says.

The types are those of ``AuthenticationMechanism`` and of ``Twin`` in azure-iot-hub, and of "Query - Get Twins" in
Microsoft's REST reference (api-version 2021-04-12). A query of ``devices`` shows it as ``authenticationType``. DPS
makes ``selfSigned`` of every X.509 attestation, also by a group (MicrosoftDocs/azure-docs issues 70976 and 108289,
Azure/azure-iot-sdk-csharp issue 3360). So does the app.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from shared.ports.hubs import HubIdentity

SELF_SIGNED: Final = "selfSigned"
"""By the thumbprints of its certificates, whoever has signed them."""

SAS: Final = "sas"
CERTIFICATE_AUTHORITY: Final = "certificateAuthority"
NONE: Final = "none"

_LETS_IN: Final = {
    SELF_SIGNED: "whoever has a certificate of its thumbprints",
    SAS: "whoever has one of its symmetric keys",
    CERTIFICATE_AUTHORITY: "whoever has a certificate with its id from a CA that the hub has verified",
    NONE: "nobody",
}


def lets_in(authentication: str) -> str:
    """Say whom an identity of a type lets in."""
    return _LETS_IN.get(authentication, f"whoever authenticates by {authentication!r}")


def nobodys(registration_id: str) -> str:
    """Give a thumbprint that no certificate has: an identity that has it alone lets nobody in.

    It is what SHA-256 gives of a text that is not a certificate: the same each time, so that it is known again. A hub
    takes 64 hexadecimal digits, and never sees what they are the hash of (MicrosoftDocs/azure-docs,
    ``iot-edge-generate-device-identity-certs``: "Thumbprint values").
    """
    return sha256(f"nobody comes as {registration_id}".encode()).hexdigest().upper()


def takes_only(identity: HubIdentity, thumbprints: Collection[str]) -> bool:
    """Tell whether an identity lets in no other certificates than these, and nobody by anything else."""
    return identity.authentication == SELF_SIGNED and identity.thumbprints <= frozenset(thumbprints)
