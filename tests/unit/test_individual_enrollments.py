"""Individual enrollments: written under their ETag, with certificates that DPS would take, and no revoked ones."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from shared.domain.attestations import leaf_attestation
from shared.domain.entries import new_enrollment, own_settings
from shared.domain.orders import LineState
from shared.domain.public_keys import PublicKeyRecord
from shared.domain.words import DeviceState, RegisterBy
from shared.errors import AwaitsDevice, Conflict, Deferred, NotFound, Overtaken, PreconditionFailed, Rejected
from shared.ledger.table import Stale
from shared.pki.public_keys import fingerprint
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.rules.etags import ANY_VERSION
from tests.pki.foreign import authority, of_version_5
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.devices import COMPROMISE, HOLD, DeviceScene, csr, pem, registered, renewed_from, renewing
from tests.unit.fakes import Killed, kill
from triggers.preconditions import check

if TYPE_CHECKING:
    from shared.pki.signing_keys import PrivateKey
    from shared.workflows.devices.enrollments import Expectation


def entry_of(scene: DeviceScene, device: str = "press") -> dict[str, Any]:
    """Give a device's entry as DPS has it."""
    return scene.provisioning.enrollments[device]


def held(scene: DeviceScene) -> dict[str, str]:
    """Give the certificates of the device's entry by place."""
    places = entry_of(scene)["attestation"]["x509"]["clientCertificates"]
    return {place: each["certificate"] for place, each in places.items()}


def leaf(device: str = "press", key: PrivateKey | None = None) -> str:
    """Give a certificate that is not in the ledger."""
    return pem(hierarchy().device(device, key=key))


def asked_with(condition: str, etags: str) -> Expectation:
    """Give what a request with a condition expects of the device's entry."""
    return partial(check, {condition: etags}, "the individual enrollment 'press'")


def key_in(certificate: str) -> str:
    """Give the fingerprint of a certificate's key."""
    return fingerprint(x509.load_pem_x509_certificate(certificate.encode()).public_key())  # type: ignore[arg-type]


async def test_without_a_certificate_it_is_the_one_that_was_issued() -> None:
    """A new enrollment takes the device's present certificate; a change leaves out what it does not name."""
    scene = await registered()
    await scene.enroll(iotEdge=True)
    assert held(scene) == {"primary": pem(await scene.certificate(1))}
    await scene.enroll(allocationPolicy="static")
    assert (entry_of(scene)["capabilities"], entry_of(scene)["allocationPolicy"]) == ({"iotEdge": True}, "static")


async def test_each_certificate_is_changed_by_itself() -> None:
    """What is named changes, the other place stays; a secondary is taken out by null, and a foreign primary is not a bar."""
    scene, first, second, third = DeviceScene(), leaf(), leaf(), leaf()
    await scene.enroll(certificate=first)
    await scene.enroll(secondaryCertificate=second)
    assert held(scene) == {"primary": first, "secondary": second}
    await scene.enroll(certificate=third)
    assert held(scene) == {"primary": third, "secondary": second}
    await scene.enroll(secondaryCertificate=None)
    assert held(scene) == {"primary": third}


async def test_an_entry_that_attests_otherwise_is_given_certificates() -> None:
    """One with a TPM, made by others, is read and changed like any other."""
    scene = DeviceScene()
    scene.provisioning.enrollments["press"] = {
        "registrationId": "press",
        "attestation": {"type": "tpm", "tpm": {"endorsementKey": "AA=="}},
        "provisioningStatus": "enabled",
        "etag": '"1"',
    }
    one = leaf()
    await scene.enroll(certificate=one)
    assert held(scene) == {"primary": one}


