"""Messages of several lines: worked on side by side, each line ends by itself, and a device takes few operations."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.contracts.devices import RevocationRequest
from shared.contracts.messages import Queue
from shared.contracts.orders import DeviceOrder, DeviceRegistration
from shared.contracts.parsing import parse
from shared.domain.certificates import CertificateState
from shared.domain.groups import GroupState
from shared.domain.orders import LineState, OrderLine
from shared.domain.words import DeviceState, RegisterBy, RevocationReason
from shared.errors import Conflict, Deferred, NotFound
from shared.workflows.devices import places
from shared.workflows.devices.order_blobs import OrderBlobs
from shared.workflows.devices.order_dispatch import OrderDispatch
from shared.workflows.devices.order_endings import OrderEndings
from shared.workflows.devices.order_progress import OrderProgressEvents
from shared.workflows.devices.order_results import OrderResults
from shared.workflows.devices.orders import DeviceOrders
from tests.unit.devices import ISSUER, DeviceScene, csr, registered
from tests.unit.fakes import FakeTable, Killed, Trap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.ports.rows import Step

HOST_STEPS = 2
"""Operations of the functions host for each message: it takes it, at worst by itself, and deletes it."""


async def ordered(scene: DeviceScene, *devices: str, **fields: Mapping[str, Any]) -> None:
    """Accept an order, whose lines have further fields by the name of their device."""
    await scene.orders.insert_lines(
        [
            OrderLine(
                order_id="order",
                line=index,
                state=LineState.ORDERED,
                requested_id=device,
                registration_id=device,
                enrollment_group="line",
                register_by=RegisterBy.SERVICE,
                accepted_at=scene.now,
                **fields.get(device, {}),
            )
            for index, device in enumerate(devices)
        ]
    )


async def deliver(scene: DeviceScene, lines: int) -> None:
    await scene.registrations.register(DeviceRegistration(order_id="order", line=0, lines=lines))


async def states(scene: DeviceScene) -> list[LineState]:
    return [line.state async for line in scene.orders.lines("order")]


async def in_force(scene: DeviceScene) -> set[str]:
    """Give the serial numbers in the index of what is in force."""
    entries, _ = await scene.certificates.page_in_force(ISSUER, scene.now, size=100, continuation=None)
    return {each.serial_number for each in entries}


def own_messages(scene: DeviceScene) -> list[tuple[int, timedelta | None]]:
    """Give the lines that got a message of their own, with its delay."""
    sent = [(body["data"], delay) for queue, body, delay in scene.queues.sent if queue == Queue.DEVICE_REGISTRATIONS]
    assert all(data["lines"] == 1 for data, _ in sent)
    return [(data["line"], delay) for data, delay in sent]


# --- few operations ---


class Counted:
    """Counts the calls of what it stands before."""

    def __init__(self, subject: Any, counts: Counter[str], name: str) -> None:
        self._subject, self._counts, self._name = subject, counts, name

    def __getattr__(self, method: str) -> Any:
        self._counts[f"{self._name}.{method}"] += 1
        return getattr(self._subject, method)


def counted_scene(counts: Counter[str]) -> DeviceScene:
    """Give a deployment whose operations on storage are counted."""

    def table(name: str) -> Any:
        return Counted(FakeTable(), counts, name)

    names = (
        "identities",
        "unsettled",
        "directory",
        "revocations",
        "inforce",
        "orders",
        "orderlines",
        "groups",
        "expiry",
    )
    scene = DeviceScene()
    scene.tables = {name: table(name) for name in (*names, "publickeys")}
    scene.queues = Counted(scene.queues, counts, "queues")  # type: ignore[assignment]
    scene.blobs = Counted(scene.blobs, counts, "blobs")  # type: ignore[assignment]
    return scene


async def test_a_device_takes_at_most_nine_operations_on_storage() -> None:
    """From its order to the order's end, with the host's own and the directory's: what belongs together is one write."""
    counts, devices = Counter[str](), 200
    scene = await counted_scene(counts).set_up()
    anything: Any = scene
    lists = OrderBlobs(blobs=anything.blobs, settings=anything.settings, threads=scene.computing)
    dispatch = OrderDispatch(
        orders=scene.orders,
        lists=lists,
        failures=scene.failures,
        outbox=scene.outbox,
        clock=scene.clock,
        threads=scene.computing,
    )
    orders = DeviceOrders(
        orders=scene.orders,
        groups=scene.groups_in_use,
        lists=lists,
        dispatch=dispatch,
        endings=OrderEndings(
            orders=scene.orders,
            requests=anything.requests,
            devices=scene.devices,
            failures=scene.failures,
            outbox=scene.outbox,
            clock=scene.clock,
        ),
        results=OrderResults(orders=scene.orders, blobs=anything.blobs, settings=anything.settings),
        progress=OrderProgressEvents(orders=scene.orders, outbox=scene.outbox),
        outbox=scene.outbox,
        clock=scene.clock,
    )
    counts.clear()
    body = {
        "orderId": "order",
        "enrollmentGroup": "line",
        "devices": [{"registrationId": f"d{n}"} for n in range(devices)],
    }
    await orders.advance(parse(DeviceOrder, body))
    sent = [body["data"] for queue, body, _ in list(scene.queues.sent) if queue == Queue.DEVICE_REGISTRATIONS]
    del counts["queues.sent"]  # the test's own look
    for message in sent:
        await scene.registrations.register(parse(DeviceRegistration, message))
    assert set(await states(scene)) == {LineState.REGISTERED}
    assert sum(each["lines"] for each in sent) == devices
    assert await scene.directory_upkeep.run() == devices
    per_device = (counts.total() + len(sent) * HOST_STEPS) / devices
    assert per_device <= 9, counts


