"""Queues in storage accounts of their own: what is sent, taken, swept and looked at there, and who is named for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.adapters.queue_accounts import QueueAccounts
from shared.clients import Clients
from shared.contracts.messages import ALL_QUEUES, INBOUND_QUEUES, Message, Queue
from shared.domain.callers import Actor, CallerKind
from shared.domain.in_hand import HeldMessage, WorkerRecord
from shared.ledger.in_hand import InHandRows
from shared.reading.queue_settings import CONNECTIONS, account_of, connection_of
from shared.rules.zones import Zone
from shared.services import build
from shared.settings import Settings
from shared.telemetry.metrics import QUEUE_AGE, received
from shared.workflows.intake.in_hand import InHand
from shared.workflows.status.measurements import Measurements
from tests.measured import Kept
from tests.unit.fakes import FakeQueues, FakeTable
from tests.unit.test_settings import GOOD, problems
from tests.unit.test_zones import CHECKS, LEAST
from tests.world.conductor import Conductor
from tests.world.storage import Queues
from triggers import poison, queues
from triggers.asyncapi import document
from triggers.senders import sender_of
from triggers.zones import blueprints_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ERP = "https://erp.queue.core.windows.net"
ORDERS_APART = {"DeviceOrdersStorage__queueServiceUri": f"{ERP}/", "DeviceOrdersStorage__clientId": "erp-id"}
ORDERS = {"device-orders", "device-orders-poison"}


def two_accounts() -> tuple[QueueAccounts, FakeQueues, FakeQueues]:
    shared, own = FakeQueues(), FakeQueues()
    some: dict[str, Any] = {"shared": shared, "own": {"device-orders": own}}
    return QueueAccounts(**some), shared, own


@pytest.mark.parametrize("queue", ALL_QUEUES)
async def test_a_message_is_sent_and_taken_where_its_queue_is(queue: str) -> None:
    """A replay, a message that is put back, and the sweep of a poison queue go by the name alone."""
    accounts, shared, own = two_accounts()
    there, elsewhere = (own, shared) if queue in ORDERS else (shared, own)
    await accounts.send(queue, '{"n": 1}', delay=timedelta())
    assert [each[0] for each in there.sent] == [queue]
    assert elsewhere.sent == []
    [message] = [each async for each in accounts.take(queue, lease=timedelta(minutes=5))]
    await accounts.delete(queue, message.message_id, message.receipt)
    assert [each async for each in accounts.take(queue, lease=timedelta(minutes=5))] == []
    there.since[queue] = NOW
    assert await accounts.waiting_since(queue) == NOW


async def test_each_account_is_asked_for_its_own_queues() -> None:
    """A queue that moved is not looked for where it was."""
    accounts, shared, own = two_accounts()
    asked: list[tuple[str, str]] = []
    for name, account in (("shared", shared), ("own", own)):
        account.check = noted(asked, name)  # type: ignore[method-assign]
    await accounts.check("device-orders", "device-orders-poison", "renewal-requests")
    assert asked == [("own", "device-orders"), ("own", "device-orders-poison"), ("shared", "renewal-requests")]


def noted(asked: list[tuple[str, str]], account: str) -> Any:
    async def check(*names: str) -> None:
        asked.extend((account, name) for name in names)

    return check


# --- settings ---


def test_the_queues_that_may_have_an_account_of_their_own_are_those_that_others_write_into() -> None:
    """The app's own messages are in the account that it alone writes into, beside what it sends."""
    own = {Queue.DEVICE_REGISTRATIONS, Queue.RENEWAL_REQUESTS}
    assert set(CONNECTIONS) == {each.value for each in INBOUND_QUEUES if each not in own}
    assert set(CONNECTIONS) < set(document()["channels"])


@pytest.mark.parametrize("queue", [each for queue in INBOUND_QUEUES for each in (queue.value, queue.poison)])
def test_a_trigger_has_the_connection_of_its_queues_account(queue: str) -> None:
    """The host reads ``<connection>__queueServiceUri``, and puts what fails into the poison queue there."""
    assert connection_of(queue, {}) == "DeviceFactoryStorage"
    assert connection_of(queue, {"DeviceOrdersStorage__queueServiceUri": " "}) == "DeviceFactoryStorage"
    expected = "DeviceOrdersStorage" if queue in ORDERS else "DeviceFactoryStorage"
    assert connection_of(queue, ORDERS_APART) == expected


