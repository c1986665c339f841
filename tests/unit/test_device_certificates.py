"""The commit point: one certificate per cause, whoever comes first and whatever gets lost; and bundles, handed out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from shared.domain import issuance
from shared.domain.certificates import DECISION_HOLDS, CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.held_certificates import Purpose
from shared.domain.orders import LineState
from shared.domain.words import DeviceState, RegisterBy
from shared.errors import Conflict, Deferred, Gone, NotFound, Overtaken, Rejected
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.public_keys import fingerprint
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.ports.blobs import StoredBlob
from shared.workflows.authorities.claims import claim_key
from shared.workflows.devices.wanted_certificates import (
    Acts,
    Decision,
    DeviceCertificateRequest,
    IssuedCertificate,
)
from tests.pki.hierarchy import NOW
from tests.unit.devices import COMPROMISE, HOLD, ISSUER, DeviceScene, csr, registered, renewed_from
from tests.unit.fakes import FakeBlobs, FakeTable, Killed, kill

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Mapping, Sequence
    from datetime import datetime

    from shared.ledger.table import Versioned
    from shared.ports.rows import Step
    from tests.world.storage import Row

ABANDONED, ACTIVE = CertificateState.ABANDONED, CertificateState.ACTIVE
SHARED = generate_key(KeyAlgorithm.EC_P256)
RESERVED, REVOKED = CertificateState.RESERVED, CertificateState.REVOKED


@dataclass
class ReadBefore(FakeBlobs):
    """Blobs that were read before somebody else changed them; later reads see that."""

    before: StoredBlob | None = None

    async def get(self, container: str, name: str) -> StoredBlob | None:
        read, self.before = self.before, None
        return read or await super().get(container, name)


async def issue(
    scene: DeviceScene,
    *,
    device: str = "press",
    order: str = "order",
    decided_at: datetime | None = None,
    **fields: Any,
) -> tuple[Versioned[DeviceRecord], IssuedCertificate]:
    """Issue a certificate as an order's line does, and stop there."""

    async def decide() -> Decision:
        return Decision(issuer=ISSUER, decided_at=decided_at)

    request = DeviceCertificateRequest(
        registration_id=device,
        issuer=decide,
        purpose=Purpose.ORDER,
        cause=order,
        validity=timedelta(days=365),
        **fields,
    )
    ordered = DeviceRecord(
        registration_id=device, state=DeviceState.ORDERED, order_id=order, updated_at=scene.now, registers_itself=True
    )
    take = partial(issuance.ordered, wanted=ordered, field="name")
    return await scene.issuing.issue(request, Acts(take=take, commit=partial(issuance.issued, at=scene.now)))


async def test_a_certificate_is_the_device_s_when_it_is_committed() -> None:
    """One signature, one active certificate, one password; the bundle's key opens with it."""
    scene = DeviceScene()
    device, issued = await issue(scene)
    assert await scene.states() == [ACTIVE]
    assert issued.credentials is not None
    assert list(scene.secrets.secrets.values()) == [issued.credentials.password]
    assert issued.bundle.pfx is not None
    serial = issued.bundle.summary.serial_number
    assert list(scene.blobs.blobs) == [("bundles", f"press/{serial}.json")]
    assert device.record.bundle == f"press/{serial}.json"
    known = await scene.certificates.get(serial)
    assert known is not None
    assert known.record.pem == names.pem(issued.bundle.certificate)
    assert known.record.not_after == issued.bundle.certificate.not_valid_after_utc


async def test_a_serial_number_begins_with_its_device_s_partition() -> None:
    """So a certificate is found by it alone, in the partition in which it changes together with its device."""
    scene = DeviceScene()
    _, issued = await issue(scene)
    [partition] = {partition for partition, _ in scene.rows.rows}
    assert issued.bundle.summary.serial_number.startswith(partition)
    assert len(issued.bundle.summary.serial_number) == 40
    assert 0x4000 <= int(partition, 16) < 0x8000


