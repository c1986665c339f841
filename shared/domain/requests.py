"""Requests that were accepted, as the ledger keeps them."""

from __future__ import annotations

import secrets
from datetime import datetime

from pydantic import Field

from shared.domain.record import Record


class RequestRecord(Record):
    """One request.

    Attributes:
        kind: the queue that requests of this kind come by. Each kind has ids of its own.
        member: of the part of a request that concerns one member of a group, the member's id.
        fingerprint: of its content: the same id with other content is refused.
        received_at: when it was asked for.
        nonce: proves that a part comes from this request; nobody outside learns it.
        queued_at: when it was put into its queue by who accepted it; ``None`` for one that came by the queue.
        carried_out_at: when it was done; ``None`` while it is not.
        refused_at: when it was refused; its id is free again from then on.
    """

    kind: str
    request_id: str
    fingerprint: str
    received_at: datetime
    member: str | None = None
    nonce: str = Field(default_factory=lambda: secrets.token_hex(16))
    queued_at: datetime | None = None
    carried_out_at: datetime | None = None
    refused_at: datetime | None = None

    @property
    def key(self) -> str:
        """The row's key. No id holds a ``|``, so that no request of one's own gets at a part of another."""
        return "|".join(filter(None, (self.kind, self.request_id, self.member)))