def test_each_trigger_is_registered_with_the_connection_of_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[tuple[str, str]] = []

    class Home:
        def function_name(self, _name: str) -> Any:
            return lambda function: function

        def queue_trigger(self, *, arg_name: str, queue_name: str, connection: str) -> Any:
            assert arg_name == "message"
            registered.append((queue_name, connection))
            return lambda function: function

    monkeypatch.setattr(queues, "blueprint_of", lambda _name: Home())
    for name, value in ORDERS_APART.items():
        monkeypatch.setenv(name, value)
    for queue in (Queue.DEVICE_ORDERS, Queue.RENEWAL_REQUESTS):
        queues.listen(queue)
    assert registered == [
        ("device-orders", "DeviceOrdersStorage"),
        ("device-orders-poison", "DeviceOrdersStorage"),
        ("renewal-requests", "DeviceFactoryStorage"),
        ("renewal-requests-poison", "DeviceFactoryStorage"),
    ]
    assert blueprints_of(Zone.ALL)


@pytest.mark.parametrize(
    ("url", "account"),
    [
        ("https://stintake1.queue.core.windows.net/", "stintake1"),
        ("https://stintake1.queue.core.windows.net", "stintake1"),
        ("https://127.0.0.1:10001/devstoreaccount1", "devstoreaccount1"),
    ],
)
def test_an_account_is_named_by_its_url(url: str, account: str) -> None:
    assert account_of(url) == account


def test_by_default_all_queues_are_in_one_account() -> None:
    settings = Settings.from_environment(GOOD)
    assert settings.queue_accounts == {}
    assert {settings.account_of_queue(queue) for queue in ALL_QUEUES} == {account_of(settings.queue_service_url)}


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "DeviceOrdersStorage",
            "AccountKey=x",
            "DeviceOrdersStorage holds a credential; set DeviceOrdersStorage__queueServiceUri and "
            "__credential=managedidentity instead",
        ),
        (
            "RevocationRequestsStorage__accountKey",
            "x",
            "RevocationRequestsStorage__accountKey holds a credential; set "
            "RevocationRequestsStorage__queueServiceUri and __credential=managedidentity instead",
        ),
        (
            "DeviceOrdersStorage__queueServiceUri",
            "http://erp",
            "DeviceOrdersStorage__queueServiceUri is 'http://erp'; it must be an https:// URL, since tokens travel over it",
        ),
        (
            "QUEUE_SENDERS",
            "renewal-requests=ERP",
            "QUEUE_SENDERS has 'renewal-requests=ERP'; an entry is queue=name, with a queue of certificate-requests, "
            "enrollment-group-requests, device-orders, revocation-requests",
        ),
        ("QUEUE_SENDERS", "device-orders=A;device-orders=B", "QUEUE_SENDERS names device-orders twice"),
        (
            "QUEUE_SENDERS",
            "device-orders=A\x1b[2J",
            "QUEUE_SENDERS names who puts messages into device-orders by what is not one line of 100 characters at most",
        ),
    ],
)
def test_what_is_wrong_with_these_settings_is_named(name: str, value: str, problem: str) -> None:
    """No key of an account, no queue that nobody else writes into."""
    assert problems(**{name: value}) == [problem]


# --- clients and readiness ---


async def test_an_account_of_its_own_is_reached_with_its_own_identity() -> None:
    """The other queues keep the identity that the app has everywhere."""
    settings = Settings.from_environment({**GOOD, **ORDERS_APART})
    clients = Clients.open(settings)
    assert set(clients.queues.own) == {"device-orders"}
    own: Any = clients.queues.at("device-orders-poison")
    assert own.url == ERP
    assert own.credential is clients.queue_identities[0].asynchronous
    shared: Any = clients.queues.at("renewal-requests")
    assert shared.credential is clients.identity.asynchronous
    await clients.close()


@pytest.mark.parametrize("zone", Zone)
async def test_readiness_asks_each_account_that_the_zone_uses(zone: Zone) -> None:
    """By the name of its queue; the revocations' zone has nothing to do with orders."""
    given = LEAST.get(zone, GOOD)
    more = {"IOT_HUBS": "h.azure-devices.net", "WEBHOOK_SECRET_NAME": "webhook-key", **ORDERS_APART}
    services = build(Settings.from_environment({"ZONE": zone, **given, **more}))
    uses = {Zone.ALL, Zone.INTAKE, Zone.ISSUING}
    assert set(services.readiness.checks) == CHECKS[zone] | ({"queue device-orders"} if zone in uses else set())
    if zone in uses:
        names = {
            name: set(getattr(services.readiness.checks[name], "args", ()))
            for name in ("queues", "queue device-orders")
        }
        assert names["queue device-orders"] == (ORDERS if zone is not Zone.INTAKE else {"device-orders"})
        assert not names["queues"] & ORDERS
        assert "renewal-requests" in names["queues"]
    await services.close()


