"""Whatever attestation stands in an entry of DPS is read, and what the app did not write there is a finding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.attestations import (
    AttestationKind,
    admits_only,
    attestation_of,
    held_certificates,
    leaf_attestation,
    references,
    same_attestation,
    signers,
    x509_attestation,
)
from shared.domain.certificates import CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.given_settings import Given
from shared.domain.group_signers import check_alone, with_next, with_references, without_previous
from shared.domain.groups import CaReferences, GroupRecord, GroupState
from shared.domain.held_certificates import CertificateSummary
from shared.domain.own_certificates import Own
from shared.domain.reconciliation import Seen, device_differences, group_differences
from shared.domain.treatments import FindingKind
from shared.domain.unknown_devices import unknown_enrollment
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import Conflict
from shared.pki import names
from shared.workflows.entry_certificates import held_by, serial_numbers_of
from tests.pki.hierarchy import hierarchy
from tests.records import held_certificate

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OWN, FORMER, REVOKED, THEIRS, CA = ("A" * 64, "B" * 64, "C" * 64, "D" * 64, "E" * 64)
OTHER = "an attestation that this app does not know: "


def shown(thumbprint: str) -> dict[str, Any]:
    """Give a certificate as DPS shows it: no more than its info."""
    return {"info": {"sha256Thumbprint": thumbprint.lower(), "serialNumber": "0F", "issuerName": "CN=line-ca1"}}


def x509_of(**parts: Any) -> dict[str, Any]:
    return {"type": "x509", "x509": parts}


def clients(primary: Any, secondary: Any = None) -> dict[str, Any]:
    """Give an attestation by the device's own certificates; DPS shows a place and a part that is free as null."""
    both = {"primary": shown(primary), "secondary": shown(secondary) if secondary else None}
    return x509_of(clientCertificates=both, signingCertificates=None, caReferences=None)


def signing(primary: Any, secondary: Any = None) -> dict[str, Any]:
    both = {"primary": shown(primary), "secondary": shown(secondary) if secondary else None}
    return x509_of(clientCertificates=None, signingCertificates=both, caReferences=None)


def by_name(primary: str, secondary: str | None = None) -> dict[str, Any]:
    return x509_of(caReferences={"secondary": secondary, "primary": primary})


UNREADABLE = "a certificate that can't be read"
MIXED = x509_of(
    clientCertificates={"primary": shown(OWN)},
    signingCertificates={"primary": shown(CA)},
    caReferences={"primary": "theirs"},
)
OTHERS: dict[str, tuple[Any, AttestationKind, str]] = {
    "symmetric key": (
        {"type": "symmetricKey", "symmetricKey": None, "x509": None, "tpm": None},
        AttestationKind.SYMMETRIC_KEY,
        "a symmetric key",
    ),
    "symmetric key, shown": (
        {"type": "symmetricKey", "symmetricKey": {"primaryKey": "a2V5", "secondaryKey": "a2V5"}},
        AttestationKind.SYMMETRIC_KEY,
        "a symmetric key",
    ),
    "symmetric key without a type": (
        {"symmetricKey": {"primaryKey": "a2V5"}},
        AttestationKind.SYMMETRIC_KEY,
        "a symmetric key",
    ),
    "TPM": ({"type": "tpm", "tpm": {"endorsementKey": "k"}}, AttestationKind.TPM, "a TPM"),
    "none": ({"type": "none"}, AttestationKind.NONE, "the attestation 'none'"),
    "nothing": ({}, AttestationKind.NONE, "the attestation 'none'"),
    "null": (None, AttestationKind.NONE, "the attestation 'none'"),
    "not an object": ("x509", AttestationKind.NONE, "the attestation 'none'"),
    "x509 with nothing": ({"type": "x509", "x509": None}, AttestationKind.OTHER, f"{OTHER}'x509: nothing'"),
    "x509 with a list": ({"type": "x509", "x509": ["a"]}, AttestationKind.OTHER, f"{OTHER}'x509: nothing'"),
    "a newer type": ({"type": "jwt", "jwt": {"issuer": "i"}}, AttestationKind.OTHER, f"{OTHER}'jwt: nothing'"),
    "a newer part": (
        x509_of(policyReferences={"primary": "p"}),
        AttestationKind.OTHER,
        f"{OTHER}'x509: policyReferences'",
    ),
    "a part beside a newer one": (
        x509_of(clientCertificates={"primary": shown(OWN)}, policy="p"),
        AttestationKind.OTHER,
        f"{OTHER}'x509: clientCertificates, policy'",
    ),
    "a third place": (
        x509_of(clientCertificates={"primary": shown(OWN), "tertiary": shown(THEIRS)}),
        AttestationKind.OTHER,
        f"{OTHER}'x509: clientCertificates, tertiary'",
    ),
    "everything at once": (
        MIXED,
        AttestationKind.OTHER,
        f"{OTHER}'x509: caReferences, clientCertificates, signingCertificates'",
    ),
}
"""What the app never writes: the attestation, its kind, and its words."""

