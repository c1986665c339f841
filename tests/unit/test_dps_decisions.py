"""Which entry of DPS decides about a device, and why it would refuse it: DPS's message, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.attestations import individual_enrollment, reference_attestation, x509_attestation
from shared.domain.dps_decisions import Decision, Knowledge, decide
from shared.pki import names
from tests.pki.hierarchy import NOW, Hierarchy, hierarchy
from tests.world.groups_world import authority
from tests.world.services import with_info

if TYPE_CHECKING:
    from cryptography import x509

DEVICE = "press"
ROOT, ISSUING = hierarchy().root.certificate, hierarchy().issuing.certificate
ROOT_ISSUER = hierarchy().root
LEAF = hierarchy().device(DEVICE)
OTHER_CA = authority("other-ca1")
OTHER_LEAF = Hierarchy(ROOT_ISSUER, OTHER_CA).device(DEVICE)
CHAIN = [LEAF, ISSUING, ROOT]
DISABLED, NO_MATCH = "Enrollment is disabled", "Signing certificate info did not match chain elements"
NOT_FOUND, INVALID = "CA certificate not found", "Invalid certificate"


def entry(attestation: Any, status: str = "enabled") -> dict[str, Any]:
    return with_info({"registrationId": DEVICE, "attestation": attestation, "provisioningStatus": status}, None)


def own(certificate: x509.Certificate, status: str = "enabled") -> dict[str, Any]:
    return with_info(individual_enrollment(DEVICE, None, status, certificate), None)


def group(name: str, attestation: Any, status: str = "enabled") -> dict[str, Any]:
    return {"enrollmentGroupId": name, **entry(attestation, status)}


LINE = group("line", x509_attestation(ISSUING))


def decided(chain: list[x509.Certificate], **known: Any) -> Decision:
    knowledge: dict[str, Any] = {
        "enrollment": None,
        "groups": [LINE],
        "verified": {"dpsCa": ROOT},
        "now": NOW,
        **known,
    }
    return decide(chain, DEVICE, Knowledge(**knowledge))


def causes(decision: Decision) -> list[tuple[str, str]]:
    return [(each.message, each.finding.code) for each in decision.causes]


# --- by an individual enrollment ---


@pytest.mark.parametrize("chain", [CHAIN, [LEAF]])
def test_an_individual_enrollment_lets_in_the_certificate_that_it_holds_whatever_is_above_it(chain: list[Any]) -> None:
    """It decides before any group; no group and no verified CA is needed."""
    decision = decided(chain, enrollment=own(LEAF), groups=[], verified={})
    assert decision.match is not None
    assert (decision.match.kind, decision.match.identifier, decision.match.by) == ("individualEnrollment", DEVICE, None)
    assert causes(decision) == []


def test_a_disabled_one_shuts_the_device_out_though_its_group_would_let_it_in() -> None:
    decision = decided(CHAIN, enrollment=own(LEAF, "disabled"))
    assert decision.match is not None
    assert not decision.match.enabled
    assert causes(decision) == [(DISABLED, "disabled")]
    assert decision.causes[0].finding.message == (
        "the individual enrollment of 'press' is disabled, and decides before any group: the device is shut out"
    )


def test_one_that_holds_another_certificate_refuses_the_device() -> None:
    decision = decided(CHAIN, enrollment=own(OTHER_LEAF, "disabled"))
    assert causes(decision) == [(DISABLED, "disabled"), (INVALID, "other-certificate")]
    assert decision.causes[1].finding.message == (
        "the device's individual enrollment, which decides before any group, holds another certificate (SHA-256 "
        f"{names.sha256_thumbprint(OTHER_LEAF)}) than the leaf (SHA-256 {names.sha256_thumbprint(LEAF)}); put the leaf "
        "into it, or delete it to let a group decide"
    )


def test_one_with_another_attestation_takes_no_certificate() -> None:
    decision = decided(CHAIN, enrollment=entry({"type": "tpm", "tpm": {"endorsementKey": "k"}}))
    assert causes(decision) == [(INVALID, "other-attestation")]
    assert decision.causes[0].finding.message == (
        "the device's individual enrollment, which decides before any group, accepts a TPM, and no certificate"
    )


@pytest.mark.parametrize(
    ("chain", "references", "found", "advice"),
    [
        (CHAIN, ("dpsCa",), [], []),
        ([LEAF, ISSUING], ("elsewhere", "dpsCa"), [], []),
        ([LEAF, ISSUING, ISSUING], ("dpsCa",), [], ["duplicate"]),
        ([LEAF, OTHER_CA.certificate, ISSUING], ("dpsCa",), [], ["unneeded"]),
        (CHAIN, ("other",), [(NO_MATCH, "wrong-group")], []),
        ([LEAF], ("dpsCa",), [(NOT_FOUND, "no-verified-ca")], []),
    ],
)
def test_one_that_refers_to_cas_lets_in_who_is_below_one_of_them(
    chain: list[Any], references: tuple[str, ...], found: list[tuple[str, str]], advice: list[str]
) -> None:
    """By the chain up to a verified CA, as a group does; what others than DPS would not take is said."""
    decision = decided(
        chain,
        enrollment=entry(reference_attestation(*references)),
        groups=[],
        verified={"dpsCa": ROOT, "other": OTHER_CA.certificate},
    )
    assert decision.match is not None
    assert decision.match.kind == "individualEnrollment"
    assert causes(decision) == found
    assert [each.code for each in decision.advice] == advice


# --- by a group ---


@pytest.mark.parametrize(
    "groups",
    [
        [LINE],
        [group("factory", x509_attestation(ROOT)), LINE],
        [LINE, group("factory", reference_attestation("dpsCa"))],
    ],
)
@pytest.mark.parametrize("status", ["enabled", "disabled"])
def test_the_group_of_the_lowest_ca_decides_also_if_it_is_disabled(groups: list[Any], status: str) -> None:
    chosen = [{**each, "provisioningStatus": status} if each is LINE else each for each in groups]
    decision = decided(CHAIN, groups=chosen)
    assert decision.match is not None
    assert (decision.match.kind, decision.match.identifier, decision.match.by) == ("enrollmentGroup", "line", ISSUING)
    if status == "enabled":
        assert causes(decision) == []
    else:
        assert causes(decision) == [(DISABLED, "disabled")]
        assert decision.causes[0].finding.message.endswith(
            "is disabled; DPS looks no further, so no group of a CA higher up lets the device in"
        )


@pytest.mark.parametrize("attestation", [x509_attestation(ROOT), reference_attestation("elsewhere", "dpsCa")])
def test_a_group_of_a_ca_higher_up_decides_where_none_has_a_lower_one(attestation: Any) -> None:
    decision = decided([LEAF, ISSUING], groups=[group("factory", attestation)])
    assert decision.match is not None
    assert (decision.match.identifier, decision.match.by) == ("factory", ROOT)
    assert causes(decision) == []


def test_without_a_group_the_cas_of_the_chain_are_told() -> None:
    decision = decided([LEAF, ISSUING], groups=[group("other", x509_attestation(OTHER_CA.certificate))])
    assert decision.match is None
    assert causes(decision) == [(NO_MATCH, "no-group")]
    told = decision.causes[0].finding.message
    assert told.startswith("no enrollment group of this DPS holds a CA of the chain; the chain's CAs are ")
    assert [names.quoted(each.subject) in told for each in (ISSUING, ROOT, OTHER_CA.certificate)] == [True, True, False]


def test_of_a_group_that_is_meant_it_is_told_which_ca_it_has() -> None:
    other = group("other", x509_attestation(OTHER_CA.certificate))
    decision = decided([LEAF, ISSUING], groups=[other], named=other)
    assert causes(decision) == [(NO_MATCH, "wrong-group")]


def test_a_chain_that_is_sent_in_another_order_is_taken_and_the_right_one_is_told() -> None:
    decision = decided([LEAF, ROOT, ISSUING])
    assert causes(decision) == []
    [advice] = decision.advice
    order = ", ".join(names.quoted(each.subject) for each in CHAIN)
    assert (advice.code, advice.message.endswith(f"then each one's issuer: {order}")) == ("misordered", True)


def test_a_chain_that_ends_below_every_verified_ca_is_incomplete_and_one_that_is_too_long_is_refused() -> None:
    assert causes(decided(CHAIN, verified={}))[0][0] == NOT_FOUND
    assert causes(decided([LEAF, *[ISSUING] * 40]))[0][0] == INVALID
