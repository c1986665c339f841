"""docs/tasks.md names calls that the app has, where it has them, and says the same in each of its ways.

Calls in the other pages are held to the app as well.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import triggers.http_api  # noqa: F401 - it publishes the routes
from shared.contracts.base import Contract
from shared.contracts.parsing import parse
from tests.tasks import TEXT, Call, Task, curl_calls, tasks
from triggers.http.endpoints import published

if TYPE_CHECKING:
    from triggers.openapi import Operation

REPOSITORY = Path(__file__).parents[2]
TASKS = tasks()
ROWS = re.findall(r"^\| \[(.+?)\]\(#(.+?)\) \| `(\w+) (/api/\S+)` \| `(\w+)` \|$", TEXT, re.MULTILINE)
ZONES = json.loads((REPOSITORY / "infra" / "zones.json").read_text(encoding="utf-8"))["zones"]


def operation_of(call: Call) -> Operation:
    """Find the operation that a call gets to: of those that fit, the one with the fewest placeholders."""
    path = f"/api/{call.path.partition('?')[0]}"
    fitting = [
        each
        for each in published
        if each.method == call.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each.path), path)
    ]
    assert fitting, f"{call.method} {call.path} is not a call of the app"
    return min(fitting, key=lambda each: each.path.count("{"))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.title)
def test_the_three_ways_of_a_task_make_the_same_call(task: Task) -> None:
    assert task.az == task.curl
    assert task.python == task.curl


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.title)
def test_the_app_has_the_call_and_takes_its_body_and_parameters(task: Task) -> None:
    operation = operation_of(task.curl)
    query = re.findall(r"[?&](\w+)=", task.curl.path)
    assert set(query) <= {each.name for each in operation.parameters if each.place == "query"}
    if isinstance(task.curl.body, dict):
        check_body(operation, task.curl.body)
    for name in task.curl.body if isinstance(task.curl.body, list) else ():
        assert name == "chain.pem" or (REPOSITORY / name).exists(), name


def test_the_table_has_each_task_with_its_call_and_its_app() -> None:
    """In the order of the page; a link leads to the task, and the app is the trust zone that has the function."""
    assert len(ROWS) == len(TASKS) > 20
    for (_, anchor, method, path, zone), task in zip(ROWS, TASKS, strict=True):
        operation = operation_of(task.curl)
        assert anchor == re.sub(r"[^\w -]", "", task.title.lower()).replace(" ", "-")
        assert (method, path) == (operation.method, operation.path)
        having = [name for name, each in ZONES.items() if operation.name in each["functions"]]
        assert zone == (having[0] if having else "each"), operation.name


@pytest.mark.parametrize("page", ["README.md", "docs/operate.md", "docs/recover.md"])
def test_the_app_has_every_call_that_a_page_shows(page: str) -> None:
    """With ``api``, the function around curl that the README and docs/tasks.md have."""
    calls = curl_calls((REPOSITORY / page).read_text(encoding="utf-8"))
    assert calls
    for call in calls:
        operation = operation_of(call)
        query = re.findall(r"[?&](\w+)=", call.path)
        assert set(query) <= {each.name for each in operation.parameters if each.place == "query"}, call
        if isinstance(call.body, dict):
            check_body(operation, call.body)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{each}.md" for each in ("operate", "recover", "secure"))])
def test_the_app_has_every_path_that_a_page_names(page: str) -> None:
    """As ``METHOD /api/path``, by whatever names in braces."""
    named = re.findall(r"\b(GET|POST|PUT|DELETE)\s+/api/([\w{}./-]+)", (REPOSITORY / page).read_text(encoding="utf-8"))
    assert named
    for method, path in named:
        assert operation_of(Call(method, path))


def check_body(operation: Operation, body: dict[str, Any]) -> None:
    """See that a body is taken; what the route or a header gives is not in it."""
    assert isinstance(operation.body, type)
    assert issubclass(operation.body, Contract)
    given_by_the_route = {"requestId": "r"} if "request_id" in operation.body.model_fields else {}
    parse(operation.body, {**given_by_the_route, **body})