@pytest.mark.parametrize("given", ["of a key that no device may have here", "its info alone", "none"])
async def test_what_others_put_there_beside_the_certificate_that_is_changed_stays(given: str) -> None:
    """DPS has taken it, in whatever form it gives it."""
    scene, one = await registered(), leaf()
    others = pem(authority("press", key=ec.generate_private_key(ec.SECP521R1())))
    await scene.provisioning.put_enrollment(
        {**new_enrollment("press"), "attestation": leaf_attestation(leaf(), others)}, etag=None
    )
    places = entry_of(scene)["attestation"]["x509"]["clientCertificates"]
    if given == "its info alone":
        places["secondary"]["certificate"] = None
    elif given == "none":
        places["secondary"] = None
    before = places["secondary"]
    await scene.enroll(certificate=one)
    places = entry_of(scene)["attestation"]["x509"]["clientCertificates"]
    assert (places["primary"]["certificate"], places.get("secondary")) == (one, before)
    assert (await scene.record()).entry_change is None


async def test_disabling_makes_an_entry_for_a_device_of_a_group() -> None:
    """A device without an enrollment gets a disabled one; one that is unknown can't be disabled."""
    scene = await registered()
    entry = await scene.enrollments.disable("press")
    assert entry.shown()["provisioningStatus"] == "disabled"
    again = await scene.enrollments.disable("press")
    assert again.etag == entry.etag, "what is so already is not written again"
    with pytest.raises(NotFound, match="'nobody' has no certificate of this app's"):
        await scene.enrollments.disable("nobody")


async def test_the_second_of_two_writers_is_refused() -> None:
    """An enrollment with another ETag than was read is neither changed nor deleted."""
    scene = await registered()
    await scene.enroll()
    read = entry_of(scene)["etag"]
    await scene.enroll(iotEdge=True)
    with pytest.raises(PreconditionFailed, match="the individual enrollment 'press' was changed since it was read"):
        await scene.enroll(expects=asked_with("If-Match", read), iotEdge=False)
    with pytest.raises(PreconditionFailed):
        await scene.enrollments.delete("press", expects=asked_with("If-Match", read))
    with pytest.raises(PreconditionFailed):
        await scene.enrollments.disable("press", expects=asked_with("If-Match", read))
    assert entry_of(scene)["capabilities"] == {"iotEdge": True}
    present = asked_with("If-Match", entry_of(scene)["etag"])
    await scene.enrollments.delete("press", expects=present)
    assert scene.provisioning.enrollments == {}
    for ask in (scene.enroll(expects=present), scene.enrollments.disable("press", expects=present)):
        with pytest.raises(PreconditionFailed, match="does not exist, and If-Match says"):
            await ask
    assert scene.provisioning.enrollments == {}, "what is gone is not made again"


async def test_who_wants_to_create_an_entry_changes_none_that_is_there() -> None:
    scene = await registered()
    await scene.enroll()
    entry = dict(entry_of(scene))
    with pytest.raises(PreconditionFailed, match=r"exists, with ETag .*, and If-None-Match says"):
        await scene.enroll(expects=asked_with("If-None-Match", "*"), iotEdge=True)
    assert entry_of(scene) == entry


@pytest.mark.parametrize("before", [True, False])
async def test_what_is_wanted_of_the_entry_of_a_device_that_is_ordered_meanwhile_is_in_its_record(
    *, before: bool
) -> None:
    """Nobody knew the device when its entry was asked for, so no record said that there is to be one."""
    scene, one = await DeviceScene().set_up(), leaf()
    write = scene.provisioning.put_enrollment

    async def put_enrollment(entry: dict[str, Any], *, etag: str | None) -> dict[str, Any]:
        scene.provisioning.put_enrollment = write  # type: ignore[method-assign]
        if before:
            await scene.order()
        written = await write(entry, etag=etag)
        if not before:
            with pytest.raises(AwaitsDevice):
                await scene.order(register_by=RegisterBy.DEVICE)
        return written

    scene.provisioning.put_enrollment = put_enrollment  # type: ignore[method-assign, assignment]
    await scene.enroll(expects=asked_with("If-None-Match", "*"), certificate=one, iotEdge=True)
    known = await scene.devices.get("press")
    assert known is not None
    assert known.record.own_entry
    assert known.record.entry_settings == own_settings(entry_of(scene))
    assert held(scene)["primary"] == one


