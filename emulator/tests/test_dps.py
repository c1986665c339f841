"""The emulated DPS, driven by Microsoft's unmodified SDKs."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.iot.device import X509, ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError
from azure.mgmt.iothubprovisioningservices import IotDpsClient
from azure.mgmt.iothubprovisioningservices.models import (
    CertificateProperties,
    CertificateResponse,
    VerificationCodeRequest,
)

from emulator.tests.certificates import Party, make
from emulator.tests.odd_parties import FORMS, odd, owned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import requests
    from azure.identity import ManagedIdentityCredential
    from azure.iot.deviceprovisioning import DeviceProvisioningClient

    from emulator.tests.running import RunningEmulator

ROOT = make("test root", ca=True)
FACTORY = make("factory", ROOT, ca=True)


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


class Authorities:
    """CA certificates of the emulated DPS, through Microsoft's management SDK."""

    def __init__(self, emulator: RunningEmulator, client: IotDpsClient) -> None:
        _, _, _, _, self.group, *_, self.service = str(emulator.endpoints["dpsResourceId"]).split("/")
        self.client = client

    def upload(self, name: str, party: Party) -> CertificateResponse:
        body = CertificateResponse(properties=CertificateProperties(certificate=party.pem.encode(), is_verified=False))
        return self.client.dps_certificate.create_or_update(self.group, self.service, name, body)

    def code(self, name: str, etag: str) -> tuple[str, str]:
        answer = self.client.dps_certificate.generate_verification_code(
            name, self.group, self.service, etag=etag, match_condition=MatchConditions.IfNotModified
        )
        assert answer.properties is not None
        return str(answer.properties.verification_code), str(answer.etag)

    def verify(self, name: str, proof: Party, etag: str) -> bool:
        answer = self.client.dps_certificate.verify_certificate(
            name,
            self.group,
            self.service,
            VerificationCodeRequest(certificate=proof.pem),
            etag=etag,
            match_condition=MatchConditions.IfNotModified,
        )
        return bool(answer.properties and answer.properties.is_verified)

    def prove(self, name: str, party: Party) -> None:
        code, etag = self.code(name, str(self.upload(name, party).etag))
        assert self.verify(name, make(code, party), etag)


@pytest.fixture
def authorities(emulator: RunningEmulator, managed_identity: ManagedIdentityCredential) -> Iterator[Authorities]:
    subscription = str(emulator.endpoints["dpsResourceId"]).split("/")[2]
    with IotDpsClient(
        managed_identity,
        subscription,
        base_url=emulator.endpoints["armUrl"],
        credential_scopes=["https://management.azure.com/.default"],
        connection_verify=emulator.ca_file,
    ) as client:
        yield Authorities(emulator, client)


def group(name: str, signer: Party, **fields: Any) -> dict[str, Any]:
    certificates = {"primary": {"certificate": signer.pem}}
    return {
        "enrollmentGroupId": name,
        "attestation": {"type": "x509", "x509": {"signingCertificates": certificates}},
        **fields,
    }


# --- the service API ---


def test_a_group_is_created_read_changed_under_its_etag_and_deleted(service: DeviceProvisioningClient) -> None:
    """ETags decide as in the real service: none creates, the present one replaces, another one is refused."""
    name, line = unique("group"), make("line", ROOT, ca=True)
    made = service.enrollment_group.create_or_update(name, group(name, line))
    assert made["provisioningStatus"] == "enabled"
    info = made["attestation"]["x509"]["signingCertificates"]["primary"]["info"]
    assert (info["subjectName"], info["issuerName"]) == ("CN=line", "CN=test root")
    with pytest.raises(ResourceExistsError):
        service.enrollment_group.create_or_update(name, group(name, line))
    changed = service.enrollment_group.create_or_update(
        name, group(name, line, provisioningStatus="disabled"), if_match=made["etag"]
    )
    assert service.enrollment_group.get(name)["provisioningStatus"] == "disabled"
    with pytest.raises(HttpResponseError) as stale:
        service.enrollment_group.create_or_update(name, group(name, line), if_match=made["etag"])
    assert stale.value.status_code == 412
    service.enrollment_group.delete(name, if_match=changed["etag"])
    with pytest.raises(ResourceNotFoundError):
        service.enrollment_group.get(name)


