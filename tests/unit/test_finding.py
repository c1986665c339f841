"""Devices are found by what is asked of them: by an index each, in pages, and as they are."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from shared.domain.devices import DeviceRecord
from shared.domain.held_certificates import CertificateSummary
from shared.domain.history import HistoryEntry
from shared.domain.listing import time_row
from shared.domain.words import DeviceState
from shared.errors import Rejected
from shared.ledger.changes import ChangeNotes
from shared.ledger.devices import Devices
from shared.ledger.directory import Directory, Projection
from shared.workflows.devices.directory import DeviceDirectory
from shared.workflows.devices.directory_upkeep import DirectoryUpkeep
from shared.workflows.devices.finding import DeviceFilters, question
from tests.unit.fakes import FakeTable

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class CountedTable(FakeTable):
    """Counts what is read of it."""

    reads: ClassVar[Counter[str]] = Counter()

    async def get(self, partition: str, row: str) -> Any:
        self.reads[f"{self.name}.get"] += 1
        return await super().get(partition, row)

    async def page(self, *args: Any, **kwargs: Any) -> Any:
        self.reads[f"{self.name}.page"] += 1
        return await super().page(*args, **kwargs)


def serial_of(name: str) -> str:
    """Give a serial number that a device's certificate may have."""
    return sha256(name.encode()).hexdigest()[:40]


class Fleet:
    """Devices, and their directory."""

    def __init__(self) -> None:
        self.now = NOW
        self.rows, self.directory_rows = CountedTable("identities"), CountedTable("directory")
        CountedTable.reads.clear()
        changes = ChangeNotes(self.directory_rows, clock=self.clock)
        self.devices = Devices(identities=self.rows, unsettled=FakeTable(), changes=changes)
        self.upkeep = DirectoryUpkeep(
            devices=self.devices, changes=changes, projection=Projection(self.directory_rows), clock=self.clock
        )
        nothing: Any = None
        self.directory = DeviceDirectory(
            devices=self.devices,
            changes=changes,
            certificates=nothing,
            directory=Directory(self.directory_rows),
            bundles=nothing,
            settings=nothing,
            clock=self.clock,
            log=None,
        )

    def clock(self) -> datetime:
        return self.now

    async def add(self, name: str, *, days: int = 365, at: datetime = NOW, **fields: Any) -> None:
        """Enter a device that was registered at a time, with a certificate for so many days."""
        summary = CertificateSummary(
            serial_number=serial_of(name),
            thumbprint=f"SHA1-{name}",
            not_before=at - timedelta(minutes=10),
            not_after=at + timedelta(days=days),
            issuer=fields.pop("issuer", "line-1-ca1"),
        )
        known: dict[str, Any] = {
            "registration_id": name,
            "state": DeviceState.REGISTERED,
            "order_id": "o1",
            "updated_at": at,
            "enrollment_group": "line-1",
            "assigned_hub": "hub-1",
            "certificate": summary,
            "sha256_thumbprints": (f"SHA256-{name}",),
            "history": (
                HistoryEntry(at=at, state=DeviceState.ISSUED),
                HistoryEntry(at=at, state=DeviceState.REGISTERED),
            ),
        }
        await self.devices.insert(DeviceRecord(**{**known, **fields}))

    async def change(self, name: str, **fields: Any) -> None:
        known = await self.devices.get(name)
        assert known is not None
        await self.devices.replace(known, known.record.changed(**fields))

    async def found(self, *, size: int = 100, **filters: Any) -> list[str]:
        """List the devices that match, page by page."""
        pages = await self.pages(size=size, **filters)
        return [name for page in pages for name in page]

    async def pages(self, *, size: int, **filters: Any) -> Sequence[list[str]]:
        continuation, pages = None, []
        while True:
            items, continuation = await self.directory.page(
                DeviceFilters(**filters), size=size, continuation=continuation
            )
            assert len(items) <= size
            pages.append([each["registrationId"] for each in items])
            if continuation is None:
                return pages


async def various() -> Fleet:
    fleet = Fleet()
    await fleet.add("press-1", days=10, tags={"plant": "Bremen", "site": {"line": 3}})
    await fleet.add("press-2", days=400, enrollment_group="line-2", issuer="line-2-ca1", order_id="o2")
    await fleet.add("saw-1", at=NOW - timedelta(days=100), assigned_hub="hub-2", tags={"plant": "Ulm/#1"})
    await fleet.add("saw-2", state=DeviceState.REVOKED)
    await fleet.upkeep.run()
    return fleet


