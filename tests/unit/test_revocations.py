"""Revocation: every certificate with a device's name is shut out, and a hold gives back what it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.adapters.dps_service import leaf_attestation
from shared.contracts import (
    CertificateKind,
    DeviceState,
    RenewalRequest,
    RevocationAction,
    RevocationReason,
    RevocationRequest,
    revocation_request,
)
from shared.errors import Conflict, Deferred, NotAuthentic, NotFound
from shared.ledger.certificates import CertificateRecord, Certificates, CertificateState
from shared.ledger.devices import CertificateSummary, DeviceRecord, Devices
from shared.ledger.requests import Requests
from shared.pki import names
from shared.workflows.events import Outbox
from shared.workflows.renewals import Renewals
from shared.workflows.revocations import Revocations
from tests.unit.fakes import FakeProvisioning, FakeQueues, FakeTable
from tests.unit.pki.hierarchy import NOW, hierarchy

if TYPE_CHECKING:
    from cryptography import x509

    from shared.ledger.table import Versioned

HUB = "hub-1"
ACTIVE, SUPERSEDED, REVOKED = CertificateState.ACTIVE, CertificateState.SUPERSEDED, CertificateState.REVOKED
HOLD, COMPROMISE = RevocationReason.CERTIFICATE_HOLD, RevocationReason.KEY_COMPROMISE


@cache
def leaf(number: int) -> x509.Certificate:
    return hierarchy().device(f"press-{number}")


def serial(number: int) -> str:
    return str(number).zfill(40)


class Enrollments(FakeProvisioning):
    """What the app's adapter does with a device's own entry, on the entries in memory."""

    async def shut_out(self, registration_id: str, certificate: x509.Certificate) -> None:
        await self._enter(registration_id, "disabled", certificate)

    async def admit_only(self, registration_id: str, *certificates: x509.Certificate, if_enabled: bool = False) -> None:
        if if_enabled and self.enrollments.get(registration_id, {}).get("provisioningStatus") != "enabled":
            return
        await self._enter(registration_id, "enabled", *certificates)

    async def _enter(self, registration_id: str, status: str, *certificates: x509.Certificate) -> None:
        attestation = leaf_attestation(*map(names.pem, certificates))
        entry = {"registrationId": registration_id, "attestation": attestation, "provisioningStatus": status}
        await self.put_enrollment(entry, etag="*" if registration_id in self.enrollments else None)

    def admitted(self) -> tuple[str, list[int]] | None:
        """The status of the device's own entry, and which of the leaves it has."""
        entry = self.enrollments.get("press")
        if entry is None:
            return None
        held = entry["attestation"]["x509"]["clientCertificates"]
        pems = [held[place]["certificate"] for place in ("primary", "secondary") if place in held]
        return entry["provisioningStatus"], [next(n for n in range(1, 9) if names.pem(leaf(n)) == pem) for pem in pems]


@dataclass
class Hubs:
    enabled: bool = True

    async def set_enabled(self, _hub: str, _device: str, *, enabled: bool, reason: str) -> None:
        assert reason
        self.enabled = enabled

    async def get(self, _hub: str, _device: str) -> Hubs:
        return self


@dataclass
class Registrations:
    devices: Devices
    provisioning: Any

    async def device(self, registration_id: str) -> Versioned[DeviceRecord]:
        known = await self.devices.get(registration_id)
        assert known is not None
        return known

    async def replace(self, known: Versioned[DeviceRecord], record: DeviceRecord) -> Versioned[DeviceRecord]:
        replaced = await self.devices.replace(known, record)
        assert replaced is not None
        return replaced


class Identities:
    async def follow(self, known: Versioned[DeviceRecord]) -> Versioned[DeviceRecord]:
        return known

    async def disable_many(self, devices: list[DeviceRecord], *, reason: str) -> None:
        assert devices
        assert reason


@dataclass
class Lists:
    published: list[str] = field(default_factory=list)

    async def publish(self, name: str) -> None:
        self.published.append(name)


