"""What routes answer: refusals in words and by field, and a request that comes again as the first time."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest

from shared.contracts.authorities import AuthorityPreview
from shared.contracts.base import Contract, example_of
from shared.contracts.devices import GroupRenewal
from shared.contracts.orders import OrderAct, OrderAction
from shared.contracts.parsing import parse
from shared.contracts.plans import PLANNED, RevocationPlan
from shared.errors import NotFound, Rejected
from shared.ledger.requests import Requests
from shared.rules.zones import Zone
from shared.workflows.intake.outbox import Outbox
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeQueues, FakeTable
from triggers import outcomes
from triggers.http import authorities, authority_acts, enrollment_groups, orders
from triggers.http.endpoints import accepted

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from triggers.http.endpoints import Handler

type Answered = tuple[int, dict[str, Any]]


class Checks:
    """Looks at what is asked for, and counts how often; after the first time it refuses."""

    def __init__(self) -> None:
        self.seen = 0

    async def foresee(self, _request: object) -> None:
        self.seen += 1
        if self.seen > 1:
            raise Rejected.because("things have changed since")


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    queues: Any = FakeQueues()
    there = SimpleNamespace(
        requests=Requests(FakeTable()), outbox=Outbox(queues=queues, clock=lambda: NOW), clock=lambda: NOW
    )
    monkeypatch.setattr(outcomes, "services", lambda: there)
    return there


async def ask(
    handler: Handler,
    *,
    body: object = None,
    route: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
) -> Answered:
    request = func.HttpRequest(
        "POST",
        "http://host/api/x",
        headers={"Content-Type": "application/json", "Idempotency-Key": "once"},
        params=params or {},
        route_params=route or {},
        body=b"" if body is None else json.dumps(body).encode(),
    )
    answer = await outcomes.answer(request, handler)
    return answer.status_code, json.loads(answer.get_body())


def reasons(answered: Answered) -> tuple[int, list[dict[str, str]]]:
    status, body = answered
    return status, body["errors"]


async def test_only_a_ca_is_made_where_cas_are_made(services: SimpleNamespace) -> None:
    """A device's certificate has a route of its own."""
    services.certificate_requests = Checks()
    body = {"kind": "device", "name": "press", "issuer": "line-ca1"}
    assert reasons(await ask(authorities.create_certificate_authority, body=body)) == (
        400,
        [{"field": "kind", "message": "'device' is not a kind of CA; give 'root' or 'intermediate'"}],
    )
    assert services.certificate_requests.seen == 0


async def test_a_request_that_comes_again_is_not_checked_again(services: SimpleNamespace) -> None:
    """Its first answer may have been lost: it gets the same one, though it could not be accepted any more."""
    services.certificate_requests = Checks()
    body = {"kind": "root", "name": "plant"}
    first = await ask(authorities.create_certificate_authority, body=body)
    assert first == await ask(authorities.create_certificate_authority, body=body)
    assert (first[0], first[1]["requestId"], services.certificate_requests.seen) == (202, "once", 1)


async def test_an_order_that_is_known_is_queued_again_whatever_became_of_its_group(services: SimpleNamespace) -> None:
    """The same content under the same id is the same order."""

    async def known(_order: object) -> object:
        return object()

    async def gone(_group: str) -> None:
        raise NotFound.because("the enrollment group does not exist")

    services.device_orders = SimpleNamespace(check_unchanged=known)

    async def accepted(_order_id: str, _fingerprint: str, sent: Awaitable[None]) -> None:
        await sent

    services.usable_groups = SimpleNamespace(get=gone)
    services.following = SimpleNamespace(order_accepted=accepted)
    order = {"orderId": "order-1", "enrollmentGroup": "line", "devices": [{"registrationId": "press"}]}
    status, answer = await ask(orders.create_device_order, body=order)
    assert (status, answer["orderId"]) == (202, "order-1")
    assert [queue for queue, _, _ in services.outbox.queues.sent] == ["device-orders"]


async def test_what_is_asked_of_an_order_is_a_request(services: SimpleNamespace) -> None:
    """It is checked at once, gets a location, and its message is one that the queue takes."""
    seen = []

    async def check(act: OrderAct) -> None:
        seen.append(act.action)

    services.order_requests = SimpleNamespace(check=check)
    for handler, action in (
        (orders.cancel_device_order, "cancel"),
        (orders.close_device_order, "close"),
        (orders.retry_device_order, "retry"),
    ):
        services.requests = Requests(FakeTable())
        status, answer = await ask(handler, route={"orderId": "order-1"})
        assert status == 202
        assert answer["location"] == "/api/requests/once?kind=device-orders"
        assert (answer["requestId"], answer["orderId"]) == ("once", "order-1")
        queue, message, _ = services.outbox.queues.sent[-1]
        act = parse(OrderAct, message["data"])
        assert (queue, act.action, act.order_id, act.request_id) == ("device-orders", action, "order-1", "once")
    assert seen == ["cancel", "close", "retry"]
    with pytest.raises(Rejected, match="issued is for the action 'cancel' only"):
        parse(OrderAct, {"requestId": "r", "orderId": "o", "action": "close", "issued": "keep"})


