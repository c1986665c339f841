"""Who sends the messages of a queue, as far as that can be known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.messages import UNKNOWN_SOURCE, Message, Queue
from shared.domain.callers import NAME_LIMIT, Actor, CallerKind
from shared.redaction import without_secrets
from shared.rules.shown_text import as_shown

if TYPE_CHECKING:
    from shared.settings import Settings


def sender_of(queue: Queue, said: Message, settings: Settings) -> Actor | None:
    """Give who put a message into its queue; nobody but the app itself puts parts of orders there.

    Storage does not say who did. What is known is the queue and its account, where Azure RBAC says who may.
    """
    if queue is Queue.DEVICE_REGISTRATIONS:
        return None
    is_claimed = said.source and said.source != UNKNOWN_SOURCE
    return Actor(
        kind=CallerKind.QUEUE,
        id=queue.value,
        name=settings.queue_senders.get(queue.value),
        account=settings.account_of_queue(queue.value),
        source=as_shown(without_secrets(str(said.source))[:NAME_LIMIT]) if is_claimed else None,
    )
