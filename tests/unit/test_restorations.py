"""A ledger that was put back: however often what takes back breaks off, and however many run, it ends the same."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from shared.contracts.devices import RevocationAction, RevocationRequest
from shared.domain.words import RevocationReason
from shared.restoration import DONE, carried_out
from tests.unit.adopting import ISSUER, Deployment
from tests.world.conductor import Conductor, StepAtOnce
from tests.world.deliveries import broken_off
from tests.world.world import InPlace

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from shared.services import Services

_READS = ("get", "query", "page", "find", "names", "describe", "list", "tags", "part", "check", "own", "versions")


class OfWrites(Conductor):
    """Holds actors before what changes something: before a read nothing is other than before the write that follows."""

    def step(self, label: str, service: str = "") -> AbstractAsyncContextManager[None]:
        verb = label.rpartition(".")[2]
        return StepAtOnce(self, label, service) if verb.startswith(_READS) else super().step(label, service)


class Conducted(Deployment):
    """A deployment whose writes are steps."""

    def conducted(self, conductor: Conductor) -> None:
        """Have this one hold whoever is conducted."""
        self.conductor = conductor
        for part in (self.vault, self.provisioning, self.hubs, self.blobs, self.queues, self.places):
            part.conductor = conductor
        self.pool = self.vault.threads = InPlace("in place", 1)

    def worker(self) -> Services:
        made = super().worker()
        object.__setattr__(made.revocation_lists, "pause", self._pause)
        return made

    async def _pause(self, _seconds: float) -> None:
        """Wait for who has the turn of making a list, so long that they may be taken for gone soon."""
        self.now += timedelta(seconds=15)

    async def device_states(self) -> dict[str, Any]:
        """Say what became of each device, in the ledger and at the services."""
        found: dict[str, Any] = {}
        for name in ("press", "drill", "mill", "saw"):
            known = await self.app.converger.devices.get(name)
            entry, identity = self.provisioning.enrollments.get(name), self.hubs.identities.get(("hub-1", name))
            record = known.record if known else None
            found[name] = (
                record and (record.phase, record.disabled, record.settled),
                entry and entry["provisioningStatus"],
                identity and identity.enabled,
            )
        return found


class Disaster:
    """A deployment at the moment at which its ledger was put back, as often as it is asked for."""

    def __init__(self, subject: Conducted, copy: dict[str, Any]) -> None:
        self.subject, self.copy, self.services = subject, copy, subject.kept()
        self.last, self.now = numbered(subject), subject.now

    def begun(self) -> Any:
        """Have one actor, "a", begin to take back."""
        self.subject.now = self.now
        self.subject.conducted(OfWrites())
        self.subject.as_kept(self.services)
        for name, rows in deepcopy(self.copy).items():
            self.subject.table(name).rows = rows
        self.subject.app = self.subject.worker()
        self.subject.conductor.start("a", self.run())
        return self.subject

    def run(self) -> Any:
        return carried_out(self.subject.worker(), look=False, accept=False, brought=None)

    async def faults(self, _world: Any) -> list[str]:
        """Run it once more, and give what is not as it would be had nothing broken off."""
        status = await self.run()
        app = self.subject.app = self.subject.worker()
        seen = {
            "status": status,
            "devices": await self.subject.device_states(),
            "list": sorted(listed_at(self.subject)),
            "has jumped": numbered(self.subject) > self.last + 1000,
            "fault": await app.epochs.fault(),
            "begun": await app.epochs.rows.restoration(),
        }
        await app.converger.sweep(older_than=timedelta())  # notes of those that broke off are left to the timer
        seen["after the timer"] = await self.subject.device_states()
        seen["notes"] = [each.registration_id async for each in app.converger.devices.unsettled()]
        return [f"{name}: {seen[name]} instead of {right}" for name, right in EXPECTED.items() if seen[name] != right]


DEVICES = {
    "press": (("revoked", False, True), "disabled", False),
    "drill": (("onHold", False, True), "disabled", False),
    "mill": (("registered", False, True), None, True),
    "saw": (("registered", True, True), "disabled", False),
}
EXPECTED: dict[str, Any] = {
    "status": DONE,
    "devices": DEVICES,
    "list": ["certificateHold", "keyCompromise"],
    "has jumped": True,
    "fault": None,
    "begun": None,
    "after the timer": DEVICES,
    "notes": [],
}


def list_of(subject: Deployment) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(subject.crl(ISSUER))


def numbered(subject: Deployment) -> int:
    return list_of(subject).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def listed_at(subject: Deployment) -> list[str]:
    return [each.extensions.get_extension_for_class(x509.CRLReason).value.reason.value for each in list_of(subject)]


async def disaster() -> Disaster:
    """One device was revoked after the copy, one reinstated, one made, and one disabled in DPS."""
    subject = Conducted()
    subject.conducted(subject.conductor)
    await subject.begin("press", "drill", "saw")
    await subject.revoke("drill", RevocationReason.CERTIFICATE_HOLD)
    copy = subject.copied()
    subject.now += timedelta(hours=1)
    await subject.app.epochs.advance()
    await subject.revoke("press")
    back = RevocationRequest(request_id="back", registration_id="drill", action=RevocationAction.REINSTATE)
    await subject.app.revocations.carry_out(back)
    await subject.order("mill")
    await subject.app.individual_enrollments.disable("saw")
    return Disaster(subject, copy)


@pytest.mark.long
async def test_it_ends_the_same_whatever_step_it_broke_off_at() -> None:
    """Killed before each write, and without the answer to each: the next run ends as one that nothing held up."""
    subject = await disaster()
    world = subject.begun()
    assert await world.conductor.advance("a") > 30
    assert world.conductor.outcome("a") is None
    assert await subject.faults(world) == []
    assert await broken_off(subject.begun, subject.faults) == []


@pytest.mark.long
async def test_it_ends_the_same_whoever_else_runs_it_meanwhile() -> None:
    """One stands before each of its writes while another one runs from its begin to its end, and then goes on."""
    subject, found = await disaster(), list[str]()
    steps = await subject.begun().conductor.advance("a")
    for step in range(steps):
        world = subject.begun()
        await world.conductor.advance("a", step)
        before = await subject.faults(world)
        await world.conductor.advance("a")
        after = await subject.faults(world)
        found += [f"others came before step {step + 1}: {fault}" for fault in (*before, *after)]
    assert found == []
