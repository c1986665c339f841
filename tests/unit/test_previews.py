"""Previews: the order in which DPS looks, and the reason for each refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.attestations import leaf_attestation, reference_attestation, x509_attestation
from shared.errors import NotFound, Rejected
from shared.pki import names
from shared.pki.profiles import issuing_profile
from shared.pki.signing_keys import KeyAlgorithm
from shared.ports.ca_certificates import VerifiedAuthority
from shared.rules.etags import ANY_VERSION
from shared.workflows.groups.previews import Previews
from tests.pki.foreign import of_version_5
from tests.pki.hierarchy import NOW, certificate_authority, hierarchy
from tests.unit.fakes import FakeProvisioning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from cryptography import x509

    from shared.pki.issuers import Issuer

ROOT, ISSUING, LEAF = hierarchy().root.certificate, hierarchy().issuing.certificate, hierarchy().device()
CHAIN = (LEAF, ISSUING)


@pytest.fixture(autouse=True, params=[True, False], ids=["certificate", "info"])
def _shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """DPS shows the certificates of its entries, or info of them alone: sources conflict, and both must do."""
    monkeypatch.setattr(FakeProvisioning, "shows_certificates", request.param)


@cache
def other() -> Issuer:
    return certificate_authority("other-ca", hierarchy().root, KeyAlgorithm.EC_P256, issuing_profile())


class FakeAuthorities:
    """This app's CAs: a verified root, and an issuing CA."""

    async def list(self) -> AsyncIterator[Any]:
        for name, certificate, proof in (("dpsCa", ROOT, "verified"), ("line-1-ca1", ISSUING, None)):
            yield SimpleNamespace(
                name=name,
                certificate=names.pem(certificate),
                thumbprint=names.thumbprint(certificate),
                proof_of_possession=proof,
            )


@dataclass
class FakeResource:
    authorities: list[VerifiedAuthority]

    async def verified(self) -> list[VerifiedAuthority]:
        return self.authorities


@dataclass
class Scene:
    provisioning: FakeProvisioning = field(default_factory=FakeProvisioning)
    verified: list[VerifiedAuthority] | None = None
    now: datetime = NOW

    async def group(self, group_id: str, attestation: dict[str, Any], status: str = "enabled") -> Scene:
        entry = {"enrollmentGroupId": group_id, "attestation": attestation, "provisioningStatus": status}
        await self.provisioning.put_group(entry, etag=None)
        return self

    async def enrollment(self, leaf: x509.Certificate, status: str = "enabled") -> Scene:
        entry = {
            "registrationId": "press-001",
            "attestation": leaf_attestation(names.pem(leaf)),
            "provisioningStatus": status,
        }
        await self.provisioning.put_enrollment(entry, etag=None)
        return self

    @property
    def preview(self) -> Previews:
        provisioning: Any = self.provisioning
        authorities: Any = FakeAuthorities()
        resource: Any = None if self.verified is None else FakeResource(self.verified)
        return Previews(provisioning=provisioning, resource=resource, authorities=authorities, clock=lambda: self.now)

    async def check(self, *chain: x509.Certificate, group: str | None = "g") -> dict[str, Any]:
        return (await self.preview.check(group, "press-001", "".join(map(names.pem, chain)))).shown()


def codes(found: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in found["reasons"]]


async def test_a_good_chain_is_accepted_by_its_group() -> None:
    """The group of the issuing CA matches, whether the root is sent along or not."""
    scene = await Scene().group("g", x509_attestation(ISSUING))
    for chain in (CHAIN, (*CHAIN, ROOT)):
        assert await scene.check(*chain) == {
            "registrationId": "press-001",
            "enrollmentGroup": "g",
            "accepted": True,
            "match": {"kind": "enrollmentGroup", "id": "g", "provisioningStatus": "enabled", "by": "line-1-ca1"},
            "matchesGroup": True,
            "answer": {"status": 200, "errorCode": None, "message": None},
            "reasons": [],
        }