@pytest.mark.parametrize("device", ["lathe", "press"])
async def test_a_device_id_that_was_asked_for_in_vain_can_be_ordered(device: str) -> None:
    """DPS refuses the entry, of a device that the ledger knows, or of one that it does not."""
    scene = await registered()
    write = scene.provisioning.put_enrollment

    async def refuse(_entry: dict[str, Any], *, etag: str | None) -> dict[str, Any]:
        raise Rejected.because(f"DPS does not take it, whatever its ETag is ({etag})")

    scene.provisioning.put_enrollment = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(Rejected, match="DPS does not take it"):
        await scene.enroll(device, certificate=leaf(device), deviceId="drill")
    assert await scene.devices.owner_of("drill") is None
    scene.provisioning.put_enrollment = write  # type: ignore[method-assign]
    await scene.order("other", "drill")
    assert (await scene.line("other")).state is LineState.REGISTERED


async def test_a_device_id_that_an_entry_has_stays_its_own_when_a_change_of_it_is_refused() -> None:
    scene = await registered()
    await scene.enroll(deviceId="drill")

    async def refuse(_entry: dict[str, Any], *, etag: str | None) -> dict[str, Any]:
        raise Rejected.because(f"DPS does not take it, whatever its ETag is ({etag})")

    scene.provisioning.put_enrollment = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(Rejected, match="DPS does not take it"):
        await scene.enroll(deviceId="drill", iotEdge=True)
    assert await scene.devices.owner_of("drill") == "press"


async def test_who_is_overtaken_tries_again() -> None:
    """An entry that another writer makes between reading and writing is looked at anew."""
    scene = await registered()
    await scene.enroll()
    entry = dict(entry_of(scene))

    async def not_yet(_registration_id: str) -> None:
        return None

    scene.provisioning.get_enrollment = not_yet  # type: ignore[method-assign, assignment]
    with pytest.raises(Deferred, match="is being changed by someone else"):
        await scene.enroll(iotEdge=True)
    assert entry_of(scene) == entry


async def test_what_dps_would_not_take_is_refused() -> None:
    """A certificate of another CN, an expired one, and what is none."""
    scene = DeviceScene()
    body: Any
    for body, at, message in (
        ({"certificate": "x"}, NOW, "certificate: it holds no certificate of the device in PEM: "),
        (
            {"certificate": of_version_5(hierarchy().device("press"))},
            NOW,
            "certificate: the certificate can't be used: its version is 5; 3 is right, and 1 for an old root",
        ),
        (
            {"certificate": leaf(), "secondaryCertificate": leaf("other")},
            NOW,
            "secondaryCertificate: its CN is 'other' and the registration id 'press'; DPS wants them to be the same",
        ),
        ({"certificate": leaf()}, NOW + timedelta(days=400), "certificate: it expired on "),
    ):
        scene.now = at
        with pytest.raises(Rejected) as refused:
            await scene.enroll(**body)
        assert str(refused.value).startswith(message)
    assert scene.provisioning.enrollments == {}


async def test_an_entry_that_shuts_a_device_out_is_not_changed() -> None:
    """While it is on hold as well: nothing of it is replaced, enabled or deleted, and the answer says what would help."""
    scene = await registered()
    await scene.revoke(HOLD)
    before = dict(entry_of(scene))
    for body in ({"provisioningStatus": "enabled"}, {"certificate": leaf()}, {"iotEdge": True}):
        with pytest.raises(Conflict) as refused:
            await scene.enroll(**body)
        assert str(refused.value) == (
            "registrationId: the individual enrollment 'press' keeps out a device that is revoked (certificateHold), and "
            "is not changed by others; a hold is undone by reinstating the device, any other revocation is final"
        )
    with pytest.raises(Conflict):
        await scene.enrollments.delete("press")
    assert entry_of(scene) == before
    await scene.reinstate()
    await scene.enroll(iotEdge=True)
    assert await scene.admitted() == [1]


