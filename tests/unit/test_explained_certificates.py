"""What somebody has at hand is explained: a chain, a thumbprint, or lines of a device's log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.explanations import Question
from shared.contracts.parsing import parse
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.explanations.logs import MESSAGES, devices_named, recognised
from shared.domain.words import CertificateKind
from shared.errors import Rejected
from shared.pki import names
from shared.pki.profiles import issuing_profile, root_profile
from shared.pki.signing_keys import KeyAlgorithm
from tests.pki.hierarchy import Hierarchy, certificate_authority, hierarchy
from tests.unit.devices import COMPROMISE, HOLD, HUB, ISSUER
from tests.unit.explained import ISSUING, ROOT, ExplainedScene, codes, in_service
from tests.world.certificates import overwrite

if TYPE_CHECKING:
    from cryptography import x509

TWO_YEARS = timedelta(days=730)


async def asked(scene: ExplainedScene, *chain: x509.Certificate, said: str | None = None) -> dict[str, Any]:
    """Explain a chain."""
    return (await scene.explaining.of_certificate("".join(map(names.pem, chain)), said)).shown()


async def whole(scene: ExplainedScene, number: int = 1) -> list[x509.Certificate]:
    return [await scene.certificate(number), ISSUING, ROOT]


async def renewed() -> ExplainedScene:
    scene = await in_service()
    await scene.renewing("renewal-1")
    scene.boot(await scene.certificate(2))
    await scene.renew("renewal-1")
    return scene


# --- chains ---


async def test_the_right_chain_of_a_device_in_service_shows_nothing() -> None:
    """It is the present certificate, whole, and the device is as it should be."""
    scene = await in_service()
    explained = await asked(scene, *await whole(scene))
    assert (codes(explained), explained["asItShouldBe"]) == (["inService"], True)
    assert explained["registrationId"] == "press"
    assert (explained["certificate"]["relation"], explained["certificate"]["state"]) == ("present", "active")


async def test_the_right_chain_of_a_device_with_a_fault_shows_that_fault() -> None:
    scene = await in_service()
    scene.hubs.identities.clear()
    assert codes(await asked(scene, *await whole(scene))) == ["identityMissing"]


async def test_a_chain_without_its_intermediates_is_incomplete() -> None:
    """As devices send that are given their own certificate alone; DPS would answer "CA certificate not found"."""
    scene = await in_service()
    explained = await asked(scene, await scene.certificate(1))
    assert codes(explained)[0] == "incompleteChain"
    assert explained["cause"]["text"].startswith("the chain has 1 certificates, and ends below the CAs")


async def test_a_leaf_is_enough_where_an_individual_enrollment_decides() -> None:
    scene = await in_service()
    await scene.enroll()
    assert codes(await asked(scene, await scene.certificate(1))) == ["inService"]


async def test_a_chain_in_the_wrong_order_is_told_with_the_place_of_the_leaf() -> None:
    scene = await in_service()
    explained = await asked(scene, ROOT, ISSUING, await scene.certificate(1))
    assert codes(explained)[0] == "wrongOrder"
    assert explained["cause"]["text"].startswith("the device's own certificate is number 3 of the chain")


async def test_a_former_certificate_is_superseded() -> None:
    """The answer names the present one."""
    scene = await renewed()
    explained = await asked(scene, *await whole(scene, 1))
    assert codes(explained)[0] == "certificateSuperseded"
    assert explained["cause"]["text"].endswith(f"the device's present one is {(await scene.serials())[1]}")
    assert explained["certificate"]["relation"] == "former"


async def test_the_next_certificate_is_the_right_one() -> None:
    scene = await in_service()
    await scene.renewing("renewal-1")
    explained = await asked(scene, *await whole(scene, 2))
    assert (explained["certificate"]["relation"], explained["asItShouldBe"]) == ("next", True)


async def test_a_revoked_certificate_and_one_on_hold() -> None:
    """A hold can be undone, and the answer says how; a final revocation can't."""
    scene = await in_service()
    await scene.revoke(HOLD)
    explained = await asked(scene, *await whole(scene))
    assert (codes(explained)[0], explained["cause"]["kind"]) == ("certificateOnHold", "wanted")
    assert explained["whatToDo"]["call"]["path"] == "/api/devices/press/reinstate"
    await scene.revoke(COMPROMISE)
    explained = await asked(scene, *await whole(scene))
    assert codes(explained)[:2] == ["certificateRevoked", "revoked"]
    assert "keyCompromise" in explained["cause"]["text"]


