"""The console: who may see it, that it shows text as text, and that no other site can use it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
import azure.functions as func
import pytest
from aiohttp import web

from shared import acting
from shared.adapters.own_host import OwnHost
from shared.contracts.answers import NotReplayed, Rejection, Replayed
from shared.contracts.answers_devices import Device, DeviceCounts, ListedOrder, MonthOfExpiry, Order
from shared.contracts.answers_groups import DeviceLeft, GroupSummary, MissedRenewal, Rollover
from shared.contracts.answers_requests import FollowedRequest, ListedRequest
from shared.contracts.authorities import AuthorityPreview
from shared.contracts.messages import Queue
from shared.domain.approvals import ApprovalAct, ApprovalRecord, ApprovalState
from shared.domain.audit_entries import AuditEntry, AuditOutcome, SubjectKind
from shared.domain.authorities import ProofOfPossession
from shared.domain.callers import Actor, CallerKind, Role
from shared.domain.findings import FindingRecord, FindingState
from shared.domain.findings import SubjectKind as SubjectOfFinding
from shared.domain.groups import GroupState
from shared.domain.orders import OrderRecord, OrderState
from shared.domain.passes import ReconciliationRecord
from shared.domain.rejections import RejectionState
from shared.domain.requests import RequestState
from shared.domain.treatments import FindingKind, Policy, Severity
from shared.domain.words import DeviceState, RenewalNeeds
from shared.errors import Conflict, NotFound
from shared.errors import Rejected as Refused
from shared.ledger.requests import Requests
from shared.rules.zones import Zone
from shared.settings import Settings
from shared.workflows.devices.order_results import OrderResults
from shared.workflows.intake.outbox import Outbox
from shared.workflows.reconciliation.budget import Share
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues, FakeTable
from tests.unit.limiting import unlimited
from tests.unit.test_settings import GOOD
from triggers import outcomes
from triggers.console import access
from triggers.console.limits import places_used
from triggers.console.orders import expected_end, rate
from triggers.console.pages import HEADERS, at, distance, words
from triggers.registration import app_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from shared.ledger.rejections import Filters
    from shared.workflows.intake.audit import Act

KEY = "let-me-in=="
HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
AUTHORITY_PREVIEW = {
    "name": HOSTILE,
    "action": "revoke",
    "state": "active",
    "becomes": "revoked",
    "authorities": [HOSTILE],
    "enrollmentGroups": ["line-1"],
    "devices": 1200,
    "moreDevices": False,
    "unknownCertificates": 2,
    "repeatDevices": True,
    "effects": [f"1200 devices of {HOSTILE} are revoked"],
}
REJECTED: dict[str, Any] = {
    "id": "2026-05-01-6f1ed002ab5595859014",
    "kind": "poison",
    "queue": "device-orders",
    "reasons": [{"field": HOSTILE, "message": HOSTILE}],
    "rejectedAt": NOW,
    "state": "open",
    "replayedAt": None,
    "body": HOSTILE,
    "bytesLeftOut": 7,
    "attempts": 5,
    "failures": [{"at": NOW, "cause": HOSTILE}],
    "closedAt": None,
    "comment": HOSTILE,
}
REJECTION = Rejection.model_validate(REJECTED)
DEVICE: dict[str, Any] = {
    "registrationId": HOSTILE,
    "state": "registered",
    "enrollmentGroup": HOSTILE,
    "orderId": HOSTILE,
    "deviceId": HOSTILE,
    "assignedHub": HOSTILE,
    "certificate": None,
    "nextCertificate": None,
    "reason": HOSTILE,
    "updatedAt": NOW,
    "closedDoors": [{"door": "crl", "where": HOSTILE, "since": NOW, "checkedAt": NOW}],
    "history": [
        {
            "at": NOW,
            "state": "registered",
            "note": HOSTILE,
            "actor": {"kind": "user", "id": HOSTILE, "name": HOSTILE},
            "comment": HOSTILE,
        }
    ],
}
DO = {"text": HOSTILE, "call": {"method": "POST", "path": HOSTILE, "body": None}}
CAUSE = {"code": "identityDisabled", "kind": "fault", "text": HOSTILE}
EXPLAINED: dict[str, Any] = {
    "cause": CAUSE,
    "whatToDo": DO,
    "further": [{**CAUSE, "whatToDo": {"text": HOSTILE, "call": None}}],
    "doors": [{"door": "hub", "name": HOSTILE, "state": "shut", "why": HOSTILE}],
    "timeline": [{"at": NOW, "source": "ledger", "text": HOSTILE}],
}
LINE = {"registrationId": HOSTILE, "state": "failed", "reason": HOSTILE}
ORDER = Order.model_validate(
    {
        "orderId": HOSTILE,
        "enrollmentGroup": HOSTILE,
        "state": "processing",
        "acceptedAt": NOW,
        "completedAt": None,
        "reasons": [{"field": "", "message": HOSTILE}],
        "progress": {"total": 4, "ordered": 1, "issued": 1, "registered": 1, "failed": 1},
        "devices": [LINE],
        "registerBy": "service",
    }
)
FOLLOWED = FollowedRequest.model_validate(
    {
        **dict.fromkeys(("requestId", "about", "waitingFor", "rejectionId"), HOSTILE),
        **dict.fromkeys(("actor", "comment", "approvalId")),
        "kind": "renewal-requests",
        "state": "waiting",
        "requestedAt": NOW,
        "waitingSince": NOW,
        "nextTry": None,
        "progress": {"queued": 9, "needCsr": 1, "skipped": 2, "done": 7, "failed": 1, "waiting": 1},
        "tries": 2,
        "endedAt": None,
        "reasons": [{"field": HOSTILE, "message": HOSTILE}],
    }
)
LISTED = ListedOrder(
    order_id=HOSTILE,
    state=OrderState.WAITING,
    enrollment_group=HOSTILE,
    device_count=4,
    accepted_at=NOW,
    completed_at=None,
    location=HOSTILE,
)
REQUEST = ListedRequest(
    request_id=HOSTILE,
    kind=Queue.DEVICE_ORDERS,
    state=RequestState.WAITING,
    about=HOSTILE,
    requested_at=NOW,
    location=HOSTILE,
)
FINDING = FindingRecord(
    finding_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    kind=FindingKind.IDENTITY_DISABLED,
    severity=Severity.MEDIUM,
    subject_kind=SubjectOfFinding.DEVICE,
    subject=HOSTILE,
    ledger=HOSTILE,
    service=HOSTILE,
    where=HOSTILE,
    since=NOW,
    seen_at=NOW,
    reconciliation="2026-05-01T120000-0a1b2c3d",
    enrollment_group="line-1",
    certificate_authority="line-1-ca1",
    problem=HOSTILE,
)
PASS = ReconciliationRecord(
    reconciliation_id="2026-05-01T120000-0a1b2c3d",
    began_at=NOW,
    registration_id=HOSTILE,
    looked_at={"devices": 40},
    found={"identityDisabled": 2},
)
APPROVAL = ApprovalRecord(
    approval_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    act=ApprovalAct.DELETE_GROUP,
    what=HOSTILE,
    subject_kind=SubjectKind.GROUP,
    subject=HOSTILE,
    fingerprint="f",
    asked_by=Actor(kind=CallerKind.USER, id="ada", name=HOSTILE),
    asked_with=HOSTILE,
    asked_at=NOW,
    expires_at=NOW + timedelta(hours=72),
    enrollment_group="line-1",
    devices=1200,
    queue="enrollment-group-requests",
    request_id=HOSTILE,
)
GROUP: dict[str, Any] = {
    "enrollmentGroup": HOSTILE,
    "state": "enabled",
    "issuer": HOSTILE,
    "previousIssuer": HOSTILE,
    "renewAutomatically": False,
    "rollover": None,
    "updatedAt": NOW,
}
REVOCATION_PREVIEW = {
    "action": "revoke",
    "devices": 1200,
    "repeatDevices": True,
    "dpsCalls": 4800,
    "hubCalls": 3624,
    "hubsShutAfterMinutes": 0.24,
    "doneAfterMinutes": 36.24,
}
# Not what the models let through, so that pages are held to write down whatever it is.
MISSED = MissedRenewal.model_construct(
    registration_id=HOSTILE, serial_number=HOSTILE, not_after=NOW, needs=RenewalNeeds.CSR, since=NOW
)
LEFT = DeviceLeft.model_construct(registration_id=HOSTILE, serial_number=HOSTILE, ends_by=NOW)


def answering(found: Any) -> Callable[..., Awaitable[Any]]:
    async def answer(*_: Any, **__: Any) -> Any:
        return found

    return answer


class Host:
    """The Functions host: it takes one key."""

    async def takes(self, key: str) -> bool:
        return key == KEY

    def believes(self, _key: str) -> bool:
        return False


class Rejected:
    """Rejections, of which it is noted what was done to them."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []
        self.state = RejectionState.OPEN

    async def page(self, *_: Any, **__: Any) -> Any:
        return [REJECTION], "2026|x"

    async def describe(self, identifier: str) -> Rejection:
        if identifier != REJECTION.id:
            raise NotFound.because(f"the rejection {identifier!r} does not exist")
        return REJECTION.model_copy(update={"state": self.state})

    async def replay(self, identifier: str) -> Rejection:
        self.done.append(("replay", identifier))
        return REJECTION

    async def replay_many(self, filters: Filters, *, per_minute: int) -> Replayed:
        self.done.append(("many", str(filters.queue), str(filters.cause), str(filters.until), str(per_minute)))
        return Replayed(replayed=1, not_replayed=[NotReplayed(id=HOSTILE, reason=HOSTILE)], is_more=True)

    async def close(self, identifier: str, comment: str) -> Rejection:
        self.done.append(("close", identifier, comment))
        return REJECTION


