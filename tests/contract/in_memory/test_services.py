"""DPS, hub and registrar: what holds in memory holds against the emulator through the app's adapters, and vice versa."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsynchronousCredential
from azure.iot.deviceprovisioning.aio import DeviceProvisioningClient
from azure.iot.hub.models import AuthenticationMechanism
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from emulator.tests.certificates import make
from emulator.tests.dps_clients import DpsService
from emulator.tests.iot_hub_clients import registry_of
from emulator.tests.running import emulator_in_thread
from shared.adapters import vault_secrets
from shared.adapters.dps_device import DeviceRegistrar
from shared.adapters.dps_service import ProvisioningService
from shared.adapters.iot_hub import IotHubRegistries
from shared.adapters.observed import ObservedTransport
from shared.adapters.vault import Ownership
from shared.adapters.vault_secrets import VaultSecrets
from shared.domain.attestations import leaf_attestation
from shared.errors import Conflict, NotFound, PreconditionFailed, Rejected
from shared.pki import names
from shared.ports.registrar import Assignment, ClientCredentials
from shared.rules.etags import ANY_VERSION
from tests.world import services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from emulator.tests.certificates import Party
    from shared.ports import hubs, provisioning, registrar, vault
    from shared.ports.hubs import HubIdentity

DEVICE = "press-001"
ROOT = make("root of the devices", ca=True)
FIRST, SECOND, THIRD = (make(DEVICE, ROOT) for _ in range(3))
REASON = "certificate revoked: superseded"

ENDS = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Place:
    """A DPS with a group that takes every certificate of the root, and the hub that it assigns devices to."""

    dps: provisioning.ProvisioningService
    hubs: hubs.IotHubRegistries
    registrar: registrar.DeviceRegistrar
    secrets: vault.VaultSecrets
    hub: str
    authenticate: Callable[[str], object]
    """Enables the device's identity, and has it authenticate otherwise, as others do."""

    async def entry(self) -> dict[str, Any]:
        entry = await self.dps.get_enrollment(DEVICE)
        assert entry is not None
        return entry

    async def identity(self, device_id: str = DEVICE) -> HubIdentity:
        identity = await self.hubs.get(self.hub, device_id)
        assert identity is not None
        return identity

    async def register(self, party: Party = FIRST) -> Assignment:
        return await self.registrar.register(DEVICE, credentials(party))


def in_memory() -> Place:
    dps, registries = services.Provisioning(), services.Hubs()
    device = services.Registrar(dps.conductor, dps, registries)
    others = partial(change_in_memory, registries)
    return Place(dps, registries, device, services.Secrets(), services.HUB, others)


def change_in_memory(hubs: services.Hubs, authentication: str) -> None:
    hubs.enter(services.HUB, DEVICE, authentication=authentication)


def change_in_emulator(endpoints: Mapping[str, Any], authentication: str) -> None:
    registry = registry_of(endpoints)
    device = registry.get_device(DEVICE)
    device.status, device.authentication = "enabled", AuthenticationMechanism(type=authentication)
    registry.protocol.devices.create_or_update_identity(DEVICE, device, "*")


