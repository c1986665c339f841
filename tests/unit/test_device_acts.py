"""Acts on a device's record, in any order: what is shut stays shut, and no certificate gets lost."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain import issuance, revocation, upkeep
from shared.domain.callers import Actor, CallerKind
from shared.domain.certificates import CertificateState
from shared.domain.devices import OUT_OF_SERVICE, DeviceRecord
from shared.domain.held_certificates import HELD_LIMIT, CertificateSummary, HeldCertificate, Purpose
from shared.domain.wanted import wanted
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import Conflict, Deferred, Overtaken, Rejected
from tests.pki.hierarchy import NOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

HOLD, COMPROMISE = RevocationReason.CERTIFICATE_HOLD, RevocationReason.KEY_COMPROMISE
ACTIVE, REVOKED = CertificateState.ACTIVE, CertificateState.REVOKED
COLUMN = 32_768
STEPS = (
    *("order", "reserve", "commit", "register", "fail", "renew", "renewed", "expire", "later"),
    *("hold", "revoke", "reinstate", "delete", "hold former", "revoke former", "reinstate former"),
    *("disable", "enable", "converge", "redeliver"),
)
ROWS = (
    ("order", "reserve", "commit", "register"),
    ("order", "reserve", "commit", "fail"),
    ("renew", "reserve", "commit"),
    ("renew", "reserve", "commit", "renewed"),
    ("later", "later", "expire", "expire"),
    *((step,) for step in STEPS),
)
"""What happens in one go; steps by themselves would seldom lead anywhere."""


@dataclass
class Life:
    """A device that everybody does something to. An act that is refused changes nothing.

    Attributes:
        committed: what was ever made its certificate, with its end.
        final: what was ever revoked for good.
    """

    record: DeviceRecord | None = None
    now_is: int = 0
    serial: int = 0
    causes: int = 0
    committed: dict[str, int] = field(default_factory=dict)
    final: set[str] = field(default_factory=set)
    last: Callable[[DeviceRecord], DeviceRecord] | None = None

    @property
    def at(self) -> datetime:
        """The present time."""
        return NOW + timedelta(days=self.now_is)

    def act(self, step: str, choice: int) -> None:
        """Do one thing, and see that what must hold holds."""
        before = self.record
        try:
            self._do(step, choice)
        except (Conflict, Deferred):
            assert self.record is before
        if self.record is not None:
            self.check(before, self.record)

    def _do(self, step: str, choice: int) -> None:
        if step == "later":
            self.now_is += choice * 20
            return
        if step == "order":
            self.causes += 1
            fresh = DeviceRecord(
                registration_id="press", state=DeviceState.ORDERED, order_id=f"{self.causes:036d}", updated_at=self.at
            )
            self.record = issuance.ordered(self.record, fresh, field="")
            return
        record = self.record
        if record is None:
            return
        if step == "redeliver":
            if self.last is not None:
                self.record = self.last(record)
            return
        self.record = self._acted(record, step, choice)

    def _acted(self, record: DeviceRecord, step: str, choice: int) -> DeviceRecord:
        self.causes += 1
        named: dict[str, Any] = {"act": f"act-{self.causes}", "at": self.at, "correlation": f"act-{self.causes}"}
        some = record.held[choice % len(record.held)].serial_number if record.held else "none"
        renews = record.renewal is not None
        acts: dict[str, Callable[[DeviceRecord], DeviceRecord]] = {
            "reserve": partial(self._reserve, renews=renews),
            "commit": partial(self._commit, renews=renews, days=30 + 30 * (choice % 4)),
            "register": lambda record: issuance.registered(record, hub="hub", device_id="press", at=self.at),
            "fail": lambda record: issuance.failed(record, record, "no", self.at),
            "renew": lambda record: issuance.renewing(record, f"renewal-{self.causes}", brings_csr=True),
            "renewed": lambda record: issuance.renewed(
                record, record.renewal or "", hub="hub", device_id="press", at=self.at
            ),
            "expire": lambda record: self._expire(record, some),
            "hold": partial(revocation.revoked, reason=HOLD, **named),
            "revoke": partial(revocation.revoked, reason=COMPROMISE, **named),
            "reinstate": partial(revocation.reinstated, **named),
            "delete": partial(revocation.deleted, **named),
            "hold former": partial(self._former, serial=some, reason=HOLD, named=named),
            "revoke former": partial(self._former, serial=some, reason=COMPROMISE, named=named),
            "reinstate former": lambda record: revocation.former_reinstated(record, some, **named),
            "disable": lambda record: upkeep.switched(record, enabled=False, reason="r", at=self.at),
            "enable": lambda record: upkeep.switched(record, enabled=True, reason="r", at=self.at),
            "converge": lambda record: upkeep.told(
                upkeep.converged(record, record.generation, wanted(record, self.at).doors), record.announcements
            ),
        }
        if step in {"hold", "revoke", "reinstate", "delete"}:
            self.last = acts[step]
        return acts[step](record)

    def _reserve(self, record: DeviceRecord, *, renews: bool) -> DeviceRecord:
        self.serial += 1
        return issuance.reserved(
            record,
            HeldCertificate(
                serial_number=f"{self.serial:040x}",
                state=CertificateState.RESERVED,
                issuer="ca",
                purpose=Purpose.RENEWAL if renews else record.purpose,
                cause=record.renewal or record.order_id,
                recorded_at=self.at,
                public_key=f"{self.serial:064x}",
            ),
        )

    def _commit(self, record: DeviceRecord, *, renews: bool, days: int) -> DeviceRecord:
        serial = record.pending or "none"
        summary = CertificateSummary(
            serial_number=serial,
            thumbprint="T",
            not_before=self.at,
            not_after=self.at + timedelta(days=days),
            issuer="ca",
        )
        made = issuance.Committed(summary, "bundle", "T2")
        after = (
            issuance.successor_issued(record, made, own_key=False, at=self.at)
            if renews
            else issuance.issued(record, made, self.at)
        )
        self.committed[serial] = self.now_is + days
        return after

    def _expire(self, record: DeviceRecord, serial: str) -> DeviceRecord:
        if self.committed.get(serial, self.now_is) >= self.now_is:
            return record  # a sweep gives the notice when it has ended, and not before
        return upkeep.expired(record, serial, self.at)

    @staticmethod
    def _former(record: DeviceRecord, *, serial: str, reason: RevocationReason, named: dict[str, Any]) -> DeviceRecord:
        if serial in record.in_use:
            raise Conflict.because("is in use")  # the workflow revokes the device then
        return revocation.former_revoked(record, serial, reason=reason, **named)

    # --- what must hold ---

    def check(self, before: DeviceRecord | None, record: DeviceRecord) -> None:
        """See that what must hold after every act holds."""
        want = wanted(record, self.at)
        held = {each.serial_number: each for each in record.held}
        self.final |= {serial for serial, each in held.items() if each.final}

        # Every certificate that was ever committed is known until it has expired.
        for serial, ends in self.committed.items():
            assert serial in held or ends < self.now_is

        # What is revoked for good stays so, and is on its list.
        for serial in self.final & held.keys():
            assert held[serial].final
            assert held[serial].listed

        # No certificate that is revoked gets in: the doors are shut, or only those in use are taken, which are not.
        revoked = {serial for serial, each in held.items() if each.state is REVOKED and not each.expired(self.at)}
        if revoked and not want.shut:
            assert want.own_entry
            assert not revoked & set(want.in_use)
        if record.state in OUT_OF_SERVICE:
            assert want.shut
            assert not want.identity_enabled

        # One certificate is in force, or two while the second waits for its device.
        active = {serial for serial, each in held.items() if each.state is ACTIVE and not each.expired(self.at)}
        assert active <= set(record.in_use)
        assert len(active) <= (2 if record.next_certificate else 1)

        # A door that may have been shut is known to be, whatever came of that.
        if want.shut:
            assert record.doors == "shut"

        if before is not None:
            self.check_step(before, record)

    def check_step(self, before: DeviceRecord, record: DeviceRecord) -> None:
        """See that an act leads from one state to another as it may."""
        assert record.generation >= before.generation
        was_final = before.state in OUT_OF_SERVICE and not before.on_hold
        if was_final:
            allowed = {before.state, DeviceState.DELETED}
            if before.state is DeviceState.DELETED:
                allowed.add(DeviceState.ORDERED)
            assert record.state in allowed
        if record.state is not DeviceState.ORDERED and _doors_of(before) != _doors_of(record):
            assert record.converged != record.generation, "the services have something to follow"


def _doors_of(record: DeviceRecord) -> tuple[object, ...]:
    want = wanted(record, NOW)
    return want.shut, want.identity_enabled


@given(st.lists(st.tuples(st.sampled_from(ROWS), st.integers(0, 5)), max_size=30))
@settings(max_examples=500, deadline=None)
def test_whatever_happens_to_a_device_nothing_that_is_revoked_gets_in(rows: list[tuple[tuple[str, ...], int]]) -> None:
    """After any row of acts: no open door for what is revoked, one certificate in force, none forgotten."""
    life = Life()
    for steps, choice in rows:
        for step in steps:
            life.act(step, choice)


LIVES = st.lists(st.sampled_from(ROWS), max_size=12)


@given(LIVES, st.sampled_from(["revoke", "delete"]), LIVES)
@settings(max_examples=300, deadline=None)
def test_from_a_final_revocation_no_way_leads_to_an_open_door(
    before: list[tuple[str, ...]], end: str, after: list[tuple[str, ...]]
) -> None:
    """Only a new order of a deleted device brings another certificate; what it had stays out for ever."""
    life = Life()
    for step in ("order", "reserve", "commit", "register", *chain.from_iterable(before)):
        life.act(step, 1)
    life.act(end, 1)
    record = life.record
    assert record is not None
    if record.state not in OUT_OF_SERVICE or record.on_hold:
        return  # it had nothing to revoke
    had = {each.serial_number for each in record.held if each.issued}
    for step in chain.from_iterable(after):
        life.act(step, 1)
        assert life.record is not None
        want = wanted(life.record, NOW + timedelta(days=life.now_is))
        assert want.shut or not had & set(want.in_use)
        if life.record.order_id == record.order_id:
            assert want.shut


@pytest.mark.parametrize("length", [128])
def test_a_record_with_all_that_it_can_hold_fits_its_columns(length: int) -> None:
    """As many certificates, acts and entries as a record keeps, each as long as can be."""
    life = Life()
    for step in ("order", "reserve", "commit", "register"):
        life.act(step, 1)
    record = life.record
    assert record is not None
    full = HeldCertificate(
        serial_number="f" * 40,
        state=CertificateState.SUPERSEDED,
        issuer="i" * 64,
        purpose=Purpose.REQUEST,
        cause="c" * length,
        recorded_at=NOW.replace(microsecond=123456),
        public_key="a" * 64,
        not_after=NOW,
        revoked_at=NOW.replace(microsecond=123456),
        reason=RevocationReason.CESSATION_OF_OPERATION,
        successor="f" * 40,
        listed=True,
        changed_in=1_000,
    )
    count = HELD_LIMIT // full.room
    assert count >= 45, "certificates at the least"
    record = record.changed(held=(full,) * count)
    for _ in range(200):
        record = record.noted(NOW, "n" * 5_000, acts=record.acted("r" * (length + 10)))
    for name, value in record.columns().items():
        assert not isinstance(value, str) or len(value) < COLUMN, name
    assert len(record.acts) == 40
    assert len(record.history) == 60


def test_a_device_with_too_many_certificates_is_told_so() -> None:
    """Renewed every week for a year it is not; with more than a record can name, the next one waits."""
    life = Life()
    for step in ("order", "reserve", "commit", "register"):
        life.act(step, 3)
    weeks = 0
    while life.record is not None and life.record.state is DeviceState.REGISTERED and weeks < 200:
        weeks += 1
        for step in ("renew", "reserve", "commit", "renewed"):
            life.act(step, 3)
        if life.record.renewal is not None:
            break
    assert 52 < weeks < 200
    assert life.record is not None
    assert len(life.record.columns()["held"]) < COLUMN
    with pytest.raises(
        Conflict, match="certificates that have not expired; it can get another one when some of them have expired"
    ):
        life._reserve(life.record, renews=True)  # noqa: SLF001 - the step by itself
    life.now_is += 200
    for each in life.record.held:
        life.record = upkeep.expired(life.record, each.serial_number, life.at)
    assert life._reserve(life.record.model_copy(update={"state": DeviceState.REGISTERED}), renews=True)  # noqa: SLF001


def test_an_act_that_comes_again_changes_nothing() -> None:
    """Each names itself in the record: a redelivery after others have acted does not act again."""
    life = Life()
    for step in ("order", "reserve", "commit", "register"):
        life.act(step, 1)
    record = life.record
    assert record is not None
    hold = partial(revocation.revoked, act="hold", reason=HOLD, at=NOW, correlation="hold")
    undo = partial(revocation.reinstated, act="undo", at=NOW, correlation="undo")
    back = undo(hold(record))
    assert hold(back) is back
    assert undo(back) is back
    gone = revocation.deleted(back, act="delete", at=NOW, correlation="delete")
    assert revocation.deleted(gone, act="again", at=NOW, correlation="again") is gone
    assert [each.kind.rpartition(".")[2] for each in gone.announcements] == [
        "CertificateIssued",
        "DeviceRevoked",
        "DeviceReinstated",
        "DeviceRevoked",
    ]


def lived(*steps: str, at: int = 0) -> Life:
    """Give the life of a device to which this was done."""
    life = Life(now_is=at)
    for step in steps:
        life.act(step, 0)
    return life


def record_of(life: Life) -> DeviceRecord:
    assert life.record is not None
    return life.record


USED_ONCE = ("order", "reserve", "commit", "register", "renew", "reserve", "commit", "renewed")


def test_an_act_on_a_former_certificate_that_comes_again_changes_nothing() -> None:
    """As with those on the device, each names itself in the record."""
    record = record_of(lived(*USED_ONCE))
    [former] = [each.serial_number for each in record.held if each.serial_number not in record.in_use]
    hold = partial(revocation.former_revoked, serial_number=former, act="hold", reason=HOLD, at=NOW, correlation="hold")
    undo = partial(revocation.former_reinstated, serial_number=former, act="undo", at=NOW, correlation="undo")
    held = hold(record)
    assert hold(held) is held
    back = undo(held)
    assert undo(back) is back
    assert hold(back) is back


@pytest.mark.parametrize("begin", [(), ("hold", "reinstate"), ("converge", "hold", "converge", "reinstate")])
@pytest.mark.parametrize("holds", list(itertools.product(("former", "device"), repeat=2)))
@pytest.mark.parametrize("undone", ["former", "device"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_former_certificate_that_was_on_hold_never_comes_back_as_active(
    begin: tuple[str, ...], holds: tuple[str, str], undone: str, *, ended: bool
) -> None:
    """Whoever puts it on hold, it or its device, and whoever undoes that: it has a successor, and stays out of use."""
    record = record_of(lived("order", "reserve", "commit", "register", *begin, *USED_ONCE[4:]))
    [former] = [each.serial_number for each in record.held if each.serial_number not in record.in_use]
    later = NOW + timedelta(days=5000 if ended else 0)
    for number, what in enumerate(holds):
        act: dict[str, Any] = {"act": f"hold {number}", "reason": HOLD, "at": NOW, "correlation": "c"}
        held = partial(revocation.former_revoked, serial_number=former) if what == "former" else revocation.revoked
        record = held(record, **act)
        assert _state(record, former) is REVOKED
    for what in dict.fromkeys((undone, *holds)):
        act = {"act": f"undo {what}", "at": later, "correlation": "c"}
        with suppress(Conflict):  # whoever came first has undone it
            if what == "former":
                record = revocation.former_reinstated(record, former, **act)
            else:
                record = revocation.reinstated(record, **act)
        assert _state(record, former) is not ACTIVE
        assert former not in record.in_use
    assert _state(record, former) is (CertificateState.EXPIRED if ended else CertificateState.SUPERSEDED)


def _state(record: DeviceRecord, serial_number: str) -> CertificateState:
    held = record.find(serial_number)
    assert held is not None
    return held.state


def test_a_device_that_was_never_registered_is_after_a_hold_what_it_was_before() -> None:
    """A hold of a device whose order failed, or is under way, makes no device of it that is in service."""
    for steps, before in (
        (("order", "reserve", "commit", "fail"), DeviceState.FAILED),
        (("order", "reserve"), DeviceState.ORDERED),
    ):
        record = record_of(lived(*steps))
        assert record.state is before
        held = record.changed(before_hold=before, state=DeviceState.REVOKED, revoked=HOLD)
        undone = revocation.reinstated(held, act="undo", at=NOW, correlation="undo")
        assert undone.state is before


def test_a_certificate_that_was_made_for_an_order_is_not_given_to_a_device_that_went_on() -> None:
    """What it was made for is over: whoever comes late is told so."""
    life = lived("order", "reserve", "commit", "register")
    record = record_of(life)
    assert record.certificate is not None
    made = issuance.Committed(record.certificate, "bundle", "T2")
    with pytest.raises(Overtaken, match=r"^'press' was changed while its certificate was made; it is registered now$"):
        issuance.issued(record, made, NOW)


def test_a_device_that_is_let_in_is_welcome_in_its_hub() -> None:
    """That it got into a hub is noted only if it should not have."""
    record = record_of(lived("order", "reserve", "commit", "register"))
    assert upkeep.reached(record, hub="hub-2", device_id="press", at=NOW) is record
    shut = revocation.revoked(record, act="revoke", reason=COMPROMISE, at=NOW, correlation="revoke")
    reached = upkeep.reached(shut, hub="hub-2", device_id="press", at=NOW)
    assert (reached.assigned_hub, reached.generation) == ("hub-2", shut.generation + 1)
    assert reached.history[-1].note == "got into hub-2 while it was revoked"


def test_what_has_ended_while_a_device_was_on_hold_is_over() -> None:
    """It is given back, and its certificate is not in force any more: an expired one can't be reinstated."""
    record = record_of(lived("order", "reserve", "commit", "register"))
    held = revocation.revoked(record, act="hold", reason=HOLD, at=NOW, correlation="hold")
    ended = NOW + timedelta(days=5000)
    back = revocation.reinstated(held, act="undo", at=ended, correlation="undo")
    assert back.state is DeviceState.EXPIRED
    assert [each.state for each in back.held] == [CertificateState.EXPIRED]


