"""The auditor names what does not agree, and nothing on a healthy device."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest
from azure.core.exceptions import HttpResponseError

from shared.audit import Auditor, report
from shared.domain.audit import Observed, faults, group_faults
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.groups import CaReferences, Change, ChangeAction, GroupRecord, GroupState
from shared.domain.held_certificates import CertificateSummary
from shared.domain.words import CertificateKind, DeviceState, RevocationReason
from shared.errors import ServiceFailed
from shared.ledger.lost_certificates import LostCertificates
from shared.ports.hubs import HubIdentity
from tests.records import held_certificate
from tests.unit.evidence.test_comparing import healthy, lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = datetime(2026, 3, 1, tzinfo=UTC)
END = NOW + timedelta(days=300)
SERIAL = "4" * 40
LETS_IN = HubIdentity("a", True, frozenset({"T256"}), connected=False, authentication="selfSigned")  # noqa: FBT003 - it is enabled
SHUT = replace(LETS_IN, enabled=False)


def device(holds: CertificateState = CertificateState.ACTIVE, **fields: Any) -> DeviceRecord:
    reason = RevocationReason.KEY_COMPROMISE if holds is CertificateState.REVOKED else None
    held = held_certificate(SERIAL, NOW, state=holds, not_after=END, reason=reason)
    summary = CertificateSummary(serial_number=SERIAL, thumbprint="T", not_before=NOW, not_after=END, issuer="ca")
    given = {"state": DeviceState.REGISTERED, "held": (held,), "certificate": summary, **fields}
    return DeviceRecord(registration_id="a", order_id="o", updated_at=NOW, enrollment_group="g", **given)


def observed(state: CertificateState = CertificateState.ACTIVE, **fields: Any) -> Observed:
    reason = RevocationReason.KEY_COMPROMISE if state is CertificateState.REVOKED else None
    row = CertificateRecord(
        serial_number=SERIAL, kind=CertificateKind.DEVICE, state=state, subject="a", issuer="ca", cause="o",
        recorded_at=NOW, not_after=END, revocation_reason=reason, thumbprint="T",
    )  # fmt: skip
    return replace(Observed({SERIAL: row}, {SERIAL: "T256"}, None, identity=LETS_IN), **fields)


REVOKED = {"state": DeviceState.REVOKED, "revoked": RevocationReason.KEY_COMPROMISE}


def test_a_healthy_device_has_no_fault() -> None:
    """Registered and let in; or revoked, listed and shut out everywhere."""
    assert list(faults(device(), observed(), NOW)) == []
    shut = observed(CertificateState.REVOKED, entry=frozenset(), identity=SHUT, listed=frozenset({SERIAL, "5" * 40}))
    assert list(faults(device(CertificateState.REVOKED, **REVOKED), shut, NOW)) == []


@pytest.mark.parametrize(
    ("record", "seen", "fault"),
    [
        (device(generation=2, converged=1), observed(), "the services do not follow the record: 1 of 2"),
        (device(), observed(identity=SHUT), "the hub does not let in a device that is registered"),
        (
            device(),
            observed(identity=replace(LETS_IN, authentication="sas")),
            "the identity is 'sas': the hub lets in whoever has one of its symmetric keys",
        ),
        (
            device(),
            observed(identity=replace(LETS_IN, authentication="certificateAuthority", thumbprints=frozenset())),
            "the identity is 'certificateAuthority': the hub lets in whoever has a certificate with its id from a CA "
            "that the hub has verified",
        ),
        (
            device(),
            observed(identity=replace(LETS_IN, authentication="none")),
            "the identity is 'none': the hub lets in nobody",
        ),
        (
            device(),
            observed(identity=replace(LETS_IN, thumbprints=frozenset({"T", "THEIRS"}))),
            "the hub lets in a certificate that was never issued to the device: THEIRS",
        ),
        (device(), observed(entry=frozenset({"OTHER"})), f"DPS does not let in {SERIAL}, which the device uses"),
        (device(), observed(listed=frozenset({SERIAL})), f"revoked are [], and listed ['{SERIAL}']"),
        (
            device(CertificateState.REVOKED, **REVOKED),
            observed(CertificateState.REVOKED, entry=frozenset(), identity=LETS_IN, listed=frozenset({SERIAL})),
            "the hub lets in a device that is revoked, disabled: False",
        ),
        (
            device(CertificateState.REVOKED, **REVOKED),
            observed(CertificateState.REVOKED, identity=SHUT, listed=frozenset({SERIAL})),
            f"DPS lets in {SERIAL}, which is revoked; the device is revoked",
        ),
        (
            device(CertificateState.REVOKED, **REVOKED),
            observed(CertificateState.REVOKED, entry=frozenset(), identity=SHUT),
            f"revoked are ['{SERIAL}'], and listed []",
        ),
        (
            device(CertificateState.REVOKED, **REVOKED),
            observed(entry=frozenset(), identity=SHUT),
            [
                f"in force are ['{SERIAL}'], and the device, revoked, uses []",
                f"{SERIAL} is active, and revoked for its device",
            ],
        ),
        (
            device(CertificateState.REVOKED, **REVOKED),
            Observed({}, {}, entry=None, identity=SHUT),
            f"{SERIAL} is held, and not recorded",
        ),
        (
            device(CertificateState.REVOKED, **{**REVOKED, "state": DeviceState.DELETED}),
            observed(CertificateState.REVOKED, entry=frozenset(), identity=SHUT, listed=frozenset({SERIAL})),
            "the device is deleted, and its identity is there",
        ),
    ],
)
def test_each_fault_is_named(record: DeviceRecord, seen: Observed, fault: str | list[str]) -> None:
    """What does not agree is said, and nothing else."""
    assert list(faults(record, seen, NOW)) == ([fault] if isinstance(fault, str) else fault)


def test_a_certificate_that_has_ended_is_let_in_by_nobody() -> None:
    """It leaves its list, and DPS need not refuse it: its chain is refused by its time."""
    ended = replace(observed(CertificateState.REVOKED, identity=None), entry=None)
    assert list(faults(device(CertificateState.REVOKED, **REVOKED), ended, END + timedelta(days=1))) == []


def group(state: GroupState = GroupState.ENABLED, **fields: Any) -> GroupRecord:
    given = {"issuer": "ca-2", "last_request": "r", **fields}
    return GroupRecord(enrollment_group="g", state=state, updated_at=NOW, **given)


def entry(*thumbprints: str, status: str = "enabled", **x509: Any) -> dict[str, Any]:
    places = dict(zip(("primary", "secondary"), thumbprints, strict=False))
    held = {place: {"info": {"sha256Thumbprint": each}} for place, each in places.items()}
    return {"provisioningStatus": status, "attestation": {"x509": {"signingCertificates": held, **x509}}}


REFERENCES = CaReferences(primary="root", secondary="other")
UNFINISHED = Change(request="r", action=ChangeAction.DISABLE, state=GroupState.DISABLED, issuer="ca-2", decided_at=NOW)


def test_a_healthy_group_has_no_fault() -> None:
    """Enabled with its CA, or with two during a rollover; by reference; or deleted, and gone."""
    names = {"ca-1": "T1", "ca-2": "T2"}
    assert list(group_faults(group(), entry("T2"), names)) == []
    assert list(group_faults(group(previous_issuer="ca-1"), entry("T1", "T2"), names)) == []
    referring = entry(caReferences={"primary": "root", "secondary": "other"})
    assert list(group_faults(group(issuer="", ca_references=REFERENCES), referring, {})) == []
    assert list(group_faults(group(GroupState.DELETED), None, {})) == []


@pytest.mark.parametrize(
    ("record", "seen", "fault"),
    [
        (group(), None, "the group 'g' is enabled, and DPS does not have it"),
        (group(), entry("T2", status="disabled"), "the group 'g' is enabled, and disabled in DPS"),
        (group(GroupState.DISABLED), entry("T2"), "the group 'g' is disabled, and enabled in DPS"),
        (group(GroupState.DELETED), entry("T2"), "the group 'g' is deleted, and DPS has it"),
        (group(), entry("T1"), "the group 'g' has CAs ('T2',), and in DPS ('T1',)"),
        (group(previous_issuer="ca-1"), entry("T2"), "the group 'g' has CAs ('T1', 'T2'), and in DPS ('T2',)"),
        (
            group(issuer="", ca_references=REFERENCES),
            entry(caReferences={"primary": "root"}),
            "the group 'g' refers to {'primary': 'root', 'secondary': 'other'}, and in DPS to {'primary': 'root'}",
        ),
        (group(change=UNFINISHED), entry("T2"), f"DPS does not follow the group 'g': {UNFINISHED}"),
    ],
)
def test_each_fault_of_a_group_is_named(record: GroupRecord, seen: dict[str, Any] | None, fault: str) -> None:
    """What does not agree is said, and nothing else."""
    assert list(group_faults(record, seen, {"ca-1": "T1", "ca-2": "T2"})) == [fault]


async def found(*lines: str, error: Exception | None = None) -> AsyncIterator[str]:
    for line in lines:
        yield line
    if error is not None:
        raise error


async def test_the_report_says_what_is_wrong_or_that_all_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert await report(found("a: is wrong", "b: is wrong")) == 1
    assert capsys.readouterr().out == "a: is wrong\nb: is wrong\n"
    assert await report(found()) == 0
    assert capsys.readouterr().out == "ledger, log, DPS, hubs and lists agree\n"


async def none(**_options: Any) -> AsyncIterator[Any]:
    for each in list[Any]():
        yield each


async def test_lost_certificates_are_told_and_are_not_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """One that no restoration has named as lost is a fault beside them."""
    scene = await healthy(count=2, others=0)
    named = LostCertificates(scene.place.rows)
    await named.name(lost(0))
    services: Any = SimpleNamespace(
        authorities=SimpleNamespace(list=none), evidence=SimpleNamespace(reader=scene.place.worker().reader)
    )
    devices: Any = SimpleNamespace(page=AsyncMock(return_value=([], None)))
    groups: Any = SimpleNamespace(list=none)
    certificates: Any = SimpleNamespace(every=none)
    auditor = Auditor(services, certificates, devices, groups, named)
    assert await report(auditor.run()) == 1
    told = "lost certificates, which are in the log and can't be had again: {}, since 2026-03-01 12:00 UTC\n"
    fault = f"{lost(1).serial_number}: a certificate is in the log, and not in the ledger\n"
    assert capsys.readouterr().out == fault + told.format(1)
    await named.name(lost(1))
    assert await report(auditor.run()) == 0
    assert capsys.readouterr().out == f"{told.format(2)}ledger, log, DPS, hubs and lists agree\n"


async def test_a_service_that_does_not_answer_ends_the_report_and_keeps_what_was_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It does not say that all agree, and shows no traceback. A bug does."""
    assert await report(found("a: is wrong", error=ServiceFailed("it is down"))) == 2
    told = capsys.readouterr()
    assert told.out == "a: is wrong\n"
    assert told.err == (
        "the audit is not complete, since a service does not answer: wait until GET /api/health/ready is ok, and run it "
        "again\n"
    )
    with pytest.raises(KeyError):
        await report(found(error=KeyError("a bug")))


async def test_an_identity_without_a_role_is_told_to_the_auditor(capsys: pytest.CaptureFixture[str]) -> None:
    denied = SimpleNamespace(status_code=403, reason="Forbidden", headers={}, request=None)
    assert await report(found(error=HttpResponseError("denied", response=denied))) == 2
    assert capsys.readouterr().err == (
        "the audit is not complete, since a service does not let this identity in: give it the roles that read, and run "
        "it again\n"
    )
