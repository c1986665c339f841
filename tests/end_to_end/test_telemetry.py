"""The telemetry of a running stack: one trace of an order, the metrics, the log, and no secret in any of it."""

from __future__ import annotations

import os
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from devstack.otlp_receiver import Receiver
from devstack.outside import until
from devstack.traces import SENDER, SETTINGS, TRACE_ID, order_traced, tree
from shared.telemetry.metrics import METRICS
from tests.end_to_end.conftest import FORM, witnessed
from tests.end_to_end.conftest import SETTINGS as QUICK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devstack.otlp_receiver import Received, ReceivedSpan
    from devstack.outside import World
    from devstack.stack import Stack

DEVICE = "press-1"
PRIVATE = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n"
SECRETS = re.compile(
    rb"PRIVATE KEY-----|MIGHAgEAMBMG|eyJ[A-Za-z0-9_-]{10,}\.|AccountKey=|SharedAccessSignature|sig=|whsec_"
)
"""Forms of secrets: private keys, tokens, keys of accounts, signatures in URLs, keys of webhooks."""


class Seen:
    """What was done, and all that was told of it."""

    def __init__(self, world: World, stack: Stack, received: Received, spans: list[ReceivedSpan]) -> None:
        self.world, self.stack, self.received, self.spans = world, stack, received, spans
        self.secrets: list[bytes] = []

    def one(self, name: str, **attributes: str) -> ReceivedSpan:
        """Give the only span of this name, and with these values among its attributes."""
        wanted = set(attributes.values())
        [found] = [each for each in self.spans if each.name == name and wanted <= set(each.attributes.values())]
        return found

    def metric(self, name: str, **attributes: str) -> bool:
        """Tell whether a metric came, with these values among its attributes."""
        wanted = set(attributes.values())
        return any(each.metric == name and wanted <= set(each.attributes.values()) for each in self.received.points)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Carry out an order, hand its bundle out, revoke its device, and have a message with a private key refused."""
    folder, before = tmp_path_factory.mktemp("telemetry"), dict(os.environ)
    try:
        with Receiver() as receiver:
            settings = {**QUICK, **SETTINGS, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
            settings.pop("WEBHOOK_SECRET_NAME")
            with (
                FORM.free(folder, settings=settings) as stack,
                closing(witnessed(stack, folder / "devices")) as world,
            ):
                done = Seen(world, stack, receiver.received, order_traced(receiver, world))
                act(done)
                yield done
                assert receiver.received.refusals == []
    finally:
        os.environ.clear()
        os.environ.update(before)


def act(seen: Seen) -> None:
    world, endpoints = seen.world, seen.stack.endpoints
    bundle = world.request("GET", f"devices/{DEVICE}/bundle?format=pem")
    assert bundle.status_code == 200
    [key] = re.findall(r"-----BEGIN (?:ENCRYPTED )?PRIVATE KEY-----\n(.+?)\n", bundle.text)
    world.post_message("device-orders", {"orderId": "bad", "enrollmentGroup": PRIVATE, "devices": []})
    world.request("POST", f"devices/{DEVICE}/revoke", json={"reason": "superseded"})
    until("it is revoked", lambda: world.get(f"devices/{DEVICE}"), lambda body: body.get("state") == "revoked")
    until("the message is refused", lambda: world.get("rejections")["items"], bool)
    until(
        "the metrics of all that came",
        lambda: {each.metric for each in seen.received.points},
        lambda names: {"device_factory.rejections", "device_factory.revocation.duration"} <= names,
    )
    password = world.secret(bundle.headers["x-password-secret"])
    account = re.findall("AccountKey=([^;]+)", endpoints.storage_connection_string)
    seen.secrets = [each.encode() for each in (key, password, endpoints.function_key, endpoints.master_key, *account)]


def test_one_trace_goes_from_the_message_to_the_event(seen: Seen) -> None:
    """Message, fan-out, signing, DPS, hub, event: each step is the child of the one that caused it."""
    whole = "\n".join(tree(seen.spans))
    assert {each.trace_id for each in seen.spans} == {TRACE_ID}, whole
    first, *_ = [each for each in seen.spans if each.parent_id == SENDER]
    fan_out = seen.one("send device-registrations")
    device = seen.one("process device-registrations")
    brought = seen.one("bring device")
    signed, registered = seen.one("sign", ca="line-1-ca1"), seen.one("register dps")
    hub = seen.one("PATCH iot_hub")
    event = seen.one("send provisioning-events", kind="DeviceProvisioning.DeviceRegistered")
    assert (first.name, fan_out.parent_id, device.parent_id) == (
        "process device-orders",
        first.span_id,
        fan_out.span_id,
    ), whole
    assert brought.parent_id == device.span_id
    assert {each.parent_id for each in (signed, registered, hub, event)} == {brought.span_id}, whole
    kinds = {each.name: each.kind for each in (first, fan_out, device, signed, registered, hub, event)}
    assert kinds == {
        "process device-orders": "CONSUMER",
        "send device-registrations": "PRODUCER",
        "process device-registrations": "CONSUMER",
        "sign": "INTERNAL",
        "register dps": "CLIENT",
        "PATCH iot_hub": "CLIENT",
        "send provisioning-events": "PRODUCER",
    }
    [told] = seen.world.events("DeviceProvisioning.DeviceRegistered")
    assert told["traceparent"] == f"00-{TRACE_ID}-{event.span_id}-01"


def test_the_spans_are_described_by_the_semantic_conventions(seen: Seen) -> None:
    """Those of messaging (process) and HTTP (client)."""
    device, hub = seen.one("process device-registrations"), seen.one("PATCH iot_hub")
    assert {name: value for name, value in device.attributes.items() if not name.endswith((".id", ".size"))} == {
        "messaging.system": "azure_storage_queue",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "device-registrations",
        "device_factory.order_id": "order-1",
        "device_factory.outcome": "done",
    }
    assert hub.attributes["http.request.method"] == "PATCH"
    assert hub.attributes["http.response.status_code"] == 200
    assert f"//{hub.attributes['server.address']}:" in seen.stack.endpoints.iot_hubs[0]["serviceUrl"]


def test_a_request_over_http_and_what_it_leads_to_are_one_trace(seen: Seen) -> None:
    """A revocation: the request, its message, DPS and the hub brought to what is wanted, the event."""

    def of_the_revocation() -> dict[str, ReceivedSpan]:
        asked = [each for each in seen.received.spans if each.name == "POST /api/devices/{registrationId}/revoke"]
        return {each.name: each for each in seen.received.spans if each.trace_id in {one.trace_id for one in asked}}

    names = {
        "POST /api/devices/{registrationId}/revoke",
        "send revocation-requests",
        "process revocation-requests",
        "converge device",
        "sign",
        "send provisioning-events",
    }
    spans = until("the spans of the revocation", of_the_revocation, lambda found: names <= set(found))
    asked = spans["POST /api/devices/{registrationId}/revoke"]
    assert asked.attributes["http.response.status_code"] == 202
    assert asked.attributes["device_factory.registration_id"] == DEVICE
    assert spans["converge device"].parent_id == spans["process revocation-requests"].span_id


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("device_factory.order.transitions", {"state": "completed"}),
        ("device_factory.device.transitions", {"state": "registered"}),
        ("device_factory.device.transitions", {"state": "revoked"}),
        ("device_factory.registration.duration", {"by": "service"}),
        ("device_factory.revocation.duration", {}),
        ("device_factory.signatures", {"ca": "line-1-ca1", "kind": "certificate"}),
        ("device_factory.signatures", {"ca": "line-1-ca1", "kind": "crl"}),
        ("device_factory.rejections", {"queue": "device-orders", "kind": "rejected"}),
        ("device_factory.dps.operations", {"kind": "registration"}),
        ("device_factory.dps.operations", {"kind": "service"}),
        ("messaging.process.duration", {"queue": "device-registrations", "outcome": "done"}),
        ("messaging.client.sent.messages", {"queue": "provisioning-events"}),
        ("http.client.request.duration", {"service": "tables"}),
        ("http.client.request.duration", {"service": "key_vault"}),
    ],
)
def test_a_metric_comes_with_what_was_done(seen: Seen, name: str, attributes: dict[str, str]) -> None:
    assert seen.metric(name, **attributes)


def test_every_metric_that_comes_is_one_that_is_declared(seen: Seen) -> None:
    declared = {each.name: each for each in METRICS}
    for point in seen.received.points:
        assert point.unit == declared[point.metric].unit
        assert set(point.attributes) <= set(declared[point.metric].attributes)


def test_no_metric_says_of_which_device_order_or_request_it_is(seen: Seen) -> None:
    ids = {DEVICE, "order-1", "bad", "root", "g"}
    told: set[Any] = {value for point in seen.received.points for value in point.attributes.values()}
    assert told & ids == set()
    assert not any(DEVICE in str(value) for value in told)


def test_the_log_comes_with_trace_and_order(seen: Seen) -> None:
    refused = until(
        "the line about the refusal",
        lambda: [each for each in seen.received.records if "rejected as" in each.body],
        bool,
    )[0]
    assert refused.severity == "WARN"
    assert refused.attributes["orderId"] == "bad"
    assert refused.attributes["traceparent"].startswith(f"00-{refused.trace_id}-")


def test_no_secret_is_in_anything_that_was_sent(seen: Seen) -> None:
    """Private keys, tokens, keys of the host and of the storage account, and what has the form of one."""
    assert len(seen.secrets) == 5
    for raw in seen.received.raw:
        assert not any(secret in raw for secret in seen.secrets)
        assert SECRETS.search(raw) is None
