"""Enrollment groups: what holds of a DPS in memory holds of the emulated one through the app's adapter, and vice versa."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from emulator.tests.certificates import Party
from emulator.tests.dps_clients import DpsService
from shared.errors import Conflict, PreconditionFailed, Rejected
from shared.pki import names
from shared.ports.registrar import ClientCredentials
from shared.rules.etags import ANY_VERSION
from tests.contract.in_memory.test_services import Place, in_emulator, in_memory
from tests.pki.hierarchy import hierarchy
from tests.world import services
from tests.world.groups_world import ProvisioningByGroups, authority
from tests.world.restored_world import ProvisioningByCertificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.pki.issuers import Issuer

KINDS = {
    "in memory": services.Provisioning,
    "by groups": ProvisioningByGroups,
    "by certificates": ProvisioningByCertificates,
}


@dataclass
class Groups:
    """A DPS; names of a group and of its CAs that no other test has."""

    place: Place
    name: str = field(default_factory=lambda: f"line-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.dps = self.place.dps
        self.first, self.second, self.stranger = (authority(f"{self.name}-{each}") for each in ("ca1", "ca2", "ca3"))

    def body(self, *issuers: Issuer, status: str = "enabled", **fields: Any) -> dict[str, Any]:
        held = [{"certificate": names.pem(each.certificate)} for each in issuers]
        signing = dict(zip(("primary", "secondary"), held, strict=False))
        attestation = {"type": "x509", "x509": {"signingCertificates": signing}}
        return {"enrollmentGroupId": self.name, "attestation": attestation, "provisioningStatus": status, **fields}

    async def put(self, *issuers: Issuer, **fields: Any) -> dict[str, Any]:
        """Create the group, or replace it."""
        present = await self.dps.get_group(self.name)
        return await self.dps.put_group(self.body(*issuers, **fields), etag=present["etag"] if present else None)

    async def admits(self, issuer: Issuer) -> bool:
        """Have the device register with a certificate of a CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = replace(hierarchy(), issuing=issuer).device(self.place.device, now=datetime.now(UTC), key=key)
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, issuer.certificate))
        encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
        try:
            await self.place.registrar.register(self.place.device, ClientCredentials(chain + encrypted, "sesame"))
        except Rejected:
            return False
        return True


def held(group: dict[str, Any]) -> list[str]:
    places = group["attestation"]["x509"]["signingCertificates"]
    return [places[each]["info"]["sha256Thumbprint"].upper() for each in ("primary", "secondary") if places.get(each)]


def thumbprints(*issuers: Issuer) -> list[str]:
    return [names.sha256_thumbprint(each.certificate) for each in issuers]


@asynccontextmanager
async def of(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Groups]:
    if kind in KINDS:
        yield Groups(in_memory(KINDS[kind]()))
        return
    running = request.getfixturevalue("emulator")
    top = Party(hierarchy().root.certificate, ec.generate_private_key(ec.SECP256R1()))
    DpsService(running).verified("dpsca", top)
    async with in_emulator(running) as place:
        found = Groups(place)
        yield found
        await found.dps.delete_group(found.name, etag=ANY_VERSION)


@pytest.fixture(params=[*KINDS, "emulator"])
async def groups(request: pytest.FixtureRequest) -> AsyncIterator[Groups]:
    async with of(request.param, request) as found:
        yield found


@pytest.fixture(params=["by groups", "by certificates", "emulator"])
async def deciding(request: pytest.FixtureRequest) -> AsyncIterator[Groups]:
    """A DPS that looks at who has signed a device's certificate: :class:`services.Provisioning` alone takes all."""
    async with of(request.param, request) as found:
        yield found


async def test_a_group_is_created_once_and_replaced_as_it_was_read(groups: Groups) -> None:
    """Each write gives another ETag; an outdated one writes nothing."""
    assert await groups.dps.get_group(groups.name) is None
    created = await groups.put(groups.first)
    with pytest.raises(Conflict):
        await groups.dps.put_group(groups.body(groups.second), etag=None)
    replaced = await groups.put(groups.second, status="disabled")
    assert replaced["etag"] != created["etag"]
    with pytest.raises(PreconditionFailed):
        await groups.dps.put_group(groups.body(groups.stranger), etag=created["etag"])
    read = await groups.dps.get_group(groups.name)
    assert read is not None
    assert (read["enrollmentGroupId"], read["provisioningStatus"]) == (groups.name, "disabled")
    assert (held(read), read["etag"]) == (thumbprints(groups.second), replaced["etag"])


