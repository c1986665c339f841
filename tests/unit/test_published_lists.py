"""CRLs as they are published: for every CA that can, however the others fare."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.workflows.revocation_lists import RevocationLists
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeBlobs
from tests.unit.pki.hierarchy import NOW


def lists(scene: AuthorityScene, blobs: FakeBlobs) -> RevocationLists:
    stored: Any = blobs
    return RevocationLists(scene.issuers, scene.certificates, scene.worker(), stored, scene.settings, scene.clock)


async def test_a_ca_that_can_not_sign_does_not_stop_the_others() -> None:
    """Every CA is tried, so that no list expires because of another; what failed is named."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    for name in ("first", "second", "third"):
        await scene.root(name)
    scene.vault.keys["first"] = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(ExceptionGroup, match="1 of 3 CRLs were not published") as caught:
        await lists(scene, blobs).publish_all()
    assert [str(each) for each in caught.value.exceptions] == [
        "the CRL of 'first' was not published: the key of CA 'first' does not match its certificate"
    ]
    assert sorted(blobs.blobs) == ["second.crl", "third.crl"]


async def test_a_list_is_described_as_it_reads() -> None:
    """Whoever asks whether it has changed is told from the blob's metadata, which say what the list says."""
    scene, blobs = AuthorityScene(now=NOW + timedelta(microseconds=987_654)), FakeBlobs()
    await scene.root("root")
    described, content = await lists(scene, blobs).read("root")
    assert await lists(scene, blobs).describe("root") == described
    crl = x509.load_der_x509_crl(content)
    assert (crl.last_update_utc, crl.next_update_utc) == (described.this_update, described.next_update)
    assert (described.this_update, described.next_update) == (NOW, NOW + timedelta(days=7))


async def test_each_list_has_a_number_above_the_one_before() -> None:
    """Numbers grow by one with each list of a CA (RFC 5280 section 5.2.3)."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    numbers = []
    for _ in range(3):
        assert await lists(scene, blobs).publish_all() == 1
        crl = x509.load_der_x509_crl(blobs.blobs["root.crl"].content)
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == [1, 2, 3]
