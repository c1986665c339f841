"""The block blobs of a storage account, by managed identity.

"Did it exist, had it changed?" is answered with a value, as by :mod:`shared.adapters.tables`.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobBlock, ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from shared.adapters.observed import ObservedTransport
from shared.ports.blobs import BlobDescription, StoredBlob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from azure.core.credentials_async import AsyncTokenCredential

_BLOCK = 1024 * 1024
"""Bytes of a block; aiohttp warns of more."""


class Blobs:
    """The account's block blobs."""

    def __init__(self, url: str, credential: AsyncTokenCredential) -> None:
        self._service = BlobServiceClient(
            url, credential=credential, transport=ObservedTransport("blobs", "blob storage", read_seconds=30)
        )

    async def create(
        self, container: str, name: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        """Create a blob with If-None-Match: ``False`` if it exists."""
        client = self._service.get_blob_client(container, name)
        try:
            await client.upload_blob(
                content,
                metadata=dict(metadata),
                content_settings=ContentSettings(content_type=content_type),
                overwrite=False,
            )
        except ResourceExistsError:
            return False
        except HttpResponseError as error:
            # Of a container with an immutability policy ("Blob service error codes": 409).
            if error.error_code == "BlobImmutableDueToPolicy":  # type: ignore[attr-defined]  # storage sets it
                return False
            raise
        return True

    async def replace(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> bool:
        """Overwrite a blob as it was read (``blob.etag``); ``False`` if it has changed or gone since."""
        return await self.exchange(container, name, blob, content_type=content_type) is not None

    async def exchange(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> str | None:
        """Overwrite a blob as it was read, or create one where the ETag is empty, and give its new ETag.

        ``None`` if it has changed or gone since, or exists.
        """
        client = self._service.get_blob_client(container, name)
        guard: dict[str, Any] = {"etag": blob.etag, "match_condition": MatchConditions.IfNotModified}
        try:
            written = await client.upload_blob(
                blob.content,
                metadata=dict(blob.metadata),
                content_settings=ContentSettings(content_type=content_type),
                overwrite=bool(blob.etag),
                **(guard if blob.etag else {}),
            )
        except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
            return None
        return str(written["etag"])

    async def put(self, container: str, name: str, content: bytes, *, content_type: str) -> None:
        """Create or overwrite a blob."""
        client = self._service.get_blob_client(container, name)
        await client.upload_blob(content, overwrite=True, content_settings=ContentSettings(content_type=content_type))

    async def write(self, container: str, name: str, parts: AsyncIterator[bytes], *, content_type: str) -> None:
        """Create or overwrite a blob with what comes part by part: a block of 1 MiB is held, and sent when it is full.

        Of two writers at once, the one that is later may fail, since the other's blob takes the place of its blocks.
        """
        client = self._service.get_blob_client(container, name)
        settings = ContentSettings(content_type=content_type)
        blocks, writer, held = list[BlobBlock](), uuid.uuid4().hex, bytearray()
        async for part in parts:
            held += part
            while len(held) > _BLOCK:
                blocks.append(BlobBlock(f"{writer}-{len(blocks):05d}"))
                await client.stage_block(blocks[-1].id, bytes(held[:_BLOCK]))
                del held[:_BLOCK]
        if not blocks:
            await client.upload_blob(bytes(held), overwrite=True, content_settings=settings)
            return
        blocks.append(BlobBlock(f"{writer}-{len(blocks):05d}"))
        await client.stage_block(blocks[-1].id, bytes(held))
        await client.commit_block_list(blocks, content_settings=settings)

    async def get(self, container: str, name: str) -> StoredBlob | None:
        """Read a whole blob, ``None`` if it does not exist."""
        client = self._service.get_blob_client(container, name)
        try:
            stream = await client.download_blob()
        except ResourceNotFoundError:
            return None
        return StoredBlob(await stream.readall(), stream.properties.metadata or {}, stream.properties.etag)

    async def part(self, container: str, name: str, *, etag: str, start: int, length: int) -> bytes | None:
        """Read a part of a blob as it was when it had this ETag; ``None`` if it has changed or gone since."""
        client = self._service.get_blob_client(container, name)
        try:
            stream = await client.download_blob(start, length, etag=etag, match_condition=MatchConditions.IfNotModified)
            return await stream.readall()
        except (ResourceModifiedError, ResourceNotFoundError):
            return None

    async def names(self, container: str, prefix: str) -> list[str]:
        """List the names of blobs that begin with a prefix, in order."""
        client = self._service.get_container_client(container)
        return [name async for name in client.list_blob_names(name_starts_with=prefix)]

    async def page_of_names(
        self, container: str, *, size: int, continuation: str | None
    ) -> tuple[list[str], str | None]:
        """List one page of the names of all blobs, in order, and the continuation of the next page."""
        client = self._service.get_container_client(container)
        pages: Any = client.list_blob_names(results_per_page=size).by_page(continuation)
        return [name async for name in await anext(pages)], pages.continuation_token or None

    async def delete(self, container: str, name: str) -> None:
        """Delete a blob, if it exists."""
        try:
            await self._service.get_blob_client(container, name).delete_blob()
        except ResourceNotFoundError:
            return

    async def describe(self, container: str, name: str) -> BlobDescription | None:
        """Describe a blob without reading it, ``None`` if it does not exist."""
        client = self._service.get_blob_client(container, name)
        try:
            found = await client.get_blob_properties()
        except ResourceNotFoundError:
            return None
        return BlobDescription(int(found.size), found.metadata or {}, found.etag)

    async def create_container(self, name: str) -> None:
        """Create a container unless it exists."""
        try:
            await self._service.create_container(name)
        except ResourceExistsError:
            return

    async def check(self, *names: str) -> None:
        """Raise unless the service answers, has these containers, and lets this identity see them."""
        await asyncio.gather(*(self._service.get_container_client(name).get_container_properties() for name in names))

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()
