"""Causes that the ledger alone shows: what was decided about a device, its certificates and its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.authorities import OVER
from shared.domain.certificates import CertificateState
from shared.domain.devices import IN_ITS_HUB, IN_SERVICE, OUT_OF_SERVICE
from shared.domain.explanations.doors import doors
from shared.domain.explanations.parts import AT_WORK, Call, DoorState, Remedy, Seen, day
from shared.domain.held_certificates import Purpose
from shared.domain.renewal import latest
from shared.domain.words import DeviceState
from shared.pki import names

if TYPE_CHECKING:
    from cryptography import x509

    from shared.domain.held_certificates import CertificateSummary


# --- what somebody decided ---


def on_hold(seen: Seen) -> str | None:
    """Its certificates are revoked for now."""
    return f"it is on hold since {day(seen.since)}: {_doors_are(seen)}" if seen.device.on_hold else None


def _doors_are(seen: Seen, *, further: str = "") -> str:
    """Say of the doors what was seen, and no more."""
    is_shut = all(each.state is DoorState.SHUT for each in doors(seen))
    return f"every door is shut to it{further}" if is_shut else "every door is to be shut to it"


def reinstate(seen: Seen) -> Remedy:
    """Undo the hold."""
    return Remedy(
        "If the hold is over, reinstate the device; its certificates are good again then.",
        Call("POST", f"{seen.path}/reinstate"),
    )


def revoked(seen: Seen) -> str | None:
    """It is revoked for good."""
    if seen.device.state is not DeviceState.REVOKED or seen.device.on_hold:
        return None
    return f"it is revoked for good ({_reason(seen)}): {_doors_are(seen, further=', and stays shut')}"


def _reason(seen: Seen) -> str:
    return seen.device.revoked.value if seen.device.revoked else "no reason was given"


def replace_it(seen: Seen) -> Remedy:
    """Delete it, since its id can be ordered again then."""
    return Remedy(
        "A final revocation is not undone. If the device is to come back, delete it, and order it anew: it gets "
        "another certificate.",
        Call("DELETE", seen.path),
    )


def deleted(seen: Seen) -> str | None:
    """It was taken out of service."""
    if seen.device.state is not DeviceState.DELETED:
        return None
    return (
        f"it was taken out of service on {day(seen.since)}: its certificates are revoked, and its hub has no identity"
    )


def order_anew(seen: Seen) -> Remedy:
    """Order it."""
    return Remedy(
        "If it is to be in service, order it anew: it gets another certificate.",
        Call(
            "POST",
            "/api/device-orders",
            {
                "orderId": "a-new-id",
                "enrollmentGroup": seen.device.enrollment_group or "its-group",
                "devices": [{"registrationId": seen.device.registration_id}],
            },
        ),
    )


# --- what did not succeed ---


def failed(seen: Seen) -> str | None:
    """Its order was not carried out."""
    if seen.device.state is not DeviceState.FAILED:
        return None
    return f"{seen.device.purpose} {seen.device.order_id!r} could not be carried out for it: {seen.device.reason}"


def retry(seen: Seen) -> Remedy:
    """Try it again."""
    if seen.device.purpose is Purpose.ORDER:
        return Remedy(
            "Mend what the reason says, then have the failed lines of its order tried again.",
            Call("POST", f"/api/device-orders/{seen.device.order_id}/retry"),
        )
    return Remedy("Mend what the reason says, then ask for its certificate again.", Call("POST", "/api/certificates"))


def not_followed(seen: Seen) -> str | None:
    """The services are late."""
    if seen.settled or seen.now - seen.since <= AT_WORK:
        return None
    return (
        f"what was decided about it on {day(seen.since)} is not true at DPS, its hub and the list of its CA yet: they "
        "did not follow"
    )


def look_at_services(_seen: Seen) -> Remedy:
    """See which service is not there."""
    return Remedy(
        "See which service does not answer, or lacks a role. The app goes on by itself every few minutes.",
        Call("GET", "/api/health/ready"),
    )


def being_followed(seen: Seen) -> str | None:
    """The services are about to follow."""
    if seen.settled:
        return None
    return f"what was decided about it on {day(seen.since)} is on its way to DPS, its hub and the list of its CA"


def wait(_seen: Seen) -> Remedy:
    """Nobody has to act."""
    return Remedy("Wait a few minutes: the app is at work.")


# --- its certificates ---


def present(seen: Seen) -> CertificateSummary | None:
    """Give the certificate that it uses; one that is out of service uses none."""
    return None if seen.device.state in OUT_OF_SERVICE else seen.device.certificate


def successor_good(seen: Seen) -> bool:
    """Tell whether a certificate waits for it that it could use."""
    following = seen.device.next_certificate
    return following is not None and following.not_after >= seen.now


def certificate_revoked(seen: Seen) -> str | None:
    """The present one is revoked, and the device is not."""
    used = present(seen)
    held = seen.device.find(used.serial_number) if used else None
    if held is None or held.state is not CertificateState.REVOKED or seen.device.shut_out:
        return None
    return f"its certificate {held.serial_number} is revoked ({held.reason}), and the one that waits for it is good"


def use_successor(seen: Seen) -> Remedy:
    """Have it use what it was renewed with."""
    return Remedy(
        "Put the certificate that it was renewed with onto the device, and have it register again.",
        None if seen.device.own_key else Call("GET", f"{seen.path}/bundle?format=pem"),
    )


def certificate_expired(seen: Seen) -> str | None:
    """The present one has ended by time."""
    used = present(seen)
    if used is None or (seen.device.state is not DeviceState.EXPIRED and used.not_after >= seen.now):
        return None
    return f"its certificate {used.serial_number} expired on {day(used.not_after)}: neither DPS nor its hub take it"


def after_expiry(seen: Seen) -> Remedy:
    """Give it another certificate."""
    if successor_good(seen):
        return use_successor(seen)
    if seen.device.state is DeviceState.EXPIRED:
        return order_anew(seen)
    return Remedy(
        "Renew it, and put the new certificate onto the device by hand: it can't fetch it with the old one.",
        Call("POST", f"{seen.path}/renew"),
    )


def certificate_not_yet_valid(seen: Seen) -> str | None:
    """The present one begins later."""
    used = present(seen)
    if used is None or used.not_before <= seen.now:
        return None
    return (
        f"its certificate {used.serial_number} is valid from {day(used.not_before)} on, and it is {day(seen.now)} "
        "here: one of the clocks is wrong"
    )


def set_clock(_seen: Seen) -> Remedy:
    """Put the clock right."""
    return Remedy("Set the clocks by NTP, that of the device as well, and wait until the certificate is valid.")


def issuer_expired(seen: Seen) -> str | None:
    """A CA above it has ended."""
    ended = next((each for each in seen.chain[1:] if each.not_valid_after_utc < seen.now), None)
    if ended is None or present(seen) is None:
        return None
    return f"the CA {_name(ended)} above its certificate expired on {day(ended.not_valid_after_utc)}"


def issuer_revoked(seen: Seen) -> str | None:
    """A CA above it is revoked, and the device is not yet."""
    over = next((each for each in seen.authorities if each.state in OVER), None)
    if over is None or seen.device.state not in IN_SERVICE:
        return None
    return f"the CA {over.name!r} above its certificate is {over.state.value}: nobody is to trust what it has signed"


def roll(seen: Seen) -> Remedy:
    """Give the group another CA."""
    return Remedy(
        "Give its group a new issuing CA, then order its devices anew, or renew those that are in their hubs.",
        Call("POST", f"/api/enrollment-groups/{seen.device.enrollment_group}/roll"),
    )


def _name(certificate: x509.Certificate) -> str:
    return names.quoted(certificate.subject)


# --- on its way, or well ---


def expires_soon(seen: Seen) -> str | None:
    """It needs another certificate soon, and none is on its way."""
    last = latest(seen.device)
    if last is None or seen.device.state not in IN_ITS_HUB or seen.device.next_certificate is not None:
        return None
    if last.not_after - seen.now > seen.warning or last.not_after <= seen.now:
        return None
    return f"its certificate {last.serial_number} ends on {day(last.not_after)}"


def renew(seen: Seen) -> Remedy:
    """Have it renewed."""
    if seen.device.own_key:
        return Remedy("Renew it with a new CSR of the device's.", Call("POST", f"{seen.path}/renew", {"csr": "..."}))
    return Remedy("Renew it.", Call("POST", f"{seen.path}/renew"))


def successor_waits(seen: Seen) -> str | None:
    """It is renewed, and has not registered with that certificate."""
    following = seen.device.next_certificate
    if following is None or seen.device.state is not DeviceState.RENEWING:
        return None
    if seen.at_hub(following.serial_number):
        return f"it has registered with its new certificate {following.serial_number}, and the app is about to notice"
    used = present(seen)
    ends = f"; the old one ends on {day(used.not_after)}" if used else ""
    return f"it is renewed with certificate {following.serial_number}, and has not registered with it yet{ends}"


def never_booted(seen: Seen) -> str | None:
    """It has its certificate, and was never at DPS."""
    if seen.device.state is not DeviceState.ISSUED or not seen.device.registers_itself:
        return None
    if any(map(seen.at_hub, seen.device.in_use)):
        return "it has registered with its certificate, and the app is about to notice"
    return f"it has its certificate since {day(seen.device.updated_at)}, and has not registered with it yet"


def boot(seen: Seen) -> Remedy:
    """Put the certificate onto the device."""
    fetch = None if seen.device.own_key else Call("GET", f"{seen.path}/bundle?format=pem")
    return Remedy("Put its certificate and key onto the device, and have it register with DPS.", fetch)


def being_registered(seen: Seen) -> str | None:
    """The app registers it."""
    if seen.device.state is not DeviceState.ISSUED:
        return None
    return f"it has its certificate since {day(seen.device.updated_at)}, and is being registered with DPS"


def ordered(seen: Seen) -> str | None:
    """Its certificate is being made."""
    if seen.device.state is not DeviceState.ORDERED:
        return None
    return f"it was ordered on {day(seen.device.updated_at)}, and its certificate is being made"


def see_order(seen: Seen) -> Remedy:
    """Look at its order."""
    return Remedy("Its order says how far it is.", Call("GET", f"/api/device-orders/{seen.device.order_id}"))


def in_service(seen: Seen) -> str | None:
    """Nothing is wrong."""
    return f"it is {seen.device.state.value}, and nothing was found that keeps it out"


def nothing(_seen: Seen) -> Remedy:
    """Nobody has to act."""
    return Remedy(
        "Nothing has to be done here. If the device does not connect all the same, send lines of its log to "
        "POST /api/explanations: the cause is on the device, or between it and Azure."
    )
