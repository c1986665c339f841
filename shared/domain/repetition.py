"""Acts that concern many devices have to repeat how many: a slip of the hand names another group, or another CA."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import Conflict
from shared.rules.number_words import number_of

_SHARE = 10
"""The number may be off by a tenth, since devices come and go."""


@dataclass(frozen=True, slots=True)
class Concerned:
    """What an act concerns.

    Attributes:
        what: whose devices these are, as in ``the enrollment group 'line-1' has``.
        devices: how many.
        more: whether there are more than were counted.
    """

    what: str
    devices: int
    more: bool = False


def is_to_be_repeated(concerned: Concerned, allowed: int) -> bool:
    """Tell whether an act has to repeat the number."""
    return concerned.devices > allowed


def check_repeated(concerned: Concerned, given: int | None, *, allowed: int) -> None:
    """See that whoever revokes many devices knows how many.

    Args:
        concerned: what is revoked.
        given: the number that the request repeats.
        allowed: so many are let through without it.

    Raises:
        Conflict: the number is missing, or another one.
    """
    devices = concerned.devices
    if not is_to_be_repeated(concerned, allowed):
        return
    if given is not None and abs(given - devices) * _SHARE <= devices:
        return
    said = "devices is not given" if given is None else f"devices is {given}"
    number = number_of(devices, "device", more=concerned.more)
    raise Conflict.because(
        f"{concerned.what} {number}, which are all revoked with it, and {said}; to revoke them all, repeat the "
        f"number: devices {devices}",
        field="devices",
    )
