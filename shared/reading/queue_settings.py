"""Settings of the queues that others put messages into: the storage account of each, and who puts messages there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from shared.reading.addresses import STORAGE_CONNECTION, Addresses
from shared.reading.settings import HTTPS_URL, TEXT, Kind, Setting
from shared.rules.zones import SIGNING, Zone

CONNECTIONS: Mapping[str, str] = {
    "certificate-requests": "CertificateRequestsStorage",
    "enrollment-group-requests": "EnrollmentGroupRequestsStorage",
    "device-orders": "DeviceOrdersStorage",
    "revocation-requests": "RevocationRequestsStorage",
}
"""The queues that others put messages into, and the connection of each where it has a storage account of its own."""

_POISON = "-poison"
_SENDER_LIMIT = 100
_ISSUING = frozenset({Zone.ALL, Zone.ISSUING})


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAccount:
    """A storage account that has one of the queues, with its poison queue.

    Attributes:
        url: of its queue service.
        client_id: of the user-assigned identity that is used there; ``None`` for the system-assigned one.
    """

    url: str
    client_id: str | None


def account_of(url: str) -> str:
    """Name the storage account of a URL: the host's first label, or of an IP address the path (as Azurite has it)."""
    parts = urlsplit(url)
    path = parts.path.strip("/").partition("/")[0]
    return path or (parts.hostname or "").partition(".")[0]


def connection_of(queue: str, environment: Mapping[str, str]) -> str:
    """Name the connection of a queue's trigger: its own where that is set. A poison queue has that of its queue."""
    own = CONNECTIONS.get(queue.removesuffix(_POISON))
    return own if own and environment.get(f"{own}__queueServiceUri", "").strip() else STORAGE_CONNECTION


def faults_of_connections(environment: Mapping[str, str]) -> list[str]:
    """Find credentials in connections."""
    problems = []
    for connection in (STORAGE_CONNECTION, *CONNECTIONS.values()):
        services = "__queueServiceUri, __blobServiceUri, __tableServiceUri"
        services = services if connection == STORAGE_CONNECTION else "__queueServiceUri"
        problems += [
            f"{name} holds a credential; set {connection}{services} and __credential=managedidentity instead"
            for name in (connection, f"{connection}__accountKey")
            if environment.get(name)
        ]
    return problems


def _senders(value: str) -> Mapping[str, str]:
    found, problems = dict[str, str](), list[str]()
    for entry in filter(None, (part.strip() for part in value.split(";"))):
        queue, _, name = (part.strip() for part in entry.partition("="))
        if queue not in CONNECTIONS or not name:
            problems.append(f"has {entry!r}; an entry is queue=name, with a queue of {', '.join(CONNECTIONS)}")
        elif len(name) > _SENDER_LIMIT or not name.isprintable():
            problems.append(f"names who puts messages into {queue} by what is not one line of 100 characters at most")
        elif queue in found:
            problems.append(f"names {queue} twice")
        found[queue] = name
    if problems:
        raise ValueError(*problems)
    return found


SENDERS = Kind("entries separated by `;`, each `queue=name`", _senders)


def _url(queue: str, zones: frozenset[Zone]) -> Setting:
    return Setting(
        f"{CONNECTIONS[queue]}__queueServiceUri",
        HTTPS_URL,
        f"URL of the queue service of a storage account that has the queue `{queue}` and its poison queue, and none of "
        "the others. The trigger's connection has the same name.",
        example="https://<account>.queue.core.windows.net",
        default="",
        otherwise="they are in the app's storage account",
        zones=zones,
    )


def _identity(queue: str, zones: frozenset[Zone]) -> Setting:
    return Setting(
        f"{CONNECTIONS[queue]}__clientId",
        TEXT,
        f"Client id of a user-assigned managed identity for that account. Set `{CONNECTIONS[queue]}__credential` to "
        "`managedidentity` too, for the Functions host.",
        example="00000000-0000-0000-0000-000000000000",
        default="",
        otherwise="the system-assigned identity",
        zones=zones,
    )


_OF_INTAKE = _ISSUING | {Zone.INTAKE}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings(Addresses):
    """Where the queues are that others put messages into, and what these others are called."""

    certificate_requests_url: Annotated[str | None, _url("certificate-requests", _OF_INTAKE)]
    certificate_requests_client_id: Annotated[str | None, _identity("certificate-requests", _OF_INTAKE)]
    enrollment_group_requests_url: Annotated[str | None, _url("enrollment-group-requests", _ISSUING)]
    enrollment_group_requests_client_id: Annotated[str | None, _identity("enrollment-group-requests", _ISSUING)]
    device_orders_url: Annotated[str | None, _url("device-orders", _OF_INTAKE)]
    device_orders_client_id: Annotated[str | None, _identity("device-orders", _OF_INTAKE)]
    revocation_requests_url: Annotated[str | None, _url("revocation-requests", SIGNING)]
    revocation_requests_client_id: Annotated[str | None, _identity("revocation-requests", SIGNING)]
    queue_senders: Annotated[
        Mapping[str, str],
        Setting(
            "QUEUE_SENDERS",
            SENDERS,
            "Who puts messages into a queue, as history, events and the audit log name them. Storage does not say who "
            "put a message there, so name whoever has the right to.",
            example="device-orders=SAP ERP;revocation-requests=SOC",
            default="",
            otherwise="a queue and its storage account are named",
            zones=SIGNING,
        ),
    ]

    @property
    def queue_accounts(self) -> Mapping[str, QueueAccount]:
        """The queues that have a storage account of their own, as far as the zone uses them."""
        found = {
            "certificate-requests": (self.certificate_requests_url, self.certificate_requests_client_id),
            "enrollment-group-requests": (self.enrollment_group_requests_url, self.enrollment_group_requests_client_id),
            "device-orders": (self.device_orders_url, self.device_orders_client_id),
            "revocation-requests": (self.revocation_requests_url, self.revocation_requests_client_id),
        }
        return {queue: QueueAccount(url=url, client_id=client_id) for queue, (url, client_id) in found.items() if url}

    def account_of_queue(self, queue: str) -> str:
        """Name the storage account that a queue, or a poison queue, is in."""
        own = self.queue_accounts.get(queue.removesuffix(_POISON))
        return account_of(own.url if own else self.queue_service_url)