@pytest.mark.parametrize("shows_certificates", [True, False])
async def test_a_revoked_certificate_stays_out(
    shows_certificates: bool,  # noqa: FBT001 - a case of the test
) -> None:
    """A former one of a device in service is not let in again, whether DPS shows certificates or ``info`` alone."""
    scene = await renewing()
    scene.provisioning.shows_certificates = shows_certificates  # type: ignore[misc]
    former = await scene.certificate(1)
    serial = (await scene.serials())[0]
    await scene.revoke(COMPROMISE, serial_number=serial)
    with pytest.raises(Conflict) as refused:
        await scene.enroll(certificate=pem(former))
    assert str(refused.value) == (
        f"certificate: the individual enrollment 'press' shuts out certificate {serial}, which is revoked "
        "(keyCompromise), and a group would let it in; a hold is undone by reinstating the device, any other revocation "
        "is final: give a new certificate"
    )
    assert await scene.admitted() == [2, 3]


async def test_a_revoked_device_is_shut_out_by_what_the_ledger_knows() -> None:
    """DPS shows ``info`` alone, and somebody else has put another certificate into the entry: it stays as it is."""
    scene = await registered()
    await scene.revoke(COMPROMISE)
    scene.provisioning.shows_certificates = False  # type: ignore[misc]
    entry = entry_of(scene)
    places = {"primary": {"certificate": leaf()}}
    others = {**entry, "attestation": {"type": "x509", "x509": {"clientCertificates": places}}}
    await scene.provisioning.put_enrollment(others, etag=ANY_VERSION)
    with pytest.raises(Conflict):
        await scene.enroll(provisioningStatus="enabled")
    with pytest.raises(Conflict):
        await scene.enrollments.delete("press")
    assert entry_of(scene)["provisioningStatus"] == "disabled"


async def test_what_keeps_an_earlier_certificate_out_is_not_deleted() -> None:
    """The enrollment of a device ordered anew admits its present certificate only, and stays."""
    scene = await registered()
    await scene.delete()
    await scene.order("again")
    with pytest.raises(Conflict, match="admits the device's present certificate and no other"):
        await scene.enrollments.delete("press")
    assert await scene.admitted() == [2]


async def test_an_entry_of_another_device_takes_over_no_identity() -> None:
    """A device id belongs to one registration id: of a device that is there, of one that registers, of an entry."""
    scene = await registered()
    with pytest.raises(Conflict) as refused:
        await scene.enroll("lathe", certificate=leaf("lathe"), deviceId="press")
    assert str(refused.value) == (
        "deviceId: the device id 'press' belongs to 'press'; each device has a device id of its own"
    )
    with pytest.raises(Conflict, match="the device id 'PRESS' belongs to 'press'"):
        await scene.enroll("lathe", certificate=leaf("lathe"), deviceId="PRESS")
    await scene.enroll("lathe", certificate=leaf("lathe"), deviceId="drill")
    with pytest.raises(Conflict, match="the device id 'drill' belongs to 'lathe'"):
        await scene.enroll("saw", certificate=leaf("saw"), deviceId="drill")
    await scene.order("second", "drill")
    reasons = (await scene.line("second")).reasons
    assert reasons is not None
    assert "the device id 'drill' belongs to the individual enrollment 'lathe'" in reasons[0]["message"]


async def test_a_device_id_is_free_again_when_its_enrollment_is_deleted() -> None:
    """As the answer says: a wrong device id does not block a device for ever."""
    scene = await DeviceScene().set_up()
    await scene.enroll("lathe", certificate=leaf("lathe"), deviceId="press")
    await scene.enrollments.delete("lathe")
    await scene.order()
    assert await scene.state() is DeviceState.REGISTERED
    await scene.enroll("drill", certificate=leaf("drill"), deviceId="saw")
    await scene.enroll("drill", deviceId="mill")
    await scene.enroll("lathe", certificate=leaf("lathe"), deviceId="saw")


