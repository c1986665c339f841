"""Azurite, for the storage account that is not in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devstack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Azurite without the app."""
    stack = Stack.free(tmp_path_factory.mktemp("cloud"))
    stack.with_host = False
    with stack:
        yield stack
