"""Which actions of Azure RBAC each operation of the storage services needs.

Source: "Authorize with Microsoft Entra ID" (REST API of Azure Storage), its tables of permissions for blob, queue and
table service operations. Where a table names several ways, any of them is enough.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from devstack.azurite import ACCOUNT
from emulator.platform.identity.roles import Needed

if TYPE_CHECKING:
    from collections.abc import Mapping

_LAYOUT_FILE = Path(__file__).parents[1] / "infra" / "storage.json"
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers"
_QUEUES = "Microsoft.Storage/storageAccounts/queueServices/queues"
_TABLES = "Microsoft.Storage/storageAccounts/tableServices/tables"
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "DELETE": "delete"}
_MESSAGE_PARTS = 3  # the queue, "messages", and the id of one
_GUARD = re.compile(rb"^if-match:", re.MULTILINE | re.IGNORECASE)
_PART_OF_BATCH = re.compile(rb"^(GET|POST|PUT|PATCH|MERGE|DELETE) (\S+) HTTP/1\.1\r?$", re.MULTILINE)


@cache
def account_of(service: str, name: str) -> str:
    """Give the storage account that has a queue, table or container in Azure, where here one has them all.

    What the deployment does not know is the Functions host's own.
    """
    layout = json.loads(_LAYOUT_FILE.read_text(encoding="utf-8"))
    part = {"blob": "containers", "queue": "queues", "table": "tables"}[service]
    return next(
        (account for account in ("intakeStorage", "ledgerStorage") if name in layout[account][part]), "hostStorage"
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        method: of HTTP.
        path: such as ``/devstoreaccount1/device-orders/messages``.
        query: decoded.
        headers: names without regard to case.
        body: of a transaction.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


def needed(service: str, asked: Asked) -> list[Needed]:
    """Give what a request needs: of a transaction, what each of its parts needs.

    Args:
        service: ``blob``, ``queue`` or ``table``.
        asked: of the service.
    """
    account, *names = asked.path.strip("/").split("/")
    parts = [unquote(part) for part in names if part]
    if service == "blob":
        return [_of_blobs(asked, parts)]
    if service == "queue":
        place = _place("queue", parts[0], account) if parts else "/"
        return [_of_messages(asked, parts, place) if len(parts) > 1 else _of_queues(asked, place)]
    if parts == ["$batch"]:
        return _of_transaction(asked.body)
    method = asked.headers.get("X-HTTP-Method", asked.method)
    return [_of_tables(method, parts, asked.query, guarded="If-Match" in asked.headers)]


def _any(path: str, *ways: str) -> Needed:
    """Need one of some ways, each a list of actions joined by ``+``."""
    return Needed(tuple(frozenset(way.split("+")) for way in ways), path)


def _place(service: str, name: str, account: str = ACCOUNT) -> str:
    """Give where something is: one of Azurite's accounts stands for several of Azure, the others for themselves."""
    return f"/{account_of(service, name) if account == ACCOUNT else account}/{service}/{name}"


def _of_blobs(asked: Asked, parts: list[str]) -> Needed:
    if not parts:
        return Needed.one(f"{_BLOBS}/read", "/")
    path, blobs = _place("blob", parts[0]), f"{_BLOBS}/blobs"
    if asked.query.get("restype") == "container":
        lists = asked.query.get("comp") == "list"
        return Needed.one(f"{blobs}/read" if lists else f"{_BLOBS}/{_VERBS[asked.method]}", path)
    if asked.method == "PUT" and "comp" not in asked.query and asked.headers.get("If-None-Match") == "*":
        return _any(path, f"{blobs}/write", f"{blobs}/add/action")
    return Needed.one(f"{blobs}/{_VERBS[asked.method]}", path)


def _of_queues(asked: Asked, place: str) -> Needed:
    return Needed.one(f"{_QUEUES}/{_VERBS[asked.method]}", place)


def _of_messages(asked: Asked, parts: list[str], place: str) -> Needed:
    messages = f"{_QUEUES}/messages"
    takes = (f"{messages}/process/action", f"{messages}/delete+{messages}/read")
    deletes = (f"{messages}/process/action", f"{messages}/delete")
    if asked.method == "GET":
        ways = (f"{messages}/read",) if asked.query.get("peekonly", "").lower() == "true" else takes
    elif asked.method == "DELETE":
        ways = deletes if len(parts) == _MESSAGE_PARTS else (f"{messages}/delete",)
    else:
        ways = (f"{messages}/write",) if asked.method == "PUT" else (f"{messages}/add/action", f"{messages}/write")
    return _any(place, *ways)


def _of_tables(method: str, parts: list[str], query: Mapping[str, str], *, guarded: bool) -> Needed:
    name = parts[0].partition("(")[0] if parts else ""
    if name in {"", "Tables"}:
        return Needed.one(f"{_TABLES}/{_VERBS.get(method, 'write')}", "/")
    path, entities = _place("table", name), f"{_TABLES}/entities"
    if query.get("comp") == "acl":
        return Needed.one(f"{_TABLES}/{'getAcl' if method == 'GET' else 'setAcl'}/action", path)
    if method in {"GET", "DELETE"}:
        return Needed.one(f"{entities}/{_VERBS[method]}", path)
    if method == "POST":
        return _any(path, f"{entities}/write", f"{entities}/add/action")
    change = f"{entities}/update/action" if guarded else f"{entities}/add/action+{entities}/update/action"
    return _any(path, f"{entities}/write", change)


def _of_transaction(body: bytes) -> list[Needed]:
    """Read the requests in a transaction: each is authorized by itself ("Performing entity group transactions")."""
    found = list(_PART_OF_BATCH.finditer(body))
    ends = [*(each.start() for each in found[1:]), len(body)]
    return [
        _of_tables(
            each[1].decode(),
            [unquote(part) for part in urlsplit(each[2].decode()).path.strip("/").split("/")[1:]],
            {},
            guarded=_GUARD.search(body, each.end(), end) is not None,
        )
        for each, end in zip(found, ends, strict=True)
    ]
