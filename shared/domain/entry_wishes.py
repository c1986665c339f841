"""What a device's record keeps of what operators want of its individual enrollment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from shared.domain.record import Part


class EntryWish(Part):
    """What is wanted of an individual enrollment; the fields are those of the device's record."""

    own_entry: bool
    entry_disabled: bool
    entry_settings: dict[str, Any] | None = None
    entry_asked_at: datetime | None = None


class EntryChange(Part):
    """What is to be changed in an individual enrollment, from when that was decided until DPS has it.

    Attributes:
        by: tells it from all others: the id of its entry in the audit log, if it has one.
        etag: of the entry that was looked at; ``None`` if there was none. Another one is not changed.
        gone: whether it is to be deleted.
        values: settings by their place in the entry; ``None`` for what is to be taken out.
        device_id: if that is to change.
        status: if that is to change.
        attestation: if that is to change, and of a new entry.
        freed: device id that is its own no more.
        follows: digest of the settings of its group that the entry has then; ``None`` if it does not follow a group.
        generation: of the record that it was entered with.
        before: what was wanted before: that is so again if DPS refuses it.
    """

    by: str
    etag: str | None = None
    gone: bool = False
    values: dict[str, Any] = Field(default_factory=dict)
    device_id: str | None = None
    status: str | None = None
    attestation: dict[str, Any] | None = None
    freed: str | None = None
    follows: str | None = None
    generation: int = 0
    before: EntryWish | None = None

    @property
    def opens(self) -> bool:
        """Whether DPS may let somebody in by it who was kept out. If the entry is deleted, a group decides."""
        return self.status != "disabled"
