"""Every fault that can be planted on a device is explained by its cause, and a healthy fleet raises no alarm."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared.contracts.explanations import Explanation
from shared.contracts.messages import Queue
from shared.domain import revocation
from shared.domain.attestations import leaf_attestation
from shared.domain.authorities import AuthorityState, ProofOfPossession
from shared.domain.certificates import CertificateState
from shared.domain.explanations.causes import RULES
from shared.domain.explanations.logs import MESSAGES
from shared.domain.explanations.parts import Kind
from shared.domain.groups import GroupState
from shared.domain.rejections import RejectionKind, RejectionRecord
from shared.domain.requests import RequestRecord, RequestState, Wait
from shared.domain.upkeep import expired, pinned
from shared.domain.words import RegisterBy, RevocationReason
from shared.errors import AwaitsDevice, Deferred, Misconfigured, NotFound
from shared.pki import names
from shared.pki.profiles import issuing_profile
from shared.pki.signing_keys import KeyAlgorithm
from shared.ports.registrar import RegistrationRefused
from shared.rules.etags import ANY_VERSION
from shared.workflows.devices.changes import change
from tests.pki.hierarchy import NOW, certificate_authority, hierarchy
from tests.unit.devices import COMPROMISE, HOLD, HUB, ISSUER, csr, pem
from tests.unit.explained import ROOT, ExplainedScene, codes, in_service
from tests.unit.groups import GroupScene

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    type Making = Callable[[], Awaitable[ExplainedScene]]
    type Planting = Callable[[ExplainedScene], Awaitable[None]]

CONTRACT = Path(__file__).parents[2] / "docs" / "contract.md"
TEXTS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("explained_texts.json").read_text())
"""What is said of each device that is made here: :func:`said`."""

YEAR = timedelta(days=366)
BY_DEVICE = {"register_by": RegisterBy.DEVICE}


def said(explained: dict[str, Any]) -> dict[str, Any]:
    """Give the texts of an explanation, with words for what is drawn anew in each run."""
    call = explained["whatToDo"]["call"]
    body = f" {json.dumps(call['body'])}" if call and call["body"] is not None else ""
    return {
        "cause": fixed(explained["cause"]["text"]),
        "whatToDo": fixed(explained["whatToDo"]["text"]),
        "call": call and fixed(f"{call['method']} {call['path']}{body}"),
        "further": [
            fixed(f"{each['code']}: {each['text']} | {each['whatToDo']['text']}") for each in explained["further"]
        ],
    }


def fixed(text: str) -> str:
    for drawn, word in (
        (r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\\n", "CERTIFICATE"),
        (r"\b[0-9A-F]{64}\b", "THUMBPRINT"),
        (r"\b[0-9a-f]{40}\b", "SERIAL"),
    ):
        text = re.sub(drawn, word, text)
    return text


# --- a healthy fleet ---


async def ordered() -> ExplainedScene:
    """Accepted by its order, and its certificate is not made: the CA is busy."""
    scene = await ExplainedScene().set_up()
    scene.authorities.signing = busy
    with suppress(Deferred):
        await scene.order()
    return scene


async def busy(*_: Any) -> None:
    raise Deferred("the vault is throttling", retry_after=timedelta(seconds=30))


async def never_booted() -> ExplainedScene:
    scene = await ExplainedScene().set_up()
    with suppress(AwaitsDevice):
        await scene.order(**BY_DEVICE)
    return scene


async def just_booted() -> ExplainedScene:
    scene = await never_booted()
    scene.boot(await scene.certificate(1))
    return scene


async def own_key() -> ExplainedScene:
    scene = await ExplainedScene().set_up()
    with suppress(AwaitsDevice):
        await scene.order(csr=csr())
    scene.boot(await scene.certificate(1))
    await scene.deliver()
    return scene


async def renewing() -> ExplainedScene:
    scene = await in_service()
    await scene.renewing("renewal-1")
    return scene


async def renewed() -> ExplainedScene:
    scene = await renewing()
    scene.boot(await scene.certificate(2))
    await scene.renew("renewal-1")
    return scene


async def former_revoked() -> ExplainedScene:
    """An earlier certificate is revoked alone: from then on an individual enrollment decides."""
    scene = await renewed()
    await scene.revoke(serial_number=(await scene.serials())[0])
    return scene


async def held() -> ExplainedScene:
    scene = await in_service()
    await scene.revoke(HOLD)
    return scene


async def reinstated() -> ExplainedScene:
    scene = await held()
    await scene.reinstate()
    return scene


async def revoked() -> ExplainedScene:
    scene = await in_service()
    await scene.revoke()
    return scene


async def deleted() -> ExplainedScene:
    scene = await in_service()
    await scene.delete()
    return scene


async def ordered_again() -> ExplainedScene:
    scene = await deleted()
    await scene.order("again")
    return scene


async def disabled() -> ExplainedScene:
    scene = await in_service()
    await scene.identities.switch("press", enabled=False, reason="it is being repaired")
    return scene


async def enabled_again() -> ExplainedScene:
    scene = await disabled()
    await scene.identities.switch("press", enabled=True, reason="repaired")
    return scene


async def entry_disabled() -> ExplainedScene:
    scene = await in_service()
    await scene.enrollments.disable("press")
    return scene


async def enrolled() -> ExplainedScene:
    scene = await in_service()
    await scene.enroll()
    return scene


async def group_disabled() -> ExplainedScene:
    scene = await in_service()
    await scene.group(GroupState.DISABLED)
    await scene.enter_group(status="disabled")
    return scene


async def rolling() -> ExplainedScene:
    """Its group accepts the next CA beside the one that has signed its certificate."""
    scene = await in_service()
    scene.provisioning.groups["line"]["attestation"]["x509"]["signingCertificates"]["secondary"] = (
        scene.provisioning.groups["line"]["attestation"]["x509"]["signingCertificates"]["primary"]
    )
    await scene.group(GroupState.ENABLED, issuer="line-1-ca2")
    return scene


async def ending() -> ExplainedScene:
    scene = await in_service()
    scene.now += timedelta(days=340)
    return scene


async def message_refused() -> ExplainedScene:
    """Whoever asked was told so, and nobody has closed it."""
    scene = await in_service()
    await refuse(scene, RejectionKind.REJECTED)
    return scene


async def on_hold_beyond_the_end() -> ExplainedScene:
    scene = await held()
    scene.now += YEAR
    return scene


async def just_put_on_hold() -> ExplainedScene:
    """The hold is written, and the services are about to follow."""
    scene = await in_service()
    scene.hubs.down = {HUB}
    with suppress(ConnectionError):
        await scene.revoke(HOLD)
    scene.hubs.down = set()
    return scene


async def just_reinstated() -> ExplainedScene:
    """The end of the hold is written, and every door is still shut."""
    scene = await held()
    scene.hubs.down = {HUB}
    with suppress(ConnectionError):
        await scene.reinstate()
    scene.hubs.down = set()
    return scene


async def being_assigned() -> ExplainedScene:
    scene = await never_booted()
    scene.provisioning.registrations["press"] = {"registrationId": "press", "status": "assigning"}
    return scene


async def being_registered() -> ExplainedScene:
    """DPS is throttling."""
    scene = await ExplainedScene().set_up()
    scene.registrar.register = busy  # type: ignore[assignment]
    with suppress(Deferred):
        await scene.order()
    return scene


async def with_thumbprints_of_other_tools() -> ExplainedScene:
    """Its identity has the SHA-1 thumbprint, as other tools enter it."""
    scene = await in_service()
    scene.hubs.enter(HUB, "press", names.thumbprint(await scene.certificate(1)))
    return scene


HEALTHY: dict[str, tuple[Making, str, str]] = {
    each.__name__: (each, code, kind)
    for each, code, kind in (
        (ordered, "ordered", "waiting"),
        (never_booted, "neverBooted", "waiting"),
        (just_booted, "neverBooted", "waiting"),
        (in_service, "inService", "healthy"),
        (own_key, "inService", "healthy"),
        (renewing, "successorWaits", "waiting"),
        (renewed, "inService", "healthy"),
        (former_revoked, "inService", "healthy"),
        (held, "onHold", "wanted"),
        (reinstated, "inService", "healthy"),
        (revoked, "revoked", "wanted"),
        (deleted, "deleted", "wanted"),
        (ordered_again, "inService", "healthy"),
        (disabled, "identityDisabledByOperator", "wanted"),
        (enabled_again, "inService", "healthy"),
        (entry_disabled, "entryDisabledByOperator", "wanted"),
        (enrolled, "inService", "healthy"),
        (group_disabled, "groupDisabled", "wanted"),
        (rolling, "inService", "healthy"),
        (ending, "expiresSoon", "due"),
        (message_refused, "requestRejected", "due"),
        (on_hold_beyond_the_end, "onHold", "wanted"),
        (just_put_on_hold, "onHold", "wanted"),
        (just_reinstated, "beingFollowed", "waiting"),
        (being_assigned, "assigning", "waiting"),
        (being_registered, "beingRegistered", "waiting"),
        (with_thumbprints_of_other_tools, "inService", "healthy"),
    )
}


@pytest.mark.parametrize("name", HEALTHY)
async def test_a_healthy_device_raises_no_alarm(name: str) -> None:
    """Whatever is on its way, or was decided by somebody, is as it should be, and the answer says what it is."""
    making, code, kind = HEALTHY[name]
    explained = await (await making()).explained()
    assert (explained["asItShouldBe"], codes(explained)[0], explained["cause"]["kind"]) == (True, code, kind)
    assert "fault" not in {each["kind"] for each in explained["further"]}
    assert said(explained) == TEXTS[name]
    Explanation.model_validate(explained)


# --- faults ---


async def entry(scene: ExplainedScene, certificate: str, status: str = "enabled", **attestation: Any) -> None:
    """Write an individual enrollment past the app."""
    scene.provisioning.enrollments.pop("press", None)
    body = {
        "registrationId": "press",
        "attestation": attestation or leaf_attestation(certificate),
        "provisioningStatus": status,
    }
    await scene.provisioning.put_enrollment(body, etag=None)


async def identity_is_missing(scene: ExplainedScene) -> None:
    scene.hubs.identities.clear()


async def identity_is_disabled(scene: ExplainedScene) -> None:
    identity = scene.hubs.identities[HUB, "press"]
    scene.hubs.enter(HUB, "press", *identity.thumbprints, enabled=False, reason="by hand")


async def identity_is_another(scene: ExplainedScene) -> None:
    scene.hubs.enter(HUB, "press", "AB" * 32)


async def identity_has_keys(scene: ExplainedScene) -> None:
    """Beside them it has the device's own thumbprints, which do not count."""
    identity = scene.hubs.identities[HUB, "press"]
    scene.hubs.enter(HUB, "press", *identity.thumbprints, authentication="sas")


