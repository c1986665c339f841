"""Walks every hub that is linked to the DPS, or that the settings name: page after page of all its identities.

A hub may give fewer than are asked for (Microsoft: "Query - Get Twins"). What a query tells may be half an hour old
(Microsoft: "Queries for IoT Hub device and module twins"). So each identity that is not where the ledger has a device
is read by itself before anything is said of it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.passes import Stage
from shared.workflows.many import AT_ONCE, PAGE
from shared.workflows.reconciliation.steps import Step, looked_after, step_of, turn_of, why

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.passes import ReconciliationRecord
    from shared.ports.hubs import HubIdentity, IotHubRegistries
    from shared.workflows.devices.linked_hubs import LinkedHubs
    from shared.workflows.reconciliation.budget import Budget
    from shared.workflows.reconciliation.identities import IdentityLook
    from shared.workflows.reconciliation.steps import Look

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityPages:
    """Takes the steps of the stage."""

    hubs: IotHubRegistries
    linked: LinkedHubs
    identities: IdentityLook
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def step(self, place: ReconciliationRecord, budget: Budget) -> Step:
        """Look at a page of a hub, or at what is left of it."""
        hub, here, following = turn_of(await self.linked.names(), place, Stage.DEVICES)
        if hub is None:
            return Step(place=following)
        budget.queries(hub)
        try:
            page, continuation = await self.hubs.page(hub, size=PAGE, continuation=here.continuation)
        except Exception as error:  # noqa: BLE001 - a hub that is down must not keep the others from being compared
            _log.exception("%s does not answer: its identities are not looked at from here on", hub)
            return Step(place=following, unread={hub: f"its identities can't be listed: {why(error)}"})
        if continuation is not None:
            following = place.entered(Stage.IDENTITIES, hub, continuation)
        known = {each.device_id: each for each in page if here.comes(each.device_id)}
        looked = await looked_after(
            known, partial(self._compare, hub, known, budget), lambda _looks: budget.looks({hub}), self._gate
        )
        return step_of(here, following, known, looked)

    async def _compare(self, hub: str, known: Mapping[str, HubIdentity], budget: Budget, device_id: str) -> Look | None:
        """Compare an identity with the ledger; give how to look closer at one that is not where that has a device."""
        suspicious = await self.identities.suspicious(hub, known[device_id])
        return partial(self.identities.differences, hub, device_id, budget) if suspicious else None
