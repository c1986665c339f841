"""CAs and their keys: one vault key for one CA, and no CA is used whose key is another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.words import KeyCustody
from shared.errors import Conflict
from shared.pki.issuers import IssuerError
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.workflows.authorities.keys import WRAPPING_KEY
from tests.unit.authorities import AuthorityScene


async def test_a_ca_whose_vault_key_is_another_is_refused_when_it_is_loaded() -> None:
    """The key's public half comes from the vault, not from the certificate that it is held against."""
    scene = AuthorityScene()
    await scene.root("dpsCa")
    await scene.worker().authorities.load("dpsCa")
    scene.vault.keys["dpsca"] = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(IssuerError, match=r"^the key of CA 'dpsCa' does not match its certificate$"):
        await scene.worker().authorities.load("dpsCa")


async def test_the_name_of_the_log_s_key_is_not_a_ca_s() -> None:
    """Nor is that of a later one. The vault would give the CA the key that signs the log. Nothing is recorded."""
    scene = AuthorityScene()
    for name in ("Evidence-Log", "evidence-log-2"):
        told = rf"^name: '{name}' is the name of a key of the vault that signs the log; choose another name$"
        with pytest.raises(Conflict, match=told):
            await scene.root(name)
        with pytest.raises(Conflict, match=told):
            await scene.worker().keys.check_import(name, KeyCustody.VAULT)
    assert (scene.vault.keys, [each async for each in scene.records.list()]) == ({}, [])


async def test_every_ca_that_can_not_sign_is_named_before_it_is_needed() -> None:
    """The check loads all that are made, tells which fail and why, and is content with the others."""
    scene = AuthorityScene()
    for name in ("first", "second", "third"):
        await scene.root(name)
    await scene.worker().authorities.check()
    for name in ("first", "third"):
        scene.vault.keys[name] = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(ExceptionGroup) as caught:
        await scene.worker().authorities.check()
    assert caught.value.message == (
        "first: the key of CA 'first' does not match its certificate; "
        "third: the key of CA 'third' does not match its certificate"
    )


async def test_a_key_that_is_taken_away_is_noticed_by_a_worker_that_has_used_it() -> None:
    """A CA that was loaded is asked for its key again, a minute after the last time."""
    scene = AuthorityScene()
    await scene.root("dpsCa")
    worker = scene.worker()
    await worker.authorities.check()
    scene.vault.keys["dpsca"] = generate_key(KeyAlgorithm.EC_P256)
    await worker.authorities.check()
    scene.now += timedelta(minutes=1)
    with pytest.raises(ExceptionGroup, match="dpsCa: the key of CA 'dpsCa' does not match its certificate"):
        await worker.authorities.check()


async def test_a_key_that_is_disabled_is_noticed_within_a_minute() -> None:
    """Its public half can be read yet, and that is all that a worker needs to load the CA."""
    scene = AuthorityScene()
    await scene.root("dpsCa")
    worker = scene.worker()
    await worker.authorities.check()
    scene.vault.disabled.add("dpsca")
    scene.now += timedelta(minutes=1)
    with pytest.raises(ExceptionGroup, match="dpsCa: the key 'dpsCa' is disabled"):
        await worker.authorities.check()
    with pytest.raises(ExceptionGroup, match="dpsCa: the key 'dpsCa' is disabled"):
        await scene.worker().authorities.check()


async def test_a_disabled_key_is_noticed_though_an_order_has_loaded_its_ca() -> None:
    scene = AuthorityScene()
    await scene.root("dpsCa")
    worker = scene.worker()
    scene.vault.disabled.add("dpsca")
    await worker.authorities.load("dpsCa")
    with pytest.raises(ExceptionGroup, match="dpsCa: the key 'dpsCa' is disabled"):
        await worker.authorities.check()


async def test_names_that_differ_by_case_are_not_two_cas() -> None:
    """A vault would give both the same key, so the second one is refused, and the first one keeps its name."""
    scene = AuthorityScene()
    await scene.root("Line-1")
    with pytest.raises(
        Conflict, match=r"^name: the CA 'Line-1' exists, and the names of vault keys can't differ by case"
    ):
        await scene.root("line-1")
    assert [record.name async for record in scene.worker().authorities.list()] == ["Line-1"]
    assert await scene.records.get("line-1") is None


async def test_the_key_that_wraps_others_is_no_cas() -> None:
    """A CA of that name would take the vault key by which all wrapped keys are opened."""
    with pytest.raises(
        Conflict,
        match=r"^name: 'CA-key-wrapping' is the name of the vault's key that wraps others; choose another name",
    ):
        await AuthorityScene().root("CA-key-wrapping")


async def test_a_wrapped_key_opens_for_its_own_ca() -> None:
    """A key that lies wrapped in the ledger signs for its CA in another worker, too."""
    scene = AuthorityScene()
    await scene.root("root")
    await scene.issuing("line", "root", custody=KeyCustody.WRAPPED)
    assert list(scene.vault.keys) == ["root", WRAPPING_KEY]
    assert (await scene.worker().authorities.load("line")).name == "line"
