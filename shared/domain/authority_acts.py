"""Acts on certificate authorities that are there: what each leads to, and when it is refused. Pure."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.domain.authorities import (
    OVER,
    UNOPENED,
    AuthorityAction,
    AuthorityChange,
    AuthorityRecord,
    AuthorityState,
    ProofOfPossession,
)
from shared.domain.words import RevocationReason
from shared.errors import Conflict, Deferred
from shared.rules.request_ids import led_to

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.callers import Actor

_ACTS = 40
_LOOK_AGAIN = timedelta(minutes=10)

BECOMES: Mapping[AuthorityAction, AuthorityState] = {
    AuthorityAction.DISABLE: AuthorityState.DISABLED,
    AuthorityAction.ENABLE: AuthorityState.ACTIVE,
    AuthorityAction.RETIRE: AuthorityState.RETIRED,
    AuthorityAction.REVOKE: AuthorityState.REVOKED,
    AuthorityAction.DELETE: AuthorityState.DELETED,
}
"""The state that each act leads to; those that give a CA another certificate leave it as it is."""

SHUTTING = frozenset({AuthorityAction.DISABLE, AuthorityAction.RETIRE, AuthorityAction.REVOKE})
"""Acts after which a CA signs less than before, and that take nothing away which could be needed again."""

_POSSIBLE: Mapping[AuthorityAction, frozenset[AuthorityState]] = {
    AuthorityAction.DISABLE: frozenset({AuthorityState.ACTIVE}),
    AuthorityAction.ENABLE: frozenset({AuthorityState.DISABLED}),
    AuthorityAction.RETIRE: frozenset({AuthorityState.ACTIVE, AuthorityState.DISABLED}),
    AuthorityAction.REVOKE: frozenset({AuthorityState.ACTIVE, AuthorityState.DISABLED, AuthorityState.RETIRED}),
    AuthorityAction.DELETE: frozenset(
        {
            AuthorityState.REQUESTED,
            AuthorityState.AWAITING_CERTIFICATE,
            AuthorityState.SIGNED,
            AuthorityState.DISABLED,
            AuthorityState.RETIRED,
            AuthorityState.REVOKED,
        }
    ),
}
"""The states from which an act leads on. What an act leads to stays as it is if the act comes again."""

_WAY_OUT: Mapping[AuthorityState, str] = {
    AuthorityState.REQUESTED: "wait until it is made; one that can't be made can be deleted",
    AuthorityState.AWAITING_CERTIFICATE: "install its certificate first, or delete it",
    AuthorityState.SIGNED: "wait until possession of its key is proved, or delete it",
    AuthorityState.ACTIVE: "retire it first, so that it signs nothing any more",
    AuthorityState.DISABLED: "enable it first",
    AuthorityState.RETIRED: "that is final: have another CA made, and roll its groups to that one",
    AuthorityState.REVOKED: "that is final: have another CA made, and roll its groups to that one",
    AuthorityState.DELETED: "that is final: have another CA made, under another name",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """An act that is asked for.

    Attributes:
        request: id of its request.
        action: what is to be done.
        reason: why; the name of a :class:`RevocationReason` for a revocation.
        comment: what whoever asks adds.
        groups: the enrollment groups that have the CA, or one below it.
        actor: who asks.
        serial_number: of a certificate that the CA gets.
        per_minute: so many devices are to be revoked a minute; ``None`` for as fast as that goes.
        devices_request: id of the request by which the revocation of a CA above it revokes the devices of this one.
        nonce: for the CA's row, if it is revoked and has none.
    """

    request: str
    action: AuthorityAction
    reason: str | None = None
    comment: str | None = None
    groups: tuple[str, ...] = ()
    actor: Actor | None = None
    serial_number: str | None = None
    per_minute: int | None = None
    devices_request: str | None = None
    nonce: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def change(self, at: datetime) -> AuthorityChange:
        """Give what it wants of a CA, decided now."""
        return AuthorityChange(
            request=self.request,
            action=self.action,
            decided_at=at,
            reason=self.reason,
            comment=self.comment,
            groups=self.groups,
            actor=self.actor,
            serial_number=self.serial_number,
            per_minute=self.per_minute,
        )


def devices_request_of(record: AuthorityRecord, change: AuthorityChange) -> str:
    """Name the request by which a revocation of a CA has its devices revoked.

    Nobody can work the name out, so nobody can have used it for something else.
    """
    return led_to("revoked-ca", record.name, change.request, str(change.decided_at), secret=record.nonce)


def asked_for(record: AuthorityRecord, *parts: str) -> str:
    """Name a request for something else that is to follow the revocation of a CA: the same however often it is asked.

    Args:
        record: of the CA, once that is decided.
        parts: what is asked for, as in a group's id and its last request.
    """
    return led_to("revoked-ca", record.name, str(record.revoked_at), *parts, secret=record.nonce)


def is_possible(record: AuthorityRecord, action: AuthorityAction) -> bool:
    """Tell whether an act leads a CA on from the state that it is in."""
    made = record.state is not AuthorityState.REQUESTED or record.problem is not None
    return record.state in _POSSIBLE[action] and made


def check_possible(record: AuthorityRecord, action: AuthorityAction) -> None:
    """See that the state of a CA allows an act.

    Raises:
        Conflict: it does not.
    """
    state = record.state
    if state is BECOMES[action] or is_possible(record, action):
        return
    raise Conflict.because(
        f"the certificate authority {record.name!r} is {state}, so it can't be {_done(action)}: {_WAY_OUT[state]}",
        field="name",
    )


def decided(record: AuthorityRecord, wanted: Wanted, at: datetime) -> AuthorityRecord:
    """Give a CA as an act wants it; as it is if the act was decided before.

    The state changes at once. What has to follow, and the event, stand in ``change`` until they are done.

    Raises:
        Conflict: its state does not allow the act.
        Deferred: what another act wants is not done yet.
    """
    if is_decided(record, wanted.request):
        return record
    if record.change is not None:
        raise Deferred(
            f"another act on {record.name!r} is being carried out: {record.change.action}",
            retry_after=timedelta(seconds=5),
        )
    check_possible(record, wanted.action)
    after = BECOMES[wanted.action]
    change = wanted.change(at)
    changes: dict[str, object] = {
        "state": after,
        "change": change,
    }
    if after is not record.state:
        changes |= {"since": at, "making": None, "problem": None}
    if wanted.action is AuthorityAction.REVOKE:
        # Revoked again, its devices are asked for again: at another pace, perhaps.
        guarded = record.changed(nonce=record.nonce or wanted.nonce)
        asked = wanted.devices_request or devices_request_of(guarded, change)
        changes |= {"nonce": guarded.nonce, "devices_request": asked}
    if wanted.action is AuthorityAction.REVOKE and record.revoked_at is None:
        changes |= {"revoked_at": at, "revocation_reason": RevocationReason(wanted.reason or "unspecified")}
    if wanted.action is AuthorityAction.DELETE:
        # The end of a key that is kept here. One in the vault is its owner's to purge.
        changes |= {"wrapped_key": None, "audited": ()}
        changes |= {"ended_unopened": record.ended_unopened or record.state in UNOPENED}
    return record.changed(**changes)


def certified(record: AuthorityRecord, wanted: Wanted, fields: Mapping[str, object], at: datetime) -> AuthorityRecord:
    """Give a CA that has got another certificate, which is still to be entered into the books and told.

    Args:
        record: as it was read.
        wanted: what was asked for.
        fields: what the record says of the certificate.
        at: when it was decided.
    """
    return record.changed(**fields, making=None, change=wanted.change(at))


def is_decided(record: AuthorityRecord, request: str) -> bool:
    """Tell whether what a request wants of a CA was decided before."""
    return request in record.acts or (record.change is not None and record.change.request == request)


def followed(record: AuthorityRecord, change: AuthorityChange) -> AuthorityRecord:
    """Give a CA when everything follows what an act wanted."""
    if record.change != change:
        return record
    done = record.changed(change=None, acts=(*record.acts, change.request)[-_ACTS:])
    # One that was being proved may be uploaded by a worker that is late: see :func:`withdrawn`.
    return withdrawn(done) if record.proof_of_possession is ProofOfPossession.VERIFIED else done


def withdrawn(record: AuthorityRecord) -> AuthorityRecord:
    """Enter of a CA that is over that no service knows of its key any more."""
    if record.state not in OVER or record.proof_of_possession is ProofOfPossession.BY_HAND:
        return record
    return record.changed(proof_of_possession=None)


def check_not_over(record: AuthorityRecord) -> None:
    """See that a CA may still get a key or a certificate.

    Raises:
        Conflict: nobody is to trust it any more.
    """
    if record.state in OVER:
        raise Conflict.because(
            f"the certificate authority {record.name!r} is {record.state}, so nothing is taken in for it: "
            f"{_WAY_OUT[record.state]}",
            field="name",
        )


def check_signs(record: AuthorityRecord) -> None:
    """See that a CA signs certificates.

    What waits for a CA that is disabled goes on when it is enabled again. The other ends are final.

    Raises:
        Deferred: it is disabled.
        Conflict: it is retired, revoked or deleted.
    """
    if record.state is AuthorityState.DISABLED:
        raise Deferred(
            f"the certificate authority {record.name!r} is disabled and signs nothing until it is enabled",
            retry_after=_LOOK_AGAIN,
        )
    if record.state in {AuthorityState.RETIRED, AuthorityState.REVOKED, AuthorityState.DELETED}:
        raise Conflict.because(
            f"the certificate authority {record.name!r} is {record.state} and signs nothing any more; roll its group "
            "to another CA, or name another",
            field="issuer",
        )


def _done(action: AuthorityAction) -> str:
    return f"{action.value}d" if action.value.endswith("e") else f"{action.value}ed"