CERTIFICATES: dict[str, tuple[Any, AttestationKind, str]] = {
    "client": (clients(OWN), AttestationKind.CLIENT_CERTIFICATES, f"the certificate {OWN}"),
    "two clients": (clients(OWN, THEIRS), AttestationKind.CLIENT_CERTIFICATES, f"the certificate {OWN}, {THEIRS}"),
    "no client": (x509_of(clientCertificates={}), AttestationKind.CLIENT_CERTIFICATES, "no certificate"),
    "empty parts beside it": (
        x509_of(clientCertificates={"primary": shown(OWN)}, signingCertificates={}, caReferences={}),
        AttestationKind.CLIENT_CERTIFICATES,
        f"the certificate {OWN}",
    ),
    "an unreadable client": (
        x509_of(clientCertificates={"primary": {"certificate": 5, "info": "?"}}),
        AttestationKind.CLIENT_CERTIFICATES,
        f"the certificate {UNREADABLE}",
    ),
    "a client that is not an object": (
        x509_of(clientCertificates={"primary": "PEM"}),
        AttestationKind.CLIENT_CERTIFICATES,
        f"the certificate {UNREADABLE}",
    ),
    "signing": (signing(CA), AttestationKind.SIGNING_CERTIFICATES, f"every certificate of the CA {CA}"),
    "two signing": (
        signing(CA, THEIRS),
        AttestationKind.SIGNING_CERTIFICATES,
        f"every certificate of the CA {CA}, {THEIRS}",
    ),
    "by name": (
        by_name("theirs"),
        AttestationKind.CA_REFERENCES,
        "every certificate of the CA that DPS has as 'theirs'",
    ),
    "by two names": (
        by_name("theirs", "mine"),
        AttestationKind.CA_REFERENCES,
        "every certificate of the CA that DPS has as 'theirs', 'mine'",
    ),
}
ALL = {**OTHERS, **CERTIFICATES}


def entry_of(attestation: Any, status: str = "enabled", **settings: Any) -> dict[str, Any]:
    return {
        "registrationId": "a",
        "deviceId": "a",
        "attestation": attestation,
        "provisioningStatus": status,
        **settings,
    }


def group_of(attestation: Any, status: str = "enabled", **settings: Any) -> dict[str, Any]:
    return {"enrollmentGroupId": "g", "attestation": attestation, "provisioningStatus": status, **settings}


@pytest.mark.parametrize("name", ALL)
def test_an_attestation_is_read_whatever_it_is(name: str) -> None:
    attestation, kind, words = ALL[name]
    found = attestation_of({"attestation": attestation})
    assert (found.kind, found.words) == (kind, words)


def test_an_entry_without_an_attestation_is_read_as_well() -> None:
    assert attestation_of({}).kind is AttestationKind.NONE


@pytest.mark.parametrize("name", ALL)
def test_nothing_that_reads_an_attestation_fails_on_one(name: str) -> None:
    """And nothing takes one for what the app has written."""
    entry, ours, leaf = entry_of(ALL[name][0]), hierarchy().issuing.certificate, hierarchy().root.certificate
    group = group_of(ALL[name][0])
    assert not admits_only(entry, [leaf])
    assert not same_attestation(group, group_of(x509_attestation(ours)))
    for read in (held_certificates, references, signers, held_by, serial_numbers_of):
        read(entry)
    changes: list[Callable[[], object]] = [
        lambda: check_alone(group, ours),
        lambda: with_next(group, ours, leaf),
        lambda: without_previous(group, leaf, ours),
    ]
    if not name.startswith("by "):  # only what refers to CAs may refer to others
        changes.append(lambda: with_references(group, CaReferences(primary="new")))
    for change in changes:
        with pytest.raises(Conflict):
            change()


