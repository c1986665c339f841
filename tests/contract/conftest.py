"""What holds for every contract test that has an emulator, and a storage account for those that want one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devstack.stack import Stack
from emulator.tests.api_descriptions.recorded import RECORDED

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def as_documented() -> Iterator[None]:
    """Fail the test whose requests and answers contradict Microsoft's description of the service."""
    yield
    RECORDED.fail_if_contradicted(count=False)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Azurite and the emulated identity, without the app."""
    stack = Stack.free(tmp_path_factory.mktemp("cloud"))
    stack.with_host = False
    with stack:
        yield stack
