"""Limits for tests of something else: nothing is limited, and what is denied is written down by the audit log given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.workflows.intake.limits import Limited, Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


def unlimited(audit: Any, clock: Callable[[], datetime]) -> Limits:
    """Give limits without a limit."""
    return Limits(most=dict.fromkeys(Limited, 0), audit=audit, clock=clock)