async def identity_trusts_authorities(scene: ExplainedScene) -> None:
    scene.hubs.enter(HUB, "press", authentication="certificateAuthority")


async def identity_is_enabled(scene: ExplainedScene) -> None:
    await scene.identities.switch("press", enabled=False, reason="it is being repaired")
    scene.hubs.enter(HUB, "press", *scene.hubs.identities[HUB, "press"].thumbprints)


async def former_certificate_came_back(scene: ExplainedScene) -> None:
    """A device was set back to the state before its renewal, and has registered again."""
    await scene.renewing("renewal-1")
    scene.boot(await scene.certificate(2))
    await scene.renew("renewal-1")
    scene.boot(await scene.certificate(1))


async def entry_is_disabled(scene: ExplainedScene) -> None:
    await entry(scene, pem(await scene.certificate(1)), "disabled")


async def entry_is_missing(scene: ExplainedScene) -> None:
    """It says which of several certificates counts, since an earlier one is revoked."""
    await scene.renewing("renewal-1")
    scene.boot(await scene.certificate(2))
    await scene.renew("renewal-1")
    await scene.revoke(serial_number=(await scene.serials())[0])
    scene.provisioning.enrollments.clear()


async def entry_has_another_certificate(scene: ExplainedScene) -> None:
    await entry(scene, pem(hierarchy().device("press")))


