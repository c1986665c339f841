"""An order for a device that others have let into DPS by an individual enrollment of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.attestations import attestation_of, leaf_attestation
from shared.pki import names
from shared.ports.registrar import RegistrationRefused
from tests.pki.hierarchy import hierarchy
from tests.world.acts import MESSAGES, ordered
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from cryptography import x509

    from shared.ports.registrar import Assignment
    from tests.world.world import World

THEIRS = hierarchy().device(DEVICE)
PLAIN = f"DPS refused to register {DEVICE!r} with status 401"


async def let_in(world: World, attestation: dict[str, Any], status: str = "enabled") -> None:
    """Have others make an entry for the device in the portal."""
    entry = {"registrationId": DEVICE, "provisioningStatus": status, "attestation": attestation}
    await world.provisioning.put_enrollment(entry, etag=None)


async def carry_out(world: World, order: str) -> None:
    world.ask(order, *MESSAGES[order])
    await world.deliver(order)
    await world.drain()


async def why(world: World, order_id: str) -> str:
    """Give why the line of an order failed, as its device says as well."""
    [line], record = await world.orders.get_lines(order_id, 0, 1), world.record()
    assert record is not None
    assert (line.record.state, record.state, record.shut_out) == ("failed", "failed", True)
    [reason] = line.record.reasons or ()
    assert record.reason == reason["message"]
    return reason["message"]


@pytest.mark.parametrize(
    ("attestation", "accepts"),
    [
        (leaf_attestation(names.pem(THEIRS)), f"the certificate {names.sha256_thumbprint(THEIRS)}"),
        ({"type": "symmetricKey", "symmetricKey": {}}, "a symmetric key"),
    ],
)
async def test_an_order_that_fails_by_the_enrollment_that_others_have_made_names_it_and_what_becomes_of_it(
    attestation: dict[str, Any], accepts: str
) -> None:
    """It is disabled as every door of a device whose order fails, and another order lets the device in by it."""
    world = await ordered()
    await let_in(world, attestation)
    await carry_out(world, "order")
    assert await why(world, "o1") == (
        f"{PLAIN}. The cause: the device has an individual enrollment that was not made for this order. It accepts {accepts}, and no certificate that the ledger has. Since the order has failed, the "
        "enrollment is disabled, and holds the certificate that was issued, which is revoked. Another order takes the "
        "enrollment over and lets the device in"
    )
    entry, record = world.provisioning.enrollments[DEVICE], world.record()
    assert record is not None
    assert entry["provisioningStatus"] == "disabled"
    assert [each.serial_number for each in attestation_of(entry).held] == [each.serial_number for each in record.held]
    await carry_out(world, "order again")
    entry, record = world.provisioning.enrollments[DEVICE], world.record()
    assert record is not None
    assert (record.state, entry["provisioningStatus"]) == ("registered", "enabled")
    assert [each.serial_number for each in attestation_of(entry).held] == list(record.in_use)


async def test_an_enrollment_that_others_have_made_is_not_the_cause_of_every_refusal() -> None:
    """DPS would take the certificate, and refuses the request for something else: its words come first."""
    world = await ordered()
    await let_in(world, leaf_attestation(names.pem(THEIRS)))

    async def refuse(*_: object) -> Assignment:
        raise RegistrationRefused("DPS refused it with status 400: the payload is too large", status=400)

    world.registrar.register = refuse  # type: ignore[method-assign, assignment]
    await carry_out(world, "order")
    assert (await why(world, "o1")).startswith(
        "DPS refused it with status 400: the payload is too large. Also, the device has an individual enrollment that "
        "was not made for this order. It accepts"
    )


async def test_an_order_that_fails_otherwise_names_no_enrollment() -> None:
    """DPS does not say why; or somebody has shut the device out in the portal by the certificate that was issued."""
    world = await ordered()
    world.registrar.refuses = True
    await carry_out(world, "order")
    assert await why(world, "o1") == PLAIN
    world = await ordered()
    decide = world.registrar.boot

    async def shut_out(registration_id: str, certificate: x509.Certificate) -> Assignment | None:
        await let_in(world, leaf_attestation(names.pem(certificate)), status="disabled")
        return await decide(registration_id, certificate)

    world.registrar.boot = shut_out  # type: ignore[method-assign]
    await carry_out(world, "order")
    assert await why(world, "o1") == PLAIN
