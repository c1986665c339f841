"""The commit point: one certificate per cause, whoever comes first and whatever gets lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from shared.errors import Deferred, Gone, Rejected
from shared.ledger.certificates import Certificates, CertificateState
from shared.ledger.expiry import ExpiryIndex
from shared.pki.issuance import DistributionPoints
from shared.threads import ThreadPool
from shared.workflows.certificate_authorities import LoadedAuthority
from shared.workflows.device_certificates import DECISION_HOLDS, DeviceCertificateRequest, DeviceCertificates
from tests.unit.fakes import FakeBlobs, FakeTable
from tests.unit.pki.hierarchy import NOW, hierarchy
from tests.unit.pki.test_requests import request as signing_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.adapters.storage import StoredBlob


@dataclass
class FakeSecrets:
    secrets: dict[str, str] = field(default_factory=dict)

    async def put(self, name: str, value: str, *, tags: dict[str, str]) -> None:
        del tags
        self.secrets[name] = value

    async def get(self, name: str) -> str | None:
        return self.secrets.get(name)


class FakeAuthorities:
    async def loaded(self, _name: str) -> LoadedAuthority:
        return LoadedAuthority("line-1-ca1", hierarchy().issuing, hierarchy().root.certificate, "dpsCa")

    async def signing(self, _issuer: Any, call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)

    def distribution_points(self, _authority: LoadedAuthority) -> DistributionPoints:
        return DistributionPoints()


@dataclass
class ReadBefore(FakeBlobs):
    """Blobs that were read before somebody else changed them; later reads see that."""

    before: StoredBlob | None = None

    async def get(self, container: str, name: str) -> StoredBlob | None:
        read, self.before = self.before, None
        return read or await super().get(container, name)


@dataclass
class Scene:
    certificates: FakeTable = field(default_factory=FakeTable)
    in_force: FakeTable = field(default_factory=FakeTable)
    blobs: FakeBlobs = field(default_factory=FakeBlobs)
    secrets: FakeSecrets = field(default_factory=FakeSecrets)

    @property
    def subject(self) -> DeviceCertificates:
        anything: Any = SimpleNamespace(expiry_warning=timedelta(days=30))
        authorities: Any = FakeAuthorities()
        blobs: Any = self.blobs
        secrets: Any = self.secrets
        ledger = Certificates(self.certificates, FakeTable(), self.in_force)
        return DeviceCertificates(
            authorities,
            ledger,
            ExpiryIndex(FakeTable()),
            blobs,
            secrets,
            anything,
            lambda: NOW,
            ThreadPool("computing", 1),
        )

    def states(self) -> list[str]:
        return sorted(row.values["state"] for row in self.certificates.rows.values())


def wanted(*, csr: str | None = None) -> DeviceCertificateRequest:
    return DeviceCertificateRequest("press-001", "line-1-ca1", "order-1", timedelta(days=365), csr=csr)


async def test_a_certificate_is_active_when_its_bundle_is_committed() -> None:
    """One signature, one active certificate, one password; the bundle's key opens with it."""
    scene = Scene()
    issued = await scene.subject.issue(wanted(), resumed=False)
    assert scene.states() == [CertificateState.ACTIVE]
    assert issued.credentials is not None
    assert list(scene.secrets.secrets.values()) == [issued.credentials.password]
    assert issued.bundle.pfx is not None


async def test_a_certificate_is_in_force_from_before_it_is_signed_until_it_is_abandoned() -> None:
    """The index of its issuer holds what was committed; the signature that came second is taken out of it."""
    scene = Scene()
    await scene.subject.issue(wanted(), resumed=False)
    await scene.subject.issue(wanted(), resumed=False)
    active = [key for key, row in scene.certificates.rows.items() if row.values["state"] == CertificateState.ACTIVE]
    assert list(scene.in_force.rows) == [("line-1-ca1", serial) for _, serial in active]


