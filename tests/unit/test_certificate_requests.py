"""Requests for single certificates: what can't be carried out takes nothing, and defaults are the deployment's."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from shared.contracts import CertificateRequest, DeviceState, KeyCustody, parse
from shared.errors import Conflict, Rejected
from shared.ledger.devices import Devices
from shared.ledger.expiry import ExpiryIndex
from shared.ledger.groups import Groups
from shared.ledger.requests import Requests
from shared.workflows.certificate_requests import CertificateRequests
from shared.workflows.device_certificates import DeviceCertificates
from shared.workflows.events import Outbox
from shared.workflows.registrations import Registrations
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeBlobs, FakeTable
from tests.unit.test_device_certificates import FakeSecrets


@dataclass
class Scene(AuthorityScene):
    blobs: FakeBlobs = field(default_factory=FakeBlobs)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings.root_authority, self.settings.issuing_custody = "dpsCa", "wrapped"
        self.settings.device_validity = timedelta(days=365)
        self.devices, self.requests, self.groups = Devices(FakeTable()), Requests(FakeTable()), Groups(FakeTable())

    async def ask(self, request_id: str, kind: str, name: str, **fields: Any) -> None:
        anything: Any = None
        blobs: Any = self.blobs
        secrets: Any = FakeSecrets()
        outbox = Outbox(self.queues, self.clock)  # type: ignore[arg-type]
        authorities = self.worker()
        issuing = DeviceCertificates(
            authorities,
            self.certificates,
            ExpiryIndex(FakeTable()),
            blobs,
            secrets,
            self.settings,
            self.clock,
            self.computing,
        )
        registrations = Registrations(
            orders=anything,
            devices=self.devices,
            groups=self.groups,
            device_certificates=issuing,
            registrar=anything,
            provisioning=anything,
            hubs=anything,
            outbox=outbox,
            settings=self.settings,
            clock=self.clock,
        )
        subject = CertificateRequests(
            self.requests,
            self.certificates,
            authorities,
            issuing,
            registrations,
            outbox,
            self.settings,
            self.clock,
        )
        body = {"requestId": request_id, "kind": kind, "name": name, **fields}
        await subject.carry_out(parse(CertificateRequest, body))

    async def state(self, name: str) -> DeviceState | None:
        known = await self.devices.get(name)
        return known.record.state if known else None


async def test_a_refused_request_takes_no_device() -> None:
    """What is asked for contradicts the issuer, or the CSR is none: the device can be ordered as if nothing had been."""
    scene = Scene()
    await scene.root("dpsCa")
    await scene.issuing("line", "dpsCa")
    with pytest.raises(Rejected, match="7305"):
        await scene.ask("r1", "device", "press-1", issuer="line", validityDays=7305)
    with pytest.raises(Rejected, match="csr: the CSR is no PEM"):
        await scene.ask("r2", "device", "press-1", issuer="line", csr="-----BEGIN")
    assert await scene.state("press-1") is None
    await scene.ask("r3", "device", "press-1", issuer="line")
    assert await scene.state("press-1") is DeviceState.ISSUED


async def test_a_device_that_could_not_be_had_is_asked_for_again() -> None:
    """A refusal after the device was taken is its reason; another request takes the device, and a third one does not."""
    scene = Scene()
    await scene.root("dpsCa")
    await scene.issuing("line", "dpsCa")
    create = scene.blobs.create

    async def refusing(*_args: Any, **_named: Any) -> bool:
        raise Rejected.because("no")

    scene.blobs.create = refusing  # type: ignore[method-assign]
    with pytest.raises(Rejected):
        await scene.ask("r1", "device", "press-1", issuer="line")
    assert await scene.state("press-1") is DeviceState.FAILED
    scene.blobs.create = create  # type: ignore[method-assign]
    await scene.ask("r2", "device", "press-1", issuer="line")
    assert await scene.state("press-1") is DeviceState.ISSUED
    with pytest.raises(Conflict) as refused:
        await scene.ask("r3", "device", "press-1", issuer="line")
    assert str(refused.value) == (
        "name: 'press-1' is issued through order 'r2'; renew it, or revoke and delete it before ordering it again"
    )


async def test_custody_that_is_not_asked_for_is_the_deployments() -> None:
    """The keys of issuing CAs are where the deployment has them; of CAs that have others below them, in the vault."""
    scene = Scene()
    await scene.ask("r1", "root", "dpsCa")
    await scene.ask("r2", "intermediate", "factory", pathLength=1)
    await scene.ask("r3", "intermediate", "line")
    await scene.ask("r4", "intermediate", "other", custody="vault")
    made = [(await scene.worker().get(name)).custody for name in ("dpsCa", "factory", "line", "other")]
    assert made == [KeyCustody.VAULT, KeyCustody.VAULT, KeyCustody.WRAPPED, KeyCustody.VAULT]
