"""Individual enrollments: written under their ETag, with certificates that DPS would take, and no revoked ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts import (
    CertificateKind,
    DeviceState,
    IndividualEnrollmentDefinition,
    RevocationReason,
    parse,
)
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Rejected
from shared.ledger.certificates import CertificateRecord, Certificates, CertificateState
from shared.ledger.devices import CertificateSummary, DeviceRecord, Devices
from shared.pki import names
from shared.workflows.individual_enrollments import IndividualEnrollments
from tests.unit.fakes import FakeProvisioning, FakeTable
from tests.unit.pki.foreign import of_version_5
from tests.unit.pki.hierarchy import NOW, hierarchy

if TYPE_CHECKING:
    from datetime import datetime

LEAF = hierarchy().device()
PEM = names.pem(LEAF)
SERIAL = names.serial_text(LEAF.serial_number)


@dataclass
class Scene:
    """A device of a group, ``press-001``, whose certificate this app issued."""

    provisioning: FakeProvisioning = field(default_factory=FakeProvisioning)
    devices: Devices = field(default_factory=lambda: Devices(FakeTable()))
    certificates: Certificates = field(default_factory=lambda: Certificates(FakeTable(), FakeTable(), FakeTable()))
    now: datetime = NOW

    @property
    def subject(self) -> IndividualEnrollments:
        provisioning: Any = self.provisioning
        return IndividualEnrollments(self.devices, self.certificates, provisioning, None, lambda: self.now)

    async def put(self, *, if_match: str | None = None, name: str = "press-001", **body: Any) -> bool:
        _, created = await self.subject.put(name, parse(IndividualEnrollmentDefinition, body), if_match=if_match)
        return created

    async def set_up(self, *, state: CertificateState = CertificateState.ACTIVE, readmitted: bool = False) -> Scene:
        summary = CertificateSummary(
            serial_number=SERIAL,
            thumbprint="T",
            not_before=NOW,
            not_after=LEAF.not_valid_after_utc,
            issuer="line-1-ca1",
        )
        await self.devices.insert(
            DeviceRecord(
                registration_id="press-001",
                state=DeviceState.REGISTERED,
                order_id="o",
                updated_at=NOW,
                certificate=summary,
                readmitted=readmitted,
            )
        )
        await self.certificates.put(
            CertificateRecord(
                serial_number=SERIAL,
                kind=CertificateKind.DEVICE,
                state=state,
                subject="press-001",
                issuer="line-1-ca1",
                cause="o",
                recorded_at=NOW,
                pem=PEM,
                revocation_reason=RevocationReason.KEY_COMPROMISE if state is CertificateState.REVOKED else None,
            )
        )
        return self

    @property
    def entry(self) -> dict[str, Any]:
        return self.provisioning.enrollments["press-001"]


async def test_without_a_certificate_it_is_the_one_that_was_issued() -> None:
    """A new enrollment takes the device's present certificate; a change leaves out what it does not name."""
    scene = await Scene().set_up()
    assert await scene.put(iotEdge=True) is True
    assert scene.entry["attestation"]["x509"]["clientCertificates"]["primary"]["certificate"] == PEM
    assert await scene.put(allocationPolicy="static") is False
    assert (scene.entry["capabilities"], scene.entry["allocationPolicy"]) == ({"iotEdge": True}, "static")


async def test_each_certificate_is_changed_by_itself() -> None:
    """What is named changes, the other place stays; a secondary is taken out by null, and a foreign primary is no bar."""
    scene, first, second, third = Scene(), *(names.pem(hierarchy().device()) for _ in range(3))

    def held() -> dict[str, str]:
        places = scene.entry["attestation"]["x509"]["clientCertificates"]
        return {place: each["certificate"] for place, each in places.items()}

    await scene.put(certificate=first)
    await scene.put(secondaryCertificate=second)
    assert held() == {"primary": first, "secondary": second}
    await scene.put(certificate=third)
    assert held() == {"primary": third, "secondary": second}
    await scene.put(secondaryCertificate=None)
    assert held() == {"primary": third}


async def test_an_entry_that_attests_otherwise_is_given_certificates() -> None:
    """One with a TPM, made by others, is read and changed like any other."""
    scene = Scene()
    scene.provisioning.enrollments["press-001"] = {
        "registrationId": "press-001",
        "attestation": {"type": "tpm", "tpm": {"endorsementKey": "AA=="}},
        "provisioningStatus": "enabled",
        "etag": '"1"',
    }
    await scene.put(certificate=PEM)
    assert scene.entry["attestation"]["x509"]["clientCertificates"]["primary"]["certificate"] == PEM


