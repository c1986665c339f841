"""CRLs as they are published: for every CA that can, however the others fare."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from shared.domain.authorities import AuthorityState
from shared.domain.certificates import RevocationRecord
from shared.domain.restores import RestoreRecord
from shared.domain.words import RevocationReason
from shared.errors import Deferred, LedgerBehind, LogDamaged, NotFound
from shared.ledger.authorities import Authorities
from shared.ledger.certificates import Certificates
from shared.ledger.epochs import EpochRows
from shared.pki.list_checks import ListError
from shared.pki.revocation_lists import build_crl
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.ports.blobs import StoredBlob
from shared.workflows.epochs import Epochs
from shared.workflows.status.revocation_lists import RevocationLists
from tests.pki.hierarchy import NOW
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeBlobs, FakeTable, Gate, Gated
from tests.world.services import Log

if TYPE_CHECKING:
    from collections.abc import Callable


async def at_once(_seconds: float) -> None:
    """Wait for nothing."""


def lists(
    scene: AuthorityScene, blobs: FakeBlobs, gate: Gate | None = None, pause: Callable[[float], Any] = at_once
) -> RevocationLists:
    """Give what one worker publishes lists with."""
    stored: Any = blobs
    issuers, certificates = scene.records, scene.certificates
    if gate is not None:
        table: Any = Gated(scene.table, gate)
        revocations: Any = Gated(scene.revocation_rows, gate)
        stored, issuers = Gated(blobs, gate), Authorities(table)
        certificates = Certificates(certificates=scene.certificate_rows, revocations=revocations, in_force=FakeTable())
    return RevocationLists(
        records=issuers,
        certificates=certificates,
        authorities=scene.worker().authorities,
        blobs=stored,
        settings=scene.settings,
        clock=scene.clock,
        pause=pause,
        log=Log(),
    )


async def revoke(scene: AuthorityScene, serial: int, issuer: str = "root") -> None:
    """Enter a revocation into the ledger."""
    record = RevocationRecord(
        serial_number=f"{serial:040x}",
        issuer=issuer,
        revoked_at=NOW,
        reason=RevocationReason.SUPERSEDED,
        not_after=NOW + timedelta(days=365),
    )
    await scene.certificates.enter_revocation(record)


def listed(blobs: FakeBlobs, issuer: str = "root") -> set[int]:
    return {entry.serial_number for entry in x509.load_der_x509_crl(blobs.blobs["crls", f"{issuer}.crl"].content)}


async def test_a_ca_that_can_not_sign_does_not_stop_the_others() -> None:
    """Every CA is tried, so that no list expires because of another; what failed is named."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    for name in ("first", "second", "third"):
        await scene.root(name)
    scene.vault.keys["first"] = generate_key(KeyAlgorithm.EC_P256)
    with pytest.raises(ExceptionGroup, match="1 of 3 CRLs were not published") as caught:
        await lists(scene, blobs).publish_all()
    assert [str(each) for each in caught.value.exceptions] == [
        "the CRL of 'first' was not published: the key of CA 'first' does not match its certificate"
    ]
    assert sorted(name for _, name in blobs.blobs) == ["second.crl", "third.crl"]


@pytest.mark.parametrize(
    ("state", "days", "is_listed"),
    [
        (AuthorityState.RETIRED, 1, True),
        (AuthorityState.REVOKED, 0, True),
        (AuthorityState.RETIRED, -1, False),
        (AuthorityState.REVOKED, -1, False),
        (AuthorityState.DISABLED, -1, True),
        (AuthorityState.ACTIVE, -1, True),
        (AuthorityState.RETIRED, None, True),
        (AuthorityState.SIGNED, 1, False),
    ],
)
async def test_a_ca_that_is_over_has_a_list_until_its_own_certificate_has_ended(
    monkeypatch: pytest.MonkeyPatch, state: AuthorityState, days: int | None, *, is_listed: bool
) -> None:
    """Whoever relies on what it has signed asks until then; one that was never opened has no list."""
    scene = AuthorityScene()
    await scene.root("root")
    known = await scene.records.get("root")
    assert known is not None
    ends = None if days is None else scene.now + timedelta(days=days)
    await scene.records.replace(known, known.record.model_copy(update={"state": state, "not_after": ends}))
    published = list[str]()

    async def publish(_self: Any, name: str, _unless: Any) -> bool:
        published.append(name)
        return True

    monkeypatch.setattr(RevocationLists, "_publish_unless", publish)
    assert await lists(scene, FakeBlobs()).publish_all() == is_listed
    assert published == ["root"] * is_listed