QUESTIONS: Sequence[tuple[dict[str, Any], str, list[str]]] = (
    ({}, "id", ["press-1", "press-2", "saw-1", "saw-2"]),
    ({"group": "line-2"}, "group|line-2", ["press-2"]),
    ({"state": DeviceState.REVOKED}, "state|revoked", ["saw-2"]),
    ({"state": DeviceState.REGISTERED, "group": "line-1"}, "group|line-1", ["press-1", "saw-1"]),
    ({"state": DeviceState.REVOKED, "group": "line-1"}, "state|revoked", ["saw-2"]),
    ({"hub": "hub-2"}, "hub|hub-2", ["saw-1"]),
    ({"issuer": "line-2-ca1"}, "issuer|line-2-ca1", ["press-2"]),
    ({"order": "o2"}, "order|o2", ["press-2"]),
    ({"tag": ("plant", "Bremen")}, "tag|", ["press-1"]),
    ({"tag": ("site.line", "3")}, "tag|", ["press-1"]),
    ({"tag": ("plant", "Ulm/#1"), "hub": "hub-2"}, "tag|", ["saw-1"]),
    ({"tag": ("plant", "Ulm/#1"), "hub": "hub-1"}, "tag|", []),
    ({"id_prefix": "press-"}, "id", ["press-1", "press-2"]),
    ({"id_prefix": "saw", "state": DeviceState.REGISTERED}, "id", ["saw-1"]),
    ({"expires_before": NOW + timedelta(days=300)}, "expires", ["press-1", "saw-1"]),
    ({"expires_before": NOW + timedelta(days=300), "group": "line-2"}, "expires", []),
    ({"expires_before": NOW + timedelta(days=300), "order": "o1"}, "order|o1", ["press-1", "saw-1"]),
    ({"registered_since": NOW - timedelta(days=1)}, "registered", ["press-1", "press-2", "saw-2"]),
    ({"not_renewed_since": NOW - timedelta(days=1)}, "renewed", ["saw-1"]),
    ({"not_renewed_since": NOW - timedelta(days=1), "state": DeviceState.REVOKED}, "state|revoked", []),
)


@pytest.mark.parametrize(("filters", "partition", "names"), QUESTIONS, ids=[str(each) for each, _, _ in QUESTIONS])
async def test_each_question_is_answered_by_an_index(filters: dict[str, Any], partition: str, names: list[str]) -> None:
    """By one partition of the directory, and the other filters hold in it."""
    assert question(DeviceFilters(**filters)).partition.startswith(partition)
    fleet = await various()
    assert sorted(await fleet.found(**filters)) == names
    assert sorted(await fleet.found(size=1, **filters)) == names


@pytest.mark.parametrize(
    ("filters", "conditions"),
    [
        ({"group": "line-2"}, {}),
        ({"hub": "hub-2"}, {}),
        ({"issuer": "line-2-ca1"}, {}),
        ({"order": "o2"}, {}),
        ({"state": DeviceState.REGISTERED}, {}),
        ({"state": DeviceState.REVOKED}, {}),
        ({"tag": ("plant", "Bremen")}, {}),
        ({"registered_since": NOW}, {"RowKey ge": time_row(NOW)}),
        ({"expires_before": NOW}, {"RowKey lt": time_row(NOW)}),
        ({"not_renewed_since": NOW}, {"RowKey lt": time_row(NOW)}),
        ({"id_prefix": "press-"}, {"RowKey ge": "press-", "RowKey lt": "press-~"}),
        (
            {"id_prefix": "press-", "expires_before": NOW, "state": DeviceState.REGISTERED},
            {
                "RowKey ge": "press-",
                "RowKey lt": "press-~",
                "shownState eq": "registered",
                "expiresAt lt": NOW,
                "inService eq": True,
            },
        ),
        (
            {"order": "o2", "state": DeviceState.REVOKED, "hub": "hub-2", "issuer": "ca1", "group": "line-2"},
            {
                "shownState eq": "revoked",
                "assignedHub eq": "hub-2",
                "issuer eq": "ca1",
                "enrollmentGroup eq": "line-2",
            },
        ),
        (
            {"tag": ("plant", "Bremen"), "order": "o2", "registered_since": NOW, "not_renewed_since": NOW},
            {"orderId eq": "o2", "registeredAt ge": NOW, "renewedAt lt": NOW, "inService eq": True},
        ),
    ],
    ids=str,
)
def test_what_an_index_is_by_is_not_asked_of_its_rows_again(
    filters: dict[str, Any], conditions: dict[str, Any]
) -> None:
    """All the rest is; by time it is the key of the rows that tells, where they are ordered by it."""
    assert question(DeviceFilters(**filters)).conditions == conditions


