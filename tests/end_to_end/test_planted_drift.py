"""Each kind of difference, planted at the emulated services with Microsoft's SDKs, is found by one pass over everything.

What is the ledger's alone, a serial number that has waited for a day, is planted in its storage. The same kinds are
planted in memory, in tests/world.
"""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import requests
from azure.core import MatchConditions
from azure.data.tables import UpdateMode
from azure.identity import ManagedIdentityCredential
from azure.iot.deviceprovisioning import DeviceProvisioningClient
from azure.iot.hub import IoTHubRegistryManager
from azure.keyvault.keys import KeyClient, KeyVaultKeyIdentifier
from azure.mgmt.iothubprovisioningservices import IotDpsClient
from azure.mgmt.iothubprovisioningservices.models import CertificateProperties, CertificateResponse
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from devstack.outside import until
from tests.end_to_end.conftest import SETTINGS, running
from tests.end_to_end.test_api import booted, ordered, wait_for_state
from tests.end_to_end.test_drift import leaf
from tests.end_to_end.test_owner_pki import corporate_root, create_group, signed

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.outside import World
    from devstack.stack import Stack

GROUP, OWN = "drifting", "own-line"
GROUPS = ("status", "gone", "certificates", "stays", "keyless")
DEVICES = (
    *("missing", "disabled", "rogue", "former", "moved", "left", "taken", "open", "waiting"),
    *("foreign", "shut", "unpinned", "reverted", "steered", "reopened", "keyed"),
)
FOREIGN = "AB" * 32
SECRET = base64.b64encode(bytes(32)).decode()
"""Of somebody who wants to be let in as a device."""

RENEWED = ("former", "reverted")
OWN_ENTRIES: dict[str, dict[str, Any]] = {
    "unpinned": {},
    "steered": {"allocationPolicy": "static", "initialTwin": {"tags": {"plant": "Bremen"}}},
}
"""What is asked for of individual enrollments; one with settings names the first hub as well."""

LARGE_HUBS = {**SETTINGS, "IOT_HUB_UNITS": "100", "RECONCILIATION_QUOTA_PERCENT": "50"}
"""So that no pass waits for its share of a quota: each look takes a read of the device's hub, and two of the DPS."""

STRAY = "5" * 40
"""A serial number that was never drawn."""


