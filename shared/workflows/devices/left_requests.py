"""Ends the requests of workers that were killed, when what they asked for is true at the services.

Such a request is done when the services follow its act. Its message comes back after its lease, and finds that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.requests import ENDED, done

if TYPE_CHECKING:
    from shared.ledger.devices import Devices, UnsettledRecord
    from shared.ledger.requests import Requests
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftRequests:
    """Requests whose acts were left to the timer."""

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
        known = await self.requests.at(left.request)
        if known is None or known.record.state in ENDED:
            return
        if self.requests.trail is not None:
            await self.requests.trail.brought_about(known.record)
        await self.requests.enter(known.record, done(self.clock()))