@pytest.mark.parametrize(("filters", "partition", "names"), QUESTIONS, ids=[str(each) for each, _, _ in QUESTIONS])
async def test_a_list_is_right_before_the_directory_has_followed(
    filters: dict[str, Any], partition: str, names: list[str]
) -> None:
    """While a few devices change, those are read themselves: what is listed is true at the services."""
    del partition
    fleet = Fleet()
    await fleet.add("press-1", tags={"plant": "none"}, issuer="other", order_id="o9")
    await fleet.add("saw-2")
    await fleet.upkeep.run()
    right = await various()
    for name in ("press-1", "press-2", "saw-1", "saw-2"):
        known = await right.devices.get(name)
        assert known is not None
        if name in {"press-1", "saw-2"}:
            await fleet.change(name, **{field: getattr(known.record, field) for field in DeviceRecord.model_fields})
        else:
            await fleet.devices.insert(known.record)
    assert sorted(await fleet.found(**filters)) == names
    assert sorted(await fleet.found(size=1, **filters)) == names


async def test_a_page_takes_ten_reads_at_most() -> None:
    """Whatever is asked, and while others are changing."""
    fleet = Fleet()
    for number in range(60):
        await fleet.add(f"d{number:02}", enrollment_group=f"line-{number % 2}")
    await fleet.upkeep.run()
    for number in range(5):
        await fleet.change(f"d{number:02}", assigned_hub="hub-9")
    asked: Sequence[dict[str, Any]] = ({}, {"group": "line-1"}, {"group": "line-1", "hub": "hub-1"}, {"hub": "hub-9"})
    for filters in asked:
        CountedTable.reads.clear()
        await fleet.directory.page(DeviceFilters(**filters), size=20, continuation=None)
        assert sum(CountedTable.reads.values()) <= 10, CountedTable.reads


async def test_devices_that_many_others_change_beside_come_a_little_later() -> None:
    """More than five are not read themselves; the directory has them when it was kept."""
    fleet = await various()
    for number in range(6):
        await fleet.add(f"new-{number}")
    assert await fleet.found(id_prefix="new-") == []
    await fleet.upkeep.run()
    assert await fleet.found(id_prefix="new-") == [f"new-{number}" for number in range(6)]


@pytest.mark.parametrize("second", [0, 19, 20, 21, 59, 61, 95, 119])
async def test_what_a_killed_worker_left_is_in_the_lists_within_two_minutes(second: int) -> None:
    """The timer comes at 20 seconds past each minute, and passes over devices that were looked at a moment ago."""
    fleet = Fleet()
    names = [f"press-{number}" for number in range(6)]  # more than a list reads themselves
    for name in names:
        await fleet.add(name)
    await fleet.upkeep.run()
    fleet.now += timedelta(seconds=second)
    changed_at = fleet.now
    for name in names:
        await fleet.change(name, assigned_hub="hub-2")
    assert await fleet.found(hub="hub-2") == []
    while await fleet.found(hub="hub-2") != names:
        ticked = fleet.now.replace(second=20, microsecond=0)
        fleet.now = ticked if ticked > fleet.now else ticked + timedelta(minutes=1)
        await fleet.upkeep.run()
        assert fleet.now - changed_at <= timedelta(minutes=2)


async def test_a_continuation_of_another_list_is_refused() -> None:
    """It says where a page of one index begins, and means nothing in another."""
    fleet = await various()
    _, continuation = await fleet.directory.page(DeviceFilters(group="line-1"), size=1, continuation=None)
    assert continuation == "group|line-1\npress-1"
    for wrong in (continuation, "nonsense"):
        with pytest.raises(Rejected, match="is not a continuation of this list"):
            await fleet.directory.page(DeviceFilters(hub="hub-1"), size=1, continuation=wrong)


async def test_devices_are_counted_by_state_and_by_month_of_expiry() -> None:
    """By one row; those that are out of service expire no more."""
    fleet = await various()
    CountedTable.reads.clear()
    counts = await fleet.directory.counts()
    assert CountedTable.reads.total() == 1
    assert counts.total == 4
    assert {state: count for state, count in counts.states.items() if count} == {"registered": 3, "revoked": 1}
    assert [each.shown() for each in counts.expiries] == [
        {"month": "2026-03", "devices": 1},
        {"month": "2026-11", "devices": 1},
        {"month": "2027-04", "devices": 1},
    ]
    await fleet.change("press-1", state=DeviceState.REVOKED)
    await fleet.upkeep.run()
    counts = await fleet.directory.counts()
    assert (counts.states[DeviceState.REGISTERED], counts.states[DeviceState.REVOKED]) == (2, 2)
    assert [each.month for each in counts.expiries] == ["2026-11", "2027-04"]


