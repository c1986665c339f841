"""What tells relying parties the status of certificates, wired together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.ledger.imported_lists import ImportedListRows
from shared.ledger.responders import ResponderRows
from shared.rules.zones import SIGNING, Zone
from shared.workflows.status.answers import StatusAnswers
from shared.workflows.status.imported_lists import ImportedLists, ServedLists
from shared.workflows.status.lost_past import LostPast
from shared.workflows.status.measurements import Measurements
from shared.workflows.status.responders import KeptResponders, OwnResponders, ResponderUpkeep
from shared.workflows.status.revocation_lists import RevocationLists

if TYPE_CHECKING:
    from shared.ledger.stores import Ledger
    from shared.ports.blobs import Blobs
    from shared.ports.evidence import EvidenceLog
    from shared.ports.queues import Queues
    from shared.ports.vault import VaultKeys
    from shared.settings import Settings
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWorkflows:
    """Lists, and OCSP answers with those who sign them; and what a timer tells of it all.

    ``served`` are the lists with those that were imported.
    """

    lists: RevocationLists
    served: ServedLists
    answers: StatusAnswers
    kept_responders: KeptResponders
    upkeep: ResponderUpkeep
    measurements: Measurements


def status_workflows(
    ledger: Ledger,
    *,
    lists: RevocationLists | None,
    authorities: CertificateAuthorities,
    issuance: Issuance,
    log: EvidenceLog,
    responder_keys: VaultKeys,
    blobs: Blobs,
    queues: Queues,
    settings: Settings,
    clock: Clock,
    epochs: Epochs,
) -> StatusWorkflows:
    """Give them, as the zone has them; ``lists`` stand in for those of the ledger."""
    records, certificates = ledger.authorities, ledger.certificates
    rows = ResponderRows(ledger.table("responders"))
    kept = KeptResponders(rows=rows, vault=responder_keys)
    lists = lists or RevocationLists(
        records=records,
        certificates=certificates,
        authorities=authorities,
        blobs=blobs,
        settings=settings,
        clock=clock,
        reads_only=settings.zone not in SIGNING,
        log=log,
    )
    imported = ImportedLists(records=records, rows=ImportedListRows(ledger.table("issuers")), blobs=blobs, clock=clock)
    return StatusWorkflows(
        lists=lists,
        served=ServedLists(own=lists, imported=imported),
        answers=StatusAnswers(
            authorities=authorities,
            certificates=certificates,
            responders=kept if settings.zone is Zone.STATUS else OwnResponders(issuance=issuance),
            clock=clock,
            past=LostPast(epochs=epochs, lists=lists, clock=clock),
        ),
        kept_responders=kept,
        upkeep=ResponderUpkeep(
            authorities=authorities,
            issuance=issuance,
            rows=rows,
            vault=responder_keys if settings.zone is Zone.ISSUING else None,
            clock=clock,
        ),
        measurements=Measurements(records=records, groups=ledger.groups, queues=queues, clock=clock),
    )
