"""The audit log: each act once, found by whatever it is about, and never changed."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from shared import acting
from shared.contracts.devices import RevocationRequest
from shared.contracts.messages import Queue
from shared.domain.audit_entries import AuditedAct, AuditEntry, AuditOutcome, SubjectKind
from shared.domain.callers import Actor, CallerKind
from shared.domain.words import RevocationReason
from shared.errors import Deferred, Rejected
from shared.ledger.audit_log import AuditFilters, AuditTable
from shared.ledger.requests import Requests
from shared.workflows.intake.audit import APP, Act, Audit
from shared.workflows.intake.deliveries import once
from shared.workflows.intake.following import FollowedRequests
from shared.workflows.intake.requests import part_for, submit
from shared.workflows.intake.wiring import Copied
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues, FakeTable
from triggers.http.audit import list_audit_entries

if TYPE_CHECKING:
    from collections.abc import Sequence

ADA = Actor(kind=CallerKind.USER, id="5b54", name="ada@example.com", role="Devices.Revoke", address="192.0.2.7")
SCADA = Actor(kind=CallerKind.QUEUE, id="revocation-requests", name="/scada")
REVOCATION = RevocationRequest(request_id="r-1", registration_id="press-1", reason=RevocationReason.KEY_COMPROMISE)


class Log:
    """An audit log, with what belongs to which group, and a clock."""

    def __init__(self) -> None:
        self.now = NOW
        self.table = AuditTable(FakeTable())
        self.audit = Audit(log=self.table, clock=lambda: self.now, devices=self.group, authorities=self.group)
        self.requests = Requests(FakeTable(), trail=self.audit)

    async def group(self, name: str) -> str | None:
        return {"press-1": "line-1", "line-1-ca1": "line-1"}.get(name)

    async def found(self, **filters: Any) -> Sequence[AuditEntry]:
        return (await self.table.page(AuditFilters(**filters), size=100, continuation=None))[0]

    async def told(self, **filters: Any) -> list[tuple[str, str, str]]:
        return [(each.action, each.subject, each.outcome) for each in await self.found(**filters)]


async def no_group(_name: str) -> str | None:
    return None


@pytest.fixture
def log() -> Log:
    return Log()


def entry(name: str, action: str, subject: str, **more: Any) -> AuditEntry:
    given = {
        "actor": ADA,
        "at": NOW,
        "subject_kind": SubjectKind.DEVICE,
        "outcome": AuditOutcome.DONE,
        "enrollment_group": "line-1",
        **more,
    }
    return AuditEntry(entry_id=name, action=action, subject=subject, **given)


async def test_an_act_is_found_by_whatever_it_is_about(log: Log) -> None:
    """The latest first; every look-up reads a partition of its own."""
    key = Actor(kind=CallerKind.KEY, id="erp / line #1")
    await log.table.append(entry("1", "revoke", "press-1"))
    await log.table.append(entry("2", "renew", "press-2", at=NOW + timedelta(seconds=1), actor=key))
    await log.table.append(
        entry("3", "create", "line-2-ca1", at=NOW + timedelta(seconds=2), subject_kind=SubjectKind.AUTHORITY,
              enrollment_group="line-2")
    )  # fmt: skip
    assert [each.entry_id for each in await log.found()] == ["3", "2", "1"]
    wanted: dict[str, dict[str, Any]] = {
        "1": {"device": "press-1"},
        "2": {"actor": "erp / line #1"},
        "3": {"authority": "line-2-ca1"},
        "21": {"group": "line-1"},
        "31": {"actor": "5b54"},
        "32": {"since": NOW + timedelta(seconds=1)},
        "2 ": {"group": "line-1", "action": "renew"},
        "1 ": {"until": NOW},
        "": {"device": "press-1", "actor": "erp / line #1"},
        " ": {"authority": "press-1"},
    }
    for ids, filters in wanted.items():
        assert [each.entry_id for each in await log.found(**filters)] == list(ids.strip()), filters


async def test_a_list_goes_on_where_its_page_ended(log: Log) -> None:
    for number in range(5):
        await log.table.append(entry(str(number), "revoke", "press-1", at=NOW + timedelta(seconds=number)))
    filters, pages, following = AuditFilters(group="line-1"), [], None
    for _ in range(3):
        found, following = await log.table.page(filters, size=2, continuation=following)
        pages.append([each.entry_id for each in found])
    assert (pages, following) == ([["4", "3"], ["2", "1"], ["0"]], None)


async def test_what_came_of_an_act_is_added_and_nothing_is_changed(log: Log) -> None:
    """Repeated, it adds nothing. Where a try was refused and the next one was not, the act was done."""
    begun = entry("1", "revoke", "press-1", outcome=AuditOutcome.BEGUN, reason="keyCompromise")
    await log.table.append(begun)
    assert await log.found() == [begun_as_row(begun)]
    for outcome, reason in (
        (AuditOutcome.BEGUN, None),
        (AuditOutcome.REFUSED, "it is gone"),
        (AuditOutcome.REFUSED, "again"),
    ):
        await log.table.append(begun.changed(outcome=outcome, reason=reason))
    assert [(each.outcome, each.reason) for each in await log.found(device="press-1")] == [
        (AuditOutcome.REFUSED, "it is gone")
    ]
    await log.table.append(begun.changed(outcome=AuditOutcome.DONE))
    for filters in ({}, {"device": "press-1"}, {"actor": "5b54"}, {"group": "line-1"}):
        assert [(each.outcome, each.reason) for each in await log.found(**filters)] == [
            (AuditOutcome.DONE, "keyCompromise")
        ]


def begun_as_row(given: AuditEntry) -> Any:
    class Same:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, AuditEntry) and dict(given).items() <= dict(other).items()

        __hash__ = None  # type: ignore[assignment]

    return Same()


# --- acts ---


async def test_an_act_is_written_down_before_it_is_done(log: Log) -> None:
    """If a worker dies in between, the log has it."""
    with acting.acting(ADA, "ticket 4711"):
        async with log.audit.carried_out(
            Act(action="disable", kind=SubjectKind.DEVICE, subject="press-1", reason="lost")
        ):
            during = await log.found()
    [after] = await log.found(group="line-1")
    assert [each.outcome for each in (*during, after)] == [AuditOutcome.BEGUN, AuditOutcome.DONE]
    assert (after.actor, after.reason, after.comment) == (ADA, "lost", "ticket 4711")


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (Rejected.because("it is gone", field="id"), AuditOutcome.REFUSED, "id: it is gone"),
        (RuntimeError("the password is s3cret"), AuditOutcome.FAILED, "RuntimeError"),
    ],
)
async def test_an_act_that_was_not_done_says_why(
    log: Log, error: Exception, outcome: AuditOutcome, reason: str
) -> None:
    """What went wrong in the world is in the app's log, and not here."""
    with pytest.raises(type(error)):
        async with log.audit.carried_out(Act(action="disable", kind=SubjectKind.DEVICE, subject="press-1")):
            raise error
    assert [(each.outcome, each.reason, each.actor) for each in await log.found()] == [(outcome, reason, APP)]


