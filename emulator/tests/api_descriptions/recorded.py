"""What the emulators of a test run were asked and answered, read from their exchange logs as it comes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from emulator.tests.api_descriptions.validation import Exchange, contradictions, described

if TYPE_CHECKING:
    from pathlib import Path

type Seen = dict[str, dict[str, list[int]]]
"""Statuses by operation by service, all in order."""


class Recorded:
    """The exchange logs of a run, each line read once."""

    def __init__(self) -> None:
        self._read_up_to: dict[Path, int] = {}
        self._statuses: defaultdict[tuple[str, str], set[int]] = defaultdict(set)

    def log(self, file: Path) -> Path:
        """Follow a log, that need not be there yet; returns it."""
        self._read_up_to.setdefault(file, 0)
        return file

    def fail_if_contradicted(self, *, count: bool) -> None:
        """Read what is new, and fail the test that runs where the descriptions are contradicted.

        Args:
            count: the operations count as seen.
        """
        found: list[str] = []
        for exchange in self._new():
            operation = described(exchange)
            if count and operation is not None:
                self._statuses[operation[0].service, operation[1]["id"]].add(exchange.status)
            found += contradictions(exchange)
        if found:
            pytest.fail("\n".join(["contradicted: emulator/tests/api_descriptions", *found]), pytrace=False)

    def seen(self) -> Seen:
        """All operations that were called, with the statuses they answered."""
        result: Seen = {}
        for (service, operation), statuses in sorted(self._statuses.items()):
            result.setdefault(service, {})[operation] = sorted(statuses)
        return result

    def _new(self) -> list[Exchange]:
        lines: list[bytes] = []
        for file, start in self._read_up_to.items():
            if _size(file) > start:  # the logs of emulators that have ended are many, and do not grow
                with file.open("rb") as log:
                    log.seek(start)
                    added = log.read().splitlines(keepends=True)
                whole = [line for line in added if line.endswith(b"\n")]
                self._read_up_to[file] = start + sum(map(len, whole))
                lines += whole
        return [Exchange.parse(line.decode()) for line in lines]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


RECORDED = Recorded()
"""The one of this run: fixtures of several folders start emulators."""