async def test_a_certificate_is_in_force_from_before_it_is_signed() -> None:
    """A worker that is held up before it signs stands in the index of the CA already."""
    scene = DeviceScene()
    signing, seen = scene.authorities.signing, list[Any]()

    async def look(*args: Any) -> Any:
        seen.extend(scene.in_force.rows)
        return await signing(*args)

    scene.authorities.signing = look
    _, issued = await issue(scene)
    assert seen == [(ISSUER, issued.bundle.summary.serial_number)]
    assert await scene.certificates.any_in_force(ISSUER, scene.now)


async def test_what_is_about_to_be_recorded_stays_in_the_index() -> None:
    """Whoever looks between the index and the record takes nothing out of it."""
    scene = DeviceScene()
    insert = scene.devices.insert

    async def look(*args: Any, **named: Any) -> Any:
        assert await scene.certificates.any_in_force(ISSUER, scene.now) is False
        return await insert(*args, **named)

    scene.devices.insert = look  # type: ignore[method-assign]
    await issue(scene)
    assert await scene.certificates.any_in_force(ISSUER, scene.now) is True


async def test_nothing_is_signed_by_a_decision_that_may_be_outdated() -> None:
    """Too long after the group's CA was looked up the attempt begins anew, before anything is signed."""
    scene = DeviceScene()
    with pytest.raises(Deferred, match="took too long to prepare; its issuing CA is looked up anew"):
        await issue(scene, decided_at=scene.now - DECISION_HOLDS - timedelta(seconds=1))
    assert await scene.states() == [RESERVED]
    await issue(scene, decided_at=scene.now - DECISION_HOLDS)
    assert await scene.states() == [ABANDONED, ACTIVE]


async def test_who_comes_second_takes_what_the_first_committed() -> None:
    """Two workers on the same line end with one certificate, and nothing is signed for the second."""
    scene = DeviceScene()
    _, first = await issue(scene)
    _, second = await issue(scene)
    assert second.bundle.certificate == first.bundle.certificate
    assert second.credentials == first.credentials
    assert await scene.states() == [ACTIVE]


@pytest.mark.parametrize("reached", ["insert", "signed", "stored"])
async def test_two_workers_at_once_end_with_one_certificate(reached: str) -> None:
    """One overtakes the other at any point: one certificate is active, the other accounted for, one bundle is left."""
    scene = DeviceScene()
    others = list[Any]()

    async def overtake() -> None:
        if not others:
            others.append(None)
            others.append(await issue(scene))

    insert, create, signing = scene.devices.insert, scene.blobs.create, scene.authorities.signing

    async def insert_late(*args: Any, **named: Any) -> Any:
        if reached == "insert":
            await overtake()
        return await insert(*args, **named)

    async def sign_and_wait(*args: Any) -> Any:
        signed = await signing(*args)
        if reached == "signed":
            await overtake()
        return signed

    async def store_and_wait(*args: Any, **named: Any) -> Any:
        made = await create(*args, **named)
        if reached == "stored":
            await overtake()
        return made

    scene.devices.insert, scene.blobs.create = insert_late, store_and_wait  # type: ignore[method-assign]
    scene.authorities.signing = sign_and_wait
    try:
        _, issued = await issue(scene)
    except Overtaken:
        _, issued = await issue(scene)
    assert issued.bundle.certificate == others[1][1].bundle.certificate
    assert (await scene.states()).count(ACTIVE) == 1
    assert RESERVED not in await scene.states()
    serial = issued.bundle.summary.serial_number
    assert list(scene.blobs.blobs) == [("bundles", f"press/{serial}.json")]
    assert (await scene.record()).bundle == f"press/{serial}.json"
    signed = [row.values["state"] for (_, key), row in scene.rows.rows.items() if key.startswith("c:")]
    assert set(signed) <= {ACTIVE, ABANDONED}


