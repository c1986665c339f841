"""A group whose new CA is revoked while the old one is leaving: another takes its place, and the group is enabled again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.groups import GroupAction
from shared.domain.attestations import certificate_of, held_certificates
from shared.domain.authorities import AuthorityAction
from shared.domain.groups import GroupState
from shared.pki import names
from tests.world import authority_acts

if TYPE_CHECKING:
    from shared.domain.groups import GroupRecord
    from tests.world.authority_world import AuthorityWorld


async def the_group(world: AuthorityWorld) -> GroupRecord:
    [found] = [each async for each in world.groups.list()]
    return found


async def test_a_group_is_in_service_again_when_the_ca_that_has_taken_over_was_revoked_and_replaced() -> None:
    """What goes on with the revocation does not disable the group anew."""
    world = await authority_acts.rooted()
    await world.group(GroupAction.CREATE, "gc")
    await world.group(GroupAction.ROLL, "gr")
    before = await the_group(world)
    await world.act(before.issuer, AuthorityAction.REVOKE)
    await world.drain()
    shut = await the_group(world)
    assert (shut.state, shut.issuer) == (GroupState.DISABLED, before.issuer)
    await world.group(GroupAction.ROLL, "gs")
    await world.group(GroupAction.ENABLE, "ge")
    await world.drain()
    after = await the_group(world)
    assert (after.state, after.previous_issuer) == (GroupState.ENABLED, before.previous_issuer)
    assert before.issuer not in after.authorities
    entry = world.provisioning.groups[after.enrollment_group]
    certificates = {each.name: certificate_of(each.certificate) for each in world.known()}
    accepted = [certificates[each or ""] for each in (after.previous_issuer, after.issuer)]
    assert entry["provisioningStatus"] == "enabled"
    assert list(held_certificates(entry)) == [names.sha256_thumbprint(each) for each in accepted if each]
