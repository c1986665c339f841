"""Two deliveries of a request, and between them what decides whether it can be carried out: one verdict is told.

``PROVE=1`` (``make prove``) tries more requests, and has the second delivery end first as well.
"""

from __future__ import annotations

import os

import pytest

from tests.world import acts, groups_acts
from tests.world.auditor import told_by
from tests.world.groups_prover import GroupProof
from tests.world.prover import Proof
from tests.world.world import World

DEEPER = os.environ.get("PROVE") == "1"
ORDERS = ("ab", "ba") if DEEPER else ("ab",)
ON_GROUPS = (
    ("enabled", "create", "delete the group"),
    ("absent", "disable the group", "create"),
    ("deleted", "update", "put"),
)
ON_DEVICES = {"hold": "DeviceRevoked", "renew": "CertificateRenewed"}
"""Requests, with the event that each is done by."""


class Verdicts(Proof[World]):
    """Of one request about a device."""

    async def _found(self, world: World) -> list[str]:
        [asked] = (each for each in world.asked.values() if each.name in ON_DEVICES)
        told = {kind for kind, request in told_by(world) if request == asked.body["requestId"]}
        both = {"RequestRejected", ON_DEVICES[asked.name]} <= told
        return [*await super()._found(world), *(["it was told as refused and as done"] if both else [])]


@pytest.mark.parametrize(("scene", "request_", "other"), ON_GROUPS if DEEPER else ON_GROUPS[:1])
async def test_a_request_about_a_group_is_done_or_refused(scene: str, request_: str, other: str) -> None:
    """And not both, wherever its two deliveries stand while the other request is carried out."""
    proof = GroupProof()
    for order in ORDERS:
        await proof.change_between(await groups_acts.SCENES[scene](), request_, other, order=order)
    proof.check()


@pytest.mark.parametrize("request_", ON_DEVICES if DEEPER else ["hold"])
async def test_a_request_about_a_device_is_done_or_refused(request_: str) -> None:
    """And not both, wherever its two deliveries stand while the device comes into being."""
    proof = Verdicts()
    for order in ORDERS:
        await proof.change_between(await acts.SCENES["ordered"](), request_, "order", order=order)
    proof.check()
