"""Which keys a row of a table can have.

Microsoft, "Understanding the Table service data model", on the properties PartitionKey and RowKey.
"""

from __future__ import annotations

import re

_LONGEST = 512
"""Characters: a key takes 1 KiB, of two octets each."""

_NEVER = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f]")


def can_be_key(text: str) -> bool:
    """Tell whether a row can have this key; what others wrote, and is looked for, need not be one."""
    return len(text) <= _LONGEST and _NEVER.search(text) is None
