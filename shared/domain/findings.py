"""Differences between the ledger and the services: which kinds there are, and what becomes of one that was found.

A difference is found by comparing (:mod:`shared.domain.reconciliation`), looked at once more, and kept until it is
gone, or somebody has seen to it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from shared.domain import lifecycles
from shared.domain.audit_entries import AuditedCall
from shared.domain.callers import Actor
from shared.domain.findings_introduction import INTRODUCTION
from shared.domain.identities_seen import IdentitySeen
from shared.domain.record import Part, Record

if TYPE_CHECKING:
    from collections.abc import Mapping


class Severity(StrEnum):
    """How bad a difference is."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Policy(StrEnum):
    """What is done about a difference by itself."""

    REPORT = "report"
    MEND = "mend"
    ADOPT = "adopt"


class SubjectKind(StrEnum):
    """What a difference is about."""

    DEVICE = "device"
    GROUP = "group"
    AUTHORITY = "certificateAuthority"


class FindingKind(StrEnum):
    """What differs."""

    DOOR_OPEN = "doorOpen"
    ROGUE_CERTIFICATE = "rogueCertificate"
    UNKNOWN_DEVICE = "unknownDevice"
    TAKEN_OVER = "takenOver"
    IDENTITY_MISSING = "identityMissing"
    IDENTITY_DISABLED = "identityDisabled"
    IDENTITY_CERTIFICATE = "identityCertificate"
    IDENTITY_AUTHENTICATION = "identityAuthentication"
    IDENTITY_LEFT = "identityLeft"
    IDENTITY_UNKNOWN = "identityUnknown"
    HUB_CHANGED = "hubChanged"
    ENROLLMENT_MISSING = "enrollmentMissing"
    ENROLLMENT_DISABLED = "enrollmentDisabled"
    ENROLLMENT_FOREIGN = "enrollmentForeign"
    ENROLLMENT_UNKNOWN = "enrollmentUnknown"
    ENROLLMENT_CERTIFICATE = "enrollmentCertificate"
    ENROLLMENT_SETTINGS = "enrollmentSettings"
    GROUP_MISSING = "groupMissing"
    GROUP_LEFT = "groupLeft"
    GROUP_UNKNOWN = "groupUnknown"
    GROUP_STATUS = "groupStatus"
    GROUP_CERTIFICATES = "groupCertificates"
    GROUP_SETTINGS = "groupSettings"
    AUTHORITY_UNVERIFIED = "authorityUnverified"
    AUTHORITY_REPLACED = "authorityReplaced"
    KEY_UNUSABLE = "keyUnusable"
    SERIAL_RESERVED = "serialReserved"
    BUNDLE_WITHOUT_CERTIFICATE = "bundleWithoutCertificate"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What can be done about a kind of difference.

    Attributes:
        severity: how bad it is.
        mending: what making the services follow the ledger does; ``None`` if the app can't.
        adopting: what making the ledger follow the services does; ``None`` if it must not.
        always_mended: whether it is mended by itself, whatever the policy says.
    """

    severity: Severity
    mending: str | None = None
    adopting: str | None = None
    always_mended: bool = False

    def allows(self, policy: Policy) -> bool:
        """Tell whether a policy can be had for it."""
        done = {Policy.MEND: self.mending, Policy.ADOPT: self.adopting, Policy.REPORT: ""}[policy]
        return done is not None and not (self.always_mended and policy is not Policy.MEND)


_AGAIN = "the device's entry in DPS and its identity are written anew, as the ledger wants them"
_PINNED = (
    "the device gets an individual enrollment with its own certificates, and its identity those certificates alone"
)
_REMOVED = "the individual enrollment is disabled, and its registration and its identity are deleted"

TREATMENTS: Mapping[FindingKind, Treatment] = {
    FindingKind.DOOR_OPEN: Treatment(
        Severity.CRITICAL,
        "every door of a device that is shut out is shut: DPS and each linked hub that has it; DPS and the hub of a "
        "device in service take none of its certificates that is revoked; an identity that is not the device's own, "
        "and takes a certificate that is revoked or of a device that is shut out, is disabled; an individual "
        "enrollment that an operator disabled is disabled again; and so is a group of a revoked CA, or deleted again "
        "if it was; a revoked CA is taken out of a group that it was put into",
        always_mended=True,
    ),
    FindingKind.ROGUE_CERTIFICATE: Treatment(
        Severity.CRITICAL, f"{_PINNED}; of a device that was never ordered {_REMOVED}"
    ),
    FindingKind.UNKNOWN_DEVICE: Treatment(
        Severity.HIGH, "its registration and its identity are deleted; it can register again unless the group is shut"
    ),
    FindingKind.TAKEN_OVER: Treatment(Severity.CRITICAL, _PINNED, always_mended=True),
    FindingKind.IDENTITY_MISSING: Treatment(
        Severity.HIGH, "the identity is made again, with the certificate that the device uses"
    ),
    FindingKind.IDENTITY_DISABLED: Treatment(
        Severity.MEDIUM, "the identity is enabled", "the ledger says that the device is disabled"
    ),
    FindingKind.IDENTITY_CERTIFICATE: Treatment(Severity.HIGH, "the identity gets the certificates that are in use"),
    FindingKind.IDENTITY_AUTHENTICATION: Treatment(
        Severity.HIGH, "the identity authenticates by the certificates that are in use alone; its keys go"
    ),
    FindingKind.IDENTITY_LEFT: Treatment(
        Severity.LOW,
        "the identity of the deleted device is deleted; one that a device has in another hub than its own is disabled",
    ),
    FindingKind.IDENTITY_UNKNOWN: Treatment(
        Severity.HIGH, "the identity is disabled; nothing is done if DPS has a device there by then"
    ),
    FindingKind.HUB_CHANGED: Treatment(
        Severity.MEDIUM,
        adopting="the ledger names the hub that DPS has assigned to the device. Under a device id that it is not to "
        "have it has to register again, and the finding stays until it has",
    ),
    FindingKind.ENROLLMENT_MISSING: Treatment(Severity.HIGH, _AGAIN),
    FindingKind.ENROLLMENT_DISABLED: Treatment(Severity.MEDIUM, _AGAIN),
    FindingKind.ENROLLMENT_FOREIGN: Treatment(Severity.CRITICAL, _PINNED),
    FindingKind.ENROLLMENT_UNKNOWN: Treatment(Severity.HIGH, _REMOVED),
    FindingKind.ENROLLMENT_CERTIFICATE: Treatment(Severity.HIGH, _AGAIN),
    FindingKind.ENROLLMENT_SETTINGS: Treatment(
        Severity.MEDIUM,
        "the individual enrollment's settings are written as they were last asked for; a device that has registered "
        "under another device id by them has to register again, and is `hubChanged` until it has",
        "the ledger takes them over",
    ),
    FindingKind.GROUP_MISSING: Treatment(
        Severity.CRITICAL, "the group is made again in DPS", "the ledger says that the group is deleted"
    ),
    FindingKind.GROUP_LEFT: Treatment(Severity.MEDIUM, "the deleted group is deleted in DPS"),
    FindingKind.GROUP_UNKNOWN: Treatment(Severity.CRITICAL, "the group is disabled in DPS"),
    FindingKind.GROUP_STATUS: Treatment(
        Severity.HIGH,
        "the group's entry is enabled, or disabled, as the ledger has it; its settings stay",
        "the ledger takes the status alone; what a call to enable the group refuses is refused",
    ),
    FindingKind.GROUP_CERTIFICATES: Treatment(
        Severity.CRITICAL,
        "the group accepts the CAs that the ledger has, and nothing else; its status and its settings stay",
    ),
    FindingKind.GROUP_SETTINGS: Treatment(
        Severity.MEDIUM,
        "the group's settings are written as they were last asked for; its status stays",
        "the ledger takes over the settings alone",
    ),
    FindingKind.AUTHORITY_UNVERIFIED: Treatment(Severity.HIGH, "the CA is uploaded and its proof is given again"),
    FindingKind.AUTHORITY_REPLACED: Treatment(Severity.HIGH),
    FindingKind.KEY_UNUSABLE: Treatment(Severity.CRITICAL),
    FindingKind.SERIAL_RESERVED: Treatment(Severity.LOW, "the serial number is given up"),
    FindingKind.BUNDLE_WITHOUT_CERTIFICATE: Treatment(
        Severity.MEDIUM,
        "the key in the bundle and its password are deleted; and the bundle, if the ledger does not have its "
        "certificate",
    ),
}
"""Of each kind."""


def read_policies(value: str) -> Mapping[FindingKind, Policy]:
    """Read policies, written as ``kind=policy;kind=policy``.

    Raises:
        ValueError: with one argument for each thing that is wrong.
    """
    found, problems = dict[FindingKind, Policy](), list[str]()
    for entry in filter(None, (each.strip() for each in value.split(";"))):
        name, _, wanted = (each.strip() for each in entry.partition("="))
        try:
            kind, policy = FindingKind(name), Policy(wanted)
        except ValueError:
            problems.append(
                f"has {entry!r}; an entry is kind=policy, with a policy of {', '.join(Policy)}, and a kind of "
                f"{', '.join(FindingKind)}"
            )
            continue
        if TREATMENTS[kind].allows(policy):
            found[kind] = policy
        elif TREATMENTS[kind].always_mended:
            problems.append(f"has {entry!r}, and that kind is always mended: leave it out")
        else:
            taken = " or ".join(each for each in Policy if TREATMENTS[kind].allows(each))
            problems.append(f"has {entry!r}, and the app can't {policy} that kind; it takes {taken}")
    if problems:
        raise ValueError(*problems)
    return found


def document() -> str:
    """Give docs/findings.md."""
    rows = [
        f"| `{kind}` | {each.severity} | {each.mending or '-'}{' (always)' if each.always_mended else ''} "
        f"| {each.adopting or '-'} |"
        for kind, each in TREATMENTS.items()
    ]
    head = ["| kind | severity | mending | adopting |", "| --- | --- | --- | --- |"]
    return "\n".join(["# Findings\n", INTRODUCTION, *head, *rows, ""])


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, as it is now.

    Attributes:
        subject: id of the device or the group, or name of the CA.
        ledger: what the ledger says, in words.
        service: what the service says.
        where: the service, as in ``DPS``, or a hub's host name.
        enrollment_group: the group concerned, if there is one.
        certificate_authority: the CA concerned, likewise.
        identity: in the hub, where it is not the one that the ledger has of a device.
    """

    kind: FindingKind
    subject_kind: SubjectKind
    subject: str
    ledger: str
    service: str
    where: str
    enrollment_group: str | None = None
    certificate_authority: str | None = None
    identity: IdentitySeen | None = None

    @property
    def finding_id(self) -> str:
        """The same for the same difference, whenever it is found; 32 hexadecimal digits."""
        named = f"{self.kind}|{self.subject_kind}|{self.subject}|{self.where}"
        if self.identity is not None and self.identity.device_id != self.subject:
            named = f"{named}|{self.identity.device_id}"
        return sha256(named.encode()).hexdigest()[:32]