class Found:
    """Findings and passes, of which it is noted what was asked and done."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None]] = []
        self.done: list[tuple[str | None, ...]] = []
        self.finding = FINDING
        self.findings = self
        self.share = Share(percent=10, hub_units=1)
        self.passes = SimpleNamespace(all=answering([PASS]))

    async def page(self, filters: Mapping[str, str | None], **_: Any) -> Any:
        self.asked.append((filters["state"], filters.get("severity")))
        return ([self.finding], "x") if filters.get("severity") in {None, "medium"} else ([], None)

    async def describe_finding(self, finding_id: str) -> FindingRecord:
        if finding_id != self.finding.finding_id:
            raise NotFound.because(f"the finding {finding_id!r} does not exist")
        return self.finding

    def policy_of(self, kind: FindingKind) -> Policy:
        return Policy.MEND if kind is FindingKind.DOOR_OPEN else Policy.REPORT

    async def act(self, finding_id: str, policy: Policy) -> None:
        self.done.append((finding_id, policy.value))

    async def close(self, finding_id: str, comment: str) -> None:
        self.done.append((finding_id, comment))

    async def begin_at_once(
        self, *, enrollment_group: str | None, registration_id: str | None, lasting: timedelta
    ) -> ReconciliationRecord:
        self.done.append(("begin", enrollment_group, registration_id, str(lasting)))
        return PASS


class Approving:
    """Approvals, of which it is noted how they were decided."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str, str]] = []
        self.record = APPROVAL

    async def page(self, *_: Any, **__: Any) -> Any:
        return [self.record], "x"

    async def describe(self, _identifier: str) -> ApprovalRecord:
        return self.record

    async def group_of(self, _identifier: str) -> str | None:
        return self.record.enrollment_group

    async def approve(self, identifier: str) -> ApprovalRecord:
        self.done.append(("approve", identifier, acting.comment() or ""))
        return self.record

    async def refuse(self, identifier: str) -> ApprovalRecord:
        self.done.append(("refuse", identifier, acting.comment() or ""))
        return self.record


class Audit:
    """The audit log, that notes what is written down."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, ...]] = []
        self.log = self

    @asynccontextmanager
    async def carried_out(self, act: Act) -> AsyncIterator[None]:
        self.noted.append((act.action, act.subject, acting.comment() or ""))
        yield

    async def denied(self, act: Act) -> None:
        actor = acting.actor()
        self.noted.append(("denied", act.action, act.subject, actor.id if actor else "", act.reason or ""))

    async def page(self, *_: Any, **__: Any) -> Any:
        actor = Actor(kind=CallerKind.USER, id=HOSTILE, name=HOSTILE, role="Devices.Revoke", address="192.0.2.7")
        entry = AuditEntry(
            entry_id="e",
            at=NOW,
            actor=actor,
            action="revoke",
            subject_kind=SubjectKind.DEVICE,
            subject=HOSTILE,
            outcome=AuditOutcome.DONE,
            reason=HOSTILE,
            comment=HOSTILE,
        )
        return [entry], "x"


class NoAuthorities:
    async def list(self) -> AsyncIterator[Any]:
        for each in list[Any]():
            yield each


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    digest = sha256(KEY.encode()).hexdigest()
    settings = Settings.from_environment(
        {**GOOD, "WEBSITE_HOSTNAME": "factory.azurewebsites.net", "KEY_ROLES": f"everything {','.join(Role)} {digest}"}
    )
    rollover: dict[str, Any] = {**dict.fromkeys(("from", "to", "problem"), HOSTILE), "state": "rolling"}
    rollover |= {"startedAt": NOW, "retiredAt": None}
    group = GroupSummary.model_validate({**GROUP, "enrollmentGroup": "line-1", "rollover": rollover})
    queues: Any = FakeQueues()
    nothing: Any = None
    listed = {**DEVICE, "certificate": {"notAfter": "2027-05-01T11:59:59Z"}}
    there = SimpleNamespace(
        settings=settings,
        clock=lambda: NOW,
        own_host=Host(),
        readiness=SimpleNamespace(report=answering({"tables": HOSTILE})),
        rejected_messages=Rejected(),
        approvals=Approving(),
        audit=(audit := Audit()),
        limits=unlimited(audit, lambda: NOW),
        reconciler=Found(),
        following=SimpleNamespace(page=answering(([REQUEST], "x")), describe=answering(FOLLOWED)),
        renewals=SimpleNamespace(check=answering(None)),
        order_requests=SimpleNamespace(check=answering(None)),
        authority_workflows=SimpleNamespace(
            acts=SimpleNamespace(
                foresee=answering(None),
                preview=answering(AuthorityPreview.model_validate({**AUTHORITY_PREVIEW, "plan": None})),
            )
        ),
        revocations=SimpleNamespace(
            check=answering(None),
            foresee=answering(REVOCATION_PREVIEW),
            foresee_authorities=answering(REVOCATION_PREVIEW),
        ),
        requests=Requests(FakeTable()),
        outbox=Outbox(queues=queues, clock=lambda: NOW),
        authorities=NoAuthorities(),
        lifetimes=SimpleNamespace(
            group_renewals=SimpleNamespace(check=answering(None)),
            missed_renewals=SimpleNamespace(page=answering(([MISSED], "x"))),
        ),
        groups=SimpleNamespace(
            checks=SimpleNamespace(foresee=answering(None)),
            directory=SimpleNamespace(
                rollover=answering(Rollover.model_validate({**rollover, "certificatesLeft": 1, "moreLeft": False})),
                list_groups=answering([group]),
                summary=answering(group),
                left_on_old_ca=answering(([LEFT], "x")),
            ),
        ),
        devices=SimpleNamespace(
            page=answering(([listed], "x")),
            describe=answering(Device.model_validate(DEVICE)),
            counts=answering(
                DeviceCounts(
                    total=3,
                    states={DeviceState.REGISTERED: 2, DeviceState.FAILED: 1},
                    expiries=[MonthOfExpiry(month="2027-05", devices=2)],
                )
            ),
            with_thumbprint=answering([]),
            with_serial_number=answering([]),
        ),
        explaining=SimpleNamespace(of_device=answering(EXPLAINED)),
        order_answers=SimpleNamespace(
            describe=answering(ORDER),
            page=answering(([LISTED], "x")),
            order=answering(
                OrderRecord(order_id="order-1", state=OrderState.COMPLETED, accepted_at=NOW, device_count=9)
            ),
            progress=answering(ORDER.progress),
            page_of_lines=answering(([], None)),
        ),
        possession=SimpleNamespace(services=()),
        device_orders=SimpleNamespace(results=OrderResults(orders=nothing, blobs=nothing, settings=settings)),
    )
    monkeypatch.setattr(outcomes, "services", lambda: there)
    return there


@cache
def functions() -> Mapping[str, Any]:
    return {str(each.get_function_name()): each for each in app_of(Zone.ALL).get_functions()}


ROUTE = {
    "id": REJECTION.id,
    "registrationId": "press-1",
    "orderId": "order-1",
    "name": "line-1-ca1",
    "act": "cancel",
    "requestId": "r-1",
}
SAME = {"sec-fetch-site": "same-origin"}
SIGNED_IN = {"cookie": access.cookie(KEY, "/api/console", "https://host").partition(";")[0]}


async def ask(
    name: str,
    *,
    headers: Mapping[str, str] = SIGNED_IN,
    params: Mapping[str, str] | None = None,
    route: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> func.HttpResponse:
    request = func.HttpRequest(
        "GET" if form is None else "POST",
        "https://host/api/console/rejections/here?x=1",
        headers={"host": "host", **headers},
        params=params or {},
        route_params=route or {},
        body=urlencode(form or {}).encode(),
    )
    answer: func.HttpResponse = await functions()[name].get_user_function()(request)
    return answer


ABOUT_APPROVAL = {"id": APPROVAL.approval_id}
ABOUT_FINDING = {"id": FINDING.finding_id}
READ: dict[str, dict[str, str] | None] = {
    "console_today": None,
    "console_findings": None,
    "console_finding": ABOUT_FINDING,
    "console_mend": ABOUT_FINDING,
    "console_adopt": ABOUT_FINDING,
    "console_finding_close": ABOUT_FINDING,
    "console_reconciliations": None,
    "console_devices": None,
    "console_device": {"registrationId": "press-1"},
    "console_orders": None,
    "console_order": {"orderId": "order-1"},
    "console_authorities": None,
    "console_audit": None,
    "console_rejections": None,
    "console_approvals": None,
    "console_approval": ABOUT_APPROVAL,
    "console_rejection": {"id": REJECTION.id},
    "console_group": {"id": "line-1"},
    "console_group_act": {"id": "line-1", "act": "disable"},
    "console_group_renew": {"id": "line-1"},
    "console_order_act": {"orderId": "order-1", "act": "cancel"},
    "console_authority_act": {"name": "line-1-ca1", "act": "retire"},
    "console_request": {"requestId": "r-1"},
    "console_renew": {"registrationId": "press-1"},
    "console_revoke": {"registrationId": "press-1"},
    "console_reinstate": {"registrationId": "press-1"},
    "console_replay_many": None,
    "console_replay": {"id": REJECTION.id},
    "console_close": {"id": REJECTION.id},
}
NAMING_NOBODY: dict[str, dict[str, str] | None] = {"console_reconcile": None, "console_group_revoke": {"id": "line-1"}}
"""What is read, and shows nothing that others wrote unless it is asked for."""

DONE = (
    "console_approved",
    "console_refused",
    "console_group_acted",
    "console_group_renewed",
    "console_group_revoked",
    "console_mended",
    "console_adopted",
    "console_finding_closed",
    "console_reconciled",
    "console_replayed",
    "console_closed",
    "console_renewed",
    "console_revoked",
    "console_reinstated",
    "console_order_acted",
    "console_authority_acted",
    "console_replayed_many",
)
FILES = {"console_order_results"}
"""What a browser keeps as a file."""

OPEN = {"console_access", "console_sign_in", "console_signed_in", "console_sign_out", "console_style"}


def test_every_function_of_the_console_is_looked_at_here() -> None:
    """A new one is read only after a sign-in, or is named among those that are not."""
    assert {name for name in functions() if name.startswith("console_")} == {
        *(*READ, *NAMING_NOBODY, *DONE),
        *(*OPEN, *FILES),
    }


def test_no_path_of_the_console_could_be_that_of_two_pages() -> None:
    """The host takes the first route that fits: with `x/{id}/{act}` nobody gets to `x/{id}/renew`."""
    routes = {
        (str(each.get_trigger().route), method)
        for name, each in functions().items()
        if name.startswith("console_")
        for method in each.get_trigger().methods
    }
    for route, method in routes:
        pattern = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route)))
        fits = {other for other, of in routes if of == method and other != route and pattern.fullmatch(other)}
        assert fits == set(), route


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("name", READ)
async def test_what_others_wrote_is_shown_as_text(name: str) -> None:
    """Names, reasons and messages come from anywhere: none of it becomes an element or an expression."""
    answer = await ask(name, route=READ[name])
    text = answer.get_body().decode()
    assert answer.status_code == 200
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;{{ 7 * 7 }}" in text


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("name", [*READ, *NAMING_NOBODY, *DONE, *FILES])
async def test_nothing_is_shown_or_done_without_a_key(name: str) -> None:
    """It leads to the sign-in, and says nothing."""
    for headers in ({}, {"cookie": "console=bm90LWEta2V5"}, {"cookie": "console=%%%"}, {"cookie": "\x00;=;console"}):
        form: dict[str, str] | None = {} if name in DONE else None
        answer = await ask(name, headers={**SAME, **headers}, route={"id": REJECTION.id}, form=form)
        assert (answer.status_code, answer.get_body()) == (303, b"")
        assert answer.headers["location"].startswith("/api/console/sign-in?then=%2Fapi%2Fconsole")


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("name", [*READ, *NAMING_NOBODY, "console_sign_in", "console_style"])
async def test_no_page_can_run_a_script_or_be_framed(name: str) -> None:
    """The policy takes the console's own style sheet, its own forms, and nothing else; templates have nothing inline."""
    answer = await ask(name, route=READ.get(name))
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    assert {each for each in HEADERS if each not in answer.headers} == set()
    assert answer.headers["cache-control"] == ("public, max-age=300" if name == "console_style" else "no-store")
    assert not re.search(r"<style|<script|\son\w+=|\sstyle=|javascript:", answer.get_body().decode())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site", "origin": "https://host"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://elsewhere"},
        {"origin": "null"},
        {"origin": "https://host.elsewhere"},
    ],
)
@pytest.mark.parametrize("name", [*DONE, "console_signed_in", "console_sign_out"])
async def test_a_form_that_comes_from_elsewhere_does_nothing(
    services: SimpleNamespace, name: str, headers: dict[str, str]
) -> None:
    """A browser says where a form comes from, and whoever does not say is refused."""
    route = {"id": REJECTION.id, "registrationId": "press-1", "orderId": "order-1", "act": "cancel"}
    form = {"comment": "x", "key": KEY, "requestId": "r-1"}
    answer = await ask(name, headers={**SIGNED_IN, **headers}, route=route, form={**form, "reason": "superseded"})
    assert (answer.status_code, services.rejected_messages.done, services.outbox.queues.sent) == (403, [], [])
    assert "set-cookie" not in answer.headers
    assert b"this form was not sent by a page of the console, so nothing was done" in answer.get_body()


