"""An owner's own PKI: a root brought along, an issuing CA signed elsewhere, and keys for volume."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from devstack.outside import until
from tests.end_to_end.conftest import APART, GROUP
from tests.end_to_end.test_api import booted, ordered

if TYPE_CHECKING:
    from devstack.outside import World


def corporate_root(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Make a root as a company has one, by its own tools."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return key, signed(subject, key.public_key(), name, key, path_length=2)


def signed(
    subject: x509.Name,
    public_key: Any,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"),
        False,
    )  # fmt: skip
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority, critical=False)
        .sign(issuer_key, hashes.SHA384())
    )


def wait_for_authority(world: World, name: str, **wanted: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        f"{name} is {wanted}",
        lambda: world.get(f"certificate-authorities/{name}", missing={}),
        lambda body: all(body.get(field) == value for field, value in wanted.items()),
    )
    return found


def create_group(world: World, group: str, **definition: Any) -> dict[str, Any]:
    assert world.request("PUT", f"enrollment-groups/{group}", json=definition).status_code == 202
    until(
        f"{group} is enabled",
        lambda: world.get(f"enrollment-groups/{group}", missing={}),
        lambda body: body.get("state") == "enabled",
    )
    made: dict[str, Any] = world.get(f"enrollment-groups/{group}")
    return made


def test_an_imported_root_signs_in_the_vault(world: World) -> None:
    """A root as PFX: its key goes into the vault, DPS verifies it, and devices of a group below it work."""
    key, certificate = corporate_root("Corporate Root")
    pfx = pkcs12.serialize_key_and_certificates(None, key, certificate, None, BestAvailableEncryption(b"open sesame"))
    body = {"pfx": b64encode(pfx).decode(), "password": "open sesame"}
    path = "certificate-authorities/corporate/import"
    wrong = world.post(path, {**body, "password": "guess"})
    assert wrong.status_code == 400
    assert wrong.json()["errors"] == [
        {"field": "pfx", "message": "it can't be opened: the password is wrong, or it is not PKCS#12"}
    ]
    assert "guess" not in wrong.text
    imported = world.post(path, body)
    assert imported.status_code == 201, imported.text
    assert imported.json() | {"kind": "root", "state": "active", "proofOfPossession": "verified"} == imported.json()
    assert imported.json()["custody"] == "vault"
    assert world.dps_says_verified("corporate")
    assert world.hub_says_verified("corporate")
    assert world.post(path, body).json() == imported.json(), "a second time changes nothing"

    group = create_group(world, "corporate-line", issuer="corporate")
    chain = world.request("GET", f"certificate-authorities/{group['issuer']}?format=pem")
    assert x509.load_pem_x509_certificates(chain.content)[-1] == certificate
    ordered(world, "corporate-1", group="corporate-line")
    booted(world, "corporate-1")

    other_key, other = corporate_root("Another Root")
    pem = other_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + other.public_bytes(Encoding.PEM)
    taken = world.post(path, {"pem": pem.decode()})
    assert taken.status_code == 409
    assert taken.json()["detail"] == "name: 'corporate' exists as root CA of another definition; choose another name"


def test_a_ca_that_the_dps_has_no_place_for_leaves_no_trace(world: World) -> None:
    """Imported or ordered, it is refused at once; when there is a place again the same import succeeds."""
    key, certificate = corporate_root("Late Root")
    pem = certificate.public_bytes(Encoding.PEM)
    whole = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem
    path, body = "certificate-authorities/late/import", {"pem": whole.decode()}
    full = (
        "the DPS has 25 CA certificates and takes 25, so it can't be shown possession of 'late'; delete one there that is "
        "not needed any more"
    )
    with world.full_dps(pem):
        refused = world.post(path, body)
        assert (refused.status_code, refused.json()["detail"]) == (400, f"name: {full}")
        asked = world.post("certificate-authorities", {"kind": "root", "name": "late"})
        if APART:  # the zone that takes orders in has no right to ask the DPS; the one that carries them out has
            told = world.followed(asked)
            assert (told["state"], told["reasons"]) == ("rejected", [{"field": "name", "message": full}])
        else:
            assert (asked.status_code, asked.json()["detail"]) == (400, f"name: {full}")
        assert world.get("certificate-authorities/late", missing=None) is None
    taken = world.post(path, body)
    assert (taken.status_code, taken.json()["proofOfPossession"]) == (201, "verified")


def test_a_renewed_root_is_the_ca_that_is_here(world: World) -> None:
    """Its certificate is taken in under the name that the CA has, and under no other."""
    key, certificate = corporate_root("Renewed Root")
    renewed = signed(certificate.subject, key.public_key(), "Renewed Root", key, path_length=2)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    first, second = ({"pem": (plain + each.public_bytes(Encoding.PEM)).decode()} for each in (certificate, renewed))
    assert world.post("certificate-authorities/renewed/import", first).status_code == 201
    other = world.post("certificate-authorities/other-name/import", second)
    assert other.status_code == 409
    assert other.json()["detail"].startswith("name: this CA is here as 'renewed'")
    assert world.post("certificate-authorities/renewed/import", second).status_code == 201
    shown = world.get("certificate-authorities/renewed")
    pem = [each.public_bytes(Encoding.PEM).decode() for each in (certificate, renewed)]
    assert [shown["certificate"], shown["furtherCertificates"]] == pem


def test_an_issuing_ca_is_signed_by_a_root_that_is_elsewhere(world: World) -> None:
    """The signing request leaves, the answer is installed, DPS verifies the issuing CA itself, and devices work."""
    wanted = {"kind": "intermediate", "name": "offline-ca1", "externallySigned": True, "keyAlgorithm": "EC-P384"}
    assert world.post("certificate-authorities", wanted).status_code == 202
    wait_for_authority(world, "offline-ca1", state="awaitingCertificate")
    answer = world.request("GET", "certificate-authorities/offline-ca1/signing-request")
    request = x509.load_pem_x509_csr(answer.content)
    assert request.is_signature_valid

    root_key, root = corporate_root("Offline Root")
    certificate = signed(request.subject, request.public_key(), "Offline Root", root_key, path_length=0)
    leaf_only = {"certificate": certificate.public_bytes(Encoding.PEM).decode()}
    path = "certificate-authorities/offline-ca1/certificate"
    refused = world.request("PUT", path, json=leaf_only)
    assert refused.status_code == 400
    assert refused.json()["errors"] == [
        {
            "field": "certificate",
            "message": "the issuer of 'offline-ca1', 'CN=Offline Root', is not among its certificates; give the whole "
            "chain up to and including the root",
        }
    ]
    whole = {"certificate": leaf_only["certificate"] + root.public_bytes(Encoding.PEM).decode()}
    installed = world.request("PUT", path, json=whole)
    assert installed.status_code == 200, installed.text
    described = wait_for_authority(world, "offline-ca1", state="active", proofOfPossession="verified")
    assert (described["issuer"], described["kind"]) == ("Offline Root", "intermediate")
    assert world.dps_says_verified("offline-ca1")

    assert create_group(world, "offline-line", issuer="offline-ca1")["issuer"] == "offline-ca1"
    ordered(world, "offline-1", group="offline-line")
    booted(world, "offline-1")


def test_a_group_refers_to_a_root_above_an_issuing_ca_that_was_imported(world: World) -> None:
    """Root and issuing CA are brought along, the group names the root: DPS is shown the root alone, and devices work."""
    root_key, root = corporate_root("Referred Root")
    line_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Referred Line")])
    line = signed(name, line_key.public_key(), "Referred Root", root_key, path_length=0)
    for authority, key, chain in (("referred", root_key, (root,)), ("referred-line", line_key, (line, root))):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem += b"".join(each.public_bytes(Encoding.PEM) for each in chain)
        imported = world.post(f"certificate-authorities/{authority}/import", {"pem": pem.decode()})
        assert imported.status_code == 201, imported.text
    described = world.get("certificate-authorities/referred-line")
    assert (described["issuer"], described["proofOfPossession"]) == ("referred", None)
    assert world.dps_says_verified("referred")
    with pytest.raises(ResourceNotFoundError):
        world.dps_says_verified("referred-line")

    create_group(world, "by-referred", caReferences={"primary": "referred"}, issuer="referred-line")
    ordered(world, "referred-1", group="by-referred")
    sent = booted(world, "referred-1").chain()
    found = world.post("certificates/check", {"registrationId": "referred-1", "chain": sent}).json()
    assert (found["accepted"], found["match"]["id"], found["match"]["by"]) == (True, "by-referred", "Referred Root")


def test_a_wrapped_key_signs_and_is_nowhere_in_the_clear(world: World) -> None:
    """An issuing CA for volume says so, signs without the vault's signature, and its key is not readable anywhere."""
    group = create_group(world, "volume", custody="wrapped")
    authority = world.get(f"certificate-authorities/{group['issuer']}")
    assert (authority["custody"], authority["keyId"]) == ("wrapped", None)
    ordered(world, "volume-1", "volume-2", group="volume")
    booted(world, "volume-1")
    with world.table("issuers") as table:
        row = table.get_entity("issuer", group["issuer"])
    assert "BEGIN" not in row["wrappedKey"]
    assert all("wrappedKey" not in each for each in world.get("certificate-authorities")["items"])
    changed = world.post("enrollment-groups/volume/roll", {"custody": "vault"})
    assert changed.status_code == 202
    rolled = until(
        "rolled",
        lambda: world.get("enrollment-groups/volume"),
        lambda body: body["issuer"] != group["issuer"],
    )
    assert world.get(f"certificate-authorities/{rolled['issuer']}")["custody"] == "vault"


