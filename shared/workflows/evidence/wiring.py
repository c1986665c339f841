"""What writes, signs and reads the log, wired together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.ledger.acts_to_log import ActsToLog
from shared.ledger.checkpoints import Checkpoints
from shared.rules.zones import Zone
from shared.workflows.evidence.acts import ActProjection, ActsForLog
from shared.workflows.evidence.continuity import LogMemory
from shared.workflows.evidence.key_changes import KeyChanges
from shared.workflows.evidence.reading import LogReader
from shared.workflows.evidence.sequencing import Sequencer
from shared.workflows.evidence.signing import CheckpointSigner
from shared.workflows.evidence.storage import LogStorage
from shared.workflows.evidence.upkeep import LogUpkeep
from shared.workflows.evidence.witnessing import Witnessing
from shared.workflows.intake.audit import took_effect
from shared.workflows.intake.wiring import audit_log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.domain.epochs import LogMark
    from shared.ports.blobs import Blobs
    from shared.ports.evidence import EvidenceLog
    from shared.ports.rows import Table
    from shared.ports.vault import VaultKeys
    from shared.ports.witnesses import Witnesses
    from shared.settings import Settings
    from shared.workflows.intake.outbox import Clock


class NoLog:
    """Stands where no log is kept."""

    async def append(self, entry: bytes) -> None:
        """Append nothing."""
        del entry


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceWorkflows:
    """The log.

    Attributes:
        log: takes entries.
        acts: takes acts, from zones that do not write the log as well; ``None`` where no log is kept.
        reader: ``None`` where no log is kept.
        upkeep: ``None`` in a zone that does not sign checkpoints.
    """

    log: EvidenceLog
    acts: ActsForLog | None
    reader: LogReader | None
    upkeep: LogUpkeep | None


def evidence_workflows(
    log: EvidenceLog | None,
    settings: Settings,
    clock: Clock,
    recall: Callable[[], Awaitable[LogMark | None]],
    table: Callable[[str], Table],
    *,
    blobs: Blobs,
    vault: VaultKeys,
    witnesses: Witnesses,
) -> EvidenceWorkflows:
    """Give the log, as the settings have it.

    Args:
        log: stands in for the real one, which is not read then.
        settings: of the deployment.
        clock: gives the present time.
        recall: gives how long the log was, as the vault remembers it.
        table: gives a table by its name.
        blobs: that have the log.
        vault: with the key that signs checkpoints.
        witnesses: reaches witnesses.
    """
    if log is not None or settings.evidence_log == "off":
        return EvidenceWorkflows(log=log or NoLog(), acts=None, reader=None, upkeep=None)
    signs = settings.zone in {Zone.ALL, Zone.ISSUING}
    checkpoints = Checkpoints(table("checkpoints"))
    storage = LogStorage(blobs=blobs, origin=settings.evidence_origin)
    memory = LogMemory(recall=recall)
    signer = CheckpointSigner(
        storage=storage,
        checkpoints=checkpoints,
        vault=vault,
        key_name=settings.evidence_key,
        clock=clock,
        memory=memory,
    )
    grown = signer.soon if signs else _left_to_timer
    sequencer = Sequencer(storage=storage, checkpoints=checkpoints, memory=memory, grown=grown)
    acts = ActsForLog(rows=ActsToLog(table("actstolog")))
    upkeep = LogUpkeep(
        projection=ActProjection(acts=acts, sequencer=sequencer),
        keys=KeyChanges(
            storage=storage,
            checkpoints=checkpoints,
            sequencer=sequencer,
            signer=signer,
            took_effect=partial(took_effect, audit_log(table, acts)),
            clock=clock,
        ),
        witnessing=Witnessing(
            storage=storage, checkpoints=checkpoints, witnesses=witnesses, trusted=settings.evidence_witnesses
        ),
    )
    return EvidenceWorkflows(
        log=sequencer,
        acts=acts,
        reader=LogReader(
            storage=storage, checkpoints=checkpoints, signer=signer if signs else None, sequencer=sequencer
        ),
        upkeep=upkeep if signs else None,
    )


def _left_to_timer() -> None:
    """Leave it to the zone that signs."""
