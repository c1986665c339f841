"""The log against itself and against the ledger: what does not fit is named, and nothing where all is well."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.lost_certificates import LostCertificate
from shared.domain.words import CertificateKind
from shared.evidence.leaves import certificate_entry
from shared.pki import names
from shared.workflows.evidence.comparing import LogAudit
from shared.workflows.evidence.storage import HEAD_NAME, LOG, LOG_HEAD
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.evidence.stored import Place
from tests.unit.evidence.test_sequencing import put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from cryptography import x509


@cache
def certificate(number: int) -> x509.Certificate:
    return hierarchy().device(f"press-{number}")


def row(number: int, **changes: object) -> CertificateRecord:
    made = certificate(number)
    return CertificateRecord(
        serial_number=names.serial_text(made.serial_number),
        kind=CertificateKind.DEVICE,
        state=CertificateState.ACTIVE,
        subject=f"press-{number}",
        issuer="line-1-ca1",
        cause="order-1",
        recorded_at=NOW,
        pem=names.pem(made),
    ).model_copy(update=changes)


def logged(number: int, tbs: str | None = None) -> bytes:
    made = certificate(number)
    return certificate_entry(
        NOW,
        {
            "serialNumber": names.serial_text(made.serial_number),
            "tbs": tbs or sha256(made.tbs_certificate_bytes).hexdigest(),
            "issuer": "line-1-ca1",
            "kind": "device",
            "subject": f"press-{number}",
            "cause": "order-1",
            "chain": "",
            "actor": None,
        },
    )


@dataclass
class Compared:
    """A log, and a ledger."""

    place: Place = field(default_factory=Place)
    rows: list[CertificateRecord] = field(default_factory=list)
    elsewhere: set[str] = field(default_factory=set)
    lost: list[LostCertificate] = field(default_factory=list)
    told: list[str | None] = field(default_factory=list)

    async def log(self, *entries: bytes) -> None:
        worker = self.place.worker()
        for start in range(0, len(entries), 100):
            await asyncio.gather(*(worker.sequencer.append(each) for each in entries[start : start + 100]))
        await worker.signer.publish()

    async def _rows(self) -> AsyncIterator[CertificateRecord]:
        for each in self.rows:
            yield each

    async def faults(self) -> list[str]:
        audit = LogAudit(storage=self.place.storage, checkpoints=self.place.checkpoints)
        found = [each async for each in audit.of_itself()]
        found += [each async for each in audit.of_ledger(self._rows(), self.elsewhere, self.lost)]
        self.told.append(audit.lost_told())
        return found


async def healthy(count: int = 3, others: int = 700) -> Compared:
    """Certificates in the log and in the ledger, after other entries."""
    scene = Compared(rows=[row(number) for number in range(count)])
    filling = [b'{"at":"2026-03-01T12:00:00+00:00","n":%d,"type":"crl"}' % number for number in range(others)]
    await scene.log(*filling, *(logged(number) for number in range(count)))
    return scene


async def test_a_log_and_a_ledger_that_say_the_same_have_no_fault() -> None:
    scene = await healthy()
    scene.rows += [
        row(7, state=CertificateState.RESERVED, pem=None),
        row(8, state=CertificateState.ABANDONED),
        row(9, recorded_at=NOW - timedelta(days=1)),
    ]
    scene.rows.append(row(10))
    scene.elsewhere.add(row(10).serial_number)
    assert await scene.faults() == [], "one that was never signed, one from before the log, one that others signed"
    assert await Compared().faults() == [], "nothing was logged yet"


async def test_a_certificate_of_the_ledger_that_is_not_in_the_log_is_named() -> None:
    scene = await healthy()
    scene.rows.append(row(7))
    serial = row(7).serial_number
    assert await scene.faults() == [f"{serial}: the certificate of 'press-7' is in the ledger, and not in the log"]


async def test_a_certificate_that_is_logged_while_the_audit_runs_is_not_a_fault() -> None:
    scene = await healthy()

    async def later() -> AsyncIterator[CertificateRecord]:
        await scene.log(logged(7))
        for each in (*scene.rows, row(7)):
            yield each

    scene._rows = later  # type: ignore[method-assign]  # noqa: SLF001
    assert await scene.faults() == []


async def test_a_certificate_of_the_log_that_is_not_in_the_ledger_is_named() -> None:
    scene = await healthy()
    gone = scene.rows.pop()
    assert await scene.faults() == [f"{gone.serial_number}: a certificate is in the log, and not in the ledger"]


def lost(number: int, named_at: datetime = NOW) -> LostCertificate:
    return LostCertificate(
        serial_number=row(number).serial_number,
        kind="device",
        subject=f"press-{number}",
        issuer="line-1-ca1",
        named_at=named_at,
    )


async def test_a_certificate_that_was_named_as_lost_is_counted_and_any_other_is_a_fault() -> None:
    """Counted is what the log alone has: not one that the ledger has again, nor one of another log."""
    scene = await healthy()
    gone = scene.rows.pop()
    scene.lost = [lost(0), lost(9)]
    assert await scene.faults() == [f"{gone.serial_number}: a certificate is in the log, and not in the ledger"]
    scene.lost.append(lost(2))
    assert await scene.faults() == []
    scene.rows.clear()
    scene.lost[0] = lost(0, NOW + timedelta(days=1))
    assert await scene.faults() == [f"{row(1).serial_number}: a certificate is in the log, and not in the ledger"]
    words = "lost certificates, which are in the log and can't be had again"
    assert scene.told == [
        None,
        f"{words}: 1, since 2026-03-01 12:00 UTC",
        f"{words}: 2, since 2026-03-01 12:00 UTC, the last one since 2026-03-02 12:00 UTC",
    ]


async def test_a_certificate_that_is_another_one_than_was_logged_is_named() -> None:
    scene = Compared(rows=[row(0)])
    await scene.log(logged(0, tbs="0" * 64))
    told = f"{row(0).serial_number}: the log has another certificate of 'press-0' than the ledger"
    assert await scene.faults() == [told]


async def test_two_entries_about_one_serial_number_are_named() -> None:
    scene = Compared(rows=[row(0)])
    await scene.log(logged(0), logged(0, tbs="0" * 64))
    told = f"the log: entry 1 is about another certificate with the serial number {row(0).serial_number}"
    assert await scene.faults() == [told]


def _cut(place: Place) -> None:
    put(place, LOG_HEAD, HEAD_NAME, place.blobs.blobs[LOG_HEAD, HEAD_NAME].content[:-3])


def _gone(place: Place) -> None:
    del place.blobs.blobs[LOG, "tile/0/001"]


def _swapped(place: Place) -> None:
    put(place, LOG, "tile/0/000", place.blobs.blobs[LOG, "tile/0/001"].content)


def _entries(place: Place) -> None:
    content = place.blobs.blobs[LOG, "tile/entries/000"].content
    put(place, LOG, "tile/entries/000", content.replace(b'"n":17,', b'"n":71,'))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_cut, "the log: the head of the log can't be read: a bundle of entries ends within an entry"),
        (_gone, "the log: the tile 'tile/0/001' is gone"),
        (_swapped, "the log: tile/0 0 is not of its entries"),
        (_entries, "the log: tile/0 0 is not of its entries"),
    ],
)
async def test_what_was_changed_by_hand_is_named(change: Callable[[Place], None], fault: str) -> None:
    scene = await healthy()
    change(scene.place)
    audit = LogAudit(storage=scene.place.storage, checkpoints=scene.place.checkpoints)
    assert fault in [each async for each in audit.of_itself()]


async def test_an_older_head_and_another_log_are_told_by_the_checkpoint() -> None:
    scene = await healthy()
    older = scene.place.blobs.blobs[LOG_HEAD, HEAD_NAME].content
    await scene.log(logged(7))
    put(scene.place, LOG_HEAD, HEAD_NAME, older)
    audit = LogAudit(storage=scene.place.storage, checkpoints=scene.place.checkpoints)
    assert [each async for each in audit.of_itself()] == [
        "the log: its first 704 entries do not have the root of its checkpoint"
    ]
