"""The devices that a request about many is about: those of a group, an order or a CA, or those that it names."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contracts.devices import AuthorityRevocation
from shared.domain.held_certificates import Purpose
from shared.domain.listing import authority_place, order_place, revocable_in
from shared.domain.revocation import is_revocable
from shared.ledger.directory import Start
from shared.workflows.devices.authority_devices import Member
from shared.workflows.many import AT_ONCE, gathered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.contracts.devices import RevocationRequest
    from shared.domain.devices import DeviceRecord
    from shared.ledger.devices import Devices
    from shared.ledger.directory import Directory
    from shared.ledger.orders import Orders
    from shared.workflows.devices.authority_devices import AuthorityDevices

_PAGE, _READS = 1000, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Finds devices by what they belong to."""

    devices: Devices
    orders: Orders
    directory: Directory
    authority_devices: AuthorityDevices

    async def page(
        self, request: RevocationRequest, *, size: int, continuation: str | None
    ) -> tuple[Sequence[Member], str | None]:
        """Read some of the devices, as they are now, and give the continuation of the next page."""
        if isinstance(request, AuthorityRevocation):
            return await self.authority_devices.page(request.issuer, size=size, continuation=continuation)
        devices, following = await self._devices(request, size=size, continuation=continuation)
        return [Member(device=each) for each in devices], following

    async def _devices(
        self, request: RevocationRequest, *, size: int, continuation: str | None
    ) -> tuple[Sequence[DeviceRecord], str | None]:
        if request.enrollment_group is not None:
            return await self.devices.page(
                enrollment_group=request.enrollment_group, size=size, continuation=continuation
            )
        begin = int(continuation or 0)
        if request.order_id is not None:
            lines = [each.record for each in await self.orders.get_lines(request.order_id, begin, size)]
            found = await self._get([each.registration_id for each in lines if each.registration_id])
            own = [each for each in found if (each.purpose, each.order_id) == (Purpose.ORDER, request.order_id)]
            return own, str(begin + size) if len(lines) == size else None
        named = tuple(dict.fromkeys(request.registration_ids or ()))
        return await self._get(named[begin : begin + size]), str(begin + size) if len(named) > begin + size else None

    async def _get(self, registration_ids: Sequence[str]) -> list[DeviceRecord]:
        found = await gathered(self.devices.get, registration_ids, asyncio.Semaphore(AT_ONCE))
        return [known.record for known in found if known is not None]

    async def unknown(self, registration_ids: Sequence[str]) -> list[str]:
        """Give those that are not known."""
        known = {each.registration_id for each in await self._get(registration_ids)}
        return [each for each in dict.fromkeys(registration_ids) if each not in known]

    async def by_hub(self, request: RevocationRequest) -> Counter[str]:
        """Count the devices that can be revoked by the hub that they are in; those without one under no name."""
        if request.registration_ids is not None:
            found = await self._get(tuple(dict.fromkeys(request.registration_ids)))
            return Counter(each.assigned_hub or "" for each in found if is_revocable(each))
        if request.order_id is not None:
            return await self._count(order_place(request.order_id))
        return (await self.directory.counts(request.enrollment_group)).revocable

    async def of_authorities(self, authorities: Iterable[str]) -> Counter[str]:
        """Count the devices that are revoked with some CAs, by the hub that they are in.

        Those are the ones with a certificate of them, and those of their groups whose certificate nobody knows.
        """
        names = set(authorities)
        counts = Counter(each.assigned_hub or "" for each in await self.authority_devices.unseen(names))
        for name in sorted(names):
            counts += await self._count(authority_place(name))
        return counts

    async def _count(self, partition: str) -> Counter[str]:
        """Count the devices of a partition of the directory, which is late by a while; at most 100,000."""
        counts, start = Counter[str](), Start()
        for _ in range(_READS):
            rows, following = await self.directory.page(partition, {}, size=_PAGE, start=start, reads=1)
            hubs = map(revocable_in, rows)
            counts.update(each for each in hubs if each is not None)
            if following is None:
                break
            start = following
        return counts
