"""Every property with the inputs it is tried on; the tests and the longer runs share this list."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.unit.pki import inputs
from tests.unit.pki import properties as holds
from tests.unit.pki.picks import picked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, eq=False)
class Case:
    """One property.

    Attributes:
        check: says what came of an input; raises when the property does not hold.
        inputs: a strategy for each argument.
        examples: how many inputs a test run takes.
        reached: how often each outcome comes about in them at least: else the inputs are not worth their name.
    """

    check: Callable[..., str]
    inputs: tuple[st.SearchStrategy[Any], ...]
    examples: int
    reached: Mapping[str, int]

    @property
    def name(self) -> str:
        return self.check.__name__


@dataclass
class Tally:
    """What came of a property's inputs.

    Attributes:
        distinct: hashes of those that ran, to the end.
        outcomes: how many inputs had each.
    """

    distinct: set[int] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, given_input: tuple[Any, ...], outcome: str) -> None:
        self.distinct.add(hash(repr(given_input)))
        self.outcomes[outcome] += 1


# How often each outcome comes about in the test run, at the least: about half of what it is now.
DAMAGED_REQUESTS = {
    "taken": 120, "not PKCS#10": 300, "signature is wrong": 40, "CN": 40, "other names": 20, "key usage": 15,
    "CA:TRUE": 10,
}  # fmt: skip
ASKING_REQUESTS = {
    "taken": 330, "attributes that ask": 60, "key can't be used": 80, "other names": 50, "CN": 40, "CA:TRUE": 25,
    "key usage": 12,
}  # fmt: skip
DAMAGED_CHAINS = {
    "accepted": 200, "unreadable": 70, "no-verified-ca": 80, "broken-link": 80, "wrong-group": 70, "key-algorithm": 25,
    "key-usage": 20, "authority-key-identifier": 12, "not-a-ca": 10, "common-name": 6, "expired": 6, "path-length": 5,
    "serial-number": 5, "other-key": 5, "critical-extension": 2,
}  # fmt: skip
BUILT_CHAINS = {
    "accepted": 150, "not-yet-valid": 80, "expired": 80, "common-name": 80, "serial-number": 60, "broken-link": 60,
    "no-verified-ca": 40, "other-key": 30, "unreadable": 10, "critical-extension": 10, "authority-key-identifier": 8,
    "key-usage": 8, "path-length": 6, "extended-key-usage": 6, "wrong-group": 6, "leaf-is-ca": 5, "not-a-ca": 3,
}  # fmt: skip
ISSUER_CHAINS = {
    "made": 120, "can't be read": 60, "is not signed by": 80, "forbids signing certificates": 15, "is not a root": 12,
    "has no CA rights": 8, "CAs below it": 4,
}  # fmt: skip
PFX_FILES = {
    "imported": 60, "can't be opened": 300, "the issuer of": 80, "can't be read": 10, "rounds of key derivation": 3,
    "forbids signing certificates": 5, "has no CA rights": 4,
}  # fmt: skip
PEM_FILES = {
    "imported": 150, "can't be opened": 100, "can't be read": 175, "the issuer of": 60,
    "none of its certificates": 12, "private keys": 3, "forbids signing certificates": 8, "has no CA rights": 6,
    "rounds of key derivation": 3,
}  # fmt: skip


def cases() -> tuple[Case, ...]:
    """Give all properties."""
    return (*_of_requests(), *_of_chains(), *_of_authorities(), *_of_values())


def _of_requests() -> tuple[Case, ...]:
    forms = st.integers(0, len(holds.FORMS) - 1)
    return (
        Case(
            holds.a_request_is_taken_or_rejected,
            (picked(inputs.request_files), forms),
            2000,
            DAMAGED_REQUESTS,
        ),
        Case(
            holds.a_request_is_taken_if_it_asks_for_no_more_than_a_device_gets,
            (inputs.asking_requests, forms),
            1500,
            ASKING_REQUESTS,
        ),
        Case(
            holds.an_ocsp_request_is_read_or_refused,
            (picked(inputs.ocsp_request),),
            700,
            {"read": 80, "MALFORMED_REQUEST": 200, "UNAUTHORIZED": 5},
        ),
    )


def _of_chains() -> tuple[Case, ...]:
    return (
        Case(
            holds.a_chain_with_damage_is_judged,
            (picked(inputs.damaged_chain),),
            2000,
            DAMAGED_CHAINS,
        ),
        Case(
            holds.a_built_chain_is_judged,
            (picked(inputs.built_chain),),
            1500,
            BUILT_CHAINS,
        ),
        Case(
            holds.an_issuer_is_made_or_refused,
            (picked(inputs.issuer_chain),),
            1000,
            ISSUER_CHAINS,
        ),
    )


def _of_authorities() -> tuple[Case, ...]:
    return (
        Case(
            holds.a_pfx_is_imported_or_rejected,
            (picked(inputs.pfx_file), inputs.passwords),
            1500,
            PFX_FILES,
        ),
        Case(
            holds.a_pem_is_imported_or_rejected,
            (picked(inputs.pem_file), inputs.passwords),
            1500,
            PEM_FILES,
        ),
        Case(
            holds.an_answer_is_taken_or_rejected,
            (picked(inputs.answer_file),),
            700,
            {"imported": 100, "can't be read": 100, "the issuer of": 30},
        ),
    )


def _of_values() -> tuple[Case, ...]:
    text, number = inputs.any_text, inputs.any_number
    more = st.tuples(
        st.none() | st.sampled_from(("Example", "", "a" * 65, "a\nb")), st.sampled_from((None, "US", "usa"))
    )
    return (
        Case(
            holds.a_name_is_certified_as_it_is_or_refused,
            (text | inputs.good_names, st.sampled_from(holds.PROFILES), more),
            1000,
            {"certified": 100, "organization": 100, "country": 80, "can't be printed": 30, "registrationId": 15},
        ),
        Case(
            holds.a_life_is_inside_the_issuer_or_refused,
            (
                inputs.any_time | inputs.near_times,
                st.integers(1, 1000) | st.integers(-1, 4_000_000),
                number | inputs.good_numbers,
            ),
            500,
            {"certified": 50, "20 octets": 50, "which leaves": 40, "when it becomes valid": 30, "year 9999": 5},
        ),
        Case(
            holds.a_url_is_written_or_refused,
            (text | text.map("http://".__add__),),
            300,
            {"written": 20, "refused": 80},
        ),
        Case(holds.a_registration_id_has_one_form, (text,), 1000, {"taken": 80, "contains": 250}),
        Case(holds.a_bundle_opens_with_its_password, (text, text), 100, {"opened": 25, "refused": 10}),
        Case(
            holds.a_revocation_is_listed_or_refused,
            (number | inputs.good_numbers, inputs.any_time, inputs.any_reason, number | inputs.good_numbers),
            500,
            {"listed": 40, "serial number": 60, "revocation reason": 30, "begin with 1950": 30, "CRL number": 8},
        ),
    )