@pytest.mark.parametrize("headers", [SAME, {"origin": "https://host"}, {"origin": "https://HOST"}])
async def test_a_rejection_is_closed_or_replayed_by_its_form(
    services: SimpleNamespace, headers: dict[str, str]
) -> None:
    route, both = {"id": REJECTION.id}, {**SIGNED_IN, **headers}
    closed = await ask("console_closed", headers=both, route=route, form={"comment": " done by hand "})
    replayed = await ask("console_replayed", headers=both, route=route, form={})
    assert (closed.status_code, replayed.status_code) == (303, 303)
    assert closed.headers["location"] == f"/api/console/rejections/{REJECTION.id}"
    assert services.rejected_messages.done == [
        ("close", REJECTION.id, "done by hand"),
        ("replay", REJECTION.id),
    ]


@pytest.mark.parametrize(
    ("name", "form", "queue", "body"),
    [
        ("console_renewed", {}, "renewal-requests", {}),
        ("console_revoked", {"reason": "certificateHold"}, "revocation-requests", {"reason": "certificateHold"}),
        ("console_reinstated", {}, "revocation-requests", {"action": "reinstate"}),
    ],
)
async def test_an_act_on_a_device_is_queued_once_however_often_its_form_is_sent(
    services: SimpleNamespace, name: str, form: dict[str, str], queue: str, body: dict[str, str]
) -> None:
    """The form has the id of its request; afterwards the page of the request is shown."""
    for _ in range(2):
        answer = await ask(
            name,
            headers={**SIGNED_IN, **SAME},
            route={"registrationId": "Press-1"},
            form={"requestId": "console-1", "comment": "ticket 4711", **form},
        )
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"/api/console/requests/console-1?kind={queue}",
        )
    assert (await services.requests.find(queue, "console-1")).record.comment == "ticket 4711"
    (to, message, _), *again = services.outbox.queues.sent
    assert (to, [each for each in again if each != (to, message, None)]) == (queue, [])
    assert message["data"].items() >= {"requestId": "console-1", "registrationId": "press-1", **body}.items()


@pytest.mark.parametrize(
    ("act", "form", "said"),
    [
        ("cancel", {"issued": "keep"}, {"action": "cancel", "issued": "keep"}),
        ("cancel", {"issued": "revoke"}, {"action": "cancel", "issued": "revoke"}),
        ("close", {}, {"action": "close"}),
        ("retry", {}, {"action": "retry"}),
    ],
)
async def test_an_act_on_an_order_is_queued_as_a_request(
    services: SimpleNamespace, act: str, form: dict[str, str], said: dict[str, str]
) -> None:
    answer = await ask(
        "console_order_acted",
        headers={**SIGNED_IN, **SAME},
        route={"orderId": "order-1", "act": act},
        form={"requestId": "console-1", **form},
    )
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/api/console/requests/console-1?kind=device-orders",
    )
    ((queue, message, _),) = services.outbox.queues.sent
    assert queue == "device-orders"
    assert message["data"].items() >= {"requestId": "console-1", "orderId": "order-1", **said}.items()


@pytest.mark.parametrize(
    ("act", "form", "status"),
    [
        ("delete", {"requestId": "r-1"}, 404),
        ("close", {"requestId": "r-1", "issued": "keep"}, 400),
        ("cancel", {"requestId": "r-1", "issued": "x"}, 400),
        ("cancel", {}, 400),
    ],
)
async def test_what_is_not_an_act_on_an_order_is_refused(
    services: SimpleNamespace, act: str, form: dict[str, str], status: int
) -> None:
    route = {"orderId": "order-1", "act": act}
    answer = await ask("console_order_acted", headers={**SIGNED_IN, **SAME}, route=route, form=form)
    assert (answer.status_code, services.outbox.queues.sent) == (status, [])


async def test_an_act_on_a_ca_is_shown_with_what_it_does_and_is_queued_as_a_request(services: SimpleNamespace) -> None:
    """The page asks for the number of devices that it has named, and for a pace; the form becomes an act."""
    route = {"name": "line-1-ca1", "act": "revoke"}
    shown = (await ask("console_authority_act", route=route)).get_body().decode()
    assert "1200 devices have a certificate of it" in shown
    assert "after 0.24 minutes, and all doors are closed after 36.2 minutes" in shown
    assert "Repeat how many devices are revoked" in shown
    assert 'name="perMinute"' in shown
    form = {
        "requestId": "console-1",
        "reason": "keyCompromise",
        "comment": "ticket 4711",
        "devices": "1200",
        "perMinute": "60",
    }
    answer = await ask("console_authority_acted", headers={**SIGNED_IN, **SAME}, route=route, form=form)
    assert answer.headers["location"] == "/api/console/requests/console-1?kind=enrollment-group-requests"
    ((queue, message, _),) = services.outbox.queues.sent
    assert (queue, message["data"]) == (
        "enrollment-group-requests",
        {
            "requestId": "console-1",
            "name": "line-1-ca1",
            "action": "revoke",
            "reason": "keyCompromise",
            "comment": "ticket 4711",
            "devices": 1200,
            "perMinute": 60,
        },
    )


