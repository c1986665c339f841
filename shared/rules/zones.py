"""Trust zones: parts of the app that run apart from each other, each with rights of its own."""

from __future__ import annotations

from enum import StrEnum


class Zone(StrEnum):
    """A trust zone. infra/zones.json says which functions and which rights each has."""

    ALL = "all"
    """No zones: one app with all functions and all rights."""

    INTAKE = "intake"
    ISSUING = "issuing"
    REVOCATION = "revocation"
    STATUS = "status"


APART = frozenset(Zone) - {Zone.ALL}
"""The zones of an app that is divided."""

SIGNING = frozenset({Zone.ALL, Zone.ISSUING, Zone.REVOCATION})
"""The zones that reach the keys of CAs."""