async def test_the_group_of_the_lowest_ca_decides() -> None:
    """A group of the root is not looked at when the issuing CA has one, even a disabled one."""
    scene = await (await Scene().group("of-root", x509_attestation(ROOT))).group(
        "g", x509_attestation(ISSUING), "disabled"
    )
    found = await scene.check(*CHAIN, group="of-root")
    assert (found["match"]["id"], found["match"]["by"]) == ("g", "line-1-ca1")
    assert found["answer"] == {"status": 401, "errorCode": 401002, "message": "Enrollment is disabled"}
    assert found["reasons"] == [
        {
            "code": "disabled",
            "effect": "refusal",
            "message": "the enrollment group 'g', found by 'line-1-ca1', is disabled; DPS looks no further, so no group "
            "of a CA higher up lets the device in",
        },
        {
            "code": "other-group",
            "effect": "advice",
            "message": "DPS matches the enrollment group 'g' and not 'of-root': it takes the group of the lowest CA in "
            "the chain that has one, and that is 'line-1-ca1'",
        },
    ]
    await scene.provisioning.delete_group("g", etag=ANY_VERSION)
    assert (await scene.check(*CHAIN, group="of-root"))["match"]["by"] == "dpsCa"


async def test_the_new_ca_of_a_rollover_is_accepted_as_secondary() -> None:
    """While both CAs stand in the group, chains of both match."""
    scene = await Scene().group("g", x509_attestation(other().certificate, ISSUING))
    assert (await scene.check(*CHAIN))["accepted"] is True


async def test_a_group_is_found_by_the_name_of_a_verified_ca() -> None:
    """The reference is looked up among the verified CAs, by thumbprint where DPS does not give the certificate."""
    reference = reference_attestation("uploaded")
    scene = await Scene(verified=[VerifiedAuthority("uploaded", names.thumbprint(ROOT), None)]).group("g", reference)
    found = await scene.check(*CHAIN)
    assert (found["accepted"], found["match"]["by"]) == (True, "dpsCa")
    unverified = await Scene(verified=[]).group("g", reference)
    found = await unverified.check(*CHAIN)
    assert (found["match"], codes(found)) == (None, ["no-verified-ca", "wrong-group"])


async def test_no_group_of_the_chain() -> None:
    """The group's own CA is named, and the chain's, and DPS's answer is foretold."""
    scene = await Scene().group("g", x509_attestation(other().certificate))
    found = await scene.check(*CHAIN)
    assert found["answer"]["message"] == "Signing certificate info did not match chain elements"
    assert found["reasons"][0]["message"].startswith(
        "the enrollment group's signing certificate is 'other-ca', and the chain's CAs are 'line-1-ca1'"
    )


async def test_an_individual_enrollment_decides_before_its_group() -> None:
    """Its own certificate is enough, without a chain; another one is refused, and so is any when it is disabled."""
    scene = await Scene().group("g", x509_attestation(ISSUING))
    await scene.enrollment(LEAF)
    found = await scene.check(LEAF)
    assert (found["accepted"], found["match"]["kind"], found["matchesGroup"]) == (True, "individualEnrollment", False)
    found = await scene.check(hierarchy().device(), ISSUING)
    assert (found["answer"]["message"], codes(found)) == ("Invalid certificate", ["other-certificate"])
    scene = await (await Scene().group("g", x509_attestation(ISSUING))).enrollment(LEAF, "disabled")
    found = await scene.check(*CHAIN)
    assert (found["answer"]["message"], codes(found)) == ("Enrollment is disabled", ["disabled"])
    scene.now = NOW + timedelta(days=800)
    assert "expired" in codes(await scene.check(*CHAIN))


