"""OCSP straight from the ledger: which certificates are good, and until when a CA's answers can be had."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from shared.domain.certificates import CertificateRecord, CertificateState, InternalKind
from shared.domain.words import CertificateKind, RevocationReason
from shared.ledger.epochs import EpochRows
from shared.pki.revocation_lists import build_crl
from shared.ports.blobs import StoredBlob
from shared.workflows.epochs import Epochs
from shared.workflows.status.answers import StatusAnswers, is_successful
from shared.workflows.status.lost_past import LostPast
from shared.workflows.status.responders import OwnResponders
from shared.workflows.status.revocation_lists import RevocationLists
from tests.pki.hierarchy import NOW
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeBlobs
from tests.world.certificates import overwrite
from tests.world.services import Log

if TYPE_CHECKING:
    from typing import Any

    from shared.workflows.authorities.loading import CertificateAuthorities

CA = "line-ca1"


async def scene_with_two_cas() -> AuthorityScene:
    scene = AuthorityScene()
    await scene.root("root")
    await scene.issuing(CA, "root", validity=timedelta(days=400))
    await scene.issuing("line-ca2", "root")
    return scene


def answers(scene: AuthorityScene, blobs: FakeBlobs | None = None) -> StatusAnswers:
    worker = scene.worker()
    return StatusAnswers(
        authorities=worker.authorities,
        certificates=scene.certificates,
        responders=OwnResponders(issuance=worker.issuance),
        clock=scene.clock,
        past=past_of(scene, worker.authorities, blobs),
    )


def epochs(scene: AuthorityScene) -> Epochs:
    return Epochs(rows=EpochRows(scene.table), vault=scene.vault, mark="ledger-epoch", clock=scene.clock)


def past_of(scene: AuthorityScene, authorities: CertificateAuthorities, blobs: FakeBlobs | None = None) -> LostPast:
    stored: Any = blobs or FakeBlobs()
    lists = RevocationLists(
        records=scene.records,
        certificates=scene.certificates,
        authorities=authorities,
        blobs=stored,
        settings=scene.settings,
        clock=scene.clock,
        log=Log(),
    )
    return LostPast(epochs=epochs(scene), lists=lists, clock=scene.clock)


async def asked(subject: StatusAnswers, scene: AuthorityScene, serial: int, name: str = CA) -> ocsp.OCSPResponse:
    issuer = (await scene.worker().authorities.load(name)).certificate
    question = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        hashlib.sha1(issuer.subject.public_bytes(), usedforsecurity=False).digest(),
        x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest,
        serial_number=serial,
        algorithm=SHA1(),  # noqa: S303 - names the CA
    )
    encoded = question.build().public_bytes(Encoding.DER)
    return ocsp.load_der_ocsp_response(await subject.answer(name, encoded))


async def enter(scene: AuthorityScene, serial: int, state: CertificateState, **fields: Any) -> None:
    given = {"issuer": CA, **fields}
    record = CertificateRecord(
        serial_number=f"{serial:040x}",
        kind=CertificateKind.DEVICE,
        state=state,
        subject="press",
        cause="order",
        recorded_at=NOW,
        **given,
    )
    await overwrite(scene.certificates, record)


@pytest.mark.parametrize("state", CertificateState)
async def test_what_was_signed_is_known_and_nothing_else(state: CertificateState) -> None:
    """A serial number that was reserved or given up names no certificate, so nothing is good about it."""
    scene = await scene_with_two_cas()
    await enter(scene, 7, state)
    unsigned = {CertificateState.RESERVED, CertificateState.ABANDONED}
    response = await asked(answers(scene), scene, 7)
    assert response.certificate_status is (OCSPCertStatus.UNKNOWN if state in unsigned else OCSPCertStatus.GOOD)


async def test_what_is_revoked_is_said_with_time_and_reason() -> None:
    """The ledger's row decides."""
    scene = await scene_with_two_cas()
    revoked = {"revoked_at": NOW, "revocation_reason": RevocationReason.KEY_COMPROMISE}
    await enter(scene, 7, CertificateState.REVOKED, **revoked)
    response = await asked(answers(scene), scene, 7)
    assert response.certificate_status is OCSPCertStatus.REVOKED
    assert response.revocation_reason is x509.ReasonFlags.key_compromise
    assert response.revocation_time_utc == NOW


async def test_neither_a_stranger_nor_another_cas_certificate_is_good() -> None:
    """A serial number that was never given, and one that another CA gave, are unknown."""
    scene = await scene_with_two_cas()
    await enter(scene, 7, CertificateState.ACTIVE, issuer="line-ca2")
    for serial in (7, 8):
        assert (await asked(answers(scene), scene, serial)).certificate_status is OCSPCertStatus.UNKNOWN


