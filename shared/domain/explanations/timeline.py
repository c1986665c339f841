"""The timeline of a device: what the ledger, DPS, its certificates, its requests and its rejections say, by time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from shared.domain.explanations.parts import Moment, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.domain.callers import Actor

LEDGER: Final = "ledger"
CERTIFICATES: Final = "certificates"
DPS: Final = "dps"
REQUESTS: Final = "requests"
REJECTIONS: Final = "rejections"


def timeline(seen: Seen) -> tuple[Moment, ...]:
    """Give what happened, the oldest first, and when its certificates end."""
    moments = [*_history(seen), *_certificates(seen), *_registration(seen), *_requests(seen), *_rejections(seen)]
    return tuple(sorted(moments, key=lambda each: each.at))


def _history(seen: Seen) -> Iterator[Moment]:
    for each in seen.device.history:
        why = f": {each.note}" if each.note else ""
        yield Moment(each.at, LEDGER, f"{each.state.value}{why}{_by(each.actor)}")


def _by(actor: Actor | None) -> str:
    return f", by {actor.kind.value} {actor.name or actor.id}" if actor else ""


def _certificates(seen: Seen) -> Iterator[Moment]:
    for each in seen.device.held:
        yield Moment(
            each.recorded_at, CERTIFICATES, f"{each.serial_number} was asked for by {each.purpose} {each.cause}"
        )
        if each.revoked_at is not None:
            yield Moment(each.revoked_at, CERTIFICATES, f"{each.serial_number} was revoked: {each.reason}")
        if each.not_after is not None:
            verb = "ended" if each.expired(seen.now) else "will end"
            yield Moment(each.not_after, CERTIFICATES, f"{each.serial_number} {verb}")


def _registration(seen: Seen) -> Iterator[Moment]:
    record = seen.known_registration
    if record is None:
        return
    place = f" to {record['assignedHub']}" if record.get("assignedHub") else ""
    for name, text in (
        ("createdDateTimeUtc", "it registered for the first time"),
        ("lastUpdatedDateTimeUtc", f"its registration is {record.get('status')}{place}"),
    ):
        at = _time(record.get(name))
        if at is not None:
            yield Moment(at, DPS, text)


def _time(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo else None


def _requests(seen: Seen) -> Iterator[Moment]:
    for each in seen.requests:
        yield Moment(
            each.received_at,
            REQUESTS,
            f"{each.kind} {each.request_id} was asked for{_by(each.actor)}, and is {each.state.value}",
        )
        if each.wait is not None:
            yield Moment(each.wait.since, REQUESTS, f"{each.request_id} waits: {each.wait.what}")


def _rejections(seen: Seen) -> Iterator[Moment]:
    for each in seen.rejections:
        why = "; ".join(reason["message"] for reason in each.reasons)
        yield Moment(each.rejected_at, REJECTIONS, f"a message in {each.queue} was refused or set aside: {why}")
