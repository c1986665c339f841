"""Orders and their lines: their records, and what may become of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from shared.domain import lifecycles
from shared.domain.callers import Actor
from shared.domain.record import Part, Record
from shared.domain.words import IssuedDevices, RegisterBy

if TYPE_CHECKING:
    from collections.abc import Callable


class LineState(StrEnum):
    """States of a line of an order; those of its device are of their own, and go on after the order."""

    ORDERED = "ordered"
    ISSUED = "issued"
    REGISTERED = "registered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class OrderState(StrEnum):
    """States of an order.

    ``accepted``: its lines are being recorded. ``waiting``: nothing is left but first boots of devices. ``rejected``:
    as a whole; it has no lines, and its id is free.
    """

    ACCEPTED = "accepted"
    PROCESSING = "processing"
    WAITING = "waiting"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completedWithFailures"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @classmethod
    def _missing_(cls, value: object) -> OrderState | None:
        return cls.PROCESSING if value == "dispatched" else None  # version 1 of the schema


class Ending(StrEnum):
    """How an operator has an order end before its last line is done."""

    CANCEL = "cancel"
    CLOSE = "close"


UPLOADS = "uploads/"
"""How the names of lists begin that the app keeps itself; others belong to who put them there."""

EndState = Literal[OrderState.COMPLETED, OrderState.COMPLETED_WITH_FAILURES, OrderState.CANCELLED]

DISPATCHED = frozenset({OrderState.PROCESSING, OrderState.WAITING})
"""States of an order whose lines are all on their way, and not all done."""

UNDER_WAY = frozenset({OrderState.ACCEPTED, *DISPATCHED})
"""States of an order that something is still to be done for."""

COMPLETED = frozenset({OrderState.COMPLETED, OrderState.COMPLETED_WITH_FAILURES})


class LineCounts(Part):
    """An order's lines, counted.

    Attributes:
        by_state: how many there are of each state.
        left: of them, those that something is still to be done for.
        awaiting: of these, those whose device is to boot for the first time.
    """

    by_state: dict[str, int]
    left: int
    awaiting: int


class Told(Part):
    """What an order tells of its progress: written down before it is told, so that it is told as it is written.

    Attributes:
        finished: lines that were done.
        state: of the order.
        counts: its lines by state.
        is_told: whether the event is out.
    """

    finished: int
    state: OrderState
    counts: dict[str, int]
    is_told: bool = False


class OrderRecord(Record):
    """One order.

    Attributes:
        fingerprint: of its content: the same id with other content is refused.
        device_count: its lines.
        accepted_at: when it was accepted, or refused.
        list_name: of the blob with its devices; ``None`` if they came with the order.
        list_etag: of the blob when the order was accepted: what it holds is what was ordered.
        list_size: bytes of the blob.
        dispatched: lines that are on their way; a multiple of 100, or all.
        watch: tells the one message that sees to the order from those that did before.
        watch_due: when that message is to be seen; ``None`` when nothing is to be done any more.
        counts: lines by state as they were last counted.
        reasons: why it is rejected, or why it has fewer lines than its list; each ``{"field", "message"}``.
        revision: how often it has come into another state.
        ending: how an operator has it end, by the request ``ended_by``.
        issued: what becomes of devices that have their certificate when it is cancelled.
        revoked: lines whose devices are being revoked, from the first on.
        retries: how often its failed lines were tried again.
        progress_every: after how many lines that are done it tells its progress; ``None`` for never.
        progress: what it told last.
        retrying: whether some of these are still to be sent, for the request ``retried_by``.
        actor: who ordered.
        comment: what they said to it.
    """

    lifecycle = lifecycles.ORDER
    schema_version: ClassVar[int] = 2

    documents: ClassVar[frozenset[str]] = frozenset({"counts", "reasons", "progress", "actor"})

    order_id: str
    fingerprint: str = ""
    state: OrderState
    enrollment_group: str = ""
    register_by: RegisterBy = RegisterBy.SERVICE
    device_count: int = 0
    accepted_at: datetime
    validity_days: int | None = None
    completed_at: datetime | None = None
    list_name: str | None = None
    list_etag: str | None = None
    list_size: int = 0
    dispatched: int = 0
    watch: datetime | None = None
    watch_due: datetime | None = None
    counts: dict[str, int] | None = None
    reasons: tuple[dict[str, str], ...] | None = None
    revision: int = 0
    ending: Ending | None = None
    ended_by: str | None = None
    issued: IssuedDevices | None = None
    revoked: int = 0
    retries: int = 0
    retrying: bool = False
    retried_by: str | None = None
    progress_every: int | None = None
    progress: Told | None = None
    actor: Actor | None = None
    comment: str | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether nothing of it is to be begun any more."""
        return self.ending is Ending.CANCEL


