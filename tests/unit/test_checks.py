"""What readiness says of the ledger itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.checks import check_ledger
from shared.errors import LedgerBehind
from tests.unit.authorities import AuthorityScene
from tests.unit.test_status_answers import epochs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Groups:
    """A DPS with two groups."""

    async def list_groups(self) -> AsyncIterator[dict[str, Any]]:
        for name in ("line-1", "line-2"):
            yield {"enrollmentGroupId": name}


async def looked_at(scene: AuthorityScene) -> None:
    clients: Any = SimpleNamespace(keys=scene.vault, provisioning=Groups())
    await check_ledger(epochs(scene), scene.worker().authorities, clients, "log-key")


async def test_an_empty_ledger_beside_keys_of_its_cas_is_not_ready() -> None:
    """A ledger that was lost looks like a new one, but for the vault and DPS."""
    scene = AuthorityScene()
    for key in ("log-key", "log-key-2", "ocsp-key-wrapping", "ledger-epoch"):
        await scene.vault.get_or_create(key, "EC-P256")
    await looked_at(scene)
    await scene.vault.get_or_create("line-1-ca1", "EC-P256")
    await scene.vault.get_or_create("root", "EC-P256")
    with pytest.raises(LedgerBehind) as refused:
        await looked_at(scene)
    assert str(refused.value) == (
        "the ledger is empty, and the vault has 2 keys of CAs of this deployment (line-1-ca1, root), and DPS has 2 "
        "enrollment groups: put the ledger back (docs/recover.md)"
    )


async def test_a_ledger_with_its_cas_is_ready() -> None:
    scene = AuthorityScene()
    await scene.root("root")
    await looked_at(scene)
