"""Has the services follow a ledger that was put back: doors first, and everything else when it may sign again.

Devices are seen to some at a time: each by itself, whatever becomes of the others.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.domain.restoration import keeps_out
from shared.errors import Deferred, NotFound, Rejected
from shared.workflows.authorities.changes import change
from shared.workflows.many import AT_ONCE, gathered

if TYPE_CHECKING:
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.workflows.authorities.convergence import AuthorityConverger
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredFollowing:
    """Converges what a restoration has changed, or one that broke off: the ledger's rows and notes tell."""

    authorities: CertificateAuthorities
    records: Authorities
    devices: Devices
    converger: DeviceConverger
    authority_converger: AuthorityConverger
    clock: Clock
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def shut(self) -> None:
        """Shut every door that is to be shut and is not yet; its revocation is on the list when that may be signed.

        Raises:
            ExceptionGroup: a service did not answer; every device was tried.
        """
        failures = [each for each in await gathered(self._shut, await self._noted(), self._gate) if each is not None]
        if failures:
            raise ExceptionGroup(f"{len(failures)} devices are not shut out yet", failures)

    async def _shut(self, registration_id: str) -> Exception | None:
        """Shut a device out that is to be; give what failed, above all no list is made so far, which does not count."""
        try:
            known = await self.devices.get(registration_id)
            if known is not None and keeps_out(known.record, self.clock()):
                await self.converger.converge(registration_id)
        except (Deferred, Rejected):
            return None
        except Exception as error:  # noqa: BLE001 - the other doors are shut first, then it is raised
            return error
        return None

    async def end_turns(self) -> None:
        """Take the turns of making lists from whoever broke off; somebody who is only slow makes his list again."""
        for name in [each.name async for each in self.authorities.list() if each.list_making is not None]:
            with suppress(NotFound):
                await change(self.records, name, lambda present: present.changed(list_making=None))

    async def follow(self) -> tuple[list[Exception], list[str]]:
        """Have everything follow what was changed: CAs one after the other, since one hangs on another, then devices.

        Returns:
            What failed, and lines about what has to wait, in the order of the notes; everything was tried.
        """
        changed = [each.name async for each in self.authorities.list() if each.change is not None]
        outcomes = [await self._authority(each) for each in changed]
        outcomes += await gathered(self._device, await self._noted(), self._gate)
        failures = [each for each in outcomes if isinstance(each, Exception)]
        return failures, [each for each in outcomes if isinstance(each, str)]

    async def _authority(self, name: str) -> Exception | str | None:
        try:
            await self.authority_converger.converge(name)
        except Exception as error:  # noqa: BLE001 - the others come first, then it is raised
            return _said(name, error)
        return None

    async def _device(self, registration_id: str) -> Exception | str | None:
        try:
            if await self.devices.get(registration_id) is not None:  # else the act that it was noted for is not there
                await self.converger.converge(registration_id)
        except Exception as error:  # noqa: BLE001 - likewise
            return _said(registration_id, error)
        return None

    async def _noted(self) -> list[str]:
        return list(dict.fromkeys([each.registration_id async for each in self.devices.unsettled()]))


def _said(name: str, error: Exception) -> Exception | str:
    """Give a failure, or a line if it is one that the app goes on with by itself."""
    if isinstance(error, Deferred | Rejected):
        return f"{name}: the services do not follow yet, and the app goes on with that: {error}"
    return error
