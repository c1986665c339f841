"""A pass of reconciliation over a fleet in virtual time; :mod:`tests.world.fleet` has what stands for the services."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

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
from tests.world.fleet import (
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
from tests.world.storage import Table

if TYPE_CHECKING:
    from shared.domain.passes import ReconciliationRecord
    from shared.ports.rows import Table as Rows

_RUN = timedelta(seconds=45)
_DAY = timedelta(days=1)


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
    ours = OurAuthorities(records=nothing, groups=nothing)
    enrollments = EnrollmentLook(
        devices=devices,
        certificates=cast("Any", Certificates(fleet)),
        ours=ours,
        findings=nothing,
        provisioning=provisioning,
        clock=clock,
    )
    entries = OwnEntries(provisioning=provisioning, groups=nothing, clock=clock)
    look = DeviceLook(
        devices=devices,
        provisioning=provisioning,
        hubs=hubs,
        linked=hubs,
        enrollments=enrollments,
        converger=nothing,  # nothing has to follow a group
        own_entries=entries,
        arrivals=nothing,  # no device is being renewed
        clock=clock,
    )
    rows: Rows = Table()
    identities = IdentityLook(
        devices=devices,
        groups=nothing,
        provisioning=provisioning,
        look=look,
        findings=Findings(rows),
        clock=clock,
    )
    walk = Walk(
        devices=devices,
        provisioning=provisioning,
        hubs=hubs,
        linked=hubs,
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
        devices=devices,
        groups=nothing,
        authorities=nothing,
        passes=Reconciliations(rows),
        walk=walk,
        mending=cast("Any", None),
        outbox=cast("Any", Told()),
        share=Share(percent=fleet.shape.percent, hub_units=fleet.shape.units),
        ours=ours,
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