async def entry_has_another_attestation(scene: ExplainedScene) -> None:
    await entry(scene, "", type="symmetricKey")


async def door_is_open_at_the_hub(scene: ExplainedScene) -> None:
    await scene.revoke()
    scene.hubs.enter(HUB, "press", *scene.hubs.identities[HUB, "press"].thumbprints)


async def door_is_open_at_dps(scene: ExplainedScene) -> None:
    await scene.revoke()
    scene.provisioning.enrollments.clear()


async def door_of_a_hold_is_open_at_dps(scene: ExplainedScene) -> None:
    await scene.revoke(HOLD)
    await entry(scene, pem(await scene.certificate(1)))


async def door_of_a_deleted_one_is_open(scene: ExplainedScene) -> None:
    await scene.delete()
    scene.provisioning.enrollments.clear()


async def group_is_disabled_elsewhere(scene: ExplainedScene) -> None:
    await scene.enter_group(status="disabled")


async def group_is_missing(scene: ExplainedScene) -> None:
    await scene.provisioning.delete_group("line", etag=ANY_VERSION)


async def group_is_deleted(scene: ExplainedScene) -> None:
    await scene.group(GroupState.DELETED)
    await scene.provisioning.delete_group("line", etag=ANY_VERSION)


async def group_has_another_authority(scene: ExplainedScene) -> None:
    await scene.enter_group(other_authority().certificate)