def test_errors_have_the_services_own_body(emulator: RunningEmulator, http: requests.Session) -> None:
    """An error has errorCode, trackingId, message and timestampUtc; without a token it is 401."""
    url = f"{emulator.https_url}/enrollmentGroups/nothing?api-version=2021-10-01"
    token = emulator.token("https://azure-devices-provisioning.net")
    missing = http.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert (missing.status_code, missing.json()["errorCode"]) == (404, 404201)
    assert set(missing.json()) == {"errorCode", "trackingId", "message", "timestampUtc"}
    assert http.get(url, timeout=10).status_code == 401
    other = emulator.token("https://vault.azure.net")
    assert http.get(url, headers={"Authorization": f"Bearer {other}"}, timeout=10).status_code == 401


def test_groups_are_listed_page_by_page(service: DeviceProvisioningClient) -> None:
    """A query gives every group once, over as many pages as it takes."""
    names = [unique("paged") for _ in range(5)]
    for name in names:
        service.enrollment_group.create_or_update(name, group(name, make(name, ROOT, ca=True)))
    found = service.enrollment_group.query({"query": "SELECT * FROM enrollmentGroups"}, top=2)
    listed = [each["enrollmentGroupId"] for each in found]
    assert len(listed) == len(set(listed))
    assert set(names) <= set(listed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provisioningStatus": "perhaps"}, "provisioningStatus 'perhaps' is not one of enabled, disabled."),
        ({"allocationPolicy": "dice"}, "allocationPolicy 'dice' is not one of hashed, static, geoLatency, custom."),
        ({"enrollmentGroupId": "other"}, "enrollmentGroupId of the body and of the path differ."),
        ({"attestation": {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": "?"}}}}},
         "the primary certificate can't be read: it is neither PEM nor base64."),
    ],
)  # fmt: skip
def test_a_group_that_breaks_a_rule_is_refused(
    service: DeviceProvisioningClient, change: dict[str, Any], message: str
) -> None:
    """A wrong field is a 400 that says which."""
    name = unique("bad")
    with pytest.raises(HttpResponseError) as caught:
        service.enrollment_group.create_or_update(name, {**group(name, FACTORY), **change})
    assert caught.value.status_code == 400
    assert message in str(caught.value)


# --- proof of possession ---


def test_possession_is_proved_with_a_certificate_of_the_code_by_the_ca(authorities: Authorities) -> None:
    """A proof counts when its CN is the code and the CA signed it; otherwise it is refused and nothing is verified."""
    root, name = make("another root", ca=True), unique("ca")
    code, etag = authorities.code(name, str(authorities.upload(name, root).etag))
    for proof in (
        make("not the code", root),
        make(code, make("stranger", ca=True)),
        make(code, root, start=-9, days=1),
    ):
        with pytest.raises(HttpResponseError) as caught:
            authorities.verify(name, proof, etag)
        assert caught.value.status_code == 400
    assert authorities.verify(name, make(code, root), etag)
    with pytest.raises(ResourceModifiedError):
        authorities.code(name, etag)


@pytest.mark.parametrize("form", FORMS)
def test_possession_of_an_odd_cas_key_is_proved(form: str, authorities: Authorities) -> None:
    """A CA that OpenSSL reads and cryptography does not is uploaded as it is, and proves possession by the same rules."""
    _, change = FORMS[form]
    maker = make(owned(form, "odd"), ca=True)
    root, name = odd(maker, maker, change), unique("odd")
    uploaded = authorities.upload(name, root)
    assert uploaded.properties is not None
    assert uploaded.properties.thumbprint == hashlib.sha1(root.encoded).hexdigest().upper()  # noqa: S324 - the service's
    assert uploaded.properties.certificate == root.encoded
    code, etag = authorities.code(name, str(uploaded.etag))
    with pytest.raises(HttpResponseError) as caught:
        authorities.verify(name, odd(make(code, root), make("stranger"), change), etag)
    assert caught.value.status_code == 400
    assert authorities.verify(name, odd(make(code, root), root, change), etag)


# --- devices ---


@contextmanager
def line_of(service: DeviceProvisioningClient, authorities: Authorities, **fields: Any) -> Iterator[tuple[str, Party]]:
    """Make an enrollment group whose issuing CA stands two below a verified root; it goes with the test."""
    authorities.prove("root", ROOT) if not verified(authorities) else None
    name = unique("line")
    issuing = make(name, FACTORY, ca=True)
    service.enrollment_group.create_or_update(name, group(name, issuing, **fields))
    yield name, issuing
    service.enrollment_group.delete(name)


def verified(authorities: Authorities) -> bool:
    try:
        found = authorities.client.dps_certificate.get("root", authorities.group, authorities.service)
    except ResourceNotFoundError:
        return False
    return bool(found.properties and found.properties.is_verified)


class Refused(Exception):
    """DPS answered with an error status."""


def register(emulator: RunningEmulator, folder: Path, device: Party, registration_id: str, **options: Any) -> Any:
    certificate, key = device.files(folder, **options)
    ca_file = emulator.ca_file
    with open(ca_file, encoding="ascii") as trusted:  # noqa: PTH123 - a path in text
        client = ProvisioningDeviceClient.create_from_x509_certificate(
            provisioning_host=emulator.endpoints["dpsDeviceHost"],
            registration_id=registration_id,
            id_scope=emulator.endpoints["idScope"],
            x509=X509(certificate, key),
            server_verification_cert=trusted.read(),
        )
    try:
        result = client.register()
    except ClientError as error:
        client._pipeline.shutdown(callback=lambda **_: None)  # noqa: SLF001 - the SDK ends by itself after a success only
        raise Refused(str(error.__cause__)) from error
    assert result is not None
    return result.registration_state


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
class TestRegistration:
    """A device registers as Microsoft's SDK does."""

    def test_a_device_is_assigned_and_its_record_kept(
        self, emulator: RunningEmulator, service: DeviceProvisioningClient, authorities: Authorities, tmp_path: Path
    ) -> None:
        """A device with its whole chain is assigned to a hub; registering again keeps one record."""
        with line_of(service, authorities) as (name, issuing):
            device = unique("device")
            state = register(emulator, tmp_path, make(device, issuing), device)
            assert state.device_id == device
            assert state.assigned_hub == emulator.endpoints["iotHubs"][0]["hostName"]
            assert state.sub_status == "initialAssignment"
            again = register(emulator, tmp_path, make(device, issuing), device)
            assert again.sub_status == "reprovisionedToInitialAssignment"
            found = [each["registrationId"] for each in service.device_registration_state.query(name)]
            assert found == [device]

    def test_each_broken_chain_is_refused_with_401(
        self, emulator: RunningEmulator, service: DeviceProvisioningClient, authorities: Authorities, tmp_path: Path
    ) -> None:
        """No intermediates, a gap, another name, an expired leaf, a strange root: each is answered with 401."""
        with line_of(service, authorities) as (_, issuing):
            device = unique("device")
            good = make(device, issuing)
            stranger = make(device, make("strange", make("strange root", ca=True), ca=True))
            expired = make(device, issuing, start=-9, days=1)
            attempts: list[tuple[Party, str, dict[str, Any]]] = [
                (good, device, {"chain": ()}),
                (good, device, {"chain": (FACTORY.certificate,)}),
                (good, device, {"chain": (issuing.certificate,)}),
                (good, f"{device}-other", {}),
                (expired, device, {}),
                (stranger, device, {}),
            ]
            for party, registration_id, options in attempts:
                with pytest.raises(Refused, match="status code 401"):
                    register(emulator, tmp_path, party, registration_id, **options)

    def test_the_first_entry_found_decides(
        self, emulator: RunningEmulator, service: DeviceProvisioningClient, authorities: Authorities, tmp_path: Path
    ) -> None:
        """An individual enrollment comes before the group, and a lower CA's group before a higher one's."""
        with line_of(service, authorities) as (name, issuing):
            upper = unique("upper")
            service.enrollment_group.create_or_update(upper, group(upper, FACTORY))
            shut_out, free = unique("device"), unique("device")
            leaf = make(shut_out, issuing)
            service.enrollment.create_or_update(
                shut_out,
                {
                    "registrationId": shut_out,
                    "attestation": {
                        "type": "x509",
                        "x509": {"clientCertificates": {"primary": {"certificate": leaf.pem}}},
                    },
                    "provisioningStatus": "disabled",
                },
            )
            with pytest.raises(Refused, match="status code 401"):
                register(emulator, tmp_path, leaf, shut_out)
            register(emulator, tmp_path, make(free, issuing), free)
            assert [each["registrationId"] for each in service.device_registration_state.query(name)] == [free]
            present = service.enrollment_group.get(name)
            service.enrollment_group.create_or_update(
                name, {**present, "provisioningStatus": "disabled"}, if_match=present["etag"]
            )
            with pytest.raises(Refused, match="status code 401"):
                register(emulator, tmp_path, make(unique("device"), issuing), unique("device"))
            service.enrollment_group.delete(upper)
