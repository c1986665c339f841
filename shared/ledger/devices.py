"""Devices, found by their registration id."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from shared.contracts import DeviceState, RevocationReason
from shared.ledger.table import Record, Table, Versioned, keyed, spread, versioned

if TYPE_CHECKING:
    from collections.abc import Sequence

_HISTORY_LIMIT = 60  # entries kept: the whole life of a device that renews yearly, inside a column's 32 K characters


class CertificateSummary(BaseModel):
    """The certificate of a device, as ``GET /devices/{registrationId}`` shows it."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)

    serial_number: str
    thumbprint: str
    not_before: datetime
    not_after: datetime
    issuer: str


def revoked_for(reason: RevocationReason) -> str:
    """Give what a revoked device shows as its reason."""
    return f"revoked: {reason.value}"


class HistoryEntry(BaseModel):
    """One change of a device's state."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)

    at: datetime
    state: DeviceState
    note: str = ""


class DeviceRecord(Record):
    """One device.

    Attributes:
        order_id: the order or request that its present certificate comes from.
        bundle: name of the blob with its bundle.
        own_key: whether the device made its key itself (CSR).
        registers_itself: whether it registers with DPS by itself at first boot.
        reason: why it failed or was revoked.
        renewal: id of the renewal under way.
        next_certificate: the certificate that it issued, and that the device does not use yet.
        readmitted: whether a certificate that it had before was revoked, so that DPS must take its present one only.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"certificate", "next_certificate", "history"})

    registration_id: str
    state: DeviceState
    order_id: str
    updated_at: datetime
    enrollment_group: str | None = None
    device_id: str | None = None
    assigned_hub: str | None = None
    certificate: CertificateSummary | None = None
    bundle: str | None = None
    own_key: bool = False
    registers_itself: bool = False
    reason: str | None = None
    renewal: str | None = None
    next_certificate: CertificateSummary | None = None
    readmitted: bool = False
    history: tuple[HistoryEntry, ...] = ()

    @property
    def on_hold(self) -> bool:
        """Whether it is revoked for now, and may be reinstated."""
        return self.state is DeviceState.REVOKED and self.reason == revoked_for(RevocationReason.CERTIFICATE_HOLD)

    def entered(self, state: DeviceState, at: datetime, note: str = "", **changes: object) -> DeviceRecord:
        """Give the record after a change of state, with its history."""
        entry = HistoryEntry(at=at, state=state, note=note)
        history = (*self.history, entry)[-_HISTORY_LIMIT:]
        return self.changed(state=state, updated_at=at, history=history, **changes)


class Devices:
    """The devices' table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def get(self, registration_id: str) -> Versioned[DeviceRecord] | None:
        """Find a device by its registration id."""
        row = await self._table.get(spread(registration_id), registration_id)
        return Versioned(DeviceRecord.from_columns(row.values), row.etag) if row else None

    async def insert(self, record: DeviceRecord) -> Versioned[DeviceRecord] | None:
        """Record a device; ``None`` if it is known."""
        return versioned(record, await self._table.insert(self._row(record)))

    async def replace(self, known: Versioned[DeviceRecord], record: DeviceRecord) -> Versioned[DeviceRecord] | None:
        """Replace a row as it was read; ``None`` if it has changed since."""
        return versioned(record, await self._table.replace(self._row(record), known.etag))

    async def page(
        self, *, enrollment_group: str | None, state: DeviceState | None, size: int, continuation: str | None
    ) -> tuple[Sequence[DeviceRecord], str | None]:
        """List one page of the devices that match, and the continuation of the next page."""
        parameters = {"group": enrollment_group, "state": state and state.value}
        conditions = {"group": "enrollmentGroup eq @group", "state": "state eq @state"}
        given = {name: value for name, value in parameters.items() if value is not None}
        rows, following = await self._table.page(
            " and ".join(conditions[name] for name in given), given, size=size, continuation=continuation
        )
        return [DeviceRecord.from_columns(row.values) for row in rows], following

    @staticmethod
    def _row(record: DeviceRecord) -> dict[str, object]:
        return keyed(spread(record.registration_id), record.registration_id, record)
