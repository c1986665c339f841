"""What an operator's act wants of a device's individual enrollment."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import acting
from shared.domain.entry_wishes import EntryChange

if TYPE_CHECKING:
    from shared.domain.attestations import Entry
    from shared.domain.entry_wishes import EntryWish


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What an operator's act wants.

    Attributes:
        wish: of the entry from now on.
        change: of the entry as it is.
        entry: as it is then; ``None`` if there is to be none.
    """

    wish: EntryWish
    change: EntryChange
    entry: Entry | None


def change_to(present: Entry | None, **wanted: Any) -> EntryChange:
    """Say what is to be changed in an entry as it is; an act that is audited is told by its entry in the audit log."""
    entry = acting.audited()
    by = entry.entry_id if entry else uuid.uuid4().hex
    return EntryChange(by=by, etag=present["etag"] if present else None, **wanted)
