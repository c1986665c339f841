"""What others change at DPS and at the hub, and certificates that a copied key has signed, are found by reconciliation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import requests
from azure.iot.hub import IoTHubRegistryManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devstack.outside import until
from tests.end_to_end.test_api import ordered, wait_for_state
from tests.end_to_end.test_owner_pki import corporate_root, create_group, signed

if TYPE_CHECKING:
    from devstack.outside import World
    from devstack.stack import Stack


def compared(world: World, **scope: str) -> dict[str, Any]:
    """Have a device, or a group, compared with the services, and wait until that is done."""
    begun = world.post("reconciliations", scope)
    assert begun.status_code == requests.codes.accepted, begun.text
    location = begun.headers["location"].removeprefix("/api/")
    done: dict[str, Any] = until("it is compared", lambda: world.get(location), lambda found: found["state"] == "done")
    return done


def leaf(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate, issuer_key: Any) -> x509.Certificate:
    """Sign a device's certificate, as whoever has a copy of a CA's key can."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def test_a_certificate_that_a_copied_key_has_signed_raises_an_alarm(world: World) -> None:
    """A device that was never ordered gets into the hub; one pass names it, its group and its CA, and one call acts."""
    root_key, root = corporate_root("Leaky Root")
    line_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Leaky Line")])
    line = signed(name, line_key.public_key(), "Leaky Root", root_key, path_length=0)
    for authority, key, chain in (("leaky", root_key, (root,)), ("leaky-line", line_key, (line, root))):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem += b"".join(each.public_bytes(Encoding.PEM) for each in chain)
        imported = world.post(f"certificate-authorities/{authority}/import", {"pem": pem.decode()})
        assert imported.status_code == requests.codes.created, imported.text
    create_group(world, "leaky-group", issuer="leaky-line")
    ordered(world, "leaky-known", group="leaky-group")
    assert compared(world, enrollmentGroup="leaky-group")["found"] == {}

    key = ec.generate_private_key(ec.SECP256R1())
    rogue = world.device("leaky-rogue")
    rogue.take_certificate(key, leaf("leaky-rogue", key, line, line_key), line, root)
    rogue.register()
    assert compared(world, enrollmentGroup="leaky-group")["found"] == {"rogueCertificate": 1}
    [found] = world.get("findings?kind=rogueCertificate&enrollmentGroup=leaky-group")["items"]
    assert (found["subject"], found["severity"]) == ("leaky-rogue", "critical")
    assert found["certificateAuthority"] == "leaky-line"
    [disable] = [each for each in found["acts"] if each["path"].endswith("/disable")]
    done = world.request(disable["method"], disable["path"].removeprefix("/api/"))
    assert done.status_code == requests.codes.accepted, done.text
    until(
        "the group is disabled",
        lambda: world.get("enrollment-groups/leaky-group")["state"],
        lambda state: state == "disabled",
    )
    assert rogue.refused_by_dps()


def test_a_door_that_somebody_opens_is_shut_again(stack_and_world: tuple[Stack, World]) -> None:
    """The identity of a revoked device is enabled by hand: one pass shuts it, and says so."""
    stack, world = stack_and_world
    ordered(world, "drift-1")
    revoked = world.post("devices/drift-1/revoke", {"reason": "keyCompromise"})
    assert revoked.status_code == requests.codes.accepted, revoked.text
    shown = wait_for_state(world, "drift-1", "revoked")
    assert {each["door"] for each in shown["closedDoors"]} == {"dps", "hub", "crl", "ocsp"}
    registry = IoTHubRegistryManager.from_connection_string(stack.endpoints.iot_hub_connection_strings[0])
    device = registry.get_device("drift-1")
    device.status = "enabled"
    registry.protocol.devices.create_or_update_identity("drift-1", device, "*")
    assert compared(world, registrationId="drift-1")["found"] == {"doorOpen": 1}
    assert world.hub_identity(shown["assignedHub"], "drift-1") == "disabled"
    [mended] = world.get("findings?state=mended&subject=drift-1")["items"]
    assert mended["kind"] == "doorOpen"
    until(
        "it is told",
        lambda: [each["data"]["subject"] for each in world.events("DeviceProvisioning.DriftMended")],
        lambda subjects: "drift-1" in subjects,
    )
