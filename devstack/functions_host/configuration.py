"""host.json and local.settings.json, read as the real host reads them."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import ManagedIdentityCredential
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

if TYPE_CHECKING:
    from pathlib import Path

    from azure.core.credentials_async import AsyncTokenCredential


_NETWORK_SECONDS = 100
"""``RetryOptions.NetworkTimeout`` of Azure.Core for .NET, which the real host calls storage and identity with."""


class ConfigurationError(ValueError):
    """A setting can't be used; the message names the file, the setting and what would be right."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """``extensions.queues`` of host.json; durations in seconds.

    Attributes:
        batch_size: messages taken at once, 1 to 32.
        new_batch_threshold: the next batch is taken when so many or fewer are being worked on.
        max_dequeue_count: tries before a message is poison.
        visibility_timeout: how long a failed message waits for its next try.
        max_polling_interval: longest pause between polls of an empty queue.
        base64: whether messages are base64 text.
    """

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: float = 0.0
    max_polling_interval: float = 60.0
    base64: bool = True


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What host.json says, as far as this host knows it."""

    route_prefix: str
    queues: QueueSettings
    function_timeout: float


def read_host_json(path: Path) -> HostSettings:
    """Read host.json.

    Raises:
        ConfigurationError: it is missing, no JSON, or a value breaks its rule.
    """
    document = _overridden(_document(path))
    extensions = document.get("extensions", {})
    queues = extensions.get("queues", {})
    batch_size = int(queues.get("batchSize", 16))
    if not 1 <= batch_size <= 32:  # noqa: PLR2004 - a queue gives at most 32 messages at once
        raise ConfigurationError(f"{path}: queues.batchSize is {batch_size}; it must be 1 to 32")
    encoding = queues.get("messageEncoding", "base64")
    if encoding not in {"base64", "none"}:
        raise ConfigurationError(f"{path}: queues.messageEncoding is {encoding!r}; it must be 'base64' or 'none'")
    return HostSettings(
        route_prefix=str(extensions.get("http", {}).get("routePrefix", "api")).strip("/"),
        queues=QueueSettings(
            batch_size=batch_size,
            new_batch_threshold=int(queues.get("newBatchThreshold", batch_size // 2)),
            max_dequeue_count=int(queues.get("maxDequeueCount", 5)),
            visibility_timeout=_seconds(path, queues.get("visibilityTimeout", "00:00:00")),
            max_polling_interval=_seconds(path, queues.get("maxPollingInterval", "00:01:00")),
            base64=encoding == "base64",
        ),
        function_timeout=_seconds(path, document.get("functionTimeout", "00:30:00")),
    )


_OVERRIDE = "AzureFunctionsJobHost__"
_HOST_ID = "AzureFunctionsWebHost__hostid"


def _overridden(document: dict[str, Any]) -> dict[str, Any]:
    """Let app settings such as ``AzureFunctionsJobHost__extensions__queues__batchSize`` win, as the real host does."""
    for name, value in os.environ.items():
        if not name.startswith(_OVERRIDE):
            continue
        *path, last = name.removeprefix(_OVERRIDE).split("__")
        place = document
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return document


def apply_local_settings(path: Path) -> None:
    """Put the ``Values`` of local.settings.json into the environment; what is set there already wins.

    Raises:
        ConfigurationError: it is missing, no JSON, or encrypted.
    """
    document = _document(path)
    if document.get("IsEncrypted"):
        raise ConfigurationError(f"{path} is encrypted, which this host can't read; run `func settings decrypt`")
    for name, value in document.get("Values", {}).items():
        os.environ.setdefault(name, str(value))


def resolve(text: str) -> str:
    """Replace each ``%SETTING%`` by the setting's value.

    Raises:
        ConfigurationError: the setting does not exist.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ConfigurationError(f"the setting {match[1]!r}, which a binding names as {match[0]}, is not set")
        return found

    return re.sub(r"%([^%]+)%", value, text)


def queue_service(connection: str) -> tuple[QueueServiceClient, AsyncTokenCredential | None]:
    """Open the queue service of a connection: identity-based (``<name>__queueServiceUri``), or a connection string.

    Raises:
        ConfigurationError: the settings name neither.
    """
    return _opened(QueueServiceClient, connection, "queueServiceUri")


def blob_service(connection: str) -> tuple[BlobServiceClient, AsyncTokenCredential | None]:
    """Open the blob service of a connection, likewise (``<name>__blobServiceUri``).

    Raises:
        ConfigurationError: the settings name neither.
    """
    return _opened(BlobServiceClient, connection, "blobServiceUri")


def _opened[C: (QueueServiceClient, BlobServiceClient)](
    client: type[C], connection: str, name: str
) -> tuple[C, AsyncTokenCredential | None]:
    text = os.environ.get(connection) or os.environ.get(f"AzureWebJobs{connection}")
    if text:
        return client.from_connection_string(text), None
    url = os.environ.get(f"{connection}__{name}")
    if not url:
        raise ConfigurationError(
            f"the connection {connection!r} is not set: give {connection}__{name}, or a connection string"
        )
    client_id = os.environ.get(f"{connection}__clientId")
    credential = ManagedIdentityCredential(client_id=client_id or None, transport=_transport())
    return client(url, credential=credential, transport=_transport()), credential


def _transport() -> AioHttpTransport:
    """Give what waits as long for an answer as the real host does."""
    return AioHttpTransport(
        connection_timeout=_NETWORK_SECONDS, read_timeout=_NETWORK_SECONDS, use_env_settings=bool(getproxies())
    )


def host_id() -> str:
    """Give the id that the hosts of one app share: its own setting, else the app's name in Azure."""
    given = os.environ.get(_HOST_ID) or os.environ.get("WEBSITE_SITE_NAME") or "local"
    return given.lower()[:32]


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} must hold a JSON object")
    return document


def _seconds(path: Path, text: str) -> float:
    match = re.fullmatch(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2}(?:\.\d+)?)", str(text))
    if match is None:
        raise ConfigurationError(f"{path}: {text!r} is not a duration; write it as hh:mm:ss")
    days, hours, minutes, seconds = match.groups()
    return int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
