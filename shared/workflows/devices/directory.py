"""Devices, looked at and taken out of service; bundles, handed out."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.contracts.answers_devices import Device, DeviceCounts, MonthOfExpiry, ShownDoor
from shared.domain.listing import listing_of, shown
from shared.domain.words import DeviceState
from shared.errors import Conflict, Deferred, NotFound
from shared.evidence.notes import proof_pem
from shared.workflows.devices.changes import change, device_of
from shared.workflows.devices.finding import question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.devices import DeviceRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.changes import ChangeNotes
    from shared.ledger.devices import Devices
    from shared.ledger.directory import Directory
    from shared.settings import Settings
    from shared.workflows.devices.bundles import Bundle, Bundles
    from shared.workflows.devices.finding import DeviceFilters
    from shared.workflows.evidence.reading import LogReader
    from shared.workflows.intake.outbox import Clock

_OUT_OF_SERVICE = frozenset({DeviceState.REVOKED, DeviceState.DELETED, DeviceState.EXPIRED, DeviceState.FAILED})


_READS = 10
"""Reads of storage for a page at most: where few devices match, a page ends before it is full."""

_CHANGING = 5
"""So many devices that change are read themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOut:
    """A bundle on its way to its device.

    Attributes:
        content: PEM or PKCS#12.
        password_secret: URL of the vault secret with its password; ``None`` when it holds no key.
    """

    content: bytes
    serial_number: str
    password_secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDirectory:
    """What can be asked about devices."""

    devices: Devices
    changes: ChangeNotes
    certificates: Certificates
    directory: Directory
    bundles: Bundles
    settings: Settings
    clock: Clock
    log: LogReader | None

    async def describe(self, registration_id: str) -> Device:
        """Show a device.

        Raises:
            NotFound: it does not exist.
        """
        device = (await device_of(self.devices, registration_id)).record
        history = [entry.model_dump(by_alias=True) for entry in device.history]
        # Field by field: a later app may have written others.
        closed = [
            ShownDoor(door=each.door, where=each.where, since=each.since, checked_at=each.checked_at)
            for each in device.closed
        ]
        return Device.model_validate({**shown(device), "history": history, "closedDoors": closed})

    async def group_of(self, registration_id: str) -> str | None:
        """Give the enrollment group of a device; ``None`` if it has none, or does not exist."""
        return await self.devices.group_of(registration_id)

    async def page(
        self, filters: DeviceFilters, *, size: int, continuation: str | None
    ) -> tuple[Sequence[dict[str, Any]], str | None]:
        """List a page of the devices that match, without their histories.

        It is as the directory has them; while few devices change, these are as their records have them.

        Raises:
            Rejected: the continuation is of another list.
        """
        asked = question(filters)
        start = asked.start(continuation)
        changing = await self.changes.some(_CHANGING) or frozenset()
        known = [each for each in await asyncio.gather(*map(self.devices.get, changing)) if each]
        listings = [listing_of(each.record) for each in known]
        found, following = await self.directory.page(
            asked.partition, asked.conditions, size=size, start=start, reads=_READS - 1 - len(changing)
        )
        rows, following = asked.corrected(found, listings, size=size, start=start, following=following)
        return [json.loads(str(row["shown"])) for row in rows], asked.continuation(following)

    async def with_serial_number(self, serial_number: str) -> Sequence[dict[str, Any]]:
        """Find the device that has, or had, a certificate with a serial number; as its record has it."""
        known = await self.certificates.get(serial_number)
        return await self._listed(known.record.subject if known else None)

    async def with_thumbprint(self, thumbprint: str) -> Sequence[dict[str, Any]]:
        """Find the device that has, or had, a certificate with a thumbprint (SHA-1 or SHA-256)."""
        return await self._listed(await self.directory.by_thumbprint(thumbprint))

    async def _listed(self, registration_id: str | None) -> Sequence[dict[str, Any]]:
        known = await self.devices.get(registration_id) if registration_id else None
        return [shown(known.record)] if known else []

    async def counts(self, group: str | None = None) -> DeviceCounts:
        """Count the devices: by the state that they show, and by the month in which their certificate expires.

        Args:
            group: whose devices are meant; ``None`` for all.
        """
        counts = await self.directory.counts(group)
        return DeviceCounts(
            total=counts.states.total(),
            states={state: counts.states[state.value] for state in DeviceState},
            expiries=[MonthOfExpiry(month=month, devices=counts.months[month]) for month in sorted(counts.months)],
        )

    async def hand_out(self, registration_id: str, *, wanted: str, caller: str) -> HandedOut:
        """Hand out a device's bundle, with the proof that it was logged, and record that; see :meth:`Bundles.hand_out`.

        Args:
            registration_id: the device.
            wanted: ``pem`` or ``pfx``.
            caller: tells callers apart.

        Raises:
            NotFound: the device does not exist, or it has no bundle yet.
            Conflict: it is out of service.
            Deferred: the service still needs the key, to register the device.
            Gone: it was handed out before.
        """
        device = (await device_of(self.devices, registration_id)).record
        if device.state in _OUT_OF_SERVICE:
            raise Conflict.because(f"{registration_id!r} is {device.state}, so its bundle can't be handed out")
        if device.bundle is None:
            raise NotFound.because(f"{registration_id!r} has no bundle yet; its certificate is not issued")
        if device.state is DeviceState.ISSUED and not device.registers_itself:
            raise Deferred(
                f"{registration_id!r} is being registered; its bundle can be fetched when that is done",
                retry_after=timedelta(seconds=2),
            )
        bundle, content = await self.bundles.hand_out(device.bundle, wanted=wanted, caller=caller)
        # After that: if the log does not answer, the same caller asks again, and gets both.
        proof = await self._proof(bundle) if wanted == "pem" else b""
        await self._note(registration_id, f"bundle handed out as {wanted}")
        secret = bundle.password_secret
        return HandedOut(
            content=content + proof,
            serial_number=bundle.summary.serial_number,
            password_secret=f"{self.settings.key_vault_url}/secrets/{secret}" if secret else None,
        )

    async def _proof(self, bundle: Bundle) -> bytes:
        """Prove, in a PEM block, that a bundle's certificate was logged; nothing if no log is kept."""
        if bundle.log_index is None or self.log is None:
            return b""
        return proof_pem(await self.log.proof(bundle.log_index))

    async def confirm(self, registration_id: str, *, caller: str) -> None:
        """Have the key in a bundle deleted, since its caller has it; see :meth:`Bundles.confirm`."""
        device = (await device_of(self.devices, registration_id)).record
        if device.bundle is None:
            raise NotFound.because(f"{registration_id!r} has no bundle yet; its certificate is not issued")
        await self.bundles.confirm(device.bundle, caller=caller)
        await self._note(registration_id, "receipt of the bundle confirmed")

    async def _note(self, registration_id: str, note: str) -> None:
        """Add to the history, in whatever state the device is by then; the same call again adds nothing."""
        at = self.clock()

        def noted(record: DeviceRecord) -> DeviceRecord:
            last = record.history[-1].note if record.history else ""
            return record if last == note else record.noted(at, note)

        await change(self.devices, registration_id, noted, at=at)
