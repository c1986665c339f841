"""Messages: each rule with its exact words."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shared.contracts
from shared.contracts.answers import RejectionClosing
from shared.contracts.answers_approvals import ApprovalDecision
from shared.contracts.answers_findings import DriftFindingClosing, ReconciliationRequest
from shared.contracts.authorities import AuthorityAct, AuthorityActing
from shared.contracts.base import Contract
from shared.contracts.certificates import AuthorityImport, CertificateRequest
from shared.contracts.devices import IdentityChange, Revocation, RevocationRequest, Saying, revocation_request
from shared.contracts.events import event
from shared.contracts.events_orders import OrderAccepted
from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.ids import path_value
from shared.contracts.messages import Queue, command, read_message
from shared.contracts.orders import DeviceOrder, DeviceRequest, device_request
from shared.contracts.parsing import parse
from shared.domain.words import RevocationReason
from shared.errors import REASONS_MOST, Rejected


def words(contract: type[Contract], body: Any) -> list[str]:
    with pytest.raises(Rejected) as caught:
        parse(contract, body)
    return [str(reason) for reason in caught.value.reasons]


KINDS = "'root', 'intermediate', 'device' or 'verification'"


@pytest.mark.parametrize(
    ("contract", "body", "expected"),
    [
        (DeviceOrder, [], ["must be a JSON object, and is an array"]),
        (DeviceOrder, None, ["must be a JSON object, and is null"]),
        (
            CertificateRequest,
            {"requestId": "r", "kind": "leaf", "name": "x"},
            [f"kind: must be {KINDS}; it is 'leaf'"],
        ),
        (
            CertificateRequest,
            {"requestId": "r", "kind": "root", "name": "a_b"},
            [
                "'a_b' is not a valid name for a certificate authority: 2 to 64 letters, digits and dashes, no dash at the ends (it "
                "names a Key Vault key and is the CN)"
            ],
        ),
        (
            CertificateRequest,
            {"requestId": "r", "kind": "root", "name": "ca", "issuer": "other"},
            ["a root signs itself; leave issuer out, or ask for 'intermediate'"],
        ),
        (
            CertificateRequest,
            {"requestId": "r", "kind": "verification", "name": "x", "issuer": "ca"},
            ["a verification certificate needs issuer (the CA to be verified) and verificationCode"],
        ),
        (
            EnrollmentGroupRequest,
            {"requestId": "r", "enrollmentGroup": "a/b", "action": "create"},
            [
                "enrollmentGroup: 'a/b' is not a valid enrollment group id: 1 to 128 letters, digits and - . _ :, the last a letter, "
                "digit or -"
            ],
        ),
        (
            RevocationRequest,
            {"requestId": "r", "registrationId": "a", "serialNumber": "01", "reason": "superseded"},
            ["name exactly one of registrationId, registrationIds, serialNumber, enrollmentGroup and orderId"],
        ),
        (
            RevocationRequest,
            {"requestId": "r", "serialNumber": "xyz", "reason": "superseded"},
            [
                "serialNumber: 'xyz' is not a valid serial number: up to 40 hexadecimal digits (20 octets, RFC 5280 section "
                "4.1.2.2)"
            ],
        ),
        (
            RevocationRequest,
            {"requestId": "r", "registrationId": "a"},
            [
                "reason: is required to revoke: one of unspecified, keyCompromise, affiliationChanged, superseded, "
                "cessationOfOperation, certificateHold, privilegeWithdrawn"
            ],
        ),
        (Revocation, {}, ["reason: is required"]),
        (
            DeviceRequest,
            {"registrationId": "a", "csr": "-----BEGIN CERTIFICATE REQUEST-----", "keyAlgorithm": "EC-P256"},
            ["csr and keyAlgorithm can't be given together: the CSR brings the key; leave keyAlgorithm out"],
        ),
        (
            RevocationRequest,
            {"requestId": "r", "enrollmentGroup": "g", "action": "delete"},
            ["action 'delete' takes one device: name its registrationId"],
        ),
    ],
)  # fmt: skip
def test_each_rule_has_its_words(contract: type[Contract], body: Any, expected: list[str]) -> None:
    """A body that breaks a rule is rejected with the field, the value and the rule."""
    assert words(contract, body) == expected


GROUP = {"requestId": "r", "enrollmentGroup": "g", "action": "put"}
KELVIN = "\u212a"


@pytest.mark.parametrize(
    ("contract", "body", "expected"),
    [
        (EnrollmentGroupRequest, {**GROUP, "iotEdge": "yes"}, ["iotEdge: must be true or false; it is 'yes'"]),
        (EnrollmentGroupRequest, {**GROUP, "iotEdge": 0}, ["iotEdge: must be true or false; it is '0'"]),
        (
            CertificateRequest,
            {"requestId": "r", "kind": "root", "name": "ca", "pathLength": True, "validityDays": "7"},
            ["validityDays: must be a whole number; it is '7'", "pathLength: must be a whole number; it is 'True'"],
        ),
        (
            EnrollmentGroupRequest,
            {**GROUP, "enrollmentGroup": f"{KELVIN}-1"},
            [
                f"enrollmentGroup: '{KELVIN}-1' is not a valid enrollment group id: 1 to 128 letters, digits and - . _ :, the last a "
                "letter, digit or -"
            ],
        ),
        (
            EnrollmentGroupRequest,
            {**GROUP, "reprovisionPolicy": {"x": 1}},
            ["reprovisionPolicy.x: is not a known field; known are migrateDeviceData, updateHubAssignment"],
        ),
        (
            EnrollmentGroupRequest,
            {**GROUP, "initialTwin": {"properties": {"x": 1}}},
            ["initialTwin.properties.x: is not a known field; known are desired"],
        ),
    ],
)  # fmt: skip
def test_a_value_is_what_it_is_to_be(contract: type[Contract], body: Any, expected: list[str]) -> None:
    """Nothing is taken for something else, and a field is looked for where it stands."""
    assert words(contract, body) == expected


@pytest.mark.parametrize("version", ["2021-13-99", "\u0662021-10-01", "2021-10-01-beta", "20211001"])
def test_an_api_version_is_a_date(version: str) -> None:
    """It goes to the webhook as it is, so it has to be one that can be."""
    webhook = {"webhookUrl": "https://f.example/a", "apiVersion": version}
    body = {**GROUP, "allocationPolicy": "custom", "customAllocation": webhook}
    assert words(EnrollmentGroupRequest, body) == [
        f"customAllocation.apiVersion: '{version}' is not a valid API version: a date as in 2021-10-01, or 2021-11-01-preview"
    ]
    parse(EnrollmentGroupRequest, {**body, "customAllocation": {**webhook, "apiVersion": "2021-11-01-preview"}})


@pytest.mark.parametrize(
    ("action", "fields", "named"),
    [
        ("disable", {"iotHubs": ["h"]}, "iotHubs"),
        ("delete", {"issuer": "ca", "iotEdge": True}, "iotEdge and no issuer"),
        ("roll", {"caReferences": {"primary": "ca"}}, "caReferences"),
        ("create", {"ifMatch": "1"}, "ifMatch"),
        ("update", {"ifNoneMatch": "*"}, "ifNoneMatch"),
    ],
)
def test_what_does_not_belong_to_an_action_is_refused(action: str, fields: dict[str, Any], named: str) -> None:
    """It would be left undone without a word."""
    assert words(EnrollmentGroupRequest, {**GROUP, "action": action, **fields}) == [
        f"action '{action}' does not take {named}; leave out what does not belong to it, or ask for another action"
    ]


def test_half_a_surrogate_pair_is_no_text() -> None:
    """JSON can spell it, and no service takes it; a whole pair is one character."""
    for text in ('{"tags": {"a": ["\\ud83d"]}}', '{"\\udc00": 1}'):
        with pytest.raises(
            Rejected, match=r"^the message is not valid JSON: '.*' has half of a surrogate pair, which is not text"
        ):
            read_message(text)
    assert read_message('{"a": "\\ud83d\\ude00"}').data == {"a": "\U0001f600"}


def test_every_problem_is_told_at_once() -> None:
    """All problems of a body come in one answer, not one by one."""
    assert words(DeviceOrder, {"orderId": "", "devices": [], "validityDays": 0, "x": 1, "y": 2}) == [
        "orderId: has too few characters; at least 1 must be there; it is ''",
        "enrollmentGroup: is required",
        "devices: needs at least 1, and has 0",
        "validityDays: must be 1 or more; it is '0'",
        "x: is not a known field; known are devices, devicesUrl, enrollmentGroup, orderId, progressEvents, "
        "registerBy, validityDays",
        "y: is not a known field; known are devices, devicesUrl, enrollmentGroup, orderId, progressEvents, "
        "registerBy, validityDays",
    ]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("Press-001", "press-001"), ("A.b_C:d-", "a.b_c:d-"), ("x" * 64, "x" * 64), ("7", "7")],
)
def test_registration_ids_are_lowered(text: str, canonical: str) -> None:
    """A registration id is taken in any case, and lower case from then on."""
    assert device_request({"registrationId": text}, index=0).registration_id == canonical
    assert path_value("registrationId", text) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "'a b' contains ' '; a registration id has letters, digits and - . _ : only"),
        ("ärger", "'ärger' contains 'ä'; a registration id has letters, digits and - . _ : only"),
        ("a.", "'a.' must end with a letter, a digit or a dash"),
        ("*", "'*' contains '*'; a registration id has letters, digits and - . _ : only"),
    ],
)
def test_registration_ids_that_dps_would_refuse_are_refused(text: str, message: str) -> None:
    """What DPS does not take as a registration id is refused with its rule."""
    with pytest.raises(Rejected) as caught:
        device_request({"registrationId": text}, index=7)
    assert str(caught.value) == f"devices[7].registrationId: {message}"


@settings(max_examples=2000, deadline=None)
@given(st.text(max_size=80))
def test_a_registration_id_is_canonical_or_rejected(text: str) -> None:
    """Whatever the text: it is rejected, or its canonical form is stable, lower case, and fits a CN."""
    try:
        canonical = path_value("registrationId", text)
    except Rejected:
        return
    assert canonical == text.lower()
    assert path_value("registrationId", canonical) == canonical
    assert 1 <= len(canonical) <= 64


@settings(max_examples=2000, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
        max_leaves=10,
    )
)
def test_no_json_raises_anything_but_a_rejection(body: Any) -> None:
    """Whatever JSON comes, it is taken or rejected, and nothing else happens."""
    try:
        data = read_message(json.dumps(body)).data
        parse(DeviceOrder, data)
    except Rejected as rejection:
        assert rejection.reasons  # noqa: PT017 - either outcome is right


def test_a_private_key_beside_a_csr_is_refused_before_anything_is_kept() -> None:
    """A key that leaves its device is refused by whoever reads the message first, and the answer does not repeat it."""
    leaked = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----"
    with pytest.raises(Rejected) as caught:
        device_request({"registrationId": "press-1", "csr": leaked}, index=0)
    assert str(caught.value) == "devices[0].csr: a private key comes with the CSR; it must stay in the device"


@pytest.mark.parametrize("field", ["password", "pfx", "pem"])
def test_what_is_secret_is_not_repeated(field: str) -> None:
    """An answer says what is wrong with a password or a key, and not what it is."""
    assert f"{field}: must be a text" in words(AuthorityImport, {field: 4711})


def test_the_bare_object_and_a_cloud_event_are_the_same() -> None:
    """A CloudEvent around the data gives the data and its traceparent; a bare object is the data."""
    data = {"orderId": "1"}
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    wrapped = {"specversion": "1.0", "id": "1", "source": "/erp", "type": "x", "traceparent": trace, "data": data}
    assert read_message(json.dumps(wrapped)) == (data, trace, None, "/erp", None)
    assert read_message(json.dumps(data)) == (data, None, None, None, None)


def test_a_cloud_event_without_what_it_needs_is_rejected() -> None:
    """A CloudEvent that lacks id, source or type is rejected by name."""
    with pytest.raises(Rejected) as caught:
        read_message('{"specversion": "1.0"}')
    assert [str(reason) for reason in caught.value.reasons] == [
        "id: is required",
        "source: is required",
        "type: is required",
    ]


def test_a_command_reads_back_as_it_was() -> None:
    """What the app sends to its own queues is what it reads from them."""
    request = RevocationRequest(request_id="r", registration_id="a", reason=RevocationReason.SUPERSEDED)
    at = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)
    body, trace, time, source, _ = read_message(command(Queue.REVOCATION_REQUESTS, request, at=at, traceparent="t"))
    assert parse(RevocationRequest, body) == request
    assert (trace, time, source) == ("t", at, "/device-identity-factory")


@pytest.mark.parametrize("action", ["reinstate", "delete"])
def test_only_a_revocation_needs_a_reason(action: str) -> None:
    """What undoes a hold, or takes a device out of service, is asked for without one."""
    body = {"requestId": "r", "registrationId": "a", "action": action}
    assert revocation_request(body).action == action


def test_an_event_sent_again_has_the_same_id() -> None:
    """An event's id follows from what happened and not from when it was sent."""
    texts = [
        event(
            OrderAccepted(order_id="order-1", enrollment_group="g", device_count=2),
            subject="order-1",
            correlation_id="order-1",
            at=datetime(2026, 1, day, tzinfo=UTC),
            traceparent=None,
        )
        for day in (1, 2)
    ]
    first, second = map(json.loads, texts)
    assert first["id"] == second["id"] == "OrderAccepted/order-1/order-1"
    assert first["time"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("kind", [RevocationRequest, AuthorityAct, CertificateRequest, DeviceOrder])
def test_fields_that_came_later_are_named_as_they_stand_on_the_wire(kind: type[Contract]) -> None:
    """Otherwise the fingerprint of a message without them changes, and its id is another one's."""
    assert kind.added_later
    assert kind.added_later <= {each.alias for each in kind.model_fields.values()}


def test_equal_content_has_an_equal_fingerprint() -> None:
    """The order of fields does not matter to a fingerprint, the content does."""
    one = parse(DeviceOrder, {"orderId": "1", "enrollmentGroup": "g", "devices": [{"registrationId": "a"}]})
    same = parse(DeviceOrder, {"devices": [{"registrationId": "a"}], "enrollmentGroup": "G", "orderId": "1"})
    other = parse(DeviceOrder, {"orderId": "1", "enrollmentGroup": "g", "devices": [{"registrationId": "b"}]})
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_message_over_48_kib_is_refused_with_the_way_out() -> None:
    """More than fits a queue is refused with its size, the limit, and devicesUrl."""
    text = json.dumps({"orderId": "x" * 50_000})
    with pytest.raises(Rejected) as caught:
        read_message(text)
    assert str(caught.value) == (
        "the message has 50015 bytes; at most 49152 fit a queue: put the devices into a blob and name it in devicesUrl"
    )


def test_a_pass_over_two_scopes_is_refused_in_our_words() -> None:
    """And not in those of the library that checks the body."""
    body = {"registrationId": "press-1", "enrollmentGroup": "line-1"}
    with pytest.raises(
        Rejected, match=r"^give registrationId or enrollmentGroup, and not both; without both, everything is compared$"
    ):
        parse(ReconciliationRequest, body)


@pytest.mark.parametrize("wrong", [2, REASONS_MOST - 1, REASONS_MOST, REASONS_MOST + 1, 2000])
def test_how_many_problems_a_body_has_is_told_exactly(wrong: int) -> None:
    """Though the reasons of many are not even written."""
    unknown = {f"field{index}": 1 for index in range(wrong)}
    with pytest.raises(Rejected) as caught:
        parse(DeviceOrder, {"orderId": "1", "enrollmentGroup": "g", "devices": [{}], **unknown})
    *shown, last = (each.message for each in caught.value.reasons)
    left_out = re.match(r"and (\d+) more;", last)
    assert len(shown) + (int(left_out[1]) if left_out else 1) == wrong


@pytest.mark.long
def test_no_message_has_the_words_of_the_library_that_checks() -> None:
    """Whatever stands in a field: "input should be a valid string" says little to who wrote the body in another language."""
    values: list[Any] = [
        None,
        "",
        "a\nb",
        "x" * 70_000,
        5,
        -5,
        5.5,
        10**12,
        float("nan"),
        True,
        [],
        [1],
        [{}],
        {},
        {"a": 1},
    ]
    values += ["2026-13-01T00:00:00Z", "ftp://host/x", "\x1b[2J", ["x"] * 2000]
    found = set[str]()
    for contract in all_contracts():
        for name, field in contract.model_fields.items():
            for value in values:
                try:
                    parse(contract, {field.alias or name: value})
                except Rejected as rejected:
                    found |= {each.message for each in rejected.reasons}
    assert len(found) > 500
    assert [
        each
        for each in found
        if re.search(r"\bshould\b|\b[Ii]nput\b|dictionary|instance of|[Vv]alue error|not permitted", each)
    ] == []


def all_contracts() -> set[type[Contract]]:
    for each in iter_modules(shared.contracts.__path__, "shared.contracts."):
        import_module(each.name)
    found, left = set[type[Contract]](), [Contract]
    while left:
        more = left.pop().__subclasses__()
        found.update(more)
        left.extend(more)
    return {each for each in found if each.__module__.startswith("shared.contracts")}


@pytest.mark.parametrize(
    ("text", "named"), [("a\x1b[2Jb", "U+001B"), ("a\x9bb", "U+009B"), ("a\u202eb", "U+202E"), ("\x00", "U+0000")]
)
def test_what_is_not_shown_but_obeyed_is_refused_in_what_people_say(text: str, named: str) -> None:
    """A terminal would obey it (CWE-150), or show the words in another order (CVE-2021-42574)."""
    said = f"has the character {named}, which is not shown but obeyed; leave it out. Tabs and line ends may stay"
    for contract, field, others in (
        (Revocation, "comment", {"reason": "keyCompromise"}),
        (IdentityChange, "reason", {}),
        (AuthorityActing, "comment", {}),
        (AuthorityActing, "reason", {}),
        (ApprovalDecision, "comment", {}),
        (RejectionClosing, "comment", {}),
        (DriftFindingClosing, "comment", {}),
        (Saying, "comment", {}),
    ):
        assert words(contract, {**others, field: text})[0].startswith(f"{field}: {said}"), contract
        parse(contract, {**others, field: "Müller:\r\n\tdone"})
