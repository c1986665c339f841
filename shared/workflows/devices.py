"""Devices, looked at and taken out of service; bundles, handed out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.contracts import DeviceState
from shared.errors import Conflict, Deferred, NotFound
from shared.ledger.devices import HistoryEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.ledger.devices import DeviceRecord, Devices
    from shared.ledger.table import Versioned
    from shared.settings import Settings
    from shared.workflows.device_certificates import DeviceCertificates
    from shared.workflows.events import Clock
    from shared.workflows.revocations import Revocations

_OUT_OF_SERVICE = frozenset({DeviceState.REVOKED, DeviceState.DELETED, DeviceState.EXPIRED, DeviceState.FAILED})


@dataclass(frozen=True, slots=True)
class HandedOut:
    """A bundle on its way to its device.

    Attributes:
        content: PEM or PKCS#12.
        password_secret: URL of the vault secret with its password; ``None`` when it holds no key.
    """

    content: bytes
    serial_number: str
    password_secret: str | None


@dataclass(frozen=True, slots=True)
class DeviceDirectory:
    """What can be asked about devices."""

    devices: Devices
    device_certificates: DeviceCertificates
    revocations: Revocations
    settings: Settings
    clock: Clock

    async def describe(self, registration_id: str) -> dict[str, Any]:
        """Show a device.

        Raises:
            NotFound: there is none.
        """
        return _described((await self._known(registration_id)).record)

    async def page(
        self, *, enrollment_group: str | None, state: DeviceState | None, size: int, continuation: str | None
    ) -> tuple[Sequence[dict[str, Any]], str | None]:
        """List a page of devices, without their histories."""
        records, following = await self.devices.page(
            enrollment_group=enrollment_group, state=state, size=size, continuation=continuation
        )
        return [
            {name: value for name, value in _described(record).items() if name != "history"} for record in records
        ], following

    async def hand_out(self, registration_id: str, *, wanted: str) -> HandedOut:
        """Hand out a device's bundle, and record that.

        Args:
            registration_id: the device.
            wanted: ``pem`` or ``pfx``.

        Raises:
            NotFound: there is no such device, or it has no bundle yet.
            Conflict: it is out of service.
            Deferred: the service still needs the key, to register the device.
            Gone: it was handed out before.
        """
        known = await self._known(registration_id)
        device = known.record
        if device.state in _OUT_OF_SERVICE:
            raise Conflict.because(f"{registration_id!r} is {device.state}, so its bundle is not handed out")
        if device.bundle is None:
            raise NotFound.because(f"{registration_id!r} has no bundle yet; its certificate is not issued")
        if device.state is DeviceState.ISSUED and not device.registers_itself:
            raise Deferred(
                f"{registration_id!r} is being registered; its bundle can be had when that is done",
                retry_after=timedelta(seconds=2),
            )
        bundle, content = await self.device_certificates.hand_out(device.bundle, wanted=wanted)
        entry = HistoryEntry(at=self.clock(), state=device.state, note=f"bundle handed out as {wanted}")
        await self._note(known, entry)
        secret = bundle.password_secret
        return HandedOut(
            content=content,
            serial_number=bundle.summary.serial_number,
            password_secret=f"{self.settings.key_vault_url}/secrets/{secret}" if secret else None,
        )

    async def _note(self, known: Versioned[DeviceRecord], entry: HistoryEntry) -> None:
        """Add to the history; the device's state may have moved on meanwhile."""
        current: Versioned[DeviceRecord] | None = known
        while current is not None:
            noted = current.record.changed(history=(*current.record.history, entry))
            if await self.devices.replace(current, noted):
                return
            current = await self.devices.get(known.record.registration_id)

    async def delete(self, registration_id: str, *, cause: str) -> None:
        """Take a device out of service for good; see :meth:`Revocations.delete`."""
        await self.revocations.delete(registration_id, cause=cause)

    async def _known(self, registration_id: str) -> Versioned[DeviceRecord]:
        known = await self.devices.get(registration_id)
        if known is None:
            raise NotFound.because(f"there is no device {registration_id!r}", field="registrationId")
        return known


def _described(device: DeviceRecord) -> dict[str, Any]:
    return {
        "registrationId": device.registration_id,
        "state": device.state,
        "enrollmentGroup": device.enrollment_group,
        "orderId": device.order_id,
        "deviceId": device.device_id,
        "assignedHub": device.assigned_hub,
        "certificate": device.certificate.model_dump(by_alias=True) if device.certificate else None,
        "nextCertificate": device.next_certificate.model_dump(by_alias=True) if device.next_certificate else None,
        "reason": device.reason,
        "updatedAt": device.updated_at,
        "history": [entry.model_dump(by_alias=True) for entry in device.history],
    }