async def test_what_can_not_be_previewed_is_refused() -> None:
    """Text without certificates, and a group that DPS does not have."""
    scene = await Scene().group("g", x509_attestation(ISSUING))
    with pytest.raises(Rejected, match="chain: it holds no certificates in PEM, leaf first"):
        await scene.check()
    with pytest.raises(NotFound) as unknown:
        await scene.check(*CHAIN, group="nowhere")
    assert str(unknown.value) == "enrollmentGroup: the DPS has no enrollment group 'nowhere'"


async def test_a_certificate_of_another_version_is_refused() -> None:
    """A chain with a certificate of a version that there is not is not a chain, and no failure."""
    scene = await Scene().group("g", x509_attestation(ISSUING))
    with pytest.raises(Rejected) as refused:
        await scene.preview.check("g", "press-001", names.pem(LEAF) + of_version_5(ISSUING))
    assert (
        str(refused.value)
        == "chain: certificate 2 of the PEM can't be read: its version is 5; 3 is right, and 1 for an old root"
    )


NOT_BASE64 = "block 2 of the PEM, CERTIFICATE, can't be read: between its BEGIN and END there must be base64"
NOT_X509 = (
    "certificate 2 of the PEM can't be read: it is not X.509 in DER: a certificate is a sequence of what is signed, an "
    "algorithm and a signature"
)


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (names.pem(ISSUING).replace("MII", "%%%", 1), NOT_BASE64),
        (names.pem(ISSUING)[:200], "block 2 of the PEM, CERTIFICATE, has no '-----END CERTIFICATE-----'"),
        (names.pem(ISSUING).replace("MII", "AAA", 1), NOT_X509),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", NOT_X509),
        (
            "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
            "block 2 of the PEM is a private key (PRIVATE KEY); give certificates only. A private key stays where it was "
            "made: one that was sent is no longer secret",
        ),
    ],
    ids=["no base64", "cut", "no DER", "no certificate", "a key"],
)
async def test_a_damaged_certificate_is_named_by_its_place(damaged: str, expected: str) -> None:
    """The message says which one and what would be right, in this service's own words."""
    with pytest.raises(Rejected) as refused:
        await Scene().preview.check(None, "press-001", names.pem(LEAF) + damaged)
    assert str(refused.value) == f"chain: {expected}"


async def test_without_a_group_any_that_holds_a_ca_of_the_chain_decides() -> None:
    """No group is named: one that DPS finds accepts the chain; if there is none, that is a reason beside the others."""
    scene = await Scene().group("g", x509_attestation(ISSUING))
    found = await scene.check(*CHAIN, group=None)
    assert (found["accepted"], found["match"]["id"], found["enrollmentGroup"]) == (True, "g", None)
    bare = await scene.check(LEAF, group=None)
    assert bare["answer"] == {"status": 401, "errorCode": 401002, "message": "CA certificate not found"}
    assert codes(bare) == ["no-verified-ca", "no-group"]
    stranger = await scene.check(LEAF, other().certificate, group=None)
    assert codes(stranger) == ["broken-link", "no-group"]


async def test_entries_that_look_at_no_certificate_are_left_aside() -> None:
    """A group by symmetric key, which others made, decides about no chain; named, or for one device, it is said to."""
    by_key = {"type": "symmetricKey", "symmetricKey": {"primaryKey": "k"}, "x509": None}
    scene = await Scene().group("g", x509_attestation(ISSUING))
    entries = scene.provisioning
    entries.groups["keys"] = {"enrollmentGroupId": "keys", "attestation": by_key, "etag": "1"}
    assert (await scene.check(*CHAIN))["accepted"] is True
    with pytest.raises(Rejected) as refused:
        await scene.check(*CHAIN, group="keys")
    assert str(refused.value) == (
        "enrollmentGroup: the enrollment group 'keys' accepts a symmetric key, and no certificate"
    )
    entries.enrollments["press-001"] = {"registrationId": "press-001", "attestation": by_key, "etag": "1"}
    found = await scene.check(*CHAIN)
    assert (found["answer"]["message"], codes(found)) == ("Invalid certificate", ["other-attestation"])
