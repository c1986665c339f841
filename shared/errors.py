"""What can go wrong, as a tree; the kind decides what a trigger does.

    DeviceFactoryError
    ├── Rejected              the request can never succeed: complete it, record it, say why
    │   ├── NotFound          ... because what it names does not exist (HTTP 404)
    │   ├── Conflict          ... because it contradicts what exists (HTTP 409)
    │   │   └── Reused        ... because its id was used for something else
    │   ├── PreconditionFailed  ... because what it was based on has changed (HTTP 412)
    │   ├── NotAuthentic      ... because who asks, or the signature, is missing or wrong (HTTP 401)
    │   ├── Forbidden         ... because who asks has not the role for it (HTTP 403)
    │   ├── LengthRequired    ... because its body did not arrive (HTTP 411)
    │   └── Gone              ... because it was handed out before (HTTP 410)
    ├── Deferred              not yet: put it back for later, without using up a delivery
    │   ├── AwaitsOthers      ... because somebody outside has to act first, which may take weeks
    │   │   └── AwaitsDevice  ... a device, which has to register by itself
    │   ├── AwaitsApproval    ... because a second person has to approve it first (HTTP 202)
    │   ├── TooManyRequests   ... because its caller asks too often (HTTP 429)
    │   ├── UnderWay          ... because messages of its own carry it out
    │   └── Overtaken         ... because somebody else has changed what it is about: the next look tells
    └── Misconfigured         not until a setting or a secret of the deployment is put right (HTTP 500)

Every other exception means that the world is wrong: it is raised on. In an outage (network, 5xx, a missing role) the
message waits; of a bug the host retries it and at last sets it aside as poison.

A message never holds a private key, a password or a token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import Self

from shared.redaction import without_secrets

FIELD_LIMIT, MESSAGE_LIMIT = 300, 1500
"""Characters of a reason's field and message."""

REASONS_LIMIT = 12_000
"""Characters of all reasons of a rejection as JSON: an event has 48 KiB, and a column of a table 32 K characters."""

_REST_SIZE = 200
"""Characters of the reason that tells how many are left out."""

REASONS_MOST = (REASONS_LIMIT + _REST_SIZE) // len(json.dumps({"field": "", "message": ""}))
"""How many reasons are kept of a rejection at the very most: whoever has more need not write them all."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause of a rejection. A secret in it is replaced by a mark, and what is very long is cut.

    Attributes:
        field: path of the field in the request, in its own spelling, as in ``devices[3].registrationId``;
            empty when the request as a whole is meant.
        message: what was wrong, with which value, and what would be right.
    """

    field: str
    message: str

    def __post_init__(self) -> None:
        """Keep secrets out of everything that reasons get into: answers, events, rows and the log."""
        object.__setattr__(self, "field", _cut(without_secrets(self.field), FIELD_LIMIT))
        object.__setattr__(self, "message", _cut(without_secrets(self.message), MESSAGE_LIMIT))

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class ServiceFailed(RuntimeError):
    """A service says that it can't do its part now, in a way that its SDK has no error for."""


class DeviceFactoryError(Exception):
    """Base of all errors that this app raises on purpose."""


class Rejected(DeviceFactoryError):
    """The request can never succeed as it stands.

    Args:
        reasons: every cause found, at least one. As many are kept as an event and a row of a table can hold; the last
            one then says how many are not shown.
        more: how many causes there are behind :data:`REASONS_MOST` of them.
    """

    def __init__(self, *reasons: Reason, more: int = 0) -> None:
        if not reasons:
            raise ValueError("a rejection needs at least one reason")
        self.reasons = _bounded(reasons, more)
        super().__init__("; ".join(str(reason) for reason in self.reasons))

    def documented(self) -> tuple[dict[str, str], ...]:
        """Give the reasons as they stand in events, problem details and the ledger."""
        return tuple({"field": reason.field, "message": reason.message} for reason in self.reasons)

    @classmethod
    def because(cls, message: str, *, field: str = "") -> Self:
        """Reject for a single reason."""
        return cls(Reason(field, message))


class NotFound(Rejected):
    """The request names something that does not exist."""


class Conflict(Rejected):
    """The request contradicts what exists."""


class Reused(Conflict):
    """The request's id was used before, for something else."""


class PreconditionFailed(Rejected):
    """What the request was based on has changed since (ETag)."""


class NotAuthentic(Rejected):
    """Who asks does not say who they are in a way that counts here, or the request's signature is missing or wrong."""


class Forbidden(Rejected):
    """Who asks has not the role that the request needs; the message names the role, and nothing of what is there."""


class Gone(Rejected):
    """What the request asks for was handed out before and is not kept."""


class LengthRequired(Rejected):
    """The request announced a body, and the host did not hand it on."""


class Misconfigured(DeviceFactoryError):
    """A setting or a secret of the deployment can't be used; the message names it, and not its value."""


class Deferred(DeviceFactoryError):
    """The request can't be finished yet.

    Args:
        message: what is being waited for.
        retry_after: how long to wait before the next try.

    Attributes:
        is_entered: whether the row of its request says so.
    """

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        self.retry_after, self.is_entered = retry_after, False
        super().__init__(message)


class LogDamaged(Deferred):
    """The log is not what it was. No certificate is signed until it is mended; readiness says what is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=timedelta(minutes=5))


class LedgerBehind(Deferred):
    """The ledger is older than it was, or not whole. Nothing is signed until what is missing was taken back."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=timedelta(seconds=15))

    @classmethod
    def of_refusal(cls, fault: str, refusal: Rejected) -> Self:
        """Say that a refusal does not count, since the ledger may lack what it is about."""
        return cls(f"{fault}. It may not know what this is about: {refusal}")


class AwaitsOthers(Deferred):
    """Somebody outside has to do something first."""


class AwaitsDevice(AwaitsOthers):
    """A device has to do something first."""


class AwaitsApproval(Deferred):
    """A second person has to approve what is asked for.

    Args:
        message: what is being waited for.
        retry_after: how long to wait before the next look.
        approval_id: of what they have to decide.
    """

    def __init__(self, message: str, *, retry_after: timedelta, approval_id: str) -> None:
        self.approval_id = approval_id
        super().__init__(message, retry_after=retry_after)


class TooManyRequests(Deferred):
    """Who asks does so too often; the message says what the limit is."""


class UnderWay(Deferred):
    """The request is being carried out by messages of its own: it does not wait, and is not at its end."""


class Overtaken(Deferred):
    """Somebody else has changed what the request is about; what they wrote is looked at on the next try."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=timedelta(seconds=1))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _bounded(reasons: tuple[Reason, ...], more: int) -> tuple[Reason, ...]:
    """Leave out the reasons beyond what can be recorded, and say so; what was bounded before stays as it is."""
    sizes = [len(json.dumps({"field": reason.field, "message": reason.message})) for reason in reasons]
    if not more and sum(sizes) <= REASONS_LIMIT + _REST_SIZE:
        return reasons
    kept = max(1, sum(total <= REASONS_LIMIT for total in accumulate(sizes)))
    left_out = len(reasons) - kept + more
    if not left_out:
        return reasons
    return (*reasons[:kept], Reason("", f"and {left_out} more; mend these first, then send it again"))