async def authority_was_made_again(scene: ExplainedScene) -> None:
    """Under its name and key, after a restore; the device has the chain with its former certificate."""
    former, root, known = hierarchy().issuing.certificate, hierarchy().root, await scene.issuers.get(ISSUER)
    assert known is not None
    builder = x509.CertificateBuilder(
        issuer_name=former.issuer,
        subject_name=former.subject,
        public_key=former.public_key(),
        serial_number=4711,
        not_valid_before=scene.clock(),
        not_valid_after=former.not_valid_after_utc,
        extensions=list(former.extensions),
    )
    made = builder.sign(root.signing_key, hashes.SHA256())
    await scene.issuers.replace(known, known.record.changed(certificate=names.pem(made)))
    await scene.enter_group(made)


async def another_group_has_the_authority(scene: ExplainedScene) -> None:
    await scene.enter_group(other_authority().certificate)
    await scene.enter_group(group="foreign")


async def authority_is_not_verified(scene: ExplainedScene) -> None:
    known = await scene.issuers.get("dpsCa")
    assert known is not None
    await scene.issuers.replace(known, known.record.changed(proof_of_possession=ProofOfPossession.PENDING))


async def authority_is_revoked(scene: ExplainedScene) -> None:
    """Its devices are revoked with it, one after the other; this one was under way."""
    known = await scene.issuers.get("dpsCa")
    assert known is not None
    await scene.issuers.replace(known, known.record.changed(state=AuthorityState.REVOKED))


async def authority_has_expired(scene: ExplainedScene) -> None:
    """The CA's life ends before that of the device, whose certificate others have made longer."""
    known = await scene.known()
    used = known.record.certificate
    assert used is not None
    longer = used.model_copy(update={"not_after": NOW + 40 * YEAR})
    await scene.devices.replace(known, known.record.changed(certificate=longer))
    scene.now = ROOT.not_valid_after_utc + timedelta(days=1)


async def certificate_has_expired(scene: ExplainedScene) -> None:
    scene.now += YEAR
    serial_number = (await scene.serials())[0]
    await change(scene.devices, "press", lambda record: expired(record, serial_number, scene.now), at=scene.now)


async def certificate_has_expired_unnoticed(scene: ExplainedScene) -> None:
    scene.now += YEAR


