"""Algorithms of keys: an entry is all that messages, the engine and the vault need."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from shared.adapters import vault
from shared.contracts.certificates import CertificateRequest
from shared.contracts.parsing import parse
from shared.pki.signing_keys import algorithm_of
from shared.rules.key_algorithms import KeyAlgorithm
from tests.pki.hierarchy import spare_key


class FakeKeyClient:
    """A vault that has no keys but those that are made or imported."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.imported: Any = None

    def get_key(self, _name: str) -> Any:
        if self.imported is None:
            raise ResourceNotFoundError("there is none")
        return self.imported

    def import_key(self, _name: str, key: Any, *, hardware_protected: bool, tags: dict[str, str]) -> Any:
        assert not hardware_protected
        self.imported = SimpleNamespace(id="imported", key=key, properties=SimpleNamespace(tags=tags))
        return self.imported


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
async def test_an_algorithm_can_be_ordered_and_kept_in_the_vault(
    algorithm: KeyAlgorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message may name it, and a key of it is the same one when the vault gives it back."""
    ordered = parse(
        CertificateRequest, {"requestId": "r", "kind": "root", "name": "ca", "keyAlgorithm": algorithm.value}
    )
    assert ordered.key_algorithm is algorithm
    monkeypatch.setattr(vault, "KeyClient", FakeKeyClient)
    credential: Any = None
    keys = vault.VaultKeys("https://vault.example.com", credential, vault.Ownership("here"), verify_challenge=True)
    assert await keys.import_key("ca", spare_key(algorithm)) == "imported"
    _, public_key = await keys.get_or_create("ca", algorithm)
    assert public_key == spare_key(algorithm).public_key()
    assert algorithm_of(public_key) is algorithm
