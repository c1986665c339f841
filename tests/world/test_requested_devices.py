"""A certificate that is asked for a device by a request: issued once or refused, whatever comes in between.

``PROVE=1`` (``make prove``) tries each pair of acts, and two preemptions for two requests.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pytest

from shared.contracts.messages import Queue
from shared.domain.authorities import AuthorityState
from shared.domain.words import DeviceState
from shared.pki import names
from tests.pki.hierarchy import NOW, hierarchy
from tests.records import authority_record
from tests.world.auditor import told_by
from tests.world.prover import Proof
from tests.world.world import DEVICE, ISSUER, Authorities, World

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from tests.world.conductor import Conductor

DEEPER = os.environ.get("PROVE") == "1"
REQUESTS = {
    each: {"requestId": each, "kind": "device", "name": DEVICE, "issuer": ISSUER}
    for each in ("request", "request again")
}
RETIRE = "retire the CA"
ACTS = (*REQUESTS, "order", "revoke", "hold", "delete", RETIRE)
PAIRS = (
    [(first, second) for first in ACTS for second in ACTS]
    if DEEPER
    else [
        ("request", "request"),
        ("request", "request again"),
        ("request", "order"),
        ("request", RETIRE),
        ("request", "revoke"),
        ("request", "delete"),
    ]
)


class EndingAuthorities(Authorities):
    """One issuing CA that can be retired."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__(conductor)
        self._steps, self.state = conductor, AuthorityState.ACTIVE

    async def get(self, _name: str) -> Any:
        """Give its row."""
        async with self._steps.step("read the CA", "tables"):
            self._steps.trace.note("issuers", ISSUER)
            return authority_record(
                ISSUER,
                NOW,
                state=self.state,
                path_length=0,
                enrollment_group="line",
                certificate=names.pem(hierarchy().issuing.certificate),
            )

    async def retire(self) -> None:
        """Have it sign nothing any more."""
        async with self._steps.step("retire the CA", "tables"):
            self._steps.trace.note("issuers", ISSUER, changed=True)
            self.state = AuthorityState.RETIRED


class Requesting(World):
    """A world whose CA has a row."""

    authorities_kind: ClassVar[type[Authorities]] = EndingAuthorities
    authorities: EndingAuthorities

    def copy(self, into: Self | None = None) -> Self:
        twin = super().copy(into)
        twin.authorities.state = self.authorities.state
        return twin


class RequestedProof(Proof[Requesting]):
    """What was tried in such worlds."""

    of = "of requested devices: "

    def _call(self, world: Requesting, name: str) -> Coroutine[None, None, None] | None:
        return world.authorities.retire() if name == RETIRE else super()._call(world, name)

    def _message(self, world: Requesting, name: str) -> tuple[Queue, Mapping[str, Any]] | None:
        return (Queue.CERTIFICATE_REQUESTS, REQUESTS[name]) if name in REQUESTS else super()._message(world, name)

    async def _found(self, world: Requesting) -> list[str]:
        found, told, record = await super()._found(world), told_by(world), world.record()
        for name in REQUESTS.keys() & world.asked.keys():
            ends = {kind for kind, request in told if request == name} & {"CertificateIssued", "RequestRejected"}
            if not world.lying(world.asked[name]) and len(ends) != 1:
                found.append(f"{name} was told as {sorted(ends)}")
            state = record.state if record is not None and record.order_id == name else None
            if state is DeviceState.ORDERED and world.rejected(world.asked[name]):
                found.append(f"{name} was refused, and has the device")
            if state is DeviceState.FAILED and "CertificateIssued" in ends:
                found.append(f"the device of {name} was issued, and has failed")
        return found


async def empty() -> Requesting:
    """An order is accepted, and nothing was done for it."""
    world = Requesting()
    await world.prepare()
    await world.line("o1", csr=None)
    return world


@pytest.mark.parametrize("act", list(REQUESTS)[: 2 if DEEPER else 1])
async def test_a_request_for_a_device_that_breaks_off_at_any_step_is_finished(act: str) -> None:
    """Killed before each step, and after each with its answer lost, then delivered again."""
    proof = RequestedProof()
    await proof.break_off(await empty(), act)
    proof.check()


async def test_a_request_whose_ca_was_retired_before_it_came_again_has_one_end() -> None:
    """Killed before each step; then its CA is retired, and its message comes again: it is issued, or it is refused."""
    proof, scene = RequestedProof(), await empty()
    for step in range(await proof.length(scene, "request")):
        world = scene.copy()
        proof.begin(world, "a", "request")
        await world.conductor.advance("a", step)
        await world.conductor.kill("a")
        await world.authorities.retire()
        await proof._close(world, "ended by its CA", f"its CA was retired when it was killed after {step} steps")  # noqa: SLF001 - a run of its kind
    proof.check()


@pytest.mark.parametrize(("first", "second"), PAIRS)
async def test_a_request_for_a_device_and_another_act_end_as_if_one_had_come_after_the_other(
    first: str, second: str
) -> None:
    """One pauses before each of its steps while the other one, or its own second delivery, runs to its end."""
    proof, scene = RequestedProof(), await empty()
    await proof.interleave(scene, first, second)
    await proof.interleave(scene, second, first)
    proof.check()


@pytest.mark.skipif(not DEEPER, reason="make prove")
@pytest.mark.parametrize("second", list(REQUESTS))
async def test_two_requests_for_a_device_that_pause_in_turn_have_one_certificate(second: str) -> None:
    """Both pause before each of their steps."""
    proof = RequestedProof()
    await proof.interleave_twice(await empty(), "request", second)
    proof.check()


@pytest.mark.skipif(not DEEPER, reason="make prove")
@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_of_two_deliveries_between_which_the_ca_is_retired_one_verdict_is_told(order: str) -> None:
    """Both pause before each of their steps; one that is refused then takes nothing from what the other has issued."""
    proof = RequestedProof()
    await proof.change_between(await empty(), "request", RETIRE, order=order)
    proof.check()
