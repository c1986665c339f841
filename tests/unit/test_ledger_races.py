"""What the ledger does where others are always quicker, or a row is gone: it gives up, and says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.authorities import AuthorityState
from shared.domain.certificates import CertificateRecord, CertificateState, RevocationRecord
from shared.domain.orders import LineState, OrderLine, OrderRecord, OrderState
from shared.domain.words import CertificateKind, RegisterBy, RevocationReason
from shared.ledger.authorities import Authorities
from shared.ledger.certificates import Certificates
from shared.ledger.directory import Projection
from shared.ledger.orders import Orders
from shared.ledger.table import Stale
from tests.pki.hierarchy import NOW
from tests.records import authority_record
from tests.world.storage import Row, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY = timedelta(days=1)


@dataclass
class Contended(Table):
    """A table in which somebody else has always written a row just before; or has deleted it.

    Attributes:
        deleted: how often the row is deleted by others, before it is written by them.
    """

    deleted: int = 0

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        if self.deleted:
            return None
        return await super().insert(values)

    async def get(self, partition: str, row: str) -> Row | None:
        if self.deleted:
            self.deleted -= 1
            return None
        return await super().get(partition, row)

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        del values, etag
        return None


def certificate(number: int = 1) -> CertificateRecord:
    return CertificateRecord(
        serial_number=f"{number:040x}", kind=CertificateKind.DEVICE, state=CertificateState.ACTIVE, subject="press",
        issuer="line", cause="o", recorded_at=NOW, not_after=NOW + DAY,
    )  # fmt: skip


def certificates(revocations: Table | None = None) -> Certificates:
    return Certificates(certificates=Table(), revocations=revocations or Table(), in_force=Table())


async def test_a_serial_number_is_drawn_once() -> None:
    """A random source that gives one twice is broken."""
    ledger = certificates()
    await ledger.reserve(certificate())
    with pytest.raises(RuntimeError, match=r"serial number 0+1 was drawn twice; the random source is broken"):
        await ledger.reserve(certificate())


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (9, 3)])
async def test_what_is_in_force_is_counted_up_to_a_limit(limit: int, count: int) -> None:
    """What has ended does not count."""
    ledger = certificates()
    for number in (1, 2, 3):
        await ledger.enter_in_force(certificate(number), until=NOW + DAY)
    await ledger.enter_in_force(certificate(4), until=NOW - DAY)
    assert await ledger.count_in_force("line", NOW, limit=limit) == count


async def test_a_revocation_that_others_keep_changing_is_stale() -> None:
    """Nobody is told that it was entered."""
    record = RevocationRecord(
        serial_number="a" * 40, issuer="line", revoked_at=NOW, reason=RevocationReason.KEY_COMPROMISE,
        not_after=NOW + DAY, generation=1,
    )  # fmt: skip
    table = Contended()
    ledger = certificates(table)
    await ledger.enter_revocation(record)
    written = table.writes
    with pytest.raises(Stale, match="a" * 40):
        await ledger.enter_revocation(record.changed(generation=2))
    assert table.writes == written


async def test_an_identity_that_is_claimed_and_withdrawn_in_between_is_claimed_again() -> None:
    """Whose claim goes on changing is told."""
    table = Contended(deleted=1)
    assert await Authorities(table).claim_identity("identity", "line") == "line"
    assert table.rows["identity", "identity"].values["name"] == "line"
    with pytest.raises(Stale, match="identity"):
        await Authorities(table).claim_identity("identity", "other")


async def test_an_identity_that_an_older_app_has_claimed_is_known() -> None:
    """Its row had a name, and nothing else."""
    table = Table()
    await table.insert({"PartitionKey": "identity", "RowKey": "identity", "name": "line"})
    ledger = Authorities(table)
    record = authority_record("line", NOW, kind=CertificateKind.ROOT, state=AuthorityState.REQUESTED)
    assert await ledger.try_insert(record) is not None
    assert await ledger.claim_identity("identity", "other") == "line"


async def test_a_guard_that_is_gone_when_it_is_read_is_stale() -> None:
    """Then nothing is known of its partition."""
    with pytest.raises(Stale, match="state"):
        await Projection(Contended(deleted=1)).guard(["state"])


def order(state: OrderState = OrderState.PROCESSING) -> OrderRecord:
    return OrderRecord(order_id="o", state=state, accepted_at=NOW)


def orders(table: Table) -> Orders:
    return Orders(orders=table, lines=table)


async def test_an_order_that_is_gone_is_told() -> None:
    """An order is never deleted while somebody changes it."""
    table = Contended()
    ledger = orders(table)
    known = await ledger.insert(order())
    table.deleted = 1
    with pytest.raises(RuntimeError, match="order 'o' was there a moment ago and is gone"):
        await ledger.change(known, lambda record: record.changed(dispatched=1))
    assert await ledger.change(known, lambda record: record) is known


async def test_a_line_that_is_gone_is_told() -> None:
    table = Contended()
    ledger = orders(table)
    line = OrderLine(
        order_id="o", line=0, state=LineState.ORDERED, requested_id="press", enrollment_group="g",
        register_by=RegisterBy.SERVICE, accepted_at=NOW,
    )  # fmt: skip
    await ledger.insert_lines([line])
    known = await ledger.get_line("o", 0)
    assert known is not None
    table.deleted = 1
    with pytest.raises(RuntimeError, match="line 0 of order 'o' is gone"):
        await ledger.change_lines([known], lambda record: record.changed(attempt=1))


@pytest.mark.parametrize("state", [OrderState.PROCESSING, OrderState.REJECTED])
async def test_a_refusal_leaves_an_order_as_others_have_it(state: OrderState) -> None:
    """One that was accepted; and one that somebody else refuses at the same moment."""
    table = Contended()
    ledger = orders(table)
    await ledger.insert(order(state))
    await ledger.refuse("o", ({"field": "f", "message": "m"},), NOW)
    known = await ledger.get("o")
    assert known is not None
    assert (known.record.state, known.record.reasons) == (state, None)