OPEN_STATES = frozenset({LineState.ORDERED, LineState.ISSUED})
"""States of a line that something is still to be done for, unless it was closed."""


class OrderLine(Record):
    """One device of an order, with all of the order that its registration needs.

    Attributes:
        line: its index in the order, from 0.
        place: where it stands in the order, for messages: ``devices[3]``, or ``line 5`` of a CSV file.
        requested_id: the registration id as the order spells it.
        registration_id: in canonical form; ``None`` when it has none, since the line is wrong.
        reasons: why it failed, or does not get on; each ``{"field", "message"}``.
        refusal: why its device can't be had: decided, and being told. Whoever takes it up again tells the same.
        awaits_device: whether it waits for the first boot of its device, which may never come.
        begun_at: when somebody began to make its device; a cancelled order leaves such a line to end by itself.
        attempt: how often the order's failed lines were tried again when this one was, the last time.
    """

    schema_version: ClassVar[int] = 2
    documents: ClassVar[frozenset[str]] = frozenset({"tags", "desired", "reasons", "refusal"})

    order_id: str
    line: int
    state: LineState
    requested_id: str
    enrollment_group: str
    register_by: RegisterBy
    accepted_at: datetime
    place: str = ""
    validity_days: int | None = None
    registration_id: str | None = None
    csr: str | None = None
    key_algorithm: str | None = None
    tags: dict[str, Any] | None = None
    desired: dict[str, Any] | None = None
    serial_number: str | None = None
    thumbprint: str | None = None
    expires_at: datetime | None = None
    device_id: str | None = None
    assigned_hub: str | None = None
    reasons: tuple[dict[str, str], ...] | None = None
    refusal: tuple[dict[str, str], ...] | None = None
    finished_at: datetime | None = None
    awaits_device: bool = False
    begun_at: datetime | None = None
    attempt: int = 0

    @property
    def where(self) -> str:
        """Where it stands in the order, as its owner knows it."""
        return self.place or f"devices[{self.line}]"

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done for it."""
        return self.finished_at is None and self.state in OPEN_STATES

    @property
    def reason(self) -> str | None:
        """Why it failed, or does not get on, in one line."""
        if self.reasons is None:
            return None
        return "; ".join(f"{each['field']}: {each['message']}" if each["field"] else each["message"]
                         for each in self.reasons)  # fmt: skip


# --- changes of an order: each gives the same order where it was made before ---


def dispatched(count: int) -> Callable[[OrderRecord], OrderRecord]:
    """Enter that the first lines are on their way."""
    return lambda order: order.changed(dispatched=max(order.dispatched, count))


def all_dispatched(order: OrderRecord) -> OrderRecord:
    """Enter that all lines are on their way."""
    return order.changed(state=OrderState.PROCESSING) if order.state is OrderState.ACCEPTED else order


def cut(taken: int, reasons: tuple[dict[str, str], ...]) -> Callable[[OrderRecord], OrderRecord]:
    """Enter that no more than some lines could be read of an order's list, and why."""

    def change(order: OrderRecord) -> OrderRecord:
        if order.state is not OrderState.ACCEPTED:
            return order
        if not taken:
            return order.changed(state=OrderState.REJECTED, watch_due=None, reasons=reasons)
        return order.changed(state=OrderState.PROCESSING, device_count=taken, dispatched=taken, reasons=reasons)

    return change