async def test_a_certificate_out_of_its_time() -> None:
    scene = await in_service()
    scene.now += TWO_YEARS
    assert codes(await asked(scene, *await whole(scene)))[0] == "certificateExpired"
    scene.now -= 2 * TWO_YEARS
    assert codes(await asked(scene, *await whole(scene)))[0] == "certificateNotYetValid"


async def test_a_certificate_of_a_foreign_ca_is_told_by_who_signed_it() -> None:
    """Also one whose CN is a device of ours: it is not that device's."""
    scene = await in_service()
    root = certificate_authority("their-root", None, KeyAlgorithm.EC_P256, root_profile())
    foreign = Hierarchy(root, certificate_authority("their-ca", root, KeyAlgorithm.EC_P256, issuing_profile()))
    for name, found in (("press", "press"), ("drill", None)):
        explained = await asked(scene, foreign.device(name), foreign.issuing.certificate, root.certificate)
        assert (codes(explained)[0], explained["registrationId"]) == ("foreignCertificate", found)
        assert explained["cause"]["text"] == (
            f"the certificate of '{name}' was not issued by this app: it is signed by 'their-ca'"
        )


async def test_a_certificate_of_our_ca_that_the_ledger_lacks_is_the_gravest() -> None:
    """Somebody signs with the CA's key, or the ledger was set back."""
    scene = await in_service()
    explained = await asked(scene, hierarchy().device("press"), ISSUING, ROOT)
    assert (codes(explained)[0], explained["certificate"]["relation"]) == ("unrecordedCertificate", "unrecorded")
    assert explained["registrationId"] == "press"


async def test_a_certificate_of_another_device_or_of_a_ca() -> None:
    """Whoever says which device it is, is told if it is not."""
    scene = await in_service()
    explained = await asked(scene, *await whole(scene), said="drill")
    assert codes(explained)[0] == "otherDevice"
    assert explained["cause"]["text"].startswith("the certificate is that of 'press', and not of 'drill'")
    explained = await asked(scene, hierarchy().device("drill"), ISSUING, said="press")
    assert "commonName" in codes(explained)


async def test_the_certificate_of_a_ca_is_told_as_that_of_no_device() -> None:
    """Somebody has configured the device with its CA's certificate."""
    scene = await in_service()
    await overwrite(
        scene.certificates,
        CertificateRecord(
            serial_number=names.serial_text(ISSUING.serial_number),
            kind=CertificateKind.INTERMEDIATE,
            state=CertificateState.ACTIVE,
            subject=ISSUER,
            issuer="dpsCa",
            cause="r",
            recorded_at=scene.now,
            thumbprint=names.thumbprint(ISSUING),
        ),
    )
    explained = await asked(scene, ISSUING, ROOT)
    assert (codes(explained)[0], explained["certificate"]["relation"]) == ("authorityCertificate", "authority")
    assert explained["cause"]["text"] == f"the certificate is that of the CA {ISSUER!r}, and not a device's"


async def test_a_certificate_that_was_given_up_is_told_as_such() -> None:
    """It may have been signed, and was never handed out by this app."""
    scene = await renewed()
    known = await scene.certificates.get((await scene.serials())[0])
    assert known is not None
    leaf = await scene.certificate(1)
    await overwrite(scene.certificates, known.record.model_copy(update={"state": CertificateState.ABANDONED}))
    assert codes(await asked(scene, leaf, ISSUING))[0] == "certificateGivenUp"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "it holds no certificates in PEM, as the device sends them: a certificate in PEM begins with"),
        ("-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n", "block 1 of the PEM is a private key"),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "certificate 1 of the PEM can't be read"),
    ],
)
async def test_what_is_not_a_certificate_is_refused(text: str, message: str) -> None:
    scene = await in_service()
    with pytest.raises(Rejected) as refused:
        await scene.explaining.of_certificate(text, None)
    assert str(refused.value).startswith(f"certificate: {message}")


