"""Reads the whole log, and compares it with itself and with the ledger, both ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateRecord, CertificateState
from shared.errors import LogDamaged
from shared.evidence.leaves import read_entry
from shared.evidence.tiles import ENTRIES, HEIGHT, WIDTH, Tile, split, unbundled
from shared.evidence.trees import GrowingTree, perfect_hash
from shared.evidence.verify import Checkpoint, LogKeys, NotProved, leaf_hash
from shared.pki.readable import load_certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Sequence

    from shared.domain.lost_certificates import LostCertificate
    from shared.evidence.head import Head
    from shared.evidence.verify import Tree
    from shared.ledger.checkpoints import Checkpoints
    from shared.workflows.evidence.storage import LogStorage

_NEVER_SIGNED = frozenset({CertificateState.RESERVED, CertificateState.ABANDONED})


@dataclass(slots=True, kw_only=True)
class LogAudit:
    """What the log says, read from its blobs.

    Attributes:
        logged: the hash of what was to be signed, by serial number.
        lost: certificates that are in the log alone, and that a restoration has named as lost, since when.
    """

    storage: LogStorage
    checkpoints: Checkpoints
    logged: dict[str, str] = field(default_factory=dict)
    lost: dict[str, datetime] = field(default_factory=dict)
    _trees: dict[int, Tree] = field(default_factory=dict)
    _size: int = 0
    _begun: datetime | None = None

    async def of_itself(self) -> AsyncIterator[str]:
        """Read all tiles, and give what does not fit: with each other, the head and the checkpoint."""
        try:
            head, known = (await self.storage.head()).head, await self.checkpoints.newest()
            growing, signed = GrowingTree(), known.record.size if known else 0
            async for number, entries, fault in self._bundles(head):
                if fault:
                    yield fault
                for entry in entries:
                    if growing.size == signed:
                        self._trees[signed] = growing.tree
                    growing.append(leaf_hash(entry))
                for other in self._read(number * WIDTH, entries):
                    yield other
            self._size = growing.size
            self._trees[growing.size] = growing.tree
            if growing.tree != head.tree:
                yield f"the log: its {growing.size} entries do not have the root of its head"
            if known is None:
                return
            opened = Checkpoint.opened(known.record.note.encode(), LogKeys.read(known.record.verifier_key))
            if self._trees.get(opened.tree.size) != opened.tree:
                yield f"the log: its first {opened.tree.size} entries do not have the root of its checkpoint"
        except (LogDamaged, NotProved) as error:
            yield f"the log: {error}"

    async def _bundles(self, head: Head) -> AsyncIterator[tuple[int, Sequence[bytes], str]]:
        """Read bundle by bundle, each with what is wrong with the tiles of its hashes."""
        level = list[bytes]()
        for number in range(-(-head.size // WIDTH)):
            width = min(WIDTH, head.size - number * WIDTH)
            entries = unbundled(await self.storage.tile(head, Tile(ENTRIES, number, width)))
            hashes = split(await self.storage.tile(head, Tile(0, number, width)))
            fault = "" if list(map(leaf_hash, entries)) == hashes else f"the log: tile/0 {number} is not of its entries"
            yield number, entries, fault
            if width == WIDTH:
                level.append(perfect_hash(hashes))
        async for fault in self._above(head, level):
            yield 0, (), fault

    async def _above(self, head: Head, hashes: Sequence[bytes]) -> AsyncIterator[str]:
        """Compare the tiles of the levels above with those below them."""
        for level in range(1, HEIGHT):
            for number in range(-(-len(hashes) // WIDTH)):
                below = hashes[number * WIDTH : (number + 1) * WIDTH]
                if split(await self.storage.tile(head, Tile(level, number, len(below)))) != list(below):
                    yield f"the log: tile/{level} {number} is not of the tiles below it"
            full = range(len(hashes) // WIDTH)
            hashes = [perfect_hash(hashes[number * WIDTH : (number + 1) * WIDTH]) for number in full]

    def _read(self, first: int, entries: Sequence[bytes]) -> Iterator[str]:
        for at, content in enumerate(entries, start=first):
            try:
                entry = read_entry(content)
            except ValueError:
                yield f"the log: entry {at} is not an entry"
                continue
            self._begun = self._begun or datetime.fromisoformat(entry["at"])
            if entry["type"] != "certificate":
                continue
            serial, digest = str(entry["serialNumber"]), str(entry["tbs"])
            if self.logged.setdefault(serial, digest) != digest:
                yield f"the log: entry {at} is about another certificate with the serial number {serial}"

    async def of_ledger(
        self,
        certificates: AsyncIterator[CertificateRecord],
        signed_elsewhere: Collection[str],
        named_lost: Sequence[LostCertificate],
    ) -> AsyncIterator[str]:
        """Give what the ledger has and the log has not, or in another way, and the other way round.

        Call it when :meth:`of_itself` is through. What was recorded before the log began is not in it.

        Args:
            certificates: all of the ledger.
            signed_elsewhere: serial numbers of CA certificates that were not signed here, so not logged either.
            named_lost: what restorations have named as lost. One that is in the log alone is not a fault.
        """
        missing, unlogged = set(self.logged), list[CertificateRecord]()
        async for each in certificates:
            missing.discard(each.serial_number)
            if each.state in _NEVER_SIGNED or each.pem is None or each.serial_number in signed_elsewhere:
                continue
            logged = self.logged.get(each.serial_number)
            if logged is None:
                unlogged.append(each)
            elif logged != _tbs_hash(each.pem):
                yield f"{each.serial_number}: the log has another certificate of {each.subject!r} than the ledger"
        await self._read_on()
        for each in unlogged:
            later = self._begun is None or each.recorded_at >= self._begun
            if later and each.serial_number not in self.logged:
                yield f"{each.serial_number}: the certificate of {each.subject!r} is in the ledger, and not in the log"
        self.lost = {each.serial_number: each.named_at for each in named_lost if each.serial_number in missing}
        for serial in sorted(missing - self.lost.keys()):
            yield f"{serial}: a certificate is in the log, and not in the ledger"

    def lost_told(self) -> str | None:
        """Say how many certificates are lost, and since when; ``None`` if none is."""
        if not self.lost:
            return None
        first, last = (f"{each:%Y-%m-%d %H:%M} UTC" for each in (min(self.lost.values()), max(self.lost.values())))
        later = "" if first == last else f", the last one since {last}"
        return f"lost certificates, which are in the log and can't be had again: {len(self.lost)}, since {first}{later}"

    async def _read_on(self) -> None:
        """Read what was logged since: a certificate that is new in the ledger is among that."""
        head = (await self.storage.head()).head
        list(self._read(self._size, await self.storage.entries(head, self._size, head.size)))


def _tbs_hash(pem: str) -> str:
    return sha256(load_certificates(pem.encode())[0].tbs_certificate_bytes).hexdigest()
