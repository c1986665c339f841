"""The expiry sweep: what is due and not done, once, whenever it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts import CertificateKind, DeviceState
from shared.ledger.certificates import CertificateRecord, Certificates, CertificateState
from shared.ledger.devices import CertificateSummary, DeviceRecord, Devices
from shared.ledger.expiry import DueNotice, ExpiryIndex, Notice
from shared.workflows.events import Outbox
from shared.workflows.expiry import ExpirySweep
from tests.unit.fakes import FakeQueues, FakeTable

END = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
SERIAL = "4" * 40


class Fixture:
    def __init__(self, *, state: CertificateState = CertificateState.ACTIVE) -> None:
        self.queues: Any = FakeQueues()
        self.certificates = Certificates(FakeTable(), FakeTable(), FakeTable())
        self.devices = Devices(FakeTable())
        self.index = ExpiryIndex(FakeTable())
        self.state = state

    async def set_up(self) -> None:
        summary = CertificateSummary(
            serial_number=SERIAL, thumbprint="T", not_before=END - timedelta(days=365), not_after=END, issuer="ca"
        )
        await self.devices.insert(
            DeviceRecord(
                registration_id="press-001",
                state=DeviceState.REGISTERED,
                order_id="order-1",
                updated_at=END,
                certificate=summary,
            )
        )
        await self.certificates.put(
            CertificateRecord(
                serial_number=SERIAL,
                kind=CertificateKind.DEVICE,
                state=self.state,
                subject="press-001",
                issuer="ca",
                cause="order-1",
                recorded_at=END,
                not_after=END,
            )
        )
        due = (END - timedelta(days=30)).date()
        await self.index.put(
            DueNotice.on(due, Notice.EXPIRING, serial_number=SERIAL, subject="press-001", not_after=END)
        )

    async def sweep(self, at: datetime) -> list[str]:
        """Run a sweep, and give the types of the events it sent."""
        self.queues.sent.clear()
        outbox = Outbox(self.queues, lambda: at)
        await ExpirySweep(self.index, self.certificates, self.devices, outbox, lambda: at).run()
        return [body["type"].removeprefix("DeviceProvisioning.") for _, body, _ in self.queues.sent]


async def test_each_notice_is_given_once_and_in_its_time() -> None:
    """Nothing before it is due; then expiring, once; and expired the day after notAfter, once."""
    fixture = Fixture()
    await fixture.set_up()
    assert await fixture.sweep(END - timedelta(days=31)) == []
    assert await fixture.sweep(END - timedelta(days=30)) == ["CertificateExpiring"]
    assert await fixture.sweep(END - timedelta(days=29)) == []
    assert await fixture.sweep(END) == []
    assert await fixture.sweep(END + timedelta(days=1)) == ["CertificateExpired"]
    assert await fixture.sweep(END + timedelta(days=2)) == []
    device = await fixture.devices.get("press-001")
    assert device is not None
    assert device.record.state is DeviceState.EXPIRED


async def test_a_sweep_that_was_missed_for_months_makes_up_for_it() -> None:
    """What was due long ago is given by the next sweep, however late it comes."""
    fixture = Fixture()
    await fixture.set_up()
    assert await fixture.sweep(END + timedelta(days=100)) == ["CertificateExpiring"]
    assert await fixture.sweep(END + timedelta(days=100)) == ["CertificateExpired"]


async def test_a_certificate_out_of_use_is_not_reported() -> None:
    """The end of a revoked or superseded certificate concerns nobody."""
    for state in (CertificateState.REVOKED, CertificateState.SUPERSEDED):
        fixture = Fixture(state=state)
        await fixture.set_up()
        assert await fixture.sweep(END + timedelta(days=1)) == []
