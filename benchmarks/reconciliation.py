"""``python -m benchmarks.reconciliation [DEVICES]``: how long a pass over 1,000,000 devices takes, and what it uses.

Time is virtual, so a day takes minutes. See :mod:`benchmarks.reconciliation_fleet` for what stands for the services.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from benchmarks.reconciliation_fleet import (
    Blobs,
    Certificates,
    Clock,
    Devices,
    Dps,
    Fleet,
    Groups,
    Hubs,
    Nothing,
    Secrets,
    Shape,
)
from emulator.platform.throttling import RATES
from shared.domain.passes import ReconciliationState
from shared.ledger.findings import Findings, Reconciliations
from shared.workflows.devices.own_entries import OwnEntries
from shared.workflows.reconciliation.authorities import AuthorityLook
from shared.workflows.reconciliation.budget import Share
from shared.workflows.reconciliation.bundles import BundleLook
from shared.workflows.reconciliation.enrollments import EnrollmentLook, OurAuthorities
from shared.workflows.reconciliation.groups import GroupLook
from shared.workflows.reconciliation.identities import IdentityLook
from shared.workflows.reconciliation.identity_pages import IdentityPages
from shared.workflows.reconciliation.looking import DeviceLook
from shared.workflows.reconciliation.passes import Reconciler
from shared.workflows.reconciliation.walking import Walk
from tests.world.storage import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.domain.passes import ReconciliationRecord
    from shared.ports.rows import Table as Rows

DEVICES = 1_000_000
_RUN = timedelta(seconds=45)
_DAY = timedelta(days=1)

FLEETS: Mapping[str, Shape] = {
    "1 hub of 3 units": Shape(devices=DEVICES, units=3),
    "10 hubs of 1 unit": Shape(devices=DEVICES, hubs=10),
    "1 hub of 3 units, 1,000 identities changed, 1 device in 10 revoked": Shape(
        devices=DEVICES, units=3, shut=10, drifted=1000
    ),
}
"""A million devices that send a message a day each take three units of S1, of 400,000 messages a day each ("IoT Hub
quotas and throttling")."""


class Told:
    """Takes events."""

    def __init__(self) -> None:
        self.events = 0

    async def publish(self, _kind: object, **_fields: object) -> None:
        """Count one."""
        self.events += 1


@dataclass(frozen=True, slots=True)
class Walked:
    """What a pass took.

    Attributes:
        record: the pass, when it was done.
        fleet: that it walked.
        seconds: of processor time and all, here.
    """

    record: ReconciliationRecord
    fleet: Fleet
    seconds: float

    @property
    def hours(self) -> float:
        """Virtual ones, from begin to end."""
        return ((self.record.ended_at or self.record.began_at) - self.record.began_at) / timedelta(hours=1)

    def used(self, name: str) -> float:
        """Give the part of a quota that was used over that time; of hubs, of all together."""
        rate, shape = RATES[name], self.fleet.shape
        of_hubs = shape.hubs * shape.units if name.startswith("iot_hub") else 1
        return self.fleet.quotas.calls[name] / (self.hours * 3600 / rate.seconds * rate.calls * of_hubs)


def reconciler_of(fleet: Fleet, clock: Clock) -> Reconciler:
    """Put the app's own reconciliation over a fleet; it reports and mends nothing."""
    devices, provisioning, hubs, nothing = (
        cast("Any", each(fleet)) for each in (Devices, Dps, Hubs, lambda _: Nothing())
    )
    enrollments = EnrollmentLook(
        devices=devices,
        certificates=cast("Any", Certificates(fleet)),
        ours=OurAuthorities(records=nothing, groups=nothing),
        findings=nothing,
        provisioning=provisioning,
        clock=clock,
    )
    entries = OwnEntries(provisioning=provisioning, groups=nothing, clock=clock)
    converger = cast("Any", SimpleNamespace(own_entries=entries))  # nothing has to follow a group
    look = DeviceLook(
        devices=devices,
        provisioning=provisioning,
        hubs=hubs,
        linked=hubs,
        enrollments=enrollments,
        converger=converger,
        arrivals=nothing,  # no device is being renewed
        clock=clock,
    )
    rows: Rows = Table()
    identities = IdentityLook(
        devices=devices,
        groups=nothing,
        provisioning=provisioning,
        hubs=hubs,
        look=look,
        findings=Findings(rows),
        clock=clock,
    )
    walk = Walk(
        devices=devices,
        provisioning=provisioning,
        hubs=hubs,
        look=look,
        authorities=AuthorityLook(records=nothing, keys=nothing, ca_certificates=(), clock=clock),
        groups=GroupLook(groups=cast("Any", Groups(fleet)), records=nothing, provisioning=provisioning),
        enrollments=enrollments,
        identities=identities,
        identity_pages=IdentityPages(hubs=hubs, linked=hubs, identities=identities),
        bundles=BundleLook(
            blobs=cast("Any", Blobs(fleet)),
            secrets=cast("Any", Secrets(fleet)),
            certificates=cast("Any", Certificates(fleet)),
            devices=devices,
            expiry=nothing,
            clock=clock,
        ),
        clock=clock,
    )
    return Reconciler(
        findings=Findings(rows),
        passes=Reconciliations(rows),
        walk=walk,
        mending=cast("Any", None),
        outbox=cast("Any", Told()),
        share=Share(percent=fleet.shape.percent, hub_units=fleet.shape.units),
        policies={},
        took_effect=cast("Any", None),
        interval=None,
        check_ledger=_present,
        clock=clock,
        pause=clock.pause,
    )


async def _present() -> None:
    """Say that the ledger is the present one."""


async def walk(shape: Shape) -> Walked:
    """Have one pass made over a fleet, by a timer that comes every minute.

    Raises:
        TimeoutError: it is not done after a day.
    """
    began, clock = time.perf_counter(), Clock()
    fleet = Fleet(shape, clock)
    reconciler = reconciler_of(fleet, clock)
    begun = await reconciler.begin()
    while clock.now - begun.began_at < _DAY:
        await reconciler.carry_on(begun.reconciliation_id, until=clock.now + _RUN)
        record = await reconciler.describe(begun.reconciliation_id)
        if record.state is ReconciliationState.DONE:
            return Walked(record, fleet, time.perf_counter() - began)
        clock.to_next_minute()
    raise TimeoutError(f"the pass is not done after a day: {record}")


def main(devices: int = DEVICES) -> None:
    """Walk each fleet, and print what that took."""
    print("| fleet | hours | DPS | queries | reads | vault | refused | found |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, shape in FLEETS.items():
        done = asyncio.run(walk(Shape(**{**_fields(shape), "devices": devices})))
        quotas = ("dps.operations", "iot_hub.queries", "iot_hub.registry", "key_vault.transactions")
        shown = [f"{done.fleet.quotas.calls[each]:,} ({done.used(each):.1%})" for each in quotas]
        found = ", ".join(f"{kind} {count:,}" for kind, count in done.record.found.items()) or "-"
        print(
            f"| {name} | {done.hours:.1f} | {' | '.join(shown)} | {done.fleet.quotas.refused} | {found} |", flush=True
        )
        print(f"walked in {done.seconds:.0f} s", file=sys.stderr)


def _fields(shape: Shape) -> dict[str, Any]:
    return {name: getattr(shape, name) for name in Shape.__slots__}


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
