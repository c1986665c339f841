"""What is explained of a device is what emulated services do to it: every fault that they can plant has its cause.

The ledger is in memory; DPS and hub are asked by the app's own adapters, and the device registers by itself over TLS.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.iot.deviceprovisioning.aio import DeviceProvisioningClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from emulator.platform.context import utc_now
from emulator.tests.dps_clients import DpsService, HttpsDevice
from emulator.tests.iot_hub_clients import registry_of
from emulator.tests.running import RunningEmulator, emulator_in_thread
from shared.adapters.dps_service import ProvisioningService
from shared.adapters.iot_hub import IotHubRegistries
from shared.domain.attestations import leaf_attestation, x509_attestation
from shared.errors import AwaitsDevice, Rejected
from shared.pki import names
from shared.pki.profiles import issuing_profile, root_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.rules.etags import ANY_VERSION
from tests.contract import chains
from tests.contract.odd_chains import ODD_ROWS
from tests.pki.hierarchy import Hierarchy, certificate_authority
from tests.unit.devices import FakeAuthorities, csr
from tests.unit.explained import ExplainedScene, codes, in_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from shared.workflows.authorities.loading import LoadedAuthority

ALGORITHM = KeyAlgorithm.EC_P256
GROUP, DEVICE = "line", "press"


@dataclass
class Signers(FakeAuthorities):
    """CAs whose certificates are valid now, as the emulated services want it."""

    pki: Hierarchy

    async def loaded(self, name: str) -> LoadedAuthority:
        made = await super().loaded(name)
        return replace(made, name=name, issuer=self.pki.issuing, anchor=self.pki.root.certificate, anchor_name="dpsCa")


@dataclass
class Party:
    pem: str


@dataclass
class Fleet:
    """A device that was ordered with its own key, and has registered with the emulated DPS."""

    scene: ExplainedScene
    emulator: RunningEmulator
    service: DpsService
    device: HttpsDevice
    hub: str

    def admin(self, path: str, body: dict[str, Any]) -> None:
        answer = requests.put(f"{self.emulator.admin_url}/{path}", json=body, timeout=10)
        answer.raise_for_status()

    async def cause(self) -> str:
        return codes(await self.scene.explained(DEVICE))[0]


class Tokens:
    """Gives tokens without asking the identity endpoint."""

    def __init__(self, emulator: RunningEmulator) -> None:
        self._emulator = emulator

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        resource = scopes[0].removesuffix("/.default")
        return AccessToken(self._emulator.token(resource), int(utc_now().timestamp()) + 3600)


class AsyncTokens(Tokens):
    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:  # type: ignore[override]
        return super().get_token(*scopes)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    with emulator_in_thread(tmp_path) as running:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", running.ca_file)
        monkeypatch.setenv("no_proxy", "*")
        yield running


@pytest.fixture
async def fleet(emulator: RunningEmulator, tmp_path: Path) -> AsyncIterator[Fleet]:
    now = utc_now()
    root = certificate_authority("dpsCa", None, ALGORITHM, root_profile(), now=now - timedelta(days=1))
    pki = Hierarchy(root, certificate_authority("line-1-ca1", root, ALGORITHM, issuing_profile(), now=now))
    scene = ExplainedScene(now=now, pki=pki, authorities=Signers(pki))
    service = DpsService(emulator)
    party: Any = Party(names.pem(root.certificate))
    service.verified("dpsCa", party)
    tokens: Any = AsyncTokens(emulator)
    dps = ProvisioningService(emulator.endpoints["dpsServiceUrl"], tokens)
    await dps.close()
    dps._client = DeviceProvisioningClient(  # noqa: SLF001
        emulator.endpoints["dpsServiceUrl"], tokens, connection_verify=emulator.ca_file, retry_total=0
    )
    urls = {each["hostName"]: each["serviceUrl"] for each in emulator.endpoints["iotHubs"]}
    hubs = IotHubRegistries(urls, Tokens(emulator))
    await scene.set_up()
    real: Any = dps
    scene.provisioning = real
    real = hubs
    scene.hubs = real
    await dps.put_group(group(pki.issuing.certificate), etag=None)
    key = generate_key(ALGORITHM)
    with suppress(AwaitsDevice):
        await scene.order(csr=csr(DEVICE, key))
    chain = [await scene.certificate(1), pki.issuing.certificate]
    (tmp_path / "chain.pem").write_text("".join(map(names.pem, chain)))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    device = HttpsDevice(emulator, DEVICE, (str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")))
    device.registered()
    await scene.deliver()
    hub = (await scene.record()).assigned_hub or ""
    yield Fleet(scene, emulator, service, device, hub)
    await dps.close()
    hubs.close()


def group(signer: Any, status: str = "enabled") -> dict[str, Any]:
    return {
        "enrollmentGroupId": GROUP,
        "attestation": x509_attestation(signer),
        "provisioningStatus": status,
    }


async def test_what_others_do_at_dps_and_the_hub_is_explained(fleet: Fleet) -> None:
    """One after the other, and undone; in between nothing is found."""
    scene, dps, hubs = fleet.scene, fleet.scene.provisioning, fleet.scene.hubs
    told: list[str] = [await fleet.cause()]

    async def tell() -> None:
        told.append(await fleet.cause())

    seen = await hubs.get(fleet.hub, DEVICE)
    assert seen is not None
    disabled = await hubs.shut_out(fleet.hub, DEVICE, reason="by hand")
    await tell()
    assert disabled is not None
    await hubs.let_in(fleet.hub, disabled, reason="by hand")

    registry = registry_of(fleet.emulator.endpoints)
    registry.update_device_with_x509(DEVICE, registry.get_device(DEVICE).etag, "AB" * 32, "AB" * 32, "enabled")
    await tell()
    present = await hubs.get(fleet.hub, DEVICE)
    assert present is not None
    assert await hubs.delete_unchanged(fleet.hub, present)
    await tell()
    fleet.device.registered()
    await tell()

    await dps.delete_registration(DEVICE)
    await tell()
    fleet.device.registered()

    leaf = names.pem(await scene.certificate(1))
    entry = {"registrationId": DEVICE, "deviceId": DEVICE, "attestation": leaf_attestation(leaf)}
    await dps.put_enrollment({**entry, "provisioningStatus": "disabled"}, etag=None)
    await tell()
    other = leaf_attestation(names.pem(scene.pki.device(DEVICE, now=scene.now)))
    await dps.put_enrollment({**entry, "attestation": other, "provisioningStatus": "enabled"}, etag=ANY_VERSION)
    await tell()
    await dps.delete_enrollment(DEVICE, etag=ANY_VERSION)

    await dps.put_group(group(scene.pki.issuing.certificate, "disabled"), etag=ANY_VERSION)
    await tell()
    await dps.delete_group(GROUP, etag=ANY_VERSION)
    await tell()
    foreign = certificate_authority("other", scene.pki.root, ALGORITHM, issuing_profile(), now=scene.now)
    await dps.put_group(group(foreign.certificate), etag=None)
    await tell()
    await dps.put_group(group(scene.pki.issuing.certificate), etag=ANY_VERSION)
    await tell()

    assert told == [
        "inService",
        "identityDisabled",
        "identityOtherCertificate",
        "identityMissing",
        "inService",
        "registrationMissing",
        "entryDisabled",
        "entryOtherCertificate",
        "groupDisabledElsewhere",
        "groupMissing",
        "groupHoldsOtherAuthority",
        "inService",
    ]


async def test_services_that_are_not_well_are_explained(fleet: Fleet) -> None:
    """As the planned faults of the emulator have it; nothing is an error, and nothing is said to be well."""
    found = list[Any]()
    for what in ({"status": 429, "retryAfterSeconds": 1}, {"status": 503}):
        fleet.admin("faults", {"rules": [{"service": each, **what} for each in ("dps", "iot_hub")]})
        found.append(await fleet.scene.explained(DEVICE))
    fleet.admin("faults", {"rules": []})
    fleet.admin("roles", {"withheld": ["dps", "iot_hub"]})
    found.append(await fleet.scene.explained(DEVICE))
    assert [codes(each) for each in found] == [
        ["dpsThrottled", "hubThrottled"],
        ["dpsUnavailable", "hubUnavailable"],
        ["dpsRoleMissing", "hubRoleMissing"],
    ]
    assert [each["asItShouldBe"] for each in found] == [None, None, None]
    assert [[door["state"] for door in each["doors"]] for each in found] == [["unknown", "unknown", "open"]] * 3


@pytest.mark.parametrize("said", [True, False], ids=["of a device", "of whoever"])
async def test_no_chain_is_too_odd_to_be_explained(said: bool) -> None:  # noqa: FBT001 - named by its id
    """Chains that DPS was seen to take or to refuse, of others' CAs: they are told as foreign, or refused in words."""
    scene, told = await in_service(), dict[str, str]()
    for row in [*chains.ROWS, *ODD_ROWS]:
        try:
            found = await scene.explaining.of_certificate(row.chain_pem, row.device.lower() if said else None)
            told[row.device] = codes(found.shown())[0]
        except Rejected as refused:
            told[row.device] = str(refused).partition(" can't be read: ")[0]
    assert len(told) > 100
    assert set(told.values()) == {
        "foreignCertificate",
        "certificate: certificate 2 of the PEM",
        "certificate: certificate 4 of the PEM",
    }
