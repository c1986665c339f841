"""Every property with the inputs it is tried on; the tests and the longer run share this list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.unit.pki import properties as holds
from tests.unit.pki.mutations import edits, mutated

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Case:
    """One property.

    Attributes:
        check: raises when it does not hold.
        inputs: a strategy for each argument.
        examples: how many inputs a test run takes.
    """

    check: Callable[..., None]
    inputs: tuple[st.SearchStrategy[Any], ...]
    examples: int

    @property
    def name(self) -> str:
        return self.check.__name__


def a_damaged_certificate_of_a_chain_is_judged(position: int, der: bytes) -> None:
    """See :func:`properties.a_chain_is_judged`."""
    certificate = holds.loaded(der)
    if certificate is not None:
        holds.a_chain_is_judged(position, certificate)


def a_damaged_authority_is_made_or_refused(der: bytes) -> None:
    """See :func:`properties.an_issuer_is_made_or_refused`."""
    certificate = holds.loaded(der)
    if certificate is not None:
        holds.an_issuer_is_made_or_refused(certificate)


def a_damaged_authority_is_imported_or_rejected(pair: tuple[bytes, bytes]) -> None:
    """See :func:`properties.a_damaged_authority_is_imported_or_rejected`."""
    holds.a_damaged_authority_is_imported_or_rejected(*pair)


def bundles() -> st.SearchStrategy[bytes]:
    """Draw bundles: damaged as text, or of damaged certificates."""
    text = st.builds(mutated, st.just(holds.whole_bundle()), edits, st.sampled_from(holds.all_seeds()))
    leaf = holds.damaged("leaves").map(lambda der: holds.armoured(der, "CERTIFICATE"))
    key = st.binary(max_size=60).map(lambda der: holds.armoured(der, "ENCRYPTED PRIVATE KEY"))
    return (
        text
        | leaf
        | st.builds(bytes.__add__, leaf, key)
        | st.builds(bytes.__add__, st.just(holds.whole_bundle()), leaf)
    )


def damaged_file(content: bytes) -> st.SearchStrategy[bytes]:
    """Draw damaged forms of one file."""
    return st.builds(mutated, st.just(content), edits, st.sampled_from(holds.all_seeds()))


def cases() -> tuple[Case, ...]:
    """Give all properties."""
    certificates = holds.strange_certificates()
    authorities = holds.damaged("authorities")
    any_file = holds.damaged("leaves") | authorities
    text = holds.any_text
    passwords = st.sampled_from(holds.PASSWORDS)
    _, own, root = holds.owned()
    damaged_authority = st.tuples(damaged_file(own), st.just(root)) | st.tuples(st.just(own), damaged_file(root))
    return (
        Case(a_damaged_authority_is_imported_or_rejected, (damaged_authority,), 800),
        Case(holds.a_pfx_is_imported_or_rejected, (damaged_file(holds.whole_pfx()), passwords), 1000),
        Case(holds.a_pem_is_imported_or_rejected, (bundles(), passwords), 2300),
        Case(holds.an_ocsp_request_is_read_or_refused, (damaged_file(holds.ocsp_request()),), 800),
        Case(holds.a_request_is_taken_or_rejected, (holds.damaged("requests"), st.integers(0, 5)), 3000),
        Case(a_damaged_certificate_of_a_chain_is_judged, (st.integers(0, 3), any_file), 2500),
        Case(a_damaged_authority_is_made_or_refused, (authorities,), 1000),
        Case(
            holds.a_name_is_certified_as_it_is_or_refused,
            (text, st.sampled_from(holds.PROFILES), st.tuples(st.none() | text, st.none() | st.text(max_size=3))),
            1000,
        ),
        Case(
            holds.a_life_is_inside_the_issuer_or_refused,
            (holds.any_time, st.integers(-1, 4_000_000), holds.any_number),
            500,
        ),
        Case(holds.a_url_is_written_or_refused, (text | text.map("http://".__add__),), 300),
        Case(holds.a_registration_id_has_one_form, (text,), 1000),
        Case(holds.a_bundle_opens_with_its_password, (text, text), 100),
        Case(
            holds.a_revocation_is_listed_or_refused,
            (holds.any_number, holds.any_time, holds.any_reason, holds.any_number),
            500,
        ),
        Case(
            holds.any_chain_is_judged,
            (st.lists(certificates, max_size=5), st.lists(certificates, max_size=2)),
            500,
        ),
    )