class FindingState(StrEnum):
    """What has become of a finding."""

    OPEN = "open"
    MENDED = "mended"
    ADOPTED = "adopted"
    GONE = "gone"
    CLOSED = "closed"


class Claim(Part):
    """Who is about a finding: one at a time, so that it is not mended and adopted at once.

    Attributes:
        token: tells it from all others.
        act: what is done, ``mend`` or ``adopt``.
        since: when it was begun.
        until: when others need not wait any more, since that worker must be gone.
        actor: who asked; ``None`` where a policy did.
    """

    token: str
    act: Policy
    since: datetime
    until: datetime
    actor: Actor | None = None


class FindingRecord(Record):
    """One finding.

    Attributes:
        since: when it was found first, after the last time that it was not there.
        seen_at: when it was seen last.
        reconciliation: id of the pass that has seen it last.
        told: whether its event was sent.
        problem: why the last try to mend it did not succeed.
        ended_at: when it was mended, adopted, gone or closed.
        comment: of who closed it, or what is left to do since it was mended.
        occurrence: how often it has been found, after it had ended.
        claim: who is about it.
        audited: calls about it that an entry of the audit log is about, until it ends.
        identity: as in :class:`Difference`.
    """

    lifecycle = lifecycles.FINDING
    documents: ClassVar[frozenset[str]] = frozenset({"claim", "audited", "identity"})

    finding_id: str
    kind: FindingKind
    severity: Severity
    subject_kind: SubjectKind
    subject: str
    ledger: str
    service: str
    where: str
    since: datetime
    seen_at: datetime
    reconciliation: str
    state: FindingState = FindingState.OPEN
    enrollment_group: str | None = None
    certificate_authority: str | None = None
    told: bool = False
    problem: str | None = None
    ended_at: datetime | None = None
    comment: str | None = None
    occurrence: int = Field(default=1)
    claim: Claim | None = None
    audited: tuple[AuditedCall, ...] = ()
    identity: IdentitySeen | None = None

    ENDED: ClassVar[frozenset[FindingState]] = frozenset(FindingState) - {FindingState.OPEN}

    @property
    def treatment(self) -> Treatment:
        """What can be done about it."""
        return TREATMENTS[self.kind]

    @property
    def difference(self) -> Difference:
        """What differs, as it was seen last."""
        return Difference(
            kind=self.kind,
            subject_kind=self.subject_kind,
            subject=self.subject,
            ledger=self.ledger,
            service=self.service,
            where=self.where,
            enrollment_group=self.enrollment_group,
            certificate_authority=self.certificate_authority,
            identity=self.identity,
        )

    def ended(self, state: FindingState, at: datetime, comment: str | None = None) -> FindingRecord:
        """Give it when it is no more."""
        return self.changed(
            state=state, ended_at=at, problem=None, claim=None, audited=(), comment=comment or self.comment
        )


def found(difference: Difference, before: FindingRecord | None, *, at: datetime, reconciliation: str) -> FindingRecord:
    """Give the finding of a difference that is there now. One that somebody has closed stays closed while it lasts."""
    seen = {
        "ledger": difference.ledger,
        "service": difference.service,
        "seen_at": at,
        "reconciliation": reconciliation,
        "enrollment_group": difference.enrollment_group,
        "certificate_authority": difference.certificate_authority,
        "identity": difference.identity,
    }
    if before is not None and before.state in {FindingState.OPEN, FindingState.CLOSED}:
        return before.changed(**seen)
    if before is not None:
        again = {"state": FindingState.OPEN, "since": at, "told": False}
        again |= dict.fromkeys(("ended_at", "problem", "comment"))
        return before.changed(**seen, **again, occurrence=before.occurrence + 1)
    return FindingRecord(
        finding_id=difference.finding_id,
        kind=difference.kind,
        severity=TREATMENTS[difference.kind].severity,
        subject_kind=difference.subject_kind,
        subject=difference.subject,
        where=difference.where,
        since=at,
        **seen,
    )


if __name__ == "__main__":
    sys.stdout.write(document())
