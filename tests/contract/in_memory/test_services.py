"""DPS, hub and registrar: what holds in memory holds against the emulator through the app's adapters, and vice versa."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsynchronousCredential
from azure.iot.deviceprovisioning.aio import DeviceProvisioningClient
from azure.iot.hub.models import AuthenticationMechanism
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from emulator.tests.certificates import make
from emulator.tests.iot_hub_clients import registry_of
from shared.adapters.dps_device import DeviceRegistrar
from shared.adapters.dps_service import ProvisioningService
from shared.adapters.iot_hub import IotHubRegistries
from shared.domain.attestations import leaf_attestation
from shared.errors import Conflict, NotFound, PreconditionFailed, Rejected
from shared.pki import names
from shared.ports.registrar import Assignment, ClientCredentials
from shared.rules.etags import ANY_VERSION
from tests.contract.in_memory.conftest import ROOT
from tests.world import services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from emulator.tests.certificates import Party
    from emulator.tests.running import RunningEmulator
    from shared.ports import hubs, provisioning, registrar
    from shared.ports.hubs import HubIdentity

NOBODYS: dict[str, Any] = {"type": "x509", "x509": {"signingCertificates": {}}}
REASON = "certificate revoked: superseded"


@dataclass
class Place:
    """A DPS with a group that takes every certificate of the root, and the hub that it assigns devices to.

    Attributes:
        authenticate: enables a device's identity, and has it authenticate otherwise, as others do.
        twin: gives the tags and the desired properties of a device.
        other: another hub.
        device: an id that no other test has, as have the three certificates.
    """

    dps: provisioning.ProvisioningService
    hubs: hubs.IotHubRegistries
    registrar: registrar.DeviceRegistrar
    hub: str
    authenticate: Callable[[str, str], object]
    twin: Callable[[str], tuple[Any, Any]]
    other: str
    device: str = field(default_factory=lambda: f"press-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.first, self.second, self.third = (make(self.device, ROOT) for _ in range(3))

    def individual(self, *parties: Party, status: str = "enabled", **fields: Any) -> dict[str, Any]:
        return {
            "registrationId": self.device,
            "attestation": leaf_attestation(*(party.pem for party in parties)),
            "provisioningStatus": status,
            **fields,
        }

    async def entry(self) -> dict[str, Any]:
        entry = await self.dps.get_enrollment(self.device)
        assert entry is not None
        return entry

    async def identity(self, device_id: str = "") -> HubIdentity:
        identity = await self.hubs.get(self.hub, device_id or self.device)
        assert identity is not None
        return identity

    async def register(self, party: Party | None = None) -> Assignment:
        return await self.registrar.register(self.device, credentials(party or self.first))


def in_memory(dps: services.Provisioning | None = None) -> Place:
    registries, dps = services.Hubs(), dps or services.Provisioning()
    dps.groups["line"] = {"enrollmentGroupId": "line", "provisioningStatus": "enabled", "attestation": NOBODYS}
    device = services.Registrar(dps.conductor, dps, registries)
    others = partial(change_in_memory, registries)

    def twin(device_id: str) -> tuple[Any, Any]:
        held = registries.twins.get((services.HUB, device_id), {"tags": {}, "desired": {}})
        return held["tags"], held["desired"]

    return Place(dps, registries, device, services.HUB, others, twin, services.OTHER)


def change_in_memory(hubs: services.Hubs, device_id: str, authentication: str) -> None:
    hubs.enter(services.HUB, device_id, authentication=authentication)


def change_in_emulator(endpoints: Mapping[str, Any], device_id: str, authentication: str) -> None:
    registry = registry_of(endpoints)
    device = registry.get_device(device_id)
    device.status, device.authentication = "enabled", AuthenticationMechanism(type=authentication)
    registry.protocol.devices.create_or_update_identity(device_id, device, "*")


def twin_in_emulator(endpoints: Mapping[str, Any], device_id: str) -> tuple[Any, Any]:
    found = registry_of(endpoints).get_twin(device_id)
    desired = found.properties.desired or {}
    return found.tags or {}, {name: value for name, value in desired.items() if not name.startswith("$")}


@pytest.fixture(params=["in memory", "emulator"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "in memory":
        yield in_memory()
        return
    async with in_emulator(request.getfixturevalue("emulator")) as found:
        yield found


@asynccontextmanager
async def in_emulator(running: RunningEmulator) -> AsyncIterator[Place]:
    endpoints = running.endpoints
    urls = {hub["hostName"]: hub["serviceUrl"] for hub in endpoints["iotHubs"]}
    url = endpoints["dpsServiceUrl"]
    with ManagedIdentityCredential() as credential:
        async with AsynchronousCredential() as asynchronous:
            dps = ProvisioningService(url, asynchronous)
            await dps.close()
            dps._client = DeviceProvisioningClient(url, asynchronous, connection_verify=running.ca_file)  # noqa: SLF001
            registries = IotHubRegistries(urls, credential)
            device = DeviceRegistrar(endpoints["dpsDeviceHost"], endpoints["idScope"], timeout=timedelta(seconds=20))
            others = partial(change_in_emulator, endpoints)
            twin = partial(twin_in_emulator, endpoints)
            first, second = urls
            yield Place(dps, registries, device, first, others, twin, second)
            registries.close()
            await dps.close()


def credentials(party: Party) -> ClientCredentials:
    encryption = BestAvailableEncryption(b"sesame")
    key = party.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return ClientCredentials(party.certificate.public_bytes(Encoding.PEM) + key, "sesame")


def held(entry: dict[str, Any]) -> set[str]:
    places = entry["attestation"]["x509"]["clientCertificates"].values()
    return {each["info"]["sha256Thumbprint"].upper() for each in places if each}


def thumbprints(*parties: Party) -> set[str]:
    return {names.sha256_thumbprint(party.certificate) for party in parties}


# --- entries of the DPS ---


async def test_an_entry_is_created_once_and_replaced_as_it_was_read(place: Place) -> None:
    """Each write gives another ETag; an outdated one writes nothing, and any version may be asked for."""
    assert await place.dps.get_enrollment(place.device) is None
    created = await place.dps.put_enrollment(place.individual(place.first), etag=None)
    with pytest.raises(Conflict):
        await place.dps.put_enrollment(place.individual(place.second), etag=None)
    replaced = await place.dps.put_enrollment(place.individual(place.second), etag=created["etag"])
    assert replaced["etag"] != created["etag"]
    with pytest.raises(PreconditionFailed):
        await place.dps.put_enrollment(place.individual(place.third), etag=created["etag"])
    read = await place.entry()
    assert (held(read), read["etag"]) == (thumbprints(place.second), replaced["etag"])
    await place.dps.put_enrollment(place.individual(place.third), etag=ANY_VERSION)
    assert held(await place.entry()) == thumbprints(place.third)


async def test_an_entry_that_is_gone_is_not_replaced(place: Place) -> None:
    """Whatever ETag is given; deleting it again does nothing."""
    created = await place.dps.put_enrollment(place.individual(place.first), etag=None)
    outdated = await place.dps.put_enrollment(place.individual(place.second), etag=created["etag"])
    with pytest.raises(PreconditionFailed):
        await place.dps.delete_enrollment(place.device, etag=created["etag"])
    await place.dps.delete_enrollment(place.device, etag=outdated["etag"])
    await place.dps.delete_enrollment(place.device, etag=outdated["etag"])
    await place.dps.delete_enrollment(place.device, etag=ANY_VERSION)
    for etag in (outdated["etag"], ANY_VERSION):
        with pytest.raises(PreconditionFailed):
            await place.dps.put_enrollment(place.individual(place.third), etag=etag)
    assert await place.dps.get_enrollment(place.device) is None


async def test_certificates_that_an_entry_shows_may_be_given_back(place: Place) -> None:
    """What was read of an entry keeps its certificates when it is written again."""
    await place.dps.put_enrollment(place.individual(place.first, place.second), etag=None)
    read = await place.entry()
    await place.dps.put_enrollment({**read, "provisioningStatus": "disabled"}, etag=read["etag"])
    again = await place.entry()
    assert (held(again), again["provisioningStatus"]) == (thumbprints(place.first, place.second), "disabled")


async def test_who_shuts_a_device_out_at_dps_outdates_what_others_have_seen(place: Place) -> None:
    """Though it is shut out already."""
    await place.dps.shut_out(place.device, place.first.certificate)
    seen = await place.entry()
    await place.dps.shut_out(place.device, place.first.certificate)
    assert (await place.entry())["etag"] != seen["etag"]
    with pytest.raises(PreconditionFailed):
        await place.dps.admit_only(place.device, seen, [place.first.certificate])


# --- what the DPS decides ---


async def test_a_device_of_the_group_is_registered(place: Place) -> None:
    """Its record says where it is, and its identity has the SHA-256 thumbprint of its certificate."""
    assert await place.dps.get_registration(place.device) is None
    assert await place.register() == Assignment(place.hub, place.device)
    registration = await place.dps.get_registration(place.device)
    assert registration is not None
    shown = {name: registration[name] for name in ("registrationId", "status", "assignedHub", "deviceId")}
    assert shown == {
        "registrationId": place.device,
        "status": "assigned",
        "assignedHub": place.hub,
        "deviceId": place.device,
    }
    identity = await place.identity()
    assert (identity.enabled, identity.thumbprints) == (True, frozenset(thumbprints(place.first)))


async def test_an_entry_decides_before_the_group(place: Place) -> None:
    """Disabled, it refuses the device; enabled, it takes its own certificates and no other, and gives the device id."""
    entry = await place.dps.put_enrollment(
        place.individual(place.first, status="disabled", deviceId=f"Other-{place.device}"), etag=None
    )
    with pytest.raises(Rejected):
        await place.register(place.first)
    enabled = {**place.individual(place.first, deviceId=f"Other-{place.device}"), "provisioningStatus": "enabled"}
    await place.dps.put_enrollment(enabled, etag=entry["etag"])
    with pytest.raises(Rejected):
        await place.register(place.second)
    assert await place.register(place.first) == Assignment(place.hub, f"Other-{place.device}")
    await place.dps.delete_enrollment(place.device, etag=ANY_VERSION)
    assert await place.register(place.second) == Assignment(place.hub, place.device)


async def test_who_registers_again_gets_another_thumbprint_and_stays_as_it_was(place: Place) -> None:
    """An identity that is disabled stays so; its ETag is another."""
    await place.register(place.first)
    shut = await place.hubs.shut_out(place.hub, place.device, reason=REASON)
    assert shut is not None
    await place.register(place.second)
    identity = await place.identity()
    assert (identity.enabled, identity.thumbprints) == (False, frozenset(thumbprints(place.second)))
    assert identity.etag != shut.etag
    assert await place.hubs.let_in(place.hub, shut, reason="outdated") is None


async def test_a_registration_record_is_deleted_and_the_identity_stays(place: Place) -> None:
    """Deleting it again does nothing."""
    await place.register()
    await place.dps.delete_registration(place.device)
    await place.dps.delete_registration(place.device)
    assert await place.dps.get_registration(place.device) is None
    assert (await place.identity()).enabled


async def test_a_registration_record_is_deleted_as_it_was_seen(place: Place) -> None:
    """Whoever registers again has a record with another ETag; one that is gone may have had any."""
    await place.register()
    seen = await place.dps.get_registration(place.device)
    assert seen is not None
    await place.register()
    with pytest.raises(PreconditionFailed):
        await place.dps.delete_registration(place.device, etag=seen["etag"])
    present = await place.dps.get_registration(place.device)
    assert present is not None
    await place.dps.delete_registration(place.device, etag=present["etag"])
    await place.dps.delete_registration(place.device, etag=present["etag"])
    assert await place.dps.get_registration(place.device) is None


# --- identities of the hub ---


async def test_an_identity_is_shut_out_and_let_in_as_it_was_seen(place: Place) -> None:
    """Each write gives another ETag, and an outdated one lets nobody in."""
    await place.register()
    seen = await place.identity()
    shut = await place.hubs.shut_out(place.hub, place.device, reason=REASON)
    again = await place.hubs.shut_out(place.hub, place.device, reason=REASON)
    assert shut is not None
    assert again is not None
    assert len({seen.etag, shut.etag, again.etag}) == 3
    assert await place.hubs.let_in(place.hub, shut, reason="outdated") is None
    let_in = await place.hubs.let_in(place.hub, again, reason="reinstated")
    assert let_in is not None
    present = await place.identity()
    assert (present.enabled, present.reason, present.etag) == (True, "reinstated", let_in.etag)
    assert present.thumbprints == frozenset(thumbprints(place.first))


async def test_an_identity_that_is_gone_is_neither_shut_out_nor_let_in(place: Place) -> None:
    """Deleting it again does nothing; a new registration makes a new one, which is enabled."""
    await place.register()
    shut = await place.hubs.shut_out(place.hub, place.device, reason=REASON)
    assert shut is not None
    assert await place.hubs.delete_unchanged(place.hub, shut)
    assert await place.hubs.delete_unchanged(place.hub, shut)
    assert await place.hubs.get(place.hub, place.device) is None
    assert await place.hubs.shut_out(place.hub, place.device, reason=REASON) is None
    assert await place.hubs.let_in(place.hub, shut, reason="gone") is None
    with pytest.raises(NotFound):
        await place.hubs.merge_twin(place.hub, place.device, tags={"plant": "Bremen"}, desired={})
    await place.register()
    assert (await place.identity()).enabled
    await place.hubs.merge_twin(place.hub, place.device, tags={"plant": "Bremen"}, desired={})


async def test_many_are_shut_out_with_one_call(place: Place) -> None:
    """Who is disabled already keeps the reason and the ETag, and is not counted; who is not there neither."""
    await place.register()
    assert await place.hubs.disable_many(place.hub, [place.device, "nobody"], reason=REASON) == 1
    shut = await place.identity()
    assert (shut.enabled, shut.reason, shut.thumbprints) == (False, REASON, frozenset(thumbprints(place.first)))
    assert await place.hubs.disable_many(place.hub, [place.device], reason="again") == 0
    assert await place.identity() == shut


async def test_many_identities_are_read_with_one_call(place: Place) -> None:
    """Those that exist, as they are read alone; more than one query takes are asked for in several."""
    await place.register()
    found = await place.hubs.find(place.hub, [*(f"{'x' * 60}-{n}" for n in range(300)), place.device, "nobody"])
    assert found == {place.device: await place.identity()}
    assert found[place.device].thumbprints == thumbprints(place.first)


async def all_of[T](page: Callable[..., Awaitable[tuple[list[T], str | None]]], *, size: int) -> list[T]:
    """Read page by page to the end; no page is longer than it may be."""
    found, continuation = list[T](), None
    while True:
        items, continuation = await page(size=size, continuation=continuation)
        assert len(items) <= size
        found += items
        if continuation is None:
            return found


async def test_all_identities_of_a_hub_are_listed_in_pages(place: Place) -> None:
    """Each once, as it is read alone."""
    await place.register()
    [thumbprint] = thumbprints(place.first)
    own = [place.device, f"{place.device}-2", f"{place.device}-3"]
    for name in own[1:]:
        assert await place.hubs.create(place.hub, name, [thumbprint], reason=REASON) is not None
    listed = await all_of(partial(place.hubs.page, place.hub), size=2)
    assert [each for each in sorted(listed, key=attrgetter("device_id")) if each.device_id in own] == [
        await place.identity(name) for name in own
    ]


async def test_an_identity_is_made_once(place: Place) -> None:
    """With one certificate, or with two, and disabled."""
    [thumbprint] = thumbprints(place.first)
    made = await place.hubs.create(place.hub, f"{place.device}-2", [thumbprint], reason=REASON)
    assert made == await place.identity(f"{place.device}-2")
    assert (made.enabled, made.thumbprints, made.reason) == (False, frozenset({thumbprint}), REASON)
    assert await place.hubs.create(place.hub, f"{place.device}-2", [thumbprint], reason=REASON) is None
    two = sorted(thumbprints(place.first, place.second))
    made = await place.hubs.create(place.hub, f"{place.device}-3", two, reason=REASON)
    assert made is not None
    assert made.thumbprints == set(two)


async def test_an_identity_is_deleted_as_it_was_seen(place: Place) -> None:
    await place.register()
    seen = await place.identity()
    shut = await place.hubs.shut_out(place.hub, place.device, reason=REASON)
    assert shut is not None
    assert not await place.hubs.delete_unchanged(place.hub, seen)
    assert await place.identity() == shut
    assert await place.hubs.delete_unchanged(place.hub, shut)
    assert await place.hubs.get(place.hub, place.device) is None
    assert await place.hubs.delete_unchanged(place.hub, shut), "what is gone needs no deleting"


async def test_an_identity_takes_other_certificates_as_it_was_seen(place: Place) -> None:
    """It stays enabled or disabled; an outdated sight changes nothing."""
    await place.register()
    seen, [wanted] = await place.identity(), thumbprints(place.second)
    changed = await place.hubs.set_thumbprints(place.hub, seen, [wanted], reason=REASON)
    assert changed == await place.identity()
    assert (changed.enabled, changed.thumbprints) == (True, frozenset({wanted}))
    assert await place.hubs.set_thumbprints(place.hub, seen, [wanted], reason=REASON) is None
    nobody = replace(changed, device_id="nobody")
    assert await place.hubs.set_thumbprints(place.hub, nobody, [wanted], reason=REASON) is None


async def test_an_identity_is_disabled_as_it_was_seen(place: Place) -> None:
    """It keeps its certificates; an outdated sight, and one of what is gone, change nothing."""
    await place.register()
    seen = await place.identity()
    shut = await place.hubs.disable(place.hub, seen, reason=REASON)
    assert shut == await place.identity()
    assert (shut.enabled, shut.thumbprints, shut.reason) == (False, seen.thumbprints, REASON)
    assert await place.hubs.disable(place.hub, seen, reason="another") is None
    assert await place.identity() == shut
    assert await place.hubs.delete_unchanged(place.hub, shut)
    assert await place.hubs.disable(place.hub, shut, reason=REASON) is None


async def test_an_identity_that_others_have_changed_shows_how_it_authenticates(place: Place) -> None:
    """By itself, among many and in a page; it is shut out as any other, and takes its certificates alone when it is to."""
    await place.register()
    [own] = thumbprints(place.first)
    assert (await place.identity()).authentication == "selfSigned"
    for authentication in ("sas", "certificateAuthority", "none"):
        place.authenticate(place.device, authentication)
        seen = await place.identity()
        assert (seen.authentication, seen.thumbprints, seen.enabled) == (authentication, frozenset(), True)
        assert await place.hubs.find(place.hub, [place.device]) == {place.device: seen}
        assert seen in await all_of(partial(place.hubs.page, place.hub), size=100)
        shut = await place.hubs.shut_out(place.hub, place.device, reason=REASON)
        assert shut is not None
        assert (shut.enabled, shut.authentication) == (False, authentication)
        place.authenticate(place.device, authentication)
        assert await place.hubs.disable_many(place.hub, [place.device], reason=REASON) == 1
        shut = await place.identity()
        assert (shut.enabled, shut.authentication) == (False, authentication)
        changed = await place.hubs.set_thumbprints(place.hub, shut, [own], reason=REASON)
        assert changed == await place.identity()
        assert (changed.enabled, changed.authentication, changed.thumbprints) == (False, "selfSigned", frozenset({own}))


async def test_all_individual_enrollments_are_read_page_by_page(place: Place) -> None:
    """Each once."""
    ids = [f"{place.device}-{n}" for n in range(5)]
    for registration_id in ids:
        entry = place.individual(make(registration_id, ROOT))
        await place.dps.put_enrollment({**entry, "registrationId": registration_id}, etag=None)
    found = [each["registrationId"] for each in await all_of(place.dps.page_of_enrollments, size=2)]
    assert sorted(each for each in found if each.startswith(place.device)) == ids


async def test_a_group_that_does_not_exist_has_no_registrations(place: Place) -> None:
    """DPS answers 404. Its registrations went with it."""
    assert await place.dps.page_of_registrations("nowhere", size=10, continuation=None) == ([], None)


async def test_registrations_of_a_group_are_listed_page_by_page(place: Place) -> None:
    """Each once; none that was deleted, or was registered by an entry of its own: that tells of it."""
    ids = [f"{place.device}-{n}" for n in range(3)]
    for registration_id in ids:
        await place.registrar.register(registration_id, credentials(make(registration_id, ROOT)))
    await place.dps.put_enrollment(place.individual(place.first), etag=None)
    await place.register()
    listed = await all_of(partial(place.dps.page_of_registrations, "line"), size=2)
    own = {each["registrationId"]: each for each in listed if each["registrationId"].startswith(place.device)}
    assert sorted(own) == ids
    for registration_id in ids:
        assert own[registration_id]["assignedHub"] == place.hub
    await place.dps.delete_registration(ids[0])
    listed = await all_of(partial(place.dps.page_of_registrations, "line"), size=2)
    assert ids[0] not in {each["registrationId"] for each in listed}
    [entry] = [
        each for each in await all_of(place.dps.page_of_enrollments, size=100) if each["registrationId"] == place.device
    ]
    told = entry["registrationState"]
    assert (told["status"], told["assignedHub"], told["deviceId"]) == ("assigned", place.hub, place.device)
    again = await place.dps.put_enrollment({**entry, "provisioningStatus": "disabled"}, etag=entry["etag"])
    await place.dps.delete_registration(place.device)
    [entry] = [each for each in await all_of(place.dps.page_of_enrollments, size=100) if each["etag"] == again["etag"]]
    assert "registrationState" not in entry


async def test_a_device_is_in_the_hub_that_it_was_assigned_to_and_in_no_other(place: Place) -> None:
    """What is done in one hub leaves the other as it is, whose identity of that name is another."""
    await place.register()
    assert await place.hubs.get(place.other, place.device) is None
    [thumbprint] = thumbprints(place.second)
    there = await place.hubs.create(place.other, place.device, [thumbprint], reason=REASON)
    assert there is not None
    assert await place.hubs.disable_many(place.hub, [place.device], reason=REASON) == 1
    await place.hubs.merge_twin(place.other, place.device, tags={"plant": "Bremen"}, desired={})
    assert place.twin(place.device) == ({}, {})
    assert await place.hubs.find(place.other, [place.device]) == {place.device: there}
    assert await place.hubs.delete_unchanged(place.hub, await place.identity())
    assert await place.hubs.get(place.other, place.device) == there
    assert place.device not in {each.device_id for each in await all_of(partial(place.hubs.page, place.hub), size=100)}


async def test_many_are_shut_out_with_more_than_one_call(place: Place) -> None:
    """A call takes a hundred (Microsoft: "IoT Hub quotas and throttling")."""
    await place.register()
    others = [f"{place.device}-{n:03}" for n in range(100)]
    ids = [*(f"nobody-{n:03}" for n in range(100)), place.device, *others[:1]]
    made = await place.hubs.create(place.hub, others[0], sorted(thumbprints(place.second)), reason=REASON)
    assert made is not None
    assert await place.hubs.let_in(place.hub, made, reason=REASON) is not None
    assert await place.hubs.disable_many(place.hub, ids, reason=REASON) == 2
    for name in (place.device, others[0]):
        assert not (await place.identity(name)).enabled


async def test_a_twin_is_merged_into(place: Place) -> None:
    """What is not named stays, null removes, and a twin goes with its identity."""
    await place.register()
    nested = {"place": {"hall": 1, "row": 2}}
    await place.hubs.merge_twin(place.hub, place.device, tags={"plant": "Bremen", **nested}, desired={"a": 1})
    await place.hubs.merge_twin(
        place.hub, place.device, tags={"plant": None, "place": {"row": 3}, "line": "7"}, desired={"b": {"c": True}}
    )
    assert place.twin(place.device) == ({"place": {"hall": 1, "row": 3}, "line": "7"}, {"a": 1, "b": {"c": True}})
    await place.hubs.shut_out(place.hub, place.device, reason=REASON)
    await place.hubs.merge_twin(place.hub, place.device, tags={}, desired={"a": None})
    assert place.twin(place.device)[1] == {"b": {"c": True}}
    assert await place.hubs.delete_unchanged(place.hub, await place.identity())
    await place.register()
    assert place.twin(place.device) == ({}, {})
