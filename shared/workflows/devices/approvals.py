"""What has acts wait for a second person, and what counts the devices that they concern, wired together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from shared.domain.authority_acts import is_decided as decided_before
from shared.ledger.approvals import ApprovalRows
from shared.ledger.directory import Directory
from shared.workflows.authorities.reach import AuthorityReach
from shared.workflows.devices.revocations import revocable
from shared.workflows.intake.approval_deeds import Deeds
from shared.workflows.intake.approvals import Approvals

if TYPE_CHECKING:
    from shared.ledger.stores import Ledger
    from shared.settings import Settings
    from shared.workflows.intake.outbox import Clock, Outbox


def approvals_of(ledger: Ledger, *, outbox: Outbox, settings: Settings, clock: Clock) -> Approvals:
    """Put together what has acts wait for a second person, and what counts the devices that they concern."""
    devices, certificates, authorities = ledger.devices, ledger.certificates, ledger.authorities
    counts = Directory(ledger.table("directory"))
    reach = AuthorityReach(
        records=authorities, certificates=certificates, groups=ledger.groups, devices=devices, clock=clock
    )

    async def of_authority(name: str) -> int:
        return (await reach.of(name)).devices

    async def group_of_certificate(serial_number: str) -> str | None:
        known = await certificates.get(serial_number)
        return known.record.enrollment_group if known else None

    async def of_order(order_id: str) -> tuple[int, str | None]:
        known = await ledger.orders.get(order_id)
        return (known.record.device_count, known.record.enrollment_group or None) if known else (0, None)

    async def is_decided(name: str, request: str) -> bool:
        known = await authorities.get(name)
        return known is not None and decided_before(known.record, request)

    deeds = Deeds(
        wanted=settings.approvals,
        devices_of_group=partial(revocable, counts),
        devices_of_authority=of_authority,
        devices_of_order=of_order,
        group_of_device=devices.group_of,
        group_of_certificate=group_of_certificate,
        group_of_authority=authorities.group_of,
        is_decided=is_decided,
    )
    rows = ApprovalRows(ledger.table("approvals"))
    return Approvals(rows=rows, deeds=deeds, expire_after=settings.approvals_expire, outbox=outbox, clock=clock)
