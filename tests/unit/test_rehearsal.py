"""A rehearsal reads the plan that a call with dryRun answers, and says what was foreseen beside what was measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devstack.rehearsal import Plan, PlanError, Rehearsed, read_plan, report
from shared.contracts.answers_devices import RevocationPreview
from shared.contracts.authorities import AuthorityPreview

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
        ({"action": "revoke", "repeatDevices": False, **PLANNED}, Plan(devices=40, hubs=2, authority=False)),
        ({"name": "line-1-ca1", "devices": 41, "plan": PLANNED}, Plan(devices=40, hubs=2, authority=True)),
        ({**PLANNED, "devices": 5000, "hubs": {}}, Plan(devices=100, hubs=1, authority=False)),
    ],
)
def test_a_plan_is_what_the_call_answers(answer: dict[str, Any], plan: Plan) -> None:
    """With a hundred devices at most, and in one hub if none is named."""
    assert read_plan(json.dumps(answer)) == plan


@pytest.mark.parametrize("kind", [RevocationPreview, AuthorityPreview])
def test_the_answers_of_the_contract_are_plans(kind: Any) -> None:
    example = kind.model_config["json_schema_extra"]["examples"][0]
    assert read_plan(json.dumps(example), most=10_000) == Plan(1200, 2, kind is AuthorityPreview)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", r"^the plan is not valid JSON: "),
        ("[]", f"^{NOT_A_PLAN}$"),
        ('{"detail": "not found"}', f"^{NOT_A_PLAN}$"),
        ('{"name": "ca", "plan": null}', f"^{NOT_A_PLAN}$"),
        (json.dumps({**PLANNED, "devices": 0}), r"^the plan names no devices that would be revoked"),
    ],
)
def test_what_is_not_a_plan_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        read_plan(text)


def test_what_was_measured_stands_beside_what_was_foreseen() -> None:
    """Ten times the quotas take a tenth of the time."""
    rates = {
        "dps.operations": {"admitted": 163, "refused": 4},
        "iot_hub.registry": {"admitted": 121, "refused": 0},
        "iot_hub.queries": {"admitted": 2, "refused": 0},
    }
    measured = Rehearsed(Plan(40, 2, authority=False), PLANNED, 10, 1.5, 7.25, rates)
    assert list(report(measured)) == [
        "40 devices in 2 hub(s), at 10 times Microsoft's quotas: they were revoked",
        "                            foreseen    measured",
        "hubs shut after, s               0.1         1.5",
        "all doors closed after, s         5.5         7.2",
        "DPS operations                   160         163  refused 4",
        "registry operations              124         121  refused 0",
        "queries                                        2  refused 0",
    ]
