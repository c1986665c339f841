"""Write docs/api.md from the operations that the app has: ``python -m devstack.api_page``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devstack.shapes import as_json, in_markdown, prose, table
from triggers import http_api  # noqa: F401 - it registers the operations
from triggers.http.endpoints import published
from triggers.openapi import document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triggers.openapi import Operation

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
_HEAD = """# HTTP

<!-- Made from the operations of the API by `make docs`. Do not edit this page. -->

Each operation with its body and its answers, and the [shape](#shapes) of each. `GET /api/openapi.json` has the same for
programs, with parameters, refusals and patterns. [contract.md](contract.md) says what the operations do,
[roles.md](roles.md) who may use them, and [tasks.md](tasks.md) has calls to copy. A refusal is a
[`Problem`](#problem), as `application/problem+json`.
"""


def api_page() -> str:
    """Give the page, in Markdown."""
    known = document(published)["components"]["schemas"]
    listed = sorted(published, key=lambda each: (_resource(each), each.path, each.method))
    parts: list[str] = [_HEAD]
    for resource, operations in groupby(listed, key=_resource):
        parts.append(f"\n## {resource}\n\n| operation | what it does | body | answers |\n| --- | --- | --- | --- |\n")
        parts += [_row(each) for each in operations]
    parts.append("\n## Shapes\n")
    for name, schema in sorted(known.items()):
        if "properties" in schema:
            told = f"{prose(schema)}\n\n" if schema.get("description") else ""
            examples = [f"\n{as_json(each)}" for each in schema.get("examples", [])]
            parts += [f"\n### `{name}`\n\n{told}{table(schema, known, {})}", *examples]
    return "".join(parts)


def _resource(operation: Operation) -> str:
    return operation.route.split("/")[0]


def _row(operation: Operation) -> str:
    body = " or ".join(map(_kind, _bodies(operation)))
    answers = "; ".join(
        f"{each.status}: {' or '.join(map(_kind, each.content)) or each.meaning}" for each in operation.answers
    )
    return f"| `{operation.method} {operation.path}` | {in_markdown(operation.summary)} | {body} | {answers} |\n"


def _bodies(operation: Operation) -> Iterator[Any]:
    if operation.body is not None:
        yield operation.body
    yield from operation.other_bodies


def _kind(kind: Any) -> str:
    return f"`{kind}`" if isinstance(kind, str) else f"[`{kind.__name__}`](#{kind.__name__.lower()})"


if __name__ == "__main__":
    PAGE.write_text(api_page(), encoding="utf-8")
