"""The ledger's stores that more than one wing of the workflows works on, opened together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.ledger.authorities import Authorities
from shared.ledger.certificates import Certificates
from shared.ledger.devices import Devices
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.groups import Groups
from shared.ledger.orders import Orders
from shared.ledger.public_keys import PublicKeys
from shared.ledger.rejections import Rejections

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.ledger.changes import ChangeNotes
    from shared.ports.rows import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the wings are wired with; each workflow names the stores that it uses.

    Requests are not among them: they are opened with the audit log and the approvals, by
    :mod:`shared.workflows.intake.wiring`.

    Attributes:
        table: gives a table by its name, for what one wing alone keeps.
        changes: notes of devices that change, as ``devices`` writes them.
        authorities: the records of CAs; no key is opened.
        expiry: what is due on which day.
        public_keys: fingerprints of all keys that a certificate was issued for.
        rejections: messages that could not be carried out.
    """

    table: Callable[[str], Table]
    devices: Devices
    changes: ChangeNotes
    certificates: Certificates
    authorities: Authorities
    groups: Groups
    orders: Orders
    rejections: Rejections
    expiry: ExpiryIndex
    public_keys: PublicKeys

    @classmethod
    def of(cls, table: Callable[[str], Table], *, clock: Callable[[], datetime]) -> Ledger:
        """Open all of them."""
        devices = Devices.of(table, clock=clock)
        return cls(
            table=table,
            devices=devices,
            changes=devices.changes,
            certificates=Certificates.of(table),
            authorities=Authorities(table("issuers")),
            groups=Groups(table("groups")),
            orders=Orders(orders=table("orders"), lines=table("orderlines")),
            rejections=Rejections(table("rejections")),
            expiry=ExpiryIndex(table("expiry")),
            public_keys=PublicKeys(table("publickeys")),
        )
