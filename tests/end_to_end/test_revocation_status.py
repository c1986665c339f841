"""What relying parties see of a revocation: the CRL and the OCSP responder, asked without a key."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from devstack.outside import until
from tests.end_to_end.test_api import ordered

if TYPE_CHECKING:
    from devstack.outside import World


def chain_of(world: World, registration_id: str) -> list[x509.Certificate]:
    serial = world.get(f"devices/{registration_id}")["certificate"]["serialNumber"]
    certificate = world.get(f"certificates/{serial}")
    above = world.request("GET", f"certificate-authorities/{certificate['issuer']}?format=pem").content
    return [
        x509.load_pem_x509_certificate(certificate["certificate"].encode()),
        *x509.load_pem_x509_certificates(above),
    ]


def asked(world: World, issuer: str, chain: list[x509.Certificate], *, get: bool = False) -> ocsp.OCSPResponse:
    request = ocsp.OCSPRequestBuilder().add_certificate(chain[0], chain[1], hashes.SHA256())
    content = request.add_extension(x509.OCSPNonce(b"0123456789abcdef"), critical=False).build()
    der = content.public_bytes(Encoding.DER)
    if get:
        return ocsp.load_der_ocsp_response(world.anonymous(f"ocsp/{issuer}/{quote(b64encode(der), safe='')}"))
    headers = {"x-functions-key": "", "Content-Type": "application/ocsp-request"}
    answer = world.request("POST", f"ocsp/{issuer}", data=der, headers=headers)
    assert answer.headers["Content-Type"] == "application/ocsp-response"
    return ocsp.load_der_ocsp_response(answer.content)


def revoked_in_crl(world: World, issuer: str) -> dict[int, Any]:
    crl = x509.load_der_x509_crl(world.anonymous(f"crl/{issuer}.crl"))
    return {entry.serial_number: entry for entry in crl}


def test_a_revocation_and_its_end_are_seen_by_crl_and_ocsp(world: World) -> None:
    """Good, then held, then good again, then revoked for good: the list and the responder say the same each time."""
    ordered(world, "status-1", "status-2")
    chain = chain_of(world, "status-1")
    issuer, serial = world.get("devices/status-1")["certificate"]["issuer"], chain[0].serial_number
    first = asked(world, issuer, chain)
    assert first.certificate_status is ocsp.OCSPCertStatus.GOOD
    first.certificates[0].verify_directly_issued_by(chain[1])
    assert serial not in revoked_in_crl(world, issuer)

    world.post("devices/status-1/revoke", {"reason": "certificateHold"})
    until("held", lambda: revoked_in_crl(world, issuer), lambda listed: serial in listed)
    held = asked(world, issuer, chain, get=True)
    assert held.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert held.revocation_reason is x509.ReasonFlags.certificate_hold

    world.post("devices/status-1/reinstate")
    until("reinstated", lambda: revoked_in_crl(world, issuer), lambda listed: serial not in listed)
    until(
        "good again",
        lambda: asked(world, issuer, chain).certificate_status,
        lambda status: status is ocsp.OCSPCertStatus.GOOD,
    )

    world.post("devices/status-1/revoke", {"reason": "keyCompromise"})
    until("revoked", lambda: revoked_in_crl(world, issuer), lambda listed: serial in listed)
    assert asked(world, issuer, chain).revocation_reason is x509.ReasonFlags.key_compromise
    assert asked(world, issuer, chain_of(world, "status-2")).certificate_status is ocsp.OCSPCertStatus.GOOD


def test_the_responder_knows_its_own_certificates_only(world: World) -> None:
    """A serial number that was never given is unknown, another CA's certificate is refused, rubbish is malformed."""
    ordered(world, "status-3")
    chain = chain_of(world, "status-3")
    issuer = world.get("devices/status-3")["certificate"]["issuer"]
    assert asked(world, "dpsCa", chain[1:]).certificate_status is ocsp.OCSPCertStatus.GOOD
    assert asked(world, "dpsCa", chain).response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
    rubbish = world.request("POST", f"ocsp/{issuer}", data=b"rubbish", headers={"x-functions-key": ""})
    assert ocsp.load_der_ocsp_response(rubbish.content).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    assert "Cache-Control" not in world.request("GET", f"ocsp/{issuer}/cnViYmlzaDE=").headers, "an error is not kept"
    assert world.request("POST", "ocsp/nobody", data=b"x").status_code == 404


def test_the_list_is_cached_with_validators(world: World) -> None:
    """The CRL answers If-None-Match and If-Modified-Since with 304, and says how long it may be kept."""
    first = world.request("GET", "crl/dpsCa.crl", headers={"x-functions-key": ""})
    assert first.status_code == 200
    crl = x509.load_der_x509_crl(first.content)
    assert crl.next_update_utc is not None
    life = (crl.next_update_utc - crl.last_update_utc).total_seconds()
    directives = dict(part.strip().partition("=")[::2] for part in first.headers["Cache-Control"].split(","))
    assert 0 < int(directives["max-age"]) < life
    for name, value in (
        ("If-None-Match", first.headers["ETag"]),
        ("If-Modified-Since", first.headers["Last-Modified"]),
    ):
        again = world.request("GET", "crl/dpsCa.crl", headers={"x-functions-key": "", name: value})
        assert (again.status_code, again.content) == (304, b""), name
