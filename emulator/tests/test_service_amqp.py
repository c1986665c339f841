"""The service's side of a hub over AMQP: Microsoft's SDK sends to devices, and a raw client says what no SDK would."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import time
import uuid
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.iot.hub import IoTHubRegistryManager
from uamqp import TransportType

from emulator.platform.context import utc_now
from emulator.platform.identity.sas import IOT_HUB_POLICY
from emulator.protocols.amqp import connection, links
from emulator.protocols.amqp.composites import (
    Attach,
    Close,
    Coordinator,
    Detach,
    Disposition,
    End,
    Flow,
    Open,
    Properties,
    Rejected,
    SaslInit,
    Source,
    Target,
    Transfer,
)
from emulator.protocols.amqp.frames import AMQP_HEADER, SASL_HEADER, Frame, Header, encode_frame
from emulator.protocols.amqp.messages import Message
from emulator.protocols.amqp.types import Described, Symbol, ULong, encode
from emulator.services.iot_hub.cloud_to_device import Command, CommandQueues
from emulator.tests.amqp_clients import (
    DEVICEBOUND,
    FEEDBACK,
    IOT_HUB,
    ending,
    message_to,
    raw_client,
    trusted_client,
)
from emulator.tests.dps_clients import DpsService
from emulator.tests.iot_hub_clients import PATIENCE, device_certificate, device_client, eventually, registry_of
from emulator.tests.running import RunningEmulator, SetClock, can_bind, emulator_in_thread, own_address
from emulator.tests.test_sas import signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azure.identity import ManagedIdentityCredential

UNAUTHORIZED = "amqp:unauthorized-access"


@pytest.fixture
def device_id(emulator: RunningEmulator) -> str:
    """A device that the hub knows."""
    return made_device(emulator)


def made_device(emulator: RunningEmulator, hub: int = 0) -> str:
    name = f"device-{uuid.uuid4().hex[:8]}"
    DpsService(emulator).hub("PUT", f"/devices/{name}", {"deviceId": name}, hub=hub).raise_for_status()
    return name


def waiting(emulator: RunningEmulator, device_id: str) -> int:
    """How many messages wait for a device."""
    answer = DpsService(emulator).hub("GET", f"/devices/{device_id}")
    return int(answer.json()["cloudToDeviceMessageCount"])


@pytest.fixture(scope="module")
def trusting(emulator: RunningEmulator) -> Iterator[None]:
    """An environment in which Microsoft's SDK trusts the emulator, for the registry and for AMQP."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", emulator.ca_file)
        patch.setenv("SSL_CERT_FILE", emulator.ca_file)
        yield


@pytest.fixture(scope="module")
def registry(emulator: RunningEmulator, trusting: None) -> Iterator[IoTHubRegistryManager]:
    """Microsoft's service client with the owner's connection string."""
    del trusting
    with disconnecting(registry_of(emulator.endpoints)) as made:
        yield made


@contextmanager
def disconnecting(registry: IoTHubRegistryManager) -> Iterator[IoTHubRegistryManager]:
    """End the client's connection with the block; that takes up to a second."""
    try:
        yield registry
    finally:
        registry.amqp_svc_client.disconnect_sync()


@pytest.fixture
def faults(emulator: RunningEmulator) -> Iterator[Any]:
    """Plans one fault of this service; it is gone after the test."""

    def plan(**rule: Any) -> None:
        body = {"rules": [{"service": "iot_hub_service", "count": 1, **rule}]}
        requests.put(f"{emulator.admin_url}/faults", json=body, timeout=PATIENCE).raise_for_status()

    yield plan
    requests.delete(f"{emulator.admin_url}/faults", timeout=PATIENCE)


# --- Microsoft's SDK ---


def test_microsofts_service_sdk_sends_to_microsofts_device_sdk(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, tmp_path: Path
) -> None:
    """Body, application and system properties arrive as they were sent, and the message is then off the queue."""
    device_id = f"device-{uuid.uuid4().hex[:8]}"
    certificate = device_certificate(tmp_path, device_id)
    registry.create_device_with_x509(device_id, certificate.sha1, None, "enabled")
    expiry = int(time.time() + 600) * 1000
    with device_client(emulator.endpoints, device_id, certificate) as client:
        client.connect()
        received: list[Any] = []
        client.on_message_received = received.append
        properties = {
            "a name": "1 + 1 = 2",
            "number": 7,
            "messageId": "m-1",
            "correlationId": "c-1",
            "contentType": "application/json",
            "contentEncoding": "utf-8",
            "expiryTimeUtc": expiry,
        }
        registry.send_c2d_message(device_id, "wörk", properties)
        [message] = eventually(lambda: received, bool)
    assert message.data.decode() == "wörk"
    assert message.custom_properties == {"a name": "1 + 1 = 2", "number": "7"}
    assert (message.message_id, message.correlation_id) == ("m-1", "c-1")
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.expiry_time_utc == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expiry / 1000))
    assert eventually(lambda: waiting(emulator, device_id), lambda count: count == 0) == 0


