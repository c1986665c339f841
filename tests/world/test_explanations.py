"""What is explained of a device agrees with what the world shows: no false alarm at rest, and no open door unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from shared.domain.attestations import x509_attestation
from shared.domain.authorities import ProofOfPossession
from shared.domain.devices import OUT_OF_SERVICE
from shared.domain.words import CertificateKind, DeviceState
from shared.ledger.authorities import Authorities
from shared.pki import names
from tests.pki.hierarchy import NOW, hierarchy
from tests.records import authority_record
from tests.world.acts import ACTS, CALLS, FORMER, SCENES, message
from tests.world.prover import Proof
from tests.world.services import HUB
from tests.world.world import DEVICE, GROUP, ISSUER, World

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord

_TRUE = {"failed", "certificateExpired"}
"""Faults that acts really bring about: a refused order, and the end of a certificate."""


async def with_group(world: World) -> World:
    """Enter the group in DPS, and its CAs in the ledger, which the world of devices leaves out."""
    root, issuing = hierarchy().root.certificate, hierarchy().issuing.certificate
    entry = {"enrollmentGroupId": GROUP, "attestation": x509_attestation(issuing), "provisioningStatus": "enabled"}
    await world.provisioning.put_group(entry, etag=None)
    issuers = Authorities(world.storage.table("issuers"))
    for name, certificate, parent in (("dpsCa", root, None), (ISSUER, issuing, "dpsCa")):
        await issuers.try_insert(
            authority_record(
                name,
                NOW,
                kind=CertificateKind.INTERMEDIATE if parent else CertificateKind.ROOT,
                parent=parent,
                certificate=names.pem(certificate),
                thumbprint=names.thumbprint(certificate),
                proof_of_possession=None if parent else ProofOfPossession.VERIFIED,
            )
        )
    return listing(world)


def listing(world: World) -> World:
    """Have the world's CAs, which sign and are not listed, be listed as their records are: the preview reads these."""
    authorities: Any = world.authorities
    authorities.list = Authorities(world.storage.table("issuers")).list
    return world


async def explained(world: World) -> dict[str, Any]:
    return (await world.services.explaining.of_device(DEVICE)).shown()


async def act(world: World, name: str) -> None:
    """Carry one act out, and wait until everything is at rest."""
    if name in CALLS:
        await CALLS[name](world)
    elif (asked := message(world, name)) is not None:
        world.ask(name, *asked)
        await world.deliver(name)
    await world.drain()


async def check(world: World, record: DeviceRecord) -> None:
    """Compare what is explained with what DPS and the hub do."""
    found = await explained(world)
    faults = {each["code"] for each in (found["cause"], *found["further"]) if each["kind"] == "fault"}
    assert faults <= (set() if record.state in OUT_OF_SERVICE else _TRUE), found
    if record.shut_out:
        assert found["cause"]["code"] in {"onHold", "revoked", "deleted", "failed"}
    if record.certificate is None:
        return
    known = await world.certificates.get(record.certificate.serial_number)
    assert known is not None
    leaf = x509.load_pem_x509_certificate((known.record.pem or "").encode())
    lives = record.certificate.not_after >= world.now
    doors = {each["door"]: each["state"] for each in found["doors"]}
    assert (doors["dps"] == "open") is (lives and world.provisioning.admits(DEVICE, leaf))
    identity = world.hubs.identities.get((HUB, record.device_id or ""))
    if identity is not None:
        takes = names.sha256_thumbprint(leaf) in identity.thumbprints or record.state is DeviceState.RENEWING
        assert (doors["hub"] == "open") is (lives and identity.enabled and takes)


@pytest.mark.parametrize("scene", SCENES)
async def test_at_rest_after_any_act_nothing_is_wrong_that_is_not(scene: str) -> None:
    """Each act in each state: what is explained of the device then is true."""
    for name in ACTS:
        world = await with_group(await SCENES[scene]())
        try:
            await act(world, name)
        except Exception as error:  # an act that this state refuses changes nothing
            if not type(error).__module__.startswith("shared."):
                raise
            await world.drain()
        record = world.record()
        if record is not None:
            await check(world, record)


AT_WORK = [
    ("ordered", "order"),
    ("waiting", "order"),
    ("waiting", "boot"),
    ("registered", "renew"),
    ("renewing", "boot"),
    ("renewing", "renew"),
    ("registered", "hold"),
    ("held", "reinstate"),
    ("registered", "revoke"),
    ("renewed", FORMER),
    ("registered", "delete"),
    ("deleted", "order again"),
    ("registered", "disable"),
]


def faults_of(found: dict[str, Any]) -> set[str]:
    return {each["code"] for each in (found["cause"], *found["further"]) if each["kind"] == "fault"}


@pytest.mark.parametrize(("scene", "name"), AT_WORK)
async def test_an_act_that_is_under_way_raises_no_alarm(scene: str, name: str) -> None:
    """Whoever asks between two steps of an act, or while it runs, is not told that something is wrong."""
    proof, before = Proof(), await with_group(await SCENES[scene]())
    for step in range(await proof.length(before, name) + 1):
        world = listing(before.copy())
        proof.begin(world, "a", name)
        await world.conductor.advance("a", step)
        if world.record() is not None:
            with world.conductor.at_once():
                assert faults_of(await explained(world)) == set(), f"after {step} steps of {name}"
        await world.conductor.kill("a")


@pytest.mark.parametrize(("scene", "name"), [*AT_WORK[1:], ("registered", "disable the entry")])
async def test_what_changes_while_it_is_looked_at_raises_no_alarm(scene: str, name: str) -> None:
    """An act runs to its end between two reads of an explanation: it does not mix what was before with what is then."""
    proof, before = Proof(), await with_group(await SCENES[scene]())
    world, step, is_more = before, 0, True
    while is_more:
        world, found = listing(before.copy()), list[dict[str, Any]]()

        async def ask(world: World = world, found: list[dict[str, Any]] = found) -> None:
            found.append(await explained(world))

        world.conductor.start("b", ask())
        is_more = await world.conductor.advance("b", step) == step
        proof.begin(world, "a", name)
        await world.conductor.advance("a")
        await world.conductor.advance("b")
        assert faults_of(found[0]) == set(), f"{name} after {step} reads"
        step += 1
    assert step > 8
