"""The ledger: records survive their columns, and writers do not overwrite each other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.certificates import InForceRecord
from shared.domain.devices import DeviceRecord, Doors
from shared.domain.held_certificates import CertificateSummary
from shared.domain.listing import state_place
from shared.domain.orders import LineState, OrderLine
from shared.domain.public_keys import PublicKeyRecord
from shared.domain.rejections import rejection_id
from shared.domain.requests import RequestRecord, RequestState, queued
from shared.domain.upkeep import converged
from shared.domain.words import DeviceState, RegisterBy, RevocationReason
from shared.ledger.certificates import Certificates
from shared.ledger.changes import ChangeNotes
from shared.ledger.devices import Devices
from shared.ledger.directory import Directory, Projection, Start
from shared.ledger.orders import Orders
from shared.ledger.public_keys import PublicKeys
from shared.ledger.requests import Requests
from shared.ledger.table import Stale
from shared.workflows.devices.directory_upkeep import DirectoryUpkeep
from tests.unit.fakes import FakeTable
from tests.world.conductor import Conductor
from tests.world.storage import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
JSON = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.none(), max_size=3)


def devices_in(identities: Any, directory: Any = None) -> Devices:
    changes = ChangeNotes(directory or FakeTable(), clock=lambda: NOW)
    return Devices(identities=identities, unsettled=FakeTable(), changes=changes)


def line(index: int = 0, **fields: Any) -> OrderLine:
    return OrderLine(
        order_id="o",
        line=index,
        state=LineState.ORDERED,
        requested_id="A",
        enrollment_group="g",
        register_by=RegisterBy.SERVICE,
        accepted_at=NOW,
        **fields,
    )


@given(tags=JSON, desired=JSON, csr=st.none() | st.text(max_size=50))
def test_a_record_survives_its_columns(tags: dict[str, object], desired: dict[str, object], csr: str | None) -> None:
    """A record written as columns and read back is the same, its JSON included."""
    record = line(tags=tags, desired=desired, csr=csr, reasons=({"field": "f", "message": "m"},))
    assert OrderLine.from_columns(record.columns()) == record


async def test_the_second_of_two_writers_learns_that_the_first_was_there() -> None:
    """A replacement with an old ETag does not take place."""
    devices = devices_in(FakeTable())
    record = DeviceRecord(registration_id="a", state=DeviceState.ORDERED, order_id="o", updated_at=NOW)
    first = await devices.insert(record)
    with pytest.raises(Stale):
        await devices.insert(record)
    await devices.replace(first, record.entered(DeviceState.ISSUED, NOW))
    with pytest.raises(Stale):
        await devices.replace(first, record.entered(DeviceState.FAILED, NOW))
    present = await devices.get("a")
    assert present is not None
    assert present.record.state is DeviceState.ISSUED


async def test_lines_of_a_broken_off_attempt_stay() -> None:
    """Recording an order's lines again leaves those that are there as they are."""
    orders = Orders(orders=FakeTable(), lines=FakeTable())
    await orders.insert_lines([line(index) for index in range(150)])
    known = await orders.get_line("o", 120)
    assert known is not None
    await orders.replace_line(known, known.record.changed(state=DeviceState.REGISTERED))
    await orders.insert_lines([line(index) for index in range(150)])
    again = await orders.get_line("o", 120)
    assert again is not None
    assert again.record.state is LineState.REGISTERED


async def test_lines_that_follow_each_other_are_found_across_partitions() -> None:
    """As many as there are, in their order, each with the ETag that guards its replacement."""
    orders = Orders(orders=FakeTable(), lines=FakeTable())
    await orders.insert_lines([line(index) for index in range(103)])
    found = await orders.get_lines("o", 97, 10)
    assert [known.record.line for known in found] == [97, 98, 99, 100, 101, 102]
    await orders.replace_line(found[2], found[2].record.changed(state=DeviceState.ISSUED))
    with pytest.raises(Stale):
        await orders.replace_line(found[2], found[2].record)
    assert await orders.get_lines("o", 103, 1) == await orders.get_lines("o", 103, 2) == []