def test_microsofts_sdk_sends_with_a_credential(
    emulator: RunningEmulator, managed_identity: ManagedIdentityCredential, trusting: None, device_id: str
) -> None:
    """The managed identity's token is as good as the owner's key, and sixty kilobytes go in as many frames as it takes."""
    del trusting
    host = emulator.https_url.removeprefix("https://")
    with disconnecting(IoTHubRegistryManager.from_token_credential(host, managed_identity)) as registry:
        registry.send_c2d_message(device_id, "x" * 65_000)
    assert waiting(emulator, device_id) == 1


def test_microsofts_sdk_is_told_that_a_message_is_refused(
    emulator: RunningEmulator, registry: IoTHubRegistryManager, device_id: str
) -> None:
    """An unknown device, a message that is too large and a full queue are exceptions; the client goes on working."""
    for name, body in (("nobody", "x"), (device_id, "x" * 65_537)):
        with pytest.raises(Exception, match="C2D message send failure"):
            registry.send_c2d_message(name, body)
    for number in range(50):
        registry.send_c2d_message(device_id, str(number))
    with pytest.raises(Exception, match="C2D message send failure"):
        registry.send_c2d_message(device_id, "the fifty-first")
    assert waiting(emulator, device_id) == 50


@pytest.mark.skipif(not can_bind(own_address(), 443), reason="port 443 needs a privilege here")
def test_microsofts_sdk_sends_over_websockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through port 443 alone, where the owner says so."""
    with emulator_in_thread(tmp_path, websocket_port=443) as emulator:
        monkeypatch.setenv("SSL_CERT_FILE", emulator.ca_file)
        device_id = made_device(emulator)
        owner = emulator.endpoints["iotHubConnectionStrings"][0]
        over_websockets = IoTHubRegistryManager.from_connection_string(owner, TransportType.AmqpOverWebsocket)
        with disconnecting(over_websockets) as registry:
            registry.send_c2d_message(device_id, "over 443")
        assert waiting(emulator, device_id) == 1


# --- who may ---


def owner_signature(emulator: RunningEmulator, resource: str, seconds: int = 60, key: bytes | None = None) -> str:
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    owner = emulator.context.sas_keys.hubs[host][IOT_HUB_POLICY]
    expiry = int(time.time()) + seconds
    return signature(resource, expiry, key=key or owner).replace("skn=owner", f"skn={IOT_HUB_POLICY}")


def tokens(emulator: RunningEmulator) -> dict[str, tuple[Any, str]]:
    """Tokens by what is wrong with them, and what the hub says to each."""
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    expired = emulator.context.tokens.issue(IOT_HUB, lifetime=timedelta(seconds=-1)).token
    return {
        "audience": (emulator.token("https://vault.azure.net"), "the token's audience is"),
        "expired": (f"Bearer {expired}", "the token expired at"),
        "signature": (emulator.token(IOT_HUB)[:-8] + "AAAAAAAA", "the token was not signed by this emulator"),
        "nonsense": ("secret", "the token is not a JSON Web Token"),
        "sas host": (owner_signature(emulator, "elsewhere"), "the signature is for 'elsewhere'"),
        "sas expired": (owner_signature(emulator, host, -1), "the signature expired at"),
        "sas key": (owner_signature(emulator, host, key=b"x"), "the signature does not match"),
        "sas of a device": (owner_signature(emulator, f"{host}/devices/d"), "the signature is for"),
    }


@pytest.mark.parametrize(
    "case", ["audience", "expired", "signature", "nonsense", "sas host", "sas expired", "sas key", "sas of a device"]
)
def test_a_bad_token_is_refused(emulator: RunningEmulator, case: str) -> None:
    """The answer of $cbs is 401 with the reason, and links to everything else are then refused."""
    token, reason = tokens(emulator)[case]
    with raw_client(emulator) as client:
        client.sign_in("MSSBCBS")
        client.open()
        client.begin()
        status, description = client.put_token(token)
        assert status == 401
        assert description.startswith(reason)
        assert client.refused(DEVICEBOUND) == (UNAUTHORIZED, "no token was put to $cbs")


@pytest.mark.parametrize("kind", ["servicebus.windows.net:sastoken", "bearer", "jwt"])
def test_good_tokens_come_in_several_forms(emulator: RunningEmulator, kind: str) -> None:
    """Microsoft's SDK for Node says "sastoken" to whatever it sends, so the token itself decides."""
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    token = emulator.token(IOT_HUB)
    with raw_client(emulator) as client:
        client.sign_in("ANONYMOUS")
        client.open()
        client.begin()
        for good in (token, f"Bearer {token}", owner_signature(emulator, host)):
            assert client.put_token(good, kind) == (200, "OK")
        client.close()


