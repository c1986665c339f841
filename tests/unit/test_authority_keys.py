"""CAs and their keys: one vault key for one CA, and no CA is used whose key is another."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shared.contracts import CertificateKind, KeyCustody
from shared.errors import Conflict
from shared.ledger.certificates import Certificates
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.issuers import Issuers
from shared.pki.issuance import IssuerError
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.threads import ThreadPool
from shared.workflows.authority_keys import AuthorityKeys
from shared.workflows.certificate_authorities import AuthorityDefinition, CertificateAuthorities
from shared.workflows.events import Outbox
from tests.unit.fakes import FakeQueues, FakeTable, FakeVault
from tests.unit.pki.hierarchy import NOW


@dataclass
class Scene:
    vault: FakeVault = field(default_factory=FakeVault)
    table: FakeTable = field(default_factory=FakeTable)
    queues: FakeQueues = field(default_factory=FakeQueues)

    def worker(self) -> CertificateAuthorities:
        """What one worker holds; another one begins with nothing loaded."""
        vault: Any = self.vault
        queues: Any = self.queues
        settings: Any = SimpleNamespace(
            public_base_url=None,
            subject_organization="Example",
            subject_country="US",
            expiry_warning=timedelta(days=30),
        )
        return CertificateAuthorities(
            Issuers(self.table),
            Certificates(FakeTable(), FakeTable(), FakeTable()),
            ExpiryIndex(FakeTable()),
            AuthorityKeys(vault, ThreadPool("computing", 1)),
            (),
            Outbox(queues, lambda: NOW),
            settings,
            lambda: NOW,
        )

    async def made(self, name: str, **fields: Any) -> None:
        definition = AuthorityDefinition(name, CertificateKind.ROOT, **fields)
        await self.worker().ensure(definition, cause=f"make-{name}")


async def test_a_ca_whose_vault_key_is_another_is_refused_when_it_is_loaded() -> None:
    """The key's public half comes from the vault, not from the certificate that it is held against."""
    scene = Scene()
    await scene.made("dpsCa")
    await scene.worker().load("dpsCa")
    scene.vault.keys["dpsca"] = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(IssuerError, match=r"^the key of CA 'dpsCa' does not match its certificate$"):
        await scene.worker().load("dpsCa")


async def test_every_ca_that_can_not_sign_is_named_before_it_is_needed() -> None:
    """The check loads all that are made, tells which fail and why, and is content with the others."""
    scene = Scene()
    for name in ("first", "second", "third"):
        await scene.made(name)
    await scene.worker().check()
    for name in ("first", "third"):
        scene.vault.keys[name] = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(ExceptionGroup) as caught:
        await scene.worker().check()
    assert caught.value.message == (
        "first: the key of CA 'first' does not match its certificate; "
        "third: the key of CA 'third' does not match its certificate"
    )


async def test_names_that_differ_by_case_are_not_two_cas() -> None:
    """A vault would give both the same key, so the second one is refused, and the first one keeps its name."""
    scene = Scene()
    await scene.made("Line-1")
    with pytest.raises(Conflict, match=r"^name: there is a CA 'Line-1', and in the names of vault keys case makes no"):
        await scene.made("line-1")
    assert [record.name async for record in scene.worker().list()] == ["Line-1"]
    assert await Issuers(scene.table).get("line-1") is None


async def test_the_key_that_wraps_others_is_no_cas() -> None:
    """A CA of that name would take the vault key by which all wrapped keys are opened."""
    with pytest.raises(
        Conflict, match=r"^name: 'CA-key-wrapping' names the vault's key that wraps others; take another"
    ):
        await Scene().made("CA-key-wrapping")


async def test_a_wrapped_key_opens_for_its_own_ca() -> None:
    """A key that lies wrapped in the ledger signs for its CA in another worker, too."""
    scene = Scene()
    await scene.made("root")
    definition = AuthorityDefinition("line", CertificateKind.INTERMEDIATE, parent="root", custody=KeyCustody.WRAPPED)
    await scene.worker().ensure(definition, cause="make-line")
    assert list(scene.vault.keys) == ["root"]
    assert (await scene.worker().load("line")).name == "line"