@pytest.mark.parametrize("lost", ["blob", "commit"])
async def test_a_lost_answer_does_not_abandon_the_certificate(lost: str) -> None:
    """When something was written and the answer got lost, what was written counts."""
    scene = DeviceScene()
    if lost == "blob":
        scene.blobs.lose_answer = True
    else:
        write = scene.rows.write_together

        async def into_the_void(steps: Any) -> Any:
            await write(steps)

        scene.rows.write_together = into_the_void  # type: ignore[method-assign]
    _, issued = await issue(scene)
    assert await scene.states() == [ACTIVE]
    assert issued.credentials is not None


async def test_a_commit_whose_answer_got_lost_and_that_others_have_written_over_counts() -> None:
    """The device has the certificate; somebody else has changed its record since: the bundle stays."""
    scene = DeviceScene()
    replace = scene.devices.replace

    async def lost(known: Any, record: DeviceRecord, **named: Any) -> Any:
        replaced = await replace(known, record, **named)
        if record.state is DeviceState.ISSUED:
            scene.devices.replace = replace  # type: ignore[method-assign]
            await replace(replaced, replaced.record.noted(scene.now, "by others"))
            return await replace(replaced, record)  # as the SDK's second try
        return replaced

    scene.devices.replace = lost  # type: ignore[method-assign]
    _, issued = await issue(scene)
    assert await scene.states() == [ACTIVE]
    assert list(scene.blobs.blobs) == [("bundles", f"press/{issued.bundle.summary.serial_number}.json")]


async def test_a_device_that_others_keep_changing_gets_its_certificate_by_the_next_delivery() -> None:
    """It was signed and stored: the next attempt commits that one, and signs nothing."""
    scene = DeviceScene()
    replace, late = scene.devices.replace, [0]

    async def changed(known: Any, record: DeviceRecord, **named: Any) -> Any:
        if record.state is DeviceState.ISSUED:
            late[0] += 1
            raise Stale("press")
        return await replace(known, record, **named)

    scene.devices.replace = changed  # type: ignore[method-assign]
    with pytest.raises(Overtaken, match=r"^'press' is being changed by others$"):
        await issue(scene)
    assert late[0] > 1
    (serial,) = await scene.serials()
    assert list(scene.blobs.blobs) == [("bundles", f"press/{serial}.json")]
    scene.devices.replace = replace  # type: ignore[method-assign]
    _, issued = await issue(scene)
    assert names.serial_text(issued.bundle.certificate.serial_number) == serial
    assert (await scene.serials(), await scene.states()) == ([serial], [ACTIVE])


async def test_what_was_broken_off_is_carried_on() -> None:
    """An attempt that was killed after it had stored its bundle is committed by the next one, which signs nothing."""
    scene = DeviceScene()
    kill(scene.blobs, "create", when="lost")
    with pytest.raises(ConnectionError):
        await issue(scene)
    [(_, name)] = scene.blobs.blobs
    device, issued = await issue(scene)
    assert device.record.bundle == name
    assert await scene.states() == [ACTIVE]
    assert issued.credentials is not None


async def test_what_was_broken_off_too_long_ago_is_made_anew() -> None:
    """After a day it counts as never signed, and its CA may have been retired since: it is given up, with its bundle."""
    scene = DeviceScene()
    kill(scene.blobs, "create", when="lost")
    with pytest.raises(ConnectionError):
        await issue(scene)
    [old] = await scene.serials()
    scene.now += timedelta(days=1, seconds=1)
    _, issued = await issue(scene)
    assert await scene.serials() == [issued.bundle.summary.serial_number] != [old]
    known = await scene.certificates.get(old)
    assert known is not None
    assert known.record.state is ABANDONED
    assert list(scene.blobs.blobs) == [("bundles", f"press/{issued.bundle.summary.serial_number}.json")]


# --- keys ---


async def test_two_devices_do_not_share_a_key() -> None:
    """The key of one device is refused for another, by the device's name; a renewal may keep it."""
    scene = await DeviceScene().set_up()
    key = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(Deferred):
        await scene.order("first", csr=csr(key=key))
    await scene.order("second", "lathe", csr=csr("lathe", key=key))
    line = await scene.line("second")
    assert line.state is LineState.FAILED
    assert line.reasons is not None
    assert line.reasons[0]["field"] == "devices[0].csr"
    assert line.reasons[0]["message"].endswith("is that of device 'press'; each device needs a key of its own")
    scene.boot(await scene.certificate(1))
    await scene.deliver("first")
    await scene.renewing(csr=csr(key=key))
    assert await scene.states() == [ACTIVE, ACTIVE]