@pytest.mark.parametrize("name", OTHERS)
def test_a_group_that_accepts_something_else_is_not_changed_and_what_it_is_is_said(name: str) -> None:
    group, ours = group_of(OTHERS[name][0]), hierarchy().issuing.certificate
    with pytest.raises(Conflict) as refused:
        with_next(group, ours, hierarchy().root.certificate)
    assert str(refused.value) == (
        f"action: in the DPS the enrollment group 'g' accepts {OTHERS[name][2]}, and not what this app put there: mend "
        "the finding that says so, or put it right in the DPS first"
    )


def test_an_entry_that_admits_a_certificate_and_something_else_does_not_admit_that_alone() -> None:
    leaf = hierarchy().issuing.certificate
    own = leaf_attestation(names.pem(leaf))
    assert admits_only(entry_of(own), [leaf])
    own["x509"]["caReferences"] = {"primary": "theirs"}
    assert not admits_only(entry_of(own), [leaf])


# --- devices ---


def device(state: DeviceState = DeviceState.REGISTERED, *, expired: bool = False, **fields: Any) -> DeviceRecord:
    shut = state in {DeviceState.REVOKED, DeviceState.DELETED}
    ends = NOW + timedelta(days=-1 if expired else 300)
    held = held_certificate(
        "4" * 40,
        NOW - timedelta(days=400),
        state=CertificateState.REVOKED if shut else CertificateState.ACTIVE,
        not_after=ends,
        reason=RevocationReason.KEY_COMPROMISE if shut else None,
    )
    summary = CertificateSummary(serial_number="4" * 40, thumbprint="T", not_before=NOW, not_after=ends, issuer="ca")
    given = {"held": (held,), "certificate": summary, **fields}
    return DeviceRecord(registration_id="a", order_id="o", updated_at=NOW, enrollment_group="g", state=state, **given)


ISSUED = Own(in_use=frozenset({OWN}), all=frozenset({OWN, FORMER, REVOKED}), revoked=frozenset({REVOKED}))


def found(record: DeviceRecord, entry: Any, own: Own = ISSUED) -> list[tuple[FindingKind, str]]:
    return [(each.kind, each.service) for each in device_differences(record, Seen(entry=entry), own, NOW)]


@pytest.mark.parametrize("status", ["enabled", "disabled"])
@pytest.mark.parametrize("name", [*OTHERS, "signing", "by name"])
def test_an_entry_of_a_device_in_service_that_does_not_attest_by_its_certificates_is_foreign(
    name: str, status: str
) -> None:
    words = ALL[name][2]
    assert found(device(), entry_of(ALL[name][0], status)) == [
        (FindingKind.ENROLLMENT_FOREIGN, f"its individual enrollment accepts {words}")
    ]


@pytest.mark.parametrize(
    ("attestation", "kind", "service"),
    [
        (clients(OWN), None, ""),
        (clients(OWN, OWN), None, ""),
        (clients(THEIRS), FindingKind.ENROLLMENT_FOREIGN, "its individual enrollment accepts other certificates"),
        (clients(OWN, THEIRS), FindingKind.ENROLLMENT_FOREIGN, "its individual enrollment accepts other certificates"),
        (
            x509_of(clientCertificates={"primary": shown(OWN), "secondary": {"info": {}}}),
            FindingKind.ENROLLMENT_FOREIGN,
            "its individual enrollment accepts other certificates",
        ),
        (
            clients(OWN, FORMER),
            FindingKind.ENROLLMENT_CERTIFICATE,
            f"its individual enrollment accepts {OWN}, {FORMER}",
        ),
        (
            x509_of(clientCertificates={}),
            FindingKind.ENROLLMENT_CERTIFICATE,
            "its individual enrollment accepts no certificate",
        ),
        (
            clients(OWN, REVOKED),
            FindingKind.DOOR_OPEN,
            f"its individual enrollment accepts a certificate that is revoked: {REVOKED}",
        ),
    ],
)
def test_an_entry_with_certificates_of_a_device_in_service(
    attestation: Any, kind: FindingKind | None, service: str
) -> None:
    """The primary and the secondary one count alike; a page that knows the certificates in use alone sees no less."""
    expected = [(kind, service)] if kind is not None else []
    assert found(device(), entry_of(attestation)) == expected
    suspected = found(device(), entry_of(attestation), Own(in_use=frozenset({OWN})))
    assert bool(suspected) == bool(expected)


