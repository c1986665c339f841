"""A message does nothing that its queue is not for."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from shared.acting import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.devices import AuthorityRevocation
from shared.contracts.messages import Queue
from shared.contracts.orders import OrderAct
from shared.contracts.parsing import parse
from shared.domain.callers import Actor, CallerKind
from shared.errors import Forbidden, Rejected
from shared.ledger.requests import Requests
from shared.workflows.intake.deliveries import once
from shared.workflows.intake.queue_purposes import check_purpose
from shared.workflows.intake.requests import submit
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeTable
from triggers.queues import _WORKFLOWS

BODIES: dict[Queue, list[dict[str, Any]]] = {
    Queue.CERTIFICATE_REQUESTS: [
        {"requestId": "r", "kind": "root", "name": "plant"},
        {"requestId": "r", "kind": "device", "name": "press-1", "issuer": "line-1-ca1"},
    ],
    Queue.ENROLLMENT_GROUP_REQUESTS: [
        {"requestId": "r", "enrollmentGroup": "line-1", "action": "delete"},
        {"requestId": "r", "enrollmentGroup": "line-1", "action": "create"},
        {"requestId": "r", "name": "plant", "action": "revoke", "reason": "keyCompromise"},
    ],
    Queue.DEVICE_ORDERS: [
        {"orderId": "o", "enrollmentGroup": "line-1", "devices": [{"registrationId": "press-1"}]},
        {"requestId": "r", "orderId": "o", "action": "cancel"},
    ],
    Queue.DEVICE_REGISTRATIONS: [{"orderId": "o", "line": 0}],
    Queue.RENEWAL_REQUESTS: [
        {"requestId": "r", "registrationId": "press-1"},
        {"requestId": "r", "enrollmentGroup": "line-1", "perMinute": 60},
    ],
    Queue.REVOCATION_REQUESTS: [
        {"requestId": "r", "registrationId": "press-1", "reason": "keyCompromise"},
        {"requestId": "r", "enrollmentGroup": "line-1", "reason": "keyCompromise"},
        {"requestId": "r", "registrationId": "press-1", "action": "delete"},
    ],
}
"""What each queue is for."""


class Unasked:
    """Services, none of which is to be asked."""

    def __getattr__(self, name: str) -> Any:
        return Unasked()

    def __call__(self, *_: object, **__: object) -> Any:
        raise AssertionError("a service was asked")


CASES = [
    (queue, other, body)
    for other, bodies in BODIES.items()
    for body in bodies
    for queue in BODIES
    if queue is not other
]


@pytest.mark.parametrize(
    ("queue", "other", "body"), CASES, ids=lambda each: json.dumps(each) if isinstance(each, dict) else each
)
async def test_what_belongs_into_another_queue_is_refused(queue: Queue, other: Queue, body: dict[str, Any]) -> None:
    """Before any service is asked: who may order can't revoke, and who may revoke can't make a CA."""
    services: Any = Unasked()
    with pytest.raises(Rejected):
        await _WORKFLOWS[queue](services, body, NOW)
    with pytest.raises(AssertionError, match="was asked"):
        await _WORKFLOWS[other](services, body, NOW)


BY_QUEUE = Actor(kind=CallerKind.QUEUE, id="device-orders", account="erp")
BY_CALL = Actor(kind=CallerKind.USER, id="5b54", role="Devices.Revoke")


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (
            parse(OrderAct, {"requestId": "r", "orderId": "o-1", "action": "cancel", "issued": "revoke"}),
            "issued: a message in device-orders can't have devices revoked: cancel the order with issued 'keep' and "
            "revoke its devices by revocation-requests, or send POST /api/device-orders/o-1/cancel, which needs the "
            "role Devices.Revoke",
        ),
        (
            parse(AuthorityRevocation, {"requestId": "r", "issuer": "plant", "reason": "keyCompromise"}),
            "issuer: a message in revocation-requests can't have the devices of a CA revoked: revoke the CA with POST "
            "/api/certificate-authorities/plant/revoke, which needs the role CertificateAuthorities.Manage",
        ),
        *(
            (
                parse(AuthorityAct, {"requestId": "r", "name": "plant", "action": action, **more}),
                f"action: a message in enrollment-group-requests can't {action} a CA: it is for groups; send {call}, "
                "which needs the role CertificateAuthorities.Manage",
            )
            for action, more, call in (
                ("disable", {}, "POST /api/certificate-authorities/plant/disable"),
                ("enable", {}, "POST /api/certificate-authorities/plant/enable"),
                ("retire", {}, "POST /api/certificate-authorities/plant/retire"),
                ("revoke", {"reason": "keyCompromise"}, "POST /api/certificate-authorities/plant/revoke"),
                ("delete", {}, "DELETE /api/certificate-authorities/plant"),
                ("renew", {}, "POST /api/certificate-authorities/plant/renew"),
                ("crossSign", {"issuer": "other"}, "POST /api/certificate-authorities/plant/cross-sign"),
            )
        ),
    ],
)
def test_what_shuts_devices_out_is_not_had_by_a_message_alone(request_: Any, why: str) -> None:
    """Whoever may put orders can't revoke, and whoever may set up groups can't end CAs; over HTTP a role decides."""
    with pytest.raises(Forbidden) as refused:
        check_purpose(request_, BY_QUEUE)
    assert str(refused.value) == why
    check_purpose(request_, BY_CALL)
    check_purpose(request_, None)


@pytest.mark.parametrize("body", [{"action": "cancel"}, {"action": "cancel", "issued": "keep"}, {"action": "retry"}])
def test_what_a_queue_is_for_its_messages_ask_for(body: dict[str, str]) -> None:
    check_purpose(parse(OrderAct, {"requestId": "r", "orderId": "o-1", **body}), BY_QUEUE)


async def test_only_the_row_of_a_call_lets_an_act_on_a_ca_through() -> None:
    """The message is the same, and says itself who sent it; what counts is the row that the call has made."""
    act = parse(AuthorityAct, {"requestId": "r", "name": "plant", "action": "revoke", "reason": "keyCompromise"})
    queue, requests = Queue.ENROLLMENT_GROUP_REQUESTS, Requests(FakeTable())
    with acting(BY_QUEUE), pytest.raises(Forbidden):
        async with once(requests, queue, act, lambda: NOW):
            raise AssertionError("it was let through")
    outbox: Any = SimpleNamespace(send=ordered)
    with acting(BY_CALL):
        await submit(requests, outbox, queue, act, lambda: NOW)
    with acting(BY_QUEUE):
        async with once(requests, queue, act, lambda: NOW) as to_do:
            assert to_do is not None
            assert to_do.actor == BY_CALL.changed(request_id="r")


async def ordered(*_: Any, **__: Any) -> None:
    pass