async def test_devices_of_a_group_are_counted_by_one_row_as_well() -> None:
    """Whatever changes of them; a group without devices has none."""
    fleet = await various()
    whole = await fleet.directory.counts()
    groups = ("line-1", "line-2")
    CountedTable.reads.clear()
    parts = [await fleet.directory.counts(group) for group in groups]
    assert CountedTable.reads.total() == len(groups)
    assert sum(part.total for part in parts) == whole.total
    assert all(part.total for part in parts)
    for state in DeviceState:
        assert sum(part.states[state] for part in parts) == whole.states[state]
    assert sum(each.devices for part in parts for each in part.expiries) == 3
    before = await fleet.directory.counts("line-1")
    await fleet.change("press-1", state=DeviceState.REVOKED)
    for _ in range(2):
        await fleet.upkeep.run()
    after = await fleet.directory.counts("line-1")
    assert after.total == before.total
    assert after.states[DeviceState.REVOKED] == before.states[DeviceState.REVOKED] + 1
    assert (await fleet.directory.counts("nowhere")).total == 0


async def test_a_device_is_shown_the_same_by_its_certificate_as_in_a_list() -> None:
    """To the letter, so that a list in CSV writes its times in one way."""
    fleet = await various()
    listed, _ = await fleet.directory.page(DeviceFilters(id_prefix="press-1"), size=1, continuation=None)
    assert listed == await fleet.directory.with_thumbprint("SHA1-press-1")


async def test_a_device_is_found_by_both_thumbprints() -> None:
    """Of its present certificate, and of one that it had before."""
    fleet = await various()
    for thumbprint in ("SHA1-press-1", "SHA256-press-1"):
        assert [each["registrationId"] for each in await fleet.directory.with_thumbprint(thumbprint)] == ["press-1"]
    known = await fleet.devices.get("press-1")
    assert known is not None
    following = known.record.certificate and known.record.certificate.changed(thumbprint="SHA1-later")
    thumbprints = ("SHA256-press-1", "SHA256-later")
    await fleet.change("press-1", next_certificate=following, sha256_thumbprints=thumbprints)
    await fleet.upkeep.run()
    for thumbprint in ("SHA1-press-1", *thumbprints, "SHA1-later"):
        assert [each["registrationId"] for each in await fleet.directory.with_thumbprint(thumbprint)] == ["press-1"]
    assert list(await fleet.directory.with_thumbprint("SHA1-none")) == []


# --- what it takes to keep the directory ---


async def test_a_device_that_is_made_takes_one_note_and_is_followed_in_batches() -> None:
    """A hundred devices of one order: each is read once, and the rows of ninety are written together."""
    fleet = Fleet()
    await fleet.upkeep.run()
    names = [f"d{number:03}" for number in range(100)]
    written = fleet.directory_rows.writes
    await fleet.devices.changes.announce(names)
    assert fleet.directory_rows.writes - written == 100
    for name in names:
        await fleet.add(name)
    assert fleet.directory_rows.writes - written == 100
    CountedTable.reads.clear()
    await fleet.upkeep.run()
    assert (CountedTable.reads["identities.get"], CountedTable.reads["directory.get"]) == (100, 0)
    assert await fleet.found() == names


async def test_a_note_of_a_change_that_never_came_is_answered_in_the_end() -> None:
    """After ten minutes the record is written anew, so that whoever noted it can't write any more."""
    fleet = await various()
    known = await fleet.devices.get("saw-1")
    assert known is not None
    await fleet.devices.changes.enter("saw-1", known.record.stamp)
    await fleet.devices.changes.enter("never-made", None)
    for minutes, notes in ((0, 2), (11, 2), (13, 1), (60 * 25, 0)):
        fleet.now = NOW + timedelta(minutes=minutes)
        await fleet.upkeep.run()
        assert len([note async for note in fleet.devices.changes.all()]) == notes
    with pytest.raises(Exception, match="saw-1"):
        await fleet.devices.replace(known, known.record.changed(assigned_hub="hub-9"))


