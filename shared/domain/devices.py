"""A device: its record, and what may become of it.

An act (order, renew, revoke, hold, reinstate, delete, switch) is a function in one of the modules beside this one: it
takes the record as it was read and gives the record as it is wanted, or raises why not. It is written in one guarded
transaction, and from then on the outcome is decided. What the services must do for it follows from the record alone
(:func:`shared.domain.wanted.wanted`), so that whoever brings it about, and however often, brings about the same.

Its certificates are in :mod:`shared.domain.held_certificates`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from shared.domain import lifecycles
from shared.domain.announcements import Announced, Announcement
from shared.domain.audit_entries import AuditedAct
from shared.domain.certificates import CertificateState
from shared.domain.doors import ClosedDoor
from shared.domain.entry_wishes import EntryChange
from shared.domain.held_certificates import HOLD, CertificateSummary, HeldCertificate, Purpose
from shared.domain.history import HistoryEntry, asked_by, with_entry
from shared.domain.record import Record
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import AwaitsOthers

if TYPE_CHECKING:
    from shared.domain.callers import Actor

_ACTS_LIMIT = 40
_ON_HOLD = timedelta(minutes=1)

OPEN_STATES = frozenset({DeviceState.ORDERED, DeviceState.ISSUED})
"""States of a device that its order still does something for."""

IN_ITS_HUB = frozenset({DeviceState.REGISTERED, DeviceState.RENEWING})
"""States of a device that has come into its hub, and may be renewed."""

IN_SERVICE = frozenset({DeviceState.ISSUED, *IN_ITS_HUB})
"""States of a device that has a certificate to use."""

REORDERABLE = frozenset({DeviceState.FAILED, DeviceState.DELETED, DeviceState.EXPIRED})
"""States in which a device can be ordered anew."""

OUT_OF_SERVICE = frozenset({DeviceState.REVOKED, DeviceState.DELETED})
"""States in which every door is shut."""


class Doors(StrEnum):
    """What may have been shut of the doors to a device: nothing, its hub, or all."""

    OPEN = "open"
    HUB_SHUT = "hubShut"
    SHUT = "shut"


def revoked_for(reason: RevocationReason) -> str:
    """Give what a revoked device shows as its reason."""
    return f"revoked: {reason.value}"


class DeviceRecord(Record):
    """One device.

    Attributes:
        order_id: the order or request that its present certificate comes from.
        purpose: which of the two it is.
        attempt: of its order's line, that it was ordered by: 0 for the first one.
        bundle: name of the blob with its bundle.
        own_key: whether the device made its key itself (CSR).
        unseen: whether it uses a certificate that the ledger has never seen: it was taken over from the services.
        registers_itself: whether it registers with DPS by itself at first boot.
        tags: of its twin, as they were ordered.
        sha256_thumbprints: of its last two certificates.
        validity_days: life of its certificates, as it was ordered; ``None`` for the deployment's.
        reason: why it failed or was revoked.
        revoked: the reason of its revocation.
        before_hold: the state that it had when it was put on hold.
        renewal: id of the renewal under way.
        certificate: the certificate that it uses.
        next_certificate: the certificate that it is renewed with, and does not use yet.
        pending: serial number of the certificate that is being made.
        held: every certificate of its that has not expired.
        disabled: whether an operator wants its identity in the hub disabled.
        switched_for: why an operator switched it last.
        own_entry: whether an operator gave it an individual enrollment.
        entry_disabled: whether an operator wants that disabled.
        entry_settings: what an operator has set of that, ``{}`` if nothing; ``None`` if it is not known.
        entry_follows: digest of the settings of its group that an entry of the app's has (:mod:`given_settings`).
        entry_asked_at: when an operator has asked for it, until it is written.
        entry_change: what is still to be changed in it.
        generation: grows with every act that the services must follow.
        converged: the generation that they follow.
        followed_state: the state that it had in that generation.
        doors: what may have been shut to it since it was let in last; ``None`` when there was nothing to do.
        announcements: what is told of the acts since.
        audited: those of them that an entry of the audit log is about.
        acts: ids of the last requests that took effect; one that comes again changes nothing.
        closed: its doors, while it is shut out and the services follow that.
        stamp: of the last write, by which a writer knows its own when its answer got lost.
        notes: names of the last acts' notes; that of the act which led to its generation comes last.
    """

    documents: ClassVar[frozenset[str]] = frozenset(
        {
            "certificate",
            "next_certificate",
            "history",
            "notes",
            "closed",
            "held",
            "announcements",
            "audited",
            "acts",
            "tags",
            "sha256_thumbprints",
            "entry_settings",
            "entry_change",
        }
    )

    lifecycle = lifecycles.DEVICE

    registration_id: str
    state: DeviceState
    order_id: str
    updated_at: datetime
    purpose: Purpose = Purpose.ORDER
    attempt: int = 0
    enrollment_group: str | None = None
    device_id: str | None = None
    assigned_hub: str | None = None
    certificate: CertificateSummary | None = None
    bundle: str | None = None
    own_key: bool = False
    unseen: bool = False
    registers_itself: bool = False
    tags: dict[str, Any] | None = None
    sha256_thumbprints: tuple[str, ...] = ()
    validity_days: int | None = None
    reason: str | None = None
    revoked: RevocationReason | None = None
    before_hold: DeviceState | None = None
    renewal: str | None = None
    next_certificate: CertificateSummary | None = None
    pending: str | None = None
    held: tuple[HeldCertificate, ...] = ()
    disabled: bool = False
    switched_for: str | None = None
    own_entry: bool = False
    entry_disabled: bool = False
    entry_settings: dict[str, Any] | None = None
    entry_follows: str | None = None
    entry_asked_at: datetime | None = None
    entry_change: EntryChange | None = None
    generation: int = 0
    converged: int = 0
    followed_state: DeviceState | None = None
    doors: Doors | None = None
    announcements: tuple[Announcement, ...] = ()
    audited: tuple[AuditedAct, ...] = ()
    acts: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    closed: tuple[ClosedDoor, ...] = ()
    stamp: str = ""
    notes: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """The name of the note of the act that led to its generation, if that was noted."""
        return self.notes[-1] if self.notes else None

    @property
    def phase(self) -> str:
        """Its state, where a hold is a state of its own."""
        return "onHold" if self.on_hold else self.state.value

    @property
    def on_hold(self) -> bool:
        """Whether it is revoked for now, and may be reinstated."""
        return self.state is DeviceState.REVOKED and self.revoked is HOLD

    @property
    def shown_state(self) -> DeviceState:
        """The state that is true at the services: what an act has asked for shows when it is so."""
        return self.state if self.converged == self.generation else self.followed_state or self.state

    @property
    def in_use(self) -> tuple[str, ...]:
        """Serial numbers of the certificates that it uses: the present one, and the one it is renewed with."""
        return tuple(each.serial_number for each in (self.certificate, self.next_certificate) if each is not None)

    @property
    def shut_out(self) -> bool:
        """Whether every door is shut to it: it is out of service, or what it could come in with is revoked.

        DPS reads no list: a group lets every certificate of its CA in.
        """
        if self.state in OUT_OF_SERVICE:
            return True
        in_use = [self.find(serial_number) for serial_number in self.in_use]
        if any(each is None or each.state is not CertificateState.REVOKED for each in in_use):
            return False
        return any(each.state is CertificateState.REVOKED for each in self.held)

    @property
    def settled(self) -> bool:
        """Whether the services follow the record, and everything was told."""
        return self.converged == self.generation and not self.announcements and not self.audited

    def find(self, serial_number: str) -> HeldCertificate | None:
        """Find one of its certificates."""
        return next((each for each in self.held if each.serial_number == serial_number), None)

    def issuance(self, purpose: Purpose, cause: str) -> HeldCertificate | None:
        """Find what was committed for a cause."""
        return next(
            (each for each in self.held if (each.purpose, each.cause) == (purpose, cause) and each.issued), None
        )

    def entered(self, state: DeviceState, at: datetime, note: str = "", **changes: object) -> DeviceRecord:
        """Give the record after a change of state, with its history."""
        return self.changed(state=state, updated_at=at, history=with_entry(self.history, at, state, note), **changes)

    def noted(self, at: datetime, note: str, **changes: object) -> DeviceRecord:
        """Give the record with an entry in its history, in the state that it has."""
        return self.changed(history=with_entry(self.history, at, self.state, note), **changes)

    def asked_by(self, before: DeviceRecord | None, actor: Actor, comment: str | None) -> DeviceRecord:
        """Say of what is new in it who asked for it.

        Args:
            before: the record as it was read; ``None`` for a new one.
            actor: who asked.
            comment: what they said to it.
        """
        history = asked_by(self.history, before.history if before else (), actor, comment)
        told = before.announcements if before else ()
        announcements = tuple(
            each if each.actor or each in told else each.model_copy(update={"actor": actor})
            for each in self.announcements
        )
        return self.model_copy(update={"history": history, "announcements": announcements})

    def with_held(self, *changed: HeldCertificate) -> tuple[HeldCertificate, ...]:
        """Give what it holds, with some of it changed; each notes the generation that is coming."""
        by_serial = {each.serial_number: each.changed(changed_in=self.generation + 1) for each in changed}
        return tuple(by_serial.get(each.serial_number, each) for each in self.held)

    def abandoned(self) -> list[HeldCertificate]:
        """Give up the certificate that is being made, if there is one."""
        pending = self.find(self.pending) if self.pending else None
        return [pending.changed(state=CertificateState.ABANDONED)] if pending else []

    @property
    def bundle_path(self) -> str:
        """Where its bundle is fetched."""
        return f"/api/devices/{self.registration_id}/bundle"

    def acted(self, act: str) -> tuple[str, ...]:
        """Give its acts with one more."""
        return (*self.acts, act)[-_ACTS_LIMIT:]

    def announcing(self, announced: Announced, correlation: str, *, occasion: str = "") -> DeviceRecord:
        """Add what is told when the services follow. ``occasion`` tells repeated events of one kind and cause apart."""
        added = Announcement.of(announced, correlation, occasion)
        return self.changed(announcements=(*self.announcements, added))


def on_hold(record: DeviceRecord) -> AwaitsOthers:
    """Say that work on a device goes on when its hold is undone."""
    name = record.registration_id
    return AwaitsOthers(f"{name!r} is on hold; this goes on when it is reinstated", retry_after=_ON_HOLD)
