"""Serial numbers that are drawn for several devices at once, so that one write puts them into the index of their CA."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.domain.certificates import InForceRecord
from shared.errors import Rejected
from shared.ledger.devices import partition_of
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.issuance import new_serial_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.ledger.certificates import Certificates
    from shared.workflows.intake.outbox import Clock

_TAKEN_WITHIN = timedelta(minutes=10)
"""So long the message of the devices is at work at most (``functionTimeout`` in host.json)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnNumbers:
    """Serial numbers that stand in the index of what is in force, by device, and that nobody has used yet.

    Attributes:
        issuer: the CA in whose index they are.
        until: from when on they are not used any more.
        left: those that nobody has used.
    """

    issuer: str
    until: datetime
    left: dict[str, int]

    @contextmanager
    def number_of(self, registration_id: str, issuer: str, now: datetime) -> Iterator[int | None]:
        """Take the serial number of a device for what is inside; ``None`` if it has none for this CA.

        If the device can't be had with it, nothing was recorded, and it is there for the next attempt.
        """
        usable = issuer == self.issuer and now < self.until
        number = self.left.pop(registration_id, None) if usable else None
        try:
            yield number
        except (Stale, Rejected):
            if number is not None:
                self.left[registration_id] = number
            raise


NO_NUMBERS = DrawnNumbers(issuer="", until=datetime.max.replace(tzinfo=UTC), left={})
"""For a device that is made by itself."""


async def draw(
    certificates: Certificates, *, issuer: str, validities: Mapping[str, timedelta], clock: Clock
) -> DrawnNumbers:
    """Draw serial numbers for devices, and put them into the index of their CA.

    Args:
        certificates: all certificates.
        issuer: the CA that is to sign.
        validities: the life of the certificates, by device.
        clock: gives the present time.
    """
    now = clock()
    numbers = {each: new_serial_number(int(partition_of(each), 16)) for each in validities}
    await certificates.enter_all_in_force(
        [
            InForceRecord(
                serial_number=names.serial_text(number),
                issuer=issuer,
                subject=registration_id,
                until=now + _TAKEN_WITHIN + validities[registration_id],
            )
            for registration_id, number in numbers.items()
        ]
    )
    return DrawnNumbers(issuer=issuer, until=now + _TAKEN_WITHIN, left=numbers)


async def give_back(certificates: Certificates, drawn: DrawnNumbers) -> None:
    """Take out of the index what nobody has used; what stays there by mistake does no harm."""
    await certificates.leave_all_in_force(drawn.issuer, [names.serial_text(each) for each in drawn.left.values()])
