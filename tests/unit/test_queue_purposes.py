"""A message does nothing that its queue is not for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contracts.messages import Queue
from shared.errors import Rejected
from tests.unit.pki.hierarchy import NOW
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