@dataclass
class SteppedTable(FakeTable):
    """A table whose callers give way to others before each step."""

    async def get(self, partition: str, row: str) -> Row | None:
        await turn()
        return await super().get(partition, row)

    async def insert(self, values: Mapping[str, Any]) -> str | None:
        await turn()
        return await super().insert(values)

    async def replace(self, values: Mapping[str, Any], etag: str) -> str | None:
        await turn()
        return await super().replace(values, etag)

    async def write_together(self, steps: Sequence[Step]) -> list[str] | None:
        await turn()
        return await super().write_together(steps)


@coroutine
def turn() -> Generator[None]:
    """Let another coroutine have its turn."""
    yield


def steps_of(running: Coroutine[Any, Any, str], limit: int | None = None) -> str | None:
    """Let a coroutine take so many steps, or all; give its outcome when it has ended."""
    try:
        while limit is None or (limit := limit - 1) >= 0:
            running.send(None)
    except StopIteration as ended:
        return str(ended.value)
    return None


async def issued_with(scene: DeviceScene, device: str, request: str) -> str:
    """Have a certificate issued, as often as it takes, and tell what came of it."""
    for _ in range(5):
        try:
            await issue(scene, device=device, order=device, csr=request)
        except Overtaken:
            continue
        except Rejected:
            return "refused"
        return "issued"
    return "never done"


@pytest.mark.parametrize("first_steps", range(1, 16))
@pytest.mark.parametrize("second_steps", range(1, 16))
def test_two_devices_that_come_at_once_with_one_key_do_not_share_it(first_steps: int, second_steps: int) -> None:
    """Wherever the second comes in between, and the first again: one of them gets a certificate."""
    assert together(DeviceScene(rows=SteppedTable(), tables={"publickeys": SteppedTable()}), first_steps, second_steps)


@pytest.mark.parametrize("first_steps", range(1, 16))
@pytest.mark.parametrize("second_steps", range(1, 16, 3))
def test_two_devices_that_failed_before_and_come_at_once_with_one_key_do_not_share_it(
    first_steps: int, second_steps: int
) -> None:
    """The ledger knows both; a claim that is under way may still be in vain."""
    scene = DeviceScene(rows=SteppedTable(), tables={"publickeys": SteppedTable()})
    for device in ("press", "lathe"):
        steps_of(failed_before(scene, device))
    assert together(scene, first_steps, second_steps)


async def failed_before(scene: DeviceScene, device: str) -> str:
    """Have a device in the ledger that an order could not have."""
    record = DeviceRecord(registration_id=device, state=DeviceState.FAILED, order_id="before", updated_at=scene.now)
    await scene.devices.insert(record)
    return "failed"


def together(scene: DeviceScene, first_steps: int, second_steps: int) -> bool:
    """Let two devices come with one key; tell whether one of them gets a certificate, and the other one does not."""
    requests = {device: csr(device, key=SHARED) for device in ("press", "lathe")}
    first, second = (issued_with(scene, device, request) for device, request in requests.items())
    outcomes = [steps_of(first, first_steps), steps_of(second, second_steps)]
    outcomes += [outcome or steps_of(running) for outcome, running in zip(outcomes, (first, second), strict=True)]
    return sorted(outcomes[2:], key=str) == ["issued", "refused"]


