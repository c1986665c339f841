"""The pre-flight check gives a reason in words for each cause behind 401002."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.pki.chains import check_chain
from shared.pki.profiles import issuing_profile, root_profile
from shared.pki.signing_keys import KeyAlgorithm
from tests.unit.pki.hierarchy import NOW, Hierarchy, certificate_authority, hierarchy

if TYPE_CHECKING:
    from cryptography import x509

DEEP_ROOT = certificate_authority("deep", None, KeyAlgorithm.EC_P256, root_profile(), now=NOW - timedelta(days=1))
FACTORY = certificate_authority("factory", DEEP_ROOT, KeyAlgorithm.EC_P256, issuing_profile(path_length=1))
LINE = certificate_authority("line", FACTORY, KeyAlgorithm.EC_P256, issuing_profile())
DEEP = Hierarchy(DEEP_ROOT, LINE)
OTHER = hierarchy(KeyAlgorithm.EC_P384)


def codes(chain: list[x509.Certificate], **changes: object) -> list[str]:
    known = {
        "registration_id": "press-001",
        "group_certificates": [LINE.certificate],
        "verified_authorities": [DEEP_ROOT.certificate],
        "now": NOW + timedelta(days=1),
    }
    return [finding.code for finding in check_chain(chain, **{**known, **changes})]  # type: ignore[arg-type]


LEAF = DEEP.device("press-001")
SWAPPED = [LEAF, FACTORY.certificate, LINE.certificate]
GOOD = [LEAF, LINE.certificate, FACTORY.certificate]


def test_a_good_chain_has_no_finding() -> None:
    """A whole chain under a verified root is accepted, with or without the root in it."""
    assert codes(GOOD) == []
    assert codes([*GOOD, DEEP_ROOT.certificate]) == []


@pytest.mark.parametrize(
    ("chain", "changes", "expected"),
    [
        ([], {}, ["empty"]),
        (GOOD, {"registration_id": "press-002"}, ["common-name"]),
        ([LEAF], {}, ["no-verified-ca"]),
        ([LEAF, LINE.certificate], {}, ["no-verified-ca"]),
        (SWAPPED, {}, ["misordered", "broken-link", "path-length", "no-verified-ca"]),
        ([LEAF, FACTORY.certificate], {}, ["broken-link", "wrong-group"]),
        (GOOD, {"verified_authorities": []}, ["no-verified-ca"]),
        ([*GOOD, DEEP_ROOT.certificate], {"verified_authorities": []}, ["not-verified"]),
        (GOOD, {"group_certificates": [OTHER.issuing.certificate]}, ["wrong-group"]),
        (GOOD, {"now": NOW + timedelta(days=400)}, ["expired"]),
        (GOOD, {"now": NOW - timedelta(days=400)}, ["not-yet-valid"] * 3),
        ([LINE.certificate, FACTORY.certificate], {}, ["common-name", "leaf-is-ca", "key-usage", "wrong-group"]),
    ],
)  # fmt: skip
def test_each_fault_has_its_code(
    chain: list[x509.Certificate], changes: dict[str, object], expected: list[str]
) -> None:
    """Every fault of a chain is found, and named."""
    assert codes(chain, **changes) == expected


def test_the_words_say_what_would_be_right() -> None:
    """A message names the certificates concerned and the way out."""
    found = check_chain(
        [LEAF, LINE.certificate],
        registration_id="press-001",
        group_certificates=[LINE.certificate],
        verified_authorities=[DEEP_ROOT.certificate],
        now=NOW + timedelta(days=1),
    )
    expected = (
        "the chain ends at 'line', whose issuer is 'CN=factory,O=Example,C=US': send every intermediate up to a CA that "
        "is verified in this DPS by proof of possession, or verify that CA"
    )
    assert [finding.message for finding in found] == [expected]
