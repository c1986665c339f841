"""A small model of one device and those who change it, of which every state is looked at.

Its parts are the device's row with its certificate, the revocation's row, the entry at DPS, the identity at the hub and
the registration record; other hubs are left to ``test_two_hubs.py``. Actors carry out acts and converge; the device
boots; a sweep goes on with what was left. The steps of all of them interleave in every way, and a worker may be killed
and its message delivered again.

What an act makes of the record, what a record wants, and when it is settled, comes from ``shared.domain`` as it is. The
order of a converger's steps is that of :mod:`shared.workflows.devices.convergence`; each access to a service is one.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from shared.domain import revocation, upkeep
from shared.domain.certificates import CertificateState
from shared.domain.devices import OUT_OF_SERVICE, DeviceRecord, Doors
from shared.domain.held_certificates import HOLD, CertificateSummary
from shared.domain.wanted import wanted
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import Conflict
from tests.records import held_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

AT = datetime(2026, 5, 1, tzinfo=UTC)
SERIAL, HUB, DEVICE = "4a" * 20, "hub-1", "press"

ACTS: dict[str, Callable[[DeviceRecord], DeviceRecord]] = {
    "revoke": partial(
        revocation.revoked, act="revoke", reason=RevocationReason.KEY_COMPROMISE, at=AT, correlation="revoke"
    ),
    "hold": partial(revocation.revoked, act="hold", reason=HOLD, at=AT, correlation="hold"),
    "reinstate": lambda record: revocation.reinstated(record, act="reinstate", at=AT, correlation="reinstate"),
    "delete": partial(revocation.deleted, act="delete", at=AT, correlation="delete"),
    "disable": partial(upkeep.switched, enabled=False, reason="", at=AT),
    "enable": partial(upkeep.switched, enabled=True, reason="", at=AT),
}


def registered() -> DeviceRecord:
    """A device in its hub, with one certificate."""
    end = AT + timedelta(days=365)
    held = held_certificate(SERIAL, AT, cause="order", not_after=end)
    return DeviceRecord(
        registration_id=DEVICE,
        state=DeviceState.REGISTERED,
        order_id="order",
        updated_at=AT,
        enrollment_group="line",
        device_id=DEVICE,
        assigned_hub=HUB,
        certificate=CertificateSummary(serial_number=SERIAL, thumbprint="", not_before=AT, not_after=end, issuer="ca"),
        held=(held,),
        doors=Doors.OPEN,
    )


def issued() -> DeviceRecord:
    """A device that has its certificate, and has not booted."""
    return registered().model_copy(update={"state": DeviceState.ISSUED, "device_id": None, "assigned_hub": None})


def is_final(record: DeviceRecord) -> bool:
    """Tell whether the ledger says that a device is revoked for good, or deleted."""
    return record.state in OUT_OF_SERVICE and not record.on_hold


@dataclass(frozen=True, slots=True)
class Actor:
    """A worker, or the device.

    Attributes:
        does: an act, ``boot`` or ``sweep``.
        at: what it does next; empty if it is done.
        acted: whether its act is among those that took effect.
        known: the record as it read it.
        fresh: which of ``record``, ``entry`` and ``identity`` are still as it read them.
        first: the first generation that it saw.
        late: whether it found that somebody else was there in between.
        entry: what it saw at DPS.
        identity: what it saw at the hub.
        doors: what it has still to shut.
        note: the generation whose note a sweep goes on with.
    """

    does: str
    at: str = "read"
    acted: bool = False
    known: int = -1
    fresh: frozenset[str] = frozenset()
    first: int = -1
    late: bool = False
    entry: str | None = None
    identity: bool | None = None
    doors: frozenset[str] = frozenset()
    note: int = -1


@dataclass(frozen=True, slots=True)
class State:
    """Everything.

    Attributes:
        record: number of the record, see :class:`Model`.
        listed: generation that the revocation's row comes from, and whether the certificate is on the list.
        entry: ``enabled`` or ``disabled``; ``None`` if the group decides.
        identity: whether the hub lets the device in; ``None`` if it does not know it.
        registration: ``assigning`` or ``assigned``.
        notes: generations that may not be followed yet.
        kills: how many workers may still be killed.
    """

    record: int
    actors: tuple[Actor, ...]
    listed: tuple[int, bool] = (0, False)
    entry: str | None = None
    identity: bool | None = True
    registration: str | None = "assigned"
    notes: frozenset[int] = frozenset()
    kills: int = 0


@dataclass(frozen=True, slots=True)
class Explored:
    """Every state that can be reached, and how.

    Attributes:
        states: each once.
        following: of each state, the numbers of those that follow.
    """

    states: list[State]
    following: list[array[int]]


@dataclass(frozen=True)
class Mistakes:
    """What the app does not do: to see that it would be found."""

    careless_of_entries: bool = False
    careless_of_identities: bool = False
    blind_to_who_settled: bool = False
    opens_before_it_reads_again: bool = False
    reads_nothing_back: bool = False


class Model:
    """All states that can be reached.

    Args:
        mistakes: that are planted.
        whole: whether steps that mean nothing to anybody else are taken in every order too.
    """

    def __init__(self, mistakes: Mistakes | None = None, *, whole: bool = False) -> None:
        self.mistakes, self.whole = mistakes or Mistakes(), whole
        self.records: list[DeviceRecord] = []
        self._numbers: dict[str, int] = {}
        self._acts: dict[tuple[int, str], int | None] = {}
        self._shifts: dict[tuple[int, int], int] = {}
        self._upkeep: dict[tuple[int, str], int] = {}
        self._bare: dict[Actor, Actor] = {}

    def number(self, record: DeviceRecord) -> int:
        """Number a record: what it was, and what was told, makes no difference to what may follow."""
        bare = record.model_copy(update={"history": (), "announcements": (), "acts": (), "followed_state": None})
        key = bare.model_dump_json()
        if key not in self._numbers:
            self._numbers[key] = len(self.records)
            self.records.append(bare)
        return self._numbers[key]

    def begin(self, record: DeviceRecord, *does: str, kills: int = 0) -> State:
        """Give a state in which the services follow a record, and actors stand before their first step."""
        want = wanted(record, AT)
        there = record.assigned_hub is not None
        return State(
            record=self.number(record),
            actors=tuple(Actor(each, at="decide" if each == "boot" else "read") for each in does),
            listed=(record.generation, record.shut_out),
            entry="disabled" if want.shut else None,
            identity=want.identity_enabled if there else None,
            registration="assigned" if there else None,
            kills=kills,
        )

    def explore(self, begin: State) -> Explored:
        """Look at every state that can be reached."""
        numbers, found = {begin: 0}, Explored([begin], [])
        for state in found.states:  # which grows meanwhile
            following = array("I")
            for after in self.following(state):
                same = self._without_memories(self._from_zero(after))
                number = numbers.setdefault(same, len(numbers))
                if number == len(found.states):
                    found.states.append(same)
                following.append(number)
            found.following.append(following)
        return found

    def _without_memories(self, state: State) -> State:
        """Have everybody forget what they never ask for again, so that the same is not looked at twice."""
        actors = tuple(self._bare.get(each) or self._bare.setdefault(each, bare(each)) for each in state.actors)
        return state if actors == state.actors else replace(state, actors=actors)

    def following(self, state: State) -> Iterator[State]:
        """Give the states after one step of anybody.

        Where one of these steps means nothing to anybody else, now or later, it is the only one that is looked at: what
        else there is comes after it and ends the same (partial order reduction: Godefroid, Partial-Order Methods for the
        Verification of Concurrent Systems, LNCS 1032).
        """
        if not self.whole and self._is_shut_for_good(state):
            for index, actor in enumerate(state.actors):
                alone = _Turn(self, state, index).take_alone() if actor.at in _WITH_DOORS else None
                if alone is not None:
                    yield from alone
                    return
        for index, actor in enumerate(state.actors):
            if not actor.at:
                continue
            yield from _Turn(self, state, index).take()
            if state.kills and actor.does not in {"boot", "sweep"} and actor.at != "read":
                again = Actor(actor.does, acted=actor.acted)
                yield replace(_with(state, index, again), kills=state.kills - 1)

    def _is_shut_for_good(self, state: State) -> bool:
        """Tell whether DPS and the hub are shut, and nobody is left who could open them."""
        return (
            is_final(self.records[state.record])
            and state.entry == "disabled"
            and not state.identity
            and not any(actor.does == "boot" and actor.at for actor in state.actors)
            and all(
                actor.known < 0 or self.records[actor.known].shut_out or actor.at in _BEFORE for actor in state.actors
            )
        )

    def _from_zero(self, state: State) -> State:
        """Count generations from the oldest that somebody knows: only what lies between them matters."""
        known = [self.records[state.record], *(self.records[each.known] for each in state.actors if each.known >= 0)]
        # A note is of the generation after a record that somebody knows, so older ones will not be left any more.
        youngest = min([*(each.generation for each in known), *state.notes])
        firsts = [max(actor.first, youngest) if actor.first >= 0 else -1 for actor in state.actors]
        named = [each for each in (*firsts, *(actor.note for actor in state.actors)) if each >= 0]
        oldest = min([*(each.converged for each in known), *state.notes, *named])
        if oldest == 0 and all(first == actor.first for first, actor in zip(firsts, state.actors, strict=True)):
            return state
        actors = tuple(
            replace(
                actor,
                known=self._shifted(actor.known, oldest) if actor.known >= 0 else -1,
                first=first if first < 0 else first - oldest,
                note=actor.note if actor.note < 0 else actor.note - oldest,
            )
            for actor, first in zip(state.actors, firsts, strict=True)
        )
        return replace(
            state,
            record=self._shifted(state.record, oldest),
            actors=actors,
            listed=(max(0, state.listed[0] - oldest), state.listed[1]),
            notes=frozenset(each - oldest for each in state.notes),
        )

    def _shifted(self, known: int, by: int) -> int:
        if (known, by) not in self._shifts:
            record = self.records[known]
            held = [each.model_copy(update={"changed_in": max(0, each.changed_in - by)}) for each in record.held]
            counts = {"generation": record.generation - by, "converged": record.converged - by, "held": tuple(held)}
            self._shifts[known, by] = self.number(record.model_copy(update=counts))
        return self._shifts[known, by]

    def kept_up(self, known: int, name: str, make: Callable[[], DeviceRecord]) -> int:
        """Give what a converger makes of a record; it makes the same of the same."""
        key = known, name
        if key not in self._upkeep:
            self._upkeep[key] = self.number(make())
        return self._upkeep[key]

    def act(self, known: int, name: str) -> int | None:
        """Carry out an act; ``None`` if it is refused."""
        key = known, name
        if key not in self._acts:
            try:
                self._acts[key] = self.number(ACTS[name](self.records[known]))
            except Conflict:
                self._acts[key] = None
        return self._acts[key]


_ASKS = {
    "read": "",
    "note": "known record",
    "act": "known record",
    "converge": "late",
    "bump_note": "known record",
    "bump": "known record",
    "shut": "known record doors",
    "shut_hub_first": "known record late",
    "follow": "known record late",
    "shut_again": "known record",
    "remove_record": "known record",
    "remove_identity": "known record",
    "check_dps": "known record",
    "check_hub": "known record",
    "look": "known record late",
    "look_at_hub": "known record late entry",
    "read_again": "known record late entry identity",
    "open_books": "known record entry identity",
    "open_dps": "known record entry identity",
    "open_hub": "known record identity",
    "enter": "known record",
    "forget": "known",
    "decide": "",
    "arrive": "",
}
"""What an actor still asks for, by what it does next. ``record``: whether it is as it was read."""


def bare(actor: Actor) -> Actor:
    """Give an actor with what it still asks for."""
    if not actor.at:
        return Actor(actor.does, "")
    asks = _ASKS[actor.at].split()
    fresh = {"record"} & set(asks)
    # Only what is shut is opened, as it was seen.
    fresh |= {"entry"} if "entry" in asks and actor.entry == "disabled" else set()
    fresh |= {"identity"} if "identity" in asks and actor.identity is False else set()
    return replace(
        actor,
        known=actor.known if "known" in asks else -1,
        fresh=actor.fresh & fresh,
        late=actor.late and "late" in asks,
        entry=actor.entry if "entry" in asks else None,
        identity=actor.identity if "identity" in asks else None,
        doors=actor.doors if "doors" in asks else frozenset(),
    )


def _with(state: State, index: int, actor: Actor) -> State:
    return replace(state, actors=(*state.actors[:index], actor, *state.actors[index + 1 :]))


_BEFORE = frozenset({"note", "act"})
"""Where an actor has read a record for its act: if that is another one by now, it reads again."""

_WITH_DOORS = frozenset({"shut", "shut_again", "check_dps", "check_hub"})
"""Steps at doors alone."""

_NOTHING = frozenset[str]()
_ALL_DOORS = frozenset({"hub", "dps", "books"})


class _Turn:
    """One actor's step."""

    def __init__(self, model: Model, state: State, index: int) -> None:
        self._model, self._state, self._index = model, state, index
        self._actor = state.actors[index]

    def take(self) -> Iterable[State]:
        """Give the states that it may lead to."""
        step: Callable[[], Iterable[State]] = getattr(self, f"_{self._actor.at}")
        return step()

    def take_alone(self) -> Iterable[State] | None:
        """Give the state after a step at a door that is shut for good; ``None`` if others could take note of its step."""
        if self._actor.at != "shut":
            return self.take()
        door = next((each for each in ("hub", "dps") if each in self._actor.doors), None)
        return self._shut_one(door) if door is not None else None

    # --- what steps have in common ---

    @property
    def _known(self) -> DeviceRecord:
        return self._model.records[self._actor.known]

    def _goes(self, at: str, **changes: object) -> Actor:
        return replace(self._actor, at=at, **changes)  # type: ignore[arg-type]

    def _to(self, actor: Actor, wrote: str = "", **changes: object) -> list[State]:
        """Go on; whoever else had read what was written has read something else."""
        state = replace(self._state, **changes)  # type: ignore[arg-type]
        if wrote:
            actors = tuple(replace(each, fresh=each.fresh - {wrote}) for each in state.actors)
            state = replace(state, actors=actors)
        return [_with(state, self._index, actor)]

    def _stale(self) -> list[State]:
        """Somebody else was there in between: look again."""
        return self._to(self._fresh_start(late=True))

    def _fresh_start(self, *, late: bool) -> Actor:
        return replace(
            Actor(self._actor.does),
            at="converge",
            acted=self._actor.acted,
            first=self._actor.first,
            late=late,
            note=self._actor.note,
        )

    def _write(self, name: str, make: Callable[[], DeviceRecord], at: str, *, else_at: str = "") -> list[State]:
        """Replace the record as it was read."""
        if "record" not in self._actor.fresh:
            return self._to(self._goes(else_at)) if else_at else self._stale()
        number = self._model.kept_up(self._actor.known, name, make)
        fresh = self._actor.fresh | {"record"}
        return self._to(self._goes(at, known=number, fresh=fresh), wrote="record", record=number)

    # --- an act ---

    def _read(self) -> list[State]:
        if self._actor.does == "sweep":
            return self._go_on()
        if self._actor.acted:
            return self._to(self._fresh_start(late=False))
        known = self._state.record
        if self._model.act(known, self._actor.does) in {None, known}:
            return self._to(Actor(self._actor.does, ""))
        return self._to(self._goes("note", known=known, fresh=frozenset({"record"})))

    def _go_on(self) -> list[State]:
        """Take up a note, if there is one. If the device is settled, its worker may have come late and broken off."""
        if not self._state.notes:
            return []
        note, record = min(self._state.notes), self._model.records[self._state.record]
        if record.generation < note:
            return self._to(self._actor, notes=self._state.notes - {note})  # the act was not written
        begun = replace(self._fresh_start(late=False), note=note)
        if record.converged < record.generation:
            return self._to(begun)
        return self._to(replace(begun, at="bump_note", known=self._state.record, fresh=frozenset({"record"})))

    def _note(self) -> list[State]:
        notes = self._state.notes | {self._known.generation + 1}
        return self._to(self._goes("act"), notes=notes)

    def _act(self) -> list[State]:
        if "record" not in self._actor.fresh:
            return self._to(Actor(self._actor.does))
        number = self._model.act(self._actor.known, self._actor.does)
        if number is None:
            raise AssertionError("an act that was possible is refused")
        begun = replace(self._fresh_start(late=False), acted=True)
        return self._to(begun, wrote="record", record=number)

    # --- a converger ---

    def _converge(self) -> list[State]:
        record = self._model.records[self._state.record]
        first = self._actor.first if self._actor.first >= 0 else record.generation
        settled = record.converged == record.generation
        known = {"known": self._state.record, "fresh": frozenset({"record"}), "first": first}
        if settled and self._actor.late:
            return self._to(self._goes("bump_note", **known))
        if settled:
            return self._end(record)
        if record.shut_out:
            return self._to(self._goes("shut", **known, doors=_ALL_DOORS))
        return self._to(self._goes("shut_hub_first" if record.disabled else "follow", **known))

    def _bump_note(self) -> list[State]:
        return self._to(self._goes("bump"), notes=self._state.notes | {self._known.generation + 1})

    def _bump(self) -> list[State]:
        written = self._write("bump", lambda: upkeep.to_be_followed(self._known), "converge", else_at="converge")
        return [_with(each, self._index, replace(each.actors[self._index], late=False)) for each in written]

    def _end(self, record: DeviceRecord) -> list[State]:
        """Delete the notes of the generations that it has seen to; a sweep waits for the next one."""
        notes = frozenset(each for each in self._state.notes if not self._actor.first <= each <= record.generation)
        if self._actor.does == "sweep":
            return self._to(Actor("sweep"), notes=notes - {self._actor.note})
        return self._to(Actor(self._actor.does, ""), notes=notes)

    # --- shutting: each door, whatever the others answer ---

    def _shut(self) -> list[State]:
        return [after for door in self._actor.doors for after in self._shut_one(door)]

    def _shut_one(self, door: str) -> list[State]:
        rest = self._actor.doors - {door}
        actor = self._goes("shut" if rest else "follow", doors=rest)
        found: list[State] = getattr(self, f"_shut_{door}")(actor)
        return found

    def _shut_hub(self, actor: Actor) -> list[State]:
        if self._known.assigned_hub is None or self._state.identity is None:
            return self._to(actor)
        return self._to(replace(actor, fresh=actor.fresh - {"identity"}), wrote="identity", identity=False)

    def _shut_dps(self, actor: Actor) -> list[State]:
        return self._to(replace(actor, fresh=actor.fresh - {"entry"}), wrote="entry", entry="disabled")

    def _shut_books(self, actor: Actor) -> list[State]:
        """Enter the revocation, or its end, unless a later record said otherwise."""
        want, present = wanted(self._known, AT), self._state.listed
        if not want.listed or present[0] > self._known.generation:
            return self._to(actor)
        on_it = want.listed[0].state is CertificateState.REVOKED
        return self._to(actor, listed=(self._known.generation, on_it))

    def _shut_hub_first(self) -> list[State]:
        return self._shut_hub(self._goes("follow"))

    def _follow(self) -> list[State]:
        """See where DPS has the device."""
        record, registration = self._known, self._state.registration
        after = "shut_again" if record.shut_out else "look"
        if registration == "assigning" and record.shut_out:
            # Put back for later: a new delivery begins anew.
            return self._to(self._fresh_start(late=False))
        if registration != "assigned" or record.assigned_hub is not None:
            return self._to(self._goes(after))
        return self._write("move", lambda: upkeep.moved(record, hub=HUB, device_id=DEVICE, at=AT), after)

    def _shut_again(self) -> list[State]:
        at = "remove_record" if wanted(self._known, AT).deleted else "check_dps"
        return self._shut_hub(self._goes(at))

    def _remove_record(self) -> list[State]:
        return self._to(self._goes("remove_identity"), registration=None)

    def _remove_identity(self) -> list[State]:
        actor = self._goes("check_dps", fresh=self._actor.fresh - {"identity"})
        if self._known.assigned_hub is None:
            return self._to(actor)
        return self._to(actor, wrote="identity", identity=None)

    def _check_dps(self) -> list[State]:
        if self._state.entry != "disabled" and not self._model.mistakes.reads_nothing_back:
            return self._stale()
        return self._to(self._goes("check_hub"))

    def _check_hub(self) -> list[State]:
        if self._known.assigned_hub and self._state.identity and not self._model.mistakes.reads_nothing_back:
            return self._stale()
        return self._to(self._goes("enter"))

    # --- opening: as it was seen before the record was read again ---

    def _look(self) -> list[State]:
        actor = self._goes("look_at_hub", entry=self._state.entry, fresh=self._actor.fresh | {"entry"})
        return self._to(actor)

    def _look_at_hub(self) -> list[State]:
        identity = self._state.identity if self._known.assigned_hub else None
        actor = self._goes("read_again", identity=identity, fresh=self._actor.fresh | {"identity"})
        return self._to(actor)

    def _read_again(self) -> list[State]:
        if self._model.mistakes.opens_before_it_reads_again:
            return self._to(self._goes("open_books"))
        before, record = self._known, self._model.records[self._state.record]
        changed = record.generation != before.generation or record.assigned_hub != before.assigned_hub
        settled = record.converged == record.generation and not self._model.mistakes.blind_to_who_settled
        if changed or (settled and self._actor.late):
            return self._stale()
        return self._to(self._goes("open_books", known=self._state.record, fresh=self._actor.fresh | {"record"}))

    def _open_books(self) -> list[State]:
        return self._shut_books(self._goes("open_dps"))

    def _open_dps(self) -> list[State]:
        record, want, seen = self._known, wanted(self._known, AT), self._actor.entry
        after = self._goes("open_hub")
        if want.own_entry:
            raise AssertionError("the model has one certificate, which needs no entry of its own")
        if seen != "disabled" or record.doors is not Doors.SHUT:
            return self._to(after)
        if "entry" not in self._actor.fresh and not self._model.mistakes.careless_of_entries:
            return self._stale()
        return self._to(replace(after, fresh=after.fresh - {"entry"}), wrote="entry", entry=None)

    def _open_hub(self) -> list[State]:
        record, want = self._known, wanted(self._known, AT)
        after = self._goes("enter")
        if not want.identity_enabled:
            return self._shut_hub(after)
        if self._actor.identity is not False or record.doors not in {Doors.SHUT, Doors.HUB_SHUT}:
            return self._to(after)
        if "identity" not in self._actor.fresh and not self._model.mistakes.careless_of_identities:
            return self._stale()
        return self._to(replace(after, fresh=after.fresh - {"identity"}), wrote="identity", identity=True)

    def _enter(self) -> list[State]:
        record = self._known
        followed = record.converged != record.generation
        doors = wanted(record, AT).doors if followed else None
        return self._write("enter", lambda: upkeep.converged(record, record.generation, doors), "forget")

    def _forget(self) -> list[State]:
        return self._end(self._known)

    # --- the device ---

    def _decide(self) -> list[State]:
        """DPS decides: an entry before the group, which takes every certificate of its CA."""
        if self._state.entry == "disabled":
            return self._to(Actor("boot", ""))
        return self._to(self._goes("arrive"), registration="assigning")

    def _arrive(self) -> list[State]:
        """The identity is made; one that is there stays as it is, but for its certificate."""
        identity = True if self._state.identity is None else self._state.identity
        registration = "assigned" if self._state.registration else None
        return self._to(Actor("boot", ""), wrote="identity", identity=identity, registration=registration)
