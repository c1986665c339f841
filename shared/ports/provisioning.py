"""The service side of DPS, as workflows need it: enrollment groups, individual enrollments, registration records.

Bodies are the service's own JSON. Reading what does not exist gives ``None``; writing raises
:class:`~shared.errors.Conflict` for what exists already, and :class:`~shared.errors.PreconditionFailed` for what has
changed since it was read.

Whoever writes or deletes an entry names the ETag of the one that was judged. An entry that is deleted may let a device
in by its group, as one that is enabled does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from cryptography import x509


class ProvisioningService(Protocol):
    """A DPS, as its operator sees it."""

    async def get_group(self, group_id: str) -> dict[str, Any] | None:
        """Read an enrollment group."""
        ...

    async def put_group(self, group: Mapping[str, Any], *, etag: str | None) -> dict[str, Any]:
        """Create a group (``etag`` is ``None``: there was none) or replace the one that has this ETag."""
        ...

    async def delete_group(self, group_id: str, *, etag: str) -> None:
        """Delete a group that has this ETag, if it exists. Its devices stay in their hubs."""
        ...

    def list_groups(self) -> AsyncIterator[dict[str, Any]]:
        """List all enrollment groups."""
        ...

    async def page_of_enrollments(
        self, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """List one page of all individual enrollments, and the continuation of the next page."""
        ...

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        """Read an individual enrollment."""
        ...

    async def shut_out(
        self, registration_id: str, certificate: x509.Certificate, *, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse one device of a group, by a disabled individual enrollment, whatever others write."""
        ...

    async def admit_only(
        self,
        registration_id: str,
        seen: Mapping[str, Any] | None,
        certificates: Sequence[x509.Certificate],
        *,
        enabled: bool = True,
        settings: Mapping[str, Any] | None = None,
        renewed: bool = False,
    ) -> dict[str, Any] | None:
        """Accept one device with these leaf certificates and no other, if its entry is as it was seen.

        Gives the entry as it was written; ``None`` if it was so already.

        A new entry gets the settings, and one that is there if they are to be ``renewed``.
        """
        ...

    async def put_enrollment(self, enrollment: Mapping[str, Any], *, etag: str | None) -> dict[str, Any]:
        """Create an individual enrollment (``etag`` is ``None``: there was none), or replace the one with this ETag."""
        ...

    async def delete_enrollment(self, registration_id: str, *, etag: str) -> None:
        """Delete an individual enrollment that has this ETag, if it exists: the device belongs to its group again."""
        ...

    async def get_registration(self, registration_id: str) -> dict[str, Any] | None:
        """Read a registration record."""
        ...

    async def delete_registration(self, registration_id: str, *, etag: str | None = None) -> None:
        """Delete a registration record, if it exists; if an ETag is given, only one that has it.

        Raises:
            PreconditionFailed: it has another one: the device has registered since.
        """
        ...

    async def page_of_registrations(
        self, group_id: str, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """List one page of a group's registration records, and the continuation of the next page.

        A group that the DPS does not have has none.
        """
        ...