async def test_a_certificate_of_another_device_is_refused() -> None:
    """It could not be used, since its CN is another one; a certificate of the ledger is known by its serial number."""
    scene = await registered()
    with pytest.raises(Rejected, match="its CN is 'press' and the registration id 'lathe'"):
        await scene.enroll("lathe", certificate=pem(await scene.certificate(1)))


@pytest.mark.parametrize("how", ["put", "disable"])
async def test_what_an_operator_has_disabled_stays_disabled(how: str) -> None:
    """Through a renewal, a former certificate's revocation, and a hold and its end; enabled, it has what is in use."""
    scene = await registered()
    if how == "put":
        await scene.enroll(provisioningStatus="disabled")
    else:
        await scene.enrollments.disable("press")
    request = csr()
    await scene.renewing("renewal", csr=request)
    assert scene.entry() == "disabled"
    await scene.revoke(HOLD)
    await scene.reinstate()
    assert scene.entry() == "disabled"
    await scene.enroll(provisioningStatus="enabled")
    assert (scene.entry(), await scene.admitted()) == ("enabled", [1, 2])


async def test_an_enrollment_that_an_operator_gives_follows_the_renewals() -> None:
    """A renewed device gets in with its new certificate, and keeps its old one until then."""
    scene = await registered()
    await scene.enroll(iotEdge=True)
    await scene.renewing()
    assert await scene.admitted() == [1, 2]
    scene.boot(await scene.certificate(2))
    await scene.renew()
    assert await scene.admitted() == [2]
    assert entry_of(scene)["capabilities"] == {"iotEdge": True}


async def test_the_key_of_a_certificate_is_no_other_devices_and_not_compromised() -> None:
    """A certificate of another maker with a key that the ledger knows: refused, by the key."""
    scene, foreign = await registered(), leaf("lathe")
    key = key_in(foreign)
    known = PublicKeyRecord(fingerprint=key, registration_id="press", recorded_at=NOW)
    await scene.public_keys.claim(known)
    with pytest.raises(Conflict, match="is that of device 'press'; each device needs a key of its own"):
        await scene.enroll("lathe", certificate=foreign)
    await scene.public_keys.condemn(known)
    with pytest.raises(
        Conflict, match="is compromised: a certificate with it was revoked for keyCompromise; make a new"
    ):
        await scene.enroll("lathe", certificate=foreign)


async def test_a_key_whose_compromise_only_the_device_s_record_knows_gets_into_no_enrollment() -> None:
    """The table of keys is down when a former certificate is revoked."""
    key = generate_key(KeyAlgorithm.EC_P256)
    scene = await renewed_from(key)

    async def down(_record: Any) -> None:
        raise ConnectionError("the table is down")

    scene.public_keys.condemn = down  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await scene.revoke(COMPROMISE, serial_number=(await scene.serials())[0])
    with pytest.raises(Conflict, match=r"its public key .* is compromised: a certificate with it was revoked"):
        await scene.enroll(certificate=leaf(key=key))


async def test_the_key_of_a_certificate_is_no_ca_s() -> None:
    """Whoever has that key could sign for all of the CA's devices."""
    scene, foreign = await registered(), leaf()
    ca = PublicKeyRecord(fingerprint=key_in(foreign), registration_id="", authority="line-1-ca1", recorded_at=NOW)
    await scene.public_keys.claim(ca)
    with pytest.raises(Conflict, match="is that of the CA 'line-1-ca1'; each device needs a key of its own"):
        await scene.enroll(certificate=foreign)