@pytest.mark.parametrize(
    ("act", "form", "status"),
    [
        ("renew", {"requestId": "r-1"}, 404),
        ("revoke", {"requestId": "r-1"}, 400),
        ("revoke", {"requestId": "r-1", "reason": "certificateHold"}, 400),
        ("revoke", {"requestId": "r-1", "reason": "superseded", "devices": "many"}, 400),
        ("revoke", {"requestId": "r-1", "reason": "superseded", "perMinute": "6001"}, 400),
        ("retire", {}, 400),
    ],
)
async def test_what_is_not_an_act_on_a_ca_is_refused(
    services: SimpleNamespace, act: str, form: dict[str, str], status: int
) -> None:
    route = {"name": "line-1-ca1", "act": act}
    answer = await ask("console_authority_acted", headers={**SIGNED_IN, **SAME}, route=route, form=form)
    assert (answer.status_code, services.outbox.queues.sent) == (status, [])


async def test_no_ca_is_revoked_where_what_revokes_is_signed(services: SimpleNamespace) -> None:
    """The page does not lead around the signature."""
    services.settings = replace(services.settings, webhook_secret_name="webhook-key")
    route = {"name": "line-1-ca1", "act": "revoke"}
    form = {"requestId": "r-1", "reason": "superseded"}
    answer = await ask("console_authority_acted", headers={**SIGNED_IN, **SAME}, route=route, form=form)
    assert (answer.status_code, services.outbox.queues.sent) == (401, [])


async def test_a_cancellation_revokes_nothing_where_what_revokes_is_signed(services: SimpleNamespace) -> None:
    services.settings = replace(services.settings, webhook_secret_name="webhook-key")
    route, statuses = {"orderId": "order-1", "act": "cancel"}, []
    for issued in ("revoke", "keep"):
        form = {"requestId": f"r-{issued}", "issued": issued}
        answer = await ask("console_order_acted", headers={**SIGNED_IN, **SAME}, route=route, form=form)
        statuses.append(answer.status_code)
    assert (statuses, len(services.outbox.queues.sent)) == ([401, 303], 1)


@pytest.mark.parametrize("form", [{"requestId": "r-1"}, {"requestId": "r-1", "reason": "x"}, {"reason": "superseded"}])
async def test_nothing_is_revoked_without_a_reason_or_the_id_of_the_form(
    services: SimpleNamespace, form: dict[str, str]
) -> None:
    answer = await ask("console_revoked", headers={**SIGNED_IN, **SAME}, route={"registrationId": "press-1"}, form=form)
    assert (answer.status_code, services.outbox.queues.sent) == (400, [])


@pytest.mark.parametrize("name", ["console_revoke", "console_revoked", "console_reinstate", "console_reinstated"])
async def test_the_console_is_no_way_around_the_signature_of_what_revokes(services: SimpleNamespace, name: str) -> None:
    """Where webhooks are signed, a function key alone revokes nothing."""
    services.settings = replace(services.settings, webhook_secret_name="webhook-key")
    form = {"requestId": "r-1", "reason": "superseded"} if name in DONE else None
    answer = await ask(name, headers={**SIGNED_IN, **SAME}, route={"registrationId": "press-1"}, form=form)
    assert (answer.status_code, services.outbox.queues.sent) == (401, [])
    assert "send a signed call to POST /api/revocations" in answer.get_body().decode()


async def test_many_are_replayed_that_were_shown_and_no_later_ones(services: SimpleNamespace) -> None:
    """The page counts them, and its form means those that were there by then; what was not replayed is said."""
    filters = {"queue": "device-orders", "cause": "vault"}
    asked = (await ask("console_replay_many", params=filters)).get_body().decode()
    assert "more than 1 message" in asked
    until = re.search(r'name="until" value="([^"]+)"', asked)
    assert until is not None
    form = {**filters, "until": until[1], "perMinute": "100"}
    answer = await ask("console_replayed_many", headers={**SIGNED_IN, **SAME}, form=form)
    assert services.rejected_messages.done == [("many", "device-orders", "vault", str(NOW), "100")]
    text = answer.get_body().decode()
    assert (answer.status_code, "1 message was put back" in text, "&lt;script&gt;" in text) == (200, True, True)


@pytest.mark.parametrize(
    "form",
    [
        {"perMinute": "100"},
        {"until": "2026-05-01T12:00:00Z", "perMinute": "0"},
        {"until": "2026-05-01T12:00:00Z", "perMinute": "many"},
        {"until": "2026-05-01T12:00:00Z", "perMinute": "60", "queue": "elsewhere"},
    ],
)
async def test_many_are_not_replayed_without_saying_which_and_how_fast(
    services: SimpleNamespace, form: dict[str, str]
) -> None:
    answer = await ask("console_replayed_many", headers={**SIGNED_IN, **SAME}, form=form)
    assert (answer.status_code, services.rejected_messages.done) == (400, [])


@pytest.mark.parametrize("comment", ["", "  ", "x" * 501])
async def test_a_rejection_is_not_closed_without_a_reason(services: SimpleNamespace, comment: str) -> None:
    answer = await ask(
        "console_closed", headers={**SIGNED_IN, **SAME}, route={"id": REJECTION.id}, form={"comment": comment}
    )
    assert (answer.status_code, services.rejected_messages.done) == (400, [])
    assert b"comment" in answer.get_body()


@pytest.mark.parametrize(
    ("state", "offered"), [("open", {"replay", "close"}), ("replaying", {"replay"}), ("closed", set())]
)
async def test_a_rejection_offers_what_can_be_done_with_it(
    services: SimpleNamespace, state: str, offered: set[str]
) -> None:
    """Nobody knows of one that stays `replaying` whether its message is in the queue again: it can be replayed alone."""
    services.rejected_messages.state = RejectionState(state)
    page = (await ask("console_rejection", route={"id": REJECTION.id})).get_body().decode()
    assert {act for act in ("replay", "close") if f'/rejections/{REJECTION.id}/{act}"' in page} == offered
    for act in ("replay", "close"):
        asked = (await ask(f"console_{act}", route={"id": REJECTION.id})).get_body().decode()
        form = f'action="/api/console/rejections/{REJECTION.id}/{act}"'
        assert (f"can't be {act}" in asked, form in asked) == (act not in offered, act in offered)


@pytest.mark.usefixtures("services")
async def test_a_refusal_is_a_page() -> None:
    answer = await ask("console_rejection", route={"id": "2026-05-01-0"})
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "the rejection &#39;2026-05-01-0&#39; does not exist" in answer.get_body().decode()
    unknown = await ask("console_today", params={"pageSize": "1"})
    assert (unknown.status_code, "pageSize: is not a parameter" in unknown.get_body().decode()) == (400, True)


async def no_order(order_id: str) -> Any:
    raise NotFound.because(f"the order {order_id!r} does not exist")


class Known:
    """Devices, of which one is known, by its id and by its certificate."""

    async def describe(self, registration_id: str) -> Device:
        if registration_id != "press-1":
            raise NotFound.because(f"{registration_id!r} does not exist")
        return Device.model_validate({**DEVICE, "registrationId": "press-1"})

    async def with_serial_number(self, serial_number: str) -> list[dict[str, Any]]:
        return [{"registrationId": "press-1"}] if serial_number == "0" * 38 + "a1" else []

    async def with_thumbprint(self, thumbprint: str) -> list[dict[str, Any]]:
        return [{"registrationId": "press-1"}] if thumbprint in {"AB" * 20, "CD" * 32} else []

    async def page(self, *_: Any, **__: Any) -> Any:
        return [], None


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        (" PRESS-1 ", 303),
        ("00:a1", 303),
        ("0xA1", 303),
        ("AB" * 20, 303),
        (":".join(["ab"] * 20), 303),
        ("cd" * 32, 303),
        ("CD" * 20, 200),
        ("0", 200),
        ("00" * 20, 200),
        ("ab" * 40, 200),
        (HOSTILE, 200),
        ("press-2", 200),
    ],
)
async def test_a_device_is_found_by_its_id_or_by_what_is_known_of_its_certificate(
    services: SimpleNamespace, wanted: str, status: int
) -> None:
    """However openssl, a hub or DPS write it; what is not found is said."""
    services.devices = Known()
    services.order_answers.order = no_order
    answer = await ask("console_devices", params={"find": wanted})
    assert (answer.status_code, answer.headers.get("location")) == (
        status,
        "/api/console/devices/press-1" if status == 303 else None,
    )
    assert (b"is known by" in answer.get_body()) is (status == 200)