async def test_a_group_is_looked_up_once_for_the_lines_of_a_message() -> None:
    """Ten lines, one look; what a line is decided by keeps the time of that look. They begin and end together."""
    counts = Counter[str]()
    scene = await counted_scene(counts).set_up()
    await ordered(scene, *(f"d{n}" for n in range(10)))
    counts.clear()
    await deliver(scene, 10)
    assert counts["groups.get"] == 1
    assert counts["orderlines.query"] == 1
    assert counts["orderlines.write_together"] == 2
    assert counts["orders.get"] == 1


async def test_several_lines_go_by_one_look_at_their_group_for_five_seconds() -> None:
    """Then it is looked up anew, and one that has been disabled takes no device."""
    scene = await DeviceScene().set_up()
    decide = scene.groups_in_use.shared()
    first = await decide("line")
    await scene.group(GroupState.DISABLED)
    scene.now += timedelta(seconds=5)
    assert await decide("line") is first
    assert first.decided_at == scene.now - timedelta(seconds=5)
    scene.now += timedelta(microseconds=1)
    with pytest.raises(Conflict, match="the enrollment group 'line' is disabled"):
        await decide("line")


async def test_a_group_that_is_disabled_while_a_message_is_worked_on_takes_no_further_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five lines are at work when it is disabled; the sixth comes to its turn later than a look at the group holds."""
    monkeypatch.setattr(places, "_LINES", 5)
    scene = await DeviceScene().set_up()
    devices = [f"d{n}" for n in range(6)]
    await ordered(scene, *devices)
    register = scene.registrar.register

    async def disabled_meanwhile(registration_id: str, credentials: Any) -> Any:
        if registration_id == "d0":
            await scene.group(GroupState.DISABLED)
            scene.now += timedelta(seconds=6)
        return await register(registration_id, credentials)

    scene.registrar.register = disabled_meanwhile  # type: ignore[method-assign]
    await deliver(scene, 6)
    assert await states(scene) == [LineState.REGISTERED] * 5 + [LineState.FAILED]
    assert scene.event("RequestRejected")["data"]["line"] == 5


# --- each line for itself ---


async def test_lines_of_a_message_end_each_in_its_way() -> None:
    """One is done, one refused, one waits for its device, one meets a fault: the last two part from the others."""
    scene = await registered(order_id="before", device="lathe")
    await ordered(scene, "press", "lathe", "drill", "saw", drill={"csr": csr("drill")})
    register = scene.registrar.register

    async def faulty(registration_id: str, credentials: Any) -> Any:
        if registration_id == "saw":
            raise RuntimeError("a fault of our own")
        return await register(registration_id, credentials)

    scene.registrar.register = faulty  # type: ignore[method-assign]
    scene.queues.sent.clear()
    await deliver(scene, 4)
    ended = [LineState.REGISTERED, LineState.FAILED, LineState.ISSUED, LineState.ISSUED]
    assert await states(scene) == ended
    assert own_messages(scene) == [(2, timedelta(seconds=2)), (3, None)]
    told = sorted(
        (body["subject"], body["type"].removeprefix("DeviceProvisioning."))
        for queue, body, _ in scene.queues.sent
        if queue == Queue.PROVISIONING_EVENTS
    )
    assert told == [
        ("drill", "CertificateIssued"),
        ("lathe", "RequestRejected"),
        ("press", "CertificateIssued"),
        ("press", "DeviceRegistered"),
        ("saw", "CertificateIssued"),
    ]
    scene.queues.sent.clear()
    await deliver(scene, 4)
    assert {body["subject"] for queue, body, _ in scene.queues.sent if queue == Queue.PROVISIONING_EVENTS} <= {"saw"}


async def test_a_worker_works_on_so_many_lines_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all its messages together; the others come to their turn as these end."""
    monkeypatch.setattr(places, "_LINES", 3)
    scene = await DeviceScene().set_up()
    await ordered(scene, *(f"d{n}" for n in range(8)))
    register, at_work, most = scene.registrar.register, 0, 0

    async def watched(registration_id: str, credentials: Any) -> Any:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        for _ in range(20):
            await asyncio.sleep(0)  # others that may come get here
        at_work -= 1
        return await register(registration_id, credentials)

    scene.registrar.register = watched  # type: ignore[method-assign]
    worker = scene.registrations
    messages = [DeviceRegistration(order_id="order", line=line, lines=4) for line in (0, 4)]
    await asyncio.gather(*map(worker.register, messages))
    assert most == 3
    assert await states(scene) == [LineState.REGISTERED] * 8


