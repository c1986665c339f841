"""A CA that is asked for twice at the same time: whichever step one worker stands at, it is signed once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared.domain.authorities import AuthorityState
from shared.domain.words import CertificateKind, KeyCustody
from shared.errors import Conflict, Deferred, PreconditionFailed
from shared.ledger.certificates import Certificates
from shared.ledger.table import Stale
from shared.pki import names
from shared.ports.ca_certificates import UploadedAuthority
from shared.workflows.authorities.records import AuthorityDefinition
from tests.pki.foreign import KEY, authority
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeTable, Gate
from tests.unit.test_owned_authorities import FakeService, brought

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ROOT = AuthorityDefinition(name="root", kind=CertificateKind.ROOT)
LINE = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, parent="root")
WRAPPED = replace(LINE, custody=KeyCustody.WRAPPED)
ELSEWHERE = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, externally_signed=True)


async def scene_for(definition: AuthorityDefinition) -> AuthorityScene:
    scene = AuthorityScene(verifiers=[FakeService()])
    if definition.parent:
        await scene.worker().creation.ensure(ROOT, cause="r0")
    return scene


async def interleaved(
    definition: AuthorityDefinition, between: Callable[[AuthorityScene], Awaitable[None]]
) -> AsyncIterator[AuthorityScene]:
    """For each step of a worker: let it stand there, do something else, let it go on, and have the CA asked for again."""
    for step in count(1):
        scene, gate = await scene_for(definition), Gate(step)
        first = asyncio.create_task(scene.worker(gate).creation.ensure(definition, cause="r1"))
        standing = asyncio.create_task(gate.reached.wait())
        await asyncio.wait((first, standing), return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            standing.cancel()
            return
        await between(scene)
        gate.opened.set()
        with suppress(Deferred):
            await first
        await scene.worker().creation.ensure(definition, cause="r1")
        yield scene


async def again(scene: AuthorityScene, definition: AuthorityDefinition) -> None:
    """Have the CA asked for by another worker; it may be put off."""
    with suppress(Deferred):
        await scene.worker().creation.ensure(definition, cause="r1")


def states(scene: AuthorityScene, subject: str) -> Counter[str]:
    rows = [row.values for row in scene.certificate_rows.rows.values()]
    return Counter(str(row["state"]) for row in rows if row["subject"] == subject and row["kind"] != "verification")


async def check_one_certificate(scene: AuthorityScene, name: str) -> None:
    """See that the CA's row, the ledger and the events agree on one certificate."""
    record = await scene.worker().authorities.get(name)
    assert (record.state, record.making) == (AuthorityState.ACTIVE, None)
    known = await scene.certificates.get(record.serial_number or "")
    assert known is not None
    assert (known.record.state, known.record.pem) == ("active", record.certificate)
    assert states(scene, name)["active"] == 1
    told = {event["id"]: event["data"] for queue, event, _ in scene.queues.sent if event["subject"] == name}
    assert [data["serialNumber"] for data in told.values()] == [record.serial_number]
    await scene.worker().authorities.load(name)  # its key fits its certificate


@pytest.mark.parametrize("definition", [ROOT, LINE, WRAPPED], ids=["root", "line", "wrapped"])
async def test_a_ca_whose_request_is_delivered_twice_is_signed_once(definition: AuthorityDefinition) -> None:
    """Another worker comes while the first one stands at any of its steps: one signs, and the other reads what it made."""
    steps = 0
    async for scene in interleaved(definition, lambda scene: again(scene, definition)):
        steps += 1
        await check_one_certificate(scene, definition.name)
        assert states(scene, definition.name) == {"active": 1}
    assert steps > 8


@pytest.mark.parametrize("definition", [ROOT, LINE, WRAPPED], ids=["root", "line", "wrapped"])
async def test_a_worker_that_was_taken_for_gone_only_loses(definition: AuthorityDefinition) -> None:
    """Another one begins anew a minute later; if the first one does come back, what it has signed does not count."""

    async def much_later(scene: AuthorityScene) -> None:
        scene.now += timedelta(minutes=1)
        await again(scene, definition)

    seen = Counter[str]()
    async for scene in interleaved(definition, much_later):
        await check_one_certificate(scene, definition.name)
        seen += states(scene, definition.name)
    assert set(seen) == {"active", "abandoned"}


