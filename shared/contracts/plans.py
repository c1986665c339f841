"""What revoking devices takes, as answers say it beforehand."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from shared.contracts.base import Contract, with_example

PACE_LIMIT = 6000

Pace = Annotated[int, Field(strict=True, ge=1, le=PACE_LIMIT)]
"""So many devices a minute."""

PLANNED: dict[str, Any] = {
    "devices": 1200,
    "hubs": {"hub-1.azure-devices.net": 800, "hub-2.azure-devices.net": 400},
    "dpsCalls": 4800,
    "hubCalls": 4824,
    "hubsShutAfterMinutes": 0.16,
    "doneAfterMinutes": 28.16,
    "perMinute": None,
}


class RevocationPlan(Contract):
    """What the revocation of devices takes, with nothing else asked of the services.

    ``hubs`` says how many of the devices are in each hub that is linked to the DPS, of ``IOT_HUB_UNITS`` units. The
    calls are those of all devices. ``hubsShutAfterMinutes`` is when the hub of each lets it in no more,
    ``doneAfterMinutes`` when all doors are closed and each linked hub was asked for each device, both at the pace of
    ``perMinute``, if one was given.
    """

    model_config = with_example(PLANNED)

    devices: int
    hubs: dict[str, int]
    dps_calls: int
    hub_calls: int
    hubs_shut_after_minutes: float
    done_after_minutes: float
    per_minute: int | None
