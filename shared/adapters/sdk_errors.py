"""The one place that turns an SDK's error into ours.

What is not named here is raised on as it is. :func:`is_outage` tells whether the world is wrong and not the request:
the network, a service's 5xx, 401 and 403 (a role is missing, or a key of the vault is disabled). Then a message waits.
Anything else is a bug: the host's retries and its poison queue are the answer to that.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
)
from azure.iot.device.exceptions import (
    ClientError,
    ConnectionDroppedError,
    ConnectionFailedError,
    NoConnectionError,
    OperationTimeout,
    ServiceError,
)
from msrest.exceptions import AuthenticationError, ClientRequestError, HttpOperationError
from requests import RequestException

from shared.adapters.breakers import ServiceSilent
from shared.adapters.key_refusals import refusal_of_key
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Rejected, ServiceFailed
from shared.reading.numbers import digits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_THROTTLED_DELAY = timedelta(seconds=30)
_LONGEST_DELAY = timedelta(hours=1)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate the errors of the SDK calls inside.

    Args:
        what: names the thing the call is about, as in ``enrollment group 'line-1'``; begins each message.

    Raises:
        Rejected: for 400 and 422, :class:`NotFound` for 404, :class:`Conflict` for 409, and
            :class:`PreconditionFailed` for 412.
        Deferred: for 429, with the service's Retry-After.
    """
    try:
        yield
    except (HttpResponseError, HttpOperationError) as error:
        ours = _ours(what, error)
        if ours is None:
            raise
        raise ours from error


@contextmanager
def throttling(what: str) -> Iterator[None]:
    """Translate throttling by a service whose other errors say nothing of the request, such as the vault.

    Raises:
        Deferred: for 429, with the service's Retry-After.
    """
    try:
        yield
    except HttpResponseError as error:
        if error.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise Deferred(f"{what}: {_text(error)}", retry_after=_retry_after(error.response)) from error
        raise


def _ours(what: str, error: HttpResponseError | HttpOperationError) -> Exception | None:
    status = getattr(error.response, "status_code", None)
    message = f"{what}: {_text(error)}"
    match status:
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            return Rejected.because(message)
        case HTTPStatus.NOT_FOUND:
            return NotFound.because(message)
        case HTTPStatus.CONFLICT:
            return Conflict.because(message)
        case HTTPStatus.PRECONDITION_FAILED:
            return PreconditionFailed.because(message)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Deferred(message, retry_after=_retry_after(error.response))
        case _:
            return None


def _retry_after(response: Any) -> timedelta:
    value = response.headers.get("Retry-After") or response.headers.get("retry-after") or ""
    return timedelta(seconds=min(digits(value) or _THROTTLED_DELAY.seconds, _LONGEST_DELAY.seconds))


def _text(error: HttpResponseError | HttpOperationError) -> str:
    """Give the service's own message, on one line and of bounded length."""
    if isinstance(error, HttpOperationError):
        return " ".join(str(getattr(error.response, "text", "") or error).split())[:600]
    return " ".join(str(error.message).split())[:600]


def was_not_sent(error: BaseException) -> bool:
    """Tell whether a call of an Azure SDK never reached its service, so that it may be repeated without a copy.

    azure-core raises ``ServiceRequestError`` for all of aiohttp's ``ClientError`` that are no ``ClientResponseError``
    (azure.core.pipeline.transport._aiohttp), also for connections that were lost after the request had been sent.
    """
    if isinstance(error, ServiceSilent | ServiceRequestTimeoutError):
        return True
    if not isinstance(error, ServiceRequestError):
        return False
    from aiohttp import ClientConnectorError, InvalidURL  # noqa: PLC0415 - takes a second, and is not always needed

    return error.inner_exception is None or isinstance(error.inner_exception, ClientConnectorError | InvalidURL)