async def test_four_deliveries_at_once_sign_once() -> None:
    """Whoever is put off finds the CA made."""
    scene = await scene_for(LINE)
    before = scene.vault.signatures
    outcomes = await asyncio.gather(
        *(scene.worker(Gate(0)).creation.ensure(LINE, cause="r1") for _ in range(4)), return_exceptions=True
    )
    made = [each for each in outcomes if not isinstance(each, Deferred)]
    assert [each.state for each in made if not isinstance(each, BaseException)] == [AuthorityState.ACTIVE]
    assert scene.vault.signatures == before + 1
    await check_one_certificate(scene, "line")


async def test_a_signing_request_is_made_once() -> None:
    """The owner who has the request signed gets an answer that fits the key that the CA has."""
    requests = set[str | None]()
    async for scene in interleaved(ELSEWHERE, lambda scene: again(scene, ELSEWHERE)):
        record = await scene.worker().authorities.get("line")
        assert record.state is AuthorityState.AWAITING_CERTIFICATE
        public_key = x509.load_pem_x509_csr((record.signing_request or "").encode()).public_key()
        assert public_key == scene.vault.keys["line"].public_key()
        requests.add(record.signing_request)
    assert len(requests) > 3


async def test_a_failed_attempt_does_not_hold_up_the_next_one() -> None:
    """A vault that does not answer is asked again as soon as the message comes again."""
    scene = await scene_for(LINE)
    sign = scene.vault.sign_digest

    def failing(*_: Any) -> bytes:
        raise ConnectionError("no answer")

    scene.vault.sign_digest = failing  # type: ignore[method-assign,assignment]
    with pytest.raises(ConnectionError):
        await scene.worker().creation.ensure(LINE, cause="r1")
    scene.vault.sign_digest = sign  # type: ignore[method-assign]
    await scene.worker().creation.ensure(LINE, cause="r1")
    await check_one_certificate(scene, "line")
    assert states(scene, "line") == {"active": 1, "abandoned": 1}


async def test_what_became_of_a_cas_certificate_is_not_undone_by_a_late_worker() -> None:
    """A worker that enters the certificate into the books after it was revoked leaves it revoked."""
    scene = await scene_for(LINE)
    record = await scene.worker().creation.ensure(LINE, cause="r1")
    known = await scene.certificates.get(record.serial_number or "")
    assert known is not None
    await scene.certificates.try_replace(known, known.record.changed(state="revoked"))
    present = await scene.records.get("line")
    assert present is not None
    await scene.records.replace(present, present.record.model_copy(update={"state": AuthorityState.SIGNED}))
    await scene.worker().creation.ensure(LINE, cause="r1")
    assert states(scene, "line") == {"revoked": 1}


