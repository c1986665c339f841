"""Worlds that tests begin in: each is made once in a process, and whoever wants it gets a copy."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator
    from typing import Any


class _Copied(Protocol):
    def copy(self) -> Self: ...


_MADE: dict[Hashable, Any] = {}
_is_changed: list[bool] = [False]


@contextmanager
def made_anew() -> Iterator[None]:
    """Keep nothing inside, and give nothing that was kept: the app is changed there."""
    _is_changed.append(True)
    yield
    _is_changed.pop()


def is_app_changed() -> bool:
    """Tell whether the app is another one here."""
    return _is_changed[-1]


def kept[**P, W: _Copied](make: Callable[P, Awaitable[W]]) -> Callable[P, Coroutine[Any, Any, W]]:
    """Make a world once for the same arguments. Its workers are those of a copy, which have seen nothing yet."""

    @wraps(make)
    async def scene(*args: P.args, **named: P.kwargs) -> W:
        if _is_changed[-1]:
            return (await make(*args, **named)).copy()
        key = (make, args, tuple(sorted(named.items())))
        if key not in _MADE:
            _MADE[key] = (await make(*args, **named)).copy()
        made: W = _MADE[key].copy()
        return made

    return scene
