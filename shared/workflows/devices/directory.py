"""Devices, looked at and taken out of service; bundles, handed out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.domain.words import DeviceState
from shared.errors import Conflict, Deferred, NotFound
from shared.workflows.devices.changes import change, device_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.settings import Settings
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.intake.outbox import Clock

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDirectory:
    """What can be asked about devices."""

    devices: Devices
    bundles: Bundles
    settings: Settings
    clock: Clock

    async def describe(self, registration_id: str) -> dict[str, Any]:
        """Show a device.

        Raises:
            NotFound: it does not exist.
        """
        return _described((await device_of(self.devices, registration_id)).record)

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

    async def hand_out(self, registration_id: str, *, wanted: str, caller: str) -> HandedOut:
        """Hand out a device's bundle, and record that; see :meth:`DeviceCertificates.hand_out`.

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
        await self._note(registration_id, f"bundle handed out as {wanted}")
        secret = bundle.password_secret
        return HandedOut(
            content=content,
            serial_number=bundle.summary.serial_number,
            password_secret=f"{self.settings.key_vault_url}/secrets/{secret}" if secret else None,
        )

    async def confirm(self, registration_id: str, *, caller: str) -> None:
        """Have the key in a bundle deleted, since its caller has it; see :meth:`DeviceCertificates.confirm`."""
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


def _described(device: DeviceRecord) -> dict[str, Any]:
    return {
        "registrationId": device.registration_id,
        "state": device.shown_state,
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
