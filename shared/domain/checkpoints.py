"""The newest checkpoint of the log, as the ledger keeps it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import ClassVar

from shared.domain.audit_entries import AuditedAct
from shared.domain.record import Part, Record


class Cosigned(Part):
    """What a witness has signed.

    Attributes:
        size: of the tree.
        line: its signature, as it stands in a note.
    """

    size: int
    line: str


class KeyChange(Part):
    """A change of the log's key that is under way: both keys sign.

    Attributes:
        key_id: the version of the vault's key that will sign alone.
        verifier_key: its public half, as verifiers take it.
        begun_at: when.
        since: how many entries the log had then.
        announced: place of the entry that announces the key; before it is there, the key does not sign.
    """

    key_id: str
    verifier_key: str
    begun_at: datetime
    since: int
    announced: int | None = None


class RetiredKey(Part):
    """A key that has signed, and signs no more.

    Attributes:
        until: how many entries the last checkpoint has that it signed.
        handover: that checkpoint, signed by this key and the next one.
    """

    verifier_key: str
    until: int
    handover: str


class CheckpointRecord(Record):
    """What the log has signed of itself.

    Attributes:
        origin: names the log.
        key_id: the version of the vault's key that signs. It stays, whatever newer versions there are.
        verifier_key: its public half, as verifiers take it.
        change: of the key, while one is under way.
        retired: keys that signed before, the first one first.
        audited: calls about its key that are done when all keys sign that are to, by entries of the audit log.
        size: how many entries the tree has.
        note: the checkpoint, with the signatures of witnesses.
        signed_at: when.
        cosigned: the newest checkpoint that witnesses have signed; ``None`` if there is none.
        cosigned_size: how many entries its tree has.
        witnesses: what each witness has signed last, by its name.
    """

    documents: ClassVar[frozenset[str]] = frozenset({"witnesses", "change", "retired", "audited"})

    origin: str
    key_id: str
    verifier_key: str
    size: int
    note: str
    signed_at: datetime
    cosigned: str | None = None
    cosigned_size: int = 0
    witnesses: dict[str, Cosigned] = {}  # noqa: RUF012 - pydantic copies it
    change: KeyChange | None = None
    retired: tuple[RetiredKey, ...] = ()
    audited: tuple[AuditedAct, ...] = ()

    @property
    def signing(self) -> tuple[tuple[str, str], ...]:
        """Give the keys that sign the next checkpoint, each with its vault's id; the one before the next one first."""
        keys = [(self.key_id, self.verifier_key)]
        if self.change is not None and self.change.announced is not None:
            keys.append((self.change.key_id, self.change.verifier_key))
        return tuple(keys)

    def keys_text(self) -> str:
        """Give all keys as verifiers read them, a line each: those that sign, and those that did, with how long."""
        lines = [key for _, key in self.signing]
        lines += [f"{each.verifier_key} until {each.until}" for each in reversed(self.retired)]
        return "".join(f"{line}\n" for line in lines)


def vault_key_name(first: str, number: int) -> str:
    """Give the name of a log's key in the vault: others than the first have a number behind it."""
    return first if number == 1 else f"{first}-{number}"


def is_log_key(name: str, first: str) -> bool:
    """Tell whether a vault's key is one of the log's, present, past or to come."""
    return re.fullmatch(rf"{re.escape(first)}(-[0-9]+)?", name, re.IGNORECASE) is not None
