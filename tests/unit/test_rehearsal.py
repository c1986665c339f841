"""A rehearsal reads the plan that a call with dryRun answers, and says what was foreseen beside what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from devstack.rehearsal import Plan, PlanError, Rehearsed, at_pace, call_of, main, read_plan, report
from shared.contracts.answers_devices import RevocationPreview
from shared.contracts.authorities import AuthorityPreview, AuthorityRevoking
from shared.contracts.devices import RevocationCall
from shared.contracts.parsing import parse

if TYPE_CHECKING:
    from pathlib import Path

PLANNED = {
    "devices": 40,
    "hubs": {"hub-1": 30, "hub-2": 10},
    "dpsCalls": 160,
    "hubCalls": 124,
    "hubsShutAfterMinutes": 0.02,
    "doneAfterMinutes": 0.92,
}
NOT_A_PLAN = "this is not a plan: save what a revocation with dryRun=true answers"


@pytest.mark.parametrize(
    ("answer", "plan"),
    [
        (
            {"action": "revoke", "target": "orderId", "repeatDevices": False, **PLANNED},
            Plan(devices=40, hubs=2, target="orderId"),
        ),
        (
            {"name": "line-1-ca1", "authorities": ["line-1-ca1"], "devices": 41, "plan": {**PLANNED, "perMinute": 60}},
            Plan(devices=40, hubs=2, target=None, per_minute=60),
        ),
        (
            {"name": "dpsCa", "authorities": ["dpsCa", "line-1-ca1"], "devices": 41, "plan": PLANNED},
            Plan(devices=40, hubs=2, target=None, from_root=True),
        ),
        ({**PLANNED, "devices": 5000, "hubs": {}}, Plan(devices=100, hubs=1, target="enrollmentGroup")),
    ],
)
def test_a_plan_is_what_the_call_answers(answer: dict[str, Any], plan: Plan) -> None:
    """With a hundred devices at most, and in one hub if none is named."""
    assert read_plan(json.dumps(answer)) == plan


def test_a_list_names_no_more_devices_than_a_request_takes() -> None:
    answer = {"action": "revoke", "target": "registrationIds", **PLANNED, "devices": 900}
    assert read_plan(json.dumps(answer), most=1000).devices == 400


@pytest.mark.parametrize("kind", [RevocationPreview, AuthorityPreview])
def test_the_answers_of_the_contract_are_plans(kind: Any) -> None:
    example = kind.model_config["json_schema_extra"]["examples"][0]
    target = None if kind is AuthorityPreview else "enrollmentGroup"
    assert read_plan(json.dumps(example), most=10_000) == Plan(1200, 2, target)


REASON = {"reason": "keyCompromise"}


@pytest.mark.parametrize(
    ("plan", "path", "body"),
    [
        (Plan(2, 1, None, 60), "certificate-authorities/r-ca1/revoke", {**REASON, "devices": 2, "perMinute": 60}),
        (Plan(2, 1, None, from_root=True), "certificate-authorities/dpsCa/revoke", {**REASON, "devices": 2}),
        (Plan(2, 1, "enrollmentGroup"), "revocations", {"enrollmentGroup": "rehearsal", **REASON, "devices": 2}),
        (Plan(2, 1, "orderId", 9), "revocations", {"orderId": "rehearsal", **REASON, "devices": 2, "perMinute": 9}),
        (Plan(2, 1, "registrationIds"), "revocations", {"registrationIds": ["a", "b"], **REASON, "devices": 2}),
        (Plan(1, 1, "registrationId"), "revocations", {"registrationId": "a", **REASON}),
        (Plan(1, 1, "serialNumber"), "revocations", {"serialNumber": "4a" * 20, **REASON}),
    ],
)
def test_what_is_rehearsed_is_the_call_that_was_planned(plan: Plan, path: str, body: dict[str, Any]) -> None:
    """The app takes it as it is."""
    called = call_of(plan, names=("a", "b"), issuer="r-ca1", serial_number="4a" * 20)
    assert called == (path, body)
    parse(
        AuthorityRevoking if plan.target is None else RevocationCall,
        {**body, **({} if plan.target is None else {"requestId": "r"})},
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", r"^the plan is not valid JSON: "),
        ("[]", f"^{NOT_A_PLAN}$"),
        ('{"detail": "not found"}', f"^{NOT_A_PLAN}$"),
        ('{"name": "ca", "plan": null}', f"^{NOT_A_PLAN}$"),
        (
            json.dumps({"action": "reinstate", **PLANNED}),
            r"^the plan is one to reinstate devices, and a rehearsal revokes: plan with action 'revoke'$",
        ),
        (json.dumps({"target": "batch", **PLANNED}), r"^the plan has target 'batch', and this version rehearses "),
        (json.dumps({**PLANNED, "devices": 0}), r"^the plan names no devices that would be revoked"),
    ],
)
def test_what_is_not_a_plan_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        read_plan(text)


@pytest.mark.parametrize(
    ("option", "given", "says"),
    [
        ("--most", "0", "--most is 0; give 1 or more"),
        ("--per-minute", "0", "--per-minute is 0; give a number from 1 to 6000"),
        ("--per-minute", "6001", "--per-minute is 6001; give a number from 1 to 6000"),
        ("--scale", "0", "--scale is 0; give a number above 0"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_a_cloud_is_started(
    option: str, given: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["no-plan.json", option, given])
    assert capsys.readouterr().err.endswith(f"error: {says}\n")


def test_a_plan_gets_another_pace_unless_it_is_one_for_a_single_device() -> None:
    assert at_pace(Plan(40, 2, "orderId", 60), 5) == Plan(40, 2, "orderId", 5)
    with pytest.raises(PlanError, match=r"^the plan has target 'serialNumber', and a single device has no pace: leave"):
        at_pace(Plan(1, 1, "serialNumber"), 5)


def test_what_was_measured_stands_beside_what_was_foreseen() -> None:
    """Ten times the quotas take a tenth of the time."""
    rates = {
        "dps.operations": {"admitted": 163, "refused": 4},
        "iot_hub.registry": {"admitted": 121, "refused": 0},
        "iot_hub.queries": {"admitted": 2, "refused": 0},
    }
    measured = Rehearsed(Plan(40, 2, "enrollmentGroup"), PLANNED, PLANNED, 10, 1.5, 7.25, rates)
    assert list(report(measured)) == [
        "40 devices in 2 hub(s), at 10 times Microsoft's quotas: their group was revoked",
        "                            foreseen    measured",
        "hubs shut after, s               0.1         1.5",
        "all doors closed after, s         5.5         7.2",
        "DPS operations                   160         163  refused 4",
        "registry operations              124         121  refused 0",
        "queries                                        2  refused 0",
    ]
    slow = {**PLANNED, "hubsShutAfterMinutes": 0.67}
    paced = list(report(replace(measured, plan=Plan(40, 2, None, per_minute=60), foreseen=slow)))
    assert paced[0] == "40 devices in 2 hub(s), at 10 times Microsoft's quotas: their CA was revoked, 60 a minute"
    assert paced[2:4] == [
        "hubs shut after, s              40.2         1.5",
        "all doors closed after, s         5.5         7.2",
    ]


def test_a_plan_that_is_not_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan").write_bytes(b"\x80\x03binary\xff")
    assert main([str(tmp_path / "plan")]) == 1
    assert capsys.readouterr().err == ("the plan is not text in UTF-8; give the answer of the call with dryRun=true\n")
