"""Requests for single certificates: what can't be carried out takes nothing, and defaults are the deployment's."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.authorities import AuthorityAct
from shared.contracts.certificates import CertificateRequest
from shared.contracts.parsing import parse
from shared.domain.certificates import CertificateState
from shared.domain.words import CertificateKind, DeviceState, KeyCustody
from shared.errors import Conflict, Overtaken, Rejected
from tests.unit.authorities import AuthorityScene
from tests.unit.devices import DeviceScene, csr
from tests.unit.fakes import Killed, kill

if TYPE_CHECKING:
    from shared.workflows.devices.certificate_requests import CertificateRequests


@dataclass
class Scene(AuthorityScene):
    """CAs of the workflow's own making, and devices below them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings.root_authority, self.settings.issuing_custody = "dpsCa", "wrapped"
        self.settings.device_validity, self.settings.bundle_retrieval = timedelta(days=365), timedelta(hours=1)
        self.world = DeviceScene(rows=self.certificate_rows, queues=self.queues, settings=self.settings)
        self.devices, self.blobs, self.groups = self.world.devices, self.world.blobs, self.world.groups

    @property
    def subject(self) -> CertificateRequests:
        worker = self.worker()
        self.world.authorities = worker.authorities
        wired = self.world.services.certificate_requests
        return replace(wired, creation=worker.creation, possession=worker.possession, clock=self.clock)

    async def ask(self, request_id: str, kind: str, name: str, **fields: Any) -> None:
        body = {"requestId": request_id, "kind": kind, "name": name, **fields}
        await self.subject.carry_out(parse(CertificateRequest, body))

    async def foresee(self, name: str, **fields: Any) -> None:
        body = {"requestId": "foreseen", "kind": "device", "name": name, "issuer": "line", **fields}
        await self.subject.foresee(parse(CertificateRequest, body))

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
    with pytest.raises(Rejected, match="csr: the CSR is not PEM"):
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
        "name: 'press-1' is issued through request 'r2'; renew it, or revoke and delete it before ordering it again"
    )


async def test_custody_that_is_not_asked_for_is_the_deployments() -> None:
    """The keys of issuing CAs are where the deployment has them; of CAs that have others below them, in the vault."""
    scene = Scene()
    await scene.ask("r1", "root", "dpsCa")
    await scene.ask("r2", "intermediate", "factory", pathLength=1)
    await scene.ask("r3", "intermediate", "line")
    await scene.ask("r4", "intermediate", "other", custody="vault")
    made = [(await scene.worker().authorities.get(name)).custody for name in ("dpsCa", "factory", "line", "other")]
    assert made == [KeyCustody.VAULT, KeyCustody.VAULT, KeyCustody.WRAPPED, KeyCustody.VAULT]


async def test_a_certificate_is_told_in_one_shape_whatever_it_is_for() -> None:
    """Of a root, an issuing CA, a proof of possession and a device: the same fields, and each names the certificate."""
    scene = Scene()
    await scene.ask("r1", "root", "dpsCa")
    await scene.ask("r2", "intermediate", "line", issuer="dpsCa")
    await scene.ask("r3", "verification", "proof", issuer="dpsCa", verificationCode="A1")
    await scene.ask("r4", "device", "press-1", issuer="line")
    told = [event["data"] for _, event, _ in scene.queues.sent if event["type"].endswith("CertificateIssued")]
    assert [(each["kind"], each["name"], each["issuer"]) for each in told] == [
        ("root", "dpsCa", "dpsCa"),
        ("intermediate", "line", "dpsCa"),
        ("verification", "proof", "dpsCa"),
        ("device", "press-1", "line"),
    ]
    for each in told:
        assert set(each) == {
            "actor",
            "kind",
            "name",
            "issuer",
            "serialNumber",
            "thumbprint",
            "notBefore",
            "notAfter",
            "certificate",
            "registrationId",
            "deviceId",
            "assignedHub",
            "enrollmentGroup",
            "orderId",
            "bundle",
        }
        assert (len(each["serialNumber"]), len(each["thumbprint"])) == (40, 40)
        assert each["notBefore"] < each["notAfter"]
    root, _, proof, device = (each["certificate"] for each in told)
    assert root is None
    assert proof.startswith("-----BEGIN CERTIFICATE-----")
    assert device["serialNumber"] == told[3]["serialNumber"]


async def test_a_device_that_can_not_be_had_is_refused_at_once() -> None:
    """It is in use, or its CSR is another's: whoever asks over HTTP hears it before anything is queued."""
    scene = Scene()
    await scene.root("dpsCa")
    await scene.issuing("line", "dpsCa")
    await scene.foresee("press-1", csr=csr("press-1"))
    assert await scene.state("press-1") is None
    with pytest.raises(Rejected, match=r"csr: .*'press-2'"):
        await scene.foresee("press-1", csr=csr("press-2"))
    await scene.ask("r1", "device", "press-1", issuer="line")
    with pytest.raises(
        Conflict, match="name: 'press-1' is issued through request 'r1'; renew it, or revoke and delete"
    ):
        await scene.foresee("PRESS-1")


PROOF = ("proof", "verification", "A1", {"issuer": "dpsCa", "verificationCode": "A1"})
POINTS = {
    "after its serial number was reserved": ("certificates", "reserve", "after"),
    "before it was signed": ("computing of the vault", "run", "before"),
    "after it was signed": ("computing of the vault", "run", "after"),
    "after it was committed": ("certificates", "try_replace", "after"),
    "after the event": ("queues", "send", "after"),
    "and loses the answer to the serial number": ("certificates", "reserve", "lost"),
    "and loses the answer to the commit": ("certificates", "try_replace", "lost"),
    "and loses the answer to the event": ("queues", "send", "lost"),
}