async def test_a_line_that_somebody_else_has_closed_stays_as_it_is() -> None:
    """Of lines that are closed together the others are closed all the same."""
    orders = Orders(orders=FakeTable(), lines=FakeTable())
    await orders.insert_lines([line(0), line(1)])
    first, second = await orders.get_lines("o", 0, 2)
    await orders.replace_line(first, first.record.changed(state=DeviceState.FAILED))
    await orders.close_lines([(known, known.record.changed(state=DeviceState.REGISTERED)) for known in (first, second)])
    assert [each.state async for each in orders.lines("o")] == [LineState.FAILED, LineState.REGISTERED]


async def test_of_a_device_that_had_an_individual_enrollment_before_the_ledger_does_not_know_its_settings() -> None:
    """The enrollment has claimed the device id: what it has was not asked for in the device's time."""
    for had_one, settings in ((False, {}), (True, None)):
        devices = devices_in(FakeTable())
        if had_one:
            await devices.claim_device_id("a", "a")
        fresh = DeviceRecord(registration_id="a", state=DeviceState.ORDERED, order_id="o", updated_at=NOW)
        inserted = await devices.insert(fresh.changed(entry_settings={}))
        found = await devices.get("a")
        assert found is not None
        assert found.record.entry_settings == inserted.record.entry_settings == settings


def test_a_history_is_kept_within_a_column() -> None:
    """However long a device lives, its history fits a column of 32 K characters."""
    record = DeviceRecord(registration_id="a", state=DeviceState.ORDERED, order_id="o", updated_at=NOW)
    for index in range(500):
        record = record.entered(DeviceState.ISSUED, NOW, f"certificate {index:040x}")
    assert len(record.columns()["history"]) < 32_768
    assert record.history[-1].note.endswith(f"{499:040x}")


def test_certificates_keep_their_times() -> None:
    """A summary keeps its times through JSON, with their zone."""
    summary = CertificateSummary(serial_number="1", thumbprint="T", not_before=NOW, not_after=NOW, issuer="ca")
    record = DeviceRecord(
        registration_id="a", state=DeviceState.ISSUED, order_id="o", updated_at=NOW, certificate=summary
    )
    assert DeviceRecord.from_columns(record.columns()).certificate == summary


def test_a_rejection_has_the_same_id_on_every_delivery() -> None:
    """The id of a rejection follows from the message, so a redelivery records nothing twice."""
    assert rejection_id(NOW, "q", "m") == rejection_id(NOW, "q", "m") != rejection_id(NOW, "q", "n")


async def test_certificates_that_were_not_recorded_leave_the_index_though_one_of_them_has_left_before() -> None:
    """A transaction that deletes a row which is gone deletes none of the others."""
    table: Any = Table("inforce", Conductor())
    certificates = Certificates(certificates=table, revocations=table, in_force=table)
    entries = [
        InForceRecord(serial_number=f"{number:040x}", issuer="ca", subject=f"d{number}", until=NOW + timedelta(days=1))
        for number in range(3)
    ]
    await certificates.enter_all_in_force(entries)
    await certificates.leave_in_force("ca", entries[1].serial_number)
    await certificates.leave_all_in_force("ca", [each.serial_number for each in entries])
    assert await certificates.count_in_force("ca", NOW, limit=5) == 0


async def test_a_device_is_found_by_the_state_that_it_shows() -> None:
    """One that is to be revoked is listed as registered until the services have followed."""
    directory: Any = Table("directory", Conductor())
    devices = devices_in(Table("identities", Conductor()), directory)
    upkeep = DirectoryUpkeep(
        devices=devices, changes=devices.changes, projection=Projection(directory), clock=lambda: NOW
    )
    known = await devices.insert(
        DeviceRecord(registration_id="a", state=DeviceState.REGISTERED, order_id="o", updated_at=NOW)
    )
    revoked = known.record.entered(DeviceState.REVOKED, NOW, revoked=RevocationReason.KEY_COMPROMISE, generation=1)
    known = await devices.replace(known, revoked)

    async def listed(state: DeviceState) -> list[str]:
        await upkeep.run()
        page, _ = await Directory(directory).page(state_place(state), {}, size=10, start=Start(), reads=10)
        return [each["registrationId"] for each in page]

    assert (await listed(DeviceState.REGISTERED), await listed(DeviceState.REVOKED)) == (["a"], [])
    await devices.replace(known, converged(known.record, 1, Doors.SHUT))
    assert (await listed(DeviceState.REGISTERED), await listed(DeviceState.REVOKED)) == ([], ["a"])


