"""Write docs/events.md from the models of the events: ``python -m devstack.events_page``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from devstack.shapes import as_json, first_sentence, prose, table
from shared.contracts.base import example_of
from shared.contracts.events import EVENTS, event
from shared.domain.words import EventType

PAGE = Path(__file__).parents[1] / "docs" / "events.md"

_HEAD = """# Events

<!-- Made from the events of shared/contracts/ by `make docs`. Do not edit this page. -->

An event is a CloudEvents 1.0 event in structured JSON, on the queue `provisioning-events` or in the topic of
`EVENT_TOPIC_URL`. [contract.md](contract.md#events) says how to read them. `GET /api/asyncapi.json` describes them for
programs.

| attribute | holds |
| --- | --- |
| `type` | `DeviceProvisioning.` and a name of this page |
| `subject` | the id concerned |
| `correlationid` | the order or request that caused it |
| `id` | follows from what happened: an event that comes twice has the same one |
| `time` | when it happened |
| `traceparent` | W3C trace context, if there is one |
| `data` | the fields below: all of them, always. The examples of single types leave out `actor` |

| type | sent when |
| --- | --- |
"""


def events_page() -> str:
    """Give the page, in Markdown."""
    _, schemas = models_json_schema([(model, "serialization") for model in EVENTS.values()], by_alias=True)
    known = schemas["$defs"]
    parts: dict[str, None] = {}
    sections = [
        f"\n## `{_name(kind)}`\n\n{prose(known[model.__name__])}\n\n"
        f"{table(known[model.__name__], known, parts)}\n"
        f"{as_json({name: value for name, value in example_of(model).items() if name != 'actor'})}"
        for kind, model in EVENTS.items()
    ]
    rows = [
        f"| [`{_name(kind)}`](#{_name(kind).lower()}) | {first_sentence(known[model.__name__])} |\n"
        for kind, model in EVENTS.items()
    ]
    shared = ["\n## Parts\n"]
    seen: set[str] = set()
    while name := next((each for each in parts if each not in seen), None):
        seen.add(name)
        shared.append(f"\n### `{name}`\n\n{prose(known[name])}\n\n{table(known[name], known, parts)}")
    return "".join([_HEAD, *rows, "\nOne of them as it is sent:\n\n", as_json(_sent()), *sections, *shared])


def _sent() -> Any:
    """Give one event as a whole."""
    told = EVENTS[EventType.DEVICE_REVOKED]
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    text = event(
        told.model_validate(example_of(told)), subject="press-1", correlation_id="revocation-1", at=at,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )  # fmt: skip
    return {**json.loads(text), "data": example_of(told)}


def _name(kind: EventType) -> str:
    return kind.removeprefix("DeviceProvisioning.")


if __name__ == "__main__":
    PAGE.write_text(events_page(), encoding="utf-8")
