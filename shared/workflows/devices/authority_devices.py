"""The devices that are revoked with a CA: those that have certificates of it, or of a CA below it.

Those that get in now come first, then those whose certificates nobody knows. Last come those that are on hold, and
single certificates that their devices do not use any more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.revocation import Falls, falls, is_unseen
from shared.workflows.many import gathered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.domain.certificates import InForceRecord
    from shared.domain.devices import DeviceRecord
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.workflows.authorities.reach import AuthorityReach
    from shared.workflows.intake.outbox import Clock

_AT_ONCE, _READS = 16, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of many whose revocation is asked for.

    Attributes:
        device: as it is now.
        serial_number: of its certificate that is meant alone; ``None`` for the whole device.
    """

    device: DeviceRecord
    serial_number: str | None = None


class _Round(StrEnum):
    """Rounds through the devices, in this order."""

    LET_IN = "1"
    UNSEEN = "2"
    OTHERS = "3"


type _Place = tuple[_Round, str]
"""A round, and a CA, or the group whose devices are looked at, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityDevices:
    """Finds them, page after page."""

    reach: AuthorityReach
    certificates: Certificates
    devices: Devices
    clock: Clock

    async def page(self, issuer: str, *, size: int, continuation: str | None) -> tuple[list[Member], str | None]:
        """Find some that are to be revoked, as they are now, and give the continuation of the next.

        A page may have fewer than it could, or none.
        """
        names = {issuer, *(each.name for each in await self.reach.below(issuer, deep=True, over=True))}
        places = await self._places(names)
        present, following = _place_of(continuation) if continuation else (places[0], None)
        found: list[Member] = []
        for _ in range(_READS):
            ahead = [each for each in places if each >= present]
            if not ahead:  # what was left has gone
                return found, None
            if ahead[0] != present:
                present, following = ahead[0], None
            some, following = await self._read(present, names, size=size - len(found), continuation=following)
            found += some
            if following is None:
                if len(ahead) == 1:
                    return found, None
                present = ahead[1]
            if len(found) >= size:
                break
        return found, _written(present, following)

    async def unseen(self, issuers: Iterable[str]) -> list[DeviceRecord]:
        """Find the devices of the groups of some CAs whose certificate nobody knows."""
        return await self.reach.unseen([each.enrollment_group for each in await self.reach.groups_of(*issuers)])

    async def _places(self, names: set[str]) -> list[_Place]:
        groups = [each.enrollment_group for each in await self.reach.groups_of(*names)]
        return sorted(
            [(_Round.LET_IN, each) for each in names]
            + [(_Round.UNSEEN, each) for each in groups]
            + [(_Round.OTHERS, each) for each in names]
        )

    async def _read(
        self, place: _Place, names: set[str], *, size: int, continuation: str | None
    ) -> tuple[list[Member], str | None]:
        phase, name = place
        if phase is _Round.UNSEEN:
            page, following = await self.devices.page(
                enrollment_group=name, size=size, continuation=continuation, unseen=True
            )
            return [Member(device=each) for each in page if is_unseen(each)], following
        entries, following = await self.certificates.page_in_force(
            name, self.clock(), size=size, continuation=continuation
        )
        found = await gathered(partial(self._fallen, names), entries, asyncio.Semaphore(_AT_ONCE))
        first = phase is _Round.LET_IN
        return [each for each in found if each is not None and _is_let_in(each) is first], following

    async def _fallen(self, names: set[str], entry: InForceRecord) -> Member | None:
        known, certificate = await self.devices.get(entry.subject), await self.certificates.get(entry.serial_number)
        if known is None or certificate is None:
            return None
        what = falls(known.record, certificate.record)
        if what is None:
            return None
        used = known.record.certificate, known.record.next_certificate
        fallen = [each.serial_number for each in used if each is not None and each.issuer in names]
        if what is Falls.DEVICE:
            # One that has two such certificates is looked at where the later one stands, which is the one that stays.
            later = next((each for each in fallen[-1:] if each != entry.serial_number), None)
            return None if later and await self._falls(known.record, later) else Member(device=known.record)
        # What a device had before is revoked with it, if it falls.
        return None if fallen else Member(device=known.record, serial_number=entry.serial_number)

    async def _falls(self, device: DeviceRecord, serial_number: str) -> bool:
        known = await self.certificates.get(serial_number)
        return known is not None and falls(device, known.record) is not None


def _is_let_in(member: Member) -> bool:
    return member.serial_number is None and not member.device.on_hold


def _written(place: _Place, continuation: str | None) -> str:
    # No name of a CA or a group has a "|".
    return "|".join((*place, continuation or ""))


def _place_of(text: str) -> tuple[_Place, str | None]:
    phase, name, continuation = text.split("|", 2)
    return (_Round(phase), name), continuation or None