def test_a_withheld_role_is_401_and_takes_effect_at_once(emulator: RunningEmulator, device_id: str) -> None:
    """An identity without a role at the hub is refused, also on a link that is there already."""
    roles = f"{emulator.admin_url}/roles"
    with trusted_client(emulator) as client:
        handle = client.sender()
        try:
            requests.put(roles, json={"withheld": ["iot_hub"]}, timeout=PATIENCE).raise_for_status()
            client.transfer(handle, message_to(device_id))
            error = client.next(Detach).error
            assert error is not None
            assert (error.condition, error.description) == (UNAUTHORIZED, "the identity has no role at this service")
            assert client.put_token(emulator.token(IOT_HUB), "jwt") == (401, "the identity has no role at this service")
        finally:
            requests.put(roles, json={"withheld": []}, timeout=PATIENCE).raise_for_status()
    assert waiting(emulator, device_id) == 0


def test_a_token_ends_with_its_time(tmp_path: Path) -> None:
    """A link whose token has expired is detached; with a new token it may be attached again."""
    clock = SetClock()
    with emulator_in_thread(tmp_path, clock=clock) as emulator:
        device_id = made_device(emulator)
        with trusted_client(emulator) as client:
            handle = client.sender()
            clock.pass_(24 * 3600)
            client.transfer(handle, message_to(device_id))
            detach = client.next(Detach)
            assert detach.error is not None
            assert detach.error.condition == UNAUTHORIZED
            client.send(Detach(handle=handle, closed=True))
            assert client.put_token(emulator.token(IOT_HUB), "bearer") == (200, "OK")
            assert client.outcome(client.sender(), message_to(device_id)) is None


@pytest.mark.parametrize(
    ("token", "kind", "operation", "answer"),
    [
        ("x", "jwt", "delete-token", (501, "$cbs knows put-token, and not 'delete-token'")),
        ("x", "saml", "put-token", (400, "a token is a text of one of the types bearer, jwt, servicebus.windows.net:sastoken")),
        (7, "jwt", "put-token", (400, "a token is a text of one of the types bearer, jwt, servicebus.windows.net:sastoken")),
    ],
)  # fmt: skip
def test_other_requests_to_cbs_are_named(
    emulator: RunningEmulator, token: Any, kind: str, operation: str, answer: tuple[int, str]
) -> None:
    """What is not a put-token with a known type gets a status of its own."""
    with raw_client(emulator) as client:
        client.sign_in("ANONYMOUS")
        client.open()
        client.begin()
        assert client.put_token(token, kind, operation) == answer


def test_cbs_needs_somewhere_to_answer(emulator: RunningEmulator) -> None:
    """A request before there is a link for its answer, and one that is not a message, are rejected."""
    with raw_client(emulator) as client:
        client.sign_in("ANONYMOUS")
        client.open()
        client.begin()
        handle = client.sender("$cbs")
        expected = ("amqp:precondition-failed", "attach a link that receives from $cbs first")
        assert client.outcome(handle, Message(body="token", has_data=False)) == expected
        client.receiver("$cbs")
        assert client.outcome(handle, b"\x99")[0] == "amqp:decode-error"


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        ("iothubowner@sas.root.hub", "good", 0),
        ("iothubowner@sas.root.hub", "bad", 1),
        ("iothubowner", "good", 1),
    ],
)
def test_a_signature_may_be_a_password(
    emulator: RunningEmulator, device_id: str, user: str, password: str, code: int
) -> None:
    """SASL PLAIN takes the owner's signature, and then no token is needed; anything else ends the connection."""
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    secret = owner_signature(emulator, host, key=None if password == "good" else b"x")
    with raw_client(emulator) as client:
        assert client.sign_in("PLAIN", f"\0{user}\0{secret}".encode()) == code
        if code:
            assert client.hear() is None
            return
        client.open()
        client.begin()
        assert client.outcome(client.sender(), message_to(device_id)) is None


