"""Which CA signs for a group: the one that is named, or one that is made where the present one was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.parsing import parse
from shared.domain.groups import CaReferences, GroupRecord, GroupState
from shared.domain.words import CertificateKind, KeyCustody
from shared.errors import Conflict, Deferred, Rejected
from shared.ledger.table import Stale
from shared.ports.ca_certificates import VerifiedAuthority
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.groups.authorities import authority_name, usable_for_devices
from tests.pki.foreign import KEY, authority
from tests.pki.hierarchy import NOW
from tests.unit.groups import GroupScene
from tests.unit.test_owned_authorities import brought

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_BODY = {"requestId": "r", "enrollmentGroup": "g"}


async def test_the_next_ca_stands_where_the_present_one_does() -> None:
    """A roll that says nothing stays under the same CA, and leaves the key where such keys are."""
    scene = await GroupScene().set_up()
    await scene.issuing("factory-x", "dpsCa", path_length=1)
    await scene.ask("create", issuer="factory-x", custody="wrapped")
    await scene.ask("roll")
    made = await scene.worker().authorities.get("g-ca2")
    assert (made.parent, made.custody) == ("factory-x", KeyCustody.WRAPPED)
    assert scene.accepted() == ["g-ca1", "g-ca2"]


async def test_a_roll_says_where_the_next_ca_is_to_stand() -> None:
    """What is named counts: another CA above, or another custody alone."""
    scene = await GroupScene().set_up()
    await scene.issuing("factory-x", "dpsCa", path_length=1)
    await scene.ask("create", issuer="factory-x")
    await scene.ask("create", "h", issuer="factory-x")
    await scene.ask("roll", issuer="dpsCa")
    await scene.ask("roll", "h", custody="wrapped")
    assert [(made := await scene.worker().authorities.get(name)).parent for name in ("g-ca2", "h-ca2")] == [
        "dpsCa",
        "factory-x",
    ]
    assert made.custody is KeyCustody.WRAPPED


async def test_the_next_ca_stays_under_an_owners_root() -> None:
    """Below an imported root the next CA is signed by it; without that root's key the roll is refused in words."""
    corporate = authority("corporate")
    line_key = ec.generate_private_key(ec.SECP256R1())
    line = authority("line", parent=corporate, key=line_key, signed_by=KEY, length=0)
    scene = await GroupScene().set_up()
    await scene.worker().installation.take_over("line", brought(line, corporate, key=line_key), cause="i")
    await scene.ask("create", issuer="line")
    with pytest.raises(Rejected) as refused:
        await scene.ask("roll", request_id="r1")
    assert str(refused.value) == (
        "issuer: 'line' was signed by a CA whose key is not here, so none can be made beside it; name the next issuing "
        "CA, or a CA that may have others below it"
    )
    await scene.worker().installation.take_over("owner", brought(corporate), cause="i2")
    await scene.ask("roll", request_id="r2")
    assert (await scene.worker().authorities.get("g-ca2")).parent == "owner"


HELD = (
    "issuer: '{}' is an issuing CA of the enrollment group 'g', and DPS finds a device's group by its CA; name another, "
    "or leave it out to have one made"
)


async def test_two_groups_do_not_have_the_same_ca() -> None:
    """A CA that signs for a group, signed, or is about to, is neither made nor rolled into another, by name."""
    scene = await GroupScene().set_up()
    await scene.ask("create", "b")
    await scene.ask("create")
    await scene.ask("roll")
    for held in ("g-ca1", "g-ca2"):
        for action, group in (("roll", "b"), ("create", "c")):
            with pytest.raises(Conflict) as refused:
                await scene.ask(action, group, request_id=f"{action}-{held}", issuer=held)
            assert str(refused.value) == HELD.format(held)
    assert await scene.groups.get("c") is None
    await scene.ask("delete")
    await scene.ask("roll", "b", request_id="free", issuer="g-ca2")
    assert scene.accepted("b") == ["b-ca1", "g-ca2"]


