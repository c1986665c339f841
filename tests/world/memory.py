"""Has a world begin again with the workers that it has: wiring them anew takes longer than most acts.

What a worker has in memory is found by whatever refers to it, so nothing that an act leaves there can be forgotten to
be forgotten. ``test_memory.py`` holds a world that begins again against one that is new.
"""

from __future__ import annotations

import asyncio
import functools
import gc
from collections import defaultdict, deque
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from tests.world.kept import is_app_changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.world.world import World

_PLAIN = (type, ModuleType, CodeType, BuiltinFunctionType, str, bytes, int, float, type(None))


class Memory:
    """What can be changed of an object and of all that it refers to, as it was when this was made."""

    def __init__(self, root: object) -> None:
        self._restore = [restore for _, each in found_below(root) for restore in _restoring(each)]

    def restore(self) -> None:
        """Have everything as it was."""
        for restore in self._restore:
            restore()


_FREE: dict[tuple[object, ...], list[tuple[World, Memory]]] = defaultdict(list)
"""Worlds that nobody is at work in any more, by how they are wired, and how they were when they were empty."""

_TAKEN: dict[int, tuple[World, Memory, int]] = {}
"""Those that somebody has, and how many were at work anywhere when they were taken."""


def again[W: World](scene: W) -> W:
    """Copy a world into one that nobody needs any more, if there is one."""
    if is_app_changed():
        return scene.copy()
    free = _FREE[scene.wiring]
    world: Any
    if free:
        world, memory = free.pop()
        memory.restore()
    else:
        world = wired(scene)
        memory = Memory(world)
    _TAKEN[id(world)] = world, memory, len(asyncio.all_tasks())
    return scene.copy(world)


def wired[W: World](scene: W) -> W:
    """Give an empty world whose workers are there."""
    world = scene.empty()
    for host in world.hosts:
        _ = host.services
    return world


def leave(world: World) -> None:
    """Say that nobody needs a world any more; who is still at work in it may go on, and then nobody else gets it."""
    taken = _TAKEN.pop(id(world), None)
    if taken is not None and len(asyncio.all_tasks()) <= taken[2]:
        _FREE[world.wiring].append(taken[:2])


def found_below(root: object) -> Iterator[tuple[str, Any]]:
    """Give an object and all that it refers to, each once and by one way to it; no classes, modules or code."""
    seen, left = set[int](), deque([("", root)])
    while left:
        way, each = left.popleft()
        if id(each) in seen or isinstance(each, _PLAIN):
            continue
        seen.add(id(each))
        yield way, each
        left.extend((f"{way}.{name}", below) for name, below in _below(each))


def _below(each: Any) -> list[tuple[str, Any]]:
    if isinstance(each, FunctionType):
        held = [value for cell in each.__closure__ or () for value in _contents(cell)]
        return [(f"held {index}", below) for index, below in enumerate([*held, *(each.__defaults__ or ())])]
    if isinstance(each, MethodType):
        return [("self", each.__self__)]
    if isinstance(each, functools.partial):
        return [("func", each.func), ("args", each.args), ("keywords", each.keywords)]
    below = list(attributes(each).items())
    if isinstance(each, dict):
        below += [(str(key), value) for key, value in dict.items(each)]
    elif isinstance(each, list | tuple | set | frozenset | deque):
        below += [(str(index), value) for index, value in enumerate(each)]
    elif not below:
        below += [(f"referent {index}", value) for index, value in enumerate(gc.get_referents(each))]
    return below


def _contents(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # nothing has been put into it yet
        return []


def attributes(each: Any) -> dict[str, Any]:
    """Give the attributes of an object, wherever they are kept."""
    slots = [name for kind in type(each).__mro__ for name in _slots(kind) if hasattr(each, name)]
    return {name: getattr(each, name) for name in slots} | getattr(each, "__dict__", {})


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    named = vars(kind).get("__slots__", ())
    return tuple({named} if isinstance(named, str) else named)


def is_frozen(each: Any) -> bool:
    """Tell whether an object's attributes stay what they are."""
    parameters = getattr(type(each), "__dataclass_params__", None)
    return parameters is not None and parameters.frozen


def _restoring(each: Any) -> Iterator[Callable[[], None]]:
    if isinstance(each, dict):
        yield functools.partial(_restore_dictionary, each, dict(dict.items(each)))
    elif isinstance(each, list | deque):
        yield functools.partial(_restore_list, each, list(each))
    elif isinstance(each, set):
        yield functools.partial(_restore_set, each, set(each))
    if isinstance(each, FunctionType | MethodType | functools.partial) or is_frozen(each):
        return
    if hasattr(each, "__dict__"):
        own = vars(each)
        if own is not each and isinstance(own, dict):
            yield functools.partial(_restore_dictionary, own, dict(own))
    for kind in type(each).__mro__:
        for name in _slots(kind):
            if hasattr(each, name) and name not in {"__dict__", "__weakref__"}:
                yield functools.partial(_restore_slot, each, name, getattr(each, name))


def _restore_dictionary(each: dict[Any, Any], before: dict[Any, Any]) -> None:
    if each or before:
        dict.clear(each)
        dict.update(each, before)


def _restore_list(each: list[Any] | deque[Any], before: list[Any]) -> None:
    if each or before:
        each.clear()
        each.extend(before)


def _restore_set(each: set[Any], before: set[Any]) -> None:
    if each or before:
        each.clear()
        each.update(before)


def _restore_slot(each: Any, name: str, before: Any) -> None:
    if getattr(each, name) is not before:
        object.__setattr__(each, name, before)
