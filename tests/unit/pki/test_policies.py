"""Certificate policies: where a CA above asks for one, a path without it is found, as Java's PKIX finds it."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from shared.pki import der
from shared.pki.chains import path_findings
from shared.pki.policies import policy_gap
from tests.pki.foreign import authority
from tests.pki.hierarchy import NOW

A, B, ANY = "1.2.3.4", "1.2.3.5", "2.5.29.32.0"


def policies(*named: str) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(each), None) for each in named])


def explicit(skip: int | None, mapping: int | None = None) -> x509.PolicyConstraints:
    return x509.PolicyConstraints(skip, mapping)


def mapped(*pairs: tuple[str, str]) -> x509.UnrecognizedExtension:
    content = der.sequence(*(der.sequence(*map(der.object_identifier, pair)) for pair in pairs))
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), content)


INHIBIT = x509.InhibitAnyPolicy(0)


def path(*levels: tuple[x509.ExtensionType, ...]) -> list[x509.Certificate]:
    """Make a path without its root, from the top down as it is written, leaf first as it is given."""
    top = authority("top")
    made: list[Any] = []
    for number, extensions in enumerate(levels):
        made.insert(0, authority(f"level-{number}", *extensions, parent=made[0] if made else top))
    return made


@pytest.mark.parametrize(
    ("levels", "gap"),
    [
        ([(), ()], None),
        ([(explicit(0),), ()], "level-1"),
        ([(explicit(0), policies(A)), ()], "level-1"),
        ([(explicit(0), policies(A)), (policies(B),)], "level-1"),
        ([(explicit(0), policies(A)), (policies(A),)], None),
        ([(explicit(0), policies(ANY)), (policies(B),)], None),
        ([(explicit(0), policies(A)), (policies(ANY),)], None),
        ([(explicit(0), policies(A), INHIBIT), (policies(ANY),)], "level-1"),
        ([(explicit(0), policies(ANY), INHIBIT), (policies(A),)], None),
        ([(INHIBIT,), (policies(ANY),)], None),
        ([(explicit(1), policies(A)), ()], "level-1"),
        ([(explicit(2), policies(A)), ()], None),
        ([(explicit(2), policies(A)), (), ()], "level-2"),
        ([(explicit(3), policies(A)), (), ()], None),
        ([(explicit(1), policies(A)), (), ()], "level-2"),
        ([(explicit(0), policies(A), mapped((A, B))), (policies(B),)], None),
        ([(explicit(0), policies(A), mapped((A, B))), (policies(A),)], "level-1"),
        ([(explicit(0, 0), policies(A)), (policies(A), mapped((A, B))), (policies(B),)], "level-2"),
        ([(policies(A),), (explicit(0),)], "level-1"),
        ([(policies(A),), (explicit(0), policies(A))], None),
    ],
)
def test_a_missing_policy_is_found_where_it_is_missing(
    levels: list[tuple[x509.ExtensionType, ...]], gap: str | None
) -> None:
    """RFC 5280 section 6.1, from the trust anchor down: explicit policies, anyPolicy and its end, mappings."""
    found = policy_gap(path(*levels))
    assert (found and found.subject.rfc4514_string()) == (gap and f"CN={gap}")


def test_a_path_without_the_policy_that_is_asked_for_gets_advice() -> None:
    """DPS takes it, and Java does not: the finding says so, and names both."""
    whole = [*path((explicit(0), policies(A)), ()), authority("top")]
    assert [(each.code, each.message) for each in path_findings(whole, NOW) if each.code == "policy"] == [
        (
            "policy",
            "a CA above 'level-1' asks for a certificate policy (requireExplicitPolicy), and 'level-1' has none that is "
            "valid up to there (RFC 5280 section 6.1): Java and others refuse the chain, DPS does not look at policies; "
            "give it a policy of the CAs above",
        )
    ]