async def test_disabling_makes_an_entry_for_a_device_of_a_group() -> None:
    """A device without an enrollment gets a disabled one; one that is unknown can't be disabled."""
    scene = await Scene().set_up()
    entry = await scene.subject.disable("press-001", if_match=None)
    assert entry["provisioningStatus"] == "disabled"
    again = await scene.subject.disable("press-001", if_match=None)
    assert again["etag"] == entry["etag"], "what is so already is not written again"
    with pytest.raises(NotFound, match="'nobody' has no certificate of this app's"):
        await scene.subject.disable("nobody", if_match=None)


async def test_the_second_of_two_writers_is_refused() -> None:
    """An enrollment with another ETag than was read is neither changed nor deleted."""
    scene = await Scene().set_up()
    await scene.put()
    read = scene.entry["etag"]
    await scene.put(iotEdge=True)
    with pytest.raises(PreconditionFailed, match="the individual enrollment 'press-001' was changed since it was read"):
        await scene.put(if_match=read, iotEdge=False)
    with pytest.raises(PreconditionFailed):
        await scene.subject.delete("press-001", if_match=read)
    assert scene.entry["capabilities"] == {"iotEdge": True}
    await scene.subject.delete("press-001", if_match=scene.entry["etag"])
    assert scene.provisioning.enrollments == {}


async def test_who_is_overtaken_tries_again() -> None:
    """An entry that another writer makes between reading and writing is looked at anew."""
    scene = await Scene().set_up()
    await scene.put()
    entry = dict(scene.entry)

    async def not_yet(_registration_id: str) -> None:
        return None

    scene.provisioning.get_enrollment = not_yet  # type: ignore[method-assign, assignment]
    with pytest.raises(Deferred, match="is being changed by someone else"):
        await scene.put(iotEdge=True)
    assert scene.entry == entry


async def test_what_dps_would_not_take_is_refused() -> None:
    """A certificate of another CN, an expired one, and what is none."""
    scene = Scene()
    for body, at, message in (
        ({"certificate": "x"}, NOW, "certificate: is no certificate in PEM: "),
        ({"certificate": of_version_5(hierarchy().device())}, NOW, "certificate: is no certificate in PEM: 4 is not a"),
        (
            {"certificate": PEM, "secondaryCertificate": names.pem(hierarchy().device("other"))},
            NOW,
            "secondaryCertificate: its CN is 'other' and the registration id 'press-001'; DPS wants them to be the same",
        ),
        ({"certificate": PEM}, NOW + timedelta(days=400), "certificate: it expired on "),
    ):
        scene.now = at
        with pytest.raises(Rejected) as refused:
            await scene.put(**body)
        assert str(refused.value).startswith(message)
    assert scene.provisioning.enrollments == {}


async def test_a_revoked_certificate_stays_out() -> None:
    """Its enrollment is neither enabled nor deleted, and a new one is made disabled only."""
    scene = await Scene().set_up(state=CertificateState.REVOKED)
    await scene.put(provisioningStatus="disabled")
    with pytest.raises(Conflict) as refused:
        await scene.put(provisioningStatus="enabled")
    assert str(refused.value) == (
        f"certificate: the individual enrollment 'press-001' shuts out certificate {SERIAL}, which is revoked "
        "(keyCompromise), and a group would let it in; a hold is undone by reinstating the device, any other revocation "
        "is final: give a new certificate"
    )
    with pytest.raises(Conflict):
        await scene.subject.delete("press-001", if_match=None)
    assert scene.entry["provisioningStatus"] == "disabled"
    await scene.put(provisioningStatus="enabled", certificate=names.pem(hierarchy().device()))


async def test_what_keeps_an_earlier_certificate_out_is_not_deleted() -> None:
    """The enrollment of a device ordered anew admits its present certificate only, and stays."""
    scene = await Scene().set_up(readmitted=True)
    await scene.put()
    with pytest.raises(Conflict, match="admits the device's present certificate and no other"):
        await scene.subject.delete("press-001", if_match=None)
    assert "press-001" in scene.provisioning.enrollments