@pytest.mark.parametrize(
    ("ended", "place"),
    [
        (("fail",), (None, None, True)),
        (("register", "later", "later", "expire"), ("hub", "press", True)),
        (("register", "disable", "later", "later", "expire"), ("hub", "press", False)),
        (("register", "disable", "delete"), (None, None, True)),
    ],
)
def test_a_device_that_is_ordered_anew_is_where_it_was_unless_it_was_deleted(
    ended: tuple[str, ...], place: tuple[str | None, str | None, bool]
) -> None:
    """Its hub and its id there, and that an operator has disabled it. Its past and its certificates it keeps anyway."""
    life = Life()
    for step in ("order", "reserve", "commit", *ended):
        life.act(step, 4)
    before = record_of(life)
    life.act("order", 0)
    record = record_of(life)
    assert record.state is DeviceState.ORDERED
    assert (record.assigned_hub, record.device_id, not record.disabled) == place
    assert [each.serial_number for each in record.held] == [each.serial_number for each in before.held]
    assert record.history[: len(before.history)] == before.history
    assert record.generation > before.generation


def test_what_an_act_announces_is_told_of_who_asked_and_what_was_announced_before_of_whom_it_was() -> None:
    """Acts of several people wait to be told together, and each event names its own; the app's own names nobody."""
    ada, bob = (Actor(kind=CallerKind.USER, id=name, name=f"{name}@example.com") for name in ("ada", "bob"))
    by_app = record_of(lived("order", "reserve", "commit", "register"))
    hold = partial(revocation.revoked, act="hold", reason=HOLD, at=NOW, correlation="hold")
    held = hold(by_app).asked_by(by_app, ada, "a lost key")
    back = revocation.reinstated(held, act="undo", at=NOW, correlation="undo").asked_by(held, bob, None)
    assert [each.actor for each in back.announcements] == [None, ada, bob]
    assert [(each.actor, each.comment) for each in back.history[-2:]] == [(ada, "a lost key"), (bob, None)]
    again = revocation.deleted(back, act="delete", at=NOW, correlation="delete")
    said = again.changed(announcements=tuple(each.model_copy(update={"actor": ada}) for each in again.announcements))
    assert {each.actor for each in said.asked_by(None, bob, None).announcements} == {ada}


def test_a_refusal_says_why() -> None:
    """Whoever raises one without a reason has forgotten it."""
    with pytest.raises(ValueError, match=r"^a rejection needs at least one reason$"):
        Rejected()
