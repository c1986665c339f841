"""Registration ids: one rule, the same for orders and for certificates."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.orders import DeviceRequest
from shared.errors import Rejected
from shared.rules.registration_ids import canonical_registration_id, same_registration_id

LONG = "a" * 65
VERY_LONG = "b" * 129


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("Press-001", "press-001"), ("A:b.C_d-", "a:b.c_d-"), ("0", "0"), ("x" * 64, "x" * 64)],
)
def test_an_id_is_lower_cased(text: str, canonical: str) -> None:
    """An id within the rule is taken, in lower case."""
    assert canonical_registration_id(text) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is empty; a registration id has 1 to 64 characters"),
        ("press 1/a", "'press 1/a' contains ' ', '/'; a registration id has letters, digits and - . _ : only"),
        ("pr\u00e9ss", "'pr\u00e9ss' contains '\u00e9'; a registration id has letters, digits and - . _ : only"),
        ("\u212a1", "'\u212a1' contains '\u212a'; a registration id has letters, digits and - . _ : only"),
        ("a\n", r"'a\n' contains '\n'; a registration id has letters, digits and - . _ : only"),
        ("press.", "'press.' must end with a letter, a digit or a dash"),
        (LONG, f"{LONG!r} has 65 characters; a registration id has at most 64, because it is the certificate's CN"),
        (
            VERY_LONG,
            f"'{'b' * 64}...' has 129 characters; a registration id has at most 64, because it is the certificate's CN",
        ),
    ],
)
def test_an_id_outside_the_rule_is_refused_with_it(text: str, message: str) -> None:
    """Each fault has its message, with field, value and rule; the Kelvin sign, whose lower case is k, is not a letter."""
    with pytest.raises(Rejected) as caught:
        canonical_registration_id(text, field="devices[2].registrationId")
    assert str(caught.value) == f"devices[2].registrationId: {message}"


@settings(max_examples=2000, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_taken_in_canonical_form_or_rejected(text: str) -> None:
    """What is taken is its own canonical form, and the same id as what was given; nothing else is raised."""
    try:
        canonical = canonical_registration_id(text)
    except Rejected:
        return
    assert canonical_registration_id(canonical) == canonical
    assert same_registration_id(text, canonical)


@settings(max_examples=2000, deadline=None)
@given(st.text(string.ascii_letters + string.digits + "-._:/ \u00e9", min_size=1, max_size=70))
def test_orders_have_the_same_rule(text: str) -> None:
    """The contract of an order and the certificate engine take the same ids, and give them the same form."""
    try:
        ordered = DeviceRequest.model_validate({"registrationId": text}).registration_id
    except ValidationError:
        with pytest.raises(Rejected):
            canonical_registration_id(text)
    else:
        assert canonical_registration_id(text) == ordered


@pytest.mark.parametrize(("second", "same"), [("PRESS-k", True), ("press-\u212a", False), ("press-l", False)])
def test_ids_are_compared_without_case(second: str, *, same: bool) -> None:
    """Only the case of ASCII letters is overlooked."""
    assert same_registration_id("press-k", second) is same