async def test_nothing_is_signed_by_a_decision_that_may_be_outdated() -> None:
    """Too long after the group's CA was looked up the attempt begins anew, before anything is signed."""
    scene = Scene()
    request = replace(wanted(), decided_at=NOW - DECISION_HOLDS - timedelta(seconds=1))
    with pytest.raises(Deferred, match="took too long to prepare; its issuing CA is looked up anew"):
        await scene.subject.issue(request, resumed=False)
    assert scene.states() == [CertificateState.RESERVED]
    await scene.subject.issue(replace(wanted(), decided_at=NOW - DECISION_HOLDS), resumed=False)
    assert scene.states() == [CertificateState.ACTIVE, CertificateState.RESERVED]


async def test_who_comes_second_takes_what_the_first_committed() -> None:
    """Two workers on the same line end with one certificate; the other signature is accounted for as abandoned."""
    scene = Scene()
    first = await scene.subject.issue(wanted(), resumed=False)
    second = await scene.subject.issue(wanted(), resumed=False)
    assert second.bundle.certificate == first.bundle.certificate
    assert second.credentials == first.credentials
    assert scene.states() == [CertificateState.ABANDONED, CertificateState.ACTIVE]


async def test_a_lost_answer_does_not_abandon_the_certificate() -> None:
    """When the blob was created and the answer got lost, the certificate in it is the active one."""
    scene = Scene(blobs=FakeBlobs(lose_answer=True))
    issued = await scene.subject.issue(wanted(), resumed=False)
    assert scene.states() == [CertificateState.ACTIVE]
    assert issued.credentials is not None


async def test_what_was_broken_off_is_found_again() -> None:
    """A later attempt finds the bundle and signs nothing."""
    scene = Scene()
    first = await scene.subject.issue(wanted(), resumed=False)
    again = await scene.subject.issue(wanted(), resumed=True)
    assert again.bundle.certificate == first.bundle.certificate
    assert scene.states() == [CertificateState.ACTIVE]


async def test_a_bundle_is_handed_out_once_and_its_key_is_gone() -> None:
    """After the hand-out the blob holds certificates only, and the next caller learns what to do."""
    scene = Scene()
    await scene.subject.issue(wanted(), resumed=False)
    _, content = await scene.subject.hand_out(wanted().bundle, wanted="pem")
    assert b"ENCRYPTED PRIVATE KEY" in content
    left = scene.blobs.blobs[wanted().bundle].content
    assert b"PRIVATE KEY" not in left
    assert b'"pfx": null' in left
    with pytest.raises(Gone, match="renew the device to get a new key"):
        await scene.subject.hand_out(wanted().bundle, wanted="pfx")


async def test_a_bundle_whose_emptying_was_answered_into_the_void_is_handed_out_all_the_same() -> None:
    """When the key was deleted and the answer got lost, the caller still gets it, for nobody else ever could."""
    scene = Scene()
    await scene.subject.issue(wanted(), resumed=False)
    scene.blobs.lose_answer = True
    _, content = await scene.subject.hand_out(wanted().bundle, wanted="pem")
    assert b"ENCRYPTED PRIVATE KEY" in content
    with pytest.raises(Gone, match="was handed out before"):
        await scene.subject.hand_out(wanted().bundle, wanted="pem")


async def test_of_two_hand_outs_at_once_one_gets_the_key() -> None:
    """Both have read the bundle, and the one that empties it second goes away without the key."""
    scene = Scene()
    await scene.subject.issue(wanted(), resumed=False)
    before = scene.blobs.blobs[wanted().bundle]
    await scene.subject.hand_out(wanted().bundle, wanted="pem")
    scene.blobs = ReadBefore(scene.blobs.blobs, before=before)
    with pytest.raises(Gone, match="is being handed out to another caller"):
        await scene.subject.hand_out(wanted().bundle, wanted="pem")


async def test_the_bundle_of_a_device_with_its_own_key_can_be_had_again() -> None:
    """Without a key in it, a bundle is handed out as often as wanted, as PEM only."""
    scene = Scene()
    issued = await scene.subject.issue(wanted(csr=signing_request("press-001")), resumed=False)
    assert issued.credentials is None
    assert scene.secrets.secrets == {}
    for _ in range(2):
        _, content = await scene.subject.hand_out(wanted().bundle, wanted="pem")
        assert x509.load_pem_x509_certificates(content)[0] == issued.bundle.certificate
    with pytest.raises(Rejected, match="this device made its own"):
        await scene.subject.hand_out(wanted().bundle, wanted="pfx")