class DamagedLog:
    async def append(self, entry: bytes) -> int:
        del entry
        raise LogDamaged("the log was forked")


async def test_a_list_is_logged_before_it_is_published_and_published_though_the_log_was_damaged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A log that was changed by hand must not keep a revoked device in."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    log = Log()
    await revoke(scene, 6)
    assert await replace(lists(scene, blobs), log=log).publish("root")
    assert log.lists() == {sha256(blobs.blobs["crls", "root.crl"].content).hexdigest()}
    await revoke(scene, 7)
    assert await replace(lists(scene, blobs), log=DamagedLog()).publish("root")
    assert listed(blobs) == {6, 7}
    assert "is published and not logged: the log was forked" in caplog.text


async def test_a_list_is_described_as_it_reads() -> None:
    """Whoever asks whether it has changed is told when the list was made, as the CA's row says."""
    scene, blobs = AuthorityScene(now=NOW + timedelta(microseconds=987_654)), FakeBlobs()
    await scene.root("root")
    described, content = await lists(scene, blobs).read("root")
    assert await lists(scene, blobs).describe("root") == described
    crl = x509.load_der_x509_crl(content)
    assert (crl.last_update_utc, crl.next_update_utc) == (NOW - timedelta(minutes=10), described.next_update)
    assert (described.made_at, described.next_update) == (NOW, NOW + timedelta(days=7))


async def test_each_list_has_a_number_above_the_one_before() -> None:
    """Numbers grow by one with each list of a CA (RFC 5280 section 5.2.3)."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    numbers = []
    for _ in range(3):
        assert await lists(scene, blobs).publish_all() == 1
        crl = x509.load_der_x509_crl(blobs.blobs["crls", "root.crl"].content)
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == [1, 2, 3]


async def test_a_list_is_stored_as_a_list_whether_it_is_the_first_or_takes_the_place_of_one() -> None:
    """With the media type that RFC 2585 section 4.2 gives a CRL."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    for _ in range(2):
        blobs.types.clear()
        assert await lists(scene, blobs).publish_all() == 1
        assert blobs.types["crls", "root.crl"] == "application/pkix-crl"


async def test_a_burst_on_a_cold_worker_makes_one_list() -> None:
    """Of twenty-two that ask for a new CA's list at once one has it made, and all get the same."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    subject = lists(scene, blobs)
    given = await asyncio.gather(*(subject.read("root") for _ in range(22)))
    assert len({content for _, content in given}) == 1
    assert (await scene.worker().authorities.get("root")).crl_number == 1


async def test_many_revocations_at_once_make_few_lists() -> None:
    """While a list is made all others wait; one more covers whatever has changed in the meantime."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    subject = lists(scene, blobs)

    async def revoked(serial: int) -> None:
        await asyncio.sleep(0)
        await revoke(scene, serial)
        await subject.publish("root")
        assert serial in listed(blobs)

    await asyncio.gather(*(revoked(serial) for serial in range(1, 61)))
    assert listed(blobs) == set(range(1, 61))
    assert (await scene.worker().authorities.get("root")).crl_number <= 3


async def test_what_is_on_the_list_makes_no_other_one() -> None:
    """A revocation whose message comes again finds its entry published; the daily list is made all the same."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    await revoke(scene, 7)
    for expected in (1, 1):
        assert await lists(scene, blobs).publish("root")
        assert (await scene.worker().authorities.get("root")).crl_number == expected
    assert await lists(scene, blobs).publish_all() == 1
    assert (await scene.worker().authorities.get("root")).crl_number == 2


async def check_published(scene: AuthorityScene, blobs: FakeBlobs, *serials: int) -> None:
    """See that the list, the CA's row and the ledger agree, and nobody is at it."""
    record = await scene.worker().authorities.get("root")
    crl = x509.load_der_x509_crl(blobs.blobs["crls", "root.crl"].content)
    assert listed(blobs) == set(serials)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == record.crl_number
    assert record.list_making is None
    assert await scene.certificates.changes("root") == []


