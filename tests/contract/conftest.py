"""What holds for every contract test that has an emulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.api_descriptions.recorded import RECORDED

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTED = Path(__file__).parent / "emulator"
"""The tests of this folder are what docs/emulator-coverage.md tells about."""


@pytest.fixture(autouse=True)
def as_documented(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test whose requests and answers contradict Microsoft's description of the service."""
    yield
    found = RECORDED.contradictions(count=request.path.parent == COUNTED)
    if found:
        pytest.fail("\n".join(["contradicted: tests/contract/api_descriptions", *found]), pytrace=False)