@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_key_that_was_claimed_in_vain_may_be_another_s(*, is_killed: bool) -> None:
    """Its device was ordered by somebody else at that moment; the worker that loses may be killed then."""
    scene, key = await DeviceScene().set_up(), generate_key(KeyAlgorithm.EC_P256)
    insert = scene.devices.insert

    async def overtaken(record: DeviceRecord, *, reserved: Any = None) -> Versioned[DeviceRecord]:
        scene.devices.insert = insert  # type: ignore[method-assign]
        await issue(scene, order="faster")
        if is_killed:
            raise Killed
        return await insert(record, reserved=reserved)

    scene.devices.insert = overtaken  # type: ignore[method-assign]
    with pytest.raises(Killed if is_killed else Overtaken):
        await issue(scene, order="slower", csr=csr(key=key))
    with pytest.raises(Conflict, match="is issued through order 'faster'"):
        await issue(scene, order="slower", csr=csr(key=key))
    device, _ = await issue(scene, device="lathe", csr=csr("lathe", key=key))
    assert device.record.state is DeviceState.ISSUED
    with pytest.raises(Rejected, match="is that of device 'lathe'"):
        await issue(scene, device="mill", order="another", csr=csr("mill", key=key))


async def test_a_key_stays_its_device_s_where_the_worker_is_killed_before_its_claim_is_confirmed() -> None:
    """The ledger knows the device by it already, and the message of its order comes again."""
    scene, key = await DeviceScene().set_up(), generate_key(KeyAlgorithm.EC_P256)
    kill(scene.public_keys, "replace", when="before")
    with pytest.raises(Killed):
        await issue(scene, csr=csr(key=key))
    with pytest.raises(Rejected, match="is that of device 'press'"):
        await issue(scene, device="lathe", order="another", csr=csr("lathe", key=key))
    device, _ = await issue(scene, csr=csr(key=key))
    assert device.record.state is DeviceState.ISSUED


async def test_a_compromised_key_is_refused_for_every_device() -> None:
    """For the same device and for another, after the device was deleted as well."""
    scene = await DeviceScene().set_up()
    key = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(Deferred):
        await scene.order("first", csr=csr(key=key))
    await scene.revoke(COMPROMISE)
    await scene.delete()
    for order, device in (("second", "press"), ("third", "lathe")):
        await scene.order(order, device, csr=csr(device, key=key))
        reasons = (await scene.line(order)).reasons
        assert reasons is not None
        assert (
            "is compromised: a certificate with it was revoked for keyCompromise; make a new key"
            in reasons[0]["message"]
        )


async def test_a_key_of_a_ca_is_refused_for_every_device() -> None:
    """Whoever has that key could sign for all of the CA's devices."""
    scene = await DeviceScene().set_up()
    key = generate_key(KeyAlgorithm.EC_P256)
    await claim_key(scene.public_keys, scene.devices, fingerprint(key.public_key()), "line-1-ca1", NOW)
    await scene.order(csr=csr(key=key))
    reasons = (await scene.line()).reasons
    assert reasons is not None
    assert reasons[0]["message"].endswith("is that of the CA 'line-1-ca1'; each device needs a key of its own")


async def test_a_key_whose_compromise_is_not_known_everywhere_yet_is_refused() -> None:
    """The services are down when a former certificate is revoked: the device's record knows of it from then on."""
    key = generate_key(KeyAlgorithm.EC_P256)
    scene = await renewed_from(key)
    condemn = scene.public_keys.condemn

    async def down(_record: Any) -> None:
        raise ConnectionError("the table is down")

    scene.public_keys.condemn = down  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await scene.revoke(COMPROMISE, serial_number=(await scene.serials())[0])
    with pytest.raises(Rejected, match=r"csr: its public key \(SHA-256 [0-9a-f]{64}\) is compromised: a certificate"):
        await scene.renew("second", csr=csr(key=key))
    scene.public_keys.condemn = condemn  # type: ignore[method-assign]


async def test_the_key_of_a_deleted_device_may_be_another_s() -> None:
    """The same machine under a new name, whose key nobody else has."""
    scene = await DeviceScene().set_up()
    key = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(Deferred):
        await scene.order("first", csr=csr(key=key))
    await scene.delete()
    with pytest.raises(Deferred, match="'lathe' has not registered with its certificate yet"):
        await scene.order("second", "lathe", csr=csr("lathe", key=key))


