"""Which hubs a device may have an identity in: those that are linked to the DPS."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.workflows.intake.outbox import Clock

_log = logging.getLogger(__name__)
_LINKS_HOLD, _AGAIN = timedelta(hours=1), timedelta(minutes=1)
"""So long what was read holds, and so long nobody asks again though something has failed: many devices may wait."""


@dataclass(slots=True, kw_only=True)
class LinkedHubs:
    """The hubs that a device may have been left behind in: those that are linked to the DPS, as far as that is told.

    Attributes:
        resource: the DPS as an Azure resource; ``None`` where the app has no access to it.
        named: hubs that the settings name.
        known: their host names, as far as they were asked for.
    """

    resource: DpsCaCertificates | None
    named: Collection[str]
    clock: Clock
    known: frozenset[str] = frozenset()
    _asked: datetime | None = None
    _until: datetime | None = None

    async def names(self) -> frozenset[str]:
        """Give their host names, in lower case; asked for anew each hour, and after :meth:`ask_again`.

        If Azure Resource Manager does not answer then, those are given that were known before, if any were: it is not
        to hold up who is shut out. One asks, and the others go by what was known meanwhile.
        """
        now = self.clock()
        if self._until is None or now >= self._until:
            if self.known:
                self._until = now + _AGAIN
            try:
                linked = await self.resource.linked_hubs() if self.resource is not None else ()
            except Exception as error:
                if not self.known:
                    raise
                _log.warning("which hubs are linked to the DPS can't be read; the app goes by before: %s", error)
                return self.known
            self.known = frozenset(each.lower() for each in (*linked, *self.named))
            self._asked, self._until = now, now + _LINKS_HOLD
        return self.known

    def ask_again(self) -> None:
        """Ask for them anew within a minute: one has failed, and it may have been unlinked because it is gone."""
        if self._asked is not None and self._until is not None:
            self._until = min(self._until, self._asked + _AGAIN)
