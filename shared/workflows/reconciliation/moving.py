"""Has devices register again that are not where the DPS would put them now: so many a minute, until none is left.

Who is left follows from what the DPS says now, and from nothing that is remembered. So it can be broken off and run
again at any time. A device is told by a desired property of its twin, which it sees whenever it connects; the app can't
make it register. What it does then is entered into the ledger as soon as the DPS tells of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.devices import IN_ITS_HUB
from shared.domain.entries import place_of
from shared.domain.wanted import wanted
from shared.errors import NotFound, Rejected
from shared.workflows.groups.entries import existing
from shared.workflows.many import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.ports.hubs import IotHubRegistries
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.intake.outbox import Clock

PROPERTY = "registerAgain"
"""The desired property that tells a device; its ``idScope`` is that of the DPS to register with."""

MINUTE = 60.0
_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who is to register again.

    Attributes:
        enrollment_group: of the devices.
        hub: that they are to leave; ``None`` for those that the DPS does not know.
        per_minute: so many are told.
        seconds: after so long it is looked again who is left.
    """

    enrollment_group: str
    hub: str | None = None
    per_minute: int = 60
    seconds: float = MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """Tells devices to register again, and watches who has.

    Attributes:
        id_scope: of the DPS.
        pause: waits for so many seconds.
    """

    devices: Devices
    groups: Groups
    provisioning: ProvisioningService
    hubs: IotHubRegistries
    converger: DeviceConverger
    linked: LinkedHubs
    id_scope: str
    clock: Clock
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def left(self, plan: Plan) -> list[DeviceRecord]:
        """Give the devices that are still to register again, in the order of the ledger; enter where others are.

        Raises:
            NotFound: the group does not exist, or the DPS does not have it and would refuse its devices.
            Rejected: the hub that they are to leave does not exist.
        """
        await self._check(plan)
        return await self._left(plan)

    async def _left(self, plan: Plan) -> list[DeviceRecord]:
        places = await self._places(plan.enrollment_group)
        found: list[DeviceRecord] = []
        async for page in pages(partial(self.devices.page, enrollment_group=plan.enrollment_group)):
            for record in page:
                if record.state in IN_ITS_HUB and not record.shut_out:
                    found += [record] if await self._is_left(record, plan, places) else []
        return found

    async def run(self, plan: Plan) -> AsyncIterator[str]:
        """Tell all that are left, and end when none is; say who is, each time that it was looked.

        Raises:
            NotFound, Rejected: as :meth:`left`.
        """
        told = set[str]()
        await self._check(plan)
        while left := await self._left(plan):
            yield f"{len(left)} devices of {plan.enrollment_group!r} are still to register again: {_named(left)}"
            some = [each for each in left if each.registration_id not in told]
            for each in some[: max(1, round(plan.per_minute * plan.seconds / MINUTE))]:
                told.add(each.registration_id)
                if (problem := await self._tell(each, plan)) is not None:
                    yield problem
            await self.pause(plan.seconds)
        yield f"all devices of {plan.enrollment_group!r} have registered again"

    async def _check(self, plan: Plan) -> None:
        """See that group and hub exist: nobody would be left in a hub whose name is mistyped."""
        await existing(self.groups, plan.enrollment_group)
        if await self.provisioning.get_group(plan.enrollment_group) is None:
            raise NotFound.because(
                f"the DPS does not have the enrollment group {plan.enrollment_group!r}, and would refuse its devices: "
                "mend the finding groupMissing first",
                field="enrollmentGroup",
            )
        hub = plan.hub
        if hub is None or hub.lower() in (there := await self.linked.names()):
            return
        known = set(there)
        async for page in pages(partial(self.devices.page, enrollment_group=None)):
            known |= {each.assigned_hub.lower() for each in page if each.assigned_hub}
        if hub.lower() not in known:
            raise Rejected.because(
                f"{hub!r} is not linked to the DPS, and no device of the ledger is in it; the hubs are "
                f"{', '.join(sorted(known)) or 'not known'}",
                field="hub",
            )

    async def _places(self, group: str) -> Mapping[str, str]:
        """Give the hubs that the DPS has assigned to a group's devices, in lower case."""
        found = dict[str, str]()
        async for page in pages(partial(self.provisioning.page_of_registrations, group)):
            for each in page:
                if (place := place_of(each)) is not None:
                    found[str(each["registrationId"]).lower()] = place[0].lower()
        return found

    async def _is_left(self, record: DeviceRecord, plan: Plan, places: Mapping[str, str]) -> bool:
        place = places.get(record.registration_id)
        if place is None and wanted(record, self.clock()).own_entry:  # it registers by its own entry
            own = place_of(await self.provisioning.get_registration(record.registration_id) or {})
            place = own[0].lower() if own else None
        known_in = (record.assigned_hub or "").lower()
        if place is None:  # its identity may be where the ledger has it, though the DPS does not know of it
            return plan.hub is None or known_in == plan.hub.lower()
        if plan.hub is not None and place == plan.hub.lower():
            return True
        if place != known_in and (known := await self.devices.get(record.registration_id)):
            await self.converger.follow(known)
        return False

    async def _tell(self, record: DeviceRecord, plan: Plan) -> str | None:
        """Tell a device in the hub that it is in; give why it can't be told, if so.

        The DPS places a device that has an entry of its own by that, so its entry gets what the group has by now.
        """
        wants = await self.converger.bring_along(record.registration_id)
        hubs = [str(each).lower() for each in (wants.settings or {}).get("iotHubs") or ()]
        if plan.hub is not None and not wants.follows and hubs == [plan.hub.lower()]:
            return (
                f"{record.registration_id}: its individual enrollment has that hub and no other, by an operator: give "
                f"it another by PUT /api/enrollments/{record.registration_id}"
            )
        if not (record.assigned_hub and record.device_id):
            return f"{record.registration_id}: it is in no hub, so it has to be told in another way"
        desired = {PROPERTY: {"idScope": self.id_scope}}
        try:
            await self.hubs.merge_twin(record.assigned_hub, record.device_id, tags={}, desired=desired)
        except Rejected as refusal:
            return f"{record.registration_id}: it has to be told in another way: {refusal}"
        return None


def _named(left: Sequence[DeviceRecord]) -> str:
    names = [each.registration_id for each in left]
    others = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{others}"
