"""The calls in docs/tasks.md, as each of its ways gives them."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "tasks.md"
TEXT = PAGE.read_text(encoding="utf-8")
_FILES = re.compile(r"[\w./-]+\.(?:json|pem)\b")
_KEY = "x-functions-key=$key"


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        body: as JSON; the names of the files that it is made of; ``None`` for none.
        headers: beside the key's.
        file: that the answer is written to.
    """

    method: str
    path: str
    body: Any = None
    headers: tuple[str, ...] = ()
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the page.

    Attributes:
        title: its heading.
        line: that calls curl.
        curl: what that calls.
        az: what ``az rest`` calls.
        python: what Python calls.
    """

    title: str
    line: str
    curl: Call
    az: Call
    python: Call


def tasks() -> list[Task]:
    """Read the tasks of the page, in their order."""
    _, *sections = TEXT.partition("## The calls")[2].split("\n### ")
    return [_task(section) for section in sections]


def curl_calls(text: str) -> list[Call]:
    """Read the calls of a page that stand on a line of their own: without what the answer is led to."""
    lines = re.findall(r"^ *(api [A-Z]+ [^|>\n]+)", text, re.MULTILINE)
    return [
        _shell(each.replace(" -OJ", ""), "-d", "-H", "-o") for each in lines if "@-" not in each and "$(" not in each
    ]


def _task(section: str) -> Task:
    shell, python = re.findall(r"^```(?:python)?\n(.+?)^```$", section, re.MULTILINE | re.DOTALL)
    curl, az = shell.splitlines()
    assert curl.startswith("api ")
    assert az.startswith("rest ")
    return Task(section.splitlines()[0], curl, _shell(curl, "-d", "-H", "-o"), _az(az), _python(python))


def _shell(line: str, body: str, header: str, file: str) -> Call:
    _, method, path, *options = shlex.split(line)
    given = dict(zip(options[::2], options[1::2], strict=True))
    return Call(
        method,
        path,
        _body(given.get(body)),
        (given[header].replace(": ", "="),) if header in given else (),
        given.get(file),
    )


def _az(line: str) -> Call:
    """The last ``--headers`` replaces the one before, and takes several."""
    assert ("--headers" in line) == (f'--headers "{_KEY}"' in line), line
    return _shell(line.replace(f'"{_KEY}" ', ""), "--body", "--headers", "--output-file")


def _body(text: str | None) -> Any:
    if text is None or text.startswith(("@", "$(")):
        return _FILES.findall(text) if text else None
    return json.loads(text)


def _python(text: str) -> Call:
    made = next(
        each
        for each in ast.walk(ast.parse(text))
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "call"
    )
    method, path, *bodies = made.args
    given = {each.arg: ast.literal_eval(each.value) for each in made.keywords}
    body = ast.unparse(bodies[0]) if bodies else None
    written = re.search(r'open\("(.+?)", "wb"\)', text)
    return Call(
        ast.literal_eval(method),
        ast.literal_eval(path),
        _FILES.findall(body) if body and "open(" in body else ast.literal_eval(body) if body else None,
        tuple(f"{name}={value}" for name, value in given.get("headers", {}).items()),
        written[1] if written else None,
    )
