"""The log as it is stored: blobs, a table and a vault in memory, and workers on them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.evidence.tiles import ENTRIES, WIDTH, Tile, unbundled
from shared.evidence.trees import GrowingTree
from shared.evidence.verify import LogKeys, VerifierKey, leaf_hash
from shared.ledger.acts_to_log import ActsToLog
from shared.ledger.audit_log import AuditTable
from shared.ledger.checkpoints import Checkpoints
from shared.workflows.evidence.acts import ActProjection, ActsForLog
from shared.workflows.evidence.continuity import LogMemory
from shared.workflows.evidence.key_changes import KeyChanges
from shared.workflows.evidence.reading import LogReader
from shared.workflows.evidence.sequencing import Sequencer
from shared.workflows.evidence.signing import CheckpointSigner
from shared.workflows.evidence.storage import LOG, LogStorage
from shared.workflows.intake.audit import Audit
from tests.pki.hierarchy import vault_of
from tests.unit.evidence.logs import ORIGIN, signing_key
from tests.world.conductor import Conductor
from tests.world.storage import Blobs, Table
from tests.world.world import InPlace

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric import ec

    from shared.domain.epochs import LogMark
    from shared.evidence.head import Head
    from shared.pki.signing_keys import SignatureAlgorithm


async def _no_group(_name: str) -> None:
    return None


class Vault:
    """A vault with the keys of the log, each made when it is first asked for."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self.threads = InPlace("vault", 1)
        self.signed = 0

    async def run[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.threads.run(call, *args, **kwargs)

    async def get_or_create(self, name: str, algorithm: str) -> tuple[str, ec.EllipticCurvePublicKey]:
        async with self._conductor.step("vault.get_or_create", "vault"):
            assert algorithm == "EC-P256"
            number = int(name.removeprefix("evidence-log").removeprefix("-") or 1)
            return f"https://vault/keys/{name}/1", signing_key(number).public_key()

    def sign_digest(self, key_id: str, algorithm: SignatureAlgorithm, digest: bytes) -> bytes:
        name = key_id.removeprefix("https://vault/keys/").removesuffix("/1")
        number = int(name.removeprefix("evidence-log").removeprefix("-") or 1)
        self.signed += 1
        return vault_of(signing_key(number))(algorithm, digest)


@dataclass
class Worker:
    """What one worker has of the log."""

    sequencer: Sequencer
    signer: CheckpointSigner
    reader: LogReader
    projection: ActProjection
    keys: KeyChanges


@dataclass
class Place:
    """Where the log is.

    Attributes:
        pauses: how long workers have waited, in seconds.
        origin: that the settings name.
        remembered: how long the log was, as the vault was told.
    """

    conductor: Conductor = field(default_factory=Conductor)
    now: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    pauses: float = 0.0
    origin: str = ORIGIN

    def __post_init__(self) -> None:
        self.blobs = Blobs(self.conductor)
        self.rows, self.acts = Table("checkpoints", self.conductor), Table("actstolog", self.conductor)
        self.audit = Audit(
            log=AuditTable(Table("audit", self.conductor)), clock=self.clock, devices=_no_group, authorities=_no_group
        )
        self.vault = Vault(self.conductor)
        self.remembered: LogMark | None = None

    def clock(self) -> datetime:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.pauses += seconds
        await asyncio.sleep(0)

    async def recall(self) -> LogMark | None:
        return self.remembered

    @property
    def storage(self) -> LogStorage:
        blobs: Any = self.blobs
        return LogStorage(blobs=blobs, origin=self.origin)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.rows)

    def worker(self) -> Worker:
        """Give a worker that has seen nothing yet."""
        vault: Any = self.vault
        memory = LogMemory(recall=self.recall)
        signer = CheckpointSigner(
            storage=self.storage,
            checkpoints=self.checkpoints,
            vault=vault,
            key_name="evidence-log",
            clock=self.clock,
            memory=memory,
            pause=self.pause,
        )
        sequencer = Sequencer(
            storage=self.storage,
            checkpoints=self.checkpoints,
            memory=memory,
            pause=self.pause,
            monotonic=lambda: 0,
        )
        reader = LogReader(storage=self.storage, checkpoints=self.checkpoints, signer=signer, sequencer=sequencer)
        projection = ActProjection(acts=ActsForLog(rows=ActsToLog(self.acts)), sequencer=sequencer)
        keys = KeyChanges(
            storage=self.storage,
            checkpoints=self.checkpoints,
            sequencer=sequencer,
            signer=signer,
            took_effect=self.audit.took_effect,
            clock=self.clock,
        )
        return Worker(sequencer, signer, reader, projection, keys)

    async def key(self) -> VerifierKey:
        known = await self.checkpoints.newest()
        assert known is not None
        return VerifierKey.read(known.record.verifier_key)

    async def keys(self) -> LogKeys:
        return LogKeys({await self.key(): None})

    async def head(self) -> Head:
        return (await self.storage.head()).head

    async def entries(self) -> list[bytes]:
        """Read all entries from tiles and head, as a mirror does, and see that they make the head's tree."""
        head, found = await self.head(), list[bytes]()
        for number in range(-(-head.size // WIDTH)):
            tile = Tile(ENTRIES, number, min(WIDTH, head.size - number * WIDTH))
            found += unbundled(await self.storage.tile(head, tile))
        growing = GrowingTree()
        growing.extend(map(leaf_hash, found))
        assert growing.tree == head.tree
        return found

    def tiles(self) -> list[str]:
        return sorted(name for container, name in self.blobs.blobs if container == LOG)
