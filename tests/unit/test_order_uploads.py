"""Orders that come over HTTP with a list in CSV, or in JSON that is too long for a message."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.domain.words import RegisterBy
from shared.workflows.devices.order_uploads import OrderUploads
from tests.unit.test_device_orders import ACCOUNT, FakeGroups, World
from triggers import outcomes
from triggers.http import orders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

LIST = b"registrationId,tags.plant\r\npress-1,Bremen\r\npress-2,Lyon\r\n"
PRIVATE_KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
QUERY = {"orderId": "o", "enrollmentGroup": "g"}


@dataclass
class Upload:
    """The world of orders, with its door over HTTP."""

    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        anything: Any = self.world.blobs
        settings: Any = SimpleNamespace(order_lists_url=ACCOUNT, order_upload_megabytes=1)
        self.services = SimpleNamespace(
            settings=settings,
            device_orders=self.world.subject,
            usable_groups=FakeGroups(),
            order_uploads=OrderUploads(blobs=anything, settings=settings, threads=self.world.threads),
            outbox=self.world.subject.outbox,
            following=SimpleNamespace(order_accepted=self._accepted),
        )

    @staticmethod
    async def _accepted(_order_id: str, _fingerprint: str, sent: Awaitable[None]) -> None:
        await sent

    async def post(
        self, body: bytes, *, media: str = "text/csv; charset=utf-8", **query: str
    ) -> tuple[int, dict[str, Any]]:
        request = func.HttpRequest(
            "POST",
            "http://host/api/device-orders",
            headers={"Content-Type": media, "Idempotency-Key": "key-1"},
            params=query,
            body=body,
        )
        answer = await outcomes.answer(request, orders.create_device_order)
        return answer.status_code, json.loads(answer.get_body())

    async def lines(self, order_id: str = "o") -> list[tuple[str, str, Any]]:
        """Carry the order out as far as its lines, and give their places, ids and tags."""
        await self.world.deliver_all()
        await self.world.deliver_all()
        found = self.world.orders.lines(order_id)
        return [(line.place, line.requested_id, line.tags) async for line in found]


@pytest.fixture
async def upload(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upload]:
    there = Upload()
    monkeypatch.setattr(outcomes, "services", lambda: there.services)
    yield there
    there.world.threads.close()


async def test_a_list_in_csv_is_an_order(upload: Upload) -> None:
    """Its group and options come in the query; the list is kept in a blob that the order names."""
    status, answer = await upload.post(LIST, **QUERY, registerBy="device", validityDays="30")
    assert (status, answer["orderId"]) == (202, "o")
    assert answer["location"] == "/api/requests/o?kind=device-orders"
    [((container, name), blob)] = upload.world.blobs.blobs.items()
    assert container == "orders"
    assert (name.startswith("uploads/"), name.endswith(".csv"), blob.content) == (True, True, LIST)
    assert await upload.lines() == [
        ("line 2", "press-1", {"plant": "Bremen"}),
        ("line 3", "press-2", {"plant": "Lyon"}),
    ]
    known = await upload.world.orders.get("o")
    assert known is not None
    assert (known.record.register_by, known.record.validity_days) == (RegisterBy.DEVICE, 30)


async def test_the_sample_is_an_order(upload: Upload) -> None:
    """Each of its devices is a good one."""
    sample = Path(__file__).parents[2] / "samples" / "device-order.csv"
    assert (await upload.post(sample.read_bytes(), **QUERY))[0] == 202
    assert [each[1] for each in await upload.lines()] == ["press-101", "press-102", "press-103"]
    assert upload.world.failures.failed == []


async def test_an_order_in_csv_without_an_id_has_that_of_its_key(upload: Upload) -> None:
    """So that it can be sent again."""
    assert (await upload.post(LIST, enrollmentGroup="g"))[1]["orderId"] == "key-1"


async def test_a_long_order_in_json_is_kept_in_a_blob(upload: Upload) -> None:
    """One that fits a message stays in it; both are one order each, with all that their devices have."""
    devices = [{"registrationId": f"press-{n}", "tags": {"plant": "Zürich"}} for n in range(1500)]
    body = json.dumps({"orderId": "o", "enrollmentGroup": "g", "devices": devices}).encode()
    assert len(body) > 48 * 1024
    assert (await upload.post(body, media="application/json"))[0] == 202
    [key] = upload.world.blobs.blobs
    assert key[1].endswith(".json")
    lines = await upload.lines()
    assert (len(lines), lines[1499]) == (1500, ("devices[1499]", "press-1499", {"plant": "Zürich"}))
    short = json.dumps({"orderId": "short", "enrollmentGroup": "g", "devices": devices[:2]}).encode()
    assert (await upload.post(short, media="application/json"))[0] == 202
    assert [each[1] for each in await upload.lines("short")] == ["press-0", "press-1"]
    assert list(upload.world.blobs.blobs) == [key]


async def test_a_list_that_comes_again_is_the_same_order(upload: Upload) -> None:
    """Another list under the same id is refused, before it is kept."""
    first = await upload.post(LIST, **QUERY)
    await upload.lines()
    assert await upload.post(LIST, **QUERY) == first
    status, answer = await upload.post(LIST + b"press-3,Bonn\r\n", **QUERY)
    assert (status, answer["errors"][0]["field"]) == (409, "orderId")
    assert len(upload.world.blobs.blobs) == 1


@pytest.mark.parametrize(
    ("body", "query", "media", "reason"),
    [
        (
            b"colour\r\nred\r\n",
            QUERY,
            "text/csv",
            ("", "'the body (csv)'"),
        ),
        (b"", QUERY, "text/csv", ("", "'the body (csv)' has no devices; give 1 to 1000000")),
        (
            b'registrationId,csr\r\na,"%s"\r\n' % PRIVATE_KEY,
            QUERY,
            "text/csv",
            ("line 2.csr", "a private key comes with the CSR; it must stay in the device"),
        ),
        (
            b"x" * (1024 * 1024 + 1),
            QUERY,
            "text/csv",
            (
                "",
                "the body has 1048577 bytes, at most 1048576 are taken: put the devices of a large order into a blob and "
                "name it in devicesUrl",
            ),
        ),
        (LIST, {"orderId": "o"}, "text/csv", ("enrollmentGroup", "is required")),
        (LIST, {**QUERY, "validityDays": "x"}, "text/csv", ("validityDays", "'x'")),
        (
            b"{}",
            {"orderId": "o"},
            "application/json",
            ("orderId", "is for an order in CSV; give it in the body"),
        ),
        (
            json.dumps(
                {"orderId": "o", "enrollmentGroup": "g", "devicesUrl": f"{ACCOUNT}/orders/a" + " " * 50_000}
            ).encode(),
            {},
            "application/json",
            ("devicesUrl", ""),
        ),
    ],
    ids=["header", "empty", "private key", "too long", "no group", "days", "options with JSON", "no devices"],
)
async def test_what_can_be_seen_to_be_wrong_is_refused_at_once(
    upload: Upload, body: bytes, query: dict[str, str], media: str, reason: tuple[str, str]
) -> None:
    """In words, and nothing is kept or queued."""
    status, answer = await upload.post(body, media=media, **query)
    assert status == 400
    [found] = answer["errors"]
    assert found["field"] == reason[0]
    assert reason[1] in found["message"]
    assert upload.world.blobs.blobs == {}
    assert upload.world.standing() == []


@pytest.mark.parametrize(
    ("order", "status", "field", "message"),
    [
        (
            {"devicesUrl": "https://elsewhere.blob.core.windows.net/orders/list.csv"},
            400,
            "devicesUrl",
            "the URL is not in the container",
        ),
        ({"devicesUrl": f"{ACCOUNT}/other/list.csv"}, 400, "devicesUrl", "is not in the container"),
        ({"devicesUrl": f"{ACCOUNT}/orders/none.csv"}, 404, "devicesUrl", "does not exist"),
        ({"devices": [{"registrationId": "a b"}]}, 400, "devices[0].registrationId", "'a b'"),
        (
            {"devices": [{"registrationId": "a", "keyAlgorithm": "RSA-1"}]},
            400,
            "devices[0].keyAlgorithm",
            "'RSA-1'",
        ),
        ({"devices": []}, 400, "devices", "needs at least 1"),
        ({"devices": [{"registrationId": "a"}], "progressEvents": {"every": 0}}, 400, "progressEvents.every", "'0'"),
        ({"devices": [{"registrationId": "a"}], "validityDays": 0}, 400, "validityDays", "'0'"),
        ({"devices": [{"registrationId": "a"}], "registerBy": "me"}, 400, "registerBy", "'me'"),
    ],
)
async def test_an_order_that_can_be_seen_not_to_succeed_is_refused_at_once(
    upload: Upload, order: dict[str, Any], status: int, field: str, message: str
) -> None:
    """With the check of the workflow, by field; nothing is queued."""
    body = json.dumps({"orderId": "o", "enrollmentGroup": "g", **order}).encode()
    answered, answer = await upload.post(body, media="application/json")
    assert answered == status
    assert field in [each["field"] for each in answer["errors"]]
    assert message in answer["detail"]
    assert upload.world.standing() == []


async def test_an_order_with_a_device_that_can_be_had_is_taken(upload: Upload) -> None:
    """The others fail alone, and say why."""
    devices = [{"registrationId": "a b"}, {"registrationId": "press-1"}]
    body = json.dumps({"orderId": "o", "enrollmentGroup": "g", "devices": devices}).encode()
    assert (await upload.post(body, media="application/json"))[0] == 202
    assert [each[1] for each in await upload.lines()] == ["a b", "press-1"]
