"""Calls to mend or to adopt a finding: whether what they asked for is so, when the difference is not there any more.

A call may break off when its deed is done, or when a converger is left to do it. The next pass sees no difference then.
So it was brought about if the ledger says what it said when the call came; or if it says something else in what was to
be taken over, and in nothing else. Who has asked for something else meanwhile has overtaken the call.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from shared.domain.certificates import CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.groups import GroupRecord
from shared.domain.treatments import FindingKind, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.domain.audit_entries import AuditedCall
    from shared.domain.authorities import AuthorityRecord
    from shared.domain.findings import FindingRecord

    type Subject = DeviceRecord | GroupRecord | AuthorityRecord
    """What a finding may be about."""

ADOPTED: Mapping[FindingKind, str] = {
    FindingKind.IDENTITY_DISABLED: "disabled",
    FindingKind.HUB_CHANGED: "hub",
    FindingKind.ENROLLMENT_SETTINGS: "settings",
    FindingKind.GROUP_MISSING: "state",
    FindingKind.GROUP_STATUS: "state",
    FindingKind.GROUP_SETTINGS: "settings",
}
"""What the ledger says otherwise when a finding is adopted, by its kind."""

_DIGITS = 12


def said_of(kind: FindingKind, subject: Subject | None) -> dict[str, str]:
    """Give what the ledger says of what a finding is about, a digest for each thing; nothing if it does not know it.

    Args:
        kind: of the finding. Settings and the hub count where they are what differs: mending others may note them.
        subject: the device, the group or the CA; ``None`` if the ledger does not have it.
    """
    counted = ADOPTED.get(kind)
    return {
        name: sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]
        for name, value in _said(subject)
        if name not in {"settings", "hub"} or name == counted
    }


def _said(subject: Subject | None) -> Iterator[tuple[str, Any]]:
    if subject is None:
        return
    if isinstance(subject, DeviceRecord):
        revoked = [each.serial_number for each in subject.held if each.state is CertificateState.REVOKED]
        yield "state", (subject.phase, subject.entry_disabled)
        yield "certificates", (subject.in_use, revoked)
        yield "disabled", subject.disabled
        yield "hub", (subject.assigned_hub, subject.device_id)
        yield "settings", subject.entry_settings
    elif isinstance(subject, GroupRecord):
        change = subject.change if subject.change is not None and not subject.change.only_told else subject
        yield "state", change.state
        yield "issuer", change.issuer
        yield "settings", subject.entry_settings
    else:
        yield "state", subject.state
        yield "certificate", subject.thumbprint


def is_settled(subject: Subject | None) -> bool:
    """Tell whether the services follow what the ledger says; while they do not, nothing of it is compared."""
    return subject.settled if isinstance(subject, DeviceRecord | GroupRecord) else True


def in_effect(finding: FindingRecord, subject: Subject | None) -> tuple[AuditedCall, ...]:
    """Give the calls that were brought about, of a finding whose difference is not there any more."""
    now = said_of(finding.kind, subject)
    return tuple(each for each in finding.audited if _otherwise(each.said, now) == _wanted(finding.kind, each))


def _otherwise(before: Mapping[str, str], now: Mapping[str, str]) -> set[str]:
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def _wanted(kind: FindingKind, call: AuditedCall) -> set[str]:
    return {ADOPTED[kind]} if call.act == Policy.ADOPT and kind in ADOPTED else set()
