"""What a device's own certificates are, by their thumbprints, and which of them its hub is to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.given_settings import UNKNOWN, Given

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from shared.ports.hubs import HubIdentity

_SHA256_DIGITS = 64
_PLACES = 2
"""An identity has so many thumbprints: a primary and a secondary one."""


@dataclass(frozen=True, slots=True)
class Own:
    """What is a device's own: thumbprints of what was ever issued to it, upper-case hexadecimal, SHA-1 and SHA-256.

    Attributes:
        in_use: of the certificates that it uses.
        all: of every one; ``None`` if only those in use are known.
        revoked: of those that are revoked, or on hold.
        waiting: of the one in use that it is renewed with, and has not come with yet.
        unseen: those in use of which the hub's own word is all that is known: one hash each.
        given: what the device's own entry in DPS is to have.
    """

    in_use: frozenset[str]
    all: frozenset[str] | None = None
    revoked: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()
    given: Given = UNKNOWN

    @property
    def in_use_at_dps(self) -> frozenset[str]:
        """As entries of DPS are compared: SHA-256 alone."""
        return _sha256(self.in_use)

    def taken_by(self, seen: HubIdentity | None) -> frozenset[str]:
        """Give what an identity may take.

        The one that a device is renewed with is not given to its hub: DPS enters it when the device comes with it, and
        that it is there is what tells that the device has it.

        Args:
            seen: the identity as it is; ``None`` if it is to be made.
        """
        has_come = seen is not None and bool(seen.thumbprints & self.waiting)
        return self.in_use if has_come else self.in_use - self.waiting

    def written_to(self, seen: HubIdentity | None) -> list[str]:
        """Give what is written to an identity: SHA-256, as DPS writes them, or what else is known.

        The certificate that a device has come with is among them, also if not all have room.
        """
        taken = self.taken_by(seen)
        written = sorted((_sha256(taken) | (taken & self.unseen)) or taken)
        return sorted(sorted(written, key=lambda each: each not in self.waiting)[:_PLACES])


def unseen_of(record: DeviceRecord) -> tuple[str, ...]:
    """Give the thumbprints of what a device uses that was taken over from the services: as these had them."""
    if not record.unseen:
        return ()
    return record.sha256_thumbprints if record.next_certificate is None else record.sha256_thumbprints[:-1]


def thumbprints_with(record: DeviceRecord, added: str) -> tuple[str, ...]:
    """Give the thumbprints that a record names when its device gets another certificate: the last two.

    Those of a device that was taken over from the services stay until it has come with another certificate: nothing
    else says what it uses. That of an earlier renewal, which it has not come with, goes.
    """
    return (*unseen_of(record), added) if record.unseen else (*record.sha256_thumbprints, added)[-2:]


def _sha256(thumbprints: frozenset[str]) -> frozenset[str]:
    return frozenset(each for each in thumbprints if len(each) == _SHA256_DIGITS)