@pytest.mark.parametrize("response", [None, b"", b"no zeros", b"\0a\0b\0c", b"\xff\xfe"])
def test_a_password_that_cannot_be_read_is_refused(emulator: RunningEmulator, response: bytes | None) -> None:
    """Three parts, and nothing else."""
    with raw_client(emulator) as client:
        assert client.sign_in("PLAIN", response) == 1
        assert client.hear() is None


def test_an_unknown_mechanism_is_refused(emulator: RunningEmulator) -> None:
    """EXTERNAL is for devices, and SCRAM for nobody."""
    for mechanism in ("EXTERNAL", "SCRAM-SHA-256"):
        with raw_client(emulator) as client:
            assert client.sign_in(mechanism) == 1
            assert client.hear() is None


# --- messages ---


def test_a_message_keeps_everything_that_a_device_can_read(emulator: RunningEmulator, device_id: str) -> None:
    """System properties of every type become text; several data sections become one body."""
    message = message_to(
        device_id,
        b"one ",
        message_id=uuid.UUID(int=1),
        correlation_id=ULong(7),
        user_id=b"somebody",
        content_type="text/plain",
        content_encoding="utf-8",
        absolute_expiry_time=4_102_444_800_000,
    )
    given = {"text": "t", "whole": 1, "part": 0.5, "yes": True, "octets": b"o", "id": uuid.UUID(int=2), "": Symbol("s")}
    octets = Message(body=b"one ", properties=message.properties, application_properties=given).encode()
    with trusted_client(emulator) as client:
        assert client.outcome(client.sender(), octets + encode(Described(ULong(0x75), b"two"))) is None
    queued = emulator.run(read_queue(emulator, device_id))
    assert [each.payload for each in queued] == [b"one two"]
    bag = queued[0].topic.partition("devicebound/")[2].split("&")
    assert sorted(bag) == sorted(
        [
            "%24.mid=00000000-0000-0000-0000-000000000001",
            "%24.cid=7",
            "%24.uid=somebody",
            "%24.ct=text%2Fplain",
            "%24.ce=utf-8",
            "%24.exp=2100-01-01T00%3A00%3A00Z",
            f"%24.to=%2Fdevices%2F{device_id}%2Fmessages%2Fdevicebound",
            *("text=t", "whole=1", "part=0.5", "yes=true", "octets=o", "=s"),
            "id=00000000-0000-0000-0000-000000000002",
        ]
    )


async def read_queue(emulator: RunningEmulator, device_id: str) -> list[Command]:
    host = emulator.endpoints["iotHubs"][0]["hostName"]
    return CommandQueues(emulator.context.store, host, lambda *_: None).deliver(device_id, utc_now(), skip=())


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        (
            {"properties": Properties(to="/devices/nobody/messages/deviceBound")},
            ("amqp:not-found", "ErrorCode:DeviceNotFound;nobody"),
        ),
        (
            {"properties": Properties()},
            ("com.microsoft:argument-error", "ErrorCode:ArgumentInvalid;'to' is None, and not /devices/{id}/messages/devicebound."),
        ),
        (
            {"properties": Properties(to="/devices/d/modules/m/messages/devicebound")},
            ("amqp:not-implemented", "ErrorCode:NotImplemented;The emulator does not offer messages to modules."),
        ),
        (
            {"body": "text", "has_data": False},
            ("amqp:not-implemented", "ErrorCode:NotImplemented;The emulator does not offer bodies other than data sections."),
        ),
        (
            {"application_properties": {"list": []}},
            ("com.microsoft:argument-error", "ErrorCode:ArgumentInvalid;the property 'list' is neither text nor number."),
        ),
        (
            {"application_properties": {"octets": b"\xff"}},
            ("com.microsoft:argument-error", "ErrorCode:ArgumentInvalid;the property 'octets' is not UTF-8."),
        ),
        (
            {"properties": Properties(to="/devices/d/messages/devicebound", absolute_expiry_time=2**62)},
            ("com.microsoft:argument-error", f"ErrorCode:ArgumentInvalid;absolute-expiry-time {2**62} is beyond the year 9999."),
        ),
        (
            {"body": b"x" * 70_000},
            ("amqp:link:message-size-exceeded", "ErrorCode:MessageTooLarge;The message has 70000 bytes; at most 65536 are allowed."),
        ),
    ],
)  # fmt: skip
def test_a_message_that_breaks_a_rule_is_rejected(
    emulator: RunningEmulator, device_id: str, fields: dict[str, Any], outcome: tuple[str, str]
) -> None:
    """The condition is the one that Microsoft's SDKs know, and the link goes on."""
    whole = {"body": b"x", "properties": message_to(device_id).properties, **fields}
    with trusted_client(emulator) as client:
        handle = client.sender()
        octets = Message(**whole).encode()
        pieces = [octets[at : at + 60_000] for at in range(0, len(octets), 60_000)]
        for piece in pieces:
            more = piece is not pieces[-1]
            client.send(Transfer(handle=handle, delivery_id=7, delivery_tag=b"7", more=more), piece)
        assert client.told() == outcome
        assert client.outcome(handle, message_to(device_id)) is None