@pytest.fixture(params=["in memory", "emulator"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    if request.param == "in memory":
        yield in_memory()
        return
    with emulator_in_thread(tmp_path, variants={"dpsRegistration": "atOnce"}) as running:
        endpoints = running.endpoints
        for name, value in (
            ("IDENTITY_ENDPOINT", endpoints["identityEndpoint"]),
            ("IDENTITY_HEADER", endpoints["identityHeader"]),
            ("REQUESTS_CA_BUNDLE", running.ca_file),
            ("SSL_CERT_FILE", running.ca_file),
        ):
            monkeypatch.setenv(name, value)
        trusting = partial(ObservedTransport, connection_verify=running.ca_file)
        monkeypatch.setattr(vault_secrets, "ObservedTransport", trusting)
        DpsService(running).verified("root", ROOT)
        DpsService(running).group("line", ROOT)
        urls = {hub["hostName"]: hub["serviceUrl"] for hub in endpoints["iotHubs"]}
        url = endpoints["dpsServiceUrl"]
        with ManagedIdentityCredential() as credential:
            async with AsynchronousCredential() as asynchronous:
                dps = ProvisioningService(url, asynchronous)
                await dps.close()
                dps._client = DeviceProvisioningClient(url, asynchronous, connection_verify=running.ca_file)  # noqa: SLF001
                registries = IotHubRegistries(urls, credential)
                device = DeviceRegistrar(
                    endpoints["dpsDeviceHost"], endpoints["idScope"], timeout=timedelta(seconds=20)
                )
                ownership = Ownership("here")
                secrets = VaultSecrets(endpoints["keyVaultUrl"], asynchronous, ownership, verify_challenge=False)
                others = partial(change_in_emulator, endpoints)
                yield Place(dps, registries, device, secrets, next(iter(urls)), others)
                await secrets.close()
                registries.close()
                await dps.close()


def credentials(party: Party) -> ClientCredentials:
    encryption = BestAvailableEncryption(b"sesame")
    key = party.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return ClientCredentials(party.certificate.public_bytes(Encoding.PEM) + key, "sesame")


def individual(*parties: Party, status: str = "enabled", **fields: Any) -> dict[str, Any]:
    return {
        "registrationId": DEVICE,
        "attestation": leaf_attestation(*(party.pem for party in parties)),
        "provisioningStatus": status,
        **fields,
    }


def held(entry: dict[str, Any]) -> set[str]:
    places = entry["attestation"]["x509"]["clientCertificates"].values()
    return {each["info"]["sha256Thumbprint"].upper() for each in places if each}


def thumbprints(*parties: Party) -> set[str]:
    return {names.sha256_thumbprint(party.certificate) for party in parties}


# --- entries of the DPS ---


async def test_an_entry_is_created_once_and_replaced_as_it_was_read(place: Place) -> None:
    """Each write gives another ETag; an outdated one writes nothing, and any version may be asked for."""
    assert await place.dps.get_enrollment(DEVICE) is None
    created = await place.dps.put_enrollment(individual(FIRST), etag=None)
    with pytest.raises(Conflict):
        await place.dps.put_enrollment(individual(SECOND), etag=None)
    replaced = await place.dps.put_enrollment(individual(SECOND), etag=created["etag"])
    assert replaced["etag"] != created["etag"]
    with pytest.raises(PreconditionFailed):
        await place.dps.put_enrollment(individual(THIRD), etag=created["etag"])
    read = await place.entry()
    assert (held(read), read["etag"]) == (thumbprints(SECOND), replaced["etag"])
    await place.dps.put_enrollment(individual(THIRD), etag=ANY_VERSION)
    assert held(await place.entry()) == thumbprints(THIRD)


async def test_an_entry_that_is_gone_is_not_replaced(place: Place) -> None:
    """Whatever ETag is given; deleting it again does nothing."""
    created = await place.dps.put_enrollment(individual(FIRST), etag=None)
    outdated = await place.dps.put_enrollment(individual(SECOND), etag=created["etag"])
    with pytest.raises(PreconditionFailed):
        await place.dps.delete_enrollment(DEVICE, etag=created["etag"])
    await place.dps.delete_enrollment(DEVICE, etag=outdated["etag"])
    await place.dps.delete_enrollment(DEVICE, etag=outdated["etag"])
    await place.dps.delete_enrollment(DEVICE, etag=ANY_VERSION)
    for etag in (outdated["etag"], "*"):
        with pytest.raises(PreconditionFailed):
            await place.dps.put_enrollment(individual(THIRD), etag=etag)
    assert await place.dps.get_enrollment(DEVICE) is None


async def test_certificates_that_an_entry_shows_may_be_given_back(place: Place) -> None:
    """What was read of an entry keeps its certificates when it is written again."""
    await place.dps.put_enrollment(individual(FIRST, SECOND), etag=None)
    read = await place.entry()
    await place.dps.put_enrollment({**read, "provisioningStatus": "disabled"}, etag=read["etag"])
    again = await place.entry()
    assert (held(again), again["provisioningStatus"]) == (thumbprints(FIRST, SECOND), "disabled")


async def test_who_shuts_a_device_out_at_dps_outdates_what_others_have_seen(place: Place) -> None:
    """Though it is shut out already."""
    await place.dps.shut_out(DEVICE, FIRST.certificate)
    seen = await place.entry()
    await place.dps.shut_out(DEVICE, FIRST.certificate)
    assert (await place.entry())["etag"] != seen["etag"]
    with pytest.raises(PreconditionFailed):
        await place.dps.admit_only(DEVICE, seen, [FIRST.certificate])


# --- what the DPS decides ---


async def test_a_device_of_the_group_is_registered(place: Place) -> None:
    """Its record says where it is, and its identity has the SHA-256 thumbprint of its certificate."""
    assert await place.dps.get_registration(DEVICE) is None
    assert await place.register() == Assignment(place.hub, DEVICE)
    registration = await place.dps.get_registration(DEVICE)
    assert registration is not None
    shown = {name: registration[name] for name in ("registrationId", "status", "assignedHub", "deviceId")}
    assert shown == {
        "registrationId": DEVICE,
        "status": "assigned",
        "assignedHub": place.hub,
        "deviceId": DEVICE,
    }
    identity = await place.identity()
    assert (identity.enabled, identity.thumbprints) == (True, frozenset(thumbprints(FIRST)))


async def test_an_entry_decides_before_the_group(place: Place) -> None:
    """Disabled, it refuses the device; enabled, it takes its own certificates and no other, and gives the device id."""
    entry = await place.dps.put_enrollment(individual(FIRST, status="disabled", deviceId="Other"), etag=None)
    with pytest.raises(Rejected):
        await place.register(FIRST)
    enabled = {**individual(FIRST, deviceId="Other"), "provisioningStatus": "enabled"}
    await place.dps.put_enrollment(enabled, etag=entry["etag"])
    with pytest.raises(Rejected):
        await place.register(SECOND)
    assert await place.register(FIRST) == Assignment(place.hub, "Other")
    await place.dps.delete_enrollment(DEVICE, etag=ANY_VERSION)
    assert await place.register(SECOND) == Assignment(place.hub, DEVICE)


async def test_who_registers_again_gets_another_thumbprint_and_stays_as_it_was(place: Place) -> None:
    """An identity that is disabled stays so; its ETag is another."""
    await place.register(FIRST)
    shut = await place.hubs.shut_out(place.hub, DEVICE, reason=REASON)
    assert shut is not None
    await place.register(SECOND)
    identity = await place.identity()
    assert (identity.enabled, identity.thumbprints) == (False, frozenset(thumbprints(SECOND)))
    assert identity.etag != shut.etag
    assert await place.hubs.let_in(place.hub, shut, reason="outdated") is None


async def test_a_registration_record_is_deleted_and_the_identity_stays(place: Place) -> None:
    """Deleting it again does nothing."""
    await place.register()
    await place.dps.delete_registration(DEVICE)
    await place.dps.delete_registration(DEVICE)
    assert await place.dps.get_registration(DEVICE) is None
    assert (await place.identity()).enabled


# --- identities of the hub ---


async def test_an_identity_is_shut_out_and_let_in_as_it_was_seen(place: Place) -> None:
    """Each write gives another ETag, and an outdated one lets nobody in."""
    await place.register()
    seen = await place.identity()
    shut = await place.hubs.shut_out(place.hub, DEVICE, reason=REASON)
    again = await place.hubs.shut_out(place.hub, DEVICE, reason=REASON)
    assert shut is not None
    assert again is not None
    assert len({seen.etag, shut.etag, again.etag}) == 3
    assert await place.hubs.let_in(place.hub, shut, reason="outdated") is None
    let_in = await place.hubs.let_in(place.hub, again, reason="reinstated")
    assert let_in is not None
    present = await place.identity()
    assert (present.enabled, present.reason, present.etag) == (True, "reinstated", let_in.etag)
    assert present.thumbprints == frozenset(thumbprints(FIRST))


async def test_an_identity_that_is_gone_is_neither_shut_out_nor_let_in(place: Place) -> None:
    """Deleting it again does nothing; a new registration makes a new one, which is enabled."""
    await place.register()
    shut = await place.hubs.shut_out(place.hub, DEVICE, reason=REASON)
    assert shut is not None
    await place.hubs.delete(place.hub, DEVICE)
    await place.hubs.delete(place.hub, DEVICE)
    assert await place.hubs.get(place.hub, DEVICE) is None
    assert await place.hubs.shut_out(place.hub, DEVICE, reason=REASON) is None
    assert await place.hubs.let_in(place.hub, shut, reason="gone") is None
    with pytest.raises(NotFound):
        await place.hubs.merge_twin(place.hub, DEVICE, tags={"plant": "Bremen"}, desired={})
    await place.register()
    assert (await place.identity()).enabled
    await place.hubs.merge_twin(place.hub, DEVICE, tags={"plant": "Bremen"}, desired={})


async def test_many_are_shut_out_with_one_call(place: Place) -> None:
    """Who is disabled already keeps the reason and the ETag, and is not counted; who is not there neither."""
    await place.register()
    assert await place.hubs.disable_many(place.hub, [DEVICE, "nobody"], reason=REASON) == 1
    shut = await place.identity()
    assert (shut.enabled, shut.reason, shut.thumbprints) == (False, REASON, frozenset(thumbprints(FIRST)))
    assert await place.hubs.disable_many(place.hub, [DEVICE], reason="again") == 0
    assert await place.identity() == shut


async def test_many_identities_are_read_with_one_call(place: Place) -> None:
    """Those that exist, as they are read alone; more than one query takes are asked for in several."""
    await place.register()
    found = await place.hubs.find(place.hub, [*(f"{'x' * 60}-{n}" for n in range(300)), DEVICE, "nobody"])
    assert found == {DEVICE: await place.identity()}
    assert found[DEVICE].thumbprints == thumbprints(FIRST)


async def test_all_identities_of_a_hub_are_listed_in_pages(place: Place) -> None:
    await place.register()
    [thumbprint] = thumbprints(FIRST)
    for name in ("press-002", "press-003"):
        assert await place.hubs.create(place.hub, name, [thumbprint], reason=REASON) is not None
    first, following = await place.hubs.page(place.hub, size=2, continuation=None)
    rest, last = await place.hubs.page(place.hub, size=2, continuation=following)
    assert (len(first), len(rest), last) == (2, 1, None)
    listed = {each.device_id: each for each in (*first, *rest)}
    assert listed == {name: await place.identity(name) for name in (DEVICE, "press-002", "press-003")}


async def test_an_identity_is_made_once(place: Place) -> None:
    """With one certificate, or with two, and enabled."""
    [thumbprint] = thumbprints(FIRST)
    made = await place.hubs.create(place.hub, "press-002", [thumbprint], reason=REASON)
    assert made == await place.identity("press-002")
    assert (made.enabled, made.thumbprints, made.reason) == (True, frozenset({thumbprint}), REASON)
    assert await place.hubs.create(place.hub, "press-002", [thumbprint], reason=REASON) is None
    two = sorted(thumbprints(FIRST, SECOND))
    made = await place.hubs.create(place.hub, "press-003", two, reason=REASON)
    assert made is not None
    assert made.thumbprints == set(two)


async def test_an_identity_takes_other_certificates_as_it_was_seen(place: Place) -> None:
    """It stays enabled or disabled; an outdated sight changes nothing."""
    await place.register()
    seen, [wanted] = await place.identity(), thumbprints(SECOND)
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
    await place.hubs.delete(place.hub, DEVICE)
    assert await place.hubs.disable(place.hub, shut, reason=REASON) is None


async def test_an_identity_that_others_have_changed_shows_how_it_authenticates(place: Place) -> None:
    """By itself, among many and in a page; it is shut out as any other, and takes its certificates alone when it is to."""
    await place.register()
    [own] = thumbprints(FIRST)
    assert (await place.identity()).authentication == "selfSigned"
    for authentication in ("sas", "certificateAuthority", "none"):
        place.authenticate(authentication)
        seen = await place.identity()
        assert (seen.authentication, seen.thumbprints, seen.enabled) == (authentication, frozenset(), True)
        assert await place.hubs.find(place.hub, [DEVICE]) == {DEVICE: seen}
        assert await place.hubs.page(place.hub, size=10, continuation=None) == ([seen], None)
        shut = await place.hubs.shut_out(place.hub, DEVICE, reason=REASON)
        assert shut is not None
        assert (shut.enabled, shut.authentication) == (False, authentication)
        place.authenticate(authentication)
        assert await place.hubs.disable_many(place.hub, [DEVICE], reason=REASON) == 1
        shut = await place.identity()
        assert (shut.enabled, shut.authentication) == (False, authentication)
        changed = await place.hubs.set_thumbprints(place.hub, shut, [own], reason=REASON)
        assert changed == await place.identity()
        assert (changed.enabled, changed.authentication, changed.thumbprints) == (False, "selfSigned", frozenset({own}))


async def test_all_individual_enrollments_are_read_page_by_page(place: Place) -> None:
    ids = [f"press-{n:03}" for n in range(5)]
    for registration_id in ids:
        await place.dps.put_enrollment(
            {**individual(make(registration_id, ROOT)), "registrationId": registration_id}, etag=None
        )
    found, continuation = list[str](), None
    while True:
        page, continuation = await place.dps.page_of_enrollments(size=2, continuation=continuation)
        assert len(page) <= 2
        found += [each["registrationId"] for each in page]
        if continuation is None:
            break
    assert sorted(found) == ids


async def test_a_group_that_does_not_exist_has_no_registrations(place: Place) -> None:
    """DPS answers 404. Its registrations went with it."""
    assert await place.dps.page_of_registrations("nowhere", size=10, continuation=None) == ([], None)


# --- secrets of the vault ---


async def test_a_secret_is_its_newest_version(place: Place) -> None:
    """One that does not exist is not there."""
    assert await place.secrets.get("bundle-1") is None
    for value in ("first", "second"):
        await place.secrets.put("bundle-1", value, tags={"registrationId": DEVICE}, ends=ENDS)
        assert await place.secrets.get("bundle-1") == value


async def test_secrets_are_listed_page_by_page_with_their_tags(place: Place) -> None:
    """A page has 25 at most."""
    wanted = {f"listed-{number:02}": str(number) for number in range(26)}
    for name, number in wanted.items():
        await place.secrets.put(name, "a password", tags={"registrationId": number}, ends=ENDS)
    found, continuation = dict[str, str](), None
    while True:
        page, continuation = await place.secrets.page(continuation=continuation)
        assert len(page) <= 25
        found |= {name: tags["registrationId"] for name, tags in page.items() if name in wanted}
        if continuation is None:
            break
    assert found == wanted


async def test_a_secret_that_was_deleted_is_gone_and_deleting_it_again_does_nothing(place: Place) -> None:
    """Nor does it harm that there never was one."""
    await place.secrets.put("bundle-2", "a password", tags={}, ends=ENDS)
    for _ in range(2):
        await place.secrets.delete("bundle-2")
        assert await place.secrets.get("bundle-2") is None
