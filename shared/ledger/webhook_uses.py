"""Webhooks by their ids: what each was used for, so that a signed body that was caught is good for nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from shared.domain.record import Record
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from shared.ports.rows import Table

_PARTITION = "webhook"
"""In the table of requests that revoke, among others, whose partitions have two characters, or are those of parts."""


class WebhookUse(Record):
    """What a webhook was used for first.

    Attributes:
        fingerprint: of its method, path and body.
        first_at: when that was.
    """

    webhook_id: str
    fingerprint: str
    first_at: datetime


class WebhookUses:
    """The ids that were used."""

    def __init__(self, table: Table) -> None:
        self._rows = Rows(table, WebhookUse, key=lambda each: (_PARTITION, each.webhook_id))

    async def claim(self, use: WebhookUse) -> WebhookUse:
        """Record what a webhook is used for, unless it is used already; give what it is used for."""
        while True:
            written = await self._rows.try_insert(use) or await self._rows.get(_PARTITION, use.webhook_id)
            if written is not None:
                return written.record
