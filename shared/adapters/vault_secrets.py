"""Key Vault: passwords of bundles, as secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError
from azure.keyvault.secrets.aio import SecretClient

from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import throttling
from shared.adapters.vault import NAME, READ_SECONDS, SERVICE
from shared.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from azure.core.credentials_async import AsyncTokenCredential

    from shared.adapters.vault import Ownership

PAGE = 25
"""Secrets of a page at most (Azure/azure-rest-api-specs, specification/keyvault, ``GetSecrets``: ``maxresults``)."""


class VaultSecrets:
    """Passwords of bundles."""

    def __init__(
        self, url: str, credential: AsyncTokenCredential, ownership: Ownership, *, verify_challenge: bool
    ) -> None:
        self._ownership = ownership
        self._client = SecretClient(
            url,
            credential,
            verify_challenge_resource=verify_challenge,
            transport=ObservedTransport(SERVICE, NAME, read_seconds=READ_SECONDS),
        )

    async def put(self, name: str, value: str, *, tags: Mapping[str, str], ends: datetime) -> None:
        """Store a secret, as a new version if the name exists.

        ``ends`` is its ``exp``. It tells whoever looks at the vault, and the vault gives the secret all the same
        (Microsoft: "About Azure Key Vault secrets").

        Raises:
            Conflict: a secret of that name is there, and not the deployment's.
        """
        await self.get(name)  # a vault has no condition for a new version
        with throttling(f"vault secret {name!r}"):
            await self._client.set_secret(
                name, value, content_type="text/plain", expires_on=ends, tags={**tags, **self._ownership.tags}
            )

    async def get(self, name: str) -> str | None:
        """Read a secret's newest version, ``None`` if it does not exist.

        Raises:
            Conflict: it is not the deployment's.
        """
        try:
            with throttling(f"vault secret {name!r}"):
                present = await self._client.get_secret(name)
        except ResourceNotFoundError:
            return None
        self._ownership.check("secret", name, present.properties.tags)
        return present.value

    async def delete(self, name: str) -> None:
        """Delete a secret with all its versions; one that is not there, or not the deployment's, is left.

        The vault keeps what was deleted for as long as its owner has said, and only its owner can purge it.
        """
        try:
            if await self.get(name) is None:
                return
            with throttling(f"vault secret {name!r}"):
                await self._client.delete_secret(name)
        except (Conflict, ResourceNotFoundError):
            return  # another's; or deleted by another worker in between

    async def page(self, *, continuation: str | None) -> tuple[dict[str, Mapping[str, str]], str | None]:
        """List one page of the deployment's secrets with their tags, by name, and the continuation of the next page."""
        pages: Any = self._client.list_properties_of_secrets(max_page_size=PAGE).by_page(continuation)
        with throttling("the vault's secrets"):
            found = [each async for each in await anext(pages)]
        named = {each.name: each.tags or {} for each in found}
        return {name: tags for name, tags in named.items() if self._ownership.has(name, tags)}, pages.continuation_token

    async def check(self) -> None:
        """Raise unless the vault answers and lets this identity read secrets."""
        await self.get("readiness-check")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