@pytest.mark.parametrize("state", [DeviceState.REVOKED, DeviceState.DELETED])
@pytest.mark.parametrize("kind_of_device", [{}, {"expired": True}, {"held": (), "certificate": None}])
@pytest.mark.parametrize("name", ALL)
def test_an_enabled_entry_of_a_device_that_is_shut_out_is_an_open_door_whatever_it_accepts(
    name: str, kind_of_device: dict[str, Any], state: DeviceState
) -> None:
    """Also where its certificates have expired, or it never had one: who has the entry's key needs none."""
    record = device(state, **kind_of_device)
    assert found(record, entry_of(ALL[name][0])) == [
        (FindingKind.DOOR_OPEN, f"an individual enrollment lets it in, and accepts {ALL[name][2]}")
    ]
    assert found(record, entry_of(ALL[name][0], "disabled")) == []


GIVEN = Given(settings={"allocationPolicy": "static", "iotHubs": ["hub-1"]})
HOOK = {"webhookUrl": "https://theirs.example/?code=secret", "apiVersion": "2021-10-01"}
NEVER = {"updateHubAssignment": False, "migrateDeviceData": False}
CHANGED: list[tuple[dict[str, Any], str, str]] = [
    ({"allocationPolicy": "hashed"}, "allocationPolicy is static", "allocationPolicy is hashed"),
    (
        {"allocationPolicy": "custom", "customAllocationDefinition": HOOK},
        "allocationPolicy is static, customAllocationDefinition is as it was last asked for",
        "allocationPolicy is custom, customAllocationDefinition is otherwise",
    ),
    ({"iotHubs": ["hub-1", "hub-9"]}, "iotHubs is hub-1", "iotHubs is hub-1, hub-9"),
    ({"capabilities": {"iotEdge": True}}, "capabilities.iotEdge is false", "capabilities.iotEdge is true"),
    (
        {"reprovisionPolicy": NEVER},
        "reprovisionPolicy.updateHubAssignment is true, reprovisionPolicy.migrateDeviceData is true",
        "reprovisionPolicy.updateHubAssignment is false, reprovisionPolicy.migrateDeviceData is false",
    ),
    (
        {"initialTwin": {"tags": {"plant": "theirs"}}},
        "initialTwin.tags is as it was last asked for",
        "initialTwin.tags is otherwise",
    ),
    (
        {"initialTwin": {"properties": {"desired": {"rate": 9}}}},
        "initialTwin.properties.desired is as it was last asked for",
        "initialTwin.properties.desired is otherwise",
    ),
]


@pytest.mark.parametrize(
    ("changes", "ledger", "service"),
    [
        *CHANGED,
        ({"deviceId": "another"}, "deviceId is not set", "deviceId is another"),
        (
            {"optionalDeviceInformation": {"line": "theirs"}},
            "optionalDeviceInformation is as it was last asked for",
            "optionalDeviceInformation is otherwise",
        ),
    ],
)
def test_each_setting_of_a_devices_entry_that_others_change_is_found(
    changes: dict[str, Any], ledger: str, service: str
) -> None:
    own = Own(in_use=frozenset({OWN}), all=frozenset({OWN}), given=GIVEN)
    record = device(own_entry=True, entry_settings=dict(GIVEN.settings or {}))
    wanted: dict[str, Any] = {"allocationPolicy": "static", "iotHubs": ["hub-1"]}
    assert list(device_differences(record, Seen(entry=entry_of(clients(OWN), **wanted)), own, NOW)) == []
    seen = Seen(entry=entry_of(clients(OWN), **{**wanted, **changes}))
    [difference] = device_differences(record, seen, own, NOW)
    assert (difference.kind, difference.ledger, difference.service) == (
        FindingKind.ENROLLMENT_SETTINGS,
        ledger,
        service,
    )


