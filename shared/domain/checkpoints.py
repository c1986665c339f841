"""The newest checkpoint of the log, as the ledger keeps it."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from shared.domain.record import Part, Record


class Cosigned(Part):
    """What a witness has signed.

    Attributes:
        size: of the tree.
        line: its signature, as it stands in a note.
    """

    size: int
    line: str


class CheckpointRecord(Record):
    """What the log has signed of itself.

    Attributes:
        origin: names the log.
        key_id: the version of the vault's key that signs. It stays, whatever newer versions there are.
        verifier_key: its public half, as verifiers take it.
        size: how many entries the tree has.
        note: the checkpoint, with the signatures of witnesses.
        signed_at: when.
        cosigned: the newest checkpoint that witnesses have signed; ``None`` if there is none.
        cosigned_size: how many entries its tree has.
        witnesses: what each witness has signed last, by its name.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"witnesses"})

    origin: str
    key_id: str
    verifier_key: str
    size: int
    note: str
    signed_at: datetime
    cosigned: str | None = None
    cosigned_size: int = 0
    witnesses: dict[str, Cosigned] = {}  # noqa: RUF012 - pydantic copies it