async def test_a_group_is_deleted_as_it_was_read_and_a_group_that_is_gone_is_not_replaced(groups: Groups) -> None:
    """Deleting it again does nothing, and neither does it bring it back to write what was read."""
    created = await groups.put(groups.first)
    changed = await groups.put(groups.second)
    with pytest.raises(PreconditionFailed):
        await groups.dps.delete_group(groups.name, etag=created["etag"])
    await groups.dps.delete_group(groups.name, etag=changed["etag"])
    await groups.dps.delete_group(groups.name, etag=changed["etag"])
    await groups.dps.delete_group(groups.name, etag=ANY_VERSION)
    with pytest.raises(PreconditionFailed):
        await groups.dps.put_group(groups.body(groups.first), etag=changed["etag"])
    assert await groups.dps.get_group(groups.name) is None
    again = await groups.put(groups.first)
    assert again["etag"] not in {created["etag"], changed["etag"]}


async def test_certificates_that_a_group_shows_may_be_given_back(groups: Groups) -> None:
    """What was read of a group keeps its CAs when it is written again."""
    await groups.put(groups.first, groups.second)
    read = await groups.dps.get_group(groups.name)
    assert read is not None
    assert held(read) == thumbprints(groups.first, groups.second)
    await groups.dps.put_group({**read, "provisioningStatus": "disabled"}, etag=read["etag"])
    again = await groups.dps.get_group(groups.name)
    assert again is not None
    assert (held(again), again["provisioningStatus"]) == (thumbprints(groups.first, groups.second), "disabled")


async def test_all_groups_are_listed(groups: Groups) -> None:
    """Each once, as it is read alone."""
    await groups.put(groups.first)
    listed = [each async for each in groups.dps.list_groups() if each["enrollmentGroupId"] == groups.name]
    assert listed == [await groups.dps.get_group(groups.name)]
    await groups.dps.delete_group(groups.name, etag=ANY_VERSION)
    assert groups.name not in {each["enrollmentGroupId"] async for each in groups.dps.list_groups()}


async def test_an_id_has_no_case(groups: Groups) -> None:
    """Azure/azure-rest-api-specs, deviceprovisioningservices: the ids of groups and enrollments are case-insensitive."""
    created = await groups.put(groups.first)
    assert await groups.dps.get_group(groups.name.upper()) == created
    with pytest.raises(Conflict):
        await groups.dps.put_group({**groups.body(groups.second), "enrollmentGroupId": groups.name.upper()}, etag=None)
    await groups.dps.put_enrollment(groups.place.individual(groups.place.first), etag=None)
    assert await groups.dps.get_enrollment(groups.place.device.upper()) == await groups.place.entry()
    other = {**groups.place.individual(groups.place.second), "registrationId": groups.place.device.upper()}
    with pytest.raises(Conflict):
        await groups.dps.put_enrollment(other, etag=None)
    await groups.dps.delete_enrollment(groups.place.device.upper(), etag=ANY_VERSION)
    assert await groups.dps.get_enrollment(groups.place.device) is None
    await groups.dps.delete_group(groups.name.upper(), etag=ANY_VERSION)
    assert await groups.dps.get_group(groups.name) is None


async def test_a_group_takes_what_its_cas_have_signed_while_it_is_enabled(deciding: Groups) -> None:
    """Both of its CAs, and no other one under the same root; deleted, it takes nothing. The identity stays."""
    assert not await deciding.admits(deciding.first)
    await deciding.put(deciding.first)
    assert (await deciding.admits(deciding.first), await deciding.admits(deciding.second)) == (True, False)
    await deciding.put(deciding.second, deciding.first)
    assert (await deciding.admits(deciding.first), await deciding.admits(deciding.second)) == (True, True)
    assert not await deciding.admits(deciding.stranger)
    await deciding.put(deciding.second, deciding.first, status="disabled")
    assert not await deciding.admits(deciding.second)
    await deciding.put(deciding.second)
    assert (await deciding.admits(deciding.first), await deciding.admits(deciding.second)) == (False, True)
    await deciding.dps.delete_group(deciding.name, etag=ANY_VERSION)
    assert not await deciding.admits(deciding.second)
    assert (await deciding.place.identity()).enabled


async def test_a_devices_own_entry_decides_before_its_group(deciding: Groups) -> None:
    """A disabled one keeps the device out that the group would take."""
    await deciding.put(deciding.first)
    await deciding.dps.shut_out(deciding.place.device, deciding.place.first.certificate)
    assert not await deciding.admits(deciding.first)
    await deciding.dps.delete_enrollment(deciding.place.device, etag=ANY_VERSION)
    assert await deciding.admits(deciding.first)
