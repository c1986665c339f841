"""Ends what was asked for when it is true at the services, whatever became of the worker that was asked.

A request whose worker was killed is done when the services follow its act. Its message comes back after its lease, and
finds that. A call that failed when its act was decided does not come back. Its entry in the audit log says ``failed``,
or ``begun`` if its worker was killed, until the services follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.requests import ENDED, done
from shared.domain.upkeep import in_effect

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices, UnsettledRecord
    from shared.ledger.requests import Requests
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftRequests:
    """Requests and calls whose acts were left to others."""

    devices: Devices
    requests: Requests
    clock: Clock

    async def end(self, left: UnsettledRecord) -> None:
        """End the request that a note was written for, if its act was entered and the services follow.

        The note is written before the act is, and another act may have been entered in its place.
        """
        if left.request is None:
            return
        device = await self.devices.get(left.registration_id)
        if device is None or not device.record.settled or left.act not in device.record.acts:
            return
        await self.end_of(left.request)

    async def end_of(self, key: str) -> None:
        """End a request that others have brought about, by the key of its row; its message may be gone."""
        known = await self.requests.at(key)
        if known is None:
            return
        if known.record.state in ENDED:
            await self.requests.note(known.record)  # who ended it may have been killed before that was counted
            return
        await self.requests.brought_about(known.record)
        await self.requests.enter(known.record, done(self.clock()))

    async def write_down(self, record: DeviceRecord) -> None:
        """Have the audit log say which acts took effect, when the services follow a record."""
        await self.requests.took_effect(in_effect(record))