async def test_the_directory_is_kept_after_work_and_not_after_each_of_many() -> None:
    """The last one of a burst has it kept; in between it is twenty seconds at least."""
    fleet, seconds = Fleet(), 100.0
    fleet.upkeep.timer = lambda: seconds

    async def listed(device: str) -> bool:
        return await fleet.directory_rows.get("id", device) is not None

    with fleet.upkeep.work():
        with fleet.upkeep.work():
            await fleet.add("first")
        await fleet.upkeep.follow()  # long after the last time
        with fleet.upkeep.work():
            await fleet.add("a")
        await fleet.upkeep.follow()
        seconds += 19
        await fleet.upkeep.follow()
        assert not await listed("a")
    await fleet.upkeep.follow()
    assert await listed("a")
    reads = CountedTable.reads.total()
    await fleet.upkeep.follow()
    assert CountedTable.reads.total() == reads


class SlowTable(CountedTable):
    """Keeps whoever asks for its rows waiting, when it is told to, and takes no transactions meanwhile others do."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()
        self.taken = 0

    async def get(self, partition: str, row: str) -> Any:
        self.asked.set()
        await self.go_on.wait()
        return await super().get(partition, row)

    async def write_together(self, steps: Sequence[Any]) -> Any:
        if self.taken and any(step.values["RowKey"] == "!" for step in steps):
            self.taken -= 1
            return None  # somebody else has written the guard
        return await super().write_together(steps)


def slow_fleet() -> tuple[Fleet, SlowTable]:
    """Give a fleet whose directory is in such a table."""
    fleet, table = Fleet(), SlowTable("directory")
    changes = ChangeNotes(table, clock=fleet.clock)
    fleet.directory_rows, fleet.devices = table, Devices(identities=fleet.rows, unsettled=FakeTable(), changes=changes)
    fleet.upkeep = DirectoryUpkeep(
        devices=fleet.devices, changes=changes, projection=Projection(table), clock=fleet.clock
    )
    return fleet, table


async def test_nobody_waits_while_the_directory_is_kept_and_what_they_did_is_listed_then() -> None:
    fleet, table = slow_fleet()
    await fleet.add("a")
    table.go_on.clear()
    keeper = asyncio.create_task(fleet.upkeep.follow())
    await table.asked.wait()
    await fleet.add("b")
    await fleet.upkeep.follow()
    assert not keeper.done()
    table.go_on.set()
    await keeper
    assert [await table.get("id", each) is not None for each in ("a", "b")] == [True, True]


async def test_what_another_worker_keeps_is_left_to_it_for_twenty_seconds_and_to_the_timer() -> None:
    """Two that keep it at once would read everything again and again, each time in vain."""
    fleet, table = slow_fleet()
    seconds = 100.0
    fleet.upkeep.timer = lambda: seconds
    await fleet.upkeep.run()
    await fleet.add("a")
    table.taken = 2
    await fleet.upkeep.follow()
    assert table.taken == 1
    await fleet.upkeep.follow()
    assert table.taken == 1
    await fleet.upkeep.run()  # the timer, which tries more than once
    assert (table.taken, await table.get("id", "a") is not None) == (0, True)
    await fleet.add("b")
    table.taken = 1
    await fleet.upkeep.follow()
    assert await table.get("id", "b") is None
    seconds += 20
    await fleet.upkeep.follow()
    assert await table.get("id", "b") is not None


async def test_a_device_that_this_worker_works_on_is_listed_when_that_is_done() -> None:
    """However long ago it was noted: it waits for its turn, and more is to come."""
    fleet = Fleet()
    await fleet.upkeep.run()
    with fleet.devices.changes.working(["a"]):
        await fleet.add("a")
        await fleet.add("b")
        fleet.now += timedelta(minutes=5)
        assert await fleet.upkeep.run() == 1
        assert await fleet.directory_rows.get("id", "a") is None
    await fleet.upkeep.follow()
    assert await fleet.directory_rows.get("id", "a") is not None


async def test_a_device_is_listed_once_it_has_rested_while_there_is_other_work() -> None:
    """One that was noted within twenty seconds is being worked on, and would be read twice; the end of work lists it."""
    fleet, seconds = Fleet(), 100.0
    fleet.upkeep.timer = lambda: seconds

    async def listed() -> list[str]:
        return [each for each in ("a", "b") if await fleet.directory_rows.get("id", each) is not None]

    await fleet.upkeep.run()  # the first one notes whatever there is
    with fleet.upkeep.work():
        await fleet.add("a")
        fleet.now += timedelta(seconds=1)
        await fleet.add("b")
        fleet.now += timedelta(seconds=19)
        await fleet.upkeep.follow()
        assert await listed() == ["a"]
    await fleet.upkeep.follow()
    assert await listed() == ["a", "b"]
