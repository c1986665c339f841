"""Whether the app is ready is told dependency by dependency."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.workflows.intake import readiness
from shared.workflows.intake.readiness import Readiness

if TYPE_CHECKING:
    import pytest


async def test_each_dependency_is_told_by_its_name_with_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer keeps nobody from hearing of the others, and what it says is put into one line."""
    monkeypatch.setattr(readiness, "_SECONDS", 0)

    async def well() -> None:
        pass

    async def refused() -> None:
        raise PermissionError("no role:\n  Storage Queue Data Reader" + " is missing" * 50)

    async def silent() -> None:
        await asyncio.Event().wait()

    report = await Readiness(checks={"queues": refused, "dps": silent, "tables": well}).report()
    assert list(report) == ["queues", "dps", "tables"]
    assert (report["tables"], report["dps"]) == ("ok", "no answer within 0 s")
    assert report["queues"].startswith("PermissionError: no role: Storage Queue Data Reader is missing is missing")
    assert len(report["queues"]) == len("PermissionError: ") + 200
