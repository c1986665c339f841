"""Answers about requests: how far each is."""

from __future__ import annotations

from datetime import datetime

from shared.contracts.answers import StatedReasons
from shared.contracts.base import Contract, ToldActor, example_of, with_example
from shared.contracts.messages import Queue
from shared.domain.requests import RequestState

_LISTED: dict[str, object] = {
    "requestId": "renewal-2026-05-01",
    "kind": "renewal-requests",
    "state": "waiting",
    "about": "/api/devices/press-1",
    "requestedAt": "2026-05-01T12:00:00Z",
    "location": "/api/requests/renewal-2026-05-01?kind=renewal-requests",
}
_FOLLOWED: dict[str, object] = {
    **{name: value for name, value in _LISTED.items() if name != "location"},
    "waitingFor": "a role is missing at Key Vault",
    "waitingSince": "2026-05-01T12:00:01Z",
    "nextTry": "2026-05-01T12:01:00Z",
    "tries": 4,
    "reasons": [],
    "rejectionId": None,
    "endedAt": None,
    "progress": None,
    "actor": example_of(ToldActor),
    "comment": "ticket 4711",
    "approvalId": None,
}


class BatchProgress(Contract):
    """How far a request about a group is.

    ``queued`` counts the devices that something was asked for, ``needCsr`` those that have to bring a CSR, and
    ``skipped`` those that need nothing. Of the queued ones, ``done`` are done at the services, ``failed`` were refused,
    and ``waiting`` wait for somebody outside, such as the device itself.
    """

    model_config = with_example({"queued": 1200, "needCsr": 3, "skipped": 41, "done": 1100, "failed": 2, "waiting": 60})

    queued: int
    need_csr: int
    skipped: int
    done: int
    failed: int
    waiting: int


class FollowedRequest(Contract):
    """How far a request is.

    ``actor`` is who asked, as it was known when the request was accepted; ``null`` where that was the app itself.
    ``about`` is the path of what it is about: that of a request that is ``done`` shows what was made. ``waitingFor``
    says in words what a request that is ``waiting`` waits for; without ``nextTry`` somebody has to act. ``approvalId``
    is of what a second person has to decide, while the request is ``awaitingApproval``.
    """

    model_config = with_example(_FOLLOWED)

    request_id: str
    kind: Queue
    state: RequestState
    about: str | None
    requested_at: datetime
    waiting_for: str | None
    waiting_since: datetime | None
    next_try: datetime | None
    tries: int | None
    reasons: StatedReasons
    rejection_id: str | None
    ended_at: datetime | None
    progress: BatchProgress | None
    actor: ToldActor | None
    comment: str | None
    approval_id: str | None


class ListedRequest(Contract):
    """A request in a list."""

    model_config = with_example(_LISTED)

    request_id: str
    kind: Queue
    state: RequestState
    about: str | None
    requested_at: datetime
    location: str


class RequestPage(Contract):
    """A page of requests, the latest first."""

    model_config = with_example({"items": [_LISTED], "continuationToken": None})

    items: list[ListedRequest]
    continuation_token: str | None
