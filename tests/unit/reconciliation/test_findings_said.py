"""What each finding says to whoever reads it: how bad it is, where, about what, and what ledger and service have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.world.drift import OTHERS, REPORTED, STRAY, fleet_of

if TYPE_CHECKING:
    from tests.world.drift import Plant

ITS_OWN = "the device is registered, and uses SERIAL"
LETS_IN = "its identity is of the type {!r}: it lets in {}"
BY_KEYS = LETS_IN.format("sas", "whoever has one of its symmetric keys")
BY_CA = LETS_IN.format(
    "certificateAuthority", "whoever has a certificate with its id from a CA that the hub has verified"
)
FOREIGN = "its identity takes a certificate that was never issued here: THEIRS"
FORMER = "its identity takes a certificate that it does not use any more: OWN"
NEVER = "no such device was ever ordered"
HASHED = "allocationPolicy is hashed, iotHubs is not set"
STATIC = "allocationPolicy is static, iotHubs is hub-9"
MOVES = "reprovisionPolicy.updateHubAssignment is {0}, reprovisionPolicy.migrateDeviceData is {0}"
LOST, PASSWORD = "the ledger does not have its certificate", "the password of its key is in the vault"

SAID = (
    ("identityMissing", "high", "hub-1", "press", "the device is registered", "the hub has no identity for it"),
    (
        "identityDisabled",
        "medium",
        "hub-1",
        "press",
        "the device is registered",
        "its identity is disabled: maintenance",
    ),
    ("identityAuthentication", "high", "hub-1", "press", ITS_OWN, BY_KEYS),
    ("identityAuthentication", "high", "hub-1", "press", ITS_OWN, BY_CA),
    ("identityAuthentication", "high", "hub-1", "press", ITS_OWN, LETS_IN.format("none", "nobody")),
    ("identityAuthentication", "high", "hub-1", "press", ITS_OWN, BY_KEYS),
    ("identityAuthentication", "high", "hub-1", "press", "the device is renewing, and uses SERIAL, SERIAL", BY_KEYS),
    ("rogueCertificate", "critical", "hub-1", "press", ITS_OWN, FOREIGN),
    ("rogueCertificate", "critical", "hub-1", "press", ITS_OWN, FOREIGN),
    (
        "rogueCertificate",
        "critical",
        "DPS",
        "stranger",
        NEVER,
        "it is registered by the enrollment group 'line', in hub-1, with the certificate THEIRS",
    ),
    ("identityCertificate", "high", "hub-1", "press", ITS_OWN, FORMER),
    ("identityLeft", "low", "hub-1", "press", "the device is deleted", "the hub has an identity for it"),
    (
        "identityLeft",
        "low",
        "hub-2",
        "press",
        "the device is registered, as 'press' in hub-1",
        "this hub has the identity 'press', which is enabled and takes the device's own certificates",
    ),
    (
        "identityUnknown",
        "high",
        "hub-1",
        "zz-2",
        NEVER,
        "its identity is enabled, and takes the certificate THEIRS; DPS does not have a registration under this id",
    ),
    ("hubChanged", "medium", "DPS", "press", "the device is in hub-1", "it is assigned to hub-2"),
    ("hubChanged", "medium", "DPS", "press", "the device is in hub-1", "it is assigned to hub-2"),
    (
        "unknownDevice",
        "high",
        "DPS",
        "stranger",
        NEVER,
        "it is registered by the enrollment group 'open', in hub-1, with the certificate THEIRS",
    ),
    (
        "enrollmentMissing",
        "high",
        "DPS",
        "press",
        "the device is registered, and has an individual enrollment with its own certificates",
        "it does not have an individual enrollment",
    ),
    ("groupLeft", "medium", "DPS", "line", "the group is deleted", "the group is there"),
    (
        "enrollmentDisabled",
        "medium",
        "DPS",
        "press",
        "the device is registered",
        "its individual enrollment is disabled",
    ),
    (
        "enrollmentForeign",
        "critical",
        "DPS",
        "press",
        "the device is registered",
        "its individual enrollment accepts other certificates",
    ),
    (
        "enrollmentUnknown",
        "high",
        "DPS",
        "zz-1",
        NEVER,
        "its individual enrollment is enabled, and accepts the certificate THEIRS of dpsCa; the device is in no hub",
    ),
    (
        "enrollmentCertificate",
        "high",
        "DPS",
        "press",
        "the device is registered, and uses OWN",
        "its individual enrollment accepts OWN",
    ),
    ("enrollmentSettings", "medium", "DPS", "press", HASHED, STATIC),
    (
        "enrollmentSettings",
        "medium",
        "DPS",
        "press",
        "initialTwin.tags is as it was last asked for",
        "initialTwin.tags is otherwise",
    ),
    ("enrollmentSettings", "medium", "DPS", "press", MOVES.format("true"), MOVES.format("false")),
    ("enrollmentSettings", "medium", "DPS", "press", "capabilities.iotEdge is false", "capabilities.iotEdge is true"),
    ("enrollmentSettings", "medium", "DPS", "press", "deviceId is not set", "deviceId is another"),
    (
        "groupUnknown",
        "critical",
        "DPS",
        "zz-line",
        "no such group was ever asked for",
        "the group is enabled, and lets devices in by the CA line-ca1",
    ),
    ("groupStatus", "high", "DPS", "line", "the group is enabled", "the group is disabled"),
    ("groupSettings", "medium", "DPS", "line", HASHED, STATIC),
    ("groupCertificates", "critical", "DPS", "line", "it accepts OWN", "it accepts THEIRS"),
    ("groupMissing", "critical", "DPS", "line", "the group is enabled", "the group is not there"),
    (
        "authorityUnverified",
        "high",
        "the DPS",
        "line-ca1",
        "possession of the CA's key was proved",
        "the service does not have it",
    ),
    (
        "authorityReplaced",
        "high",
        "the DPS",
        "line-ca1",
        "the CA's certificate has the thumbprint OWN",
        "it has NOTHING there",
    ),
    (
        "keyUnusable",
        "critical",
        "Key Vault",
        "line-ca1",
        "the CA signs with its key",
        "the vault does not have version 1 of the key 'line-ca1'",
    ),
    (
        "keyUnusable",
        "critical",
        "Key Vault",
        "line-ca1",
        "the CA signs with its key",
        "the key is not the one of the CA's certificate",
    ),
    (
        "serialReserved",
        "low",
        "ledger",
        "press",
        "serial number SERIAL is reserved since 2026-02-28 12:02 UTC",
        "no certificate was committed with it",
    ),
    ("bundleWithoutCertificate", "medium", "bundle STRAY", "press", LOST, "the bundle is stored"),
    ("bundleWithoutCertificate", "medium", "bundle STRAY", "press", LOST, "the bundle is stored"),
    ("bundleWithoutCertificate", "medium", "bundle STRAY", "press", LOST, PASSWORD),
    ("bundleWithoutCertificate", "medium", "bundle SERIAL", "press", "its certificate is revoked", PASSWORD),
    ("bundleWithoutCertificate", "medium", "bundle SERIAL", "press", "its certificate is revoked", PASSWORD),
)
"""Kind, severity, where, subject, what the ledger has, and what the service has: of each case of ``REPORTED``."""


def fixed(text: str) -> str:
    """Put words for what is drawn anew in each run: serial numbers, in lower case, and thumbprints."""
    for known, word in ((OTHERS, "THEIRS"), (STRAY, "STRAY"), ("0" * 40, "NOTHING")):
        text = text.replace(known, word)
    return re.sub(r"\b[0-9A-F]{40}(?:[0-9A-F]{24})?\b", "OWN", re.sub(r"\b[0-9a-f]{40}\b", "SERIAL", text))


@pytest.mark.parametrize(
    ("requests", "plant", "said"),
    [(requests, plant, said) for (_, requests, plant), said in zip(REPORTED, SAID, strict=True)],
    ids=[f"{number} {kind}" for number, (kind, *_) in enumerate(SAID)],
)
async def test_a_finding_says_what_ledger_and_service_have(
    requests: tuple[str, ...], plant: Plant, said: tuple[str, ...]
) -> None:
    fleet = await fleet_of(*requests)
    await plant(fleet)
    [found] = await fleet.look()
    shown = (found.kind.value, found.severity, found.where, found.subject, found.ledger, found.service)
    assert tuple(map(fixed, shown)) == said