def watched_by(watch: datetime, due: datetime) -> Callable[[OrderRecord], OrderRecord]:
    """Enter which message sees to an order, unless a later one does."""

    def change(order: OrderRecord) -> OrderRecord:
        if order.state not in UNDER_WAY or (order.watch is not None and order.watch >= watch):
            return order
        return order.changed(watch=watch, watch_due=due)

    return change


def counted(counts: LineCounts) -> Callable[[OrderRecord], OrderRecord]:
    """Enter how many lines there are by state, and whether all that are left wait for their devices."""

    def change(order: OrderRecord) -> OrderRecord:
        if order.state not in DISPATCHED:
            return order
        waits = 0 < counts.left == counts.awaiting
        state = OrderState.WAITING if waits else OrderState.PROCESSING
        return order.changed(state=state, counts=counts.by_state)

    return change


def progressed(counts: LineCounts) -> Callable[[OrderRecord], OrderRecord]:
    """Write down what is to be told of an order's progress, if enough lines are done since it told something."""

    def change(order: OrderRecord) -> OrderRecord:
        if order.progress_every is None or order.state not in DISPATCHED or order.is_cancelled:
            return order
        finished, before = order.device_count - counts.left, order.progress.finished if order.progress else 0
        if not counts.left or finished // order.progress_every <= before // order.progress_every:
            return order
        return order.changed(progress=Told(finished=finished, state=order.state, counts=counts.by_state))

    return change


def progress_told(told: Told) -> Callable[[OrderRecord], OrderRecord]:
    """Enter that an order's progress was told."""
    return lambda order: order.changed(progress=told.changed(is_told=True)) if order.progress == told else order


def end_of(order: OrderRecord, counts: LineCounts) -> EndState:
    """Tell how an order ends whose lines are done."""
    if order.is_cancelled:
        return OrderState.CANCELLED
    failures = counts.by_state.get(LineState.FAILED, 0)
    return OrderState.COMPLETED_WITH_FAILURES if failures else OrderState.COMPLETED


def completed(counts: LineCounts, seen: OrderRecord, at: datetime) -> Callable[[OrderRecord], OrderRecord]:
    """Enter that nothing is left to be done, unless somebody has acted on the order since it was seen."""

    def change(order: OrderRecord) -> OrderRecord:
        if order.state not in DISPATCHED and not (order.is_cancelled and order.state in UNDER_WAY):
            return order
        if order.retrying or (order.ending, order.retries) != (seen.ending, seen.retries):
            return order
        return order.changed(state=end_of(order, counts), completed_at=at, counts=counts.by_state, watch_due=None)

    return change


# --- the list of orders ---


class ListedOrder(Record):
    """An order in the list of all orders, in which the latest comes first.

    Attributes:
        revision: of the order's record that it was made from: the later one stays.
        list_name: of the blob with its devices, if the app keeps it, and it is not deleted.
    """

    order_id: str
    state: OrderState
    enrollment_group: str
    device_count: int
    accepted_at: datetime
    completed_at: datetime | None = None
    revision: int = 0
    list_name: str | None = None


def listed(order: OrderRecord) -> ListedOrder:
    """Give an order as it is listed."""
    return ListedOrder(
        order_id=order.order_id,
        state=order.state,
        enrollment_group=order.enrollment_group,
        device_count=order.device_count,
        accepted_at=order.accepted_at,
        completed_at=order.completed_at,
        revision=order.revision,
        list_name=order.list_name if order.list_name and order.list_name.startswith(UPLOADS) else None,
    )
