"""Name constraints (RFC 5280 section 4.2.1.10): what a CA's certificate says about the names below it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from shared.pki import names
from shared.pki.certificates import find_extension

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORK_LIMIT = 100_000
"""Comparisons of a name with a constraint for one pair of certificates: more is an attack, or a mistake."""


type Name = tuple[type[x509.GeneralName], Any]
"""Kind and content of a name; not cryptography's object, which can't hold every malformed one."""


def forbidden_names(constraints: x509.NameConstraints, found: Sequence[Name]) -> Iterator[str]:
    """Give the names that a CA does not allow, each with the reason.

    Args:
        constraints: of the CA.
        found: the names of what stands below it, from :func:`names_in` or :func:`names_of`.
    """
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    if len(found) * (len(permitted) + len(excluded)) > WORK_LIMIT:
        yield f"has {len(found)} names for {len(permitted) + len(excluded)} constraints, too many to be compared"
        return
    for kind, value in found:
        shown = repr(value.rfc4514_string() if isinstance(value, x509.Name) else str(value))[:100]
        same_kind = [each.value for each in permitted if type(each) is kind]
        if any(_matches(kind, value, each.value, default=True) for each in excluded if type(each) is kind):
            yield f"has the name {shown}, which is excluded there"
        elif same_kind and not any(_matches(kind, value, each, default=False) for each in same_kind):
            yield f"has the name {shown}, which is not permitted there"


def names_in(certificate: x509.Certificate) -> Sequence[Name]:
    """Give all names of a certificate that constraints apply to: the subject's, and the alternative ones."""
    others = find_extension(certificate, x509.SubjectAlternativeName)
    if others is None:
        return names_of(certificate.subject)
    return [*_directory_name(certificate.subject), *((type(each), each.value) for each in others)]


def names_of(subject: x509.Name) -> Sequence[Name]:
    """Give the names of a certificate without alternative ones: then mailboxes in the subject count as such."""
    mailboxes = subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    return [*_directory_name(subject), *((x509.RFC822Name, each.value) for each in mailboxes)]


def _directory_name(subject: x509.Name) -> list[Name]:
    return [(x509.DirectoryName, subject)] if subject.rdns else []


def _matches(kind: type[x509.GeneralName], name: Any, constraint: Any, *, default: bool) -> bool:
    """Compare two names of one kind; what can't be compared, or is malformed, gets the default, which refuses."""
    if kind is x509.DirectoryName:
        above, below = names.folded(constraint), names.folded(name)
        return below[: len(above)] == above
    if kind is x509.DNSName:
        return _host_matches(name, constraint, default=default)
    if kind is x509.RFC822Name:
        return _mailbox_matches(name, constraint, default=default)
    if kind is x509.IPAddress:
        return _address_matches(name, constraint, default=default)
    return default


def _host_matches(host: str, constraint: str, *, default: bool) -> bool:
    host, constraint = host.lower(), constraint.lower()
    if constraint.startswith(".") or "" in host.split("."):
        return default  # an e-mail constraint's form, not a DNS name's; or a host that DNS can't have
    if host.startswith("*."):
        # It stands for hosts inside and outside of a constraint that is narrower than itself.
        inside = _is_below(host[2:], constraint)
        return inside or (default and _is_below(constraint, host[2:]))
    return _is_below(host, constraint)


def _is_below(host: str, domain: str) -> bool:
    return not domain or host == domain or host.endswith(f".{domain}")


def _mailbox_matches(mailbox: str, constraint: str, *, default: bool) -> bool:
    local, _, host = mailbox.rpartition("@")
    if not local or not host or ("@" in local and not local.startswith('"')):
        return default
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
