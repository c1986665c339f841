"""What each operation of the storage services needs ("Authorize with Microsoft Entra ID", REST API of Azure Storage)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devstack.storage_permissions import Asked, account_of, needed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ACCOUNT = "/devstoreaccount1"
QUEUES = "Microsoft.Storage/storageAccounts/queueServices/queues"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers"
ENTITIES = "Microsoft.Storage/storageAccounts/tableServices/tables/entities"
ORDERS = "/intakeStorage/queue/device-orders"
OWN = "/erp/queue/device-orders"
LISTS = "/ledgerStorage/blob/crls"
REQUESTS = "/ledgerStorage/table/requests"


def asked(
    method: str, path: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Asked:
    return Asked(method, f"{ACCOUNT}/{path}", query or {}, headers or {})


@pytest.mark.parametrize(
    ("service", "request_", "ways", "place"),
    [
        ("queue", asked("GET", "", query={"comp": "list"}), [{f"{QUEUES}/read"}], "/"),
        ("queue", asked("GET", "device-orders", query={"comp": "metadata"}), [{f"{QUEUES}/read"}], ORDERS),
        ("queue", asked("PUT", "device-orders"), [{f"{QUEUES}/write"}], ORDERS),
        (
            "queue",
            asked("POST", "device-orders/messages"),
            [{f"{QUEUES}/messages/add/action"}, {f"{QUEUES}/messages/write"}],
            ORDERS,
        ),
        (
            "queue",
            asked("GET", "device-orders/messages", query={"numofmessages": "16"}),
            [{f"{QUEUES}/messages/process/action"}, {f"{QUEUES}/messages/delete", f"{QUEUES}/messages/read"}],
            ORDERS,
        ),
        (
            "queue",
            asked("GET", "device-orders/messages", query={"peekonly": "true"}),
            [{f"{QUEUES}/messages/read"}],
            ORDERS,
        ),
        (
            "queue",
            asked("DELETE", "device-orders/messages/1", query={"popreceipt": "x"}),
            [{f"{QUEUES}/messages/process/action"}, {f"{QUEUES}/messages/delete"}],
            ORDERS,
        ),
        (
            "queue",
            Asked("POST", "/erp/device-orders/messages", {}, {}),
            [{f"{QUEUES}/messages/add/action"}, {f"{QUEUES}/messages/write"}],
            OWN,
        ),
        ("queue", asked("DELETE", "device-orders/messages"), [{f"{QUEUES}/messages/delete"}], ORDERS),
        ("queue", asked("PUT", "device-orders/messages/1"), [{f"{QUEUES}/messages/write"}], ORDERS),
        ("blob", asked("GET", "crls/root.crl"), [{f"{BLOBS}/blobs/read"}], LISTS),
        ("blob", asked("HEAD", "crls/root.crl"), [{f"{BLOBS}/blobs/read"}], LISTS),
        (
            "blob",
            asked("PUT", "crls/root.crl", headers={"If-None-Match": "*"}),
            [{f"{BLOBS}/blobs/write"}, {f"{BLOBS}/blobs/add/action"}],
            LISTS,
        ),
        ("blob", asked("PUT", "crls/root.crl", headers={"If-Match": "1"}), [{f"{BLOBS}/blobs/write"}], LISTS),
        (
            "blob",
            asked("PUT", "locks/x", query={"comp": "lease"}),
            [{f"{BLOBS}/blobs/write"}],
            "/hostStorage/blob/locks",
        ),
        ("blob", asked("DELETE", "crls/root.crl"), [{f"{BLOBS}/blobs/delete"}], LISTS),
        ("blob", asked("GET", "crls", query={"restype": "container"}), [{f"{BLOBS}/read"}], LISTS),
        (
            "blob",
            asked("GET", "crls", query={"restype": "container", "comp": "list"}),
            [{f"{BLOBS}/blobs/read"}],
            LISTS,
        ),
        ("table", asked("GET", "requests(PartitionKey='a',RowKey='b')"), [{f"{ENTITIES}/read"}], REQUESTS),
        ("table", asked("POST", "requests"), [{f"{ENTITIES}/write"}, {f"{ENTITIES}/add/action"}], REQUESTS),
        (
            "table",
            asked("PUT", "requests(PartitionKey='a',RowKey='b')", headers={"If-Match": "1"}),
            [{f"{ENTITIES}/write"}, {f"{ENTITIES}/update/action"}],
            REQUESTS,
        ),
        (
            "table",
            asked("PATCH", "requests(PartitionKey='a',RowKey='b')"),
            [{f"{ENTITIES}/write"}, {f"{ENTITIES}/add/action", f"{ENTITIES}/update/action"}],
            REQUESTS,
        ),
        ("table", asked("DELETE", "requests(PartitionKey='a',RowKey='b')"), [{f"{ENTITIES}/delete"}], REQUESTS),
    ],
)
def test_each_operation_needs_what_microsoft_names(
    service: str, request_: Asked, ways: Sequence[set[str]], place: str
) -> None:
    """Where the table names several ways, any of them is enough."""
    [found] = needed(service, request_)
    assert ([set(way) for way in found.ways], found.path) == (ways, place)


def test_a_transaction_needs_what_each_of_its_parts_needs() -> None:
    """Each part is authorized by itself."""
    body = (
        b"--changeset_1\r\nContent-Type: application/http\r\n\r\n"
        b"PUT https://127.0.0.1:10002/devstoreaccount1/identities(PartitionKey='a',RowKey='b') HTTP/1.1\r\n"
        b'If-Match: W/"1"\r\nContent-Type: application/json\r\n\r\n{}\r\n'
        b"--changeset_1\r\nContent-Type: application/http\r\n\r\n"
        b"POST https://127.0.0.1:10002/devstoreaccount1/identities HTTP/1.1\r\n\r\n{}\r\n"
    )
    found = needed("table", Asked("POST", f"{ACCOUNT}/$batch", {}, {}, body))
    assert [each.path for each in found] == ["/ledgerStorage/table/identities"] * 2
    assert [{action for way in each.ways for action in way} for each in found] == [
        {f"{ENTITIES}/write", f"{ENTITIES}/update/action"},
        {f"{ENTITIES}/write", f"{ENTITIES}/add/action"},
    ]


def test_what_the_deployment_does_not_know_is_the_hosts_own() -> None:
    """Here one account has what three have in Azure."""
    assert account_of("blob", "orders") == "intakeStorage"
    assert account_of("blob", "bundles") == "ledgerStorage"
    assert account_of("blob", "azure-webjobs-hosts") == "hostStorage"
