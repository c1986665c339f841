"""The log's key is changed: both sign for a time, and auditors learn the next one from the one that they trust."""

from __future__ import annotations

import asyncio
import urllib.error
from dataclasses import replace
from email.message import Message
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256

from shared.domain.checkpoints import is_log_key
from shared.errors import Conflict, Deferred, Misconfigured, NotFound
from shared.evidence import mirror, verify
from shared.evidence.leaves import announced_key, key_entry
from shared.evidence.mirror import Mirror
from shared.evidence.notes import checkpoint_text, ecdsa_key, proof_pem, signature_line, signed_note
from shared.evidence.verify import Checkpoint, LogKeys, Note, NotProved, VerifierKey, verify_bundle
from shared.ledger.checkpoints import Checkpoints
from shared.workflows.evidence.continuity import tree_of
from tests.unit.evidence.bundles import bundled
from tests.unit.evidence.logs import ORIGIN, signing_key
from tests.unit.evidence.stored import Place, Vault, Worker
from tests.unit.evidence.test_reading import FakeWitness, witnessing
from tests.world.conductor import Go

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.domain.checkpoints import CheckpointRecord

FIRST, SECOND, THIRD, STRANGE = (ecdsa_key(ORIGIN, signing_key(number).public_key()) for number in (1, 2, 3, 9))


def only(*keys: VerifierKey) -> LogKeys:
    return LogKeys(dict.fromkeys(keys))


async def filled(count: int = 5) -> tuple[Place, Worker]:
    place = Place()
    worker = place.worker()
    await fill(worker, 0, count)
    return place, worker


async def fill(worker: Worker, first: int, count: int) -> str:
    """Append entries, and give the checkpoint that has them."""
    await asyncio.gather(*(worker.sequencer.append(b"entry %d" % each) for each in range(first, first + count)))
    return (await worker.signer.publish()).note


def signers(note: str) -> list[VerifierKey]:
    return Note.read(note.encode()).signers([FIRST, SECOND, THIRD])


def signed(place_tree: Any, *numbers: int) -> bytes:
    """Sign a tree with some keys, as somebody would who has them."""
    text = checkpoint_text(ORIGIN, place_tree)
    lines = [
        signature_line(ecdsa_key(ORIGIN, signing_key(number).public_key()), _signature(number, text.encode()))
        for number in numbers
    ]
    return signed_note(text, *lines)


def _signature(number: int, text: bytes) -> bytes:
    return signing_key(number).sign(text, ec.ECDSA(SHA256()))


# --- the log ---


async def test_while_a_key_is_changed_both_sign_and_either_is_enough() -> None:
    place, worker = await filled()
    before = (await worker.signer.publish()).note
    record = await worker.keys.begin()
    assert (signers(before), signers(record.note)) == ([FIRST], [FIRST, SECOND])
    for trusted in (FIRST, SECOND):
        assert Checkpoint.opened(record.note.encode(), only(trusted)).tree.size == 6
    assert announced_key((await place.entries())[5]) == str(SECOND)
    assert record.keys_text() == f"{FIRST}\n{SECOND}\n"
    assert (await worker.keys.begin()).change == record.change, "begun again, it is the same change"
    assert len(await place.entries()) == 6


async def test_when_a_change_has_ended_the_next_key_signs_alone_and_what_was_signed_stays_good() -> None:
    place, worker = await filled()
    before = (await worker.signer.publish()).note
    during = (await worker.keys.begin()).note
    record = await worker.keys.end()
    after = await fill(worker, 5, 3)
    assert signers(after) == [SECOND]
    assert record.keys_text() == f"{SECOND}\n{FIRST} until 6\n"
    keys = LogKeys.read(record.keys_text())
    assert [Checkpoint.opened(each.encode(), keys).tree.size for each in (before, during, after)] == [5, 6, 9]
    assert await worker.reader.handover(1) == during
    for number in (0, 2):
        with pytest.raises(NotFound, match=rf"^the log's key was changed 1 time; {number} is not one of them$"):
            await worker.reader.handover(number)
    await place.worker().reader.check()