def test_a_full_queue_is_a_limit_exceeded(emulator: RunningEmulator, device_id: str) -> None:
    """Fifty messages wait; the next is rejected as the SDKs expect it, and the admin port says the same."""
    with trusted_client(emulator) as client:
        handle = client.sender()
        assert [client.outcome(handle, message_to(device_id)) for _ in range(50)] == [None] * 50
        condition, description = client.outcome(handle, message_to(device_id))
    assert condition == "amqp:resource-limit-exceeded"
    assert description.startswith("ErrorCode:DeviceMaximumQueueDepthExceeded;")


def test_credit_comes_back(emulator: RunningEmulator) -> None:
    """A client that sends a hundred messages ahead is told of each, and may then send more."""
    with trusted_client(emulator) as client:
        handle = client.sender()
        for _ in range(100):
            client.transfer(handle, message_to("nobody"))
        heard = [client.frame()[0] for _ in range(101)]
        flows = [each for each in heard if isinstance(each, Flow)]
        assert [(each.delivery_count, each.link_credit) for each in flows] == [(50, 100)]
        assert {each.state.error.condition for each in heard if isinstance(each, Disposition)} == {"amqp:not-found"}


def test_a_client_without_credit_loses_its_link(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that was not asked for detaches the link."""
    with trusted_client(emulator) as client:
        monkeypatch.setattr(links, "CREDIT", 0)
        handle = client.attach(DEVICEBOUND).handle
        assert client.next(Flow).link_credit == 0
        client.transfer(handle, message_to("nobody"))
        error = client.next(Detach).error
        assert error is not None
        assert (error.condition, error.description) == (
            "amqp:link:transfer-limit-exceeded",
            "the link has no credit left",
        )


def test_settled_aborted_and_empty_transfers(emulator: RunningEmulator, device_id: str) -> None:
    """A settled message is queued without an answer, an aborted one is not, and an echo is answered."""
    with trusted_client(emulator) as client:
        handle = client.sender()
        client.transfer(handle, message_to(device_id), settled=True)
        client.send(Transfer(handle=handle, delivery_id=8, more=True), b"half")
        client.send(Transfer(handle=handle, aborted=True))
        client.allow(handle, 0, echo=True)
        flow = client.next(Flow)
        assert (flow.handle, flow.delivery_count, flow.link_credit, flow.next_incoming_id) == (handle, 2, 98, 4)
        assert client.outcome(handle, b"") == (
            "com.microsoft:argument-error",
            "ErrorCode:ArgumentInvalid;'to' is None, and not /devices/{id}/messages/devicebound.",
        )
    assert waiting(emulator, device_id) == 1


# --- links and sessions ---


@pytest.mark.parametrize(
    ("address", "receives", "error"),
    [
        ("/messages/serviceBound/filenotifications", True, ("amqp:not-implemented", "The emulator does not offer file notifications.")),
        ("/messages/events", True, ("amqp:not-implemented", "The emulator does not offer the Event Hubs endpoint.")),
        ("/messages/events/ConsumerGroups/$Default/Partitions/0", True, ("amqp:not-implemented", "The emulator does not offer the Event Hubs endpoint.")),
        ("messages/events/", True, ("amqp:not-implemented", "The emulator does not offer the Event Hubs endpoint.")),
        ("/messages/eventsource", True, ("amqp:not-found", "the hub has no node '/messages/eventsource' for services")),
        ("amqps://hub/else", False, ("amqp:not-found", "the hub has no node 'amqps://hub/else' for services")),
        (DEVICEBOUND, True, ("amqp:not-allowed", "services send to /messages/devicebound, and receive from /messages/servicebound/feedback")),
        (FEEDBACK, False, ("amqp:not-allowed", "services send to /messages/devicebound, and receive from /messages/servicebound/feedback")),
        (None, False, ("amqp:invalid-field", "a link needs the address of a node; this one has None")),
        (ULong(1), False, ("amqp:invalid-field", "a link needs the address of a node; this one has 1")),
    ],
)  # fmt: skip
def test_other_nodes_are_refused_by_name(
    emulator: RunningEmulator, address: Any, error: tuple[str, str], *, receives: bool
) -> None:
    """What is missing says so, and the session goes on."""
    with trusted_client(emulator) as client:
        assert client.refused(address, receives=receives) == error
        client.close()


def test_what_amqp_has_besides_is_refused_by_name(emulator: RunningEmulator) -> None:
    """Transactions, dynamic nodes and resumed deliveries."""
    with trusted_client(emulator) as client:
        expected = ("amqp:not-implemented", "transactions are not offered")
        assert client.refused("", target=Coordinator()) == expected
        expected = ("amqp:not-implemented", "dynamic nodes are not offered")
        assert client.refused("", target=Target(dynamic=True)) == expected
        assert client.refused("", receives=True, source=Source(dynamic=True)) == expected
        handle = client.sender()
        client.send(Transfer(handle=handle, delivery_id=9, resume=True))
        error = client.next(Detach).error
        assert error is not None
        assert (error.condition, error.description) == ("amqp:not-implemented", "deliveries are not resumed")


def test_links_and_sessions_come_and_go(emulator: RunningEmulator, device_id: str) -> None:
    """A handle and a channel are free again when both sides have let go of them."""
    with trusted_client(emulator) as client:
        handle = client.sender()
        client.send(Detach(handle=handle))
        assert client.next(Detach) == Detach(handle=handle)
        client.begin(channel=5)
        client.send(End(), channel=5)
        assert client.next(End).error is None
        client.begin(channel=5)
        assert client.outcome(client.sender(), message_to(device_id)) is None
        client.close()


@pytest.mark.parametrize(
    ("performative", "condition"),
    [
        (Transfer(handle=9, delivery_id=0), "amqp:session:unattached-handle"),
        (Flow(incoming_window=1, next_outgoing_id=0, outgoing_window=1, handle=9), "amqp:session:unattached-handle"),
        (Detach(handle=9), "amqp:session:unattached-handle"),
        (Transfer(handle=0, delivery_id=0), "amqp:session:errant-link"),
        (Attach(link="again", handle=0, role=False), "amqp:session:handle-in-use"),
    ],
)
def test_a_mistake_ends_the_session_alone(emulator: RunningEmulator, performative: Any, condition: str) -> None:
    """The session ends with a condition, what was under way is ignored, and its channel is free again."""
    with trusted_client(emulator) as client:
        client.send(performative)
        error = client.next(End).error
        assert error is not None
        assert error.condition == condition
        client.send(performative)
        client.send(End())
        client.begin()
        client.close()


def test_a_message_without_an_end_is_cut_off(emulator: RunningEmulator) -> None:
    """Over the link's size the link is detached, however many frames would follow."""
    with trusted_client(emulator) as client:
        answer = client.attach(DEVICEBOUND)
        assert answer.max_message_size == 262_144
        client.next(Flow)
        for _ in range(6):
            client.send(Transfer(handle=answer.handle, delivery_id=0, more=True), b"x" * 50_000)
        error = client.next(Detach).error
        assert error is not None
        assert error.condition == "amqp:link:message-size-exceeded"
        client.close()


# --- connections ---

BEGUN = SASL_HEADER + encode_frame(SaslInit(mechanism="ANONYMOUS"), kind=1) + AMQP_HEADER
OPENED = BEGUN + encode_frame(Open(container_id="raw"))


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"\x10\x10\0\4MQTT\4\2\0\0\0\4junk",
        bytes(64),
        b"AMQP\2\1\0\0",
        b"AMQP\0\0\x09\1",
        encode_frame(Open(container_id="no header")),
    ],
)
def test_another_protocol_is_told_which_one_is_spoken(emulator: RunningEmulator, octets: bytes) -> None:
    """Who begins with anything else gets the header of AMQP 1.0 and is left (section 2.2)."""
    with raw_client(emulator) as client:
        client.say(octets)
        assert client.hear() == Header(AMQP_HEADER)
        assert client.hear() is None


