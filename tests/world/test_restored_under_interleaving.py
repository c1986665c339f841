"""Whatever is asked for while a ledger that was put back is restored: at rest all is well, and nobody is let in again.

``PROVE=1`` (``make prove``) tries every scene with every act, killed at every step, and two preemptions for those that
revoke and those that open.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared import restoration
from shared.domain.words import DeviceState
from shared.workflows.epochs import Epochs
from tests.world.restored_acts import ACTS, AUTHORITY_SCENES, LATER, SCENES, SPARE, asked_once, put_back
from tests.world.restored_prover import RestoredProof
from tests.world.restored_world import RESTORE, SAID

if TYPE_CHECKING:
    from collections.abc import Mapping

DEEPER = os.environ.get("PROVE") == "1"
USUAL: Mapping[str, tuple[str, ...]] = {
    # What the ledger lost, and what is asked for while it is taken back.
    "revoked": ("renew", "delete", "ask OCSP"),
    "held": ("reinstate", "revoke"),
    "renewed": ("revoke", "delete"),
    "ordered": ("order", "revoke", "expire", "disable the entry"),
    "ordered again": ("hold",),
    "former revoked": ("boot",),
    "disabled": ("enable", "compare", "raise the epoch"),
    "entry disabled": ("put the entry",),
    "group disabled": ("put", "enable the group"),
    "enabling, then disabled": ("convergence",),
}
PAIRED = dict.fromkeys(SCENES, ACTS) if DEEPER else USUAL
KILLED = ("revoked", "held", "renewed", "ordered", "disabled", "group disabled")
TWICE = (
    ("held", "revoke"),
    ("held", "reinstate"),
    ("renewed", "delete"),
    ("disabled", "enable"),
    ("enabling, then disabled", "convergence"),
)


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the command says for the auditor."""
    monkeypatch.setattr(restoration, "_say", lambda line: SAID.get().append(line))


@pytest.mark.parametrize("scene", SCENES)
async def test_a_restoration_that_nobody_disturbs_leaves_nothing_open_and_nothing_unsaid(scene: str) -> None:
    proof, world = RestoredProof(), await SCENES[scene]()
    await proof.alone(world, RESTORE)
    proof.check()


@pytest.mark.parametrize("scene", SCENES if DEEPER else ("reinstated", "deleted"))
async def test_a_restoration_that_breaks_off_at_any_step_is_finished_by_the_next_one(scene: str) -> None:
    """Killed before each step, and after each with its answer lost, then run again; who is not as before is named."""
    proof, world = RestoredProof(), await SCENES[scene]()
    await proof.break_off(world, RESTORE)
    proof.check()


@pytest.mark.parametrize(("scene", "act"), [(scene, act) for scene, acts in PAIRED.items() for act in acts])
async def test_an_act_that_meets_a_restoration_comes_before_it_or_after_it(scene: str, act: str) -> None:
    """Either pauses before each of its steps while the other one runs to its end."""
    proof, world = RestoredProof(), await SCENES[scene]()
    await proof.interleave(world, RESTORE, act)
    await proof.interleave(world, act, RESTORE)
    proof.check()


@pytest.mark.skipif(not DEEPER, reason="make prove")
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("scene", KILLED)
async def test_an_act_that_breaks_off_while_the_ledger_is_an_older_one_is_finished_or_has_not_begun(
    scene: str, act: str
) -> None:
    """Killed before each step, and after each with its answer lost; then the ledger is restored."""
    proof, world = RestoredProof(), await SCENES[scene]()
    await proof.break_off(world, act)
    proof.check()


@pytest.mark.skipif(not DEEPER, reason="make prove")
@pytest.mark.parametrize(("scene", "act"), TWICE)
async def test_an_act_and_a_restoration_that_pause_in_turn_come_one_after_the_other(scene: str, act: str) -> None:
    """Both pause before each of their steps."""
    proof, world = RestoredProof(), await SCENES[scene]()
    await proof.interleave_twice(world, act, RESTORE)
    proof.check()


@pytest.mark.parametrize(
    ("scene", "act"),
    [
        ("held", "reinstate"),
        ("disabled", "enable"),
        ("entry disabled", "put the entry"),
        ("entry disabled", "delete the entry"),
        ("group disabled", "enable the group"),
        ("group disabled", "put"),
        ("group disabled", "update"),
        ("group disabled", "compare"),
        ("enabling, then disabled", "convergence"),
        ("reinstating, then revoked", "convergence"),
    ],
)
async def test_an_older_ledger_opens_nothing(scene: str, act: str) -> None:
    """What was shut after the copy is known at the services alone: whoever would open it waits."""
    world = await SCENES[scene]()
    before = world.state()
    await asked_once(world, act)
    after = world.state()
    assert (before.entry, before.identity, before.dps_group) == (after.entry, after.identity, after.dps_group)