async def test_groups_that_attest_by_reference_share_a_ca() -> None:
    """They name the root, and one issuing CA signs for both; a group that holds the CA itself would take their devices."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    for group in ("g", "b"):
        await scene.ask("create", group, caReferences={"primary": "dpsCa"}, issuer="line")
    with pytest.raises(Conflict):
        await scene.ask("create", "c", issuer="line")
    await scene.ask("create", "d")
    with pytest.raises(Conflict, match="'d-ca1' is an issuing CA of the enrollment group 'd'"):
        await scene.ask("update", caReferences={"primary": "dpsCa"}, issuer="d-ca1")
    assert (await scene.record()).issuer == "line"


@dataclass
class Verified:
    """A DPS, by the CAs whose possession was proved to it."""

    proved: list[VerifiedAuthority]

    async def verified(self) -> list[VerifiedAuthority]:
        return self.proved

    async def linked_hubs(self) -> tuple[str, ...]:
        return ()


async def test_a_ca_may_be_below_either_of_those_that_a_group_refers_to() -> None:
    """What is below neither is refused, since DPS would let none of its devices in."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    root = (await scene.worker().authorities.get("dpsCa")).thumbprint or ""
    proved = {"dps-root": root, "elsewhere": "AB", "another": "CD"}
    scene.resource = Verified([VerifiedAuthority(name, thumbprint, None) for name, thumbprint in proved.items()])
    for group, references in (("g", ("dps-root", "elsewhere")), ("h", ("elsewhere", "dps-root"))):
        primary, secondary = references
        await scene.ask("create", group, caReferences={"primary": primary, "secondary": secondary}, issuer="line")
        assert (await scene.record(group)).issuer == "line"
    with pytest.raises(Rejected) as refused:
        await scene.ask("create", "i", caReferences={"primary": "elsewhere", "secondary": "another"}, issuer="line")
    assert str(refused.value).startswith(
        "issuer: 'line' is to sign for a group that accepts what stands under elsewhere or another, and it is not an "
        "issuing CA of these: its chain is "
    )


async def test_of_two_groups_that_want_a_ca_at_once_none_gets_it_unseen() -> None:
    """A roll looks again when its intent is recorded, before DPS is touched; what it can't do is withdrawn."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create")
    await scene.ask("create", "b")
    subject, found = scene.subject, scene.groups.list

    async def not_yet() -> AsyncIterator[GroupRecord]:
        subject.groups.list = found  # type: ignore[method-assign]
        await scene.ask("roll", "b", issuer="line")
        nobody: list[GroupRecord] = []
        for each in nobody:
            yield each

    subject.groups.list = not_yet  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="'line' is an issuing CA of the enrollment group 'b'"):
        await scene.ask("roll", issuer="line")
    assert (scene.accepted(), (await scene.record()).rollover) == (["g-ca1"], None)


@pytest.mark.parametrize("action", ["update", "put"])
async def test_a_ca_that_another_group_gets_meanwhile_does_not_sign_below_references(action: str) -> None:
    """Both have seen that nobody has it: whoever is entered second looks again, also where its entry is made anew."""
    scene = await GroupScene().set_up()
    for name in ("line", "other"):
        await scene.issuing(name, "dpsCa")
    await scene.ask("create", caReferences={"primary": "dpsCa"}, issuer="line")
    if action == "put":
        scene.provisioning.groups.clear()
    before = dict(scene.provisioning.groups.get("g", {}))
    subject = scene.subject
    enter = subject.groups.replace

    async def later(*given: Any) -> Any:
        subject.groups.replace = enter  # type: ignore[method-assign]
        await scene.ask("create", "b", issuer="other")
        return await enter(*given)

    subject.groups.replace = later  # type: ignore[method-assign,assignment]
    with pytest.raises(Conflict, match="'other' is an issuing CA of the enrollment group 'b'"):
        await scene.ask(action, request_id="r1", caReferences={"primary": "dpsCa", "secondary": "x"}, issuer="other")
    record = await scene.record()
    assert (record.issuer, record.ca_references, record.change) == ("line", CaReferences(primary="dpsCa"), None)
    assert {**before, "etag": None} == {**scene.provisioning.groups.get("g", {}), "etag": None}
    await scene.ask(action, request_id="r2", caReferences={"primary": "dpsCa", "secondary": "x"}, issuer="line")


async def test_custody_that_can_not_be_kept_is_refused() -> None:
    """A CA that exists keeps its key where it is, and with references no CA is made."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create")
    with pytest.raises(Rejected) as refused:
        await scene.ask("roll", issuer="line", custody="wrapped")
    assert str(refused.value) == (
        "custody: the key of 'line' is in custody 'vault' and stays there; leave custody out, or name a CA under which one "
        "is to be made"
    )
    with pytest.raises(Rejected) as refused:
        await scene.ask("put", "b", caReferences={"primary": "dpsCa"}, custody="wrapped")
    assert str(refused.value) == (
        "custody is for an issuing CA that is made here, and caReferences name CAs instead; leave custody out"
    )
    await scene.ask("roll", request_id="r2", issuer="line", custody="vault")
    assert scene.accepted() == ["g-ca1", "line"]


