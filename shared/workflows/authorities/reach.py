"""What hangs on a CA: the CAs below it, the enrollment groups that have them, and devices with their certificates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.authorities import OVER, AuthorityRecord
from shared.domain.restoration import CAUSE
from shared.domain.revocation import is_unseen
from shared.workflows.many import pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.domain.devices import DeviceRecord
    from shared.domain.groups import GroupRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.workflows.intake.outbox import Clock

COUNT_LIMIT = 10_000
"""Devices that are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What an act on a CA reaches.

    Attributes:
        authorities: names of the CA and of those below it.
        groups: enrollment groups that have one of them.
        devices: how many devices have a certificate in force of one of them, or may have one, up to a limit.
        more: whether there are more.
        unseen: how many of these may have one: they are in one of the groups, and nobody knows their certificate.
    """

    authorities: tuple[str, ...]
    groups: tuple[str, ...]
    devices: int
    more: bool
    unseen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityReach:
    """Finds what hangs on CAs."""

    records: Authorities
    certificates: Certificates
    groups: Groups
    devices: Devices
    clock: Clock

    async def of(self, name: str) -> Reached:
        """Find all that hangs on a CA."""
        below = [name, *(record.name for record in await self.below(name, deep=True))]
        groups, known = await self.groups_under(name), await self._devices(below)
        unseen = {each.registration_id for each in await self.unseen(groups)} - known
        devices = len(known) + len(unseen)
        return Reached(
            authorities=tuple(below),
            groups=groups,
            devices=min(devices, COUNT_LIMIT),
            more=devices > COUNT_LIMIT,
            unseen=min(len(unseen), COUNT_LIMIT),
        )

    async def unseen(self, groups: Iterable[str]) -> list[DeviceRecord]:
        """Find the devices of groups that use a certificate which nobody knows, at least as many as are counted.

        There are such devices where storage was lost, and CAs were taken over with them. Elsewhere none are looked for.
        """
        if CAUSE not in {record.cause async for record in self.records.list()}:
            return []
        found: list[DeviceRecord] = []
        for group in groups:
            async for records in pages(partial(self.devices.page, enrollment_group=group, unseen=True)):
                found += filter(is_unseen, records)
                if len(found) > COUNT_LIMIT:
                    return found
        return found

    async def groups_under(self, name: str) -> tuple[str, ...]:
        """Name the enrollment groups that have a CA, or one below it."""
        names = {name, *(record.name for record in await self.below(name, deep=True))}
        return tuple(each.enrollment_group for each in await self.groups.having(names))

    async def below(self, name: str, *, deep: bool = False, over: bool = False) -> list[AuthorityRecord]:
        """Find the CAs that a CA has signed and that others may still trust, or all below it.

        Args:
            name: of the CA.
            deep: whether those are meant as well that they have signed.
            over: whether those are meant as well that nobody is to trust any more.
        """
        known = [record async for record in self.records.list() if over or record.state not in OVER]
        found, ahead, seen = list[AuthorityRecord](), [name], {name}
        while ahead:
            above = ahead.pop(0)
            signed = (each for each in known if each.parent == above and each.name not in seen)
            here = sorted(signed, key=lambda each: each.name)
            found += here
            seen |= {each.name for each in here}
            ahead += [each.name for each in here] if deep else []
        return found

    async def groups_of(self, *names: str) -> Sequence[GroupRecord]:
        """Find the enrollment groups that a CA signs for, has signed for, or is about to; or one of several CAs."""
        return await self.groups.having({*names})

    async def _devices(self, authorities: Iterable[str]) -> set[str]:
        """Name those with a certificate in force of some CAs; more than are counted are not all of them."""
        found = set[str]()
        for name in authorities:
            async for entries in pages(partial(self.certificates.page_in_force, name, self.clock())):
                found |= {each.subject for each in entries}
                if len(found) > COUNT_LIMIT:
                    return found
        return found
