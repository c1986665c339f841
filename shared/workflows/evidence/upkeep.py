"""What the log's timer does: acts into the log, its head signed, witnesses asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.workflows.evidence.acts import ActProjection
    from shared.workflows.evidence.key_changes import KeyChanges
    from shared.workflows.evidence.witnessing import Witnessing


@dataclass(frozen=True, slots=True, kw_only=True)
class LogUpkeep:
    """Keeps the log's checkpoint up to date."""

    projection: ActProjection
    keys: KeyChanges
    witnessing: Witnessing

    async def run(self) -> tuple[int, int, int]:
        """Give how many acts were logged, how many entries the checkpoint has, and how many witnesses have signed it.

        Raises:
            LogDamaged: the log is not what it was.
        """
        logged = await self.projection.run()
        signed = await self.keys.carry_on()
        return logged, signed.size, await self.witnessing.run()