async def renewed_and_not_restarted_until_the_end(scene: ExplainedScene) -> None:
    scene.now += timedelta(days=360)
    await scene.renewing("renewal-1")
    scene.now += timedelta(days=30)


async def clock_is_wrong(scene: ExplainedScene) -> None:
    scene.now -= timedelta(days=30)


async def order_failed(scene: ExplainedScene) -> None:
    await scene.delete()
    scene.registrar.refusal = RegistrationRefused("DPS refused to register 'press' with status 401", status=401)
    await scene.order("again")
    assert (await scene.state()) == "failed"


async def assignment_failed(scene: ExplainedScene) -> None:
    scene.provisioning.registrations["press"] = {
        "registrationId": "press",
        "status": "failed",
        "errorCode": 400207,
        "errorMessage": "Custom allocation failed with status code: 400",
    }


async def registration_is_missing(scene: ExplainedScene) -> None:
    scene.provisioning.registrations.clear()


async def registration_is_at_another_hub(scene: ExplainedScene) -> None:
    scene.provisioning.registrations["press"]["assignedHub"] = "hub-2"
    scene.hubs.enter("hub-2", "press", names.sha256_thumbprint(await scene.certificate(1)))


async def taken_over_and_given_back(scene: ExplainedScene) -> None:
    """What the sweep leaves behind: the individual enrollment is there, record and identity are gone."""
    await change(scene.devices, "press", lambda record: pinned(record, group="foreign", at=scene.now), at=scene.now)
    await scene.converger.converge("press")
    scene.provisioning.registrations.clear()
    scene.hubs.identities.clear()


async def services_did_not_follow(scene: ExplainedScene) -> None:
    scene.hubs.down = {HUB}
    with suppress(ConnectionError):
        await scene.revoke(HOLD)
    scene.hubs.down = set()
    scene.now += timedelta(hours=1)


async def message_was_set_aside(scene: ExplainedScene) -> None:
    await refuse(scene, RejectionKind.POISON)


async def refuse(scene: ExplainedScene, kind: RejectionKind) -> None:
    await scene.rejections.try_insert(
        RejectionRecord(
            rejection_id="2026-03-01-0123456789",
            kind=kind,
            queue=Queue.RENEWAL_REQUESTS,
            body=b'{"requestId": "r", "registrationId": "PRESS"}',
            reasons=({"field": "csr", "message": "the key is too weak"},),
            rejected_at=NOW,
        )
    )


async def request_was_set_aside(scene: ExplainedScene) -> None:
    await waiting_request(scene, next_try=None)


async def waiting_request(scene: ExplainedScene, **wait: Any) -> None:
    await scene.requests.claim(
        RequestRecord(
            kind=Queue.RENEWAL_REQUESTS,
            request_id="r1",
            fingerprint="f",
            received_at=NOW,
            state=RequestState.WAITING,
            about="/api/devices/press",
            wait=Wait(what="a role is missing at Key Vault", since=NOW, **wait),
        )
    )


def other_authority() -> Any:
    return certificate_authority("other-ca", hierarchy().root, KeyAlgorithm.EC_P256, issuing_profile())


