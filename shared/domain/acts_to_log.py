"""What people and apps have done, on its way into the log of certificates."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Self

from shared.domain.record import Record
from shared.evidence.leaves import act_entry, read_entry

if TYPE_CHECKING:
    from shared.domain.audit_entries import AuditEntry


class ActToLog(Record):
    """An act that waits for the log.

    Attributes:
        entry: that the log gets, as text.
    """

    entry: str

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """Give what the log gets of an entry of the audit log."""
        fields = entry.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"at"})
        return cls(entry=act_entry(entry.at, fields).decode())

    @property
    def act(self) -> str:
        """A digest of the id and the outcome in its entry, by which it is told from all others."""
        read = read_entry(self.entry.encode())
        return sha256(f"{read['entryId']}|{read['outcome']}".encode(errors="replace")).hexdigest()


class ActInLog(Record):
    """A mark of an act that the log has.

    Attributes:
        act: its digest; empty in marks of older apps, which are found by their keys all the same.
    """

    act: str = ""