# --- thumbprints ---


@pytest.mark.parametrize("name", [names.thumbprint, names.sha256_thumbprint])
async def test_a_thumbprint_finds_its_device(name: Any) -> None:
    """As tools write it: with colons, in lower case."""
    scene = await in_service()
    await scene.directory_upkeep.run()
    digits = name(await scene.certificate(1)).lower()
    colons = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    explained = (await scene.explaining.of_thumbprint(colons, None)).shown()
    assert (explained["registrationId"], codes(explained)) == ("press", ["inService"])


async def test_the_thumbprint_of_a_former_certificate_is_found_at_the_device_that_is_named() -> None:
    scene = await renewed()
    explained = (await scene.explaining.of_thumbprint(names.thumbprint(await scene.certificate(1)), "press")).shown()
    assert codes(explained)[0] == "certificateSuperseded"


async def test_a_thumbprint_that_nobody_has() -> None:
    scene = await in_service()
    explained = (await scene.explaining.of_thumbprint("AB" * 20, None)).shown()
    assert (codes(explained), explained["registrationId"]) == (["unknownThumbprint"], None)
    with pytest.raises(Rejected, match="'AB' is not a thumbprint: SHA-1 has 40 hexadecimal digits, SHA-256 has 64"):
        await scene.explaining.of_thumbprint("AB", None)


# --- logs ---

LINES = [
    # As public threads and SDKs have them; the second column is what they mean.
    ('{"errorCode":401002,"trackingId":"f40da7ba","message":"Invalid certificate"}', "dpsInvalidCertificate"),
    ("Service Error 401002 CA certificate not found", "dpsAuthorityNotFound"),
    ('{"errorCode":401002,"message":"Signing certificate info did not match chain elements"}', "dpsNoGroup"),
    ('{"errorCode":401002,"message":"Enrollment is disabled"}', "dpsDisabled"),
    ('"errorCode":401002', "dpsUnauthorized"),
    ("Error message: Custom allocation failed with status code: 400", "dpsAllocationFailed"),
    ('{"errorCode":404201,"message":"Enrollment not found."}', "dpsNotFound"),
    ('{"errorCode":429001,"message":"Operations are being throttled for this tenant."}', "throttled"),
    ("UnauthorizedError('Connection Refused: not authorised.')", "hubNotAuthorized"),
    ("azure.iot.device.exceptions.CredentialError: Credentials invalid, could not connect", "hubNotAuthorized"),
    ("mqtt_operation_complete_callback Connection Not Accepted: 0x5: Not Authorized", "hubNotAuthorized"),
    ("CONNECT failed: RefusedNotAuthorized", "hubNotAuthorized"),
    ("ErrorCode:IotHubUnauthorizedAccess;Unauthorized", "hubNotAuthorized"),
    ("Thumbprint does not match configuration: Thumbprint: SHA1Hash=A, SHA2Hash=B", "hubThumbprint"),
    ("ErrorCode:DeviceNotFound;press", "hubUnknownDevice"),
    ("403002 IoTHubQuotaExceeded", "hubQuota"),
    ("400027 ConnectionForcefullyClosedOnNewConnection", "twoClients"),
    (
        "SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local "
        "issuer certificate (_ssl.c:1108)')",
        "serviceNotTrusted",
    ),
    ("error:1416F086:SSL routines:tls_process_server_certificate:certificate verify failed", "serviceNotTrusted"),
    ("certificate verify failed: certificate is not yet valid (_ssl.c:1006)", "clockBehind"),
    ("certificate verify failed: certificate has expired (_ssl.c:1006)", "clockAheadOrOldRoots"),
    ("certificate verify failed: Hostname mismatch, certificate is not valid for 'hub'", "wrongHostName"),
    ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", "certificateAlert"),
    ("[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate", "certificateAlert"),
    ("[X509: KEY_VALUES_MISMATCH] key values mismatch (_ssl.c:4050)", "keyDoesNotMatch"),
    ("HTTP/1.1 401 Unauthorized", "unauthorized"),
    ("socket.gaierror: [Errno -2] Name or service not known", "nameNotResolved"),
    ("connect ECONNREFUSED 20.0.0.1:8883", "notReached"),
]


