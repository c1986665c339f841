"""Each door of a device is told with its state and why: DPS, its hubs, and what its CA's list says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.certificates import CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.dps_decisions import Cause, Decision, Match
from shared.domain.explanations.doors import doors
from shared.domain.explanations.parts import Blind, Seen, Unseen
from shared.domain.held_certificates import CertificateSummary, HeldCertificate
from shared.domain.words import DeviceState, RevocationReason
from shared.pki import names
from shared.pki.findings import Finding
from shared.pki.profiles import issuing_profile
from shared.pki.signing_keys import KeyAlgorithm
from shared.ports.hubs import HubIdentity
from tests.pki.hierarchy import NOW, certificate_authority, hierarchy
from tests.records import held_certificate

if TYPE_CHECKING:
    from datetime import datetime

LEAF, ISSUING = hierarchy().device("press"), hierarchy().issuing.certificate
RENEWED = certificate_authority(
    "line-1-ca1", hierarchy().root, KeyAlgorithm.EC_P256, issuing_profile(), now=NOW + timedelta(days=1)
).certificate
SERIAL, PRINT, OTHER = "4" * 40, names.sha256_thumbprint(LEAF), "E" * 64
GROUP = Match("enrollmentGroup", "line", {}, ISSUING)
ENTRY = Match("individualEnrollment", "press", {})
BLIND = Unseen(Blind.UNAVAILABLE, "DPS does not answer")
ASLEEP = Unseen(Blind.UNAVAILABLE, "hub-1 does not answer")


def held(state: CertificateState = CertificateState.ACTIVE, **fields: Any) -> HeldCertificate:
    return held_certificate(SERIAL, NOW, state=state, issuer="line-ca1", **fields)


def device(*, ends: datetime = NOW + timedelta(days=1), **fields: Any) -> DeviceRecord:
    present = CertificateSummary(
        serial_number=SERIAL, thumbprint="A" * 40, not_before=NOW, not_after=ends, issuer="line-ca1"
    )
    record = DeviceRecord(
        registration_id="press",
        state=DeviceState.REGISTERED,
        order_id="o",
        updated_at=NOW,
        certificate=present,
        held=(held(),),
        device_id="press",
    )
    return record.model_copy(update=fields)


def identity(*thumbprints: str, **fields: Any) -> HubIdentity:
    known: dict[str, Any] = {
        "device_id": "press",
        "enabled": True,
        "thumbprints": frozenset(thumbprints),
        "connected": False,
        "authentication": "selfSigned",
        **fields,
    }
    return HubIdentity(**known)


def seen(**fields: Any) -> Seen:
    known: dict[str, Any] = {
        "now": NOW,
        "device": device(),
        "certificates": {SERIAL: LEAF},
        "chain": (LEAF, ISSUING),
        "decisions": (Decision(GROUP, ()),),
        "hub": "hub-1",
        "identity": identity(PRINT),
        **fields,
    }
    return Seen(**known)


def told(of: Seen, door: str) -> list[tuple[str, str, str]]:
    return [(each.name, each.state.value, each.why) for each in doors(of) if each.door == door]


@pytest.mark.parametrize(
    ("parts", "state", "why"),
    [
        ({}, "open", "the enrollment group 'line' lets it in"),
        ({"decisions": (Decision(ENTRY, ()),)}, "open", "the individual enrollment 'press' lets it in"),
        ({"decisions": (Decision(None, ()),)}, "open", "an entry lets it in"),
        (
            {"decisions": (Decision(GROUP, (Cause("Invalid certificate", Finding("expired", "it has ended")),)),)},
            "shut",
            "Invalid certificate: it has ended",
        ),
        ({"entry": {"provisioningStatus": "disabled"}}, "shut", "its individual enrollment is disabled"),
        (
            {"entry": {"provisioningStatus": "disabled"}, "registration": BLIND},
            "shut",
            "its individual enrollment is disabled",
        ),
        ({"registration": BLIND}, "unknown", "DPS does not answer"),
        ({"entry": BLIND}, "unknown", "DPS does not answer"),
        ({"chain": ()}, "shut", "it has no certificate to come with"),
        (
            {"chain": (), "decisions": (), "device": device(unseen=True)},
            "unknown",
            "the chain of its certificate is not known here",
        ),
        ({"decisions": ()}, "unknown", "the chain of its certificate is not known here"),
        (
            {"chain": (LEAF, RENEWED)},
            "shut",
            "the chain that it has is of a former certificate of its CA, which its group does not accept",
        ),
        (
            {"chain": (LEAF, RENEWED), "decisions": (Decision(ENTRY, ()),)},
            "open",
            "the individual enrollment 'press' lets it in",
        ),
        ({"chain": (LEAF, RENEWED), "decisions": (Decision(None, ()),)}, "open", "an entry lets it in"),
    ],
)
def test_the_door_of_dps(parts: dict[str, Any], state: str, why: str) -> None:
    assert told(seen(**parts), "dps") == [("DPS", state, why)]


@pytest.mark.parametrize(
    ("parts", "state", "why"),
    [
        ({}, "open", "its identity is enabled, and not connected now"),
        ({"identity": identity(PRINT, connected=True)}, "open", "connected now"),
        ({"identity": identity()}, "open", "its identity is enabled, and not connected now"),
        ({"identity": None}, "shut", "it has no identity there"),
        ({"identity": ASLEEP}, "unknown", "hub-1 does not answer"),
        ({"identity": identity(PRINT, enabled=False)}, "shut", "its identity is disabled"),
        (
            {"identity": identity(PRINT, enabled=False, reason="maintenance")},
            "shut",
            "its identity is disabled: maintenance",
        ),
        ({"identity": identity(OTHER)}, "shut", "its identity is for another certificate than it uses"),
        (
            {"identity": identity(OTHER), "device": device(unseen=True, sha256_thumbprints=(OTHER,))},
            "open",
            "its identity is enabled, and not connected now",
        ),
        (
            {"identity": identity(authentication="sas")},
            "open",
            "its identity is of the type 'sas': it lets in whoever has one of its symmetric keys",
        ),
        (
            {"identity": identity(authentication="none")},
            "shut",
            "its identity is of the type 'none': it lets in nobody",
        ),
        (
            {"device": device(ends=NOW - timedelta(seconds=1))},
            "shut",
            "its certificate expired on 2026-03-01 11:59 UTC",
        ),
        ({"device": device(ends=NOW)}, "open", "its identity is enabled, and not connected now"),
        ({"device": device(certificate=None)}, "shut", "its identity is for another certificate than it uses"),
    ],
)
def test_the_door_of_its_hub(parts: dict[str, Any], state: str, why: str) -> None:
    """A certificate is valid to the end of its last second (RFC 5280 section 4.1.2.5)."""
    assert told(seen(**parts), "hub") == [("hub-1", state, why)]


def test_doors_of_other_hubs_are_told_with_the_id_if_it_is_another() -> None:
    elsewhere = {("hub-2", "press"): None, ("hub-3", "zz"): identity(PRINT, enabled=False)}
    assert told(seen(hub=None, elsewhere=elsewhere), "hub") == [
        ("hub-2", "shut", "it has no identity there"),
        ("hub-3", "shut", "its identity is disabled (zz)"),
    ]


def test_the_door_of_its_ca_s_list() -> None:
    """Of a device without a certificate, or whose certificate is not held any more, nobody asks a list."""
    name = "CRL and OCSP of line-ca1"
    assert told(seen(), "revocationStatus") == [(name, "open", f"certificate {SERIAL} is not on the list")]
    revoked = held(CertificateState.REVOKED, revoked_at=NOW, reason=RevocationReason.KEY_COMPROMISE)
    assert told(seen(device=device(held=(revoked,))), "revocationStatus") == [
        (name, "shut", f"certificate {SERIAL} is on the list: keyCompromise")
    ]
    assert told(seen(device=device(certificate=None)), "revocationStatus") == []
    assert told(seen(device=device(held=())), "revocationStatus") == []
