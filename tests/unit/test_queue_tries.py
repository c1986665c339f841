"""What a queue raises when the SDK has tried several times: the try that may have put the message there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AioHttpTransport

from shared.adapters.breakers import ServiceSilent
from shared.adapters.queues import Queues
from shared.adapters.sdk_errors import has_done_nothing, was_not_sent

LOST, SLOW = aiohttp.ServerDisconnectedError(), TimeoutError()
REFUSED = aiohttp.ClientConnectorError(SimpleNamespace(host="q", port=443, ssl=True), OSError("refused"))  # type: ignore[arg-type]
TOO_SLOW = aiohttp.ConnectionTimeoutError()
SILENT = ServiceSilent("queue storage", calls=3, seconds=5)


class Credential:
    """Gives a token."""

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken("token", 2**40)


class Answer:
    """An answer of a queue, as aiohttp gives it."""

    def __init__(self, status: int) -> None:
        self.status, self.reason, self.method = status, "because", "POST"
        self.headers: dict[str, str] = {"Content-Type": "application/xml", "x-ms-error-code": "Unknown"}
        self.closed = False

    async def read(self) -> bytes:
        return b"<Error><Code>Unknown</Code><Message>no</Message></Error>"

    def get_encoding(self) -> str:
        return "utf-8"

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("tries", "done_nothing", "not_sent"),
    [
        ([403], True, False),
        ([404], True, False),
        ([408] * 4, False, False),
        ([503] * 4, False, False),
        ([REFUSED] * 4, True, True),
        ([TOO_SLOW] * 4, True, True),
        ([LOST] * 4, False, False),
        ([SILENT], True, True),
        ([REFUSED, 404], True, False),
        ([LOST, 404], False, False),
        ([SLOW, 403], False, False),
        ([503, 403], False, False),
        ([SLOW, REFUSED, REFUSED, REFUSED], False, False),
        ([SLOW, SILENT], False, False),
        ([500, *[REFUSED] * 3], False, False),
    ],
    ids=str,
)
async def test_a_message_that_any_try_may_have_put_there_is_not_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, tries: list[int | Exception], *, done_nothing: bool, not_sent: bool
) -> None:
    """The SDK repeats what was not answered, and raises what became of the last try."""
    left = list(tries)

    async def request(*_: Any, **_options: Any) -> Answer:
        failed = left.pop(0)
        if isinstance(failed, Exception):
            raise failed
        return Answer(failed)

    async def sleep(*_: Any) -> None:
        pass

    async def opened(transport: AioHttpTransport) -> None:
        transport.session = SimpleNamespace(request=request)

    monkeypatch.setattr(AioHttpTransport, "open", opened)
    monkeypatch.setattr("asyncio.sleep", sleep)
    credential: Any = Credential()
    queues = Queues("https://factory.queue.core.windows.net", credential)
    with pytest.raises((AzureError, ServiceSilent)) as raised:
        await queues.send("device-orders", "text")
    assert left == []
    assert (has_done_nothing(raised.value), was_not_sent(raised.value)) == (done_nothing, not_sent)