FAULTS: dict[str, tuple[Planting, str]] = {
    each.__name__: (each, code)
    for each, code in (
        (door_is_open_at_the_hub, "doorOpenAtHub"),
        (door_is_open_at_dps, "doorOpenAtDps"),
        (door_of_a_hold_is_open_at_dps, "doorOpenAtDps"),
        (door_of_a_deleted_one_is_open, "doorOpenAtDps"),
        (services_did_not_follow, "notFollowed"),
        (order_failed, "failed"),
        (certificate_has_expired, "certificateExpired"),
        (certificate_has_expired_unnoticed, "certificateExpired"),
        (renewed_and_not_restarted_until_the_end, "certificateExpired"),
        (clock_is_wrong, "certificateNotYetValid"),
        (authority_is_revoked, "issuerRevoked"),
        (authority_has_expired, "issuerExpired"),
        (entry_is_disabled, "entryDisabled"),
        (entry_has_another_attestation, "entryOtherAttestation"),
        (entry_has_another_certificate, "entryOtherCertificate"),
        (entry_is_missing, "entryMissing"),
        (group_is_deleted, "groupDeleted"),
        (group_is_disabled_elsewhere, "groupDisabledElsewhere"),
        (group_is_missing, "groupMissing"),
        (another_group_has_the_authority, "otherGroup"),
        (authority_is_not_verified, "authorityNotVerified"),
        (group_has_another_authority, "groupHoldsOtherAuthority"),
        (authority_was_made_again, "formerAuthority"),
        (assignment_failed, "assignmentFailed"),
        (taken_over_and_given_back, "takenOver"),
        (identity_is_disabled, "identityDisabled"),
        (identity_is_enabled, "identityEnabled"),
        (identity_is_missing, "identityMissing"),
        (identity_has_keys, "identityOtherAuthentication"),
        (identity_trusts_authorities, "identityOtherAuthentication"),
        (identity_is_another, "identityOtherCertificate"),
        (former_certificate_came_back, "identityFormerCertificate"),
        (registration_is_at_another_hub, "atAnotherHub"),
        (registration_is_missing, "registrationMissing"),
        (message_was_set_aside, "requestSetAside"),
        (request_was_set_aside, "requestStuck"),
    )
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_explained_by_its_cause(name: str) -> None:
    """Planted on a device that was in service: the answer names it first, and says what to do."""
    plant, code = FAULTS[name]
    scene = await in_service()
    await plant(scene)
    explained = await scene.explained()
    assert (codes(explained)[0], explained["asItShouldBe"]) == (code, False)
    assert explained["cause"]["kind"] == "fault"
    assert explained["whatToDo"]["text"].endswith(".")
    assert said(explained) == TEXTS[name]
    Explanation.model_validate(explained)


async def call(scene: ExplainedScene, method: str, path: str, body: dict[str, Any]) -> None:
    """Carry out a call of the app, as its functions do."""
    match (method, path.removeprefix("/api/")):
        case "POST", "devices/press/revoke":
            await scene.revoke(RevocationReason(body["reason"]))
        case "POST", "devices/press/reinstate":
            await scene.reinstate()
        case "DELETE", "devices/press":
            await scene.delete()
        case "POST", "devices/press/enable" | "devices/press/disable":
            await scene.identities.switch("press", enabled=path.endswith("enable"), reason="as explained")
        case "GET", "devices/press/identity":
            await scene.identities.describe("press")
        case "DELETE", "devices/press/identity":
            await scene.identities.delete("press")
        case "PUT", "enrollments/press":
            await scene.enroll(**body)
        case "DELETE", "enrollments/press":
            await scene.enrollments.delete("press")
        case _:
            raise AssertionError(f"{method} {path} is not carried out here")


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("door_is_open_at_the_hub", "revoked"),
        ("door_is_open_at_dps", "revoked"),
        ("door_of_a_hold_is_open_at_dps", "onHold"),
        ("door_of_a_deleted_one_is_open", "deleted"),
        ("entry_is_disabled", "inService"),
        ("entry_has_another_attestation", "inService"),
        ("entry_has_another_certificate", "inService"),
        ("entry_is_missing", "inService"),
        ("group_is_deleted", "inService"),
        ("identity_is_disabled", "inService"),
        ("identity_is_enabled", "identityDisabledByOperator"),
        ("identity_has_keys", "inService"),
        ("identity_trusts_authorities", "inService"),
        ("registration_is_at_another_hub", "inService"),
        ("identity_is_another", "identityMissing"),
    ],
)
async def test_the_call_that_is_named_mends_it(name: str, becomes: str) -> None:
    """What the answer says to call is taken as it stands. An identity comes back when its device registers again."""
    scene = await in_service()
    await FAULTS[name][0](scene)
    wanted = (await scene.explained())["whatToDo"]["call"]
    await call(scene, wanted["method"], wanted["path"], wanted["body"] or {})
    assert codes(await scene.explained())[0] == becomes


