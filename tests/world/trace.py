"""What each actor's steps read and change of what all share: two that meet nowhere end the same in either order.

A place is a path of keys, such as a table, a partition and a row. Whoever is at a place is at everything below it.
"""

from __future__ import annotations

import contextvars
from collections import defaultdict
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    type Place = tuple[Hashable, ...]

EVERYTHING: Place = ()
"""The time: whatever an actor does after it has changed may be something else."""

_ALL_STEPS = slice(1, None)
_AT_WORK: contextvars.ContextVar[str | None] = contextvars.ContextVar("at_work", default=None)
_STRETCH: contextvars.ContextVar[Stretch | None] = contextvars.ContextVar("stretch", default=None)


@dataclass(slots=True)
class Stretch:
    """A step, and what its actor does until its next one."""

    read: set[Place] = field(default_factory=set)
    changed: set[Place] = field(default_factory=set)

    def meets(self, other: Stretch) -> bool:
        """Tell whether the order of the two can matter: one changes what the other reads or changes."""
        return _overlap(self.changed, other.read | other.changed) or _overlap(other.changed, self.read)


def _overlap(some: Iterable[Place], others: set[Place]) -> bool:
    above = {place[:length] for place in others for length in range(len(place) + 1)}
    return any(place in above or any(place[:length] in others for length in range(len(place))) for place in some)


class Trace:
    """What was read and changed, by actor, in the order of its steps.

    An actor's first stretch is what it does before its first step: that is when it is started, before all steps.
    """

    def __init__(self) -> None:
        self.stretches: dict[str, list[Stretch]] = defaultdict(lambda: [Stretch()])

    def starts(self, actor: str) -> None:
        """Take what is done in this context for the actor's."""
        _AT_WORK.set(actor)
        _STRETCH.set(None)

    def step(self, actor: str) -> None:
        """Note that an actor takes a step."""
        stretch = Stretch()
        self.stretches[actor].append(stretch)
        _STRETCH.set(stretch)

    def note(self, *place: Hashable, changed: bool = False) -> None:
        """Note that whoever is at work is at a place.

        An actor that does several things at once may go on with one of them after a step of another: then it counts
        for both.
        """
        actor = _AT_WORK.get()
        if actor is None:
            return
        for stretch in (self.stretches[actor][-1], _STRETCH.get()):
            if stretch is not None:
                (stretch.changed if changed else stretch.read).add(place)

    def idle(self, actor: str, step: int) -> bool:
        """Tell whether a step of an actor, the first being 1, has changed nothing."""
        return not self.stretches[actor][step].changed

    def apart(self, actor: str, other: str, *, after: int, of: slice = _ALL_STEPS) -> int:
        """Count an actor's steps after so many, up to the first that meets anything of the other's steps.

        Args:
            actor: whose steps are counted.
            other: whose steps they may meet.
            after: how many steps of the actor are left out.
            of: which stretches of the other count; a step's number is its place among them.
        """
        whole = Stretch()
        for each in self.stretches[other][of]:
            whole.read |= each.read
            whole.changed |= each.changed
        count = 0
        for stretch in self.stretches[actor][after + 1 :]:
            if stretch.meets(whole):
                break
            count += 1
        return count

    def steps_after(self, actor: str, step: int) -> int:
        """Count the steps that an actor took after so many."""
        return max(0, len(self.stretches[actor]) - 1 - step)


class Watched[V](dict[Any, V]):
    """What is at one place, by key; a key that is a tuple is the rest of a path. What nobody is at is not noted."""

    def __init__(self, trace: Trace, *place: Hashable) -> None:
        super().__init__()
        self._trace, self._place = trace, place

    def _note(self, key: object, *, changed: bool = False) -> None:
        if _AT_WORK.get() is None:
            return
        below = key if isinstance(key, tuple) else (key,)
        self._trace.note(*self._place, *below, changed=changed)

    def below(self, *keys: Hashable) -> list[V]:
        """Give what is below a place, in the order of the whole keys."""
        self._trace.note(*self._place, *keys)
        return [value for key, value in sorted(super().items(), key=itemgetter(0)) if key[: len(keys)] == keys]

    def __getitem__(self, key: Any) -> V:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """As of any dictionary."""
        self._note(key)
        return super().get(key, default)

    def __setitem__(self, key: Any, value: V) -> None:
        self._note(key, changed=True)
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self._note(key, changed=True)
        super().__delitem__(key)

    def pop(self, key: Any, *default: Any) -> Any:
        """As of any dictionary."""
        self._note(key, changed=super().__contains__(key))
        return super().pop(key, *default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """As of any dictionary."""
        self._note(key, changed=True)
        return super().setdefault(key, default)

    def __iter__(self) -> Iterator[Any]:
        self._trace.note(*self._place)
        return super().__iter__()

    def __len__(self) -> int:
        self._trace.note(*self._place)
        return super().__len__()

    def keys(self) -> Any:
        """As of any dictionary."""
        self._trace.note(*self._place)
        return super().keys()

    def values(self) -> Any:
        """As of any dictionary."""
        self._trace.note(*self._place)
        return super().values()

    def items(self) -> Any:
        """As of any dictionary."""
        self._trace.note(*self._place)
        return super().items()