def test_a_hierarchy_of_three_cas_carries_devices(world: World) -> None:
    """Root, factory, line and device: the group's CA is made below the factory's, and its devices register."""
    factory = {"kind": "intermediate", "name": "factory-1", "pathLength": 1, "issuer": "dpsCa"}
    assert world.post("certificate-authorities", factory).status_code == 202
    wait_for_authority(world, "factory-1", state="active")
    group = create_group(world, "factory-line", issuer="factory-1")
    line = world.get(f"certificate-authorities/{group['issuer']}")
    assert (line["issuer"], line["pathLength"]) == ("factory-1", 0)
    ordered(world, "deep-1", group="factory-line")
    assert len(booted(world, "deep-1").certificates()) == 3

    too_long = {
        "kind": "intermediate",
        "name": "factory-2",
        "pathLength": 1,
        "issuer": "factory-1",
        "requestId": "too-long",
    }
    reason = {
        "field": "pathLength",
        "message": "a CA of path length 1 does not fit below 'factory-1', whose path length is 1: it must be smaller (RFC 5280 "
        "section 4.2.1.9)",
    }
    refused = world.post("certificate-authorities", too_long)
    assert (refused.status_code, refused.json()["errors"]) == (400, [reason])
    world.post_message("certificate-requests", too_long)
    until(
        "the rejection",
        lambda: [each for each in world.get("rejections")["items"] if "too-long" in each["body"]],
        lambda found: [each["reasons"] for each in found] == [[reason]],
    )
    assert world.get("certificate-authorities/factory-2", missing=None) is None, "it leaves no trace"


