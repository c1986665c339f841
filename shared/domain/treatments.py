"""Which kinds of differences there are between the ledger and the services, and what can be done about each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.domain.findings_introduction import INTRODUCTION

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


if __name__ == "__main__":
    sys.stdout.write(document())
