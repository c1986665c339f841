"""What the convergers need of revocation lists."""

from __future__ import annotations

from typing import Protocol


class Lists(Protocol):
    """The CRLs of all CAs."""

    async def publish(self, name: str) -> bool:
        """See that what has changed is on a CA's list; ``False`` if its certificate does not allow it to sign one."""
        ...
