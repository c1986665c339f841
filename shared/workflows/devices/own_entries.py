"""Writes the individual enrollments that devices of groups have, with the settings of their groups."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import AttestationKind, attestation_of
from shared.domain.devices import Doors
from shared.domain.entries import own_settings, settings_apart
from shared.domain.given_settings import UNKNOWN, Given, given, outdated
from shared.domain.wanted import wanted
from shared.errors import Conflict, PreconditionFailed, Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from shared.domain.devices import DeviceRecord
    from shared.domain.wanted import Wanted
    from shared.ledger.groups import Groups
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.intake.outbox import Clock


@dataclass(slots=True, kw_only=True)
class Made:
    """An entry that a worker has made where there was none: nothing told it whether that is still wanted.

    Attributes:
        etag: of it; ``None`` if the worker has made none.
    """

    etag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEntries:
    """Lets devices in by entries of their own."""

    provisioning: ProvisioningService
    groups: Groups
    clock: Clock

    async def given(self, record: DeviceRecord) -> Given:
        """Give what the entry of a device is to have beside certificates and status."""
        group = await self.groups.get(record.enrollment_group) if record.enrollment_group else None
        return given(record, group.record if group else None)

    async def shut(self, record: DeviceRecord, leaf: x509.Certificate) -> Given | None:
        """Have DPS keep a device out by its entry, whatever others write; a new one has what its group has.

        Returns:
            That; ``None`` if it could not be read.
        """
        try:
            wants = await self.given(record)
        except Exception:  # noqa: BLE001 - a door is shut whatever the ledger answers: it needs no settings
            wants = None
        settings = wants.settings if wants is not None else record.entry_settings
        await self.provisioning.shut_out(record.registration_id, leaf, settings=settings)
        return wants

    async def followed_by(self, record: DeviceRecord, entry: dict[str, Any], wants: Given | None) -> str | None:
        """Tell which settings of its group the entry of a device has; ``None`` if it has others.

        Args:
            record: of the device.
            entry: as DPS has it.
            wants: what its group has; ``None`` if that is still to be read.
        """
        wants = wants or await self.given(record)
        return wants.digest if settings_apart(wants.settings or {}, own_settings(entry)) is None else None

    async def open(
        self,
        record: DeviceRecord,
        want: Wanted,
        entry: dict[str, Any] | None,
        leaves: Sequence[x509.Certificate],
        made: Made,
    ) -> str | None:
        """Have DPS let a device in with the certificates that it uses, if its entry is as it was seen.

        Args:
            record: of the device.
            want: what it wants of DPS.
            entry: as it was seen before the record was read.
            leaves: the certificates that it uses.
            made: is told of an entry that is made.

        Returns:
            Which settings of its group the entry has now; ``None`` if it has none, or has others.

        Raises:
            Conflict, PreconditionFailed: the entry is not as it was seen any more.
        """
        if want.own_entry:
            # One that somebody else has disabled stays so.
            as_it_is = entry is None or record.doors is Doors.SHUT or entry.get("provisioningStatus") != "disabled"
            return await self._admit(record, entry, leaves, made, enabled=as_it_is and not want.entry_disabled)
        if entry is None:
            return None  # its group decides
        if entry.get("provisioningStatus") == "disabled":
            if record.doors is not Doors.SHUT or want.entry_disabled:
                return record.entry_follows
            await self.provisioning.delete_enrollment(record.registration_id, etag=entry["etag"])
            return None
        if want.in_use and attestation_of(entry).kind is AttestationKind.CLIENT_CERTIFICATES:
            return await self._admit(record, entry, leaves, made, enabled=True)
        return record.entry_follows

    async def take_back(self, record: DeviceRecord, made: Made) -> None:
        """Delete an entry that was made too late: the device is to have none any more.

        Args:
            record: of the device, read after the entry was made.
            made: the entry.
        """
        if made.etag is None or record.shut_out or wanted(record, self.clock()).own_entry:
            return
        with suppress(PreconditionFailed):  # whoever has written it since has seen it
            await self.provisioning.delete_enrollment(record.registration_id, etag=made.etag)
        made.etag = None

    async def _admit(
        self,
        record: DeviceRecord,
        entry: dict[str, Any] | None,
        leaves: Sequence[x509.Certificate],
        made: Made,
        *,
        enabled: bool,
    ) -> str | None:
        wants, name = await self.given(record), record.registration_id
        renewed = entry is None or outdated(record, wants, self.clock())
        try:
            written = await self.provisioning.admit_only(
                name, entry, leaves, enabled=enabled, settings=wants.settings, renewed=renewed
            )
        except (Conflict, PreconditionFailed):
            raise
        except Rejected:
            if not (renewed and wants.follows):
                raise
            # DPS does not take them: a hub may be linked no more. What keeps a certificate out comes first.
            written = await self.provisioning.admit_only(
                name, entry, leaves, enabled=enabled, settings=record.entry_settings
            )
            renewed, wants = entry is None, UNKNOWN
        if written is not None and (entry is None or entry["etag"] == made.etag):
            made.etag = written["etag"]
        return wants.digest if renewed else record.entry_follows
