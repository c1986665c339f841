"""Entries of groups as DPS has them: what the app takes over or changes, and what it leaves to whoever made it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.attestations import reference_attestation
from shared.domain.entries import taken_over
from shared.domain.group_signers import check_alone, with_next, with_references
from shared.domain.groups import CaReferences
from shared.errors import Conflict
from shared.pki.names import pem, sha256_thumbprint
from tests.pki.hierarchy import hierarchy
from tests.world.services import with_info

ISSUING, ROOT = hierarchy().issuing.certificate, hierarchy().root.certificate


def signed_by(primary: Any, secondary: Any = None) -> dict[str, Any]:
    """Give the entry of a group that holds certificates, as DPS shows it."""
    places = {"primary": primary, "secondary": secondary}
    held = {place: {"certificate": pem(each)} for place, each in places.items() if each is not None}
    body = {
        "enrollmentGroupId": "g",
        "provisioningStatus": "enabled",
        "attestation": {"type": "x509", "x509": {"signingCertificates": held}},
    }
    return with_info(body, None)


def referring_to(primary: str) -> dict[str, Any]:
    return {"enrollmentGroupId": "g", "attestation": reference_attestation(primary)}


def test_an_entry_of_the_same_ca_is_taken_over_with_what_is_wanted() -> None:
    """What is not named stays as it is."""
    present = {**signed_by(ISSUING), "etag": "1", "capabilities": {"iotEdge": True}}
    wanted = {**signed_by(ISSUING), "provisioningStatus": "disabled"}
    taken = taken_over(present, wanted)
    assert (taken["provisioningStatus"], taken["capabilities"], taken["etag"]) == ("disabled", {"iotEdge": True}, "1")
    assert taken["attestation"] == present["attestation"]


def test_an_entry_of_another_ca_is_left() -> None:
    with pytest.raises(Conflict) as refused:
        taken_over(signed_by(ROOT), signed_by(ISSUING))
    assert str(refused.value) == (
        "enrollmentGroup: the DPS has an enrollment group 'g' that this app did not make, and its devices are let in "
        "by other CAs; delete it there, or take another id"
    )


def test_references_are_changed_where_there_are_some() -> None:
    """A group that holds its CA's certificate itself is rolled."""
    present = referring_to("old")
    assert with_references(present, CaReferences(primary="old")) is present
    changed = with_references(present, CaReferences(primary="new", secondary="old"))
    assert changed["attestation"]["x509"]["caReferences"] == {"primary": "new", "secondary": "old"}
    with pytest.raises(Conflict, match="the enrollment group 'g' holds the certificate of its issuing CA"):
        with_references(signed_by(ISSUING), CaReferences(primary="new"))


def other_signers(primary: str, secondary: str) -> str:
    return (
        "action: in the DPS the enrollment group 'g' has other signing certificates than this app put there (SHA-256 of "
        f"the primary {primary}, of the secondary {secondary}); replacing them could cut devices off: put them right in "
        "the DPS first"
    )


def test_a_group_is_rolled_if_it_accepts_its_ca_and_no_other() -> None:
    """Somebody who has put another one there has devices of it."""
    check_alone(signed_by(ISSUING), ISSUING)
    with pytest.raises(Conflict) as refused:
        check_alone(referring_to("name"), ISSUING)
    assert str(refused.value) == (
        "action: the enrollment group 'g' attests by caReferences; change them with action 'update'"
    )
    for expected in (ROOT, None):
        with pytest.raises(Conflict) as refused:
            check_alone(signed_by(ISSUING), expected)
        assert str(refused.value) == other_signers(sha256_thumbprint(ISSUING), "none")


def test_the_next_ca_is_accepted_beside_the_present_one() -> None:
    """Once, and not beside another one."""
    both = signed_by(ISSUING, ROOT)
    assert with_next(both, ISSUING, ROOT) is both
    for present, primary, secondary in (
        (signed_by(ROOT), sha256_thumbprint(ROOT), "none"),
        (signed_by(ROOT, ISSUING), sha256_thumbprint(ROOT), sha256_thumbprint(ISSUING)),
    ):
        with pytest.raises(Conflict) as refused:
            with_next(present, ISSUING, ROOT)
        assert str(refused.value) == other_signers(primary, secondary)