@pytest.mark.parametrize(
    ("act", "shut"),
    [
        ("revoke", ("disabled", False)),
        ("hold", ("disabled", False)),
        ("disable", (None, False)),
        ("disable the entry", ("disabled", True)),
        ("delete", ("disabled", False)),
    ],
)
async def test_an_older_ledger_shuts_doors_all_the_same(act: str, shut: tuple[str | None, bool | None]) -> None:
    world = await put_back("order", lost=())
    await asked_once(world, act)
    entry, identity = world.state().entry, world.state().identity
    assert (entry and entry[0], identity and identity[0]) == shut


async def test_a_device_that_an_older_ledger_does_not_know_is_revoked_when_it_does() -> None:
    """It was ordered after the copy. Who has it revoked is not told that it does not exist."""
    world = await SCENES["ordered"]()
    await asked_once(world, "revoke")
    assert (world.record(), world.rejections()) == (None, [])
    await world.drain()
    record = world.record()
    assert record is not None
    assert (record.state, world.rejections()) == (DeviceState.REVOKED, [])


async def test_an_older_ledger_disables_a_group_all_the_same() -> None:
    world = await put_back("order", lost=())
    await asked_once(world, "disable the group")
    assert world.state().dps_group == "disabled"


# --- CAs ---

PROVED = "root being proved, then revoked"
"""Its event is told again when the CA is opened, for whoever does: the ledger does not keep who had it made."""

OPENS_NONE = (
    ("CA not made", "make the CA"),
    ("CA as it was", "ask for a certificate"),
    ("CA disabled, then revoked", "enable the CA"),
    ("CA disabled, then enabled", "delete the CA"),
    (PROVED, "sweep of CAs"),
    ("root being renewed, then revoked", "sweep of CAs"),
)


@pytest.mark.parametrize(("scene", "act"), OPENS_NONE)
async def test_an_older_ledger_makes_no_ca_and_puts_none_into_dps_and_deletes_no_key(scene: str, act: str) -> None:
    """What has become of a CA after the copy is known at the services alone: whoever would go on with it waits."""
    world = await AUTHORITY_SCENES[scene]()
    before = world.state_of_authorities()
    world.now += timedelta(minutes=2)
    await asked_once(world, act)
    assert (world.state_of_authorities(), world.too_early, world.rejections()) == (before, [], [])


@pytest.mark.parametrize(
    ("act", "state", "has_place"),
    [
        ("disable the root", "disabled", True),
        ("retire the root", "retired", True),
        ("revoke the root", "revoked", False),
    ],
)
async def test_an_older_ledger_shuts_a_ca_all_the_same(act: str, state: str, has_place: bool) -> None:  # noqa: FBT001
    """Also while its renewed certificate is to be proved, which waits."""
    for scene in ("CA as it was", "root being renewed, then revoked"):
        world = await AUTHORITY_SCENES[scene]()
        was_there = SPARE in world.places.places
        await asked_once(world, act)
        record = world.authority(SPARE)
        assert record is not None
        assert (record.state, record.change, world.too_early) == (state, None, [])
        assert (SPARE in world.places.places) == (was_there and has_place)


async def test_a_revocation_of_a_ca_is_on_its_issuer_s_list_when_the_ledger_is_accepted() -> None:
    world = await AUTHORITY_SCENES["CA as it was"]()
    await asked_once(world, "revoke the CA")
    record = world.authority(LATER)
    assert record is not None
    assert record.state == "revoked"
    assert record.serial_number not in world.list(SPARE).reasons
    await world.drain()
    assert world.list(SPARE).reasons == {record.serial_number: "keyCompromise"}
    assert (world.bugs, world.too_early) == ([], [])


async def test_a_root_that_was_revoked_after_the_copy_is_proved_again_when_the_ledger_is_accepted() -> None:
    """No list names a root: that it was revoked is known from the log alone, and is to be done again."""
    world = await AUTHORITY_SCENES[PROVED]()
    assert SPARE not in world.places.places
    await world.drain()
    world.now += timedelta(minutes=2)
    await asked_once(world, "sweep of CAs")
    assert world.places.places[SPARE].verified


@pytest.mark.parametrize(("scene", "act"), [each for each in OPENS_NONE if each[0] != PROVED])
async def test_an_act_on_a_ca_that_meets_a_restoration_waits_for_its_end(scene: str, act: str) -> None:
    """Either pauses before each of its steps while the other one runs to its end."""
    proof, world = RestoredProof(), await AUTHORITY_SCENES[scene]()
    world.now += timedelta(minutes=2)
    await proof.interleave(world, RESTORE, act)
    await proof.interleave(world, act, RESTORE)
    proof.check()


async def test_the_auditor_sees_a_door_that_an_older_ledger_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device was being enabled when the copy was made, and was disabled again after it."""

    async def not_noticed(_self: Epochs) -> None:
        return

    world, proof = await SCENES["enabling, then disabled"](), RestoredProof()
    monkeypatch.setattr(Epochs, "check", not_noticed)
    await proof.interleave(world, RESTORE, "convergence")
    assert any("the hub lets in a device that it kept out" in fault for fault in proof.faults)