async def test_two_workers_make_a_list_one_after_the_other() -> None:
    """Whichever step one stands at, the other one waits for its end; then all that has changed is on the list."""
    for step in count(1):
        scene, blobs, gate = AuthorityScene(), FakeBlobs(), Gate(step)
        await scene.root("root")
        await revoke(scene, 1)
        first = asyncio.create_task(lists(scene, blobs, gate).publish("root"))
        standing = asyncio.create_task(gate.reached.wait())
        await asyncio.wait((first, standing), return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            standing.cancel()
            assert step > 8
            return
        await revoke(scene, 2)

        async def let_go(_seconds: float, gate: Gate = gate, first: asyncio.Task[bool] = first) -> None:
            gate.opened.set()
            await first

        assert await lists(scene, blobs, pause=let_go).publish("root")
        assert listed(blobs) == {1, 2}
        gate.opened.set()
        assert await first
        await check_published(scene, blobs, 1, 2)
        assert (await scene.worker().authorities.get("root")).crl_number <= 2


async def test_a_list_is_finished_by_others_when_its_worker_is_gone() -> None:
    """Killed at any step, it leaves nothing that keeps a later list from being right; others wait for a minute."""
    for step in count(1):
        scene, blobs, gate = AuthorityScene(), FakeBlobs(), Gate(step)
        await scene.root("root")
        await revoke(scene, 1)
        first = asyncio.create_task(lists(scene, blobs, gate).publish("root"))
        standing = asyncio.create_task(gate.reached.wait())
        await asyncio.wait((first, standing), return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            standing.cancel()
            return
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        await revoke(scene, 2)
        with suppress(Deferred):
            await lists(scene, blobs).publish("root")
        scene.now += timedelta(minutes=1)
        await lists(scene, blobs).publish("root")
        await check_published(scene, blobs, 1, 2)


async def test_who_waits_too_long_is_put_off() -> None:
    """Another worker has its minute; the message comes again later."""
    scene, blobs, gate = AuthorityScene(), FakeBlobs(), Gate(4)
    await scene.root("root")
    first = asyncio.create_task(lists(scene, blobs, gate).publish("root"))
    await gate.reached.wait()
    with pytest.raises(Deferred, match="the CRL of 'root' is being published by others"):
        await lists(scene, blobs).publish("root")
    gate.opened.set()
    assert await first


@pytest.mark.parametrize("content", [b"", b"junk"], ids=["emptied", "junk"])
async def test_a_list_that_others_have_rewritten_is_replaced(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What stands there, or in its metadata, has no say in the next list; the log tells of it."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    await revoke(scene, 1)
    await lists(scene, blobs).publish("root")
    blobs.blobs["crls", "root.crl"] = StoredBlob(content, {"thisupdate": "2999-01-01T00:00:00+00:00"}, "theirs")
    await revoke(scene, 2)
    await lists(scene, blobs).publish("root")
    await check_published(scene, blobs, 1, 2)
    assert "the list of 'root' is not the one that was published; it is replaced" in caplog.text


async def test_what_is_given_out_is_what_was_published() -> None:
    """An older list, though signed, would say that what was revoked since is good: a new one is made instead."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    await lists(scene, blobs).publish("root")
    older = blobs.blobs["crls", "root.crl"].content
    await revoke(scene, 1)
    await lists(scene, blobs).publish("root")
    for content in (older, b"", b"junk"):
        blobs.blobs["crls", "root.crl"] = StoredBlob(content, {}, "theirs")
        subject = lists(scene, blobs)
        given = await asyncio.gather(*(subject.read("root") for _ in range(3)))
        assert all(x509.load_der_x509_crl(each).get_revoked_certificate_by_serial_number(1) for _, each in given)
        assert (await lists(scene, blobs).describe("root")).etag == blobs.blobs["crls", "root.crl"].etag
    numbers = x509.load_der_x509_crl(given[0][1]).extensions.get_extension_for_class(x509.CRLNumber).value
    assert numbers.crl_number == 5


async def test_a_list_that_is_not_what_was_to_be_made_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before stays, the turn ends, and the changes are kept for the next try."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    await revoke(scene, 1)
    await lists(scene, blobs).publish("root")
    await revoke(scene, 2)
    empty = "shared.workflows.status.revocation_lists.build_crl"
    monkeypatch.setattr(empty, lambda _entries, **named: build_crl([], **named))
    with pytest.raises(ListError, match="the list has number 2 and 0 entries; it was to have 2 and 2"):
        await lists(scene, blobs).publish("root")
    assert listed(blobs) == {1}
    monkeypatch.undo()
    await lists(scene, blobs).publish("root")
    await check_published(scene, blobs, 1, 2)


async def test_a_ca_that_was_deleted_has_the_list_that_was_published_last_or_none() -> None:
    """Nobody signs for it any more; what it revoked stays revoked."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    subject = lists(scene, blobs)
    await revoke(scene, 1)
    await subject.publish("root")
    known = await scene.records.get("root")
    assert known is not None
    for state in (AuthorityState.RETIRED, AuthorityState.DELETED):
        known = await scene.records.replace(known, known.record.changed(state=state))
    await revoke(scene, 2)
    later = lists(scene, blobs)
    assert await later.publish("root") is False
    assert x509.load_der_x509_crl((await later.read("root"))[1]).get_revoked_certificate_by_serial_number(1)
    blobs.blobs.clear()
    for ask in (later.read, later.describe):
        with pytest.raises(NotFound, match=r"^'root' was deleted, and its last CRL is not kept$"):
            await ask("root")


async def test_a_list_that_changes_whenever_it_is_read_is_asked_for_again_later() -> None:
    """Nothing that was not published is given out."""

    class Restless(FakeBlobs):
        async def get(self, container: str, name: str) -> StoredBlob | None:
            found = await super().get(container, name)
            return StoredBlob(b"junk", {}, found.etag) if found and name == "root.crl" and self.is_restless else found

        is_restless = False

    scene, blobs = AuthorityScene(), Restless()
    await scene.root("root")
    await lists(scene, blobs).publish("root")
    blobs.is_restless = True
    with pytest.raises(Deferred, match=r"^the CRL of 'root' is "):
        await lists(scene, blobs).read("root")


async def later_list(scene: AuthorityScene, number: int) -> bytes:
    issuer = await scene.worker().authorities.load("root")
    return build_crl([], issuer=issuer, crl_number=number, now=NOW, next_update=NOW + timedelta(days=7))


async def test_an_older_ledger_replaces_no_list_and_the_later_one_stays_served() -> None:
    """A number is never given to two lists (RFC 5280 section 5.2.3), whoever has put the ledger back."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    subject = lists(scene, blobs)
    assert await subject.publish("root")
    blobs.blobs["crls", "root.crl"] = StoredBlob(later := await later_list(scene, 9), {}, "9")
    await revoke(scene, 7)
    with pytest.raises(LedgerBehind) as refused:
        await subject.publish("root")
    assert str(refused.value) == (
        "the ledger is older than it was: it has made 1 lists of 'root', and the one that is published has number 9; "
        "run python -m shared.restoration (docs/recover.md)"
    )
    assert (await subject.read("root"))[1] == later
    assert (await scene.worker().authorities.get("root")).crl_number == 1


async def test_a_later_list_that_the_ca_has_not_signed_holds_up_nothing() -> None:
    """Who may write blobs must not stop the lists: what the CA's key has not signed is replaced."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    subject = lists(scene, blobs)
    assert await subject.publish("root")
    forged = bytearray(await later_list(scene, 9))
    forged[-1] ^= 1
    blobs.blobs["crls", "root.crl"] = StoredBlob(bytes(forged), {}, "9")
    await revoke(scene, 7)
    assert await subject.publish("root")
    assert listed(blobs) == {7}


async def test_a_ledger_that_is_not_whole_signs_no_list_and_is_not_written() -> None:
    """What a restore has not written yet would be missing on it; and what it has written stays as the archive has it."""
    scene, blobs = AuthorityScene(), FakeBlobs()
    await scene.root("root")
    rows = EpochRows(scene.table)
    begun = RestoreRecord(archive="0" * 64, file="a", epoch=1, read_from="", begun_at=NOW, holder="h", seen_at=NOW)
    held = await rows.try_hold(None, begun)
    assert held is not None
    subject = lists(scene, blobs)
    ledger = Epochs(rows=rows, vault=None, mark="ledger-epoch", clock=lambda: scene.now)
    subject = replace(subject, authorities=replace(subject.authorities, epochs=ledger))
    signatures, before = scene.vault.signatures, deepcopy(scene.table.rows)
    with pytest.raises(LedgerBehind, match="the ledger is not whole"):
        await subject.publish("root")
    assert (scene.vault.signatures, scene.table.rows) == (signatures, before)
    assert await rows.try_end(held)
    scene.now += timedelta(seconds=6)
    assert await subject.publish("root")
