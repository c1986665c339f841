"""What tells relying parties the status of certificates, wired together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.ledger.responders import ResponderRows
from shared.rules.zones import SIGNING, Zone
from shared.workflows.status.answers import StatusAnswers
from shared.workflows.status.lost_past import LostPast
from shared.workflows.status.responders import KeptResponders, OwnResponders, ResponderUpkeep
from shared.workflows.status.revocation_lists import RevocationLists

if TYPE_CHECKING:
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ports.blobs import Blobs
    from shared.ports.rows import Table
    from shared.ports.vault import VaultKeys
    from shared.settings import Settings
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWorkflows:
    """Lists, and OCSP answers with those who sign them."""

    lists: RevocationLists
    answers: StatusAnswers
    kept_responders: KeptResponders
    upkeep: ResponderUpkeep


def status_workflows(
    *,
    lists: RevocationLists | None,
    records: Authorities,
    certificates: Certificates,
    authorities: CertificateAuthorities,
    issuance: Issuance,
    responders: Table,
    responder_keys: VaultKeys,
    blobs: Blobs,
    settings: Settings,
    clock: Clock,
    epochs: Epochs,
) -> StatusWorkflows:
    """Give them, as the zone has them; ``lists`` stand in for those of the ledger."""
    rows = ResponderRows(responders)
    kept = KeptResponders(rows=rows, vault=responder_keys)
    lists = lists or RevocationLists(
        records=records,
        certificates=certificates,
        authorities=authorities,
        blobs=blobs,
        settings=settings,
        clock=clock,
        reads_only=settings.zone not in SIGNING,
        log=issuance.log,
    )
    return StatusWorkflows(
        lists=lists,
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
    )
