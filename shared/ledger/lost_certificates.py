"""The certificates of the log that are lost: a row for each, beside the newest checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.lost_certificates import LostCertificate
from shared.ledger.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ports.rows import Table

_PARTITION = "lost"


class LostCertificates:
    """The rows of lost certificates, in the table of checkpoints."""

    @classmethod
    def of(cls, table: Callable[[str], Table]) -> LostCertificates:
        """Give those of the ledger whose tables these are, by name."""
        return cls(table("checkpoints"))

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = Rows(table, LostCertificate, key=lambda record: (_PARTITION, record.serial_number))

    async def name(self, record: LostCertificate) -> None:
        """Name one as lost; one that is named already stays as it is."""
        _ = await self._rows.try_insert(record)  # it is there: since when it is lost stays as it was said first

    async def all(self) -> list[LostCertificate]:
        """List those that are named."""
        return [each async for each in self._rows.list("PartitionKey eq @partition", {"partition": _PARTITION})]

    async def withdraw(self, serial_number: str) -> None:
        """Say that one is not lost: the ledger has it, and never deletes it."""
        await self._table.delete(_PARTITION, serial_number)
