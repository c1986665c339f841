"""The doors of a device: DPS, its hub, and what its CA's list and OCSP responder say; each as it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateState
from shared.domain.explanations.parts import Door, DoorState, Seen, Unseen, day
from shared.domain.hub_authentication import NONE, SELF_SIGNED, lets_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.domain.dps_decisions import Match
    from shared.ports.hubs import HubIdentity


def doors(seen: Seen) -> tuple[Door, ...]:
    """Give each door, and why it is as it is."""
    return (_dps(seen), *_hub(seen), *_books(seen))


def _dps(seen: Seen) -> Door:
    state, why = _dps_state(seen)
    return Door("dps", "DPS", state, why)


def _dps_state(seen: Seen) -> tuple[DoorState, str]:
    unseen = seen.unseen_dps
    if unseen is not None and not _is_disabled(seen):
        return DoorState.UNKNOWN, unseen.why
    if not seen.chain and not seen.device.unseen:
        return DoorState.SHUT, "it has no certificate to come with"
    if _is_disabled(seen):
        return DoorState.SHUT, "its individual enrollment is disabled"
    # Of a device that was taken over when the ledger was lost nobody has the certificate.
    if isinstance(seen.decisions, Unseen) or not seen.decisions:
        return DoorState.UNKNOWN, "the chain of its certificate is not known here"
    decision = seen.decisions[0]
    if decision.causes:
        return DoorState.SHUT, f"{decision.causes[0].message}: {decision.causes[0].finding.message}"
    return _by_match(seen, decision.match)


def _by_match(seen: Seen, match: Match | None) -> tuple[DoorState, str]:
    if seen.is_of_former_authority and match is not None and match.kind == "enrollmentGroup":
        return (
            DoorState.SHUT,
            "the chain that it has is of a former certificate of its CA, which its group does not accept",
        )
    by = f"the {_words(match.kind)} {match.identifier!r} lets it in" if match else "an entry lets it in"
    return DoorState.OPEN, by


def _words(kind: str) -> str:
    return "enrollment group" if kind == "enrollmentGroup" else "individual enrollment"


def _is_disabled(seen: Seen) -> bool:
    return seen.own_entry is not None and seen.own_entry.get("provisioningStatus") == "disabled"


def _hub(seen: Seen) -> Iterator[Door]:
    if seen.hub is not None:
        yield Door("hub", seen.hub, *_hub_state(seen, seen.identity))
    for (hub, device_id), identity in seen.elsewhere.items():
        state, why = _hub_state(seen, identity)
        other = device_id not in {seen.device.device_id or device_id, seen.device.registration_id}
        yield Door("hub", hub, state, f"{why} ({device_id})" if other else why)


def _hub_state(seen: Seen, identity: HubIdentity | Unseen | None) -> tuple[DoorState, str]:
    if isinstance(identity, Unseen):
        return DoorState.UNKNOWN, identity.why
    if identity is None:
        return DoorState.SHUT, "it has no identity there"
    if not identity.enabled:
        return DoorState.SHUT, f"its identity is disabled{f': {identity.reason}' if identity.reason else ''}"
    return _enabled_state(seen, identity)


def _enabled_state(seen: Seen, identity: HubIdentity) -> tuple[DoorState, str]:
    if identity.authentication != SELF_SIGNED:  # others may come in by that door
        state = DoorState.SHUT if identity.authentication == NONE else DoorState.OPEN
        who = lets_in(identity.authentication)
        return state, f"its identity is of the type {identity.authentication!r}: it lets in {who}"
    known = seen.knows(identity, seen.device.in_use) or seen.knows_as_taken_over(identity)
    if identity.thumbprints and not known:
        return DoorState.SHUT, "its identity is for another certificate than it uses"
    present = seen.device.certificate
    if present is not None and present.not_after < seen.now:
        return DoorState.SHUT, f"its certificate expired on {day(present.not_after)}"
    return DoorState.OPEN, "connected now" if identity.connected else "its identity is enabled, and not connected now"


def _books(seen: Seen) -> Iterator[Door]:
    present = seen.device.certificate
    held = seen.device.find(present.serial_number) if present else None
    if present is None or held is None:
        return
    revoked = held.state is CertificateState.REVOKED
    state = DoorState.SHUT if revoked else DoorState.OPEN
    why = f"certificate {held.serial_number} is {f'on the list: {held.reason}' if revoked else 'not on the list'}"
    yield Door("revocationStatus", f"CRL and OCSP of {held.issuer}", state, why)