# --- handing out ---


async def handed_out(scene: DeviceScene, *, wanted: str = "pem", caller: str = "erp") -> bytes:
    return (await scene.directory.hand_out("press", wanted=wanted, caller=caller)).content


async def waiting() -> DeviceScene:
    """Give a device that waits for its first boot; the service made its key."""
    scene = await DeviceScene().set_up()
    with pytest.raises(Deferred):
        await scene.order(register_by=RegisterBy.DEVICE)
    return scene


async def test_a_bundle_goes_to_one_caller_who_gets_it_again() -> None:
    """An answer may get lost: the same caller gets the same bundle, in either form, and another one is refused."""
    scene = await waiting()
    content = await handed_out(scene)
    assert b"ENCRYPTED PRIVATE KEY" in content
    assert await handed_out(scene) == content
    assert await handed_out(scene, wanted="pfx") != b""
    for wanted in ("pem", "pfx"):
        with pytest.raises(Gone, match="was handed out to another caller; renew the device to get a new key"):
            await handed_out(scene, wanted=wanted, caller="somebody else")
    notes = [entry.note for entry in (await scene.record()).history]
    assert notes.count("bundle handed out as pem") == 1


async def test_a_key_is_deleted_when_its_receipt_is_confirmed() -> None:
    """By the caller who has it and by no other; then nobody gets it."""
    scene = await waiting()
    with pytest.raises(Conflict, match="was not handed out yet, so its receipt can't be confirmed"):
        await scene.directory.confirm("press", caller="erp")
    await handed_out(scene)
    with pytest.raises(Gone, match="was handed out to another caller, who confirms its receipt"):
        await scene.directory.confirm("press", caller="somebody else")
    assert b"PRIVATE KEY" in scene.bundle()
    for _ in range(2):
        await scene.directory.confirm("press", caller="erp")
    assert b"PRIVATE KEY" not in scene.bundle()
    assert b'"pfx": null' in scene.bundle()
    with pytest.raises(Gone, match="its private key is deleted; renew the device to get a new key"):
        await handed_out(scene)


async def test_a_key_is_deleted_at_the_device_s_first_registration() -> None:
    """A device that has registered has its key."""
    scene = await waiting()
    await handed_out(scene)
    scene.boot(await scene.certificate(1))
    await scene.deliver()
    assert await scene.state() is DeviceState.REGISTERED
    assert b"PRIVATE KEY" not in scene.bundle()


async def test_a_renewed_key_is_deleted_when_the_device_uses_it() -> None:
    """The new key is handed out while the device waits for it, and goes when it has registered with it."""
    scene = await registered()
    await scene.renewing()
    await handed_out(scene)
    assert b"PRIVATE KEY" in scene.bundle()
    scene.boot(await scene.certificate(2))
    await scene.renew()
    assert b"PRIVATE KEY" not in scene.bundle()


async def test_a_key_is_not_given_again_after_the_while() -> None:
    """An hour later the same caller gets 410, even if the timer has not run yet; the key is deleted by that."""
    scene = await waiting()
    await handed_out(scene)
    scene.now += timedelta(minutes=60)
    await handed_out(scene)
    scene.now += timedelta(seconds=1)
    with pytest.raises(Gone, match="its private key is deleted"):
        await handed_out(scene)
    assert b"PRIVATE KEY" not in scene.bundle()


async def test_a_key_that_nobody_has_is_not_deleted() -> None:
    """A device that registered without its bundle having been asked for: it can still be had, by one caller."""
    scene = await registered()
    assert b"ENCRYPTED PRIVATE KEY" in await handed_out(scene)


async def test_a_hand_out_whose_answer_was_lost_is_the_caller_s() -> None:
    """When the bundle was taken and the answer got lost, the caller gets it, and no other."""
    scene = await waiting()
    scene.blobs.lose_answer = True
    assert b"ENCRYPTED PRIVATE KEY" in await handed_out(scene)
    with pytest.raises(Gone):
        await handed_out(scene, caller="somebody else")


