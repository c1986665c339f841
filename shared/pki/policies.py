"""Certificate policies (RFC 5280 section 6.1): whether a path has a policy where a CA above asks for one.

Reduced to what decides if any policy is accepted and none asked for at first, as with Java's PKIX and OpenSSL's policy
check: of the tree only the lowest level is kept, as policies with those that are expected below them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509

from shared.pki import der
from shared.pki.certificates import find_extension, is_self_issued

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANY = "2.5.29.32.0"
"""anyPolicy (section 4.2.1.4)."""

MAPPINGS = x509.ObjectIdentifier("2.5.29.33")
"""The extension policyMappings (section 4.2.1.5)."""

type _Level = dict[str, frozenset[str]]
"""Valid policies, each with those that are expected of the next certificate."""


@dataclass(slots=True)
class _State:
    """Section 6.1.2: how many more certificates may do without a policy, may map one, may name anyPolicy."""

    level: _Level = field(default_factory=lambda: {ANY: frozenset({ANY})})
    explicit: int = 0
    mapping: int = 0
    any_policy: int = 0


def policy_gap(path: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Find the certificate at which a path lacks a policy that a CA above it asks for.

    Args:
        path: leaf first, without the trust anchor, whose own extensions do not count (section 6.1.1 d).

    Returns:
        The first one without a policy that is valid up to there; ``None`` if the path has what is asked for.

    Raises:
        ValueError: a certificate's policies or mappings can't be read.
    """
    beyond = len(path) + 1
    state = _State(explicit=beyond, mapping=beyond, any_policy=beyond)
    for below, certificate in zip(range(len(path) - 1, -1, -1), reversed(path), strict=True):
        _take_policies(state, certificate, is_last=not below)
        if not state.level and not state.explicit:
            return certificate
        if below:
            _prepare_next(state, certificate)
    # Section 6.1.5 a, b and g: the leaf counts as well.
    left = 0 if path and _asks_at_once(path[0]) else state.explicit - 1
    return path[0] if path and left <= 0 and not state.level else None


def _take_policies(state: _State, certificate: x509.Certificate, *, is_last: bool) -> None:
    """Section 6.1.3 d and e."""
    named = find_extension(certificate, x509.CertificatePolicies)
    policies = {each.policy_identifier.dotted_string for each in named or ()}
    above = frozenset().union(*state.level.values()) if state.level else frozenset[str]()
    valid: _Level = {each: frozenset({each}) for each in policies - {ANY} if each in above or ANY in above}
    if ANY in policies and (state.any_policy or (not is_last and is_self_issued(certificate))):
        valid |= {each: frozenset({each}) for each in above - valid.keys()}
    state.level = valid


def _prepare_next(state: _State, certificate: x509.Certificate) -> None:
    """Section 6.1.4 a, b, h, i and j."""
    for policy, others in _mappings(certificate).items():
        if not state.mapping:
            state.level.pop(policy, None)
        elif policy in state.level or ANY in state.level:
            state.level[policy] = others
    if not is_self_issued(certificate):
        state.explicit, state.mapping, state.any_policy = (
            max(each - 1, 0) for each in (state.explicit, state.mapping, state.any_policy)
        )
    limits = find_extension(certificate, x509.PolicyConstraints)
    if limits is not None and limits.require_explicit_policy is not None:
        state.explicit = min(state.explicit, limits.require_explicit_policy)
    if limits is not None and limits.inhibit_policy_mapping is not None:
        state.mapping = min(state.mapping, limits.inhibit_policy_mapping)
    inhibited = find_extension(certificate, x509.InhibitAnyPolicy)
    if inhibited is not None:
        state.any_policy = min(state.any_policy, inhibited.skip_certs)


def _asks_at_once(leaf: x509.Certificate) -> bool:
    """Section 6.1.5 b."""
    limits = find_extension(leaf, x509.PolicyConstraints)
    return limits is not None and limits.require_explicit_policy == 0


def _mappings(certificate: x509.Certificate) -> Mapping[str, frozenset[str]]:
    """Read which policy below stands for which above (section 4.2.1.5); cryptography leaves that extension as it is."""
    found: dict[str, frozenset[str]] = {}
    for extension in certificate.extensions:
        if extension.oid == MAPPINGS and isinstance(extension.value, x509.UnrecognizedExtension):
            for pair in der.parts(extension.value.value):
                above, below = map(der.dotted, der.parts(pair))
                found[above] = found.get(above, frozenset()) | {below}
    return found