@dataclass
class Contended(FakeTable):
    """A table in which others write just before us, so many times; or delete what was in our way."""

    others: int = 0
    deletes: bool = False

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        if self.others:
            self.others -= 1
            await self.put(dict(self.rows[values["PartitionKey"], values["RowKey"]].values))
        return await super().replace(values, etag)

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        written = await super().insert(values)
        if written is None and self.deletes:
            await self.delete(values["PartitionKey"], values["RowKey"])
        return written


KEY = PublicKeyRecord(fingerprint="f", registration_id="a", recorded_at=NOW)


async def test_a_key_is_condemned_though_others_write_its_record() -> None:
    """A few of them are waited for; if they never end, the caller comes again."""
    keys = PublicKeys(Contended(others=4))
    await keys.claim(KEY)
    await keys.condemn(KEY)
    known = await keys.get("f")
    assert known is not None
    assert (known.record.compromised, known.record.registration_id) == (True, "a")
    busy = PublicKeys(Contended(others=5))
    await busy.claim(KEY)
    with pytest.raises(Stale):
        await busy.condemn(KEY)


async def test_a_key_that_its_owner_lets_go_at_this_moment_is_claimed_again_later() -> None:
    """Nobody has it and we don't either: to say who has it would be wrong."""
    keys = PublicKeys(Contended(deletes=True))
    await keys.claim(KEY)
    with pytest.raises(Stale):
        await keys.claim(KEY)
    assert (await keys.claim(KEY)).record == KEY


async def test_an_id_whose_request_was_refused_goes_to_one_of_those_who_want_it() -> None:
    """Two come at once with the id: whoever is second finds the request of the first."""
    table = Contended()
    requests = Requests(table)
    refused = RequestRecord(kind="k", request_id="r", fingerprint="old", received_at=NOW, state=RequestState.REJECTED)
    await requests.claim(refused)
    assert (await requests.get("k", "r")) is None
    first = RequestRecord(kind="k", request_id="r", fingerprint="first", received_at=NOW)
    table.others = 1
    claimed = (await requests.claim(first)).record
    assert claimed == first.changed(revision=1), "it comes after the refused one"
    second = RequestRecord(kind="k", request_id="r", fingerprint="second", received_at=NOW)
    assert (await requests.claim(second)).record == claimed
    table.others = 1
    await requests.enter(first, queued(NOW))
    known = await requests.get("k", "r")
    assert known is not None
    assert known.record.queued_at == NOW


async def test_a_device_id_that_was_claimed_once_more_is_not_given_back() -> None:
    """Whoever has claimed it since uses it."""
    devices = devices_in(FakeTable())
    first = await devices.claim_device_id("drill", "lathe")
    again = await devices.claim_device_id("drill", "lathe")
    assert (first.is_new, again.is_new) == (True, False)
    await devices.give_back_device_id(first.claim)
    assert await devices.owner_of("drill") == "lathe"
    await devices.give_back_device_id(again.claim)
    assert await devices.owner_of("drill") is None


async def test_a_device_id_is_freed_by_its_owner_alone() -> None:
    """And a device whose own id is kept from before, when it was another's entry, is entered as well."""
    devices = devices_in(FakeTable())
    assert (await devices.claim_device_id("drill", "lathe")).is_new
    assert (await devices.claim_device_id("drill", "saw")).claim.record.registration_id == "lathe"
    assert await devices.claim_of("drill", "saw") is None
    held = await devices.claim_of("drill", "lathe")
    assert held is not None
    await devices.give_back_device_id(held)
    assert await devices.owner_of("drill") is None
    assert (await devices.claim_device_id("saw", "saw")).is_new
    record = DeviceRecord(registration_id="saw", state=DeviceState.ORDERED, order_id="o", updated_at=NOW)
    assert (await devices.insert(record)).record.registration_id == "saw"