async def test_a_key_that_has_ended_signs_nothing_that_came_after_its_end() -> None:
    """Whoever steals it can't sign the log as it is."""
    place, worker = await filled()
    await worker.keys.begin()
    keys = LogKeys.read((await worker.keys.end()).keys_text())
    await fill(worker, 5, 3)
    stolen = signed((await place.head()).tree, 1)
    with pytest.raises(NotProved, match=r"^the checkpoint has 9 entries, and the key that has signed it ended before$"):
        Checkpoint.opened(stolen, keys)
    assert Checkpoint.opened(stolen, only(FIRST)).tree.size == 9, "who was not told that it has ended believes it"


async def test_a_key_is_changed_again_and_no_change_ends_that_was_not_begun() -> None:
    _, worker = await filled()
    with pytest.raises(Conflict, match=r"^no change of the log's key is under way; begin one first"):
        await worker.keys.end()
    for _ in range(2):
        await worker.keys.begin()
        record = await worker.keys.end()
    assert record.keys_text() == f"{THIRD}\n{SECOND} until 7\n{FIRST} until 6\n"
    assert record.key_id == "https://vault/keys/evidence-log-3/1"
    with pytest.raises(Conflict):
        await worker.keys.end()


async def test_a_log_without_an_entry_gets_another_key_too() -> None:
    worker = Place().worker()
    assert signers((await worker.keys.begin()).note) == [FIRST, SECOND]
    assert (await worker.keys.end()).keys_text() == f"{SECOND}\n{FIRST} until 1\n"


async def test_a_proof_that_witnesses_signed_with_a_key_that_ended_is_not_handed_out() -> None:
    """Who trusts the present key alone could not check it."""
    _, worker = await filled()
    record = await worker.signer.publish()
    known = await worker.signer.checkpoints.newest()
    await worker.signer.checkpoints.put(known, record.changed(cosigned=record.note, cosigned_size=record.size))
    assert (await worker.reader.proof(2)).check(only(FIRST)).tree.size == 5
    await worker.keys.begin()
    await worker.keys.end()
    assert (await worker.reader.proof(2)).check(only(SECOND)).tree.size == 6


@pytest.mark.parametrize("lose", [False, True], ids=["killed", "its answer lost"])
async def test_a_change_that_breaks_off_at_any_step_is_carried_on(*, lose: bool) -> None:
    """After each step another worker's timer, or who asks again, goes on; and all that was signed is good."""
    step, is_through = 0, False
    while not is_through:
        place, worker = await filled()
        notes = [(await worker.signer.publish()).note]

        async def change(worker: Worker) -> None:
            await worker.keys.begin()
            await worker.keys.end()

        place.conductor.start("a", change(place.worker()))
        is_through = await place.conductor.advance("a", step) < step
        if lose:
            await place.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
            await place.conductor.advance("a")
            assert isinstance(place.conductor.outcome("a"), ConnectionError | None)
        else:
            await place.conductor.kill("a")
        other = place.worker()
        notes.append((await other.keys.carry_on()).note)  # the timer
        record = await other.signer.publish()
        if not record.retired:
            await other.keys.begin()
            record = await other.keys.end()
        notes.append(await fill(other, 100, 2))
        assert [key for _, key in record.signing] == [str(SECOND)], step
        assert {key for key in map(announced_key, await place.entries()) if key} == {str(SECOND)}, step
        keys = LogKeys.read(record.keys_text())
        sizes = [Checkpoint.opened(note.encode(), keys).tree.size for note in notes]
        assert sizes == sorted(sizes), step
        assert signers(record.retired[0].handover) == [FIRST, SECOND], step
        await place.worker().reader.check()
        step += 1
    assert step > 10


