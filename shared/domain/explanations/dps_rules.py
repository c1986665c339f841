"""Causes that DPS shows: whether it could be looked at, and the device's registration record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.devices import IN_ITS_HUB
from shared.domain.explanations.parts import Blind, Call, Remedy, Seen, day
from shared.domain.upkeep import TAKEN_OVER

if TYPE_CHECKING:
    from collections.abc import Callable


def dps_unseen(because: Blind) -> Callable[[Seen], str | None]:
    """Give the rule that DPS could not be looked at, for one kind of reason."""

    def text(seen: Seen) -> str | None:
        unseen = seen.unseen_dps
        if unseen is None or unseen.because is not because:
            return None
        return f"DPS could not be looked at: {unseen.why}; as long as that is so for devices, none registers"

    return text


def not_asked(seen: Seen) -> str | None:
    """The services were not asked, since this part of the app does not reach them."""
    unseen = seen.unseen_dps
    if unseen is None or unseen.because is not Blind.NOT_ASKED:
        return None
    return f"the ledger shows no cause, and DPS and the hub were not asked: {unseen.why}"


def ask_there(seen: Seen) -> Remedy:
    """Ask the app that reaches the services."""
    return Remedy("Ask the app of issuing, which reaches DPS and the hubs.", Call("GET", f"{seen.path}/explanation"))


def slower(_seen: Seen) -> Remedy:
    """Wait."""
    return Remedy("Wait a minute and ask again. If it stays so, slow down what else calls the service.")


def give_role(_seen: Seen) -> Remedy:
    """Assign the role."""
    return Remedy(
        "Give the app's identity its role at the service; a new assignment takes effect after some minutes.",
        Call("GET", "/api/health/ready"),
    )


def assignment_failed(seen: Seen) -> str | None:
    """DPS let it in, and found no hub for it."""
    record = seen.known_registration
    if record is None or record.get("status") != "failed":
        return None
    code, message = record.get("errorCode") or "no code", record.get("errorMessage") or "no message"
    return f"DPS took its certificate, and could not assign a hub: {code}, {message}"


def see_allocation(seen: Seen) -> Remedy:
    """Mend the allocation."""
    return Remedy(
        "See to the group's allocation policy, its webhook and its hubs; then have the device register again.",
        Call("GET", f"/api/enrollment-groups/{seen.device.enrollment_group}"),
    )


def assigning(seen: Seen) -> str | None:
    """DPS is at work."""
    record = seen.known_registration
    if record is None or record.get("status") != "assigning" or seen.device.shut_out:
        return None
    return "DPS is assigning a hub to it at this moment"


def taken_over(seen: Seen) -> str | None:
    """Another group had registered it, and it was given back."""
    if seen.device.shut_out or seen.registration is not None or seen.device.state not in IN_ITS_HUB:
        return None
    noted = next((each for each in reversed(seen.device.history) if each.note.startswith(TAKEN_OVER)), None)
    return f"it was {noted.note} ({day(noted.at)})" if noted else None


def register_again(_seen: Seen) -> Remedy:
    """Have the device register."""
    return Remedy("Have the device register with DPS again, as at its first boot; a restart does that, as a rule.")


def registration_missing(seen: Seen) -> str | None:
    """It is in its hub, and DPS does not know of it."""
    if not seen.to_be_open or seen.device.state not in IN_ITS_HUB or seen.registration is not None:
        return None
    return (
        "DPS has no registration record of it any more: as long as its identity is in its hub it goes on, and what its "
        "hub does not have comes back when it registers again"
    )