async def test_the_key_of_an_enrollment_is_its_device_s_from_then_on() -> None:
    """Nobody else can come with it: by an enrollment, or by a CSR."""
    scene = await registered()
    await scene.order("second", "lathe")
    key = generate_key(KeyAlgorithm.EC_P256)
    own, other = leaf(key=key), leaf("lathe", key=key)
    await scene.enroll(certificate=own)
    with pytest.raises(Conflict, match=r"its public key .* is that of device 'press'"):
        await scene.enroll("lathe", certificate=other)
    await scene.order("third", "saw", csr=csr("saw", key=key))
    reasons = (await scene.line("third")).reasons
    assert reasons is not None
    assert "is that of device 'press'; each device needs a key of its own" in reasons[0]["message"]


@pytest.mark.parametrize("ends", ["refused", "killed", "refused when the timer goes on"])
@pytest.mark.parametrize("way", ["order", "enrollment"])
async def test_a_key_that_was_asked_for_in_vain_may_be_another_device_s(ends: str, way: str) -> None:
    """DPS refuses the entry, or the worker is killed before the ledger says that it is wanted."""
    scene, key = await registered(), generate_key(KeyAlgorithm.EC_P256)
    await scene.order("other", "lathe")
    write = scene.provisioning.put_enrollment

    async def refuse(_entry: dict[str, Any], *, etag: str | None) -> dict[str, Any]:
        raise Rejected.because(f"DPS does not take it, whatever its ETag is ({etag})")

    scene.provisioning.put_enrollment = refuse  # type: ignore[method-assign, assignment]
    if ends == "killed":
        kill(scene.devices, "replace", when="before")
    elif ends == "refused when the timer goes on":
        kill(scene.provisioning, "put_enrollment", when="before")
    with pytest.raises(Rejected if ends == "refused" else Killed):
        await scene.enroll(certificate=leaf(key=key))
    if ends == "refused when the timer goes on":
        with pytest.raises(Conflict, match=r"its public key .* is that of device 'press'"):
            await scene.enroll("lathe", certificate=leaf("lathe", key=key))
        await scene.converger.converge("press")
    scene.provisioning.put_enrollment = write  # type: ignore[method-assign]
    if way == "order":
        with pytest.raises(Deferred, match="'mill' has not registered with its certificate yet"):
            await scene.order("third", "mill", csr=csr("mill", key=key))
    else:
        await scene.enroll("lathe", certificate=leaf("lathe", key=key))
    with pytest.raises(Conflict, match=r"its public key .* is that of device '(mill|lathe)'"):
        await scene.enroll(certificate=leaf(key=key))


async def test_a_key_that_another_device_took_meanwhile_gets_into_no_enrollment() -> None:
    """It was claimed, and nothing in the ledger said yet that the device is to have it."""
    scene, key = await registered(), generate_key(KeyAlgorithm.EC_P256)
    replace = scene.devices.replace

    async def overtaken(*args: Any, **named: Any) -> Any:
        scene.devices.replace = replace  # type: ignore[method-assign]
        with pytest.raises(Deferred, match="'mill' has not registered with its certificate yet"):
            await scene.order("third", "mill", csr=csr("mill", key=key))
        return await replace(*args, **named)

    scene.devices.replace = overtaken  # type: ignore[method-assign]
    with pytest.raises(Conflict, match=r"its public key .* is that of device 'mill'"):
        await scene.enroll(certificate=leaf(key=key))
    assert "press" not in scene.provisioning.enrollments
    assert not (await scene.record()).own_entry


async def test_a_key_that_is_compromised_since_it_was_asked_for_gets_into_no_enrollment() -> None:
    """The timer goes on with what the ledger says was wanted before."""
    scene, certificate = await registered(), leaf()
    kill(scene.provisioning, "put_enrollment", when="before")
    with pytest.raises(Killed):
        await scene.enroll(certificate=certificate)
    known = await scene.public_keys.get(key_in(certificate))
    assert known is not None
    await scene.public_keys.condemn(known.record)
    await scene.converger.converge("press")
    assert "press" not in scene.provisioning.enrollments
    assert ((await scene.record()).entry_change, (await scene.record()).own_entry) == (None, False)