async def test_the_calls_that_are_named_mend_a_group_that_others_have_changed() -> None:
    """A group that was disabled or deleted in DPS is as the ledger has it, when it is enabled, or written, again."""
    calls = {}
    for name in ("group_is_disabled_elsewhere", "group_is_missing"):
        device = await in_service()
        await FAULTS[name][0](device)
        calls[name] = (await device.explained())["whatToDo"]["call"]
    assert calls == {
        "group_is_disabled_elsewhere": {"method": "POST", "path": "/api/enrollment-groups/line/enable", "body": None},
        "group_is_missing": {"method": "PUT", "path": "/api/enrollment-groups/line", "body": {}},
    }
    scene = await GroupScene().set_up()
    await scene.ask("create")
    scene.provisioning.groups["g"]["provisioningStatus"] = "disabled"
    await scene.ask("enable", request_id="explained-1")
    assert scene.provisioning.groups["g"]["provisioningStatus"] == "enabled"
    scene.provisioning.groups.clear()
    await scene.ask("put", request_id="explained-2")
    assert scene.accepted() == ["g-ca1"]


@pytest.mark.parametrize(
    "name",
    ["identity_is_missing", "registration_is_missing", "taken_over_and_given_back", "former_certificate_came_back"],
)
async def test_registering_again_mends_it(name: str) -> None:
    """Where the answer says so, the device brings everything back by registering with its present certificate."""
    scene = await in_service()
    await FAULTS[name][0](scene)
    explained = await scene.explained()
    assert explained["whatToDo"] == {
        "text": "Have the device register with DPS again, as at its first boot; a restart does that, as a rule.",
        "call": None,
    }
    scene.boot(await scene.certificate(0))
    assert codes(await scene.explained()) == ["inService"]


async def not_reached(scene: ExplainedScene) -> None:
    scene.provisioning.down = True


async def refused(*_: str) -> None:
    error = HttpResponseError("forbidden")
    error.response = type("Response", (), {"status_code": 403})()
    raise error


async def throttling(*_: str) -> None:
    raise Deferred("429", retry_after=timedelta(seconds=30))


async def without_a_role(scene: ExplainedScene) -> None:
    scene.provisioning.get_registration = refused  # type: ignore[assignment]


async def without_a_role_at_the_hub(scene: ExplainedScene) -> None:
    scene.hubs.get = refused  # type: ignore[assignment]


async def throttled(scene: ExplainedScene) -> None:
    scene.provisioning.get_enrollment = throttling  # type: ignore[assignment]


async def hub_not_reached(scene: ExplainedScene) -> None:
    scene.hubs.down = {HUB}


async def hub_throttled(scene: ExplainedScene) -> None:
    scene.hubs.get = throttling  # type: ignore[assignment]


UNSEEN: dict[str, tuple[Planting, str, list[str]]] = {
    each.__name__: (each, code, doors)
    for each, code, doors in (
        (not_reached, "dpsUnavailable", ["unknown", "open"]),
        (without_a_role, "dpsRoleMissing", ["unknown", "open"]),
        (throttled, "dpsThrottled", ["unknown", "open"]),
        (hub_not_reached, "hubUnavailable", ["open", "unknown"]),
        (hub_throttled, "hubThrottled", ["open", "unknown"]),
        (without_a_role_at_the_hub, "hubRoleMissing", ["open", "unknown"]),
    )
}


@pytest.mark.parametrize("name", UNSEEN)
async def test_a_service_that_does_not_answer_leaves_its_part_unknown(name: str) -> None:
    """It is no error, and nobody says that the device is well, nor that it is not."""
    plant, code, doors = UNSEEN[name]
    scene = await in_service()
    await plant(scene)
    explained = await scene.explained()
    assert said(explained) == TEXTS[name]
    assert (explained["cause"]["code"], explained["asItShouldBe"]) == (code, None)
    assert [each["state"] for each in explained["doors"]][:2] == doors
    scene.now += YEAR
    assert (await scene.explained())["cause"]["code"] == "certificateExpired", "what the ledger shows is said even so"