async def test_a_few_lines_are_busy_while_many_wait_for_dps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who shuts a device out meanwhile waits for the busy ones alone."""
    monkeypatch.setattr(places, "_BUSY", 2)
    scene = await DeviceScene().set_up()
    await ordered(scene, *(f"d{n}" for n in range(8)))
    register, put, waiting, busy, most = scene.registrar.register, scene.blobs.create, 0, 0, 0
    all_wait = asyncio.Event()

    async def watched(registration_id: str, credentials: Any) -> Any:
        nonlocal waiting
        waiting += 1
        if waiting == 8:
            all_wait.set()
        async with asyncio.timeout(60):
            await all_wait.wait()
        return await register(registration_id, credentials)

    async def at_work(*args: Any, **kwargs: Any) -> Any:
        nonlocal busy, most
        busy += 1
        for _ in range(20):
            await asyncio.sleep(0)
        most = max(most, busy)
        busy -= 1
        return await put(*args, **kwargs)

    scene.registrar.register = watched  # type: ignore[method-assign]
    scene.blobs.create = at_work  # type: ignore[method-assign]
    await deliver(scene, 8)
    assert most == 2
    assert await states(scene) == [LineState.REGISTERED] * 8


async def test_a_line_that_dps_has_registered_ends_though_another_one_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that does not answer holds up the lines that need it, and no others."""
    monkeypatch.setattr(places, "_BUSY", 1)
    scene = await DeviceScene().set_up()
    await ordered(scene, "press", "saw")
    register, put = scene.registrar.register, scene.blobs.create
    hangs, answered, began = asyncio.Event(), asyncio.Event(), 0

    async def devices() -> list[DeviceState]:
        found = [await scene.devices.get(each) for each in ("press", "saw")]
        return [each.record.state for each in found if each]

    async def registered_late(registration_id: str, credentials: Any) -> Any:
        if not answered.is_set():
            await hangs.wait()
        return await register(registration_id, credentials)

    async def silent(*args: Any, **kwargs: Any) -> Any:
        nonlocal began
        began += 1
        if began == 2:
            hangs.set()
            async with asyncio.timeout(60):
                while DeviceState.REGISTERED not in await devices():  # noqa: ASYNC110 - nothing tells when that is
                    await asyncio.sleep(0)
            answered.set()
        return await put(*args, **kwargs)

    scene.registrar.register = registered_late  # type: ignore[method-assign]
    scene.blobs.create = silent  # type: ignore[method-assign]
    await deliver(scene, 2)
    assert await states(scene) == [LineState.REGISTERED] * 2


async def test_no_line_begins_while_a_device_is_shut_out() -> None:
    """The worker's lines would come between any two steps of the revocation."""
    scene = await DeviceScene().set_up()
    await ordered(scene, "press", "saw")
    with scene.registrations.places.shutting_out():
        with scene.registrations.places.shutting_out():
            message = asyncio.create_task(deliver(scene, 2))
        for _ in range(200):
            await asyncio.sleep(0)  # others that may come get here
        assert await states(scene) == [LineState.ORDERED] * 2
    await message
    assert await states(scene) == [LineState.REGISTERED] * 2