@pytest.mark.parametrize(
    ("octets", "condition"),
    [
        (BEGUN + b"\xff" * 16, "amqp:connection:framing-error"),
        (BEGUN + AMQP_HEADER, "amqp:connection:framing-error"),
        (BEGUN + encode_frame(SaslInit(mechanism="ANONYMOUS"), kind=1), "amqp:connection:framing-error"),
        (BEGUN + struct.pack(">IBBH", 9, 2, 0, 0) + b"\x99", "amqp:decode-error"),
        (BEGUN + encode_frame(Close()), "amqp:not-allowed"),
        (OPENED + struct.pack(">IBBH", 65_537, 2, 0, 0), "amqp:connection:framing-error"),
        (OPENED + encode_frame(Open(container_id="again")), "amqp:not-allowed"),
        (OPENED + encode_frame(Detach(handle=0)), "amqp:not-allowed"),
        (OPENED + encode_frame(End(), channel=3), "amqp:not-allowed"),
        (OPENED + encode_frame(Rejected()), "amqp:not-allowed"),
        (OPENED + struct.pack(">IBBH", 11, 2, 0, 0) + b"\0\x53\x10", "amqp:decode-error"),
        (OPENED + struct.pack(">IBBH", 12, 2, 0, 0) + b"\0\x53\x99\x45", "amqp:decode-error"),
    ],
)
def test_a_mistake_ends_the_connection_with_a_condition(
    emulator: RunningEmulator, octets: bytes, condition: str
) -> None:
    """The close says why, and comes after an open."""
    with raw_client(emulator) as client:
        client.say(octets)
        assert ending(client)[0] == condition


