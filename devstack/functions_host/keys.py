"""The host's keys, as they are kept in a file."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Keys:
    """The host's keys.

    Attributes:
        function: opens functions of level ``function``.
        master: opens everything.
        named: further ones like ``function``, by their name.
    """

    function: str
    master: str
    named: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def kept(cls, path: Path, named: Collection[str] = ()) -> Keys:
        """Read the keys, or make them at the first start; the file is its owner's only.

        Args:
            path: of the file.
            named: names that further keys are to have.
        """
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        before: Mapping[str, str] = known.get("named", {})
        keys = cls(
            known.get("function") or secrets.token_urlsafe(40),
            known.get("master") or secrets.token_urlsafe(40),
            {**before, **{name: before.get(name) or secrets.token_urlsafe(40) for name in named}},
        )
        if asdict(keys) != known:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(keys), file)
            part.replace(path)
        return keys

    def open(self, level: str, given: str) -> bool:
        """Tell whether a key opens a function of some level."""
        if level == "anonymous":
            return True
        accepted = [self.master] if level == "admin" else [self.master, self.function, *self.named.values()]
        return any(hmac.compare_digest(key.encode(), given.encode()) for key in accepted)
