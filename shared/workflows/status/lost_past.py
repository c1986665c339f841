"""Whether the ledger has forgotten what relying parties were told: its epoch is an older one, or its CRLs are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.workflows.epochs import HOLDS
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from datetime import datetime

    from shared.workflows.authorities.loading import LoadedAuthority
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.status.revocation_lists import RevocationLists


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    is_ahead: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LostPast:
    """Compares the ledger with the vault's epoch and with the published lists. What was seen holds for some seconds."""

    epochs: Epochs
    lists: RevocationLists
    clock: Clock
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _looking: Turns = field(default_factory=Turns)

    async def is_lost(self, authority: LoadedAuthority) -> bool:
        """Tell whether certificates of a CA may have been revoked that the ledger does not know of."""
        if await self.epochs.fault() is not None:
            return True
        if not authority.issuer.may_sign_crls:
            return False
        async with self._looking.of(authority.name):  # of a burst one looks, and the others wait
            seen = self._seen.get(authority.name)
            if seen is None or self.clock() - seen.at > HOLDS:
                is_ahead = await self.lists.is_ahead(authority.name)
                seen = self._seen[authority.name] = _Seen(is_ahead=is_ahead, at=self.clock())
        return seen.is_ahead
