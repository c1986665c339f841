"""Places of CA certificates in a DPS and a hub: what holds in memory holds of the emulated services, and vice versa."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from azure.identity.aio import ManagedIdentityCredential
from cryptography.hazmat.primitives.serialization import Encoding

from emulator.tests.certificates import make
from shared.adapters import dps_management, iot_hub_management
from shared.errors import PreconditionFailed, Rejected
from shared.pki.names import thumbprint
from shared.reading.settings import AzureResource
from tests.contract.in_memory.conftest import linked
from tests.world.authority_services import CaPlaces, DpsPlaces
from tests.world.conductor import Conductor
from tests.world.services import HUB, OTHER, DpsResource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cryptography import x509

    from emulator.tests.certificates import Party
    from emulator.tests.running import RunningEmulator
    from shared.ports.ca_certificates import CaCertificates, DpsCaCertificates, UploadedAuthority

CA, STRANGER = make("the CA", ca=True), make("the CA", ca=True)


def resource_of(resource_id: str) -> AzureResource:
    _, _, subscription, _, group, *_, name = resource_id.split("/")
    return AzureResource(subscription, group, name)


@dataclass
class Places:
    """The CA certificates of one service; ``name`` is one that no other test has."""

    service: CaCertificates
    name: str

    async def uploaded(self) -> UploadedAuthority:
        return await self.service.upload(self.name, CA.certificate)

    async def held(self) -> UploadedAuthority:
        held = await self.service.get(self.name)
        assert held is not None
        return held


@pytest.fixture(params=["DPS in memory", "hub in memory", "DPS", "hub"])
async def places(request: pytest.FixtureRequest) -> AsyncIterator[Places]:
    name = f"ca-{uuid.uuid4().hex[:8]}"
    in_memory: dict[str, CaCertificates] = {
        "DPS in memory": DpsPlaces(Conductor(), "the DPS"),
        "hub in memory": CaPlaces(Conductor(), "the hub"),
    }
    if request.param in in_memory:
        yield Places(in_memory[request.param], name)
        return
    endpoints, service = request.getfixturevalue("emulator").endpoints, None
    async with ManagedIdentityCredential() as credential:
        made: dps_management.ProvisioningServiceAuthorities | iot_hub_management.IotHubAuthorities
        if request.param == "DPS":
            service = resource_of(endpoints["dpsResourceId"])
            made = dps_management.ProvisioningServiceAuthorities(service, credential, endpoints["armUrl"])
        else:
            service = resource_of(endpoints["iotHubs"][0]["resourceId"])
            made = iot_hub_management.IotHubAuthorities(service, credential, endpoints["armUrl"])
        yield Places(made, name)
        for each, held in (await made.held()).items():
            if each.startswith(name):
                await made.delete(each, held.etag)
        await made.close()


def proof(code: str, signer: Party = CA) -> x509.Certificate:
    return make(code, signer).certificate


async def test_a_certificate_is_uploaded_once_and_is_not_verified(places: Places) -> None:
    """It is shown alone and among all, by its SHA-1 thumbprint; a second upload would need its ETag."""
    assert await places.service.get(places.name) is None
    assert places.name not in await places.service.held()
    uploaded = await places.uploaded()
    assert (uploaded.verified, uploaded.thumbprint) == (False, thumbprint(CA.certificate))
    assert (await places.held(), (await places.service.held())[places.name]) == (uploaded, uploaded)
    with pytest.raises(PreconditionFailed):
        await places.service.upload(places.name, STRANGER.certificate)
    assert await places.held() == uploaded
    await places.service.check()
    assert places.service.holder


async def test_possession_is_proved_by_a_certificate_with_the_code(places: Places) -> None:
    """Each step gives another ETag, and needs that of the step before."""
    uploaded = await places.uploaded()
    code, asked = await places.service.verification_code(places.name, uploaded.etag)
    assert (await places.held()).verified is False
    with pytest.raises(PreconditionFailed):
        await places.service.verification_code(places.name, uploaded.etag)
    with pytest.raises(PreconditionFailed):
        await places.service.verify(places.name, proof(code), uploaded.etag)
    verified = await places.service.verify(places.name, proof(code), asked)
    assert (verified.verified, verified.thumbprint) == (True, uploaded.thumbprint)
    assert len({uploaded.etag, asked, verified.etag}) == 3
    assert await places.held() == verified
    with pytest.raises(PreconditionFailed):
        await places.service.verification_code(places.name, asked)


async def test_another_code_makes_the_one_before_void(places: Places) -> None:
    uploaded = await places.uploaded()
    first, asked = await places.service.verification_code(places.name, uploaded.etag)
    second, again = await places.service.verification_code(places.name, asked)
    assert first != second
    with pytest.raises(Rejected) as refused:
        await places.service.verify(places.name, proof(first), again)
    assert type(refused.value) is Rejected
    assert (await places.service.verify(places.name, proof(second), again)).verified


async def test_what_proves_nothing_is_refused(places: Places) -> None:
    """No code was asked for; another code; another CA of that name; and nothing has changed."""
    uploaded = await places.uploaded()
    with pytest.raises(Rejected):
        await places.service.verify(places.name, proof("guessed"), uploaded.etag)
    code, asked = await places.service.verification_code(places.name, uploaded.etag)
    for wrong in (proof(f"{code}0"), proof(code, STRANGER), proof(code, make("another", ca=True))):
        with pytest.raises(Rejected) as refused:
            await places.service.verify(places.name, wrong, asked)
        assert type(refused.value) is Rejected
    held = await places.held()
    assert (held.verified, held.etag) == (False, asked)


async def test_what_has_gone_since_it_was_read_has_changed(places: Places) -> None:
    """Azure Resource Manager answers 404 to an action on what does not exist. Who is proving possession starts anew."""
    uploaded = await places.uploaded()
    code, asked = await places.service.verification_code(places.name, uploaded.etag)
    await places.service.delete(places.name, asked)
    with pytest.raises(PreconditionFailed):
        await places.service.verification_code(places.name, asked)
    with pytest.raises(PreconditionFailed):
        await places.service.verify(places.name, proof(code), asked)


async def test_a_place_is_freed_as_it_was_read_and_only_then(places: Places) -> None:
    """Another ETag is refused, since somebody has changed the place; one that is free stays so; others are left."""
    uploaded, other = await places.uploaded(), f"{places.name}-other"
    await places.service.upload(other, CA.certificate)
    _, changed = await places.service.verification_code(places.name, uploaded.etag)
    with pytest.raises(PreconditionFailed):
        await places.service.delete(places.name, uploaded.etag)
    await places.service.delete(places.name, changed)
    assert await places.service.get(places.name) is None
    own = {each for each in await places.service.held() if each.startswith(places.name)}
    assert own == {other}
    await places.service.delete(places.name, changed)
    again = await places.uploaded()
    assert again.etag not in {uploaded.etag, changed}
    assert not again.verified


async def test_a_service_has_25_places(places: Places) -> None:
    """Microsoft: "Azure subscription and service limits", CA certificates of a DPS and of a hub."""
    left = 25 - len(await places.service.held())
    for number in range(left):
        await places.service.upload(f"{places.name}-{number:02}", CA.certificate)
    with pytest.raises(Rejected) as refused:
        await places.uploaded()
    assert type(refused.value) is Rejected
    await places.service.delete(f"{places.name}-00", (await places.service.held())[f"{places.name}-00"].etag)
    await places.uploaded()


# --- what a DPS has besides ---


@dataclass
class Dps:
    """A DPS as an Azure resource; ``link`` links these hubs to it and no others."""

    resource: DpsCaCertificates
    hubs: tuple[str, str]
    link: Callable[..., object]


@pytest.fixture(params=["in memory", "emulator"])
async def dps(request: pytest.FixtureRequest) -> AsyncIterator[Dps]:
    if request.param == "in memory":
        places = DpsPlaces(Conductor(), "the DPS", linked=(HUB,))

        def link(*hubs: str) -> None:
            places.linked = hubs

        yield Dps(places, (HUB, OTHER), link)
        return
    running: RunningEmulator = request.getfixturevalue("emulator")
    first, second = (hub["hostName"] for hub in running.endpoints["iotHubs"])
    async with ManagedIdentityCredential() as credential:
        resource = resource_of(running.endpoints["dpsResourceId"])
        made = dps_management.ProvisioningServiceAuthorities(resource, credential, running.endpoints["armUrl"])
        yield Dps(made, (first, second), lambda *hubs: linked(running, *hubs))
        linked(running, first)
        await made.close()


async def test_those_are_listed_whose_possession_was_proved(dps: Dps) -> None:
    """With the certificate, DER or PEM."""
    name = f"ca-{uuid.uuid4().hex[:8]}"
    uploaded = await dps.resource.upload(name, CA.certificate)
    assert name not in {each.name for each in await dps.resource.verified()}
    code, asked = await dps.resource.verification_code(name, uploaded.etag)
    verified = await dps.resource.verify(name, proof(code), asked)
    [found] = [each for each in await dps.resource.verified() if each.name == name]
    assert found.thumbprint == thumbprint(CA.certificate)
    assert found.certificate is not None
    encoding = Encoding.PEM if found.certificate.startswith(b"-----") else Encoding.DER
    assert found.certificate == CA.certificate.public_bytes(encoding)
    await dps.resource.delete(name, verified.etag)
    assert name not in {each.name for each in await dps.resource.verified()}


async def test_the_linked_hubs_are_told_in_their_order(dps: Dps) -> None:
    first, second = dps.hubs
    assert await dps.resource.linked_hubs() == (first,)
    for wanted in ((first, second), (second,), (second, first)):
        dps.link(*wanted)
        assert await dps.resource.linked_hubs() == wanted


async def test_what_knows_the_linked_hubs_alone_tells_the_same() -> None:
    assert await DpsResource(Conductor(), (HUB, OTHER)).linked_hubs() == (HUB, OTHER)