async def test_a_key_is_taken_by_nobody_while_dps_is_told_of_it() -> None:
    """Another device has found its claim to be in vain, before the ledger said once more that it is wanted."""
    scene, key = await registered(), generate_key(KeyAlgorithm.EC_P256)
    replace, write = scene.public_keys.replace, scene.provisioning.put_enrollment
    kill(scene.devices, "replace", when="before")
    with pytest.raises(Killed):
        await scene.enroll(certificate=leaf(key=key))

    async def late(*args: Any) -> Any:
        scene.public_keys.replace = replace  # type: ignore[method-assign]
        taken: list[Any] = []

        async def put_enrollment(entry: dict[str, Any], *, etag: str | None) -> dict[str, Any]:
            with pytest.raises(Stale):
                taken.append(await replace(*args))
            return await write(entry, etag=etag)

        scene.provisioning.put_enrollment = put_enrollment  # type: ignore[method-assign, assignment]
        await scene.enroll(certificate=leaf(key=key))
        assert taken == []
        raise Stale("the key")

    scene.public_keys.replace = late  # type: ignore[method-assign, assignment]
    with pytest.raises(Overtaken):
        await scene.order("other", "mill", csr=csr("mill", key=key))
    await scene.deliver("other")
    assert (await scene.line("other")).state is LineState.FAILED
    assert "press" in scene.provisioning.enrollments


async def test_a_device_may_have_the_key_that_the_ledger_knows_as_its_own() -> None:
    """Its certificate may be of another maker, and its key is the one that it has."""
    scene, own = await registered(), leaf()
    key = key_in(own)
    await scene.public_keys.claim(PublicKeyRecord(fingerprint=key, registration_id="press", recorded_at=NOW))
    await scene.enroll(certificate=own)
    assert held(scene) == {"primary": own}


async def test_an_entry_of_a_device_that_is_not_the_apps_is_disabled() -> None:
    """What others have made is shut as well, and keeps its certificate."""
    scene, foreign = DeviceScene(), leaf()
    await scene.enroll(certificate=foreign)
    await scene.enrollments.disable("press")
    assert (scene.entry(), held(scene)) == ("disabled", {"primary": foreign})
    assert await scene.devices.get("press") is None


async def test_a_device_has_one_certificate_in_a_place() -> None:
    """A chain is what the device sends, and not what DPS knows it by."""
    scene = DeviceScene()
    with pytest.raises(Rejected, match=r"^certificate: holds 2 certificates; give the device's own alone$"):
        await scene.enroll(certificate=leaf() + leaf())


async def test_an_entry_that_names_another_devices_certificate_is_not_kept() -> None:
    """DPS may show of a certificate its serial number alone."""
    scene = await registered()
    await scene.order("second", "lathe")
    [serial] = await scene.serials("lathe")
    await scene.enroll()
    places = entry_of(scene)["attestation"]["x509"]["clientCertificates"]
    places["secondary"] = {"info": {"serialNumber": serial.upper()}}
    with pytest.raises(Conflict) as refused:
        await scene.enroll(iotEdge=True)
    assert str(refused.value) == (f"certificate: certificate {serial} is that of device 'lathe'; give one of 'press'")


async def test_a_device_is_kept_out_of_its_hub_though_dps_does_not_take_what_is_wanted_of_its_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DPS is down, and another operator's change of the entry waits for it: the hub is shut first."""
    scene = await registered()

    async def down(*_: object, **__: object) -> dict[str, Any]:
        raise ConnectionError("DPS is down")

    monkeypatch.setattr(scene.provisioning, "put_enrollment", down)
    with pytest.raises(ConnectionError):
        await scene.enroll(iotEdge=True)
    assert (await scene.record()).entry_change is not None
    with pytest.raises(ConnectionError):
        await scene.identities.switch("press", enabled=False, reason="stolen")
    identity = await scene.hubs.get("hub-1", "press")
    assert identity is not None
    assert not identity.enabled
    monkeypatch.undo()
    scene.now += timedelta(minutes=2)
    await scene.converger.sweep(older_than=timedelta(minutes=1))
    assert entry_of(scene)["capabilities"] == {"iotEdge": True}
    assert (await scene.record()).settled


