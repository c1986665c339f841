"""What a CA's certificate says about the names below it (RFC 5280 section 4.2.1.10)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    type Comparison = Callable[[Any, Any], bool]
    """Tells whether a name stands below a constraint."""

COMPARISONS_LIMIT = 100_000
"""For one pair of certificates: more is an attack, or a mistake."""


def first_forbidden(constraints: x509.NameConstraints, certificate: x509.Certificate) -> str | None:
    """Give the first name of a certificate that constraints forbid; what can't be compared is forbidden."""
    found = list(_names(certificate))
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    if len(found) * (len(permitted) + len(excluded)) > COMPARISONS_LIMIT:
        return f"any of its {len(found)} names"
    for name in found:
        own = [each for each in permitted if type(each) is type(name)]
        if any(_is_below(name, each, unclear=True) for each in excluded) or (
            own and not any(_is_below(name, each, unclear=False) for each in own)
        ):
            return str(name.value)
    return None


def _names(certificate: x509.Certificate) -> Iterator[x509.GeneralName]:
    if certificate.subject.rdns:
        yield x509.DirectoryName(certificate.subject)
    try:
        yield from certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        for mailbox in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
            yield x509.RFC822Name(str(mailbox.value))


def _is_below(name: x509.GeneralName, constraint: x509.GeneralName, *, unclear: bool) -> bool:
    if type(name) is not type(constraint):
        return False
    compare = _COMPARISONS.get(type(name))
    return unclear if compare is None else compare(name.value, constraint.value)


def _directory(name: x509.Name, constraint: x509.Name) -> bool:
    above = _folded(constraint)
    return _folded(name)[: len(above)] == above


def _folded(name: x509.Name) -> list[set[tuple[str, str]]]:
    """Names are compared without case and repeated spaces (section 7.1)."""
    return [
        {(each.oid.dotted_string, " ".join(str(each.value).casefold().split())) for each in part} for part in name.rdns
    ]


def _host(name: str, constraint: str) -> bool:
    return not constraint or f".{name.lower()}".endswith(f".{constraint.lower()}")


def _mailbox(name: str, constraint: str) -> bool:
    if "@" in constraint:
        return name.lower() == constraint.lower()
    host = name.rpartition("@")[2].lower()
    return host.endswith(constraint.lower()) if constraint.startswith(".") else host == constraint.lower()


def _address(name: Any, constraint: Any) -> bool:
    if not isinstance(name, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return False
    return name.version == constraint.version and name in constraint


_COMPARISONS: Mapping[type[x509.GeneralName], Comparison] = {
    x509.DirectoryName: _directory,
    x509.DNSName: _host,
    x509.RFC822Name: _mailbox,
    x509.IPAddress: _address,
}