def has_done_nothing(error: BaseException) -> bool:
    """Tell whether a call of an Azure SDK has changed nothing for sure: it was not sent, or its service refused it.

    Of a call that was tried several times, only the last error is looked at.
    """
    if was_not_sent(error) or isinstance(error, ClientAuthenticationError):
        return True
    status = _status_of(error)
    return status is not None and status in _REFUSED and status not in _UNDECIDED


def role_missing(error: BaseException) -> bool:
    """Tell whether a service does not let this identity in, which no retry mends, but a role does."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(role_missing, error.exceptions))
    if _status_of(error) not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return False
    return unusable_key(error) is None


def unusable_key(error: BaseException) -> str | None:
    """Say which key of the vault can't be used and why, if that is what an error tells."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(unusable_key, error.exceptions)), None)
    if not isinstance(error, HttpResponseError) or error.response is None:
        return None
    why = refusal_of_key(error.status_code, _body_of(error.response))
    if why is None:
        return None
    named = re.search(r"/keys/([^/]+)", urlsplit(_url_of(error)).path)
    return f"the key {named[1]!r} of Key Vault {why}" if named else f"a key of Key Vault {why}"


def _body_of(response: Any) -> str:
    try:
        return str(response.text())
    except Exception:  # noqa: BLE001 - an answer without a text says nothing of a key
        return ""


def _url_of(error: BaseException) -> str:
    response = getattr(error, "response", None)
    request = getattr(response, "request", None) or getattr(error, "request", None)
    return str(getattr(request, "url", "") or "")


_PATHS: Mapping[str, str] = {
    r"/subscriptions/": "Azure Resource Manager",
    r"/(keys|secrets)/": "Key Vault",
    r"/(enrollments|enrollmentGroups|registrations)\b": "the DPS",
    r"/(devices|twins|statistics)\b": "the IoT hub",
}
"""Services by the paths of their requests."""


def words_of(error: BaseException) -> str:
    """Give what an error says on one line, of 500 characters at most; of an outage, with the service that it is of."""
    said = " ".join(str(error).split())[:500]
    return f"{service_of(error)} fails, or does not let this identity in: {said}" if is_outage(error) else said


def service_of(error: BaseException) -> str:
    """Name the service that an outage is of, as far as its error tells."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(sorted({service_of(each) for each in error.exceptions}))
    if isinstance(error, ServiceSilent):
        return error.service
    response, url = getattr(error, "response", None), _url_of(error)
    named = next((name for path, name in _PATHS.items() if re.search(path, urlsplit(url).path)), None)
    if named is not None:
        return named
    if "x-ms-version" in (getattr(response, "headers", None) or {}):
        return "the storage account"
    return urlsplit(url).hostname or "a service"


def is_outage(error: BaseException) -> bool:
    """Tell whether a service is down, out of reach, or does not let this identity in: no fault of a request.

    What several calls at once raised together is one if each of them is.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_outage, error.exceptions))
    if isinstance(error, _UNREACHED):
        return True
    status = _status_of(error)
    if status is not None:
        return status in _OUTAGES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    # azure-iot-device says "Unexpected failure", and what failed is its cause.
    return isinstance(error, ClientError) and error.__cause__ is not None and is_outage(error.__cause__)


_OUTAGES = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_REFUSED = range(400, 500)
_UNDECIDED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
"""They don't say what was done before."""

_UNREACHED = (
    ServiceFailed,
    ServiceRequestError,
    ServiceResponseError,
    IncompleteReadError,
    ClientAuthenticationError,  # of a service, or of the identity endpoint, which gave no token
    AuthenticationError,
    ClientRequestError,
    RequestException,
    ConnectionFailedError,
    ConnectionDroppedError,
    NoConnectionError,
    OperationTimeout,
    ServiceError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    ssl.SSLError,
)


def _status_of(error: BaseException) -> int | None:
    if not isinstance(error, HttpResponseError | HttpOperationError):
        return None
    status = getattr(error.response, "status_code", None)
    return int(status) if status is not None else None
