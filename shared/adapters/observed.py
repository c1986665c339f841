"""Calls of services, as telemetry tells of them: each request that is sent, each repetition by itself.

Transports of azure-core that do what Microsoft's own do, and tell of it afterwards. Each has short time limits (those
of azure-core are five minutes) and a breaker, so that a service that hangs holds up nobody for long. Calls of storage
get no spans: there are some thirty of them for a device, and the metrics say what one asks about them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

from azure.core.pipeline.transport import AsyncHttpTransport, RequestsTransport

from shared.adapters.breakers import Breaker
from shared.adapters.key_refusals import refusal_of_key
from shared.reading.numbers import digits
from shared.telemetry import metrics
from shared.telemetry.spans import SpanKind, past

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import requests

    from shared.telemetry.metrics import Value

_STORAGE = frozenset({"queues", "tables", "blobs"})
_CONNECT_SECONDS, _READ_SECONDS = 5, 15
_DENIALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_CHALLENGED = frozenset({"key_vault"})
"""Services whose 401 is how a conversation begins (Key Vault: authentication challenge)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a service, from its beginning.

    Attributes:
        service: what kind of service it is, such as ``key_vault``.
        method: of the request.
        url: to which it goes.
        began: seconds of a clock that only goes forward.
    """

    service: str
    method: str
    url: str
    began: float

    @classmethod
    def begin(cls, service: str, method: str, url: str) -> Call:
        """Begin one now."""
        return cls(service, method, url, time.perf_counter())

    def answered(self, status: int, retry_after: str | None = None, *, of_key: bool = False) -> None:
        """Tell that an answer came; ``of_key`` if it is about a key, and not about a role."""
        expected = status < HTTPStatus.BAD_REQUEST or self._opens(status) or self._finds_nothing(status)
        self._tell({metrics.STATUS: status}, failed=None if expected else str(status))
        where: dict[str, Value] = {metrics.SERVICE: self.service, metrics.SERVER: self._server}
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            metrics.THROTTLED.record(1, where)
            metrics.THROTTLE_WAIT.record(digits(retry_after or "") or 0, where)
        if status in _DENIALS and not self._opens(status) and not of_key:
            metrics.ROLE_DENIALS.record(1, where)
        if self.service == "dps":
            metrics.DPS_OPERATIONS.record(1, {metrics.WHAT: "service"})

    def failed(self, error: BaseException) -> None:
        """Tell that no answer came."""
        self._tell({}, failed=type(error).__name__)

    def _opens(self, status: int) -> bool:
        return status == HTTPStatus.UNAUTHORIZED and self.service in _CHALLENGED

    def _finds_nothing(self, status: int) -> bool:
        return status == HTTPStatus.NOT_FOUND and self.method == "GET"

    @property
    def _server(self) -> str:
        return urlsplit(self.url).hostname or ""

    def _tell(self, told: dict[str, Value], *, failed: str | None) -> None:
        seconds = time.perf_counter() - self.began
        attributes: dict[str, Value] = {
            "http.request.method": self.method,
            metrics.SERVICE: self.service,
            metrics.SERVER: self._server,
            **told,
            **({metrics.ERROR: failed} if failed else {}),
        }
        metrics.CALL_DURATION.record(seconds, attributes)
        if self.service not in _STORAGE:
            # Without its query, and what is an id in the path is one of the trace's own.
            path = {"url.path": urlsplit(self.url).path}
            past(f"{self.method} {self.service}", SpanKind.CLIENT, {**attributes, **path}, seconds=seconds)


def names_a_proxy() -> bool:
    """Tell whether the environment names a proxy.

    Only then aiohttp has to read the environment: it looks for a proxy and into ~/.netrc before each request, in a
    thread of a pool both times (``ClientSession._request``, ``trust_env``). That is a tenth of what a request costs.
    """
    return bool(getproxies())


class ObservedTransport(AsyncHttpTransport[Any, Any]):
    """Sends requests as azure-core's own transport does, and tells of each.

    Args:
        service: what kind of service they go to.
        name: of the service, for messages.
        read_seconds: how long nothing may come of an answer.
        options: of azure-core's own.
    """

    def __init__(self, service: str, name: str, *, read_seconds: int = _READ_SECONDS, **options: Any) -> None:
        # As late as the SDKs do it: aiohttp takes a second, and reads SSL_CERT_FILE when it is imported.
        from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415

        self._service = service
        self._breaker = Breaker(name, service)
        self._sender = AioHttpTransport(
            connection_timeout=_CONNECT_SECONDS,
            read_timeout=read_seconds,
            use_env_settings=names_a_proxy(),
            **options,
        )

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request."""
        with self._breaker.watching():
            call = Call.begin(self._service, request.method, request.url)
            try:
                response: Any = await self._sender.send(request, **options)
            except BaseException as error:
                call.failed(error)
                raise
        call.answered(response.status_code, response.headers.get("Retry-After"))
        return response

    async def open(self) -> None:
        """Open a session."""
        await self._sender.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._sender.close()

    async def sleep(self, duration: float) -> None:
        """Wait before a repetition."""
        await self._sender.sleep(duration)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.close()


class ObservedRequests(RequestsTransport):  # type: ignore[misc]
    """The same for clients that are synchronous.

    Args:
        service: what kind of service they go to.
        breaker: of the service; clients of one service share it.
        read_seconds: how long nothing may come of an answer.
    """

    def __init__(self, service: str, breaker: Breaker, *, read_seconds: int = _READ_SECONDS) -> None:
        super().__init__(connection_timeout=_CONNECT_SECONDS, read_timeout=read_seconds)
        self._service, self._breaker = service, breaker

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request as azure-core does."""
        with self._breaker.watching():
            call = Call.begin(self._service, request.method, request.url)
            try:
                response: Any = super().send(request, **options)
            except BaseException as error:
                call.failed(error)
                raise
        status = response.status_code
        of_key = status == HTTPStatus.FORBIDDEN and refusal_of_key(status, response.internal_response.text) is not None
        call.answered(status, response.headers.get("Retry-After"), of_key=of_key)
        return response


def telling(service: str) -> Callable[..., None]:
    """Give what tells of an answer, for the ``hooks`` in the configuration of an msrest client."""

    def tell(answer: requests.Response, *_: Any, **__: Any) -> None:
        asked, took = answer.request, answer.elapsed.total_seconds()
        call = Call(service, asked.method or "", asked.url or "", time.perf_counter() - took)
        call.answered(answer.status_code, answer.headers.get("Retry-After"))

    return tell
