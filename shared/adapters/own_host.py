"""The Functions host that this app runs in, asked whether it takes a function key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_BELIEVED = timedelta(minutes=1)
_REMEMBERED = 100
_TIMEOUT = aiohttp.ClientTimeout(total=10)

ACCESS_PATH = "/api/console/access"
"""The function that the host answers whoever has a function key (triggers/console/sign_in.py)."""


@dataclass(frozen=True, slots=True)
class OwnHost:
    """Asks the host for a function of level ``function``: it answers who has a key, and 401 whoever has not.

    The app itself can't know its keys. It asks at the address that its settings name, never at one that a request
    names, which would have it send keys wherever somebody likes.

    Attributes:
        name: host name, with its port; ``None`` if the settings do not say.
        path: of the function that is asked for.
        believed: until when a key counts without being asked for again, by its digest.
    """

    name: str | None
    path: str
    clock: Callable[[], datetime]
    believed: dict[str, datetime] = field(default_factory=dict)

    def believes(self, key: str) -> bool:
        """Tell whether the host took a key in the last minute."""
        now = self.clock()
        return self.believed.get(_digest(key), now) > now

    async def takes(self, key: str) -> bool:
        """Tell whether the host takes a key; one that it took a minute ago, it takes.

        Raises:
            aiohttp.ClientError: the host does not answer.
            TimeoutError: likewise.
        """
        if self.name is None or not key:
            return False
        if self.believes(key):
            return True
        digest = _digest(key)
        if not await self._asked(key):
            self.believed.pop(digest, None)
            return False
        if len(self.believed) >= _REMEMBERED:
            self.believed.clear()
        self.believed[digest] = self.clock() + _BELIEVED
        return True

    async def _asked(self, key: str) -> bool:
        scheme = "http" if _LOOPBACK.fullmatch(re.sub(r":[0-9]+$", "", self.name or "")) else "https"
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(
                f"{scheme}://{self.name}{self.path}", headers={"x-functions-key": key}, allow_redirects=False
            ) as answer,
        ):
            return answer.status == HTTPStatus.NO_CONTENT


def _digest(key: str) -> str:
    return sha256(key.encode(errors="replace")).hexdigest()