@dataclass
class Scene:
    revocations: FakeTable = field(default_factory=FakeTable)
    provisioning: Enrollments = field(default_factory=Enrollments)
    hubs: Hubs = field(default_factory=Hubs)
    lists: Lists = field(default_factory=Lists)
    queues: FakeQueues = field(default_factory=FakeQueues)
    request_rows: FakeTable = field(default_factory=FakeTable)

    def __post_init__(self) -> None:
        self.certificates = Certificates(FakeTable(), self.revocations, FakeTable())
        self.devices = Devices(FakeTable())
        self.requests = Requests(self.request_rows)
        self.registrations: Any = Registrations(self.devices, self.provisioning)

    async def certificate(self, number: int, **fields: Any) -> CertificateSummary:
        given: dict[str, Any] = {"state": ACTIVE, "issuer": "line-ca1", "not_after": NOW + timedelta(days=90), **fields}
        record = CertificateRecord(
            serial_number=serial(number),
            kind=CertificateKind.DEVICE,
            subject="press",
            cause="order",
            recorded_at=NOW,
            pem=names.pem(leaf(number)),
            **given,
        )
        await self.certificates.put(record)
        return CertificateSummary(
            serial_number=serial(number),
            thumbprint="",
            not_before=NOW,
            not_after=record.not_after or NOW,
            issuer="line",
        )

    async def device(self, certificate: CertificateSummary, **fields: Any) -> None:
        given: dict[str, Any] = {"state": DeviceState.REGISTERED, "device_id": "press", "assigned_hub": HUB, **fields}
        record = DeviceRecord(
            registration_id="press",
            order_id="order",
            updated_at=NOW,
            enrollment_group="line",
            certificate=certificate,
            **given,
        )
        await self.devices.insert(record)

    def subject(self) -> Revocations:
        identities: Any = Identities()
        provisioning: Any = self.provisioning
        hubs: Any = self.hubs
        lists: Any = self.lists
        queues: Any = self.queues
        return Revocations(
            devices=self.devices,
            certificates=self.certificates,
            requests=self.requests,
            registrations=self.registrations,
            revocation_lists=lists,
            provisioning=provisioning,
            hubs=hubs,
            identities=identities,
            outbox=Outbox(queues, lambda: NOW),
            clock=lambda: NOW,
        )

    async def request(self, **fields: Any) -> None:
        name = fields.pop("request_id", f"request-{len(self.request_rows.rows)}")  # any new id
        given = {"registration_id": "press"} if "serial_number" not in fields else {}
        await self.subject().carry_out(RevocationRequest(request_id=name, **{**given, **fields}))

    async def states(self) -> list[CertificateState]:
        found = [await self.certificates.get(serial(number)) for number in range(1, 5)]
        return [known.record.state for known in found if known]

    async def record(self) -> DeviceRecord:
        known = await self.devices.get("press")
        assert known is not None
        return known.record

    def listed(self) -> list[str]:
        return sorted(row.values["serialNumber"] for (kind, _), row in self.revocations.rows.items() if kind[:1] != "~")


async def renewing() -> Scene:
    """A device with a certificate that it had, one that it has, and one that waits for it."""
    scene = Scene()
    await scene.certificate(1, state=SUPERSEDED, successor=serial(2), issuer="line-ca0")
    present = await scene.certificate(2, predecessor=serial(1))
    following = await scene.certificate(3, predecessor=serial(2))
    await scene.device(present, state=DeviceState.RENEWING, next_certificate=following, renewal="renew-1")
    return scene


async def test_every_certificate_of_a_device_is_revoked_with_it() -> None:
    """The one that waits for it and those that it had would be taken by its group, and be good to everybody else."""
    scene = await renewing()
    await scene.request(reason=COMPROMISE)
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]
    assert scene.lists.published == ["line-ca1", "line-ca0"]
    assert scene.provisioning.admitted() == ("disabled", [2])
    assert not scene.hubs.enabled
    assert (await scene.record()).reason == "revoked: keyCompromise"


async def test_what_has_expired_is_left_as_it_is() -> None:
    """A list need not name what nobody takes any more; the present certificate counts even so."""
    scene = Scene()
    await scene.certificate(1, state=CertificateState.EXPIRED, not_after=NOW - timedelta(days=1))
    await scene.device(await scene.certificate(2, predecessor=serial(1)))
    await scene.request(reason=COMPROMISE)
    assert await scene.states() == [CertificateState.EXPIRED, REVOKED]


async def test_a_hold_gives_back_what_it_took() -> None:
    """Reinstated, each certificate is what it was before, and the device waits for its next one again."""
    scene = await renewing()
    await scene.request(reason=HOLD)
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]
    assert (await scene.record()).on_hold
    await scene.request(action=RevocationAction.REINSTATE)
    assert await scene.states() == [SUPERSEDED, ACTIVE, ACTIVE]
    assert (await scene.record()).state is DeviceState.RENEWING
    assert scene.provisioning.admitted() is None
    assert scene.hubs.enabled


async def test_a_hold_that_becomes_final_says_so_and_stays() -> None:
    """The reason of the device is the last one, and neither a hold nor a reinstatement follows."""
    scene = await renewing()
    await scene.request(reason=HOLD)
    await scene.request(reason=COMPROMISE)
    assert (await scene.record()).reason == "revoked: keyCompromise"
    for fields in ({"reason": HOLD}, {"action": RevocationAction.REINSTATE}):
        with pytest.raises(Conflict):
            await scene.request(**fields)
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]


async def test_a_former_certificate_is_revoked_by_its_serial_number() -> None:
    """The device goes on with the others: DPS takes them and no other, since its group would take the former one."""
    scene = await renewing()
    await scene.request(serial_number=serial(1), reason=COMPROMISE)
    assert await scene.states() == [REVOKED, ACTIVE, ACTIVE]
    assert scene.provisioning.admitted() == ("enabled", [2, 3])
    assert scene.lists.published == ["line-ca0"]
    assert scene.hubs.enabled
    assert (await scene.record()).state is DeviceState.RENEWING
    told = scene.queues.sent[-1][1]["data"]
    assert (told["serialNumber"], told["state"]) == (serial(1), "renewing")


