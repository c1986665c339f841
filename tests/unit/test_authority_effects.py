"""What an act on a CA does, as it is told before anybody decides."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.authorities import AuthorityAction, ProofOfPossession
from shared.domain.words import KeyCustody
from shared.workflows.authorities.effects import effects_of
from shared.workflows.authorities.reach import Reached
from tests.pki.hierarchy import NOW
from tests.records import authority_record

ALONE = Reached(authorities=("line",), groups=(), devices=0, unseen=0, more=False)
BUSY = Reached(authorities=("line", "left", "right"), groups=("press", "mill"), devices=500, unseen=0, more=True)


def effects(action: AuthorityAction, reached: Reached = ALONE, **fields: Any) -> list[str]:
    return list(effects_of(authority_record("line", NOW, **fields), action, reached))


def test_what_is_disabled_can_be_enabled() -> None:
    """Its groups wait, if it has any."""
    assert effects(AuthorityAction.DISABLE) == [
        "it signs no certificates until it is enabled; its lists and OCSP go on"
    ]
    assert effects(AuthorityAction.DISABLE, BUSY) == [
        "it signs no certificates until it is enabled; its lists and OCSP go on",
        "orders and renewals of the enrollment groups press, mill wait until then",
    ]
    assert effects(AuthorityAction.ENABLE, BUSY) == [
        "it signs certificates again",
        "what waits for it in the enrollment groups press, mill goes on",
    ]


def test_what_is_retired_stays_so() -> None:
    assert effects(AuthorityAction.RETIRE, BUSY) == [
        "it signs no certificates any more, which is final; its lists and OCSP go on until its end",
        "orders and renewals of the enrollment groups press, mill are refused until the group is rolled to another CA",
        "devices that have a certificate of it keep it",
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"external_issuer": "corporate"},
         "'corporate' has signed it, whose owner has to put it on the list of that CA"),
        ({"parent": "root"}, "its certificate is put on the list of 'root', and OCSP tells it"),
        ({}, "it is a root, which no list names: whoever trusts it has to take it off their own"),
    ],
)  # fmt: skip
def test_a_revocation_says_where_it_is_told(fields: dict[str, Any], told: str) -> None:
    assert effects(AuthorityAction.REVOKE, **fields) == [
        "it is revoked, which is final",
        told,
        "0 devices are revoked: DPS and their hubs let them in no more",
    ]


def test_a_revocation_says_all_that_goes_with_it() -> None:
    """CAs below it, groups, devices, and its place in DPS."""
    assert effects(AuthorityAction.REVOKE, BUSY, proof_of_possession=ProofOfPossession.VERIFIED) == [
        "it is revoked, which is final",
        "it is a root, which no list names: whoever trusts it has to take it off their own",
        "2 CAs below it are revoked with it: left, right",
        "the enrollment groups press, mill are disabled in DPS, and can be enabled when another CA signs for them",
        "more than 500 devices are revoked: DPS and their hubs let them in no more",
        "its place in the DPS and in hubs is freed: they let no device in by it any more",
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, []),
        ({"key_id": "https://vault/keys/line/1"},
         ["its key stays in the vault, where the vault's owner can delete it"]),
        ({"custody": KeyCustody.WRAPPED}, ["its key, which is wrapped in the ledger, is deleted"]),
        ({"proof_of_possession": ProofOfPossession.BY_HAND},
         ["its place in the DPS and in hubs was made by hand, and has to be freed by hand"]),
    ],
)  # fmt: skip
def test_what_is_deleted_keeps_its_name(fields: dict[str, Any], told: list[str]) -> None:
    assert effects(AuthorityAction.DELETE, **fields) == ["its name stays taken, and its record stays", *told]
