"""What is refused is kept, and what must not be kept is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contracts import Queue
from shared.errors import Rejected
from shared.ledger.rejections import Rejections
from shared.workflows.events import Outbox
from shared.workflows.rejections import ReceivedMessage, RejectedMessages
from tests.unit.fakes import FakeQueues, FakeTable
from tests.unit.pki.hierarchy import NOW

SECRET = "MHcCAQEEIO3"
KEY = f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----\n"
CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
REMOVED = "[a private key was here, and is not kept]"


async def kept(body: bytes) -> str:
    """Record a message, and read it as an operator does."""
    table, queues = FakeTable(), FakeQueues()
    outbox: Any = Outbox(queues, lambda: NOW)  # type: ignore[arg-type]
    subject = RejectedMessages(Rejections(table), outbox, lambda: NOW)
    message = ReceivedMessage(Queue.DEVICE_ORDERS, "message-1", body, NOW)
    await subject.record(message, Rejected.because("no"))
    [item], _ = await subject.page(size=10, continuation=None)
    assert SECRET.encode() not in b"".join(str(row.values).encode() for row in table.rows.values())
    return str(item["body"])


async def test_a_message_is_kept_byte_for_byte() -> None:
    """What a sender sent can be looked at and replayed as it was."""
    body = json.dumps({"orderId": "1", "devices": [{"registrationId": "a", "csr": CSR}]})
    assert await kept(body.encode()) == body


@pytest.mark.parametrize(
    ("leaked", "left"),
    [
        (KEY, REMOVED + "\n"),
        (KEY.replace("EC ", "ENCRYPTED "), REMOVED + "\n"),
        (CSR + KEY, CSR + REMOVED + "\n"),
        (KEY[:-40], REMOVED),
    ],
    ids=["alone", "encrypted", "beside a CSR", "cut off"],
)
async def test_private_keys_are_not_kept(leaked: str, left: str) -> None:
    """A key that was sent by mistake is cut out, in JSON as in anything else, and the rest stays what it was."""
    body = json.dumps({"orderId": "1", "devices": [{"csr": leaked}, {"csr": CSR}], "key": KEY})
    assert [each["csr"] for each in json.loads(await kept(body.encode()))["devices"]] == [left, CSR]
    assert await kept(leaked.encode()) == left
