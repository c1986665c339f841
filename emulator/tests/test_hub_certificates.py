"""CA certificates of the emulated hub, through Microsoft's management SDK, and the devices they let in."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.iot.device.exceptions import CredentialError
from azure.mgmt.iothub.v2023_06_30 import IotHubClient
from azure.mgmt.iothub.v2023_06_30.models import (
    CertificateDescription,
    CertificateProperties,
    CertificateVerificationDescription,
)
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from emulator.tests.certificates import make
from emulator.tests.iot_hub_clients import DeviceCertificate, device_client, registry_of
from emulator.tests.running import emulator_in_thread, own_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azure.identity import ManagedIdentityCredential

    from emulator.tests.certificates import Party
    from emulator.tests.running import RunningEmulator

FACTORY = make("factory of the hub", make("root of the hub", ca=True), ca=True)


class HubCertificates:
    """What is asked of one hub's resource."""

    def __init__(self, client: IotHubClient, resource_id: str) -> None:
        _, _, _, _, self.group, *_, self.hub = resource_id.split("/")
        self.client = client

    def upload(self, name: str, party: Party, *, if_match: str | None = None) -> CertificateDescription:
        body = CertificateDescription(properties=CertificateProperties(certificate=party.pem))
        return self.client.certificates.create_or_update(self.group, self.hub, name, body, if_match)

    def code(self, name: str, etag: str) -> tuple[str, str]:
        answer = self.client.certificates.generate_verification_code(self.group, self.hub, name, etag)
        return str(answer.as_dict()["properties"]["verification_code"]), str(answer.etag)

    def verify(self, name: str, proof: Party, etag: str) -> bool:
        body = CertificateVerificationDescription(certificate=proof.pem)
        answer = self.client.certificates.verify(self.group, self.hub, name, etag, body)
        return bool(answer.properties and answer.properties.is_verified)

    def prove(self, name: str, party: Party) -> None:
        code, etag = self.code(name, str(self.upload(name, party).etag))
        assert self.verify(name, make(code, party), etag)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator with two hubs."""
    folder = tmp_path_factory.mktemp("hub_certificates")
    with emulator_in_thread(folder, extra_hub_addresses=[own_address()]) as running:
        yield running


@pytest.fixture
def certificates(emulator: RunningEmulator, managed_identity: ManagedIdentityCredential) -> Iterator[HubCertificates]:
    resource_id = emulator.endpoints["iotHubs"][0]["resourceId"]
    with IotHubClient(
        managed_identity,
        resource_id.split("/")[2],
        base_url=emulator.endpoints["armUrl"],
        credential_scopes=["https://management.azure.com/.default"],
        connection_verify=emulator.ca_file,
    ) as client:
        yield HubCertificates(client, resource_id)


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def test_the_hub_is_a_resource(certificates: HubCertificates, emulator: RunningEmulator) -> None:
    """The resource names the host that devices connect to."""
    found = certificates.client.iot_hub_resource.get(certificates.group, certificates.hub)
    assert found.properties is not None
    assert found.properties.host_name == emulator.endpoints["iotHubs"][0]["hostName"]


def test_a_certificate_is_uploaded_proved_listed_and_deleted(certificates: HubCertificates) -> None:
    """Only the CA's own signature over the code verifies; each step needs the ETag of the one before."""
    name, ca = unique("ca"), make("a CA", ca=True)
    uploaded = certificates.upload(name, ca)
    assert uploaded.properties is not None
    assert uploaded.properties.is_verified is False
    assert base64.b64decode(str(uploaded.properties.certificate)) == ca.certificate.public_bytes(Encoding.DER)
    code, etag = certificates.code(name, str(uploaded.etag))
    with pytest.raises(HttpResponseError, match="not signed by this CA") as refused:
        certificates.verify(name, make(code, make("stranger", ca=True)), etag)
    assert refused.value.status_code == 400
    assert certificates.verify(name, make(code, ca), etag)
    listed = certificates.client.certificates.list_by_iot_hub(certificates.group, certificates.hub).value
    assert [each.as_dict()["properties"]["is_verified"] for each in listed or [] if each.name == name] == [True]
    got = certificates.client.certificates.get(certificates.group, certificates.hub, name)
    assert got.as_dict()["properties"]["is_verified"]
    with pytest.raises(HttpResponseError) as stale:
        certificates.upload(name, ca, if_match=etag)
    assert stale.value.status_code == 412
    for _ in range(2):  # deleting what is not there is not an error
        certificates.client.certificates.delete(certificates.group, certificates.hub, name, "*")
    with pytest.raises(ResourceNotFoundError):
        certificates.client.certificates.get(certificates.group, certificates.hub, name)


def test_a_hub_has_certificates_of_its_own(certificates: HubCertificates, emulator: RunningEmulator) -> None:
    """What one hub knows, DPS and the other hub do not."""
    name = unique("ca")
    certificates.upload(name, FACTORY)
    other = HubCertificates(certificates.client, emulator.endpoints["iotHubs"][1]["resourceId"])
    with pytest.raises(ResourceNotFoundError):
        other.client.certificates.get(other.group, other.hub, name)


def device_of(party: Party, folder: Path, *, chain: bool) -> DeviceCertificate:
    certificate_file, key_file = party.files(folder, chain=None if chain else ())
    sha1, sha256 = (party.certificate.fingerprint(kind).hex().upper() for kind in (hashes.SHA1(), hashes.SHA256()))  # noqa: S303 - a name
    return DeviceCertificate(folder / certificate_file, folder / key_file, sha1, sha256)


def test_a_verified_root_lets_in_devices_below_it(
    certificates: HubCertificates, emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device of ``certificateAuthority`` needs its own name as CN, and its chain up to a verified CA: nothing else."""
    device_id = unique("signed")
    root = make("root of these", ca=True)
    line = make("line", root, ca=True)
    good, other = make(device_id, line), make(unique("other"), line)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", emulator.ca_file)
    registry_of(emulator.endpoints).create_device_with_certificate_authority(device_id, "enabled")

    def lets_in(party: Party, *, chain: bool = True) -> bool:
        with device_client(emulator.endpoints, device_id, device_of(party, tmp_path, chain=chain)) as client:
            try:
                client.connect()
            except CredentialError:
                return False
            return client.connected

    name = unique("ca")
    certificates.upload(name, root)
    assert not lets_in(good)
    certificates.client.certificates.delete(certificates.group, certificates.hub, name, "*")
    certificates.prove(name, root)
    assert lets_in(good)
    assert not lets_in(good, chain=False)
    assert not lets_in(other)
    assert not lets_in(make(device_id, line, start=-9, days=1))