async def test_a_ca_that_is_brought_along_under_two_names_at_once_is_here_under_one() -> None:
    """At whichever step the other import comes in between, one of the names has the CA and the other one is free."""
    certificate = authority("corporate")
    for step in count(1):
        scene, gate = AuthorityScene(), Gate(step)
        first = asyncio.create_task(scene.worker(gate).installation.take_over("one", brought(certificate), cause="r1"))
        standing = asyncio.create_task(gate.reached.wait())
        await asyncio.wait((first, standing), return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            standing.cancel()
            assert step > 5
            return
        with suppress(Conflict):
            await scene.worker().installation.take_over("two", brought(certificate), cause="r2")
        gate.opened.set()
        with suppress(Conflict):
            await first
        [record] = [each async for each in scene.worker().authorities.list()]
        assert record.state is AuthorityState.ACTIVE
        assert [row for _, row in scene.certificate_rows.rows] == [f"c:{record.serial_number}"]


class CodingService(FakeService):
    """Wants possession proved: each code makes the one before void, and an ETag that is not the present one is refused."""

    etag = 0

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        await super().upload(name, certificate)
        return self._now(name, verified=False)

    def _now(self, name: str, *, verified: bool) -> UploadedAuthority:
        self.etag += 1
        thumbprint = self.certificates[name].thumbprint
        self.certificates[name] = UploadedAuthority(verified=verified, etag=str(self.etag), thumbprint=thumbprint)
        return self.certificates[name]

    def _check(self, name: str, etag: str) -> None:
        if self.certificates[name].etag != etag:
            raise PreconditionFailed.because("another ETag")

    async def verification_code(self, name: str, etag: str) -> tuple[str, str]:
        self._check(name, etag)
        return f"CODE-{self.etag}", self._now(name, verified=False).etag

    async def verify(self, name: str, _certificate: x509.Certificate, etag: str) -> UploadedAuthority:
        self._check(name, etag)
        return self._now(name, verified=True)


async def test_callers_of_one_worker_wait_for_the_same_proof() -> None:
    """Of eight that import a CA at once one proves it, and all are told that it is here."""
    service = CodingService()
    scene = AuthorityScene(verifiers=[service])
    worker = scene.worker()
    wanted = brought(authority("corporate"))
    found = await asyncio.gather(*(worker.installation.take_over("corporate", wanted, cause=f"r{n}") for n in range(8)))
    assert {(each.state, each.proof_of_possession) for each in found} == {("active", "verified")}
    assert service.etag == 3


async def test_workers_that_prove_at_once_do_not_refuse_each_other() -> None:
    """Whichever step one stands at, another one's code only puts it off; in the end the CA is verified."""
    for step in count(1):
        scene, gate = AuthorityScene(verifiers=[CodingService()]), Gate(step)
        wanted = brought(authority("corporate"))
        first = asyncio.create_task(scene.worker(gate).installation.take_over("corporate", wanted, cause="r1"))
        standing = asyncio.create_task(gate.reached.wait())
        await asyncio.wait((first, standing), return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            standing.cancel()
            assert step > 10
            return
        with suppress(Deferred):
            await scene.worker().installation.take_over("corporate", wanted, cause="r1")
        gate.opened.set()
        with suppress(Deferred):
            await first
        record = await scene.worker().installation.take_over("corporate", wanted, cause="r1")
        assert (record.state, record.proof_of_possession, record.problem) == ("active", "verified", None)


async def test_two_owners_whose_cas_count_from_one_do_not_overwrite_each_other() -> None:
    """Serial number 1 is the first CA's in the ledger; the second one is here all the same."""
    scene = AuthorityScene()
    first, second = (with_serial_one(authority(name)) for name in ("first", "second"))
    for name, each in (("first", first), ("second", second)):
        record = await scene.worker().installation.take_over(name, brought(each), cause=name)
        assert record.thumbprint == names.thumbprint(each)
    known = await scene.certificates.get(f"{1:040x}")
    assert known is not None
    assert known.record.subject == "first"


def with_serial_one(certificate: x509.Certificate) -> x509.Certificate:
    """Make a certificate anew, as many tools do their first one."""
    builder = x509.CertificateBuilder(
        certificate.issuer,
        certificate.subject,
        KEY.public_key(),
        1,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(KEY, hashes.SHA256())


async def test_a_lost_answer_is_told_from_anothers_write() -> None:
    """A write that took place, and whose repetition then met its own result, counts; the CA is made, once."""

    class Losing(FakeTable):
        async def replace(self, values: Any, etag: str) -> str | None:
            await super().replace(values, etag)
            return None  # the client repeats what took place, and its ETag is not the present one any more

    scene = AuthorityScene(table=Losing(), verifiers=[CodingService()])
    scene.certificate_rows = Losing()
    scene.certificates = Certificates(
        certificates=scene.certificate_rows, revocations=scene.revocation_rows, in_force=FakeTable()
    )
    await scene.worker().creation.ensure(ROOT, cause="r1")
    await check_one_certificate(scene, "root")
    assert states(scene, "root") == {"active": 1}
    record = await scene.worker().authorities.get("root")
    assert record.proof_of_possession == "verified"


async def test_a_signed_ca_whose_answer_was_lost_keeps_its_certificate_before_it_is_opened() -> None:
    """Its row has changed since: what it has is not given up."""
    scene = await scene_for(LINE)
    replace = scene.records.replace

    async def unanswered(known: Any, record: Any) -> Any:
        written = await replace(known, record)
        if record.state is not AuthorityState.SIGNED:
            return written
        scene.records.replace = replace  # type: ignore[method-assign]
        await replace(written, written.record.changed(crl_number=1))
        raise Stale("line")

    scene.records.replace = unanswered  # type: ignore[method-assign]
    await again(scene, LINE)
    await again(scene, LINE)
    await check_one_certificate(scene, "line")
    assert states(scene, "line") == {"active": 1}