async def test_lines_go_on_in_time_though_devices_are_shut_out_all_the_while() -> None:
    """A group of many devices takes minutes, and orders of other groups have waited long enough before that."""
    scene = await DeviceScene().set_up()
    await ordered(scene, "press")
    scene.registrations.places.patience = 0.001
    with scene.registrations.places.shutting_out():
        await deliver(scene, 1)
    assert await states(scene) == [LineState.REGISTERED]


async def test_a_revocation_keeps_lines_from_beginning_until_its_doors_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = await DeviceScene().set_up()
    await ordered(scene, "press", "saw")
    await deliver(scene, 1)
    shut_out, message = scene.provisioning.shut_out, list[asyncio.Task[None]]()

    async def watched(*args: Any, **kwargs: Any) -> Any:
        message.append(asyncio.create_task(deliver(scene, 2)))
        for _ in range(200):
            await asyncio.sleep(0)
        assert (await states(scene))[1] is LineState.ORDERED
        return await shut_out(*args, **kwargs)

    monkeypatch.setattr(scene.provisioning, "shut_out", watched)
    await scene.revocations.carry_out(
        RevocationRequest(request_id="r", registration_id="press", reason=RevocationReason.KEY_COMPROMISE)
    )
    await message[0]
    assert (await states(scene))[1] is LineState.REGISTERED


async def test_a_message_of_lines_that_do_not_exist_is_refused() -> None:
    """With the order and the line that it names."""
    scene = await DeviceScene().set_up()
    with pytest.raises(NotFound, match="order 'order' has no line 0"):
        await deliver(scene, 10)


async def test_a_message_whose_lines_all_wait_comes_again_as_it_is() -> None:
    """After the shortest wait of its lines, and none of them gets a message of its own."""
    scene = await DeviceScene().set_up()
    requests = {device: {"csr": csr(device)} for device in ("press", "lathe")}
    await ordered(scene, *requests, **requests)
    with pytest.raises(Deferred, match="has not registered with its certificate yet") as caught:
        await deliver(scene, 2)
    assert caught.value.retry_after == timedelta(seconds=2)
    scene.boot(await scene.certificate(1, "lathe"), "lathe")
    with pytest.raises(Deferred, match="'press' has not registered"):
        await deliver(scene, 2)
    assert await states(scene) == [LineState.ISSUED, LineState.REGISTERED]
    assert own_messages(scene) == []


async def test_what_fails_for_all_lines_is_raised_as_it_is() -> None:
    """A service that is down is no line's fault: the message waits as a whole, and is seen to be an outage."""
    scene = await DeviceScene().set_up()

    async def down(*_args: Any) -> Any:
        raise ConnectionError("DPS is down")

    scene.registrar.register, register = down, scene.registrar.register  # type: ignore[method-assign, assignment]
    await ordered(scene, "press", "lathe")
    with pytest.raises(ConnectionError, match="DPS is down"):
        await deliver(scene, 2)
    assert own_messages(scene) == []
    scene.registrar.register = register  # type: ignore[method-assign]
    await deliver(scene, 2)
    assert await states(scene) == [LineState.REGISTERED] * 2


async def test_a_message_that_is_killed_anywhere_is_finished_by_its_next_delivery() -> None:
    """Killed at each write: every device ends with one certificate in force, and each of its events says one thing."""
    devices, killed_at, trap = ("press", "lathe", "drill"), 0, Trap()
    while trap.steps >= killed_at:
        killed_at += 1
        scene, trap = await DeviceScene().set_up(), Trap(after=killed_at)
        await ordered(scene, *devices)
        scene.rows.step = scene.in_force.step = scene.queues.step = trap.step
        for table in (scene.orders._lines, scene.expiry._table):  # noqa: SLF001 - every write is a step
            table.step = trap.step  # type: ignore[attr-defined]
        try:
            await deliver(scene, 3)
        except Killed:
            await deliver(scene, 3)
        what = f"killed at write {killed_at}"
        assert await states(scene) == [LineState.REGISTERED] * 3, what
        for device in devices:
            states_of = await scene.states(device)
            assert states_of.count(CertificateState.ACTIVE) == 1, what
            assert CertificateState.RESERVED not in states_of, what
            assert await scene.admitted(device) == [len(states_of)], what
        in_force = {key for _, key in scene.in_force.rows}
        assert {(await scene.serials(device))[-1] for device in devices} <= in_force, what
        said = {(body["id"], str(body["data"])) for _, body, _ in scene.queues.sent}
        assert len({event for event, _ in said}) == len(said) == 6, what
    assert killed_at > 15