# --- groups ---


def group(state: GroupState = GroupState.ENABLED, **fields: Any) -> GroupRecord:
    return GroupRecord(enrollment_group="g", state=state, issuer="ca", updated_at=NOW, last_request="r", **fields)


def differences(record: GroupRecord, entry: Any) -> list[tuple[FindingKind, str, str]]:
    found = group_differences(record, entry, {"ca": CA, "old": THEIRS})
    return [(each.kind, each.ledger, each.service) for each in found]


@pytest.mark.parametrize("name", [*OTHERS, "client", "by name"])
def test_a_group_that_does_not_attest_by_its_cas_accepts_something_else(name: str) -> None:
    """Whatever it is: its devices stay outside, and others come in."""
    expected = (FindingKind.GROUP_CERTIFICATES, f"it accepts {CA}", f"it accepts {ALL[name][2]}")
    assert differences(group(), group_of(ALL[name][0])) == [expected]
    status = (FindingKind.GROUP_STATUS, "the group is enabled", "the group is disabled")
    assert differences(group(), group_of(ALL[name][0], "disabled")) == [status, expected]
    left = (FindingKind.GROUP_LEFT, "the group is deleted", "the group is there")
    assert differences(group(GroupState.DELETED), group_of(ALL[name][0])) == [left]


@pytest.mark.parametrize(
    ("attestation", "held"),
    [
        (signing(CA), None),
        (signing(CA, THEIRS), f"{CA}, {THEIRS}"),
        (signing(CA, CA), f"{CA}, {CA}"),
        (signing(THEIRS), THEIRS),
        (x509_of(signingCertificates={"primary": shown(CA), "secondary": {"info": {}}}), f"{CA}, {UNREADABLE}"),
        (x509_of(signingCertificates={"secondary": shown(CA)}), None),
    ],
)
def test_a_group_that_accepts_other_cas(attestation: Any, held: str | None) -> None:
    expected = [] if held is None else [(FindingKind.GROUP_CERTIFICATES, f"it accepts {CA}", f"it accepts {held}")]
    assert differences(group(), group_of(attestation)) == expected


def test_a_group_by_name_that_others_change() -> None:
    """In the order of the places, whatever the order in which DPS gives them."""
    record = group(ca_references=CaReferences(primary="theirs", secondary="mine"))
    assert differences(record, group_of(by_name("theirs", "mine"))) == []
    [(kind, ledger, service)] = differences(record, group_of(by_name("mine", "theirs")))
    assert (kind, ledger, service) == (
        FindingKind.GROUP_CERTIFICATES,
        "it accepts theirs, mine",
        "it accepts mine, theirs",
    )
    assert [each[0] for each in differences(record, group_of(signing(CA)))] == [FindingKind.GROUP_CERTIFICATES]


@pytest.mark.parametrize(("changes", "ledger", "service"), CHANGED)
def test_each_setting_of_a_group_that_others_change_is_found(
    changes: dict[str, Any], ledger: str, service: str
) -> None:
    wanted: dict[str, Any] = {"allocationPolicy": "static", "iotHubs": ["hub-1"]}
    record = group(entry_settings=wanted)
    assert differences(record, group_of(signing(CA), **wanted)) == []
    assert differences(record, group_of(signing(CA), **{**wanted, **changes})) == [
        (FindingKind.GROUP_SETTINGS, ledger, service)
    ]


# --- devices that the ledger does not know ---


@pytest.mark.parametrize("name", [*OTHERS, "by name"])
def test_what_the_entry_of_an_unknown_device_accepts_is_said(name: str) -> None:
    entry = entry_of(ALL[name][0])
    difference = unknown_enrollment(entry, None, attestation_of(entry), asked_for=False, rogue=None, group=None)
    assert (difference.kind, difference.ledger) == (
        FindingKind.ENROLLMENT_UNKNOWN,
        "no such device was ever ordered",
    )
    assert difference.service == (
        f"its individual enrollment is enabled, and accepts {ALL[name][2]}; the device is in no hub"
    )