async def test_a_call_that_failed_is_done_when_its_act_took_effect_and_stays_so() -> None:
    """Every place that has the log gets an end more, under the entry's own id; nothing else of it is another."""
    copied, table = list[AuditEntry](), FakeTable()

    class Copies:
        async def append(self, given: AuditEntry) -> None:
            copied.append(given)

    audit = Audit(log=Copied(table=table, other=Copies()), clock=lambda: NOW, devices=Log().group, authorities=no_group)
    act = Act(action="disable", kind=SubjectKind.DEVICE, subject="press-1", reason="lost")
    decided = list[AuditedAct | None]()

    async def called() -> None:
        async with audit.carried_out(act):
            decided.append(acting.audited())
            raise ConnectionError("no answer")

    with acting.acting(ADA, "ticket 4711"), pytest.raises(ConnectionError, match="no answer"):
        await called()
    assert acting.audited() is None, "what comes after the call is not its own"
    named = decided[0]
    assert named is not None
    for _ in range(2):
        await audit.took_effect(named)
    await audit.took_effect(named.changed(entry_id="another"))
    assert [each.outcome for each in copied] == ["begun", "failed", "done", "done"]
    begun, ended = copied[0], copied[2]
    assert ended == begun.changed(outcome=AuditOutcome.DONE)
    assert (type(ended), ended.entry_id, ended.actor, ended.reason) == (AuditEntry, named.entry_id, ADA, "lost")
    [found] = (await AuditTable(table).page(AuditFilters(), size=9, continuation=None))[0]
    assert (found.outcome, found.reason, found.comment) == ("done", "lost", "ticket 4711")


