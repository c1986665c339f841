"""Causes that a hub shows: the device's identity, and with which certificate it gets in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.devices import IN_ITS_HUB
from shared.domain.explanations.parts import Blind, Call, Remedy, Seen, Unseen, thumbprints_of
from shared.domain.hub_authentication import SELF_SIGNED, lets_in

if TYPE_CHECKING:
    from collections.abc import Callable


def hub_unseen(because: Blind) -> Callable[[Seen], str | None]:
    """Give the rule that the hub could not be looked at, for one kind of reason."""

    def text(seen: Seen) -> str | None:
        parts = [(f"the hub {seen.hub}", seen.identity), *((hub, each) for (hub, _), each in seen.elsewhere.items())]
        for name, part in parts:
            if isinstance(part, Unseen) and part.because is because:
                return f"{name} could not be looked at: {part.why}"
        return None

    return text


def hub_open(seen: Seen) -> str | None:
    """A hub lets a device in that is shut out."""
    if not seen.settled or not seen.device.shut_out:
        return None
    found = [(seen.hub, seen.identity), *((hub, each) for (hub, _), each in seen.elsewhere.items())]
    for hub, identity in found:
        if identity is not None and not isinstance(identity, Unseen) and identity.enabled:
            certified = identity.authentication == SELF_SIGNED
            who = "with its certificate it gets in" if certified else f"it lets in {lets_in(identity.authentication)}"
            return f"it is to be shut out, and its identity in {hub} is enabled: {who}"
    return None


def at_another_hub(seen: Seen) -> str | None:
    """DPS has put it into another hub than the ledger knows."""
    record = seen.known_registration
    if record is None or record.get("status") != "assigned" or seen.device.state not in IN_ITS_HUB:
        return None
    hub, device_id = str(record.get("assignedHub")), str(record.get("deviceId"))
    if hub.lower() == (seen.device.assigned_hub or "").lower() and device_id == seen.device.device_id:
        return None
    return (
        f"DPS has it as {device_id!r} in {hub}, and the ledger as {seen.device.device_id!r} in "
        f"{seen.device.assigned_hub}: it was assigned anew"
    )


def follow(seen: Seen) -> Remedy:
    """Have the ledger follow DPS."""
    return Remedy(
        "Look at its identity over the app: the ledger follows DPS then.", Call("GET", f"{seen.path}/identity")
    )


def identity_missing(seen: Seen) -> str | None:
    """The hub does not have it."""
    if seen.hub is None or seen.identity is not None or not _to_be_there(seen):
        return None
    return f"{seen.hub} has no identity {seen.device.device_id!r}: the hub refuses the device, whatever it sends"


def identity_disabled_by_operator(seen: Seen) -> str | None:
    """Somebody has disabled it over this app."""
    identity = seen.known_identity
    if identity is None or identity.enabled or not seen.device.disabled or seen.device.shut_out:
        return None
    return f"an operator has disabled its identity in {seen.hub}: {seen.device.switched_for or 'no reason was given'}"


def enable(seen: Seen) -> Remedy:
    """Enable the identity."""
    return Remedy("Enable it, if it is to connect.", Call("POST", f"{seen.path}/enable"))


def identity_disabled(seen: Seen) -> str | None:
    """Somebody has disabled it at the hub itself."""
    identity = seen.known_identity
    if identity is None or identity.enabled or not _to_be_there(seen) or seen.device.disabled:
        return None
    why = f" ({identity.reason})" if identity.reason else ""
    return f"its identity in {seen.hub} is disabled{why}, and this app did not do that: the hub refuses the device"


def identity_enabled(seen: Seen) -> str | None:
    """Somebody has enabled it at the hub itself."""
    identity = seen.known_identity
    if identity is None or not identity.enabled or not seen.settled or not seen.device.disabled or seen.device.shut_out:
        return None
    return f"an operator has disabled its identity over this app, and it is enabled in {seen.hub}"


def disable(seen: Seen) -> Remedy:
    """Disable the identity again."""
    return Remedy("Disable it again, or enable it over this app as well.", Call("POST", f"{seen.path}/disable"))


def identity_other_authentication(seen: Seen) -> str | None:
    """The hub knows it by something else than certificates of its own."""
    identity = seen.known_identity
    if identity is None or not _to_be_there(seen) or identity.authentication == SELF_SIGNED:
        return None
    return (
        f"somebody has changed its identity in {seen.hub} to the type {identity.authentication!r}: the hub lets in "
        f"{lets_in(identity.authentication)}, and does not ask whether the device has this app's certificate"
    )


def own_certificates_alone(seen: Seen) -> Remedy:
    """Have the identity take the device's certificates alone."""
    return Remedy(
        "Enable it over this app: its identity takes its own certificates alone then, and the keys are gone.",
        Call("POST", f"{seen.path}/enable"),
    )


def identity_other_certificate(seen: Seen) -> str | None:
    """The hub knows it by a certificate that is not one of its own."""
    identity = seen.known_identity
    if identity is None or not _to_be_there(seen) or not identity.thumbprints:
        return None
    if any(map(seen.at_hub, seen.certificates)) or seen.at_hub_as_taken_over:
        return None
    return (
        f"{seen.hub} knows it by the thumbprint {min(identity.thumbprints)}, which no certificate of its has: somebody "
        "has changed its identity, or has registered its id with a certificate of another CA"
    )


def take_back(seen: Seen) -> Remedy:
    """Remove the identity, so that registering makes it anew."""
    return Remedy(
        "Delete its identity, and have the device register again. If it happens again, give it an individual "
        "enrollment: then DPS takes its own certificate alone.",
        Call("DELETE", f"{seen.path}/identity"),
    )


def identity_former_certificate(seen: Seen) -> str | None:
    """The hub knows it by a certificate that it had before."""
    identity = seen.known_identity
    if identity is None or not _to_be_there(seen) or not identity.thumbprints:
        return None
    if any(map(seen.at_hub, seen.device.in_use)):
        return None
    for serial, one in seen.certificates.items():
        if identity.thumbprints & thumbprints_of(one):
            return (
                f"{seen.hub} knows it by its former certificate {serial}: it has registered with that one after it was "
                "renewed, or was restored to an earlier state"
            )
    return None


def _to_be_there(seen: Seen) -> bool:
    return seen.to_be_open and seen.device.state in IN_ITS_HUB