async def test_a_conflict_that_dps_sees_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a new entry it means that somebody else was faster; for one that is there it has another cause."""
    scene = await registered()

    async def refuse(*_: object, **__: object) -> dict[str, Any]:
        raise Conflict.because("DPS says no")

    put = scene.provisioning.put_enrollment
    monkeypatch.setattr(scene.provisioning, "put_enrollment", refuse)
    with pytest.raises(Deferred, match=r"^the individual enrollment 'press' is being changed by someone else$"):
        await scene.enroll()
    monkeypatch.setattr(scene.provisioning, "put_enrollment", put)
    await scene.enroll()
    monkeypatch.setattr(scene.provisioning, "put_enrollment", refuse)
    with pytest.raises(Conflict, match=r"^DPS says no$"):
        await scene.enroll(iotEdge=True)


async def test_an_enrollment_that_is_not_there_is_said_to_not_be_there() -> None:
    """For a device of a group that is as it should be: the message says so."""
    scene = await registered()
    assert await scene.enrollments.find("press") is None
    with pytest.raises(NotFound) as refused:
        await scene.enrollments.get("press")
    assert str(refused.value) == (
        "registrationId: 'press' has no individual enrollment; if it belongs to a group, that decides about it"
    )
    await scene.enroll()
    assert (await scene.enrollments.get("press")).shown() == await scene.enrollments.find("press")


async def test_what_dps_does_not_take_at_the_moment_is_not_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked was told that it was not done, and may have decided otherwise since."""
    scene = await registered()

    async def throttled(*_of_it: Any, **_more: Any) -> Any:
        raise Deferred("DPS is throttling", retry_after=timedelta(seconds=5))

    monkeypatch.setattr(scene.provisioning, "put_enrollment", throttled)
    with pytest.raises(Deferred, match=r"^DPS is throttling$"):
        await scene.enroll()
    monkeypatch.undo()
    record = await scene.record()
    assert (record.entry_change, record.own_entry) == (None, False)
    scene.now += timedelta(hours=1)
    await scene.converger.sweep(older_than=timedelta())
    assert "press" not in scene.provisioning.enrollments


async def test_a_device_that_others_keep_changing_gets_no_enrollment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided by an older record could let in what is revoked by now."""
    scene = await registered()

    async def changed(*_of_it: Any, **_more: Any) -> Any:
        raise Stale("press")

    monkeypatch.setattr(scene.devices, "replace", changed)
    for ask in (scene.enroll(), scene.enrollments.disable("press")):
        with pytest.raises(Deferred, match="'press'"):
            await ask
    assert "press" not in scene.provisioning.enrollments


async def test_a_change_that_dps_refuses_of_a_device_that_is_not_the_apps_is_told_in_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An enrollment that is there does not come into being meanwhile: what DPS says is the reason."""
    scene = DeviceScene()
    await scene.enroll("foreign", certificate=leaf("foreign"))

    async def refused(*_of_it: Any, **_more: Any) -> Any:
        raise Conflict.because("the device id is taken", field="deviceId")

    monkeypatch.setattr(scene.provisioning, "put_enrollment", refused)
    with pytest.raises(Conflict, match=r"^deviceId: the device id is taken$"):
        await scene.enroll("foreign", iotEdge=True)
    monkeypatch.undo()
    fresh = DeviceScene()
    monkeypatch.setattr(fresh.provisioning, "put_enrollment", refused)
    with pytest.raises(Deferred, match="'foreign'"):  # made by others since it was looked for
        await fresh.enroll("foreign", certificate=leaf("foreign"))
