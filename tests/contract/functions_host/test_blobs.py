"""Parts of a blob, read from real Azurite: as it was under one ETag, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure.storage.blob.aio import BlobServiceClient

from shared.adapters.blobs import Blobs

if TYPE_CHECKING:
    from devstack.stack import Stack


async def test_a_part_is_of_the_blob_as_it_was(cloud: Stack) -> None:
    """Every part comes under the ETag that was noted; once the blob is overwritten or deleted, none does."""
    endpoints = cloud.endpoints
    service = BlobServiceClient.from_connection_string(
        endpoints.storage_connection_string, connection_verify=endpoints.tls_ca_file
    )
    credential: Any = None
    blobs = Blobs(service.url, credential)
    await blobs.close()
    blobs._service = service  # noqa: SLF001 - the same client, that trusts Azurite's certificate
    try:
        await blobs.create_container("parts")
        name = "März/100% + x.csv"
        await blobs.put("parts", name, b"0123456789", content_type="text/csv")
        noted = await blobs.describe("parts", name)
        assert noted is not None
        assert noted.size == 10
        parts = [await blobs.part("parts", name, etag=noted.etag, start=at, length=4) for at in (0, 4)]
        last = await blobs.part("parts", name, etag=noted.etag, start=8, length=2)
        assert [*parts, last] == [b"0123", b"4567", b"89"]
        await blobs.put("parts", name, b"0123456789", content_type="text/csv")
        assert await blobs.part("parts", name, etag=noted.etag, start=0, length=4) is None
        await blobs.delete("parts", name)
        assert await blobs.part("parts", name, etag=noted.etag, start=0, length=4) is None
    finally:
        await blobs.close()