async def test_a_ca_of_which_no_signing_request_is_there_says_so(services: SimpleNamespace) -> None:
    """Its certificate was signed here."""

    async def get(_name: str) -> SimpleNamespace:
        return SimpleNamespace(signing_request=None)

    services.authorities = SimpleNamespace(get=get)
    status, answer = await ask(authorities.get_signing_request, route={"name": "line-ca1"})
    assert status == 404
    assert "'line-ca1' has no signing request; only a CA made with externallySigned has one" in json.dumps(answer)


async def test_what_is_done_to_a_group_needs_the_group(services: SimpleNamespace) -> None:
    """To disable one that does not exist is refused at once, and nothing is queued."""

    async def describe(name: str) -> dict[str, Any]:
        raise NotFound.because(f"the enrollment group {name!r} does not exist", field="enrollmentGroup")

    services.groups = SimpleNamespace(directory=SimpleNamespace(describe=describe))
    status, answer = await ask(enrollment_groups.disable_enrollment_group, route={"id": "line"})
    assert (status, "the enrollment group 'line' does not exist" in json.dumps(answer)) == (404, True)
    assert services.outbox.queues.sent == []


@pytest.mark.parametrize("body", [[], "root", 7])
async def test_a_body_that_is_not_an_object_is_refused(services: SimpleNamespace, body: object) -> None:
    """It is not given an id that it can't hold."""
    services.certificate_requests = Checks()
    status, answer = await ask(authorities.create_certificate_authority, body=body)
    assert (status, services.certificate_requests.seen) == (400, 0)
    assert "must be a JSON object" in json.dumps(answer)


# --- what the revocation of a CA would do ---


class Foreseen:
    """Shows what an act would do, and notes at which pace."""

    def __init__(self) -> None:
        self.paces: list[int | None] = []

    async def preview(self, name: str, _action: object) -> AuthorityPreview:
        return AuthorityPreview.model_validate({**example_of(AuthorityPreview), "name": name})

    async def foresee_authorities(self, _names: object, *, per_minute: int | None = None) -> RevocationPlan:
        self.paces.append(per_minute)
        return RevocationPlan.model_validate({**PLANNED, "perMinute": per_minute})


async def unsigned(*_signed: object) -> None:
    """Want no signature."""


async def foreseen(body: object) -> Answered:
    return await ask(
        authority_acts.revoke_certificate_authority,
        body=body,
        route={"name": "line-ca1"},
        params={"dryRun": "true"},
    )


@pytest.mark.parametrize(
    ("body", "pace"),
    [(None, None), ({}, None), ({"perMinute": 60}, 60), ({"reason": "keyCompromise", "perMinute": 1}, 1)],
)
async def test_the_revocation_of_a_ca_is_planned_at_the_pace_that_is_given(
    services: SimpleNamespace, body: object, pace: int | None
) -> None:
    """The reason makes no difference to a plan, so it may be left out."""
    services.revocations = there = Foreseen()
    services.authority_workflows = SimpleNamespace(acts=there)
    status, answer = await foreseen(body)
    assert (status, answer["plan"]["perMinute"], there.paces) == (200, pace, [pace])


@pytest.mark.parametrize("body", [[], {"perMinute": 0}, {"perMinute": 6001}, {"pace": 60}, {"reason": "because"}])
@pytest.mark.usefixtures("services")
async def test_a_plan_is_not_made_of_what_the_revocation_of_a_ca_does_not_take(body: object) -> None:
    assert (await foreseen(body))[0] == 400


async def test_a_plan_is_refused_for_a_reason_that_the_revocation_of_a_ca_refuses(services: SimpleNamespace) -> None:
    """A CA is not put on hold, and whoever plans that is told so in the same words as whoever does it."""
    services.revocations = there = Foreseen()
    services.authority_workflows = SimpleNamespace(acts=there)
    services.webhooks = SimpleNamespace(authenticate=unsigned)
    services.settings = SimpleNamespace(zone=Zone.ALL)
    hold = {"reason": "certificateHold"}
    planned = await foreseen(hold)
    done = await ask(authority_acts.revoke_certificate_authority, body=hold, route={"name": "line-ca1"})
    assert planned == done
    assert planned[0] == 400
    assert "a revoked CA stays revoked, and reason says why: one of unspecified, keyCompromise" in json.dumps(
        planned[1]
    )


# --- what is queued ---


@pytest.mark.parametrize(
    ("request_of_kind", "ids"),
    [
        (GroupRenewal(request_id="r-1", enrollment_group="line"), {"requestId": "r-1"}),
        (
            OrderAct(request_id="r-2", order_id="o-1", action=OrderAction.CLOSE),
            {"requestId": "r-2", "orderId": "o-1"},
        ),
    ],
    ids=["a request", "an act on an order"],
)
def test_what_is_queued_is_answered_with_the_ids_that_it_has(request_of_kind: Contract, ids: dict[str, str]) -> None:
    """One that it does not have is left out."""
    answer = accepted(request_of_kind, "/api/requests/r")
    assert json.loads(answer.get_body()) == {"status": "queued", "location": "/api/requests/r", **ids}
    assert (answer.status_code, answer.headers["Location"]) == (202, "/api/requests/r")
