"""A topic for events, as workflows need it."""

from __future__ import annotations

from typing import Protocol


class EventTopic(Protocol):
    """Takes events, and hands them on to whoever has subscribed."""

    async def send(self, text: str) -> None:
        """Send a CloudEvents event in structured JSON."""
        ...