@pytest.mark.parametrize("point", POINTS)
async def test_a_proof_that_is_delivered_again_is_told_as_one_certificate(point: str) -> None:
    """What was committed is told again. What was signed and not committed is given up, and not signed once more."""
    scene = Scene()
    await scene.root("dpsCa")
    where, call, when = POINTS[point]
    owner = scene.vault.threads if where == "computing of the vault" else getattr(scene, where)
    kill(owner, call, when=when)
    request_id, kind, name, fields = PROOF
    with pytest.raises((Killed, ConnectionError)):
        await scene.ask(request_id, kind, name, **fields)
    for _ in range(2):
        await scene.ask(request_id, kind, name, **fields)
    told = [event for _, event, _ in scene.queues.sent if event["subject"] == "A1"]
    assert {(each["id"], json.dumps(each["data"])) for each in told} == {(told[0]["id"], json.dumps(told[0]["data"]))}
    serial = told[0]["data"]["serialNumber"]
    rows = [each async for each in scene.certificates.every() if each.kind is CertificateKind.VERIFICATION]
    counting = [each.serial_number for each in rows if each.state is CertificateState.ACTIVE]
    assert (counting, {each.pem for each in rows if each.pem}) == ([serial], {told[0]["data"]["certificate"]})
    assert len(rows) <= 2


async def test_a_proof_that_was_told_is_done_though_its_ca_was_retired_meanwhile() -> None:
    """The certificate is there, and its event; a refusal would contradict both."""
    scene = Scene()
    await scene.root("dpsCa")
    await scene.issuing("line", "dpsCa")
    kill(scene.queues, "send", when="after")
    fields = {"issuer": "line", "verificationCode": "A1"}
    with pytest.raises(Killed):
        await scene.ask("proof", "verification", "A1", **fields)
    await retire(scene, "line")
    await scene.ask("proof", "verification", "A1", **fields)
    [first, second] = [event["data"] for _, event, _ in scene.queues.sent if event["subject"] == "A1"]
    assert first == second


async def test_a_proof_that_two_deliveries_make_at_once_is_made_by_one_of_them() -> None:
    """Whoever comes second gives up what the first has drawn; the first notices, whatever it has signed."""
    scene = Scene()
    await scene.root("dpsCa")
    request_id, kind, name, fields = PROOF
    commit = scene.certificates.try_replace
    waits = [True]

    async def overtaken(known: Any, record: Any) -> Any:
        if waits and record.state is CertificateState.ACTIVE:
            waits.clear()
            await scene.ask(request_id, kind, name, **fields)
        return await commit(known, record)

    scene.certificates.try_replace = overtaken  # type: ignore[method-assign]
    with pytest.raises(Overtaken):
        await scene.ask(request_id, kind, name, **fields)
    await scene.ask(request_id, kind, name, **fields)
    assert len({event["data"]["serialNumber"] for _, event, _ in scene.queues.sent if event["subject"] == "A1"}) == 1


async def retire(scene: Scene, name: str) -> None:
    """Retire a CA."""
    body = {"requestId": f"retire-{name}", "name": name, "action": "retire"}
    await scene.worker().acts.carry_out(parse(AuthorityAct, body))


async def test_a_device_that_was_issued_stays_so_though_its_ca_was_retired_before_its_request_was_done() -> None:
    """The certificate is there, and its event: the request is carried out."""
    scene = Scene()
    await scene.root("dpsCa")
    await scene.issuing("line", "dpsCa")
    kill(scene.queues, "send", when="after")
    with pytest.raises(Killed):
        await scene.ask("r1", "device", "press-1", issuer="line")
    await retire(scene, "line")
    await scene.ask("r1", "device", "press-1", issuer="line")
    assert await scene.state("press-1") is DeviceState.ISSUED


async def test_a_device_that_was_taken_is_free_again_when_its_ca_was_retired_before_it_was_issued() -> None:
    """Else it stayed ordered by a request that was refused, and no other one could take it."""
    scene = Scene()
    await scene.root("dpsCa")
    await scene.issuing("line", "dpsCa")
    await scene.issuing("other", "dpsCa")
    kill(scene.blobs, "create", when="before")
    with pytest.raises(Killed):
        await scene.ask("r1", "device", "press-1", issuer="line")
    assert await scene.state("press-1") is DeviceState.ORDERED
    await retire(scene, "line")
    scene.now += timedelta(minutes=11)  # the delivery that was killed counts as ended
    with pytest.raises(Conflict, match="'line' is retired"):
        await scene.ask("r1", "device", "press-1", issuer="line")
    assert await scene.state("press-1") is DeviceState.FAILED
    await scene.ask("r2", "device", "press-1", issuer="other")
    assert await scene.state("press-1") is DeviceState.ISSUED


async def test_a_refusal_that_comes_after_another_delivery_has_issued_does_no_harm() -> None:
    """It had looked when the CA was retired, and the other one before that: the device keeps what it was told."""
    scene = Scene()
    await scene.root("dpsCa")
    await scene.issuing("line", "dpsCa")
    create, waits = scene.blobs.create, [True]

    async def overtaken(*args: Any, **named: Any) -> bool:
        if waits:
            waits.clear()
            await scene.ask("r1", "device", "press-1", issuer="line")
            raise Rejected.because("no")
        return await create(*args, **named)

    scene.blobs.create = overtaken  # type: ignore[method-assign]
    await scene.ask("r1", "device", "press-1", issuer="line")
    assert await scene.state("press-1") is DeviceState.ISSUED
