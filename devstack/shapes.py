"""What the pages on events and on the API say of a model: its fields, their types and meanings, and an example."""

from __future__ import annotations

import json
import re
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MANY = 12
"""So many values are left to the JSON Schema."""

_ATTRIBUTES = "\n\nAttributes:\n"


def in_markdown(docstring: str) -> str:
    """Give a docstring, or a part of it, in Markdown."""
    return docstring.replace("``None``", "`null`").replace("``", "`")


def prose(schema: Mapping[str, Any]) -> str:
    """Give what a model says of itself, in Markdown. What its docstring says of single fields is in their table."""
    return _described(schema)[0]


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
    meanings = {
        **_described(schema)[1],
        **{name: each["description"] for name, each in fields.items() if "description" in each},
    }
    columns = ["field", "type", *(["meaning"] if meanings else [])]
    rows = [
        [f"`{name}`", ", or ".join(_types(field, known, parts)), meanings.get(name, "")]
        for name, field in fields.items()
    ]
    return "".join(f"| {' | '.join(row[: len(columns)])} |\n" for row in [columns, ["---"] * len(columns), *rows])


def _described(schema: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Give what a docstring says of a model, and of its fields by their names on the wire."""
    text, _, attributes = cleandoc(in_markdown(schema.get("description", ""))).partition(_ATTRIBUTES)
    one_a_line = re.sub(r"\n {5,}", " ", attributes)
    told = re.findall(r"^ {4}(\w+): (.*)$", one_a_line, re.MULTILINE)
    return text, {to_camel(name): meaning.removesuffix(".") for name, meaning in told}


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
