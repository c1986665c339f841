"""Name constraints (RFC 5280 section 4.2.1.10): what a CA's certificate says about the names below it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORK_LIMIT = 100_000
"""Comparisons of a name with a constraint for one pair of certificates: more is an attack, or a mistake."""


def forbidden_names(constraints: x509.NameConstraints, certificate: x509.Certificate) -> Iterator[str]:
    """Give the names of a certificate that a CA above it does not allow, each with the reason.

    Args:
        constraints: of the CA.
        certificate: anywhere below it, decoded without error before.
    """
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    found = names_in(certificate)
    if len(found) * (len(permitted) + len(excluded)) > WORK_LIMIT:
        yield f"has {len(found)} names for {len(permitted) + len(excluded)} constraints, too many to be compared"
        return
    for name in found:
        shown = repr(_text(name))[:100]
        same_kind = [each for each in permitted if type(each) is type(name)]
        if any(_matches(name, each, default=True) for each in excluded if type(each) is type(name)):
            yield f"has the name {shown}, which is excluded there"
        elif same_kind and not any(_matches(name, each, default=False) for each in same_kind):
            yield f"has the name {shown}, which is none of those permitted there"


def names_in(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    """Give all that constraints apply to: the subject, unless empty, and the alternative names."""
    subject = [x509.DirectoryName(certificate.subject)] if certificate.subject.rdns else []
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return subject
    return [*subject, *others]


def _text(name: x509.GeneralName) -> str:
    return name.value.rfc4514_string() if isinstance(name.value, x509.Name) else str(name.value)


def _matches(name: x509.GeneralName, constraint: x509.GeneralName, *, default: bool) -> bool:
    """Compare two names of one kind; what can't be compared, or is malformed, gets the default, which refuses."""
    if isinstance(name, x509.DirectoryName):
        above, below = _folded(constraint.value), _folded(name.value)
        return below[: len(above)] == above
    if isinstance(name, x509.DNSName):
        return _host_matches(name.value, constraint.value, default=default)
    if isinstance(name, x509.RFC822Name):
        return _mailbox_matches(name.value, constraint.value)
    if isinstance(name, x509.IPAddress):
        return _address_matches(name.value, constraint.value, default=default)
    return default


def _folded(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    """Bring a name to the form in which names are compared (section 7.1): without case and repeated spaces."""
    return [
        frozenset((each.oid.dotted_string, " ".join(str(each.value).casefold().split())) for each in rdn)
        for rdn in name.rdns
    ]


def _host_matches(host: str, constraint: str, *, default: bool) -> bool:
    host, constraint = host.lower(), constraint.lower()
    if constraint.startswith("."):
        return default  # an e-mail constraint's form, not a DNS name's
    if host.startswith("*."):
        # It stands for hosts inside and outside of a constraint that is narrower than itself.
        inside = _is_below(host[2:], constraint)
        return inside or (default and _is_below(constraint, host[2:]))
    return _is_below(host, constraint)


def _is_below(host: str, domain: str) -> bool:
    return not domain or host == domain or host.endswith(f".{domain}")


def _mailbox_matches(mailbox: str, constraint: str) -> bool:
    local, _, host = mailbox.rpartition("@")
    wanted_local, at, wanted_host = constraint.rpartition("@")
    if at:
        return local == wanted_local and host.lower() == wanted_host.lower()
    if constraint.startswith("."):
        return host.lower().endswith(constraint.lower())
    return host.lower() == constraint.lower()


def _address_matches(address: object, network: object, *, default: bool) -> bool:
    if isinstance(address, ipaddress.IPv4Address) and isinstance(network, ipaddress.IPv4Network):
        return address in network
    if isinstance(address, ipaddress.IPv6Address) and isinstance(network, ipaddress.IPv6Network):
        return address in network
    plain = isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    return default and not plain  # of the other version: no match; a range in a certificate is malformed
