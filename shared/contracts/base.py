"""What every message and body has: its base, and its form on the wire."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, LiteralString, Self, overload

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shared.domain.callers import CallerKind
from shared.domain.words import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.domain.callers import Actor

SOURCE = "/device-identity-factory"
"""``source`` of the events this app sends."""


TAKEN_OUT: LiteralString = "a secret was taken out of it when it was refused; send it anew, with what belongs there"
"""Said of a field that holds the mark of a secret that was taken out."""


Flag = Annotated[bool, Field(strict=True)]


def with_example(example: Mapping[str, Any], *, extra: Literal["forbid", "allow"] = "forbid") -> ConfigDict:
    """Give a model's published schema an example, as it stands on the wire.

    Args:
        example: the whole body.
        extra: whether fields beside the model's own may be there: those of a service that is only passed on.
    """
    return ConfigDict(json_schema_extra={"examples": [dict(example)]}, extra=extra)


class Contract(BaseModel):
    """Base of all bodies: camelCase on the wire, frozen, no unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid", frozen=True
    )

    read_later: ClassVar[frozenset[str]] = frozenset()
    """Fields whose items are checked one by one, by a contract of their own."""

    added_later: ClassVar[frozenset[str]] = frozenset()
    """Fields, as they stand on the wire, that came later: where they are left out, the fingerprint stays as it was."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content, in hexadecimal: equal for equal content, whatever its order or spacing was."""
        content = self.model_dump(mode="json", by_alias=True)
        known = {name: value for name, value in content.items() if value is not None or name not in self.added_later}
        text = json.dumps(known, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def shown(self) -> dict[str, Any]:
        """Give the body by its names on the wire, and its values as they are; what was not given is left out."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def sparse(self) -> Self:
        """Give the body without those of its fields that are ``None`` and may be left out."""
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return self.model_validate(
            {name: value for name, value in values.items() if value is not None or fields[name].is_required()}
        )

    def to_json(self) -> str:
        """Give the body as it goes over the wire."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def example_of(model: type[BaseModel]) -> Any:
    """Give a model's example."""
    extra: Any = model.model_config["json_schema_extra"]
    return extra["examples"][0]


class StatedReason(Contract):
    """One cause of a refusal; ``field`` is its path in the request, empty for the request as a whole."""

    field: str = Field(description="path of the field in the request; empty for the request as a whole")
    message: str = Field(description="what is wrong, and what would be right")


def stated(reasons: Iterable[Mapping[str, str]]) -> tuple[StatedReason, ...]:
    """Give reasons, as the ledger has them, as events and answers have them."""
    return tuple(StatedReason.model_validate(each) for each in reasons)


class ToldActor(Contract):
    """Who asked for what an event or a history tells; ``id`` is an object id, or the name of a key or a queue.

    Of a queue, ``account`` is its storage account, ``name`` who puts messages there as the settings say, and ``source``
    what the message claims to come from.
    """

    model_config = with_example(
        {
            "kind": "user",
            "id": "5b5450db-eb26-4c1a-981c-ba1d25f0483d",
            "name": "ada@example.com",
            "role": "Devices.Revoke",
            "requestId": "revocation-1",
            "address": "192.0.2.7",
            "account": None,
            "source": None,
        }
    )

    kind: CallerKind = Field(description="of caller")
    id: str = Field(description="object id of a user or an app; name of a key, a queue or a timer")
    name: str | None = Field(default=None, description="as people know them")
    role: str | None = Field(default=None, description="by which it was allowed")
    request_id: str | None = Field(default=None, description="of the request")
    address: str | None = Field(default=None, description="where the call came from")
    account: str | None = Field(default=None, description="of a queue: the storage account that it is in")
    source: str | None = Field(default=None, description="of a queue: what its message claims to come from")


@overload
def told_actor(actor: Actor) -> ToldActor: ...
@overload
def told_actor(actor: None) -> None: ...
@overload
def told_actor(actor: Actor | None) -> ToldActor | None: ...
def told_actor(actor: Actor | None) -> ToldActor | None:
    """Give an actor as events and answers have it."""
    if actor is None:
        return None
    return ToldActor(
        kind=actor.kind,
        id=actor.id,
        name=actor.name,
        role=actor.role,
        request_id=actor.request_id,
        address=actor.address,
        account=actor.account,
        source=actor.source,
    )


class Told(Contract):
    """Base of what an event tells: all fields are always there. What the app does by itself has no ``actor``."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    event_type: ClassVar[EventType]
    """``type`` of the event that tells it."""

    actor: ToldActor | None = Field(
        default=None, description="who asked for it; `null` for what the app does by itself"
    )

    def by(self, actor: Actor | None) -> Self:
        """Give it with who asked for it."""
        return self.model_copy(update={"actor": told_actor(actor)})

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Give the example of each event an actor."""
        extra: Any = cls.model_config.get("json_schema_extra") or {}
        for example in extra.get("examples", ()):
            example.setdefault("actor", example_of(ToldActor))


def timestamp(at: datetime) -> str:
    """Give a point in time as RFC 3339 text in UTC, to the second or finer as it is."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
