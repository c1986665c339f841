"""Feedback: what became of cloud-to-device messages, kept until a service has read it.

Rules and records: Microsoft, "Understand cloud-to-device messaging from an IoT hub" ("Message feedback"), and the
``FeedbackRecord`` of azure-iot-sdk-csharp for the spelling of names. The real hub holds records back for a while to
batch them; here they go as soon as somebody listens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from emulator.platform.store import Store

Ending = Literal["Success", "Expired", "DeliveryCountExceeded", "Rejected", "Purged"]
ACKS: Final = ("none", "positive", "negative", "full")
"""What a message may ask for: nothing, the good end, a bad one, or either."""

CONTENT_TYPE: Final = "application/vnd.microsoft.iothub.feedback.json"
TIME_TO_LIVE = timedelta(hours=1)
MAX_DELIVERIES = 10
BATCH_LIMIT = 64
_LAST: Final = "last"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records on their way to a service, oldest first, with their numbers."""

    numbers: Sequence[str]
    records: Sequence[Mapping[str, Any]]


def is_wanted(ack: str, ending: Ending) -> bool:
    """Tell whether a message wants its sender to know how it ended."""
    return ack in {"full", "positive" if ending == "Success" else "negative"}


class FeedbackQueue:
    """The feedback of one hub.

    Attributes:
        readers: called when there may be something to take.
    """

    def __init__(self, store: Store, host_name: str) -> None:
        self.readers: set[Callable[[], None]] = set()
        self._store = store
        self._records = f"hub.{host_name}.feedback"
        self._numbers = f"hub.{host_name}.feedbackNumber"
        self._taken: set[str] = set()

    def add(self, record: Mapping[str, Any], at: str) -> None:
        """Keep a record until it has been read, or its time is over.

        Args:
            record: without the time.
            at: the present moment.
        """
        number = int((self._store.get(self._numbers, _LAST) or {_LAST: 0})[_LAST]) + 1
        with self._store.transaction():
            self._store.put(self._numbers, _LAST, {_LAST: number})
            kept = {"record": {**record, "enqueuedTimeUtc": at}, "deliveries": 0}
            self._store.put(self._records, f"{number:012}", kept)

    def announce(self) -> None:
        """Let the readers look."""
        for reader in tuple(self.readers):
            reader()

    def take(self, now: datetime) -> Batch | None:
        """Give what nobody else has taken, and count the delivery; what is too old or came back too often is gone."""
        found: dict[str, Mapping[str, Any]] = {}
        for number, kept in self._store.scan(self._records):
            if number in self._taken or len(found) == BATCH_LIMIT:
                continue
            age = now - datetime.fromisoformat(kept["record"]["enqueuedTimeUtc"])
            if age >= TIME_TO_LIVE or kept["deliveries"] >= MAX_DELIVERIES:
                self._store.delete(self._records, number)
                continue
            self._store.put(self._records, number, {**kept, "deliveries": kept["deliveries"] + 1})
            found[number] = kept["record"]
        self._taken.update(found)
        return Batch(tuple(found), tuple(found.values())) if found else None

    def done(self, batch: Batch) -> None:
        """Let go of records that have been read."""
        with self._store.transaction():
            for number in batch.numbers:
                self._store.delete(self._records, number)
        self._taken.difference_update(batch.numbers)

    def give_back(self, batch: Batch) -> None:
        """Have records delivered once more."""
        self._taken.difference_update(batch.numbers)
        self.announce()