@pytest.mark.parametrize(
    ("issuer", "states", "message"),
    [
        ("dpsCa", {}, "issuer: 'dpsCa' is a root; a device is signed by an issuing CA, whose path length is 0"),
        (
            "factory",
            {},
            "issuer: 'factory' is a CA that may have others below it; a device is signed by an issuing CA, whose path "
            "length is 0",
        ),
        (
            "line",
            {"g": GroupState.DISABLED},
            "issuer: 'line' is an issuing CA of the enrollment group 'g', which is disabled; enable the group or create it "
            "anew, or name another CA",
        ),
        (
            "line",
            {"g": GroupState.DELETED},
            "issuer: 'line' is an issuing CA of the enrollment group 'g', which is deleted; enable the group or create it "
            "anew, or name another CA",
        ),
        ("line", {"g": GroupState.DELETED, "h": GroupState.ENABLED}, None),
        ("line", {}, None),
    ],
)
async def test_a_device_is_signed_by_a_ca_that_may_sign_for_devices(
    issuer: str, states: dict[str, GroupState], message: str | None
) -> None:
    """A root and a CA with others below it do not, nor one whose groups are all disabled or deleted."""
    scene = await GroupScene().set_up()
    await scene.issuing("factory", "dpsCa", path_length=1)
    await scene.issuing("line", "dpsCa")
    for group, state in states.items():
        await scene.groups.insert(
            GroupRecord(enrollment_group=group, state=state, issuer="line", updated_at=NOW, last_request="c")
        )
    if message is None:
        assert (await usable_for_devices(scene.worker().authorities, scene.groups, issuer)).name == issuer
        return
    with pytest.raises(Rejected) as refused:
        await usable_for_devices(scene.worker().authorities, scene.groups, issuer)
    assert str(refused.value) == message


async def test_a_next_ca_does_not_take_over_in_a_group_that_is_gone_from_dps() -> None:
    """It went while its CA was made: devices would be signed by a CA that DPS does not know."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    make = scene.vault.get_or_create

    async def no_answer(*_of_it: Any) -> Any:
        raise ConnectionError("the vault does not answer")

    scene.vault.get_or_create = no_answer  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await scene.ask("roll")
    assert (await scene.record()).preparing is not None
    scene.vault.get_or_create = make  # type: ignore[method-assign]
    scene.provisioning.groups.clear()
    with pytest.raises(
        Rejected, match=r"^enrollmentGroup: the enrollment group 'g' is gone from the DPS; create it anew$"
    ):
        await scene.converger.prepare("g")
    record = await scene.record()
    assert (record.issuer, record.preparing) == ("g-ca1", None)


async def test_a_roll_that_others_overtake_again_and_again_lets_go() -> None:
    """The group is as it was, and the request comes again."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    replace, late = scene.groups.replace, [0]

    async def overtaken(known: Any, record: Any) -> Any:
        if record.preparing is None and known.record.preparing is not None:
            late[0] += 1
            raise Stale("g")
        return await replace(known, record)

    scene.groups.replace = overtaken  # type: ignore[method-assign]
    with pytest.raises(Deferred, match="'g' is being changed by someone else"):
        await scene.ask("roll")
    assert late[0] > 1
    scene.groups.replace = replace  # type: ignore[method-assign]
    await scene.converger.sweep(older_than=timedelta())
    assert (await scene.record()).issuer == "g-ca2"


async def test_what_is_asked_of_a_group_by_reference_is_foreseen_without_a_ca_of_its_own() -> None:
    scene = await GroupScene().set_up()
    await scene.ask("put", caReferences={"primary": "dpsCa"})
    put = {**_BODY, "action": "put", "caReferences": {"primary": "dpsCa"}}
    await scene.checks.foresee(parse(EnrollmentGroupRequest, put))
    with pytest.raises(Rejected, match=r"^custody: the group has no issuing CA; leave custody out$"):
        await scene.checks.foresee(parse(EnrollmentGroupRequest, {**_BODY, "action": "update", "custody": "vault"}))
    for action in ("disable", "delete"):
        await scene.checks.foresee(parse(EnrollmentGroupRequest, {**_BODY, "action": action}))
    assert (await scene.record()).state == "enabled"


async def test_a_group_that_refers_to_a_ca_that_is_not_here_has_no_issuing_ca() -> None:
    """Others sign for its devices; this app does not."""
    scene = await GroupScene().set_up()
    await scene.ask("put", caReferences={"primary": "theirs"})
    assert (await scene.record()).issuer == ""


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("line-1", "line-1-ca1"),
        ("line.1", r"line-1-[0-9a-f]{8}-ca1"),
        ("line_1", r"line-1-[0-9a-f]{8}-ca1"),
        ("x" * 128, r"x+-[0-9a-f]{8}-ca1"),
    ],
)
def test_groups_whose_ids_are_alike_do_not_get_a_ca_of_the_same_name(group: str, name: str) -> None:
    """A vault's key has letters, digits and dashes alone (Microsoft: "Key Vault", object identifiers)."""
    assert re.fullmatch(name, authority_name(group, 1))
    assert re.fullmatch("[0-9A-Za-z-]{1,127}", authority_name(group, 1))
    assert len({authority_name(each, 1) for each in ("line.1", "line_1", "line-1", "line:1")}) == 4


async def test_a_device_is_not_signed_by_a_ca_that_waits_for_its_certificate() -> None:
    scene = await GroupScene().set_up()
    ordered = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, externally_signed=True)
    await scene.worker().creation.ensure(ordered, cause="r")
    with pytest.raises(Deferred, match="'line'"):
        await usable_for_devices(scene.worker().authorities, scene.groups, "line")