@pytest.mark.parametrize("length", [0, 3, 8, 20, 30, 40, len(OPENED) - 1, len(OPENED)])
def test_half_of_a_beginning_harms_nobody(emulator: RunningEmulator, length: int) -> None:
    """A client that goes at any point leaves nothing behind, and the next one is served."""
    with raw_client(emulator) as client:
        client.say(OPENED[:length])
    with raw_client(emulator) as client:
        client.say(AMQP_HEADER + encode_frame(Open(container_id="raw")) + encode_frame(Close()))
        assert client.hear() == Header(AMQP_HEADER)
        assert client.next(Open).container_id == emulator.endpoints["iotHubs"][0]["hostName"]
        assert client.next(Close).error is None


def test_a_silent_client_is_given_up(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never opens, and one that says nothing for twice the time it was told."""
    monkeypatch.setattr(connection, "OPEN_SECONDS", 0.05)
    with raw_client(emulator) as client:
        client.say(AMQP_HEADER)
        assert ending(client) == ("amqp:resource-limit-exceeded", "the client kept silent for too long")
    monkeypatch.undo()
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.05)
    with raw_client(emulator) as client:
        assert client.open().idle_time_out == 50
        assert ending(client) == ("amqp:resource-limit-exceeded", "the client kept silent for too long")


def test_heartbeats_go_both_ways(emulator: RunningEmulator) -> None:
    """Who wants to hear something every so often does, and an empty frame of the client's is taken."""
    with raw_client(emulator) as client:
        client.open(idle_time_out=200)
        beats = [client.hear() for _ in range(3)]
        assert beats == [beats[0]] * 3
        assert getattr(beats[0], "body", None) == b""
        client.say(encode_frame(None))
        client.say(encode_frame(Close()))
        while (heard := client.hear()) == beats[0]:
            pass
        assert isinstance(heard, Frame)
        assert heard.read() == (Close(), b"")


def test_each_hub_listens_on_its_own_address(tmp_path: Path) -> None:
    """A device is known to its hub alone, and one hub's owner is a stranger to the other."""
    with emulator_in_thread(tmp_path, extra_hub_addresses=[own_address()]) as emulator:
        device_id = made_device(emulator, 1)
        with trusted_client(emulator) as client:
            assert client.outcome(client.sender(), message_to(device_id))[0] == "amqp:not-found"
        with trusted_client(emulator, 1) as client:
            assert client.outcome(client.sender(), message_to(device_id)) is None
            host = emulator.endpoints["iotHubs"][0]["hostName"]
            assert client.put_token(owner_signature(emulator, host))[0] == 401


@pytest.mark.parametrize("path", ["/$iothub/websocket", "/$servicebus/websocket/"])
def test_websockets_carry_it_too(emulator: RunningEmulator, path: str) -> None:
    """The subprotocol AMQPWSB10 leads to the same place, in binary frames (RFC 6455)."""
    host, port = emulator.endpoints["iotHubs"][0]["hostName"], emulator.endpoints["websocketPort"]
    context = ssl.create_default_context(cafile=emulator.ca_file)
    said = OPENED + encode_frame(Close())
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
        "Sec-WebSocket-Protocol: AMQPWSB10\r\n\r\n"
    )
    with (
        socket.create_connection((host, port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        masked = bytes((0x82, 0x80 | len(said), 0, 0, 0, 0)) + said
        secured.sendall(request.encode() + masked)
        heard = b""
        while encode_frame(Close()) not in heard:
            received = secured.recv(65_536)
            assert received
            heard += received
        secured.sendall(bytes((0x88, 0x80, 0, 0, 0, 0)))
    headers, _, carried = heard.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Protocol: AMQPWSB10" in headers
    assert carried.index(SASL_HEADER) < carried.index(AMQP_HEADER)


# --- rates and planned faults ---


def test_the_rate_of_messages_holds(tmp_path: Path) -> None:
    """Over the hub's rate a message is rejected as throttled; a rejected one counts towards nothing."""
    clock = SetClock()
    with emulator_in_thread(tmp_path, clock=clock) as emulator:
        device_id = made_device(emulator)
        throttling = f"{emulator.admin_url}/throttling"
        requests.put(throttling, json={"enabled": True, "scale": 0.01}, timeout=PATIENCE).raise_for_status()
        with trusted_client(emulator) as client:
            handle = client.sender()
            assert client.outcome(handle, message_to(device_id)) is None
            condition, description = client.outcome(handle, message_to(device_id))
            assert condition == "com.microsoft:device-container-throttled"
            assert description.startswith("ErrorCode:ThrottlingException;")
            clock.pass_(60)
            assert client.outcome(handle, message_to(device_id)) is None


@pytest.mark.parametrize(
    ("status", "condition"), [(503, "com.microsoft:timeout"), (404, "amqp:not-found"), (500, "amqp:internal-error")]
)
def test_a_planned_status_is_a_message_s_outcome(
    emulator: RunningEmulator, device_id: str, faults: Any, status: int, condition: str
) -> None:
    """It is rejected once, after the time that is planned, with the condition that stands for the status."""
    faults(operation="sendMessage", status=status, latencyMilliseconds=1)
    with trusted_client(emulator) as client:
        handle = client.sender()
        assert client.outcome(handle, message_to(device_id)) == (condition, f"a planned fault: {status}")
        assert client.outcome(handle, message_to(device_id)) is None
    assert waiting(emulator, device_id) == 1


@pytest.mark.parametrize(("drop", "queued"), [("request", 0), ("response", 1)])
def test_a_planned_drop_ends_the_connection(
    emulator: RunningEmulator, device_id: str, faults: Any, drop: str, queued: int
) -> None:
    """Before the message is queued, or after; the client learns nothing of it."""
    faults(operation="sendMessage", drop=drop)
    with trusted_client(emulator) as client:
        client.transfer(client.sender(), message_to(device_id))
        assert client.hear() is None
    assert waiting(emulator, device_id) == queued


def test_planned_faults_meet_beginnings_too(emulator: RunningEmulator, faults: Any) -> None:
    """A connection is closed with the condition, and a token answered with the status."""
    faults(operation="connect", status=401)
    with raw_client(emulator) as client:
        client.open()
        assert ending(client) == (UNAUTHORIZED, "a planned fault: 401")
    faults(operation="putToken", status=500)
    with raw_client(emulator) as client:
        client.open()
        client.begin()
        token = emulator.token(IOT_HUB)
        assert client.put_token(token, "jwt") == (500, "a planned fault: 500")
        assert client.put_token(token, "jwt") == (200, "OK")
