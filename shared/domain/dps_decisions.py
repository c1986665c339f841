"""What DPS decides about a device: a pure decision over the chain that it would send and what DPS knows.

Order and rules (Microsoft): "X.509 certificate attestation" (CN, chain up to a verified CA), "How to disenroll or
revoke a device" (the individual enrollment, then the groups of the chain's CAs, the lowest first; the first entry found
decides, enabled or disabled) and "How to verify X.509 CA certificates" (what a group holds is verified, or below a CA
that is). Where these say nothing, RFC 5280 does. The emulated DPS answers each chain as is said here:
tests/contract/test_previews.py sends them to both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.domain.attestations import attestation_of, attests_by_certificates, held_certificates, references
from shared.pki import names
from shared.pki.certificate_rules import readable, unreadable_findings
from shared.pki.certificates import issued_under_other_encoding
from shared.pki.chains import LENGTH_LIMIT, device_findings, open_end, path_findings, too_long, wrong_group
from shared.pki.findings import HARMLESS, Finding
from shared.pki.path_rules import link_findings, other_encoding
from shared.pki.paths import Path, paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from shared.domain.attestations import Entry

    type Chain = Sequence[x509.Certificate]

_INVALID, _DISABLED = "Invalid certificate", "Enrollment is disabled"
_NOT_FOUND, _NO_MATCH = "CA certificate not found", "Signing certificate info did not match chain elements"
_SELF_SIGNED = "self-signed-leaf"
_TOLERATED = HARMLESS | {"leaf-is-ca", _SELF_SIGNED, "weak-key"}
"""Findings that DPS does not refuse a certificate for: RFC 5280 lets a path end at a CA (section 4.2.1.9), and whether
an RSA key can be factored is for whoever issues to find out."""

_BREAKS = frozenset({"broken-link", "other-key", "issuer-encoding", "authority-key-identifier"})
"""What keeps DPS from going up."""


@dataclass(frozen=True, slots=True)
class Match:
    """The entry that decides.

    Attributes:
        kind: ``individualEnrollment`` or ``enrollmentGroup``.
        identifier: registration id, or id of the group.
        entry: as DPS holds it.
        by: the certificate of the chain that it was found by; ``None`` for an individual enrollment.
    """

    kind: Literal["individualEnrollment", "enrollmentGroup"]
    identifier: str
    entry: Entry
    by: x509.Certificate | None = None

    @property
    def enabled(self) -> bool:
        """Whether it lets devices in."""
        return self.entry.get("provisioningStatus") != "disabled"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why DPS would refuse a device.

    Attributes:
        message: DPS's own.
        finding: ours, which says more.
    """

    message: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What DPS decides by.

    Attributes:
        enrollment: the individual enrollment of the registration id, if there is one.
        groups: all enrollment groups that attest by certificates.
        verified: by name, the CA certificates whose possession was proved.
        now: the present time, UTC.
        named: the group that the device is meant for, if one was named.
    """

    enrollment: Entry | None
    groups: Sequence[Entry]
    verified: Mapping[str, x509.Certificate]
    now: datetime
    named: Entry | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What DPS would do with a device.

    Attributes:
        match: the entry that decides, or would if the chain were good.
        causes: why it refuses, in its own order; none if it lets the device in.
        advice: what DPS does not mind, and others may.
    """

    match: Match | None
    causes: tuple[Cause, ...]
    advice: tuple[Finding, ...] = ()


def decide(chain: Chain, registration_id: str, known: Knowledge) -> Decision:
    """Decide about a device as DPS does.

    Args:
        chain: as the device sends it, leaf first.
        registration_id: in canonical form.
        known: what DPS knows.
    """
    damage = [Cause(_INVALID, each) for each in unreadable_findings(chain[:1], "the chain")]
    if damage:
        return Decision(None, tuple(damage))
    found = device_findings(chain[0], registration_id, known.now)
    faults = tuple(Cause(_INVALID, each) for each in found if each.code not in _TOLERATED)
    alone = tuple(Cause(_NOT_FOUND, each) for each in found if each.code == _SELF_SIGNED)
    by_group = known.enrollment is None
    decision = _by_group(chain, alone, known) if by_group else _by_enrollment(chain, registration_id, known)
    advice = tuple(each for each in found if each.code in _TOLERATED - {_SELF_SIGNED})
    return Decision(decision.match, (*faults, *decision.causes), (*advice, *(() if faults else decision.advice)))


