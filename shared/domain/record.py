"""The base of everything that the ledger keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from shared.domain.lifecycles import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Mapping


class Part(BaseModel):
    """A part of a record that has fields of its own, kept in one column as JSON."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)

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
        """
        after = type(self).model_validate({**dict(self), **changes})
        if self.lifecycle is not None:
            self.lifecycle.check(self.phase, after.phase)
        return after


class Record(Part):
    """Base of all records. A record is frozen: a change makes a new one.

    Columns are the fields in camelCase; those named in ``documents`` hold JSON.
    """

    documents: ClassVar[frozenset[str]] = frozenset()

    def columns(self) -> dict[str, Any]:
        """Give the record as columns of a row, without its keys."""
        values = self.model_dump(by_alias=True, exclude_none=True)
        as_json = self.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(self.documents))
        # A column is measured in characters, so that an umlaut should not take six.
        return {
            **values,
            **{name: json.dumps(value, separators=(",", ":"), ensure_ascii=False) for name, value in as_json.items()},
        }

    @classmethod
    def from_columns(cls, values: Mapping[str, Any]) -> Self:
        """Read a record out of a row."""
        documents = {to_camel(name) for name in cls.documents}
        known = {field.alias for field in cls.model_fields.values()}
        return cls.model_validate(
            {name: json.loads(value) if name in documents else value for name, value in values.items() if name in known}
        )