async def test_workers_who_change_the_key_at_once_make_one_change() -> None:
    place, _ = await filled()
    workers = [place.worker() for _ in range(3)]
    await asyncio.gather(*(each.keys.begin() for each in workers), fill(place.worker(), 5, 20))
    record = await workers[0].keys.end()
    assert record.keys_text().splitlines()[0] == str(SECOND)
    assert len(record.retired) == 1
    assert {key for key in map(announced_key, await place.entries()) if key} == {str(SECOND)}


class Contended(Checkpoints):
    """Others sign between each read and write of the checkpoint, so often.

    Attributes:
        left: how many writes still come too late.
    """

    def __init__(self, place: Place, left: int) -> None:
        super().__init__(place.rows)
        self.left = left

    async def put(self, known: Any, record: CheckpointRecord) -> Any:
        if self.left > 0:
            self.left -= 1
            return None
        return await super().put(known, record)


def contended(place: Place, left: int) -> Worker:
    """Give a worker that comes too late so often, whatever it does."""
    worker = place.worker()
    checkpoints = Contended(place, left)
    worker.signer.checkpoints = checkpoints
    worker.keys = replace(worker.keys, checkpoints=checkpoints)
    return worker


@pytest.mark.parametrize("late", [1, 3])
async def test_who_comes_too_late_looks_again_and_changes_the_key_once(late: int) -> None:
    place, _ = await filled()
    begun = await contended(place, late).keys.begin()
    assert begun.change is not None
    assert signers(begun.note) == [FIRST, SECOND]
    ended = await contended(place, late).keys.end()
    assert (ended.change, len(ended.retired)) == (None, 1)
    assert {key for key in map(announced_key, await place.entries()) if key} == {str(SECOND)}
    await place.worker().reader.check()


async def test_who_always_comes_too_late_is_put_off_and_the_key_that_signs_stays() -> None:
    place, worker = await filled()
    said = r"^the log's checkpoint is being signed by others$"
    with pytest.raises(Deferred, match=said):
        await contended(place, 1000).keys.begin()
    await worker.keys.begin()
    with pytest.raises(Deferred, match=said):
        await contended(place, 1000).keys.end()
    known = await place.checkpoints.newest()
    assert known is not None
    assert signers(known.record.note) == [FIRST, SECOND]
    assert known.record.retired == ()


async def test_who_signs_while_others_keep_signing_is_put_off() -> None:
    place = Place()
    with pytest.raises(Deferred, match=r"^the log's checkpoint is being signed by others$"):
        await contended(place, 1000).signer.publish()
    assert await place.checkpoints.newest() is None


async def test_a_change_of_a_log_that_has_no_checkpoint_has_to_wait() -> None:
    place = Place()
    with pytest.raises(Deferred, match=r"^the log does not have a checkpoint yet$"):
        await place.worker().keys.end()


async def test_a_key_of_the_log_that_is_not_an_ecdsa_key_is_refused_by_name() -> None:
    """Somebody has made a key of this name in the vault: what it signed, no verifier would take."""

    class OfAnotherKind(Vault):
        async def get_or_create(self, name: str, algorithm: str) -> Any:
            key_id, _ = await super().get_or_create(name, algorithm)
            return key_id, ed25519.Ed25519PrivateKey.generate().public_key()

    place = Place()
    place.vault = OfAnotherKind(place.conductor)
    with pytest.raises(Misconfigured, match=r"^the vault's key 'evidence-log' is not an ECDSA key$"):
        await place.worker().signer.publish()
    assert await place.checkpoints.newest() is None


