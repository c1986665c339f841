"""Role assignments: what each identity may do, and where (Azure RBAC).

Rights add up, and an assignment holds at its scope and below (learn.microsoft.com/azure/role-based-access-control/
overview). Without a file of roles every identity may do everything; with one, an identity that is in it has the rights
that stand there and no others. Any other identity is the owner's, and may do everything.

Every decision is appended to a file beside the roles, each kind of decision once. So it can be seen which assignment is
needed for what, and which is not needed at all.
"""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.platform.identity.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

DECISIONS = "decisions.jsonl"
"""File of the decisions, in the folder of the roles' file."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What a request needs.

    Attributes:
        ways: any of these sets of actions is enough, with all of its actions.
        path: of what is acted on, such as ``/dps`` or ``/vault/keys/root``.
    """

    ways: tuple[frozenset[str], ...]
    path: str

    @classmethod
    def one(cls, action: str, path: str) -> Needed:
        """Need one action."""
        return cls((frozenset({action}),), path)


@dataclass(frozen=True, slots=True)
class _Assignment:
    role: str
    scope: str
    actions: tuple[str, ...]
    paths: tuple[str, ...]
    excepted: tuple[str, ...]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> _Assignment:
        return cls(
            role=said["role"],
            scope=said["scope"],
            actions=tuple(each.lower() for each in said["actions"]),
            paths=tuple(said["paths"]),
            excepted=tuple(said.get("except", ())),
        )

    def grants(self, action: str, path: str) -> bool:
        if not any(fnmatch.fnmatchcase(action.lower(), pattern) for pattern in self.actions):
            return False
        return _is_below(path, self.paths) and not _is_below(path, self.excepted)


def _is_below(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


class Roles:
    """The assignments in a file, which is read again when it changes.

    The file has ``{"identities": {client id: {"name": ..., "assignments": [{"role", "scope", "actions", "paths",
    "except"}]}}}``.

    Args:
        file: ``None`` lets every identity do everything.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._version = -1
        self._names: dict[str, str] = {}
        self._assignments: dict[str, tuple[_Assignment, ...]] = {}
        self._told: set[str] = set()

    def check(self, client_id: str, needed: Needed) -> None:
        """See that an identity may do something.

        Raises:
            Forbidden: it may not; the reason names the action.
        """
        if self._file is None:
            return
        self._read(self._file)
        held = self._assignments.get(client_id)
        if held is None:
            return
        for way in needed.ways:
            deciding = {action: _granting(held, action, needed.path) for action in way}
            if all(deciding.values()):
                for action, assignment in deciding.items():
                    if assignment is not None:
                        self._tell(client_id, role=assignment.role, scope=assignment.scope, action=action)
                return
        wanted = " or ".join(" and ".join(sorted(way)) for way in needed.ways)
        self._tell(client_id, denied=wanted, path=needed.path)
        raise Forbidden(f"the identity {client_id} has no role with {wanted} on {needed.path}")

    def _read(self, file: Path) -> None:
        version = file.stat().st_mtime_ns
        if version == self._version:
            return
        identities: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["identities"]
        self._names = {client_id: said["name"] for client_id, said in identities.items()}
        self._assignments = {
            client_id: tuple(_Assignment.of(each) for each in said["assignments"])
            for client_id, said in identities.items()
        }
        self._version = version
        self._told.clear()

    def _tell(self, client_id: str, **decision: str) -> None:
        line = json.dumps({"identity": self._names[client_id], **decision})
        if line in self._told or self._file is None:
            return
        self._told.add(line)
        with (self._file.parent / DECISIONS).open("a", encoding="utf-8") as decisions:
            decisions.write(line + "\n")


def _granting(held: Iterable[_Assignment], action: str, path: str) -> _Assignment | None:
    return next((each for each in held if each.grants(action, path)), None)
