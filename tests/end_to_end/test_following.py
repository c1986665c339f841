"""An outside script follows every kind of request to its end, and never waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from devstack.outside import until
from tests.end_to_end.conftest import GROUP
from tests.end_to_end.test_api import ordered

if TYPE_CHECKING:
    import requests

    from devstack.outside import World

ENDED = {"done", "rejected"}
REVOCATIONS, RENEWALS = "revocation-requests", "renewal-requests"


def by_queue(world: World, queue: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request by its queue, and follow it by its id to its end."""
    world.post_message(queue, body)
    identifier = body.get("requestId") or body["orderId"]
    return until(
        f"the end of {identifier}",
        lambda: world.get(f"requests/{identifier}?kind={queue}", missing={}),
        lambda found: found.get("state") in ENDED,
    )


def test_every_kind_of_request_over_http_is_followed_by_its_location_alone(world: World) -> None:
    """Each 202 has a location, and what stands there ends as done."""
    ordered(world, "follow-1", "follow-2", "follow-3", "follow-4")
    steps: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", "certificate-authorities", {"kind": "root", "name": "follow-root"}),
        ("POST", "certificates", {"kind": "device", "name": "follow-single", "issuer": f"{GROUP}-ca1"}),
        ("PUT", "enrollment-groups/follow", {}),
        ("POST", "enrollment-groups/follow/disable", None),
        ("POST", "enrollment-groups/follow/enable", None),
        ("POST", "enrollment-groups/follow/roll", None),
        ("POST", "device-orders", order("follow-order", {"registrationId": "follow-5"})),
        ("POST", "device-orders", order("follow-failing", {"registrationId": "follow-6", "csr": "x"}, good="follow-7")),
        ("POST", "device-orders/follow-failing/retry", None),
        ("POST", "devices/follow-1/revoke", {"reason": "certificateHold"}),
        ("POST", "devices/follow-1/reinstate", None),
        ("POST", "devices/follow-2/revoke", {"reason": "superseded"}),
        ("DELETE", "devices/follow-3", None),
        ("POST", "revocations", {"registrationId": "follow-4", "reason": "superseded"}),
        ("POST", "revocations", {"enrollmentGroup": "follow", "reason": "superseded"}),
        ("POST", "enrollment-groups/follow/renew", {}),
    ]
    for method, path, body in steps:
        answer = world.request(method, path, json=body)
        assert answer.status_code == 202, f"{method} {path}: {answer.text}"
        assert ended(world, answer)["state"] == "done", path
    waiting = order("follow-waiting", {"registrationId": "follow-8"}, registerBy="device")
    placed = world.request("POST", "device-orders", json=waiting)
    waits(world, placed)
    assert ended(world, world.request("POST", "device-orders/follow-waiting/close"))["state"] == "done"
    assert ended(world, placed)["state"] == "done", "the order ends with its closing"
    to_cancel = {**waiting, "orderId": "follow-cancelled", "devices": [{"registrationId": "follow-9"}]}
    placed = world.request("POST", "device-orders", json=to_cancel)
    waits(world, placed)
    assert ended(world, world.request("POST", "device-orders/follow-cancelled/cancel"))["state"] == "done"
    assert ended(world, placed)["state"] == "done"


def test_a_renewal_waits_for_its_device_and_ends_with_it(world: World) -> None:
    """Meanwhile it says what it waits for; a device that is revoked instead has it refused."""
    ordered(world, "follow-renewed", "follow-revoked")
    answers = {
        device: world.request("POST", f"devices/{device}/renew", json={})
        for device in ("follow-renewed", "follow-revoked")
    }
    for answer in answers.values():
        waiting = waits(world, answer)
        assert "has not registered with its certificate yet" in waiting["waitingFor"]
    device = world.device("follow-renewed")
    device.take_bundle()
    device.register()
    assert ended(world, answers["follow-renewed"])["state"] == "done"
    world.request("POST", "devices/follow-revoked/revoke", json={"reason": "superseded"})
    refused = ended(world, answers["follow-revoked"])
    assert (refused["state"], bool(refused["reasons"])) == ("rejected", True)


@pytest.mark.parametrize(
    ("queue", "body", "state"),
    [
        ("certificate-requests", {"requestId": "q-root", "kind": "root", "name": "q-root"}, "done"),
        ("certificate-requests", {"requestId": "q-no", "kind": "device", "name": "q", "issuer": "none"}, "rejected"),
        ("enrollment-group-requests", {"requestId": "q-group", "enrollmentGroup": "q", "action": "put"}, "done"),
        ("enrollment-group-requests", {"requestId": "q-gone", "enrollmentGroup": "no", "action": "roll"}, "rejected"),
        (
            "device-orders",
            {"orderId": "q-order", "enrollmentGroup": GROUP, "devices": [{"registrationId": "q-1"}]},
            "done",
        ),
        (
            "device-orders",
            {"orderId": "q-bad", "enrollmentGroup": "no", "devices": [{"registrationId": "q-2"}]},
            "rejected",
        ),
        ("device-orders", {"requestId": "q-cancel", "orderId": "no", "action": "cancel"}, "rejected"),
        (RENEWALS, {"requestId": "q-renew", "registrationId": "nobody"}, "rejected"),
        (REVOCATIONS, {"requestId": "q-revoke", "registrationId": "nobody", "reason": "superseded"}, "rejected"),
        (REVOCATIONS, {"requestId": "q-field", "registrationId": "nobody"}, "rejected"),
        (REVOCATIONS, {"requestId": "q-all", "enrollmentGroup": "no", "reason": "superseded"}, "rejected"),
    ],
    ids=lambda value: value.get("requestId") or value["orderId"] if isinstance(value, dict) else "",
)
def test_every_kind_of_request_by_queue_is_followed_by_its_id(
    world: World, queue: str, body: dict[str, Any], state: str
) -> None:
    """From its first delivery; what is refused says why, and where its message is kept."""
    found = by_queue(world, queue, body)
    assert (found["state"], bool(found["reasons"])) == (state, state == "rejected")


def order(order_id: str, *devices: dict[str, Any], good: str | None = None, **fields: Any) -> dict[str, Any]:
    further = [{"registrationId": good}] if good else []
    return {"orderId": order_id, "enrollmentGroup": GROUP, "devices": [*devices, *further], **fields}


def waits(world: World, answer: requests.Response) -> Any:
    """Follow a request until it waits."""
    location = answer.headers["location"].removeprefix("/api/")
    return until(f"{location} waits", lambda: world.get(location), lambda body: body["state"] == "waiting")


def ended(world: World, answer: requests.Response) -> Any:
    return world.followed(answer)