async def test_of_two_hand_outs_at_once_one_gets_the_key() -> None:
    """Both have read the bundle, and the one that takes it second goes away without the key."""
    scene = await waiting()
    before = dict(scene.blobs.blobs)
    await handed_out(scene)
    [stored] = before.values()
    scene.blobs = ReadBefore(blobs=scene.blobs.blobs, before=stored)
    with pytest.raises(Gone, match="is being handed out to another caller"):
        await handed_out(scene, caller="somebody else")


async def test_a_bundle_is_not_handed_out_while_the_service_needs_it_or_nobody_may_have_it() -> None:
    """While the service registers the device; while it is shut out; before there is one."""
    scene = await registered()
    await scene.revoke(HOLD)
    with pytest.raises(Conflict, match="'press' is revoked, so its bundle can't be handed out"):
        await handed_out(scene)
    with pytest.raises(NotFound, match="the device 'nobody' does not exist"):
        await scene.directory.hand_out("nobody", wanted="pem", caller="erp")
    scene = await DeviceScene().set_up()

    async def unreachable(*_args: Any) -> Any:
        raise ConnectionError("DPS is down")

    scene.registrar.register = unreachable  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await scene.order()
    with pytest.raises(Deferred, match="'press' is being registered; its bundle can be fetched when that is done"):
        await handed_out(scene)


async def test_a_device_without_a_bundle_has_none_to_hand_out() -> None:
    """Before its certificate is issued, and where the bundle itself is not there (any more)."""
    scene = await registered()
    record = DeviceRecord(registration_id="lathe", state=DeviceState.ORDERED, order_id="o", updated_at=scene.now)
    await scene.devices.insert(record)
    for call in (
        scene.directory.hand_out("lathe", wanted="pem", caller="erp"),
        scene.directory.confirm("lathe", caller="erp"),
    ):
        with pytest.raises(NotFound, match=r"^'lathe' has no bundle yet; its certificate is not issued$"):
            await call
    scene.blobs.blobs.clear()
    with pytest.raises(NotFound, match=r"^this device does not have a bundle yet$"):
        await handed_out(scene)


async def test_a_key_is_deleted_though_others_write_its_bundle() -> None:
    """The bundle is read anew; if they never end, the caller confirms again a second later."""
    scene = await waiting()
    await handed_out(scene)
    scene.blobs = Contended(blobs=scene.blobs.blobs, others=1)
    await scene.directory.confirm("press", caller="erp")
    assert b"PRIVATE KEY" not in scene.bundle()
    scene = await waiting()
    await handed_out(scene)
    scene.blobs = Contended(blobs=scene.blobs.blobs, others=1000)
    with pytest.raises(Overtaken, match=r"^the bundle '.*' is being changed by others$"):
        await scene.directory.confirm("press", caller="erp")
    assert b"PRIVATE KEY" in scene.bundle()


@dataclass
class Contended(FakeBlobs):
    """Blobs that others write just before us, so many times."""

    others: int = 0

    async def replace(self, container: str, name: str, blob: StoredBlob, *, content_type: str) -> bool:
        if self.others:
            self.others -= 1
            self.blobs[container, name] = StoredBlob(
                self.blobs[container, name].content,
                self.blobs[container, name].metadata,
                self.blobs[container, name].etag + "*",
            )
        return await super().replace(container, name, blob, content_type=content_type)


async def test_the_bundle_of_a_device_with_its_own_key_can_be_had_again() -> None:
    """Without a key in it, a bundle is handed out as often as wanted and to anybody, as PEM only."""
    scene = await DeviceScene().set_up()
    with pytest.raises(Deferred):
        await scene.order(csr=csr())
    assert scene.secrets.secrets == {}
    for caller in ("erp", "somebody else"):
        content = await handed_out(scene, caller=caller)
        assert x509.load_pem_x509_certificates(content)[0] == await scene.certificate(1)
    with pytest.raises(Rejected, match="this device made its own"):
        await handed_out(scene, wanted="pfx")
