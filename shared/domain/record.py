"""The base of everything that the ledger keeps.

Two versions of the app work on the same rows, while it is upgraded and after it is rolled back. So a row says by which
version of its schema it was written. The version before reads it, keeps what it does not know, and writes it back. A
row that is two versions ahead waits for an app that knows it. A field or a state that is new is read one version before
it is first written.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json, to_json

from shared.domain.lifecycles import Lifecycle
from shared.errors import Deferred

if TYPE_CHECKING:
    from collections.abc import Mapping


VERSION = "schemaVersion"
"""Column that says by which version of its schema a row was written; rows without it are of the first."""

_UPGRADE_TAKES = timedelta(minutes=5)


class Part(BaseModel):
    """A part of a record that has fields of its own, kept in one column as JSON. Fields of a later version stay."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, extra="allow"
    )

    lifecycle: ClassVar[Lifecycle | None] = None
    """What may follow its states, if it has any."""

    @property
    def phase(self) -> str:
        """Its state, as its lifecycle names it."""
        return str(getattr(self, "state", ""))

    def changed(self, **changes: Any) -> Self:
        """Give a copy with other values; they are checked.

        Raises:
            IllegalStep: its state does not follow the present one.
            TypeError: it has no such field.
        """
        if unknown := changes.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        # The fields as they are: iterating over a model gives the same, and takes thirty times as long.
        present = {**self.__dict__, **(self.__pydantic_extra__ or {})}
        after = type(self).model_validate({**present, **changes})
        if self.lifecycle is not None:
            self.lifecycle.check(self.phase, after.phase)
        return after


class Record(Part):
    """Base of all records. A record is frozen: a change makes a new one.

    Columns are the fields in camelCase; those named in ``documents`` hold JSON.

    Attributes:
        schema_version: goes up by one with each change of the columns.
    """

    schema_version: ClassVar[int] = 1
    documents: ClassVar[frozenset[str]] = frozenset()

    def columns(self) -> dict[str, Any]:
        """Give the record as columns of a row, without its keys."""
        documents = set(self.documents)
        values = self.model_dump(by_alias=True, exclude_none=True, exclude=documents)
        as_json = self.model_dump(mode="json", by_alias=True, exclude_none=True, include=documents)
        # A column is measured in characters, and this leaves an umlaut as it is, which would take six escaped.
        texts = {name: to_json(value).decode() for name, value in as_json.items()}
        return {VERSION: self.schema_version, **values, **texts}

    @classmethod
    def from_columns(cls, values: Mapping[str, Any]) -> Self:
        """Read a record out of a row.

        Raises:
            Deferred: the row is of a version that this app can't read.
        """
        known, documents = _columns_of(cls)
        version = int(values.get(VERSION, 1))
        is_newer = version > cls.schema_version
        kept = (values.keys() - _KEYS) if is_newer else (known & values.keys())
        if version > cls.schema_version + 1:
            raise _unreadable(cls, version)
        try:
            return cls.model_validate(
                {name: from_json(values[name]) if name in documents else values[name] for name in kept}
            )
        except ValidationError:
            if is_newer:
                raise _unreadable(cls, version) from None
            raise


_KEYS = frozenset({"PartitionKey", "RowKey"})


@cache
def _columns_of(kind: type[Record]) -> tuple[frozenset[str], frozenset[str]]:
    """Give the columns of a kind of record, and which of them hold JSON. Every row is read by them: worked out once."""
    return frozenset(map(to_camel, kind.model_fields)), frozenset(map(to_camel, kind.documents))


def _unreadable(kind: type[Record], version: int) -> Deferred:
    return Deferred(
        f"a {kind.__name__} was written by version {version} of its schema, and this app knows version "
        f"{kind.schema_version}: it waits for an app of that version",
        retry_after=_UPGRADE_TAKES,
    )