async def test_what_cannot_be_written_down_is_not_done(log: Log) -> None:
    class Down:
        async def append(self, _entry: AuditEntry) -> None:
            raise OSError

        async def find(self, _act: AuditedAct) -> AuditEntry | None:
            raise OSError

        async def page(self, *_: Any, **__: Any) -> Any:
            raise OSError

    audit = Audit(log=Down(), clock=lambda: NOW, devices=log.group, authorities=log.group)
    done = []
    with pytest.raises(OSError):  # noqa: PT011 - it has no words
        async with audit.carried_out(Act(action="disable", kind=SubjectKind.DEVICE, subject="press-1")):
            done.append("disabled")
    assert done == []


async def test_a_denied_try_is_an_entry_that_says_why(log: Log) -> None:
    await log.audit.denied(
        Act(action="revoke_device", kind=SubjectKind.DEVICE, subject="press-1", reason="who asks is not known")
    )
    [latest, *_] = await log.found(device="press-1")
    assert (latest.action, latest.outcome, latest.reason) == (
        "revoke_device",
        AuditOutcome.DENIED,
        "who asks is not known",
    )


# --- requests ---


async def revoke(log: Log, **more: Any) -> None:
    async with once(log.requests, Queue.REVOCATION_REQUESTS, REVOCATION, lambda: NOW, **more) as to_do:
        if to_do:
            await log.group("press-1")


async def test_a_request_is_written_down_once_however_often_it_comes(log: Log) -> None:
    with acting.acting(SCADA):
        for _ in range(3):
            await revoke(log)
    [found] = await log.found()
    assert (found.action, found.subject, found.enrollment_group, found.outcome, found.reason, found.request_id) == (
        *("revoke", "press-1", "line-1"),
        AuditOutcome.DONE,
        *("keyCompromise", "r-1"),
    )
    assert found.actor == SCADA.changed(request_id="r-1")


async def test_an_order_that_was_taken_in_is_done_and_is_found_by_its_id(log: Log) -> None:
    """Whoever put it into the queue, by whatever message."""
    with acting.acting(SCADA):
        await log.audit.ordered("order-7", "line-1", NOW)
    [found] = await log.found()
    assert (found.action, found.subject_kind, found.subject) == ("order", SubjectKind.ORDER, "order-7")
    assert (found.outcome, found.enrollment_group, found.request_id) == (AuditOutcome.DONE, "line-1", "order-7")
    assert (found.at, found.actor, found.reason) == (NOW, SCADA, None)


async def test_who_asked_over_http_is_known_from_the_row_and_not_from_the_message(log: Log) -> None:
    """Whoever can put messages into the queue can't act as somebody else."""
    queues: Any = FakeQueues()
    outbox: Any = SimpleNamespace(send=lambda *_args, **_more: queues.send("q", "{}", delay=None))
    with acting.acting(ADA, "ticket 4711"):
        await submit(log.requests, outbox, Queue.REVOCATION_REQUESTS, REVOCATION, lambda: NOW)
    with acting.acting(SCADA, "forged"):
        await revoke(log)
    [found] = await log.found()
    assert (found.actor, found.comment) == (ADA.changed(request_id="r-1"), "ticket 4711")


async def test_a_request_that_waits_is_begun_and_one_that_is_refused_may_come_again(log: Log) -> None:
    """Each time that its id is taken anew is an act of its own."""
    with pytest.raises(Deferred):
        async with once(log.requests, Queue.REVOCATION_REQUESTS, REVOCATION, lambda: NOW):
            raise Deferred("later", retry_after=timedelta(seconds=1))
    assert await log.told() == [("revoke", "press-1", "begun")]
    with pytest.raises(Rejected):
        async with once(log.requests, Queue.REVOCATION_REQUESTS, REVOCATION, lambda: NOW):
            raise Rejected.because("nothing is there")
    assert await log.told() == [("revoke", "press-1", "refused")]
    await revoke(log)
    assert sorted(await log.told()) == [("revoke", "press-1", "done"), ("revoke", "press-1", "refused")]


async def test_a_part_is_done_for_whoever_asked_for_the_whole(log: Log) -> None:
    whole = RevocationRequest(request_id="r-1", enrollment_group="line-1", reason=RevocationReason.KEY_COMPROMISE)
    with acting.acting(ADA, "all of them"):
        async with once(log.requests, Queue.REVOCATION_REQUESTS, whole, lambda: NOW) as to_do:
            assert to_do
            part = part_for(to_do, "press-1")
    with acting.acting(SCADA):
        await revoke(log, part=part)
    assert sorted(await log.told(actor="5b54")) == [("revoke", "line-1", "done"), ("revoke", "press-1", "done")]
    assert {each.comment for each in await log.found()} == {"all of them"}