@pytest.mark.parametrize(("line", "code"), LINES)
def test_a_line_of_a_log_is_known_by_its_text(line: str, code: str) -> None:
    assert [each.message.code for each in recognised(f"booting\n{line}\n")] == [code]
    assert recognised(f"booting\n{line}\n")[0].number == 2


def test_every_message_has_a_line() -> None:
    assert {each.code for each in MESSAGES} == {code for _, code in LINES}


@pytest.mark.parametrize(
    "line",
    [
        "Connection Accepted.",
        "registration status: assigned, hub hub-1, device press",
        "TLS handshake done; certificate of the service verified",
        "sent 401 messages in 429 seconds",
    ],
)
def test_a_line_of_a_device_that_is_well_says_nothing(line: str) -> None:
    assert recognised(line) == ()


@pytest.mark.parametrize(
    "line",
    [
        "username: 0ne00000000/registrations/press/api-version=2019-03-31",
        '{"registrationId": "press", "status": "assigned"}',
        "SUBSCRIBE devices/press/messages/devicebound/#",
        "registration id: press",
    ],
)
def test_a_log_names_its_device(line: str) -> None:
    assert devices_named(line) == ("press",)


async def test_a_log_is_explained_by_what_is_known_of_its_device() -> None:
    """A refused connection says little; that the identity is disabled says why, and what to do."""
    scene = await in_service()
    identity = scene.hubs.identities[HUB, "press"]
    scene.hubs.enter(HUB, "press", *identity.thumbprints, enabled=False)
    log = "SUBSCRIBE devices/press/messages/devicebound/#\nConnection Refused: not authorised.\n"
    explained = (await scene.explaining.of_log(log, None)).shown()
    assert codes(explained) == ["identityDisabled", "hubNotAuthorized"]
    assert [(each["line"], each["code"]) for each in explained["log"]] == [(2, "hubNotAuthorized")]
    assert explained["log"][0]["source"].startswith("Azure/azure-iot-sdk-python issue 324")


async def test_a_log_of_a_device_that_is_well_here_says_what_is_wrong_there() -> None:
    """Its clock, for one."""
    scene = await in_service()
    explained = (
        await scene.explaining.of_log("certificate verify failed: certificate is not yet valid", "press")
    ).shown()
    assert (codes(explained), explained["asItShouldBe"]) == (["clockBehind"], False)
    assert explained["whatToDo"]["text"] == "Set the device's clock by NTP before it connects."


async def test_a_log_that_says_nothing_known_is_told_as_such() -> None:
    scene = await in_service()
    explained = (await scene.explaining.of_log("one\ntwo", None)).shown()
    assert (codes(explained), explained["asItShouldBe"]) == (["nothingRecognised"], None)


async def test_a_secret_in_a_log_is_not_repeated() -> None:
    scene = await in_service()
    line = "401002 SharedAccessSignature sr=h&sig=c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U%3D&se=1"
    explained = (await scene.explaining.of_log(line, None)).shown()
    assert "c2VjcmV0" not in explained["log"][0]["text"]


@pytest.mark.parametrize("body", [{}, {"log": "a", "thumbprint": "b"}, {"registrationId": "press"}])
def test_a_question_asks_one_thing(body: dict[str, str]) -> None:
    with pytest.raises(Rejected, match="give one of certificate, thumbprint and log"):
        parse(Question, body)
