"""Answers over HTTP: their base, refusals, and what operators see. Others are in the modules ``answers_*``.

A field that has a default may be left out of an answer; every other one is there, and ``null`` where it has no value.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from shared.contracts.base import Contract, StatedReason, with_example
from shared.contracts.ids import Words
from shared.contracts.messages import Queue
from shared.domain.rejections import RejectionKind, RejectionState

Serial = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
"""A serial number as it is shown: 20 octets (RFC 5280 section 4.1.2.2)."""

Thumbprint = Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{40}$")]
"""SHA-1 of a certificate, as DPS names certificates."""


type StatedReasons = tuple[StatedReason, ...]


class Problem(Contract):
    """Why a request was refused, or not carried out (RFC 9457)."""

    model_config = with_example(
        {
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "pageSize: '0' is not a valid page size; give 1 to 1000",
            "errors": [{"field": "pageSize", "message": "'0' is not a valid page size; give 1 to 1000"}],
        }
    )

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[StatedReason, ...] = ()


class Accepted(Contract):
    """A request that is in its queue. ``location`` is where it can be followed."""

    model_config = with_example(
        {
            "status": "queued",
            "location": "/api/requests/r-1?kind=renewal-requests",
            "requestId": "r-1",
        }
    )

    status: Literal["queued"]
    location: str
    request_id: str | None = None
    order_id: str | None = None


class Alive(Contract):
    """The worker runs."""

    model_config = with_example({"status": "ok"})

    status: Literal["ok"]


class Readiness(Contract):
    """Of each dependency ``ok``, or the cause of its failure."""

    model_config = with_example({"status": "ok", "dependencies": {"tables": "ok", "dps": "ok"}})

    status: Literal["ok", "unavailable"]
    dependencies: dict[str, str]


class Description(Contract):
    """A document that describes this API: OpenAPI 3.1, or AsyncAPI 3.0."""

    model_config = with_example(
        {"openapi": "3.1.0", "info": {"title": "Device identity factory", "version": "1.0"}}, extra="allow"
    )


class ListedSchema(Contract):
    """A message or an event that has a JSON Schema, and where that is."""

    name: str
    url: str


class SchemaList(Contract):
    """The messages and events that have a JSON Schema."""

    model_config = with_example({"schemas": [{"name": "DeviceRevoked", "url": "/api/schemas/DeviceRevoked.json"}]})

    schemas: list[ListedSchema]


_REJECTION = {
    "id": "2026-05-01-6f1ed002ab5595859014",
    "kind": "rejected",
    "queue": "revocation-requests",
    "reasons": [{"field": "reason", "message": "is required to revoke"}],
    "rejectedAt": "2026-05-01T12:00:00Z",
    "state": "open",
    "replayedAt": None,
    "body": '{"requestId": "r-1", "registrationId": "press-1"}',
    "bytesLeftOut": 0,
    "attempts": None,
    "failures": [],
    "closedAt": None,
    "comment": None,
}


class FailedTry(Contract):
    """A try to carry out a message that failed."""

    model_config = with_example({"at": "2026-05-01T12:00:00Z", "cause": "KeyError: 'csr'"})

    at: datetime
    cause: str


class Rejection(Contract):
    """A message that was refused or set aside. ``body`` is the message, with a mark for each secret.

    ``failures`` are the last tries of one that was set aside, with the cause of each; ``attempts`` is their number.
    """

    model_config = with_example(_REJECTION)

    id: str
    kind: RejectionKind
    queue: Queue
    reasons: tuple[StatedReason, ...]
    rejected_at: datetime
    state: RejectionState
    replayed_at: datetime | None
    body: str
    bytes_left_out: int
    attempts: int | None
    failures: list[FailedTry]
    closed_at: datetime | None
    comment: str | None


class RejectionPage(Contract):
    """A page of rejections."""

    model_config = with_example({"items": [_REJECTION], "continuationToken": None})

    items: list[Rejection]
    continuation_token: str | None


class RejectionClosing(Contract):
    """Body of closing a rejection."""

    model_config = with_example({"comment": "the device was ordered again as press-7b"})

    comment: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), Words]


class Replay(Contract):
    """Body of replaying many rejections: which ones, and how many a minute."""

    model_config = with_example({"queue": "device-registrations", "cause": "the vault is down", "perMinute": 100})

    queue: Queue | None = None
    kind: RejectionKind | None = None
    cause: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    per_minute: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 600


class NotReplayed(Contract):
    """A rejection that was not replayed, and why."""

    model_config = with_example({"id": "2026-05-01-6f1ed002ab5595859014", "reason": "it is being replayed"})

    id: str
    reason: str


class Replayed(Contract):
    """How many messages were put back. With ``isMore`` there are others that the filters mean."""

    model_config = with_example({"replayed": 2, "notReplayed": [], "isMore": False})

    replayed: int
    not_replayed: list[NotReplayed]
    is_more: bool