def test_a_chain_of_anybodys_is_checked_as_dps_would(world: World) -> None:
    """A good chain is accepted and its group named; a stranger's is refused with each reason and DPS's own answer."""
    ordered(world, "checked-1")
    serial = world.get("devices/checked-1")["certificate"]["serialNumber"]
    certificate = world.get(f"certificates/{serial}")
    above = world.request("GET", f"certificate-authorities/{certificate['issuer']}?format=pem").text
    good = {"registrationId": "CHECKED-1", "chain": certificate["certificate"] + above}
    answer = world.post("certificates/check", good).json()
    assert (answer["accepted"], answer["match"]["id"], answer["reasons"]) == (True, GROUP, [])
    named = world.post("certificates/check", {**good, "enrollmentGroup": "no-such-group"})
    assert named.status_code == 404

    bare = world.post("certificates/check", {**good, "chain": certificate["certificate"]}).json()
    assert bare["answer"] == {"status": 401, "errorCode": 401002, "message": "CA certificate not found"}
    assert [reason["code"] for reason in bare["reasons"]] == ["no-verified-ca", "no-group"]

    key, root = corporate_root("Somebody Else")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "checked-1")])
    stranger = signed(name, key.public_key(), "Somebody Else", key, path_length=0)
    chain = "".join(each.public_bytes(Encoding.PEM).decode() for each in (stranger, root))
    strange = world.post("certificates/check", {"registrationId": "checked-1", "chain": chain}).json()
    assert not strange["accepted"]
    assert {"leaf-is-ca", "not-verified", "no-group"} <= {reason["code"] for reason in strange["reasons"]}
    assert world.post("certificates/check", {"registrationId": "checked-1", "chain": "rubbish"}).status_code == 400
