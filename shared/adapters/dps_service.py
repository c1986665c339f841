"""The DPS service API: enrollment groups, individual enrollments, registration states (api-version 2021-10-01)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from azure.iot.deviceprovisioning.aio import DeviceProvisioningClient

from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import translated
from shared.domain.attestations import admits_only, individual_enrollment
from shared.domain.entries import own_settings, settings_apart, with_own_settings
from shared.errors import Conflict, NotFound, PreconditionFailed, Rejected
from shared.rules.etags import ANY_VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence

    from azure.core.credentials_async import AsyncTokenCredential
    from cryptography import x509


class ProvisioningService:
    """A DPS, as its operator sees it. Bodies are the service's own JSON."""

    def __init__(self, url: str, credential: AsyncTokenCredential) -> None:
        self._client = DeviceProvisioningClient(url, credential, transport=ObservedTransport("dps", "the DPS"))

    async def get_group(self, group_id: str) -> dict[str, Any] | None:
        """Read an enrollment group, ``None`` if it does not exist."""
        return await _found(f"enrollment group {group_id!r}", self._client.enrollment_group.get(group_id))

    async def put_group(self, group: Mapping[str, Any], *, etag: str | None) -> dict[str, Any]:
        """Create a group (``etag`` is ``None``: there was none) or replace the one that has this ETag."""
        group_id = group["enrollmentGroupId"]
        with _as_it_was_read(etag), translated(f"enrollment group {group_id!r}"):
            return dict(await self._client.enrollment_group.create_or_update(group_id, dict(group), if_match=etag))

    async def delete_group(self, group_id: str, *, etag: str) -> None:
        """Delete a group that has this ETag, if it exists. Its devices stay in their hubs."""
        try:
            with translated(f"enrollment group {group_id!r}"):
                await self._client.enrollment_group.delete(group_id, if_match=etag)
        except NotFound:
            return

    async def list_groups(self) -> AsyncIterator[dict[str, Any]]:
        """List all enrollment groups."""
        with translated("the enrollment groups"):
            async for group in await self._client.enrollment_group.query({"query": "SELECT * FROM enrollmentGroups"}):
                yield dict(group)

    async def get_enrollment(self, registration_id: str) -> dict[str, Any] | None:
        """Read an individual enrollment, ``None`` if it does not exist."""
        return await _found(f"individual enrollment {registration_id!r}", self._client.enrollment.get(registration_id))

    async def shut_out(
        self, registration_id: str, certificate: x509.Certificate, *, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse one device of a group, by a disabled individual enrollment with its leaf certificate.

        DPS matches individual enrollments before groups, so this decides whatever the group says
        (Microsoft: "How to disenroll or revoke a device", section on one device of a group). It is written even if it
        is there already: whoever was about to let the device in has an outdated ETag then. A new one gets ``settings``.
        What DPS refuses of these, or of those that are there, such as a hub that is not linked any more, is left out.
        """
        try:
            await self._disable(registration_id, certificate, settings)
        except (Conflict, PreconditionFailed):
            raise
        except Rejected:
            await self._disable(registration_id, certificate, settings, bare=True)

    async def _disable(
        self,
        registration_id: str,
        certificate: x509.Certificate,
        settings: Mapping[str, Any] | None,
        *,
        bare: bool = False,
    ) -> None:
        """Write a disabled entry, whatever is there; a bare one has no settings but its device id."""
        present = await self.get_enrollment(registration_id)
        if bare:
            known = present or settings or {}
            settings = {"deviceId": known["deviceId"]} if known.get("deviceId") else None
        seen = None if bare else present
        disabled = individual_enrollment(registration_id, seen, "disabled", certificate, settings=settings)
        try:
            # What shuts out goes over whatever others write.
            await self.put_enrollment(disabled, etag=ANY_VERSION if present else None)
        except (Conflict, PreconditionFailed):
            # Made meanwhile: by somebody else, or by ourselves, when the answer got lost and the SDK tried again. Or
            # deleted meanwhile.
            again = ANY_VERSION if await self.get_enrollment(registration_id) else None
            await self.put_enrollment(disabled, etag=again)

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
        """Accept one device with these leaf certificates and no other, by an individual enrollment.

        Args:
            registration_id: the device.
            seen: its entry as it was read, ``None`` if it did not exist; another one stays as it is.
            certificates: one or two.
            enabled: whether the entry lets it in, or only names its certificates.
            settings: that a new entry gets.
            renewed: whether one that is there gets them as well, and no others.

        Returns:
            The entry as it was written; ``None`` if it was so already.

        Raises:
            Conflict, PreconditionFailed: it is not as it was seen any more.
        """
        as_wanted = seen is not None and (seen.get("provisioningStatus") != "disabled") == enabled
        if seen is not None and renewed:
            as_given = settings_apart(settings or {}, own_settings(dict(seen))) is None
            seen, as_wanted = with_own_settings(dict(seen), settings or {}), as_wanted and as_given
        if seen is not None and as_wanted and admits_only(seen, certificates):
            return None
        status = "enabled" if enabled else "disabled"
        entry = individual_enrollment(registration_id, seen, status, *certificates, settings=settings)
        return await self.put_enrollment(entry, etag=seen["etag"] if seen else None)

    async def put_enrollment(self, enrollment: Mapping[str, Any], *, etag: str | None) -> dict[str, Any]:
        """Create an individual enrollment (``etag`` is ``None``: there was none), or replace the one with this ETag."""
        registration_id = enrollment["registrationId"]
        with _as_it_was_read(etag), translated(f"individual enrollment {registration_id!r}"):
            return dict(
                await self._client.enrollment.create_or_update(registration_id, dict(enrollment), if_match=etag)
            )

    async def delete_enrollment(self, registration_id: str, *, etag: str) -> None:
        """Delete an individual enrollment that has this ETag, if it exists: the device belongs to its group again."""
        try:
            with translated(f"individual enrollment {registration_id!r}"):
                await self._client.enrollment.delete(registration_id, if_match=etag)
        except NotFound:
            return

    async def get_registration(self, registration_id: str) -> dict[str, Any] | None:
        """Read a registration record, ``None`` if the device never registered."""
        call = self._client.device_registration_state.get(registration_id)
        return await _found(f"registration {registration_id!r}", call)

    async def delete_registration(self, registration_id: str, *, etag: str | None = None) -> None:
        """Delete a registration record, if it exists; if an ETag is given, only one that has it.

        It takes If-Match (Azure/azure-rest-api-specs, deviceprovisioningservices, DeviceRegistrationState_Delete).

        Raises:
            PreconditionFailed: it has another one: the device has registered since.
        """
        try:
            with translated(f"registration {registration_id!r}"):
                await self._client.device_registration_state.delete(registration_id, if_match=etag)
        except NotFound:
            return

    async def page_of_enrollments(
        self, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """List one page of all individual enrollments, and the continuation of the next page."""
        with translated("the individual enrollments"):
            found = await self._client.enrollment.query({"query": "SELECT * FROM enrollments"}, top=size)
            return await _first_page(found.by_page(continuation))

    async def page_of_registrations(
        self, group_id: str, *, size: int, continuation: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """List one page of a group's registration records, and the continuation of the next page.

        A group that the DPS does not have, such as another DPS, has none.

        Raises:
            Rejected: the continuation is not valid, or DPS does not know it.
        """
        if continuation is not None and not (continuation.isascii() and continuation.isprintable()):
            # It goes into a header, where this would be another one.
            raise Rejected.because(
                f"{continuation[:100]!r} is not a valid continuation; give the one of the previous page, unchanged",
                field="continuationToken",
            )
        try:
            with translated(f"registrations of enrollment group {group_id!r}"):
                found = await self._client.device_registration_state.query(group_id, top=size)
                return await _first_page(found.by_page(continuation))
        except NotFound:
            return [], None

    async def check(self) -> None:
        """Raise unless the service answers and lets this identity in."""
        await self.get_enrollment("readiness-check")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


@contextmanager
def _as_it_was_read(etag: str | None) -> Iterator[None]:
    """Say of an entry that was to be replaced and is gone that it has changed: a service may answer 404 as well as 412.

    Raises:
        PreconditionFailed: it is gone.
    """
    try:
        yield
    except NotFound as gone:
        if etag is None:
            raise
        raise PreconditionFailed(*gone.reasons) from gone


async def _first_page(pages: Any) -> tuple[list[dict[str, Any]], str | None]:
    async for page in pages:
        return [dict(item) async for item in page], pages.continuation_token or None
    return [], None


async def _found(what: str, call: Awaitable[Any]) -> dict[str, Any] | None:
    """Give what a call reads, ``None`` if it is not there."""
    try:
        with translated(what):
            return dict(await call)
    except NotFound:
        return None
