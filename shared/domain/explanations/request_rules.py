"""Causes that requests about a device show, and messages about it that could not be carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.explanations.parts import Call, Remedy, Seen, day
from shared.domain.rejections import RejectionKind

if TYPE_CHECKING:
    from shared.domain.rejections import RejectionRecord
    from shared.domain.requests import RequestRecord, Wait


def set_aside(seen: Seen) -> str | None:
    """Something that was asked for it failed again and again, and was not carried out."""
    return _refusal(seen, RejectionKind.POISON, "was set aside")


def rejected(seen: Seen) -> str | None:
    """Something that was asked for it can't be carried out, and whoever asked was told so."""
    return _refusal(seen, RejectionKind.REJECTED, "was refused")


def _refusal(seen: Seen, kind: RejectionKind, fate: str) -> str | None:
    found = _refused(seen, kind)
    if not found:
        return None
    last = found[-1]
    why = "; ".join([each["message"] for each in last.reasons] + [each.cause for each in last.failures[-1:]])
    more = f"; {len(found) - 1} more are open" if len(found) > 1 else ""
    return f"a message about it in {last.queue} {fate} on {day(last.rejected_at)}: {why}{more}"


def _refused(seen: Seen, kind: RejectionKind) -> list[RejectionRecord]:
    return sorted((each for each in seen.rejections if each.kind is kind), key=lambda each: each.rejected_at)


def replay(seen: Seen) -> Remedy:
    """Carry out again what was set aside."""
    last = _refused(seen, RejectionKind.POISON)[-1]
    return Remedy(
        "Mend what the reasons say, and have the message carried out again.",
        Call("POST", f"/api/rejections/{last.rejection_id}/replay"),
    )


def close(seen: Seen) -> Remedy:
    """Deal with what was refused."""
    last = _refused(seen, RejectionKind.REJECTED)[-1]
    return Remedy(
        "Ask again in the way that the reasons say, and close the rejection; or have the message carried out again, if "
        "it can succeed now.",
        Call("POST", f"/api/rejections/{last.rejection_id}/close", {"comment": "asked again"}),
    )


def request_stuck(seen: Seen) -> str | None:
    """A request about it waits for somebody."""
    return _what_waits(seen, by_itself=False, until=", until somebody acts")


def unstick(seen: Seen) -> Remedy:
    """Do what the request waits for."""
    found = _waiting(seen, by_itself=False)
    if found is not None and found[0].rejection_id:
        return Remedy(
            "Mend what it waits for, and have its message carried out again.",
            Call("POST", f"/api/rejections/{found[0].rejection_id}/replay"),
        )
    return Remedy("Do what it waits for, which the request says.", _shown(found))


def request_waits(seen: Seen) -> str | None:
    """A request about it goes on later."""
    return _what_waits(seen, by_itself=True)


def see_request(seen: Seen) -> Remedy:
    """Look at the request."""
    return Remedy("It goes on by itself. The request says what it waits for.", _shown(_waiting(seen, by_itself=True)))


def _what_waits(seen: Seen, *, by_itself: bool, until: str = "") -> str | None:
    found = _waiting(seen, by_itself=by_itself)
    if found is None:
        return None
    request, wait = found
    return f"the request {request.request_id!r} waits since {day(wait.since)}{until}: {wait.what}"


def _waiting(seen: Seen, *, by_itself: bool) -> tuple[RequestRecord, Wait] | None:
    """Give the first request that goes on by itself, or of those that do not."""
    waits = ((each, each.wait) for each in seen.requests if each.wait is not None)
    return next((found for found in waits if (found[1].next_try is not None) == by_itself), None)


def _shown(found: tuple[RequestRecord, Wait] | None) -> Call:
    path = f"/api/requests/{found[0].request_id}?kind={found[0].kind}" if found else "/api/requests"
    return Call("GET", path)
