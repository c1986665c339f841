"""What the log answers about its keys."""

from __future__ import annotations

from typing import Literal

from shared.contracts.base import Contract, example_of, with_example

_KEY = "factory.example.com/log+530d903a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJ0fVbXkCXZ5"


class LogKey(Contract):
    """A key of the log (C2SP signed-note).

    ``signs``: every checkpoint is signed by it. ``next``: while the key is changed, as well. ``retired``: its last
    checkpoint has ``until`` entries.
    """

    model_config = with_example({"key": _KEY, "state": "retired", "until": 70123})

    key: str
    state: Literal["signs", "next", "retired"]
    until: int | None


class LogKeyList(Contract):
    """The keys of the log, whose name is ``origin``."""

    model_config = with_example({"origin": "factory.example.com/log", "keys": [example_of(LogKey)]})

    origin: str
    keys: list[LogKey]