# --- who is named ---


@pytest.mark.parametrize(
    ("source", "claimed"),
    [
        ("/erp/sap", "/erp/sap"),
        (None, None),
        ("/unknown", None),
        ("/device-identity-factory", "/device-identity-factory"),
    ],
)
def test_the_actor_of_a_message_is_its_queue_and_account_and_what_it_claims_stands_apart(
    source: str | None, claimed: str | None
) -> None:
    """A message can call itself what it likes; who may put it there, Azure RBAC knows, and the settings name."""
    settings = Settings.from_environment({**GOOD, **ORDERS_APART, "QUEUE_SENDERS": "device-orders = SAP ERP"})
    said = Message({}, source=source)
    assert sender_of(Queue.DEVICE_ORDERS, said, settings) == Actor(
        kind=CallerKind.QUEUE, id="device-orders", account="erp", name="SAP ERP", source=claimed
    )
    assert sender_of(Queue.REVOCATION_REQUESTS, said, settings) == Actor(
        kind=CallerKind.QUEUE,
        id="revocation-requests",
        account=account_of(settings.queue_service_url),
        source=claimed,
    )
    assert sender_of(Queue.DEVICE_REGISTRATIONS, said, settings) is None


def test_the_log_of_certificates_has_the_account_and_no_claim() -> None:
    actor = Actor(kind=CallerKind.QUEUE, id="device-orders", account="erp", name="SAP ERP", source="/plant/ada")
    assert actor.label == "queue:erp/device-orders"
    assert Actor(kind=CallerKind.USER, id="5b54").label == "user:5b54"


# --- one account is down, and the others are not ---


def one_is_down() -> tuple[QueueAccounts, FakeQueues]:
    shared, own = FakeQueues(), Queues(Conductor())
    own.conductor.down = {"queues"}
    some: dict[str, Any] = {"shared": shared, "own": {"certificate-requests": own}}
    return QueueAccounts(**some), shared


async def test_poison_queues_of_other_accounts_are_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is down comes first; what lies behind it is kept all the same, and the timer says what failed."""
    queues, shared = one_is_down()
    await shared.send("revocation-requests-poison", '{"requestId": "r"}')
    kept: list[str] = []

    async def record_poison(message: Any) -> str:
        kept.append(message.queue)
        return "rejection"

    some: Any = SimpleNamespace(
        clients=SimpleNamespace(queues=queues), rejected_messages=SimpleNamespace(record_poison=record_poison)
    )
    monkeypatch.setattr(poison, "services", lambda: some)
    with pytest.raises(ServiceRequestError):
        await poison.sweep()
    assert kept == ["revocation-requests"]


async def test_what_a_killed_worker_had_in_hand_goes_back_into_the_other_accounts() -> None:
    """What could not be put back is there for the next sweep, and nothing is put back twice."""
    queues, shared = one_is_down()
    table, later = FakeTable(), NOW + timedelta(minutes=5)
    rows = InHandRows(table)
    await rows.see(WorkerRecord(worker="killed", seen_at=NOW))
    held = [
        HeldMessage(worker="killed", message_id=queue, queue=queue, text="{}")
        for queue in ("certificate-requests", "renewal-requests")
    ]
    await rows.change("killed", held, [])
    subject = InHand(rows=rows, queues=queues, clock=lambda: later)
    for _ in range(2):
        with pytest.raises(ServiceRequestError):
            await subject.sweep(INBOUND_QUEUES)
    assert [each[0] for each in shared.sent] == ["renewal-requests"]
    assert [each.queue for each in await rows.of("killed")] == ["certificate-requests"]


async def test_messages_that_wait_in_other_accounts_are_measured() -> None:
    queues, shared = one_is_down()
    shared.since["device-orders"] = NOW - timedelta(seconds=90)
    unasked: Any = None
    subject = Measurements(records=unasked, groups=unasked, queues=queues, clock=lambda: NOW)
    kept = Kept()
    with received(kept), pytest.raises(ServiceRequestError):
        await subject.waiting([Queue.CERTIFICATE_REQUESTS, Queue.DEVICE_ORDERS])
    assert kept.of(QUEUE_AGE) == [90]
