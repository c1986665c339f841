"""Name constraints: malformed names never pass, and mailboxes in a subject count where there are no other names."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from shared.pki.name_constraints import Name, forbidden_names, names_of

HOSTS, MAILBOXES = x509.DNSName("example.com"), x509.RFC822Name("example.com")


@pytest.mark.parametrize(
    "name",
    [
        (x509.DNSName, ".example.com"),
        (x509.DNSName, "a..example.com"),
        (x509.RFC822Name, "not@valid@example.com"),
        (x509.RFC822Name, "@example.com"),
    ],
)
def test_a_malformed_name_is_forbidden_by_either_kind_of_constraint(name: Name) -> None:
    """What no host or mailbox can be called is not inside what is permitted, and inside what is excluded."""
    of_kind: list[x509.GeneralName] = [HOSTS if name[0] is x509.DNSName else MAILBOXES]
    shown = repr(name[1])
    assert [*forbidden_names(x509.NameConstraints(of_kind, None), [name])] == [
        f"has the name {shown}, which is not permitted there"
    ]
    assert [*forbidden_names(x509.NameConstraints(None, of_kind), [name])] == [
        f"has the name {shown}, which is excluded there"
    ]


@pytest.mark.parametrize(
    ("mailbox", "forbidden"),
    [("line@example.com", 0), ('"a@b"@example.com', 0), ("line@example.org", 1), ("line", 1)],
)
def test_a_mailbox_in_the_subject_counts(mailbox: str, forbidden: int) -> None:
    """Constraints of mailboxes apply to e-mail addresses in a subject without alternative names (RFC 5280 4.2.1.10)."""
    subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, mailbox)])
    found = [*forbidden_names(x509.NameConstraints([MAILBOXES], None), names_of(subject))]
    assert len(found) == forbidden