class Absent:
    """Stands where a trust zone has no client."""

    async def check(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise Misconfigured("the trust zone 'intake' does not reach DPS")


async def test_a_part_of_the_app_that_does_not_reach_the_services_says_what_the_ledger_shows() -> None:
    """The console of a divided app reads the ledger alone, and names who can tell more."""
    scene = await in_service()
    absent: Any = Absent()
    scene.provisioning = scene.hubs = absent
    explained = await scene.explained()
    assert (codes(explained), explained["asItShouldBe"]) == (["servicesNotAsked"], None)
    assert [each["state"] for each in explained["doors"]] == ["unknown", "unknown", "open"]
    hold = partial(revocation.revoked, act="h", reason=HOLD, at=scene.now, correlation="h")
    await change(scene.devices, "press", hold, at=scene.now)
    assert (await scene.explained())["cause"]["code"] == "onHold"


async def test_a_request_that_goes_on_by_itself_is_shown() -> None:
    """A missing role keeps a renewal waiting, and not the device."""
    scene = await in_service()
    await waiting_request(scene, next_try=NOW)
    explained = await scene.explained()
    assert (explained["asItShouldBe"], codes(explained)) == (True, ["requestWaits"])
    assert explained["whatToDo"]["call"]["path"] == "/api/requests/r1?kind=renewal-requests"
    assert [each["source"] for each in explained["timeline"]].count("requests") == 2


async def test_a_revoked_certificate_before_its_successor_is_used() -> None:
    """The device goes on with the one that waits for it."""
    scene = await in_service()
    await scene.renewing("renewal-1")
    known = await scene.known()
    first = known.record.held[0].model_copy(update={"state": CertificateState.REVOKED, "reason": COMPROMISE})
    await scene.devices.replace(known, known.record.model_copy(update={"held": (first, *known.record.held[1:])}))
    explained = await scene.explained()
    assert explained["cause"]["code"] == "certificateRevoked"
    assert explained["whatToDo"]["call"]["path"] == "/api/devices/press/bundle?format=pem"


async def test_a_chain_that_dps_refuses_for_another_reason_is_told_in_its_words() -> None:
    """What has no cause of its own has the finding's message."""
    scene = await in_service()
    known = await scene.issuers.get(ISSUER)
    assert known is not None
    other = names.pem(hierarchy().device("someone"))  # a leaf in the place of a CA
    await scene.issuers.replace(known, known.record.changed(certificate=other))
    explained = await scene.explained()
    assert codes(explained)[0] in {"chainRefused", "groupHoldsOtherAuthority", "authorityNotVerified"}
    assert explained["asItShouldBe"] is False


async def test_a_device_that_does_not_exist_is_not_explained() -> None:
    scene = await in_service()
    with pytest.raises(NotFound, match="'nobody' does not exist"):
        await scene.explained("nobody")


def test_a_text_is_held_of_each_device_that_is_made() -> None:
    assert sorted(TEXTS) == sorted([*HEALTHY, *FAULTS, *UNSEEN])


def test_every_cause_of_the_table_has_a_test() -> None:
    """Whoever adds a cause adds what it is recognised by."""
    elsewhere = {
        *("dpsThrottled", "dpsRoleMissing", "dpsUnavailable", "hubThrottled", "hubUnavailable", "requestWaits"),
        *("certificateRevoked", "chainRefused", "hubRoleMissing", "servicesNotAsked"),
    }
    tested = {code for _, code in FAULTS.values()} | {code for _, code, _ in HEALTHY.values()} | elsewhere
    assert [rule.code for rule in RULES if rule.code not in tested] == []


def test_the_contract_names_every_cause() -> None:
    """In the order of the table, each with its kind; causes of certificates and logs have tables of their own."""
    page = CONTRACT.read_text(encoding="utf-8").partition("### Why a device is as it is")[2]
    for kind in Kind:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{kind.value}`"))
        assert re.findall(r"`(\w+)`", row)[1:] == [rule.code for rule in RULES if rule.kind is kind]
    assert [each.code for each in MESSAGES if f"`{each.code}`" not in page] == []
