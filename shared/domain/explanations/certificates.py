"""Causes that a certificate or chain shows which somebody has pasted: whose it is, and whether it is the right one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.domain.certificates import CertificateState
from shared.domain.explanations.group_rules import UNVERIFIED
from shared.domain.explanations.parts import Call, Cause, Kind, Remedy, day
from shared.domain.words import CertificateKind
from shared.pki import names
from shared.rules.registration_ids import same_registration_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from cryptography import x509

    from shared.domain.certificates import CertificateRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.dps_decisions import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Pasted:
    """A certificate that somebody has given, with what came beside it.

    Attributes:
        now: the present time, UTC.
        chain: as it was given; one certificate if no more is known.
        leaf: the device's own among them.
        record: the ledger's, if this app has issued it.
        device: whose it is.
        signed_here: whether a CA of this app has signed it.
        said: the device that it is said to be of.
        decision: what DPS would decide about the chain; ``None`` if it was not asked, or only the leaf is known.
    """

    now: datetime
    chain: tuple[x509.Certificate, ...]
    leaf: x509.Certificate
    record: CertificateRecord | None
    device: DeviceRecord | None
    signed_here: bool
    said: str | None = None
    decision: Decision | None = None

    @property
    def number(self) -> str:
        """Its serial number."""
        return names.serial_text(self.leaf.serial_number)

    @property
    def in_use(self) -> bool:
        """Whether its device uses it, or is about to."""
        return self.device is not None and self.number in self.device.in_use


Relation = Literal["present", "next", "former", "authority", "unrecorded", "foreign"]


def relation(pasted: Pasted) -> Relation:
    """Say what it is to its device: ``present``, ``next``, ``former``, ``authority``, ``unrecorded`` or ``foreign``."""
    if pasted.record is None:
        return "unrecorded" if pasted.signed_here else "foreign"
    if pasted.record.kind is not CertificateKind.DEVICE:
        return "authority"
    present = pasted.device.certificate if pasted.device else None
    if present is not None and present.serial_number == pasted.number:
        return "present"
    return "next" if pasted.in_use else "former"


def certificate_causes(pasted: Pasted) -> tuple[Cause, ...]:
    """Say what is wrong with a certificate that was given, the gravest first; nothing if it is the right one."""
    return tuple(_causes(pasted))


def _causes(pasted: Pasted) -> Iterator[Cause]:
    for rule in _OURS if pasted.record is not None else _OTHERS:
        cause = rule(pasted)
        if cause is not None:
            yield cause


def _fault(code: str, text: str, remedy: str, call: Call | None = None) -> Cause:
    return Cause(code, Kind.FAULT, text, Remedy(remedy, call))


# --- certificates that are not in the ledger ---


def _foreign(pasted: Pasted) -> Cause | None:
    if pasted.signed_here:
        return None
    name, issuer = names.quoted(pasted.leaf.subject), names.quoted(pasted.leaf.issuer)
    return _fault(
        "foreignCertificate",
        f"the certificate of {name} was not issued by this app: it is signed by {issuer}",
        "Put the certificate that this app has issued onto the device. If the other CA is to be accepted, its owner "
        "has to bring it along, or a group has to refer to it.",
    )


def _unrecorded(pasted: Pasted) -> Cause | None:
    if not pasted.signed_here:
        return None
    return _fault(
        "unrecordedCertificate",
        f"a CA of this app has signed the certificate {pasted.number}, and the ledger does not have it: the ledger was "
        "restored to an earlier state, or somebody else signs with the CA's key",
        "Treat the key of this CA as compromised until it is known who has signed this: give its group a new issuing "
        "CA.",
    )


def _named_otherwise(pasted: Pasted) -> Cause | None:
    name = names.common_name(pasted.leaf.subject)
    if pasted.said is None or same_registration_id(name, pasted.said):
        return None
    return _fault(
        "commonName",
        f"the certificate's CN is {names.shown(name)}, and the registration id {pasted.said!r}; DPS wants them to be "
        "the same",
        "Give the device a certificate whose CN is its registration id.",
    )


# --- certificates that this app has issued ---


def _authority(pasted: Pasted) -> Cause | None:
    if relation(pasted) != "authority" or pasted.record is None:
        return None
    return _fault(
        "authorityCertificate",
        f"the certificate is that of the CA {pasted.record.subject!r}, and not a device's",
        "Give the chain that the device sends, its own certificate first.",
    )


def _other_device(pasted: Pasted) -> Cause | None:
    record = pasted.record
    if pasted.said is None or record is None or same_registration_id(record.subject, pasted.said):
        return None
    return _fault(
        "otherDevice",
        f"the certificate is that of {record.subject!r}, and not of {pasted.said!r}: DPS refuses a CN that is not the "
        "registration id",
        "Put the device's own certificate and key onto it.",
        Call("GET", f"/api/devices/{pasted.said}/bundle?format=pem"),
    )


def _wrong_order(pasted: Pasted) -> Cause | None:
    if pasted.chain[0] == pasted.leaf:
        return None
    place = pasted.chain.index(pasted.leaf) + 1
    return _fault(
        "wrongOrder",
        f"the device's own certificate is number {place} of the chain, and has to be the first: TLS takes the first "
        "for the device's (RFC 8446 section 4.4.2)",
        "Send the leaf first, then each one's issuer, as the bundle has them.",
    )


def _revoked(pasted: Pasted) -> Cause | None:
    record = pasted.record
    if record is None or record.state is not CertificateState.REVOKED:
        return None
    at = day(record.revoked_at) if record.revoked_at else "an earlier day"
    if not record.ended:
        return Cause(
            "certificateOnHold",
            Kind.WANTED,
            f"the certificate {pasted.number} is on hold since {at}",
            Remedy("If the hold is over, reinstate the device.", Call("POST", f"{_path(record)}/reinstate")),
        )
    return _fault(
        "certificateRevoked",
        f"the certificate {pasted.number} was revoked on {at}: {record.revocation_reason}",
        "It does not come back. The device's present certificate is the one to use; if it has none, order it anew.",
        Call("GET", _path(record)),
    )


def _expired(pasted: Pasted) -> Cause | None:
    if pasted.leaf.not_valid_after_utc >= pasted.now:
        return None
    return _fault(
        "certificateExpired",
        f"the certificate {pasted.number} expired on {day(pasted.leaf.not_valid_after_utc)}",
        "Put the device's present certificate onto it; if that has expired as well, order the device anew.",
    )


def _not_yet_valid(pasted: Pasted) -> Cause | None:
    if pasted.leaf.not_valid_before_utc <= pasted.now:
        return None
    return _fault(
        "certificateNotYetValid",
        f"the certificate {pasted.number} is valid from {day(pasted.leaf.not_valid_before_utc)} on, and it is "
        f"{day(pasted.now)} here",
        "Set the clock of whoever made it by NTP, or wait.",
    )


def _former(pasted: Pasted) -> Cause | None:
    record, device = pasted.record, pasted.device
    if record is None or relation(pasted) != "former" or record.state is CertificateState.REVOKED:
        return None
    if record.state in {CertificateState.RESERVED, CertificateState.ABANDONED}:
        return _fault(
            "certificateGivenUp",
            f"the certificate {pasted.number} was given up while it was made, and was never handed out by this app",
            "Find out how it got onto the device, and put the device's present certificate there.",
        )
    present = device.certificate.serial_number if device and device.certificate else "another one"
    return _fault(
        "certificateSuperseded",
        f"the certificate {pasted.number} was replaced: the device's present one is {present}",
        "Put the device's present certificate onto it, and have it register again.",
        Call("GET", f"{_path(record)}/bundle?format=pem") if device and not device.own_key else None,
    )


def _incomplete(pasted: Pasted) -> Cause | None:
    codes = _refused_for(pasted)
    if not codes & UNVERIFIED or not pasted.in_use:
        return None
    return _fault(
        "incompleteChain",
        f"the chain has {len(pasted.chain)} certificates, and ends below the CAs that DPS has verified: the device "
        "does not send its intermediates",
        "Have the device send the whole chain of its bundle: its own certificate, then each one's issuer.",
    )


def _refused(pasted: Pasted) -> Cause | None:
    codes = _refused_for(pasted)
    known = {"expired", "not-yet-valid", "common-name", "other-certificate", "disabled", "leaf-is-ca"}
    if not codes or codes & (UNVERIFIED | known) or pasted.decision is None:
        return None
    first = pasted.decision.causes[0]
    return _fault(
        "chainRefused",
        f"DPS would answer {first.message!r} to this chain: {first.finding.message}",
        "Send the chain of the device's bundle as it is.",
    )


def _refused_for(pasted: Pasted) -> frozenset[str]:
    return frozenset(each.finding.code for each in pasted.decision.causes) if pasted.decision else frozenset()


def _path(record: CertificateRecord) -> str:
    return f"/api/devices/{record.subject}"


type _Rule = Callable[[Pasted], Cause | None]

_OTHERS: Sequence[_Rule] = (_unrecorded, _foreign, _named_otherwise, _expired, _not_yet_valid, _refused)
_OURS: Sequence[_Rule] = (
    _authority,
    _other_device,
    _revoked,
    _expired,
    _not_yet_valid,
    _former,
    _wrong_order,
    _incomplete,
    _refused,
)