async def test_an_order_is_found_where_devices_are_looked_for(services: SimpleNamespace) -> None:
    services.devices = Known()
    answer = await ask("console_devices", params={"find": "order-1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/console/orders/order-1")


async def test_a_device_shows_what_differs_and_since_when_its_doors_are_closed(services: SimpleNamespace) -> None:
    """Closed as it was read back at the service; of findings those that are open."""
    closed = [
        {"door": "dps", "where": "DPS", "since": NOW, "checkedAt": NOW},
        {"door": "ocsp", "where": "line-1-ca1", "since": NOW, "checkedAt": NOW},
    ]
    services.devices.describe = answering(Device.model_validate({**DEVICE, "closedDoors": closed}))
    text = (await ask("console_device", route=READ["console_device"])).get_body().decode()
    assert "Closed since" in text
    assert '<th scope="row">OCSP</th><td>line-1-ca1</td>' in text
    assert f'<a href="/api/console/findings/{FINDING.finding_id}">identity disabled</a>' in text
    assert services.reconciler.asked == [("open", None)]


@pytest.mark.usefixtures("services")
async def test_a_day_that_does_not_exist_is_refused() -> None:
    answer = await ask("console_devices", params={"expiresBefore": "2026-02-30"})
    assert (answer.status_code, b"is not a time" in answer.get_body()) == (400, True)


@pytest.mark.usefixtures("services")
async def test_a_device_says_why_it_is_so_and_what_to_do() -> None:
    """The cause, its remedy with the call for it, each door, and what happened."""
    text = (await ask("console_device", route={"registrationId": "press-1"})).get_body().decode()
    assert '<div class="note bad">' in text
    assert "<strong>identity disabled</strong>: &lt;script&gt;" in text
    assert "The call for it: <code>POST &lt;script&gt;" in text
    assert "<td>shut</td><td>&lt;script&gt;" in text


# --- today ---


class Place:
    """A service that holds CA certificates, or does not answer."""

    def __init__(self, holder: str, held: int | None) -> None:
        self.holder = holder
        self._held = held

    async def held(self) -> dict[str, None]:
        if self._held is None:
            raise ConnectionError("refused")
        return {str(number): None for number in range(self._held)}


async def test_today_says_which_places_are_used_as_the_services_say(services: SimpleNamespace) -> None:
    """Twenty of 25 places are 80 %, and a service that does not answer hides nothing else."""
    services.possession.services = [Place("dps-1", 20), Place("hub-1", 19), Place("hub-2", None)]
    text = (await ask("console_today")).get_body().decode()
    assert '80 %</progress> 20 of 25 <span class="state warn">nearly full</span>' in text
    assert "76 %</progress> 19 of 25</td>" in text
    assert '<span class="state warn">not known</span> of 25</td><td>ConnectionError: refused' in text
    assert "1 %</progress> 1 of 100</td>" in text
    assert "0 %</progress> 2 of 1,000,000</td>" in text


async def test_an_app_that_does_not_reach_dps_counts_the_places_by_the_ledger(services: SimpleNamespace) -> None:
    records = [
        SimpleNamespace(proof_of_possession=proof)
        for proof in (ProofOfPossession.VERIFIED, ProofOfPossession.BY_HAND, ProofOfPossession.PENDING, None)
    ]
    (used,) = await places_used(services, records)  # type: ignore[arg-type]
    assert (used.count, used.limit, used.source) == (2, 25, "those of this app, by the ledger")


async def test_today_says_how_fast_orders_go_and_when_they_end(services: SimpleNamespace) -> None:
    """Two of four lines in ten minutes are 0.2 a minute, and the rest takes ten more; of one that waits nobody knows."""
    began = NOW - timedelta(minutes=10)
    pages = {
        "processing": ([LISTED.model_copy(update={"state": OrderState.PROCESSING, "accepted_at": began})], None),
        "waiting": ([LISTED.model_copy(update={"order_id": "order-2"})], None),
    }

    async def page(*, state: str, **_: Any) -> Any:
        return pages.get(state, ([], None))

    services.order_answers.page = page
    text = (await ask("console_today")).get_body().decode()
    ends = at(NOW + timedelta(minutes=10))
    row = re.search(r"<tr>.*?processing.*?</tr>", text, re.DOTALL)
    assert row is not None
    assert "2 of 4</td><td>0.2</td>" in row[0]
    assert ends in row[0]
    assert re.search(r'order-2.*?2 of 4</td><td>-</td><td><span class="faint">-</span>', text, re.DOTALL)


async def test_an_order_that_is_not_kept_any_more_does_not_hide_today(services: SimpleNamespace) -> None:
    services.order_answers.progress = no_order
    answer = await ask("console_today")
    assert (answer.status_code, "No order is under way." in answer.get_body().decode()) == (200, True)


@pytest.mark.parametrize(
    ("following", "shown"), [(None, ["1", "2", "3"]), ("x", ["1", "2", "3+"])], ids=["all", "more than are read"]
)
async def test_today_counts_what_ends_within_7_30_and_90_days(
    services: SimpleNamespace, following: str | None, shown: list[str]
) -> None:
    ends = [NOW + timedelta(days=days) for days in (6, 29, 89)]
    asked = []

    async def page(filters: Any, *, size: int, **_: Any) -> Any:
        asked.append((filters.expires_before, size))
        return [{**DEVICE, "certificate": {"notAfter": each.isoformat()}} for each in ends], following

    services.devices.page = page
    text = (await ask("console_today")).get_body().decode()
    assert asked == [(NOW + timedelta(days=90), 1000)]
    assert re.findall(r"whose certificates end within [0-9]+ days\">([0-9+]+)</a>", text) == shown


@pytest.mark.usefixtures("services")
async def test_today_names_what_waits_for_a_second_person() -> None:
    text = (await ask("console_today")).get_body().decode()
    assert f'"/api/console/approvals/{APPROVAL.approval_id}"' in text


async def test_today_counts_open_findings_by_severity(services: SimpleNamespace) -> None:
    text = (await ask("console_today")).get_body().decode()
    assert services.reconciler.asked == [("open", each) for each in ("critical", "high", "medium", "low")]
    assert '<a href="/api/console/findings?severity=medium">1+ findings' in text
    assert '<li class="warn"><a href="#findings"><strong>1+</strong> open findings' in text


# --- groups ---


async def test_a_group_shows_how_far_its_rollover_and_its_requests_are_and_who_has_to_act(
    services: SimpleNamespace,
) -> None:
    """Of three devices one is left on the old CA; a request of nine parts has seven done."""
    asked = []

    async def page(**given: Any) -> Any:
        asked.append(given["about"])
        return [REQUEST], None

    services.following.page = page
    text = (await ask("console_group", route=READ["console_group"])).get_body().decode()
    assert asked == ["/api/enrollment-groups/line-1"]
    assert '<progress max="3" value="2" aria-label="Devices that have left' in text
    assert "1 certificate of" in text
    assert "7 of 9 done, 1 failed, 1 wait, 1 need a CSR" in text
    assert "its owner: it has to send a CSR" in text
    assert "/roll" not in text, "one is under way"
    shown = await services.groups.directory.summary("line-1")
    services.groups.directory.summary = answering(shown.model_copy(update={"state": GroupState.DISABLED}))
    text = (await ask("console_group", route=READ["console_group"])).get_body().decode()
    assert "/roll" in text, "the CA that has taken over may have been revoked"


async def test_a_request_that_was_forgotten_does_not_hide_its_group(services: SimpleNamespace) -> None:
    async def describe(request_id: str, _: Any) -> Any:
        raise NotFound.because(f"the request {request_id!r} does not exist")

    services.following.describe = describe
    answer = await ask("console_group", route=READ["console_group"])
    assert (answer.status_code, "Nothing was asked for." in answer.get_body().decode()) == (200, True)


@pytest.mark.parametrize(
    ("act", "effect"),
    [
        ("disable", "2 devices that are registered: they stay in the hub and go on working there"),
        ("enable", "DPS lets devices in by this group again"),
        ("roll", "New certificates come from it from then on"),
        ("delete", "Who is to be shut out has to be revoked"),
    ],
)
async def test_an_act_on_a_group_says_what_it_does_and_to_how_many_and_is_a_request(
    services: SimpleNamespace, act: str, effect: str
) -> None:
    route = {"id": "line-1", "act": act}
    shown = (await ask("console_group_act", route=route)).get_body().decode()
    assert "This will do the following, for one group and 3 devices" in shown
    assert "More than 3 of its orders are under way" in shown
    assert effect in shown
    assert services.outbox.queues.sent == []
    form = {"requestId": "console-1", "comment": "ticket 4711", "issuer": "", "custody": ""}
    answer = await ask("console_group_acted", headers={**SIGNED_IN, **SAME}, route=route, form=form)
    assert answer.headers["location"] == "/api/console/requests/console-1?kind=enrollment-group-requests"
    ((queue, message, _),) = services.outbox.queues.sent
    assert (queue, message["data"]) == (
        "enrollment-group-requests",
        {"requestId": "console-1", "enrollmentGroup": "line-1", "action": act},
    )
    known = await services.requests.find("enrollment-group-requests", "console-1")
    assert (known.record.comment, known.record.actor.id) == ("ticket 4711", "everything")


async def test_a_roll_takes_the_name_of_the_next_ca_and_asks_for_one_where_none_can_be_made(
    services: SimpleNamespace,
) -> None:
    route = {"id": "line-1", "act": "roll"}
    asked = []

    async def foresee(request: Any) -> None:
        asked.append(request.issuer)
        if request.issuer is None:
            raise Refused.because("none can be made beside it; name the next issuing CA", field="issuer")

    services.groups.checks.foresee = foresee
    shown = (await ask("console_group_act", route=route)).get_body().decode()
    assert "none can be made beside it; name the next issuing CA" in shown
    both = {**SIGNED_IN, **SAME}
    form = {"requestId": "r-1"}
    assert (await ask("console_group_acted", headers=both, route=route, form=form)).status_code == 400
    form |= {"issuer": "factory-2", "custody": "wrapped"}
    assert (await ask("console_group_acted", headers=both, route=route, form=form)).status_code == 303
    ((_, message, _),) = services.outbox.queues.sent
    assert message["data"].items() >= {"action": "roll", "issuer": "factory-2", "custody": "wrapped"}.items()


async def test_what_can_not_be_done_to_a_group_is_refused_before_it_is_asked_for(services: SimpleNamespace) -> None:
    async def foresee(_: Any) -> None:
        raise Conflict.because("a rollover is under way", field="action")

    services.groups.checks.foresee = foresee
    for act in ("roll", "enable"):
        assert (await ask("console_group_act", route={"id": "line-1", "act": act})).status_code == 409
    assert (await ask("console_group_act", route={"id": "line-1", "act": "create"})).status_code == 404


async def test_the_devices_of_a_group_are_renewed_at_a_pace(services: SimpleNamespace) -> None:
    """The page says how long it takes: 150 devices at sixty a minute take three minutes."""
    services.devices.counts = answering(DeviceCounts(total=150, states={}, expiries=[]))
    route = {"id": "line-1"}
    shown = (await ask("console_group_renew", route=route, params={"onlyIssuer": "line-1-ca1"})).get_body().decode()
    assert "for at most 150 devices, those that have a certificate of line-1-ca1" in shown
    assert "this takes about 3 minutes" in shown
    form = {"requestId": "console-1", "perMinute": "300", "onlyIssuer": "line-1-ca1"}
    answer = await ask("console_group_renewed", headers={**SIGNED_IN, **SAME}, route=route, form=form)
    assert answer.headers["location"] == "/api/console/requests/console-1?kind=renewal-requests"
    ((queue, message, _),) = services.outbox.queues.sent
    assert (queue, message["data"]) == (
        "renewal-requests",
        {"requestId": "console-1", "enrollmentGroup": "line-1", "perMinute": 300, "onlyIssuer": "line-1-ca1"},
    )
    wrong = await ask(
        "console_group_renewed",
        headers={**SIGNED_IN, **SAME},
        route=route,
        form={"requestId": "r-2", "perMinute": "6001"},
    )
    assert wrong.status_code == 400


async def test_the_devices_of_a_group_are_revoked_after_it_was_said_how_many_and_how_long_it_takes(
    services: SimpleNamespace,
) -> None:
    route = {"id": "line-1"}
    shown = (await ask("console_group_revoke", route=route)).get_body().decode()
    assert "This will do the following, for 1200 devices" in shown
    assert "after 0.24 minutes, and all doors are closed after 36.2 minutes" in shown
    assert "Repeat how many devices are revoked" in shown
    form = {"requestId": "console-1", "reason": "keyCompromise", "devices": "1200", "perMinute": "60"}
    answer = await ask("console_group_revoked", headers={**SIGNED_IN, **SAME}, route=route, form=form)
    assert answer.headers["location"] == "/api/console/requests/console-1?kind=revocation-requests"
    ((queue, message, _),) = services.outbox.queues.sent
    assert queue == "revocation-requests"
    wanted = {"enrollmentGroup": "line-1", "reason": "keyCompromise", "devices": 1200, "perMinute": 60}
    assert message["data"].items() >= wanted.items()
    services.settings = replace(services.settings, webhook_secret_name="webhook-key")
    for name, given in (("console_group_revoke", None), ("console_group_revoked", {**form, "requestId": "console-2"})):
        assert (await ask(name, headers={**SIGNED_IN, **SAME}, route=route, form=given)).status_code == 401
    assert len(services.outbox.queues.sent) == 1


async def test_with_four_zones_a_group_is_renewed_here_and_the_rest_is_done_elsewhere(
    services: SimpleNamespace,
) -> None:
    services.settings = replace(services.settings, zone=Zone.INTAKE)
    text = (await ask("console_group", route=READ["console_group"])).get_body().decode()
    assert ("/group-renewals/line-1" in text, "/groups/line-1/disable" in text) == (True, False)
    assert "ask the app of issuing: the trust zones are apart" in text


# --- findings ---


async def test_findings_are_listed_by_severity_with_what_either_side_says(services: SimpleNamespace) -> None:
    """Those that are open, the worst first; of one severity in pages."""
    text = (await ask("console_findings")).get_body().decode()
    assert services.reconciler.asked == [("open", each) for each in ("critical", "high", "medium", "low")]
    assert '<h2 id="medium">Medium</h2>' in text
    assert "The ledger says" in text
    assert "The service says" in text
    assert "severity=medium&amp;enrollmentGroup=" in text, "the rest of them"
    services.reconciler.asked.clear()
    await ask("console_findings", params={"severity": "high", "state": "closed"})
    assert services.reconciler.asked == [("closed", "high")]


@pytest.mark.parametrize(
    ("act", "effect", "done"),
    [
        ("mend", "the identity is enabled", ("mend",)),
        ("adopt", "the ledger says that the device is disabled", ("adopt",)),
        ("close", "It is not told again while the difference lasts", ("under repair",)),
    ],
)
async def test_an_act_on_a_finding_is_shown_before_it_is_done(
    services: SimpleNamespace, act: str, effect: str, done: tuple[str, ...]
) -> None:
    names = {"mend": ("console_mend", "console_mended"), "adopt": ("console_adopt", "console_adopted")}
    asks, does = names.get(act, ("console_finding_close", "console_finding_closed"))
    shown = (await ask(asks, route=ABOUT_FINDING)).get_body().decode()
    assert "This will do the following, for one device" in shown
    assert effect in shown
    assert services.reconciler.done == []
    form = {"comment": "under repair"}
    answer = await ask(does, headers={**SIGNED_IN, **SAME}, route=ABOUT_FINDING, form=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/api/console/findings/{FINDING.finding_id}")
    assert services.reconciler.done == [(FINDING.finding_id, *done)]
    assert services.audit.noted == [(act, FINDING.finding_id, "under repair")]


async def test_what_the_app_can_not_do_about_a_finding_is_refused_and_not_offered(services: SimpleNamespace) -> None:
    """Nobody can adopt a CA key that can't be used; and what has ended is over."""
    services.reconciler.finding = FINDING.changed(kind=FindingKind.KEY_UNUSABLE)
    refused = await ask("console_adopt", route=ABOUT_FINDING)
    assert refused.status_code == 409
    assert "a finding of kind &#39;keyUnusable&#39; can&#39;t be adopted" in refused.get_body().decode()
    text = (await ask("console_finding", route=ABOUT_FINDING)).get_body().decode()
    assert ("/adopt" in text, "/mend" in text, "/close" in text) == (False, False, True)
    services.reconciler.finding = FINDING.changed(state=FindingState.GONE)
    assert (
        "It is gone, so there is nothing to mend"
        in (await ask("console_mend", route=ABOUT_FINDING)).get_body().decode()
    )
    blank = await ask(
        "console_finding_closed", headers={**SIGNED_IN, **SAME}, route=ABOUT_FINDING, form={"comment": " "}
    )
    assert (blank.status_code, services.reconciler.done) == (400, [])


async def test_a_rogue_certificate_leads_to_its_group_and_its_ca(services: SimpleNamespace) -> None:
    services.reconciler.finding = FINDING.changed(kind=FindingKind.ROGUE_CERTIFICATE)
    text = (await ask("console_finding", route=ABOUT_FINDING)).get_body().decode()
    assert '"/api/console/groups/line-1/disable"' in text
    assert '"/api/console/authorities/line-1-ca1/revoke"' in text


async def test_a_pass_says_what_it_will_look_at_and_then_begins(services: SimpleNamespace) -> None:
    """The browser waits five seconds at most; a timer carries on what is not done by then."""
    shown = (await ask("console_reconcile")).get_body().decode()
    assert "for everything: all CAs, all groups and 3 devices" in shown
    assert "A finding of the kind door open is mended by itself" in shown
    of_group = (await ask("console_reconcile", params={"enrollmentGroup": "line-1"})).get_body().decode()
    assert "for the group line-1 with its 3 devices" in of_group
    places = []
    for form in ({}, {"enrollmentGroup": "line-1"}, {"registrationId": "press-1"}):
        answer = await ask("console_reconciled", headers={**SIGNED_IN, **SAME}, form=form)
        places.append(answer.headers["location"])
    assert places == [
        "/api/console/reconciliations",
        "/api/console/reconciliations",
        "/api/console/devices/press-1",
    ]
    begun = [(None, None), ("line-1", None), (None, "press-1")]
    assert services.reconciler.done == [("begin", *each, "0:00:05") for each in begun]


async def test_a_pass_over_a_group_or_one_of_its_devices_is_for_who_manages_it(services: SimpleNamespace) -> None:
    """It leads to what they may see: the page of all passes is not for them."""
    services.settings = replace(services.settings, entra_authentication=True)

    async def group_of(registration_id: str) -> str:
        return {"press-1": "line-1"}.get(registration_id, "line-2")

    services.devices.group_of = group_of
    may = {**SAME, **principal("Fleet.Read:line-1", "Groups.Manage:line-1")}
    allowed = ({"enrollmentGroup": "line-1"}, {"registrationId": "press-1"})
    answers = [await ask("console_reconciled", headers=may, form=form) for form in allowed]
    assert [each.headers["location"] for each in answers] == [
        "/api/console/findings?enrollmentGroup=line-1",
        "/api/console/devices/press-1",
    ]
    for form in ({"enrollmentGroup": "line-2"}, {"registrationId": "oven-1"}, {}):
        assert (await ask("console_reconciled", headers=may, form=form)).status_code == 403
        assert (await ask("console_reconcile", headers=may, params=form)).status_code == 403
    for params in allowed:
        assert (await ask("console_reconcile", headers=may, params=params)).status_code == 200


@pytest.mark.parametrize("name", ["console_finding", "console_reconciliations"])
async def test_the_zone_of_intake_names_the_app_that_acts_on_findings(services: SimpleNamespace, name: str) -> None:
    services.settings = replace(services.settings, zone=Zone.INTAKE)
    text = (await ask(name, route=READ[name])).get_body().decode()
    assert "Ask the app of issuing" in text
    assert 'class="button"' not in text


# --- signing in ---


@pytest.mark.usefixtures("services")
async def test_a_key_that_the_host_takes_is_kept_where_no_script_and_no_other_site_gets_it() -> None:
    answer = await ask("console_signed_in", headers=SAME, form={"key": f" {KEY} ", "then": "/api/console/orders"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/console/orders")
    cookie = answer.headers["set-cookie"]
    assert cookie == ("console=bGV0LW1lLWluPT0; Path=/api/console; Max-Age=28800; HttpOnly; SameSite=Strict; Secure")
    for others in ("other=1; ", 'other={"a": 1}, @; ', ";;=; "):
        inside = await ask("console_orders", headers={"cookie": f"{others}{cookie.partition(';')[0]}"})
        assert inside.status_code == 200


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("key", ["", "wrong", KEY * 60, "schlüssel", "a\r\nb"])
async def test_another_key_is_refused_and_not_repeated(key: str) -> None:
    answer = await ask("console_signed_in", headers=SAME, form={"key": key})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    text = answer.get_body().decode()
    assert "The host does not take this key" in text
    assert not key.strip() or f'value="{key}' not in text


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize(
    "then",
    [
        "//elsewhere",
        "https://elsewhere",
        "/api/console/../devices",
        "/api/console/%2E%2e/x",
        "/api/console//x",
        "/api/consoleX",
        "/x\r\ny",
        "",
    ],
)
async def test_a_link_to_the_sign_in_leads_nowhere_but_into_the_console(then: str) -> None:
    answer = await ask("console_signed_in", headers=SAME, form={"key": KEY, "then": then})
    assert answer.headers["location"] == "/api/console"


@pytest.mark.usefixtures("services")
async def test_signing_out_takes_the_key_away() -> None:
    answer = await ask("console_sign_out", headers={**SIGNED_IN, **SAME}, form={})
    assert answer.headers["set-cookie"].startswith("console=; Path=/api/console; Max-Age=0;")


def test_the_cookie_comes_over_plain_http_from_this_machine_alone() -> None:
    """A browser would not keep it otherwise, and over a network nobody else is to read it."""
    local = access.cookie(KEY, "/api/console", "http://127.0.0.1:7071/api/console")
    assert not local.endswith("; Secure")
    for url in ("http://factory.example.com", "https://127.0.0.1", "http://127.evil.example"):
        assert access.cookie(KEY, "/api/console", url).endswith("; Secure")


async def test_a_host_that_does_not_answer_lets_nobody_in(services: SimpleNamespace) -> None:
    """It is not a wrong key, so the page says to come again."""

    async def takes(_key: str) -> bool:
        raise aiohttp.ClientConnectionError

    services.own_host = SimpleNamespace(takes=takes)
    answer = await ask("console_today")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "the function key can&#39;t be checked now" in answer.get_body().decode()


# --- App Service authentication ---


def principal(*roles: str) -> dict[str, str]:
    claims = [("oid", "5b54"), ("preferred_username", HOSTILE), *(("roles", role) for role in roles)]
    said = {"auth_typ": "aad", "claims": [{"typ": typ, "val": val} for typ, val in claims]}
    return {"x-ms-client-principal": b64encode(json.dumps(said).encode()).decode()}


async def test_somebody_with_the_role_needs_no_key(services: SimpleNamespace) -> None:
    services.settings = replace(services.settings, entra_authentication=True)
    answer = await ask("console_orders", headers=principal("Fleet.Read"))
    assert answer.status_code == 200
    assert '<span class="faint">&lt;script&gt;alert(1)' in answer.get_body().decode()


async def test_a_user_that_can_t_be_read_is_nobody(services: SimpleNamespace) -> None:
    services.settings = replace(services.settings, entra_authentication=True)
    for text in ("%%%", b64encode(b'{"claims": "roles"}').decode(), b64encode(b'{"claims": [1, null]}').decode()):
        assert (await ask("console_orders", headers={"x-ms-client-principal": text})).status_code == 401


@pytest.mark.usefixtures("services")
async def test_without_app_service_authentication_nobody_can_say_who_they_are() -> None:
    """The header comes from outside then, from anybody."""
    answer = await ask("console_orders", headers={**SIGNED_IN, **principal("Fleet.Read")})
    assert answer.status_code == 400


# --- roles ---

ACTS = {
    **dict.fromkeys(("console_renew", "console_renewed", "console_order_act", "console_order_acted"), "Orders.Write"),
    **dict.fromkeys(("console_revoke", "console_revoked", "console_reinstate", "console_reinstated"), "Devices.Revoke"),
    "console_audit": "Audit.Read",
    **dict.fromkeys(("console_approved", "console_refused"), "Approvals.Give"),
    **dict.fromkeys(("console_authority_act", "console_authority_acted"), "CertificateAuthorities.Manage"),
    **dict.fromkeys(("console_mend", "console_mended", "console_adopt", "console_adopted"), "Groups.Manage"),
    **dict.fromkeys(("console_finding_close", "console_finding_closed"), "Groups.Manage"),
    **dict.fromkeys(("console_reconcile", "console_reconciled"), "Groups.Manage"),
    **dict.fromkeys(("console_group_act", "console_group_acted"), "Groups.Manage"),
    **dict.fromkeys(("console_group_renew", "console_group_renewed"), "Groups.Manage"),
    **dict.fromkeys(("console_group_revoke", "console_group_revoked"), "Devices.Revoke"),
}
"""What needs more than to read, with its role."""

OF_REJECTIONS = {"console_replayed", "console_closed", "console_replayed_many"}
"""What needs a further role, which depends on the message."""

OTHER_ROUTES = {
    **dict.fromkeys(("console_approved", "console_refused"), ABOUT_APPROVAL),
    "console_group_acted": {"id": "line-1", "act": "disable"},
    **dict.fromkeys(("console_group_renewed", "console_group_revoke", "console_group_revoked"), READ["console_group"]),
    "console_authority_acted": {"act": "retire"},
    **dict.fromkeys(("console_mended", "console_adopted", "console_finding_closed"), ABOUT_FINDING),
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", [*READ, *NAMING_NOBODY, *DONE])
async def test_a_page_is_for_whoever_has_its_role(services: SimpleNamespace, name: str, role: Role) -> None:
    """All others get a page with its name; nothing is read or done for them."""
    services.settings = replace(services.settings, entra_authentication=True)
    needed = "Fleet.Read" if name in OF_REJECTIONS else ACTS.get(name, "Fleet.Read")
    route = {**ROUTE, **(READ.get(name) or {}), **(OTHER_ROUTES.get(name) or {})}
    form = {"requestId": "r-1", "reason": "superseded", "comment": "x"} if name in DONE else None
    answer = await ask(name, headers={**SAME, **principal(role)}, route=route, form=form)
    if role == needed:
        further = name in OF_REJECTIONS
        assert (answer.status_code in {400, 403}) if further else (answer.status_code in {200, 303})
    else:
        assert answer.status_code == 403
        assert f"this needs the role {needed}<" in answer.get_body().decode()
        assert (services.rejected_messages.done, services.reconciler.done, services.outbox.queues.sent) == ([], [], [])
        assert services.approvals.done == []


async def test_what_is_done_and_what_is_denied_is_written_down(services: SimpleNamespace) -> None:
    """Before the deed, with what was said to it; what becomes a request is written down when it is carried out."""
    services.settings = replace(services.settings, entra_authentication=True)
    form = {"comment": "done by hand"}
    may = {**SAME, **principal("Fleet.Read", "Orders.Write")}
    await ask("console_closed", headers=may, route={"id": REJECTION.id}, form=form)
    await ask("console_revoke", headers=may, route=READ["console_revoke"])
    await ask("console_renewed", headers=may, route=READ["console_renew"], form={"requestId": "r-1"})
    assert services.audit.noted == [
        ("close", REJECTION.id, "done by hand"),
        ("denied", "console_revoke", "press-1", "5b54", "this needs the role Devices.Revoke"),
    ]


async def test_a_message_is_put_back_by_whoever_may_do_what_it_asks_for(services: SimpleNamespace) -> None:
    services.settings = replace(services.settings, entra_authentication=True)
    route = {"id": REJECTION.id}
    for name, form in (("console_replayed", {}), ("console_closed", {"comment": "x"})):
        refused = await ask(name, headers={**SAME, **principal("Fleet.Read")}, route=route, form=form)
        assert (refused.status_code, services.rejected_messages.done) == (403, [])
        assert "this needs the role Orders.Write<" in refused.get_body().decode()
    done = await ask(
        "console_replayed", headers={**SAME, **principal("Fleet.Read", "Orders.Write")}, route=route, form={}
    )
    assert (done.status_code, services.rejected_messages.done) == (303, [("replay", REJECTION.id)])


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("console_device", {"/renew": "Orders.Write", "/revoke": "Devices.Revoke", "/reinstate": "Devices.Revoke"}),
        (
            "console_device",
            {
                "/reconcile?registrationId=%3Cscript%3Ealert%281%29%3C/script%3E%22%27%26%7B%7B%207%20%2A%207%20%7D%7D": "Groups.Manage"
            },
        ),
        ("console_order", {"/cancel": "Orders.Write"}),
        ("console_rejection", {"/replay": "Orders.Write", "/close": "Orders.Write"}),
        (
            "console_group",
            {"/group-renewals/line-1": "Groups.Manage", "/disable": "Groups.Manage", "/delete": "Groups.Manage"},
        ),
        ("console_approval", {"/approve": "Approvals.Give", "/refuse": "Approvals.Give"}),
        ("console_finding", {"/mend": "Groups.Manage", "/adopt": "Groups.Manage", "/close": "Groups.Manage"}),
        ("console_reconciliations", {"/reconcile": "Groups.Manage"}),
    ],
)
async def test_an_act_is_offered_to_whoever_may_do_it(
    services: SimpleNamespace, name: str, offered: Mapping[str, str]
) -> None:
    """Somebody who only reads sees no button that would refuse them."""
    services.settings = replace(services.settings, entra_authentication=True)
    for role in ("Fleet.Read", "Orders.Write", "Devices.Revoke", "Groups.Manage", "Approvals.Give"):
        answer = await ask(name, headers=principal("Fleet.Read", role), route=READ[name])
        text = answer.get_body().decode()
        assert {path for path in offered if f'{path}"' in text} == {path for path in offered if offered[path] == role}


async def test_a_second_person_decides_by_a_form_and_says_why_if_it_is_no(services: SimpleNamespace) -> None:
    """What they say is in the audit log, with the act."""
    done = await ask(
        "console_approved", headers={**SIGNED_IN, **SAME}, route=ABOUT_APPROVAL, form={"comment": "agreed"}
    )
    assert (done.status_code, done.headers["location"]) == (303, f"/api/console/approvals/{APPROVAL.approval_id}")
    silent = await ask("console_refused", headers={**SIGNED_IN, **SAME}, route=ABOUT_APPROVAL, form={"comment": ""})
    assert silent.status_code == 400
    assert "is required: who asked is to know why" in silent.get_body().decode()
    await ask("console_refused", headers={**SIGNED_IN, **SAME}, route=ABOUT_APPROVAL, form={"comment": "no"})
    assert services.approvals.done == [
        ("approve", APPROVAL.approval_id, "agreed"),
        ("refuse", APPROVAL.approval_id, "no"),
    ]
    assert services.audit.noted[0] == ("approve", APPROVAL.approval_id, "agreed")


@pytest.mark.usefixtures("services")
async def test_today_counts_what_needs_a_second_person() -> None:
    shown = (await ask("console_today")).get_body().decode()
    assert '<a href="/api/console/approvals"><strong>1+</strong> acts that need a second person</a>' in shown


@pytest.mark.parametrize(
    ("change", "text", "buttons"),
    [
        ({}, "Once it is approved, it is carried out by itself.", {"/approve", "/refuse"}),
        ({"queue": None}, "Once it is approved, who asked has to send it again.", {"/approve", "/refuse"}),
        (
            {"asked_by": Actor(kind=CallerKind.KEY, id="everything")},
            "You have asked for it, so somebody else has to approve it.",
            {"/refuse"},
        ),
        ({"expires_at": NOW}, "Nobody approved it in time, so it will not be done.", set()),
        ({"state": ApprovalState.REFUSED, "decided_at": NOW}, "This concerns 1200 devices.", set()),
    ],
)
async def test_an_approval_offers_what_can_be_decided(
    services: SimpleNamespace, change: dict[str, Any], text: str, buttons: set[str]
) -> None:
    services.approvals.record = APPROVAL.changed(**change)
    shown = (await ask("console_approval", route=ABOUT_APPROVAL)).get_body().decode()
    assert text in shown
    assert {each for each in ("/approve", "/refuse") if f'{each}"' in shown} == buttons


async def test_a_role_of_one_group_offers_acts_on_what_belongs_to_it(services: SimpleNamespace) -> None:
    services.settings = replace(services.settings, entra_authentication=True)
    for group, is_offered in (("line-1", True), ("line-2", False)):
        services.devices.describe = answering(Device.model_validate({**DEVICE, "enrollmentGroup": group}))
        answer = await ask(
            "console_device", headers=principal("Fleet.Read", "Devices.Revoke:line-1"), route=READ["console_device"]
        )
        assert ('/revoke"' in answer.get_body().decode()) is is_offered


# --- the host, asked whether it takes a key ---


async def test_the_host_is_asked_once_a_minute_and_forgotten_when_it_refuses() -> None:
    """At the address of the settings, with the key in the header, where no log shows it."""
    asked: list[str] = []
    keys = {KEY}

    async def function(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return web.Response(status=204 if request.headers.get("x-functions-key") in keys else 401)

    server = web.Application()
    server.router.add_get("/api/console/access", function)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    now = [NOW]
    host = OwnHost(f"127.0.0.1:{runner.addresses[0][1]}", "/api/console/access", lambda: now[0])
    try:
        assert [await host.takes(key) for key in (KEY, KEY, "other", "")] == [True, True, False, False]
        assert asked == ["/api/console/access"] * 2
        keys.clear()
        assert await host.takes(KEY), "for a minute"
        now[0] = NOW.replace(minute=NOW.minute + 1)
        assert not await host.takes(KEY)
        assert host.believed == {}
    finally:
        await runner.cleanup()


async def test_a_host_without_a_name_takes_no_key() -> None:
    assert not await OwnHost(None, "/api/console/access", lambda: NOW).takes(KEY)


# --- words ---


def test_an_order_ends_when_it_goes_on_as_before() -> None:
    """A quarter took an hour, so the rest takes three; before the first device and after the last nobody can tell."""
    later = NOW + timedelta(hours=1)
    assert expected_end(NOW, later, finished=25, total=100) == NOW + timedelta(hours=4)
    assert [expected_end(NOW, later, finished=each, total=100) for each in (0, 100)] == [None, None]
    assert expected_end(NOW, NOW, finished=1, total=100) is None
    assert rate(NOW, later, finished=30) == 0.5
    assert [rate(NOW, later, finished=0), rate(NOW, NOW, finished=1)] == [None, None]


def test_times_and_states_are_said_in_words() -> None:
    assert at(NOW.replace(hour=9, minute=5)).endswith(" 09:05 UTC")
    assert words("awaitingCertificate") == "awaiting certificate"
    assert words("iotHub pressHub") == "iot hub pressHub"
    assert words("CA certificates of the DPS") == "CA certificates of the DPS"
    later = NOW.replace(year=NOW.year + 1)
    assert (distance(later, NOW), distance(NOW, later), distance(NOW, NOW)) == ("in 365 days", "365 days ago", "now")
    assert distance(NOW, NOW.replace(hour=NOW.hour + 1)) == "1 hour ago"


async def test_the_page_of_an_order_comes_anew_by_itself_for_who_asks_and_while_it_is_under_way(
    services: SimpleNamespace,
) -> None:
    """Without a script; and it can be stopped (WCAG 2.2, success criterion 2.2.2)."""
    route = {"orderId": "order-1"}
    plain = await ask("console_order", route=route)
    assert "refresh" not in plain.headers
    assert "?live=1" in plain.get_body().decode()
    live = await ask("console_order", route=route, params={"live": "1"})
    assert live.headers["Refresh"] == "5"
    assert "Stop that" in live.get_body().decode()
    services.order_answers.describe = answering(ORDER.model_copy(update={"state": OrderState.COMPLETED}))
    ended = await ask("console_order", route=route, params={"live": "1"})
    assert "refresh" not in ended.headers
    text = ended.get_body().decode()
    assert "live=1" not in text
    assert "/results/" in text, "where the blobs are is said"


async def test_the_results_of_an_order_are_a_file(services: SimpleNamespace) -> None:
    """Of one that is too long for an answer it is said where they are."""
    route = {"orderId": "order-1"}
    answer = await ask("console_order_results", route=route)
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="order-1.csv"'
    assert answer.headers["cache-control"] == "no-store"
    assert answer.get_body().decode().startswith("registrationId,state,")
    services.order_answers.page_of_lines = answering(([], "5000"))
    refused = await ask("console_order_results", route=route)
    assert refused.status_code == 400
    assert "results/order-1.csv" in refused.get_body().decode()
