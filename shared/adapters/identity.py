"""The one credential of the app: its managed identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential

from shared.adapters.breakers import Breaker
from shared.adapters.observed import ObservedRequests, ObservedTransport

_SERVICE, _NAME = "identity", "the managed identity endpoint"


@dataclass(frozen=True, slots=True)
class Identity:
    """The managed identity, for asynchronous clients and for those that exist in a synchronous form only.

    Attributes:
        asynchronous: credential for ``aio`` clients.
        synchronous: credential for azure-iot-hub, and for CA keys, whose ``sign`` is called by cryptography.
    """

    asynchronous: AsyncManagedIdentityCredential
    synchronous: ManagedIdentityCredential

    @classmethod
    def managed(cls, client_id: str | None) -> Self:
        """Use the system-assigned identity, or the user-assigned one with ``client_id``."""
        return cls(
            AsyncManagedIdentityCredential(client_id=client_id, transport=ObservedTransport(_SERVICE, _NAME)),
            ManagedIdentityCredential(
                client_id=client_id, transport=ObservedRequests(_SERVICE, Breaker(_NAME, _SERVICE))
            ),
        )

    async def close(self) -> None:
        """Close the connections to the identity endpoint."""
        await self.asynchronous.close()
        self.synchronous.close()
