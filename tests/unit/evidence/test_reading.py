"""What auditors, witnesses and installers get of the log."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.domain.witnesses import Witness, read_witnesses
from shared.errors import LogDamaged, NotFound
from shared.evidence.notes import signature_line
from shared.evidence.tiles import unbundled
from shared.evidence.trees import Span, check_consistency
from shared.evidence.verify import COSIGNATURE, Checkpoint, LogKeys, Note, Tree, VerifierKey
from shared.ports.witnesses import Cosigning, WitnessRefused
from shared.workflows.evidence.witnessing import Witnessing
from tests.unit.evidence.logs import ORIGIN, numbered
from tests.unit.evidence.stored import Place, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping


async def filled(count: int) -> tuple[Place, Worker]:
    place = Place()
    worker = place.worker()
    for start in range(0, count, 100):
        numbers = range(start, min(count, start + 100))
        await asyncio.gather(*(worker.sequencer.append(b"entry %d" % each) for each in numbers))
    return place, worker


async def test_nothing_is_there_before_anything_was_logged() -> None:
    worker = Place().worker()
    for wanted in (worker.reader.checkpoint(), worker.reader.tile("tile/0/000")):
        with pytest.raises(NotFound, match=r"^the log does not have a checkpoint yet, since nothing was logged$"):
            await wanted
    await worker.reader.check()


async def test_a_checkpoint_is_of_the_whole_log_and_signed_by_the_key_that_it_began_with() -> None:
    place, worker = await filled(5)
    record = await worker.signer.publish()
    assert (record.origin, record.size) == (ORIGIN, 5)
    assert Checkpoint.opened(record.note.encode(), numbered(5).keys).tree == numbered(5).head.tree
    assert str(numbered(5).key) == record.verifier_key
    assert await worker.signer.publish() == record, "it is signed once"
    assert place.vault.signed == 1


async def test_tiles_are_served_as_the_checkpoint_has_them_and_as_it_had_them_before() -> None:
    _, worker = await filled(700)
    await worker.signer.publish()
    log = numbered(700)
    for path, size in (("tile/0/000", 256), ("tile/0/002.p/188", 188), ("tile/0/002.p/7", 7), ("tile/0/001.p/9", 9)):
        content = await worker.reader.tile(path)
        assert content == b"".join(log.path([_one(path, at)], 700)[0] for at in range(size)), path
    assert unbundled(await worker.reader.tile("tile/entries/002.p/188"))[187] == b"entry 699"
    assert unbundled(await worker.reader.tile("tile/entries/001.p/3")) == [b"entry 256", b"entry 257", b"entry 258"]
    assert len(await worker.reader.tile("tile/1/000.p/2")) == 64


def _one(path: str, at: int) -> Span:
    start = 256 * int(path[7:10]) + at
    return Span(start, start + 1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tile/0/003.p/1", "'tile/0/003.p/1' does not exist in the log's checkpoint, which has 700 entries"),
        ("tile/0/002", "'tile/0/002' does not exist in the log's checkpoint, which has 700 entries"),
        ("tile/2/000.p/1", "'tile/2/000.p/1' does not exist in the log's checkpoint, which has 700 entries"),
        ("tile/0/2", r"'tile/0/2' is not the path of a tile \(C2SP tlog-tiles\)"),
        ("tile/../head", r"'tile/../head' is not the path of a tile \(C2SP tlog-tiles\)"),
    ],
)
async def test_what_the_checkpoint_does_not_have_is_not_served(path: str, message: str) -> None:
    _, worker = await filled(700)
    await worker.signer.publish()
    await worker.sequencer.append(b"not signed yet")
    with pytest.raises(NotFound, match=f"^{message}$"):
        await worker.reader.tile(path)


async def test_an_entry_that_is_not_signed_yet_is_signed_when_its_proof_is_wanted() -> None:
    place, worker = await filled(300)
    for index in (0, 255, 256, 299):
        proof = await worker.reader.proof(index)
        assert proof.entry == b"entry %d" % index
        assert proof.check(await place.keys()).tree.size == 300
    assert place.vault.signed == 1


async def test_a_proof_of_what_the_log_does_not_have_is_refused() -> None:
    _, worker = await filled(3)
    with pytest.raises(LogDamaged, match=r"^entry 3 was logged, and the log has 3 entries$"):
        await worker.reader.proof(3)


# --- witnesses ---


@dataclass
class FakeWitness:
    """A witness as C2SP tlog-witness has it: it signs what continues what it has seen.

    Attributes:
        seen: the tree that it signed last.
        signed_by: ids of the keys that have signed what it was sent last.
    """

    log: VerifierKey
    name: str = "witness.example/w1"
    seen: Tree = field(default_factory=lambda: Tree(0, b""))
    down: bool = False
    asked: int = 0
    signed_by: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._secret = Ed25519PrivateKey.from_private_bytes(self.name.encode().ljust(32)[:32])
        self.key = VerifierKey.of(self.name, COSIGNATURE, self._secret.public_key().public_bytes_raw())

    @property
    def trusted(self) -> Witness:
        return Witness(self.key, f"https://{self.name}")

    async def add_checkpoint(self, url: str, body: bytes) -> Cosigning:
        assert url == f"https://{self.name}"
        self.asked += 1
        if self.down:
            raise WitnessRefused(f"{url} can't be reached: no")
        head, _, note = body.decode().partition("\n\n")
        old, *proof = head.split("\n")
        tree = Checkpoint.opened(note.encode(), LogKeys({self.log: None})).tree
        self.signed_by = [key_id for _, key_id, _ in Note.read(note.encode()).signatures]
        if old != f"old {self.seen.size}":
            return Cosigning(size=self.seen.size)
        if self.seen.size:
            check_consistency(self.seen, tree, [base64.b64decode(each) for each in proof if each])
        self.seen = tree
        text = Note.read(note.encode()).text
        signed = (7).to_bytes(8) + self._secret.sign(f"cosignature/v1\ntime 7\n{text}".encode())
        return Cosigning(lines=signature_line(self.key, signed))


def witnessing(place: Place, *witnesses: FakeWitness) -> Witnessing:
    by_url: Mapping[str, FakeWitness] = {each.trusted.url: each for each in witnesses}

    class Reached:
        async def add_checkpoint(self, url: str, body: bytes) -> Cosigning:
            return await by_url[url].add_checkpoint(url, body)

    return Witnessing(
        storage=place.storage,
        checkpoints=place.checkpoints,
        witnesses=Reached(),
        trusted=[each.trusted for each in witnesses],
    )


async def test_witnesses_sign_each_checkpoint_and_stand_in_it_and_in_proofs() -> None:
    place, worker = await filled(3)
    await worker.signer.publish()
    first, second = FakeWitness(await place.key()), FakeWitness(await place.key(), "witness.example/w2")
    collected = witnessing(place, first, second)
    assert await collected.run() == 2
    assert await collected.run() == 0, "they have signed it"
    record = await worker.reader.checkpoint()
    opened = Checkpoint.opened(record.note.encode(), await place.keys(), [first.key, second.key], needed=2)
    assert opened.witnesses == ("witness.example/w1", "witness.example/w2")
    for number in range(3, 9):
        await worker.sequencer.append(b"entry %d" % number)
    await worker.signer.publish()
    assert (await worker.reader.proof(2)).check(await place.keys(), [first.key], needed=1).tree.size == 3
    assert (await worker.reader.proof(7)).check(await place.keys(), [first.key]).witnesses == ()
    assert await collected.run() == 2
    assert (first.seen.size, first.asked) == (9, 2)
    assert first.signed_by == [(await place.key()).key_id], "no signature of the other witness goes along"
    assert (await worker.reader.proof(7)).check(await place.keys(), [first.key], needed=1).tree.size == 9


async def test_a_witness_that_does_not_answer_holds_up_no_other_one() -> None:
    place, worker = await filled(3)
    await worker.signer.publish()
    first, second = FakeWitness(await place.key()), FakeWitness(await place.key(), "witness.example/w2")
    first.down = True
    assert await witnessing(place, first, second).run() == 1
    first.down = False
    assert await witnessing(place, first, second).run() == 1
    record = await worker.reader.checkpoint()
    Checkpoint.opened(record.note.encode(), await place.keys(), [first.key, second.key], needed=2)


async def test_a_witness_that_has_seen_another_size_is_asked_again_with_a_proof_from_there() -> None:
    place, worker = await filled(5)
    await worker.signer.publish()
    witness = FakeWitness(await place.key())
    witness.seen = await place.storage.tree(await place.head(), 2)
    assert await witnessing(place, witness).run() == 1
    assert (witness.seen.size, witness.asked) == (5, 2)


async def test_a_witness_that_has_seen_more_than_there_is_does_not_sign(caplog: pytest.LogCaptureFixture) -> None:
    place, worker = await filled(5)
    await worker.signer.publish()
    witness = FakeWitness(await place.key())
    witness.seen = Tree(9, bytes(32))
    assert await witnessing(place, witness).run() == 0
    assert "the witness has seen 9 entries of this log, which has 5" in caplog.text


async def test_a_signature_that_is_not_the_witness_s_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    place, worker = await filled(5)
    await worker.signer.publish()
    witness, other = FakeWitness(await place.key()), FakeWitness(await place.key(), "witness.example/w2")
    forging = Witnessing(
        storage=place.storage,
        checkpoints=place.checkpoints,
        witnesses=other,
        trusted=[Witness(witness.key, other.trusted.url)],
    )
    assert await forging.run() == 0
    assert "witness.example/w1 has answered without its signature" in caplog.text


def test_witnesses_are_read_from_a_setting() -> None:
    key = VerifierKey.of(
        "w.example/1", COSIGNATURE, Ed25519PrivateKey.from_private_bytes(b"w" * 32).public_key().public_bytes_raw()
    )
    assert read_witnesses(f"{key} https://w.example/ ; ") == (Witness(key, "https://w.example"),)
    assert [each.url for each in read_witnesses(f"{key} http://localhost:8080/X;{key} https://w.example/w1/")] == [
        "http://localhost:8080/X",
        "https://w.example/w1",
    ]
    with pytest.raises(ValueError, match=r"has '.*example/\?a=b'; an entry is a key and a URL"):
        read_witnesses(f"{key} https://w.example/?a=b")
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - what it says is looked at
        read_witnesses(f"{key}; nothing https://w.example; {numbered(1).key} https://w.example; {key} ftp://w.example")
    assert refused.value.args == (
        f"has '{key}'; an entry is a key and a URL, with a blank between them",
        "has 'nothing https://w.example': 'nothing' is not a verifier key: name+id+key is needed",
        "has the key of 'example.com/log' of type 0x02; a witness has one of type 0x04",
        f"has '{key} ftp://w.example'; an entry is a key and a URL, with a blank between them",
    )
