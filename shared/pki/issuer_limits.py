"""What an issuer allows below it: path length, names and time (RFC 5280 sections 4.2.1.9, 4.2.1.10 and 4.1.2.5)."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from shared.errors import Reason, Rejected
from shared.pki import names
from shared.pki.certificate_rules import life_findings
from shared.pki.name_constraints import forbidden_names, names_of
from shared.pki.subjects import Subject

if TYPE_CHECKING:
    from datetime import datetime

    from shared.pki.issuers import Issuer
    from shared.pki.profiles import Profile

BACKDATING = timedelta(minutes=10)
"""notBefore lies this far back, for devices whose clock is late."""

_REASONS_SHOWN = 5
_ANY_DEVICE = "device-1"
"""Devices have a CN and nothing else in their names, so a chain that forbids this one forbids about all."""


def check_fit(profile: Profile, subject: Subject, issuer: Issuer, now: datetime) -> tuple[datetime, datetime]:
    """Check that a profile and a name fit below an issuer, before anything is made for them.

    Returns:
        notBefore and notAfter as they would be, both inclusive.

    Raises:
        Rejected: path length, name or life contradict the issuer's.
    """
    _check_issuer(profile, issuer, now)
    _check_constraints(subject, issuer)
    return _life_below(profile, issuer, now)


def _check_issuer(profile: Profile, issuer: Issuer, now: datetime) -> None:
    """Check what the issuer allows, its own time aside."""
    if now < issuer.begins:
        raise Rejected.because(
            f"{issuer.quoted_name} can't sign before {issuer.begins:%Y-%m-%d %H:%M} UTC, when it becomes valid"
        )
    allowed = issuer.path_length
    if not profile.is_ca or allowed is None:
        return
    if profile.path_length is None or profile.path_length >= allowed:
        raise Rejected.because(
            f"a CA of path length {profile.path_length} does not fit below {issuer.quoted_name}, whose path length is "
            f"{allowed}: it must be smaller (RFC 5280 section 4.2.1.9)",
            field="pathLength",
        )


def _check_constraints(subject: Subject, issuer: Issuer) -> None:
    reasons = [
        f"{subject.common_name!r} can't have a certificate of {issuer.quoted_name}, whose chain constrains names: it "
        + reason
        for constraints in issuer.name_constraints
        for reason in islice(forbidden_names(constraints, names_of(subject.to_name())), 1)
    ]
    if reasons:
        raise Rejected(*(Reason("issuer", reason) for reason in reasons[:_REASONS_SHOWN]))


def check_for_devices(issuer: Issuer, now: datetime, *, field: str) -> None:
    """Check that a CA that comes from elsewhere can sign for devices now, before anything is done with it.

    Args:
        issuer: the CA.
        now: the present time, UTC.
        field: path of what it was read from, for messages.

    Raises:
        Rejected: a certificate of its chain is not valid now, or the names that it allows are not those of devices.
    """
    found = [finding.message for finding in life_findings(issuer.chain, now)]
    try:
        _check_constraints(Subject(_ANY_DEVICE), issuer)
    except Rejected as rejection:
        found += [reason.message for reason in rejection.reasons]
    if found:
        raise Rejected(*(Reason(field, message) for message in found[:_REASONS_SHOWN]))


def wanted_life(profile: Profile, now: datetime) -> tuple[datetime, datetime]:
    """Give notBefore and notAfter, both inclusive (RFC 5280 section 4.1.2.5), to the second, whoever signs.

    Raises:
        Rejected: it ends after the year 9999.
    """
    start = now.replace(microsecond=0)
    try:
        return start - BACKDATING, start + profile.validity - timedelta(seconds=1)
    except OverflowError:
        raise Rejected.because(
            f"a life of {profile.validity.days} days ends after the year 9999, the last that a certificate can name "
            "(RFC 5280 section 4.1.2.5)",
            field="validityDays",
        ) from None


def _life_below(profile: Profile, issuer: Issuer, now: datetime) -> tuple[datetime, datetime]:
    not_before, not_after = wanted_life(profile, now)
    last = issuer.ends_first
    left = last.not_valid_after_utc - now.replace(microsecond=0)
    if left <= timedelta(0) or left < profile.validity * profile.least_share:
        raise Rejected.because(
            f"{names.quoted(last.subject)} ends on {last.not_valid_after_utc:%Y-%m-%d}, which leaves "
            f"{max(left.days, 0)} of the {profile.validity.days} days wanted; roll the issuing CA, or ask for fewer "
            "days",
            field="validityDays",
        )
    return max(not_before, issuer.certificate.not_valid_before_utc), min(not_after, last.not_valid_after_utc)