async def test_a_line_that_was_changed_while_its_message_was_worked_on_is_closed() -> None:
    """The transaction that closes the message's lines meets a line of another version: each is closed by itself."""
    scene = await DeviceScene().set_up()
    await ordered(scene, "press", "lathe")
    lines = scene.orders._lines  # noqa: SLF001 - somebody else writes before the transaction
    write = lines.write_together

    async def changed_before(steps: Sequence[Step]) -> Any:
        known = await scene.orders.get_line("order", 0)
        assert known is not None
        await scene.orders.replace_line(known, known.record.changed(reasons=({"field": "", "message": "waits"},)))
        return await write(steps)

    lines.write_together = changed_before  # type: ignore[method-assign]
    await deliver(scene, 2)
    assert await states(scene) == [LineState.REGISTERED] * 2
    assert (await scene.line()).reasons is None


# --- devices that are new, and those that are not ---


async def test_a_device_that_proves_to_be_known_leaves_nothing_in_the_index() -> None:
    """It is taken for new, so a serial number is drawn for it; nothing is recorded or signed under that."""
    scene = await registered()
    await scene.order("again")
    assert [key for _, key in scene.in_force.rows] == await scene.serials()
    assert await scene.certificates.count_in_force(ISSUER, scene.now, limit=10) == 1


async def test_serial_numbers_that_no_device_needed_leave_the_index_together() -> None:
    """They are drawn for all devices of a message at once: one can't be had, and one has a validity that is too long."""
    counts = Counter[str]()
    scene = await counted_scene(counts).set_up()
    await scene.order("before", "lathe")
    await ordered(scene, "press", "lathe", "drill", drill={"validity_days": 36_000})
    counts.clear()
    await deliver(scene, 3)
    assert await states(scene) == [LineState.REGISTERED, LineState.FAILED, LineState.FAILED]
    assert await in_force(scene) == {*await scene.serials("press"), *await scene.serials("lathe")}
    assert {name: count for name, count in counts.items() if name.startswith("inforce")} == {
        "inforce.write_together": 2,
        "inforce.page": 1,
    }


async def test_a_number_that_was_drawn_for_a_former_ca_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group has got another CA while a line waited for its turn: its certificate is entered with that one."""
    monkeypatch.setattr(places, "_LINES", 1)
    scene = await DeviceScene().set_up()
    await ordered(scene, "press", "lathe")
    register = scene.registrar.register

    async def rolled_meanwhile(registration_id: str, credentials: Any) -> Any:
        if registration_id == "press":
            await scene.group(GroupState.ENABLED, issuer="line-1-ca2")
            scene.now += timedelta(seconds=6)
        return await register(registration_id, credentials)

    scene.registrar.register = rolled_meanwhile  # type: ignore[method-assign]
    await deliver(scene, 2)
    assert await states(scene) == [LineState.REGISTERED] * 2
    [first], [second] = await scene.serials("press"), await scene.serials("lathe")
    assert set(scene.in_force.rows) == {(ISSUER, first), ("line-1-ca2", second)}


async def test_a_certificate_stays_in_the_index_until_it_has_ended() -> None:
    """Its number is drawn before its life begins, by the time that its message takes at most."""
    scene = await registered()
    [row] = scene.in_force.rows.values()
    certificate = await scene.certificate(1)
    assert row.values["until"] - certificate.not_valid_after_utc >= timedelta(minutes=10)


async def test_a_key_that_was_made_here_is_its_device_s_from_when_it_is_handed_out() -> None:
    """Whoever has it could come with it for another device, and is refused by the device's name."""
    scene = await registered()
    content = (await scene.directory.hand_out("press", wanted="pem", caller="installer")).content
    [password] = scene.secrets.secrets.values()
    key: Any = load_pem_private_key(content[content.index(b"-----BEGIN ENCRYPTED") :], password.encode())
    await scene.order("second", "lathe", csr=csr("lathe", key=key))
    line = await scene.line("second")
    assert line.state is LineState.FAILED
    assert line.reasons is not None
    assert line.reasons[0]["message"].endswith("is that of device 'press'; each device needs a key of its own")
