"""Who asks, what they may do, and what is kept of them.

A grant is written as ``Devices.Revoke``, or ``Devices.Revoke:line-1`` where it is limited to an enrollment group; one
group more is one grant more. That is the value of an app role of Microsoft Entra ID, which may have a colon, and 120
characters at most (Microsoft Graph: resource type appRole, ``value``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.domain.record import Part
from shared.rules.shown_text import as_shown

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

NAME_LIMIT = 200
"""Characters that are kept of a name, which others choose."""


class Role(StrEnum):
    """What somebody may be allowed to do. None of them includes another one."""

    ORDERS_WRITE = "Orders.Write"
    BUNDLES_READ = "Bundles.Read"
    DEVICES_REVOKE = "Devices.Revoke"
    GROUPS_MANAGE = "Groups.Manage"
    AUTHORITIES_MANAGE = "CertificateAuthorities.Manage"
    FLEET_READ = "Fleet.Read"
    AUDIT_READ = "Audit.Read"
    APPROVALS_GIVE = "Approvals.Give"


class CallerKind(StrEnum):
    """What kind of caller somebody is.

    ``user`` and ``app`` are signed in by Microsoft Entra ID, ``key`` has a function key, ``queue`` put a message into a
    queue, ``timer`` is the app itself, and ``anonymous`` is whoever could not say who they are.
    """

    USER = "user"
    APP = "app"
    KEY = "key"
    QUEUE = "queue"
    TIMER = "timer"
    ANONYMOUS = "anonymous"


class Actor(Part):
    """What is kept of who asked for something: never a secret.

    Attributes:
        kind: of caller.
        id: object id of a user or an app, name of a key, queue or timer.
        name: as people know them: of a user as they sign in, of an app its application id, of a queue the sender that
            the settings name for its storage account. An earlier version kept ``source`` there.
        role: with which it was allowed; ``None`` where no role was needed.
        request_id: of the request that asked.
        address: where it came from, as the host says.
        account: of a queue, the storage account that it is in: a role on its queue lets somebody put a message there.
        source: of a queue, what its message claims to come from. Nobody has checked that.
    """

    kind: CallerKind
    id: str
    name: str | None = None
    role: str | None = None
    request_id: str | None = None
    address: str | None = None
    account: str | None = None
    source: str | None = None

    @property
    def label(self) -> str:
        """What the log of certificates has of them: what is known, and no claim."""
        return f"{self.kind}:{self.account}/{self.id}" if self.account else f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role, of all enrollment groups or of one.

    Attributes:
        group: the one; ``None`` for all.
    """

    role: Role
    group: str | None = None

    @classmethod
    def read(cls, text: str) -> Grant:
        """Read a grant as it is written.

        Raises:
            ValueError: it has no role of this app, or no group after its colon.
        """
        name, colon, group = text.partition(":")
        role = next((each for each in Role if each == name), None)
        if role is None or (colon and not group):
            raise ValueError(
                f"{text[:140]!r} is not a role; give one of {', '.join(Role)}, or one with a group, as in "
                f"{Role.DEVICES_REVOKE}:line-1"
            )
        return cls(role, group.lower() or None)

    def __str__(self) -> str:
        return f"{self.role}:{self.group}" if self.group else str(self.role)


READING = frozenset({Grant(Role.FLEET_READ)})
"""What a function key may do that the settings do not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks.

    Attributes:
        id: see :class:`Actor`.
        grants: what they may do.
        address: where the request came from, as the host says.
        mark: tells callers of one id apart, those with a function key without a name; nothing of the key is in it.
    """

    kind: CallerKind
    id: str
    name: str | None = None
    grants: AbstractSet[Grant] = frozenset()
    address: str | None = None
    mark: str = ""

    def has(self, role: Role) -> bool:
        """Tell whether they have a role, of whatever group."""
        return any(each.role is role for each in self.grants)

    def groups(self, role: Role) -> frozenset[str] | None:
        """Give the enrollment groups that they have a role for; ``None`` for all of them."""
        groups = {each.group for each in self.grants if each.role is role}
        return None if None in groups else frozenset(each for each in groups if each is not None)

    def may(self, role: Role, group: str | None) -> bool:
        """Tell whether they have a role for what belongs to an enrollment group; ``None`` belongs to none."""
        groups = self.groups(role)
        return groups is None or (group is not None and group in groups)

    def as_actor(self, role: Role | None, request_id: str | None = None) -> Actor:
        """Give what is kept of them.

        Args:
            role: that was needed.
            request_id: of what they ask for.
        """
        return Actor(
            kind=self.kind,
            id=self.id[:NAME_LIMIT],
            name=as_shown(self.name[:NAME_LIMIT]) if self.name else None,
            role=str(role) if role else None,
            request_id=request_id,
            address=self.address,
        )


ANONYMOUS = Caller(kind=CallerKind.ANONYMOUS, id="anonymous")
"""Whoever could not say who they are."""
