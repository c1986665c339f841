"""What an act on a CA does, in words, for whoever is about to ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.authorities import AuthorityAction, ProofOfPossession
from shared.domain.words import KeyCustody
from shared.rules.number_words import number_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.domain.authorities import AuthorityRecord
    from shared.workflows.authorities.reach import Reached


def effects_of(record: AuthorityRecord, action: AuthorityAction, reached: Reached) -> Iterator[str]:
    """Give what an act does, a sentence each."""
    match action:
        case AuthorityAction.DISABLE:
            yield "it signs no certificates until it is enabled; its lists and OCSP go on"
            yield from _of_groups(reached, "orders and renewals of {} wait until then")
        case AuthorityAction.ENABLE:
            yield "it signs certificates again"
            yield from _of_groups(reached, "what waits for it in {} goes on")
        case AuthorityAction.RETIRE:
            yield "it signs no certificates any more, which is final; its lists and OCSP go on until its end"
            yield from _of_groups(
                reached, "orders and renewals of {} are refused until the group is rolled to another CA"
            )
            yield "devices that have a certificate of it keep it"
        case AuthorityAction.REVOKE:
            yield from _of_revocation(record, reached)
        case AuthorityAction.DELETE:
            yield "its name stays taken, and its record stays"
            yield from _of_places(record)
            if record.custody is KeyCustody.WRAPPED:
                yield "its key, which is wrapped in the ledger, is deleted"
            elif record.key_id is not None:
                yield "its key stays in the vault, where the vault's owner can delete it"


def _of_revocation(record: AuthorityRecord, reached: Reached) -> Iterator[str]:
    yield "it is revoked, which is final"
    if record.external_issuer is not None:
        yield f"{record.external_issuer!r} has signed it, whose owner has to put it on the list of that CA"
    elif record.parent is not None:
        yield f"its certificate is put on the list of {record.parent!r}, and OCSP tells it"
    else:
        yield "it is a root, which no list names: whoever trusts it has to take it off their own"
    if len(reached.authorities) > 1:
        yield f"{len(reached.authorities) - 1} CAs below it are revoked with it: {', '.join(reached.authorities[1:])}"
    yield from _of_groups(reached, "{} are disabled in DPS, and can be enabled when another CA signs for them")
    devices = number_of(reached.devices, "device", more=reached.more)
    end = "is revoked: DPS and its hub let it" if devices == "1 device" else "are revoked: DPS and their hubs let them"
    yield f"{devices} {end} in no more"
    if reached.unseen:
        of = number_of(reached.unseen, "device", more=reached.more)
        yield f"of {of} among them nobody knows the certificate: one of another CA would be revoked as well"
    yield from _of_places(record)


def _of_places(record: AuthorityRecord) -> Iterator[str]:
    if record.proof_of_possession is ProofOfPossession.BY_HAND:
        yield "its place in the DPS and in hubs was made by hand, and has to be freed by hand"
    elif record.proof_of_possession is not None:
        yield "its place in the DPS and in hubs is freed: they let no device in by it any more"


def _of_groups(reached: Reached, text: str) -> Iterator[str]:
    if reached.groups:
        yield text.format(f"the enrollment groups {', '.join(reached.groups)}")