async def test_a_checkpoint_that_can_not_be_signed_in_a_moment_is_told_and_appending_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever appends does not wait for it; the timer tries again."""
    place, worker = await filled()
    place.conductor.down.add("tables")
    worker.signer.soon()
    worker.signer.soon()
    for _ in range(20):
        await asyncio.sleep(0)
    place.conductor.down.clear()
    assert caplog.messages == ["the log's checkpoint was not signed"]
    await fill(worker, 5, 1)
    assert (await place.head()).size == 6


async def test_witnesses_get_the_signatures_of_both_keys() -> None:
    """So they go on whichever they know, and C2SP tlog-witness has them ignore the other one."""
    place, worker = await filled()
    await worker.keys.begin()
    witness = FakeWitness(SECOND)
    assert await witnessing(place, witness).run() == 1
    assert witness.signed_by == [FIRST.key_id, SECOND.key_id]
    handover = (await worker.keys.end()).retired[0].handover
    assert [key_id for _, key_id, _ in Note.read(handover.encode()).signatures] == [FIRST.key_id, SECOND.key_id]


# --- bundles ---


def test_a_bundle_is_proved_by_whichever_key_has_signed() -> None:
    made = bundled()
    proof = made.log.inclusion(300)
    tree = tree_of(proof.checkpoint.decode())
    for numbers, trusted in (((1, 2), (FIRST,)), ((1, 2), (SECOND,)), ((2,), (FIRST, SECOND)), ((1,), (FIRST, SECOND))):
        both = verify.Proof(proof.entry, proof.index, proof.path, signed(tree, *numbers))
        verify_bundle(made.packed + proof_pem(both), only(*trusted))
        with pytest.raises(NotProved, match=r"^the checkpoint is not signed by "):
            verify_bundle(made.packed + proof_pem(both), only(THIRD))


def test_the_file_with_the_keys_has_a_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, bundle, file = bundled(), tmp_path / "bundle.pem", tmp_path / "log.key"
    bundle.write_bytes(made.pem)
    for text, said in (
        (f"{SECOND}\n\n {FIRST} until 342 \n", "proved: certificate "),
        (
            f"{SECOND}\n{FIRST} until 341\n",
            "not proved: the checkpoint has 342 entries, and the key that has signed it ended before",
        ),
        (f"{FIRST} until yesterday\n", "not proved: keys of one log are needed, a line each, as /api/log/key gives"),
        ("", "not proved: keys of one log are needed, a line each, as /api/log/key gives them"),
        (
            f"{FIRST}\nexample.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "not proved: keys of one log are needed",
        ),
        (
            f"{SECOND}\n",
            "not proved: the checkpoint is not signed by 'example.com/log' with the key " + SECOND.key_id.hex(),
        ),
    ):
        file.write_text(text)
        verify.main([str(bundle), "--log-key", str(file)])
        out, err = capsys.readouterr()
        assert (out + err).startswith(said), text


# --- mirrors ---


async def read_all(worker: Worker) -> dict[str, bytes]:
    """Give all that is served of a log, by its path."""
    record = await worker.reader.checkpoint()
    found = {"checkpoint": record.note.encode()}
    for tile in mirror.tiles_of(record.size):
        found[tile.path] = await worker.reader.tile(tile.path)
    for number, each in enumerate(record.retired, start=1):
        found[f"handover/{number}"] = each.handover.encode()
    return found


def reading(found: dict[str, bytes]) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        if path not in found:
            raise urllib.error.HTTPError(path, 404, "Not Found", Message(), None)
        return found[path]

    return read


async def test_a_mirror_learns_the_next_key_while_both_sign(tmp_path: Path) -> None:
    place, worker = await filled(300)
    copy = Mirror(tmp_path)
    copy.update(reading(await read_all(worker)), only(FIRST))
    assert copy.keys(only(FIRST)) == only(FIRST)
    await worker.keys.begin()
    copy.update(reading(await read_all(worker)), only(FIRST))
    assert copy.keys(only(FIRST)) == only(FIRST, SECOND)
    await worker.keys.end()
    await fill(worker, 300, 5)
    tree, _ = copy.update(reading(await read_all(worker)), only(FIRST))
    assert tree == (await place.head()).tree
    assert copy.keys(only(FIRST)) == LogKeys({FIRST: 301, SECOND: None})
    assert (tmp_path / "log.key").read_text() == f"{SECOND}\n{FIRST} until 301\n"


async def test_a_mirror_that_has_slept_over_changes_learns_the_keys_from_the_handovers(tmp_path: Path) -> None:
    """From the first key, and from one in the middle; nothing but the first key is trusted."""
    place, worker = await filled(300)
    Mirror(tmp_path / "a").update(reading(await read_all(worker)), only(FIRST))
    for number in range(2):
        await worker.keys.begin()
        await worker.keys.end()
        await fill(worker, 300 + 10 * number, 5)
    now = reading(await read_all(worker))
    ends = LogKeys({FIRST: 301, SECOND: 307, THIRD: None})
    for name, given in (("a", FIRST), ("b", FIRST)):
        copy = Mirror(tmp_path / name)
        assert copy.update(now, only(given))[0] == (await place.head()).tree
        assert copy.keys(only(given)) == ends, name
    copy = Mirror(tmp_path / "c")
    copy.update(now, only(SECOND))
    assert copy.keys(only(SECOND)).ends == {SECOND: 307, THIRD: None}


async def test_a_mirror_trusts_no_key_that_a_trusted_one_has_not_announced(tmp_path: Path) -> None:
    """A server that has the log and no key: it makes up keys, handovers and announcements."""
    place, worker = await filled(300)
    before = await read_all(worker)
    copy = Mirror(tmp_path)
    copy.update(reading(before), only(FIRST))
    other = Place().worker()
    await fill(other, 0, 300)
    await other.sequencer.append(key_entry(place.now, str(STRANGE)))
    await other.signer.publish()
    forged = await read_all(other)
    tree = tree_of(forged["checkpoint"].decode())
    forged["checkpoint"] = signed(tree, 9)
    for handover in (None, signed(tree, 9), before["checkpoint"]):
        answers = {**forged, **({"handover/1": handover} if handover else {})}
        with pytest.raises(NotProved, match=r"^the checkpoint is not signed by 'example.com/log' with the key "):
            copy.update(reading(answers), only(FIRST))
    assert copy.known(only(FIRST)) == tree_of(before["checkpoint"].decode())
    assert not (tmp_path / "tile/entries/001.p/45").exists()
    assert copy.keys(only(FIRST)) == only(FIRST)


async def test_a_key_that_was_stolen_after_its_end_leads_no_mirror_away(tmp_path: Path) -> None:
    _, worker = await filled(3)
    await worker.keys.begin()
    copy = Mirror(tmp_path)
    copy.update(reading(await read_all(worker)), only(FIRST))
    await worker.keys.end()
    await fill(worker, 3, 2)
    copy.update(reading(await read_all(worker)), only(FIRST))
    await fill(worker, 5, 2)
    stolen = await read_all(worker)
    tree = tree_of(stolen["checkpoint"].decode())
    stolen |= {"checkpoint": signed(tree, 1), "handover/1": signed(tree, 1, 9)}
    with pytest.raises(NotProved, match="and the key that has signed it ended before"):
        copy.update(reading(stolen), only(FIRST))


async def test_checkpoints_on_both_sides_of_a_change_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, worker = await filled(300)
    older, newer, key = tmp_path / "older", tmp_path / "newer", tmp_path / "given"
    older.write_text((await worker.signer.publish()).note)
    await worker.keys.begin()
    await worker.keys.end()
    newer.write_text(await fill(worker, 300, 5))
    copy = Mirror(tmp_path / "copy")
    copy.update(reading(await read_all(worker)), only(FIRST))
    key.write_text(f"{FIRST}\n")
    asked = ["consistency", str(older), str(newer), "--mirror", str(copy.folder), "--log-key", str(key)]
    assert mirror.main(asked) == 0
    assert capsys.readouterr().out == "consistent: the log with 306 entries begins with the one with 300\n"


# --- names ---


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("evidence-log", True),
        ("Evidence-Log-2", True),
        ("evidence-log-17", True),
        ("evidence-log-x", False),
        ("my-evidence-log", False),
    ],
)
def test_the_names_of_all_keys_of_the_log_are_kept_free(name: str, *, is_one: bool) -> None:
    assert is_log_key(name, "evidence-log") is is_one