class Operator:
    """Somebody who has rights at the services, and changes them behind the app's back."""

    def __init__(self, stack: Stack, world: World, opened: ExitStack) -> None:
        endpoints, self._world = stack.endpoints, world
        credential = opened.enter_context(ManagedIdentityCredential())
        self.dps = opened.enter_context(DeviceProvisioningClient(endpoints.dps_service_url, credential))
        self.keys = opened.enter_context(
            KeyClient(endpoints.key_vault_url, credential, verify_challenge_resource=False)
        )
        self.registry = IoTHubRegistryManager.from_token_credential(
            endpoints.iot_hubs[0]["serviceUrl"].removeprefix("https://"), credential
        )
        self._dps_resource = endpoints.dps_resource_id

    def identity(self, device_id: str, **changes: str) -> None:
        """Write an identity with other values."""
        present = self.registry.get_device(device_id)
        wanted = {"thumbprint": self.thumbprint(device_id), "status": present.status, **changes}
        self.registry.update_device_with_x509(
            device_id, present.etag, wanted["thumbprint"], wanted["thumbprint"], wanted["status"]
        )

    def thumbprint(self, device_id: str) -> str:
        return str(self.registry.get_device(device_id).authentication.x509_thumbprint.primary_thumbprint)

    def entry(self, registration_id: str, certificate: x509.Certificate, status: str, **settings: Any) -> None:
        """Write an individual enrollment."""
        held = {"primary": {"certificate": pem_of(certificate)}}
        body = {
            "registrationId": registration_id,
            "attestation": {"type": "x509", "x509": {"clientCertificates": held}},
            "provisioningStatus": status,
            **settings,
        }
        self.dps.enrollment.create_or_update(registration_id, body)

    def change_entry(self, registration_id: str, **changes: Any) -> None:
        """Write an individual enrollment with other values."""
        present = self.dps.enrollment.get(registration_id)
        self.dps.enrollment.create_or_update(registration_id, {**present, **changes}, if_match=present["etag"])

    def group(self, name: str, **changes: Any) -> None:
        """Write a group with other values."""
        present = self.dps.enrollment_group.get(name)
        self.dps.enrollment_group.create_or_update(name, {**present, **changes}, if_match=present["etag"])

    def take_ca(self, name: str, instead: x509.Certificate | None = None) -> None:
        """Delete a CA certificate in the DPS, and put another under its name."""
        with self._world.managed(IotDpsClient, self._dps_resource) as (client, group, service):
            certificates = client.dps_certificate
            etag = certificates.get(name, group, service).etag or ""
            certificates.delete(group, service, name, etag=etag, match_condition=MatchConditions.IfNotModified)
            if instead is not None:
                properties = CertificateProperties(certificate=pem_of(instead).encode(), is_verified=True)
                certificates.create_or_update(group, service, name, CertificateResponse(properties=properties))


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def imported(world: World, name: str, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() + "".join(map(pem_of, chain))
    answer = world.post(f"certificate-authorities/{name}/import", {"pem": pem})
    assert answer.status_code == requests.codes.created, answer.text


def compared(world: World, state: str = "open") -> set[tuple[str, str]]:
    """Have everything compared, and give the kinds of the findings then, with what each is about."""
    begun = world.post("reconciliations")
    assert begun.status_code == requests.codes.accepted, begun.text
    location = begun.headers["location"].removeprefix("/api/")
    done = until("it is compared", lambda: world.get(location), lambda found: found["state"] == "done")
    assert done["unread"] == 0
    return {(each["kind"], each["subject"]) for each in listed(world, state)}


def listed(world: World, state: str = "open") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.get(f"findings?state={state}")["items"]
    return found


def below(name: str, issuer: str, issuer_key: ec.EllipticCurvePrivateKey) -> Any:
    """Make a CA below another."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return key, signed(subject, key.public_key(), issuer, issuer_key, path_length=0)


def enrolled(operator: Operator, name: str, issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey) -> None:
    """Put an individual enrollment into DPS for a device that nobody has ordered."""
    operator.entry(name, leaf(name, ec.generate_private_key(ec.SECP256R1()), issuer, issuer_key), "enabled")


def test_what_others_change_is_found_in_one_pass_and_mended_where_that_is_asked_for(tmp_path: Path) -> None:
    """A healthy fleet under load gives no finding; then each kind of difference is planted, at the service where it is."""
    with running(tmp_path, extra_hubs=1, settings=LARGE_HUBS) as (stack, world), ExitStack() as opened:
        operator = Operator(stack, world, opened)
        here, there = world.hub_names
        create_group(world, GROUP, iotHubs=[here])
        for name in GROUPS:
            create_group(world, name)
        ordered(world, *DEVICES, group=GROUP)
        root_key, root = corporate_root("Own Root")
        line_key, line = below("Own Line", "Own Root", root_key)
        imported(world, "own-root", root_key, root)
        imported(world, OWN, line_key, line, root)
        create_group(world, "own-group", issuer=OWN)
        create_group(world, "guests", caReferences={"primary": "own-root"})
        for name in ("loose", "swapped"):
            imported(world, name, *corporate_root(name))

        under_load(world)
        plant_at_devices(world, operator)
        plant_at_groups(world, operator, there)
        plant_at_authorities(world, operator)
        booked_elsewhere(world, root_key, root, line_key, line)
        their_key, theirs = corporate_root("Theirs")
        enrolled(operator, "uninvited", line, line_key)
        enrolled(operator, "neighbour", theirs, their_key)
        held = {"signingCertificates": {"primary": {"certificate": pem_of(root)}}}
        intruder = {"enrollmentGroupId": "intruder", "attestation": {"type": "x509", "x509": held}}
        operator.dps.enrollment_group.create_or_update("intruder", intruder)
        world.upload("bundles", f"missing/{STRAY}.json", b"{}")

        keyless = world.get("enrollment-groups/keyless")["issuer"]
        stays = {("groupCertificates", "certificates"), ("authorityReplaced", "swapped"), ("keyUnusable", keyless)}
        assert compared(world) == stays | {
            ("identityMissing", "missing"),
            ("identityDisabled", "disabled"),
            ("rogueCertificate", "rogue"),
            ("rogueCertificate", "uninvited"),
            ("enrollmentUnknown", "neighbour"),
            ("identityCertificate", "former"),
            ("identityAuthentication", "keyed"),
            ("identityLeft", "left"),
            ("identityUnknown", "Nobody's#1"),
            ("hubChanged", "moved"),
            ("enrollmentMissing", "unpinned"),
            ("enrollmentDisabled", "shut"),
            ("enrollmentForeign", "foreign"),
            ("enrollmentCertificate", "reverted"),
            ("enrollmentSettings", "steered"),
            ("serialReserved", "waiting"),
            ("unknownDevice", "guest"),
            ("groupUnknown", "intruder"),
            ("groupStatus", "status"),
            ("groupMissing", "gone"),
            ("groupLeft", "stays"),
            ("groupSettings", GROUP),
            ("authorityUnverified", "loose"),
            ("bundleWithoutCertificate", "missing"),
        }
        mended = {(each["kind"], each["subject"]) for each in listed(world, "mended")}
        assert mended == {("doorOpen", "open"), ("doorOpen", "reopened"), ("takenOver", "taken")}
        described = world.get("openapi.json")["components"]["schemas"]["FindingKind"]["enum"]
        assert {each["kind"] for each in listed(world, "all")} == set(described), "each kind is planted"
        [settings] = [each for each in listed(world) if each["kind"] == "enrollmentSettings"]
        assert settings["ledger"] == f"iotHubs is {here}, initialTwin.tags is as it was last asked for"
        assert settings["service"] == f"iotHubs is {there}, initialTwin.tags is otherwise"

        for each in listed(world):
            for act in each["acts"][:1]:
                if act["path"].endswith(("/mend", "/adopt")):
                    answer = world.request(act["method"], act["path"].removeprefix("/api/"))
                    assert answer.status_code == requests.codes.ok, (each["kind"], answer.text)
        assert compared(world) == stays - {("groupCertificates", "certificates")}
        keyed = operator.registry.get_device("keyed").authentication
        assert (keyed.type, keyed.symmetric_key.primary_key) == ("selfSigned", None)
        restored = operator.dps.enrollment.get("steered")
        assert (restored["iotHubs"], restored["initialTwin"]) == ([here], {"tags": {"plant": "Bremen"}})


def under_load(world: World) -> None:
    """While devices are ordered, renewed and revoked, and given entries of their own, nothing is said to differ."""
    busy = [f"busy-{number}" for number in range(20)]
    order = {"orderId": "busy", "enrollmentGroup": GROUP, "devices": [{"registrationId": each} for each in busy]}
    assert world.post("device-orders", order).status_code == requests.codes.accepted
    for name in RENEWED:
        world.post(f"devices/{name}/renew")
    for name, body in OWN_ENTRIES.items():
        asked = {**body, "iotHubs": world.hub_names[:1]} if body else {}
        assert world.request("PUT", f"enrollments/{name}", json=asked).status_code == requests.codes.created
    assert world.post("enrollments/reopened/disable").status_code == requests.codes.ok
    world.post("devices/open/revoke", {"reason": "superseded"})
    while world.get("device-orders/busy", missing={}).get("state") != "completed":
        assert compared(world, "all") == set()
    wait_for_state(world, "open", "revoked")
    for name in RENEWED:
        wait_for_state(world, name, "renewing")
    assert compared(world, "all") == set()


def plant_at_devices(world: World, operator: Operator) -> None:
    operator.registry.delete_device("missing")
    operator.identity("disabled", status="disabled")
    operator.identity("rogue", thumbprint=FOREIGN)
    operator.identity("open", status="enabled")
    operator.registry.update_device_with_sas("keyed", "*", SECRET, SECRET, "enabled")
    operator.entry("foreign", corporate_root("Somebody")[1], "enabled", **as_its_group(world))
    shut = world.device("shut")
    shut.take_bundle()
    operator.entry("shut", shut.certificates()[0], "disabled", **as_its_group(world))
    operator.change_entry("steered", iotHubs=world.hub_names[1:], initialTwin={"tags": {"plant": "elsewhere"}})
    operator.change_entry("reopened", provisioningStatus="enabled")
    operator.dps.enrollment.delete("unpinned")
    assert world.request("DELETE", "devices/left").status_code == requests.codes.accepted
    wait_for_state(world, "left", "deleted")
    operator.registry.create_device_with_x509("left", FOREIGN, FOREIGN, "disabled")
    operator.registry.create_device_with_x509("Nobody's#1", FOREIGN, FOREIGN, "enabled")
    put_back(world, operator)
    put_entry_back(world, operator)
    reserve(world)


def put_entry_back(world: World, operator: Operator) -> None:
    """Have a device that was renewed be accepted by DPS with its certificate of before, and not with its new one."""
    former = world.get("devices/reverted")["certificate"]["serialNumber"]
    booted(world, "reverted")
    assert wait_for_state(world, "reverted", "registered")["certificate"]["serialNumber"] != former
    pem = world.get(f"certificates/{former}")["certificate"]
    operator.entry("reverted", x509.load_pem_x509_certificate(pem.encode()), "enabled", **as_its_group(world))


def as_its_group(world: World) -> dict[str, Any]:
    """Give the settings of the group, so that an entry of a device differs in nothing else."""
    return {"iotHubs": world.hub_names[:1]}


def reserve(world: World) -> None:
    """Enter a serial number as if it had been drawn two days ago, by a worker that was killed for good."""
    with world.table("identities") as table:
        [row] = table.query_entities("registrationId eq 'waiting' and state eq 'registered'")
        partition, drawn_at = row["PartitionKey"], datetime.now(UTC) - timedelta(days=2)
        number = {"serialNumber": f"{partition}{'0' * 36}", "state": "reserved", "cause": "never"}
        of_ca = {"issuer": world.get(f"enrollment-groups/{GROUP}")["issuer"]}
        drawn = {**number, **of_ca, "purpose": "renewal", "recordedAt": drawn_at.isoformat(), "publicKey": "f"}
        held = json.dumps([*json.loads(row["held"]), drawn])
        key = {"PartitionKey": partition, "RowKey": f"c:{number['serialNumber']}"}
        certificate = {**key, **number, **of_ca, "kind": "device", "subject": "waiting", "recordedAt": drawn_at}
        own = {"PartitionKey": partition, "RowKey": row["RowKey"], "held": held}
        table.submit_transaction([("create", certificate), ("update", own, {"mode": UpdateMode.MERGE})])


def put_back(world: World, operator: Operator) -> None:
    """Have a device that is being renewed use its new certificate, and its identity take the one of before again."""
    before = operator.thumbprint("former")
    booted(world, "former")
    wait_for_state(world, "former", "registered")
    assert operator.thumbprint("former") != before
    operator.identity("former", thumbprint=before)


def plant_at_groups(world: World, operator: Operator, there: str) -> None:
    moved, issuer = booted(world, "moved"), world.get("enrollment-groups/stays")["issuer"]
    signs = {"primary": {"certificate": world.get(f"certificate-authorities/{issuer}")["certificate"]}}
    operator.group("status", provisioningStatus="disabled")
    held = {"primary": {"certificate": pem_of(corporate_root("Somebody")[1])}}
    operator.group("certificates", attestation={"type": "x509", "x509": {"signingCertificates": held}})
    operator.dps.enrollment_group.delete("gone")
    assert world.request("DELETE", "enrollment-groups/stays").status_code == requests.codes.accepted
    until(
        "the group is deleted",
        lambda: world.get("enrollment-groups/stays", missing={}).get("state", "deleted"),
        lambda state: state == "deleted",
    )
    stays = {"type": "x509", "x509": {"signingCertificates": signs}}
    operator.dps.enrollment_group.create_or_update("stays", {"enrollmentGroupId": "stays", "attestation": stays})
    operator.group(GROUP, iotHubs=[there], initialTwin={"tags": {"plant": "elsewhere"}})
    assert moved.register()[0] == there


def plant_at_authorities(world: World, operator: Operator) -> None:
    operator.take_ca("loose")
    operator.take_ca("swapped", corporate_root("swapped")[1])
    issuer = world.get("enrollment-groups/keyless")["issuer"]
    key = KeyVaultKeyIdentifier(world.get(f"certificate-authorities/{issuer}")["keyId"])
    operator.keys.update_key_properties(key.name, key.version, enabled=False)


def booked_elsewhere(
    world: World,
    root_key: ec.EllipticCurvePrivateKey,
    root: x509.Certificate,
    line_key: ec.EllipticCurvePrivateKey,
    line: x509.Certificate,
) -> None:
    """Have a device registered by another group, with a copied key, and one that the owner's PKI has made."""
    guest_key, guest_line = below("Guest Line", "Own Root", root_key)
    for name, issuer, issuer_key in (("taken", line, line_key), ("guest", guest_line, guest_key)):
        key = ec.generate_private_key(ec.SECP256R1())
        device = world.device(name)
        device.take_certificate(key, leaf(name, key, issuer, issuer_key), issuer, root)
        device.register()
