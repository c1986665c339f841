"""What the pages on events and on the API say of a model: its fields, their types and meanings, and an example."""

from __future__ import annotations

import json
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MANY = 12
"""So many values are left to the JSON Schema."""


def in_markdown(docstring: str) -> str:
    """Give a docstring, or a part of it, in Markdown."""
    return docstring.replace("``", "`")


def prose(schema: Mapping[str, Any]) -> str:
    """Give what a model says of itself, in Markdown."""
    return cleandoc(in_markdown(schema.get("description", "")))


def first_sentence(schema: Mapping[str, Any]) -> str:
    """Give the first sentence of that."""
    paragraph = prose(schema).split("\n\n")[0].replace("\n", " ")
    return paragraph.split(". ")[0].removesuffix(".")


def as_json(value: Any) -> str:
    """Give a block of JSON."""
    return f"```json\n{json.dumps(value, indent=2)}\n```\n"


def table(schema: Mapping[str, Any], known: Mapping[str, Any], parts: dict[str, None]) -> str:
    """Give the fields of a model.

    Args:
        schema: its JSON Schema.
        known: all schemas, by name.
        parts: takes the names of the models that it refers to.
    """
    fields = schema["properties"]
    columns = ["field", "type", *(["meaning"] if any("description" in each for each in fields.values()) else [])]
    rows = [
        [f"`{name}`", ", or ".join(_types(field, known, parts)), field.get("description", "")]
        for name, field in fields.items()
    ]
    return "".join(f"| {' | '.join(row[: len(columns)])} |\n" for row in [columns, ["---"] * len(columns), *rows])


def _types(field: Mapping[str, Any], known: Mapping[str, Any], parts: dict[str, None]) -> Iterator[str]:
    """Give the types that a field can have, in words; the parts that it refers to are noted."""
    match field:
        case {"anyOf": [*several]}:
            for each in several:
                yield from _types(each, known, parts)
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            if "properties" in known[name]:
                parts[name] = None
                yield f"[`{name}`](#{name.lower()})"
            else:
                yield from _types(known[name], known, parts)
        case {"enum": [*values]}:
            yield "string" if len(values) > _MANY else ", ".join(f"`{each}`" for each in values)
        case {"const": value}:
            yield f"`{value}`"
        case {"type": "array", "items": items}:
            yield f"list of {', or '.join(_types(items, known, parts))}"
        case {"format": "date-time"}:
            yield "time (RFC 3339)"
        case {"type": "null"}:
            yield "`null`"
        case _:
            yield str(field["type"])
