"""What holds for every contract test that has an emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.tests.api_descriptions.recorded import RECORDED

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def as_documented() -> Iterator[None]:
    """Fail the test whose requests and answers contradict Microsoft's description of the service."""
    yield
    RECORDED.fail_if_contradicted(count=False)
