"""Which CA signs for a group: the one that is named, or one that is made where the present one was."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from shared.contracts import KeyCustody
from shared.errors import Rejected
from tests.unit.groups import GroupScene
from tests.unit.pki.foreign import KEY, authority
from tests.unit.test_owned_authorities import brought


async def test_the_next_ca_stands_where_the_present_one_does() -> None:
    """A roll that says nothing stays under the same CA, and leaves the key where such keys are."""
    scene = await GroupScene().set_up()
    await scene.issuing("factory-x", "dpsCa", path_length=1)
    await scene.ask("create", issuer="factory-x", custody="wrapped")
    await scene.ask("roll")
    made = await scene.worker().get("g-ca2")
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
    assert [(made := await scene.worker().get(name)).parent for name in ("g-ca2", "h-ca2")] == ["dpsCa", "factory-x"]
    assert made.custody is KeyCustody.WRAPPED


async def test_the_next_ca_stays_under_an_owners_root() -> None:
    """Below an imported root the next CA is signed by it; without that root's key the roll is refused in words."""
    corporate = authority("corporate")
    line_key = ec.generate_private_key(ec.SECP256R1())
    line = authority("line", parent=corporate, key=line_key, signed_by=KEY, length=0)
    scene = await GroupScene().set_up()
    await scene.worker().take_over("line", brought(line, corporate, key=line_key), cause="i")
    await scene.ask("create", issuer="line")
    with pytest.raises(Rejected) as refused:
        await scene.ask("roll", request_id="r1")
    assert str(refused.value) == (
        "issuer: 'line' was signed by a CA whose key is not here, so none can be made beside it; name the next issuing "
        "CA, or a CA that may have others below it"
    )
    await scene.worker().take_over("owner", brought(corporate), cause="i2")
    await scene.ask("roll", request_id="r2")
    assert (await scene.worker().get("g-ca2")).parent == "owner"