async def test_a_ca_answers_until_its_last_hour() -> None:
    """The responder's certificate is as short as the CA's end wants; afterwards nothing speaks for the CA."""
    scene = await scene_with_two_cas()
    await enter(scene, 7, CertificateState.ACTIVE)
    end = (await scene.worker().authorities.load(CA)).certificate.not_valid_after_utc
    for left in (timedelta(days=20), timedelta(days=12), timedelta(minutes=5)):
        scene.now = end - left
        response = await asked(answers(scene), scene, 7)
        assert response.certificate_status is OCSPCertStatus.GOOD
        [responder] = response.certificates
        assert responder.not_valid_after_utc == min(end, scene.now + timedelta(days=14, seconds=-1))
    scene.now = end + timedelta(seconds=1)
    assert (await asked(answers(scene), scene, 7)).response_status is OCSPResponseStatus.UNAUTHORIZED


async def test_a_responder_is_used_for_half_its_life_and_in_the_cas_last_days_for_all_of_it() -> None:
    """A worker signs few of them, however often it is asked."""
    scene = await scene_with_two_cas()
    subject = answers(scene)
    end = (await scene.worker().authorities.load(CA)).certificate.not_valid_after_utc

    async def made() -> int:
        await asked(subject, scene, 7)
        kinds = [row.values["kind"] for row in scene.certificate_rows.rows.values()]
        return kinds.count(InternalKind.OCSP_RESPONDER)

    assert [await made(), await made()] == [1, 1]
    scene.now += timedelta(days=6)
    assert await made() == 1
    scene.now += timedelta(days=2)
    assert await made() == 2
    scene.now = end - timedelta(days=3)
    assert await made() == 3
    scene.now = end - timedelta(seconds=1)
    assert await made() == 3


async def test_a_burst_on_a_cold_worker_makes_one_responder() -> None:
    """Of twelve that ask at once one has it made, and the others wait for it; each CA has its own."""
    scene = await scene_with_two_cas()
    subject = answers(scene)
    await asyncio.gather(*(asked(subject, scene, 7, name) for name in (CA, "line-ca2") for _ in range(12)))
    rows = [row.values for row in scene.certificate_rows.rows.values()]
    made = [row["issuer"] for row in rows if row["kind"] == InternalKind.OCSP_RESPONDER]
    assert sorted(made) == [CA, "line-ca2"]


async def test_an_error_is_told_from_an_answer() -> None:
    """What says how a certificate is may be kept for a while by whoever asked over HTTP; an error may not."""
    scene = await scene_with_two_cas()
    await enter(scene, 7, CertificateState.ACTIVE)
    good = (await asked(answers(scene), scene, 7)).public_bytes(Encoding.DER)
    assert is_successful(good)
    assert not is_successful(await answers(scene).answer(CA, b"no request"))


async def test_an_older_ledger_calls_nothing_good_and_says_what_it_knows_to_be_revoked() -> None:
    """The vault says a later epoch: what the ledger has as good may have been revoked since, so a client tries later."""
    scene = await scene_with_two_cas()
    await enter(scene, 7, CertificateState.ACTIVE)
    revoked = {"revoked_at": NOW, "revocation_reason": RevocationReason.KEY_COMPROMISE}
    await enter(scene, 8, CertificateState.REVOKED, **revoked)
    await epochs(scene).advance()
    assert (await asked(answers(scene), scene, 7)).certificate_status is OCSPCertStatus.GOOD
    await scene.vault.tag("ledger-epoch", {"epoch": "2", "reachedAt": NOW.isoformat()})
    old = answers(scene)
    for serial in (7, 9):
        assert (await asked(old, scene, serial)).response_status is OCSPResponseStatus.TRY_LATER
    assert (await asked(old, scene, 8)).certificate_status is OCSPCertStatus.REVOKED


async def test_a_published_list_with_a_number_that_the_ledger_has_not_given_ends_its_word() -> None:
    """The list of a CA says that the ledger is older than it was, before the next epoch does. Others go on."""
    scene, blobs = await scene_with_two_cas(), FakeBlobs()
    await enter(scene, 7, CertificateState.ACTIVE)
    await enter(scene, 8, CertificateState.ACTIVE, issuer="line-ca2")
    issuer = await scene.worker().authorities.load(CA)
    later = build_crl([], issuer=issuer, crl_number=4, now=NOW, next_update=NOW + timedelta(days=7))
    blobs.blobs["crls", f"{CA}.crl"] = StoredBlob(later, {}, "1")
    subject = answers(scene, blobs)
    assert (await asked(subject, scene, 7)).response_status is OCSPResponseStatus.TRY_LATER
    assert (await asked(subject, scene, 8, "line-ca2")).certificate_status is OCSPCertStatus.GOOD
