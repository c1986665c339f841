"""What holds for all unit tests: the ledger of a worker is whole and the present one, unless a test is about that."""

from __future__ import annotations

import pytest

from triggers import whole


@pytest.fixture(autouse=True)
def no_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell of no restore, and of no older ledger: the services that a test gives a worker need no epochs."""

    async def none(*_of_it: object) -> None:
        pass

    monkeypatch.setattr(whole, "unfinished", none)
    monkeypatch.setattr(whole, "lost", none)
