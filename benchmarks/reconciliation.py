"""``python -m benchmarks.reconciliation [DEVICES]``: how long a pass over 1,000,000 devices takes, and what it uses.

Time is virtual, so a day takes minutes. See :mod:`tests.world.fleet` for what stands for the services.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.world.fleet import Shape
from tests.world.fleet_walk import walk

if TYPE_CHECKING:
    from collections.abc import Mapping

DEVICES = 1_000_000

FLEETS: Mapping[str, Shape] = {
    "1 hub of 3 units": Shape(devices=DEVICES, units=3),
    "10 hubs of 1 unit": Shape(devices=DEVICES, hubs=10),
    "1 hub of 3 units, 1,000 identities changed, 1 device in 10 revoked": Shape(
        devices=DEVICES, units=3, shut=10, drifted=1000
    ),
}
"""A million devices that send a message a day each take three units of S1, of 400,000 messages a day each ("IoT Hub
quotas and throttling")."""


def main(devices: int = DEVICES) -> None:
    """Walk each fleet, and print what that took."""
    print("| fleet | hours | DPS | queries | reads | vault | refused | found |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, shape in FLEETS.items():
        done = asyncio.run(walk(replace(shape, devices=devices)))
        quotas = ("dps.operations", "iot_hub.queries", "iot_hub.registry", "key_vault.transactions")
        shown = [f"{done.fleet.quotas.calls[each]:,} ({done.used(each):.1%})" for each in quotas]
        found = ", ".join(f"{kind} {count:,}" for kind, count in done.record.found.items()) or "-"
        print(
            f"| {name} | {done.hours:.1f} | {' | '.join(shown)} | {done.fleet.quotas.refused} | {found} |", flush=True
        )
        print(f"walked in {done.seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