async def test_a_request_whose_message_is_set_aside_and_closed_is_refused(log: Log) -> None:
    """It was begun; that nobody will carry it out is what came of it."""
    with acting.acting(ADA), pytest.raises(OSError):  # noqa: PT011 - it has no words
        async with once(log.requests, Queue.REVOCATION_REQUESTS, REVOCATION, lambda: NOW):
            raise OSError
    orders: Any = SimpleNamespace()
    following = FollowedRequests(requests=log.requests, orders=orders, clock=lambda: NOW)
    data = {"requestId": "r-1", "registrationId": "press-1"}
    await following.waits(Queue.REVOCATION_REQUESTS, data, "an operator", next_try=None, rejection_id="x")
    await following.closed(Queue.REVOCATION_REQUESTS, data, "done by hand", "x")
    [entry] = await log.found(device="press-1")
    assert (entry.action, entry.outcome, entry.reason, entry.actor.id) == (
        "revoke",
        AuditOutcome.REFUSED,
        "it was set aside and closed: done by hand",
        "5b54",
    )


# --- what is answered ---


async def answered(log: Log, accept: str, **params: str) -> func.HttpResponse:
    services: Any = SimpleNamespace(audit=log.audit)
    request = func.HttpRequest(
        "GET", "https://host/api/audit", headers={"Accept": accept}, params=params, route_params={}, body=b""
    )
    return await list_audit_entries(services, request)


async def test_the_log_is_answered_as_json_as_lines_and_as_csv(log: Log) -> None:
    """A cell that a spreadsheet would take for a formula is not one."""
    for number in range(2):
        at = NOW + timedelta(seconds=number)
        await log.table.append(entry(str(number), "revoke", "press-1", at=at, comment="=1+1", reason="keyCompromise"))
    body = json.loads((await answered(log, "*/*", device="PRESS-1")).get_body())
    assert [each["at"] for each in body["items"]] == ["2026-03-01T12:00:01Z", "2026-03-01T12:00:00Z"]
    for accept in ("application/jsonl", "application/x-ndjson"):
        lines = await answered(log, accept, group="line-1")
        assert lines.mimetype == "application/jsonl"
        assert [json.loads(each) for each in lines.get_body().decode().splitlines()] == body["items"]
    first = await answered(log, "text/csv", pageSize="1", actor="5b54")
    header, row = first.get_body().decode().splitlines()
    assert header.split(",")[:4] == ["at", "actorKind", "actorId", "actorName"]
    assert row == (
        "2026-03-01T12:00:01Z,user,5b54,ada@example.com,Devices.Revoke,192.0.2.7,revoke,device,press-1,line-1,done,,"
        "keyCompromise,'=1+1,,"
    )
    assert header.split(",")[-2:] == ["actorAccount", "actorSource"]
    assert "actor=5b54" in first.headers["Link"]
    token = first.headers["Link"].partition("continuationToken=")[2].partition(">")[0]
    second = await answered(log, "text/csv", pageSize="1", actor="5b54", continuationToken=token)
    assert second.get_body().decode().startswith("2026-03-01T12:00:00Z,user,5b54")


async def test_what_a_terminal_would_obey_is_in_no_export(log: Log) -> None:
    """Rows of before may have it, since it was not refused then."""
    hidden = "a\x1b[2Jb\x9bc\u202ed\u2028e"
    await log.table.append(entry("1", "revoke", "press-1", comment=hidden, reason="=cmd|' /C calc'!A0"))
    lines = (await answered(log, "application/jsonl")).get_body().decode()
    assert lines.count("\n") == 1
    assert len(lines.splitlines()) == 1
    assert r'"comment":"a\u001b[2Jb\u009bc\u202ed\u2028e"' in lines
    assert json.loads(lines)["comment"] == hidden
    row = (await answered(log, "text/csv")).get_body().decode().split("\r\n")[1]
    assert ",'=cmd|' /C calc'!A0,a\ufffd[2Jb\ufffdc\ufffdd\u2028e," in row


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("device", "a/b", "a registration id has letters, digits and - . _ : only"),
        ("group", "a b", "is not a valid enrollment group id"),
        ("ca", "-", "is not a valid name for a certificate authority"),
        ("since", "yesterday", "since: "),
    ],
)
async def test_a_filter_that_is_not_valid_is_named(log: Log, name: str, value: str, why: str) -> None:
    with pytest.raises(Rejected) as refused:
        await answered(log, "*/*", **{name: value})
    assert refused.value.reasons[0].field == name
    assert why in str(refused.value)
