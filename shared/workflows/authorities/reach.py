"""What hangs on a CA: the CAs below it, the enrollment groups that have them, and devices with their certificates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.authorities import OVER, AuthorityRecord
from shared.domain.groups import GroupState
from shared.workflows.many import pages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.domain.groups import GroupRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
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
        devices: how many devices have a certificate in force of one of them, up to a limit.
        more: whether there are more.
    """

    authorities: tuple[str, ...]
    groups: tuple[str, ...]
    devices: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityReach:
    """Finds what hangs on CAs."""

    records: Authorities
    certificates: Certificates
    groups: Groups
    clock: Clock

    async def of(self, name: str) -> Reached:
        """Find all that hangs on a CA."""
        below = [name, *(record.name for record in await self.below(name, deep=True))]
        devices, more = await self._devices(below)
        return Reached(authorities=tuple(below), groups=await self.groups_under(name), devices=devices, more=more)

    async def groups_under(self, name: str) -> tuple[str, ...]:
        """Name the enrollment groups that have a CA, or one below it."""
        names = {name, *(record.name for record in await self.below(name, deep=True))}
        return tuple(sorted(each.enrollment_group for each in await self.groups_with(names)))

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

    async def groups_of(self, name: str) -> list[GroupRecord]:
        """Find the enrollment groups that a CA signs for, has signed for, or is about to."""
        return await self.groups_with({name})

    async def groups_with(self, names: set[str]) -> list[GroupRecord]:
        """Find the enrollment groups of which one of some CAs is, was, or is about to be the issuer."""
        return [
            each
            async for each in self.groups.list()
            if each.state is not GroupState.DELETED and names & each.authorities
        ]

    async def _devices(self, authorities: Iterable[str]) -> tuple[int, bool]:
        found = set[str]()
        for name in authorities:
            async for entries in pages(partial(self.certificates.page_in_force, name, self.clock())):
                found |= {each.subject for each in entries}
                if len(found) > COUNT_LIMIT:
                    return COUNT_LIMIT, True
        return len(found), False