# --- by an individual enrollment ---


def _by_enrollment(chain: Chain, registration_id: str, known: Knowledge) -> Decision:
    """Decide by an individual enrollment: by the leaf alone, unless the entry refers to CAs."""
    entry = known.enrollment or {}
    match = Match("individualEnrollment", registration_id, entry)
    disabled = _disabled(match)
    if not attests_by_certificates(entry):
        return Decision(match, (*disabled, Cause(_INVALID, _other_attestation(entry))))
    held = held_certificates(entry)
    if names.sha256_thumbprint(chain[0]) in held:
        return Decision(match, disabled)
    if not references(entry):
        return Decision(match, (*disabled, Cause(_INVALID, _other_certificate(chain[0], held))))
    ways = _ways(chain, known)
    sound = [way for way in ways if way.height]
    accepted = _accepted(entry, chain, known)
    if any(each in accepted for way in sound for each in (chain[0], *way.authorities)):
        return Decision(match, disabled, _advice(chain, sound[0], known))
    others = (Cause(_NO_MATCH, wrong_group(_authorities(chain, sound), accepted, unseen=_unseen(entry, accepted))),)
    return Decision(match, (*disabled, *(others if sound else _stops(chain, ways, known))))


def _other_attestation(entry: Entry) -> Finding:
    return Finding(
        "other-attestation",
        f"the device's individual enrollment, which decides before any group, accepts {attestation_of(entry).words}, "
        "and no certificate",
    )


def _other_certificate(leaf: x509.Certificate, held: Mapping[str, object]) -> Finding:
    return Finding(
        "other-certificate",
        "the device's individual enrollment, which decides before any group, holds another certificate (SHA-256 "
        f"{' or '.join(held) or 'none'}) than the leaf (SHA-256 {names.sha256_thumbprint(leaf)}); put the leaf "
        "into it, or delete it to let a group decide",
    )


# --- by a group ---


def _by_group(chain: Chain, alone: tuple[Cause, ...], known: Knowledge) -> Decision:
    """Decide by a group; ``alone`` says of a leaf that is signed by itself that it is."""
    ways = _ways(chain, known)
    sound = [way for way in ways if way.height]
    found = _first_match([way.authorities for way in sound] or [chain[1:]], known)
    stop = () if sound else alone or _stops(chain, ways, known)
    if found is None:
        return Decision(None, (*stop, *_unmatched(chain, sound, known)))
    match, index = found
    return Decision(match, (*stop, *_disabled(match)), _advice(chain, sound[index], known) if sound else ())


def _ways(chain: Chain, known: Knowledge) -> list[Path]:
    if len(chain) > LENGTH_LIMIT:
        return []
    return paths(chain, readable(known.verified.values()), known.now, tolerated=_TOLERATED)


def _stops(chain: Chain, ways: Sequence[Path], known: Knowledge) -> tuple[Cause, ...]:
    """Say why no verified CA is reached, or why the way to it is not good."""
    if not ways:
        return (Cause(_INVALID, too_long(len(chain))),)
    faulty = [way.faults for way in ways if way.faults]
    if faulty:
        return tuple(Cause(_INVALID, each) for each in min(faulty, key=len))
    sent = readable(chain)
    breaks = [each for each in link_findings(sent) if each.code in _BREAKS]
    longest = max(ways, key=lambda way: len(way.certificates)).certificates
    ends = [_end(longest[-1], known)] if not breaks or longest[-1] == chain[-1] else []
    return tuple(Cause(_NOT_FOUND, each) for each in (*breaks, *ends, *unreadable_findings(chain, "the chain")))


def _end(top: x509.Certificate, known: Knowledge) -> Finding:
    """Say why no verified CA is above a certificate; one that is there may not be known by its name."""
    for authority in readable(known.verified.values()):
        if issued_under_other_encoding(top, authority):
            return other_encoding(top, authority)
    return open_end(top)