async def test_a_device_whose_former_certificate_is_revoked_is_not_given_back_to_its_group() -> None:
    """After a hold DPS still takes the present certificates only."""
    scene = await renewing()
    await scene.request(serial_number=serial(1), reason=COMPROMISE)
    await scene.request(reason=HOLD)
    await scene.request(action=RevocationAction.REINSTATE)
    assert await scene.states() == [REVOKED, ACTIVE, ACTIVE]
    assert scene.provisioning.admitted() == ("enabled", [2, 3])


async def test_a_former_certificate_may_be_held_and_given_back() -> None:
    """It is superseded again, and a second attempt finds nothing to undo."""
    scene = await renewing()
    await scene.request(serial_number=serial(1), reason=HOLD)
    assert await scene.states() == [REVOKED, ACTIVE, ACTIVE]
    await scene.request(serial_number=serial(1), action=RevocationAction.REINSTATE)
    assert await scene.states() == [SUPERSEDED, ACTIVE, ACTIVE]
    with pytest.raises(Conflict, match="is not on hold; only reason 'certificateHold' can be undone"):
        await scene.request(serial_number=serial(1), action=RevocationAction.REINSTATE)


async def test_the_certificate_that_waits_for_its_device_is_not_revoked_alone() -> None:
    """The renewal would go on with it; the answer says what can be done."""
    scene = await renewing()
    with pytest.raises(Conflict, match=r"is being renewed with serial number 0+3: revoke the device, with all its"):
        await scene.request(serial_number=serial(3), reason=COMPROMISE)


async def test_a_renewal_waits_while_its_device_is_on_hold() -> None:
    """Its message is put back; once the revocation is final it is refused."""
    scene = await renewing()
    await scene.request(reason=HOLD)
    request: Any = type("Request", (), {"request_id": "renew-1", "csr": None})()
    with pytest.raises(Deferred, match="'press' is on hold; its renewal goes on when it is reinstated"):
        Renewals._check_renewable(await scene.record(), request)  # noqa: SLF001 - the rule by itself
    await scene.request(reason=COMPROMISE)
    with pytest.raises(Conflict, match="'press' is revoked; only a registered device is renewed"):
        Renewals._check_renewable(await scene.record(), request)  # noqa: SLF001


@dataclass
class Bundles:
    """The bundle that a renewal made."""

    successor: CertificateSummary

    async def read_bundle(self, name: str) -> Any:
        if name != "press/renew-1.json":
            raise NotFound.because("there is no bundle")
        return SimpleNamespace(summary=self.successor)


@pytest.mark.parametrize("request_id", ["renew-1", "renew-2"])
async def test_what_a_renewal_made_for_a_device_that_was_revoked_meanwhile_is_revoked_as_well(request_id: str) -> None:
    """The device's record does not name it: the renewal finds it by its own id, and closes the doors once more."""
    scene = Scene()
    await scene.device(await scene.certificate(2))
    successor = await scene.certificate(3, predecessor=serial(2), issuer="line-ca2")
    await scene.request(reason=COMPROMISE)
    await scene.provisioning.admit_only("press", leaf(2), leaf(3))  # what was on its way when the doors were closed
    bundles: Any = Bundles(successor)
    anything: Any = None
    renewals = Renewals(
        requests=scene.requests,
        certificates=scene.certificates,
        provisioning=anything,
        registrations=scene.registrations,
        revocations=scene.subject(),
        device_certificates=bundles,
        outbox=anything,
        settings=anything,
        clock=lambda: NOW,
    )
    with pytest.raises(Conflict, match="'press' is revoked; only a registered device is renewed"):
        await renewals.carry_out(RenewalRequest(request_id=request_id, registration_id="press"))
    known = await scene.certificates.get(serial(3))
    assert known is not None
    if request_id == "renew-1":
        assert known.record.revocation_reason is COMPROMISE
        assert scene.lists.published == ["line-ca1", "line-ca2"]
        assert scene.provisioning.admitted() == ("disabled", [2])
    else:
        assert known.record.state is ACTIVE


async def test_what_a_group_s_revocation_does_carries_the_caller_s_id_and_comes_of_it_alone() -> None:
    """Each device gets a message of its own under the request's id, which a message made by others does not pass for."""
    scene = await renewing()
    await scene.request(request_id="all", registration_id=None, enrollment_group="line", reason=COMPROMISE)
    body = scene.queues.sent[-1][1]["data"]
    assert (body["requestId"], body["registrationId"], body["reason"]) == ("all", "press", "keyCompromise")
    with pytest.raises(NotAuthentic):
        await scene.subject().carry_out(revocation_request({**body, "part": "0" * 64}))
    assert await scene.states() == [SUPERSEDED, ACTIVE, ACTIVE]
    await scene.subject().carry_out(revocation_request(body))
    assert await scene.states() == [REVOKED, REVOKED, REVOKED]
    assert scene.queues.sent[-1][1]["correlationid"] == "all"