def _first_match(ways: Sequence[Chain], known: Knowledge) -> tuple[Match, int] | None:
    """Find the group of the lowest CA that has one, and on which way it was found."""
    for height in range(max(map(len, ways))):
        for index, way in enumerate(ways):
            group = _group_of(way[height], known) if height < len(way) else None
            if group is not None:
                return Match("enrollmentGroup", str(group["enrollmentGroupId"]), group, way[height]), index
    return None


def _group_of(authority: x509.Certificate, known: Knowledge) -> Entry | None:
    thumbprint = names.sha256_thumbprint(authority)
    for group in known.groups:
        named = [known.verified.get(name) for name in references(group).values()]
        if thumbprint in held_certificates(group) or authority in named:
            return group
    return None


def _unmatched(chain: Chain, sound: Sequence[Path], known: Knowledge) -> Iterator[Cause]:
    authorities = _authorities(chain, sound)
    if known.named is None:
        yield Cause(_NO_MATCH, _no_group(authorities))
    elif sound or len(chain) > 1:
        accepted = _accepted(known.named, chain, known)
        yield Cause(_NO_MATCH, wrong_group(authorities, accepted, unseen=_unseen(known.named, accepted)))


def _authorities(chain: Chain, sound: Sequence[Path]) -> Chain:
    """Give the CAs that DPS looks at, or those that were sent if it does not get that far."""
    return list(dict.fromkeys(each for way in sound for each in way.authorities)) if sound else readable(chain[1:])


def _no_group(authorities: Chain) -> Finding:
    present = ", ".join(names.quoted(each.subject) for each in authorities) or "none"
    return Finding(
        "no-group", f"no enrollment group of this DPS holds a CA of the chain; the chain's CAs are {present}"
    )


def _accepted(entry: Entry, chain: Chain, known: Knowledge) -> list[x509.Certificate]:
    """Give the certificates that an entry accepts chains of; DPS may name them without giving them."""
    seen = {names.sha256_thumbprint(each): each for each in (*chain, *known.verified.values())}
    held = [seen.get(each.thumbprint) or each.certificate for each in held_certificates(entry).values()]
    named = [known.verified.get(name) for name in references(entry).values()]
    return list(readable(each for each in (*held, *named) if each is not None))


def _unseen(entry: Entry, accepted: Chain) -> list[str]:
    """Name the certificates that an entry holds and that nobody here has seen, as DPS names them."""
    seen = {names.sha256_thumbprint(each) for each in accepted}
    return [each.name or each.thumbprint for each in held_certificates(entry).values() if each.thumbprint not in seen]


def _disabled(match: Match) -> tuple[Cause, ...]:
    return () if match.enabled else (Cause(_DISABLED, Finding("disabled", _why_disabled(match))),)


def _why_disabled(match: Match) -> str:
    if match.by is None:
        return (
            f"the individual enrollment of {match.identifier!r} is disabled, and decides before any group: the device "
            "is shut out"
        )
    return (
        f"the enrollment group {match.identifier!r}, found by {names.quoted(match.by.subject)}, is disabled; "
        "DPS looks no further, so no group of a CA higher up lets the device in"
    )


# --- what DPS does not mind ---


def _advice(chain: Chain, way: Path, known: Knowledge) -> tuple[Finding, ...]:
    """Say what others than DPS may refuse: a TLS library, or a gateway that reads the chain as it is sent."""
    unusual = path_findings(way.certificates[: way.height], known.now)
    return (*(each for each in unusual if each.code in _TOLERATED), *_disorder(chain, way.certificates))


def _disorder(chain: Chain, way: Chain) -> Iterator[Finding]:
    wanted = [each for each in way if each in chain]
    sent = list(dict.fromkeys(chain))
    for each in sent:
        if list(chain).count(each) > 1:
            yield Finding("duplicate", f"{names.quoted(each.subject)} is in the chain more than once; send it once")
    for each in readable(sent):
        if each not in wanted:
            yield Finding("unneeded", f"{names.quoted(each.subject)} is not needed on the way up; leave it out")
    yield from unreadable_findings(chain, "the chain")
    if [each for each in sent if each in wanted] != wanted:
        order = ", ".join(names.quoted(each.subject) for each in wanted)
        yield Finding(
            "misordered",
            f"DPS accepts any order, and other verifiers don't; the right order is the leaf first, then "
            f"each one's issuer: {order}",
        )
