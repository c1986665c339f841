"""OCSP where the public zone is apart: the issuing zone makes responders, and the public one unwraps their keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from shared.domain.certificates import CertificateState
from shared.errors import Deferred, Misconfigured, Rejected
from shared.ledger.authorities import Authorities
from shared.ledger.certificates import Certificates
from shared.ledger.responders import ResponderRows
from shared.pki.wrapped_keys import WrappedKeyError
from shared.workflows.authorities.keys import WithheldKeys
from shared.workflows.authorities.loading import CertificateAuthorities
from shared.workflows.status.answers import StatusAnswers
from shared.workflows.status.responders import WRAPPING_KEY, KeptResponders, ResponderUpkeep
from shared.workflows.status.revocation_lists import RevocationLists
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeTable, FakeVault
from tests.unit.test_status_answers import CA, asked, enter, past_of, scene_with_two_cas

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.responders import ResponderRecord
    from shared.ledger.table import Versioned


class NoService:
    """A service that the public zone has no right to: whatever is asked of it is a failure."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the public zone asked for {name}")


class Zones:
    """An issuing zone and a public one over the same ledger."""

    def __init__(self, scene: AuthorityScene) -> None:
        self.scene = scene
        vault: Any = FakeVault()
        self.status_vault = vault
        self.table = FakeTable()
        self.rows = ResponderRows(self.table)
        worker = scene.worker()
        self.upkeep = ResponderUpkeep(
            authorities=worker.authorities,
            issuance=worker.issuance,
            rows=self.rows,
            vault=vault,
            clock=scene.clock,
        )

    def public_authorities(self) -> CertificateAuthorities:
        nothing: Any = NoService()
        scene = self.scene
        return CertificateAuthorities(
            records=Authorities(scene.table),
            keys=WithheldKeys(vault=nothing, computing=scene.computing),
            settings=scene.settings,
            clock=scene.clock,
        )

    def answers(self) -> StatusAnswers:
        """What a new worker of the public zone holds."""
        nothing: Any = NoService()
        certificates = Certificates(certificates=self.scene.certificate_rows, revocations=nothing, in_force=nothing)
        responders = KeptResponders(rows=self.rows, vault=self.status_vault)
        return StatusAnswers(
            authorities=self.public_authorities(),
            certificates=certificates,
            responders=responders,
            clock=self.scene.clock,
            past=past_of(self.scene, self.public_authorities()),
        )


async def zones() -> Zones:
    scene = await scene_with_two_cas()
    await enter(scene, 7, CertificateState.ACTIVE)
    return Zones(scene)


async def test_the_public_zone_answers_with_a_responder_of_the_issuing_zone() -> None:
    """Its answers are signed by a certificate of the CA, and it has not signed or written anything itself."""
    both = await zones()
    assert await both.upkeep.run() == 3
    signatures, written = both.scene.vault.signatures, len(both.scene.certificate_rows.rows)
    response = await asked(both.answers(), both.scene, 7)
    assert response.certificate_status is OCSPCertStatus.GOOD
    [responder] = response.certificates
    issuer = (await both.scene.worker().authorities.load(CA)).certificate
    responder.verify_directly_issued_by(issuer)
    assert (both.scene.vault.signatures, len(both.scene.certificate_rows.rows)) == (signatures, written)


async def test_without_a_responder_clients_are_told_to_try_later() -> None:
    """RFC 6960 section 2.3: the responder is operational and can't answer now."""
    both = await zones()
    response = await asked(both.answers(), both.scene, 7)
    assert response.response_status is OCSPResponseStatus.TRY_LATER


async def test_a_responder_is_renewed_after_half_its_life_and_the_public_zone_takes_the_new_one() -> None:
    """It lives four days; for two, a zone that issues nothing holds nothing up."""
    both = await zones()
    subject = both.answers()

    async def end() -> datetime:
        return (await asked(subject, both.scene, 7)).certificates[0].not_valid_after_utc

    await both.upkeep.run()
    first, begun = await end(), both.scene.now
    assert first == begun + timedelta(days=4, seconds=-1)
    both.scene.now = begun + timedelta(days=1, hours=23)
    await both.upkeep.run()
    assert await end() == first
    both.scene.now = begun + timedelta(days=2)
    assert await end() == first  # a late upkeep: the present one is still good
    await both.upkeep.run()
    both.scene.now += timedelta(minutes=1)
    assert await end() > first


async def test_a_responder_that_was_not_renewed_signs_nothing_after_its_end() -> None:
    """An answer that nobody would accept is not given."""
    both = await zones()
    await both.upkeep.run()
    subject = both.answers()
    both.scene.now += timedelta(days=4)
    assert (await asked(subject, both.scene, 7)).response_status is OCSPResponseStatus.TRY_LATER


async def test_a_burst_on_a_cold_worker_unwraps_each_key_once() -> None:
    """The vault of responders' keys takes one call for each CA and worker."""
    both = await zones()
    await both.upkeep.run()
    unwrapped = list[str]()
    unwrap = both.status_vault.unwrap

    def counted(key_id: str, content: bytes) -> bytes:
        unwrapped.append(key_id)
        return bytes(unwrap(key_id, content))

    both.status_vault.unwrap = counted
    subject = both.answers()
    await asyncio.gather(*(asked(subject, both.scene, 7) for _ in range(12)))
    assert unwrapped == [await both.status_vault.wrapping_key("ocsp-key-wrapping")]


async def test_a_key_that_was_put_in_anothers_place_does_not_open() -> None:
    """A responder's key is bound to its CA, and to being a responder's."""
    both = await zones()
    await both.upkeep.run()
    own, other = await both.rows.get(CA), await both.rows.get("line-ca2")
    assert other is not None
    assert await both.rows.renew(own, other.record.changed(issuer=CA))
    with pytest.raises(WrappedKeyError):
        await asked(both.answers(), both.scene, 7)


async def test_upkeep_makes_what_is_missing_and_no_more() -> None:
    """Each CA gets one responder, and one that has ended gets none."""
    both = await zones()
    assert [await both.upkeep.run(), await both.upkeep.run()] == [3, 0]
    both.scene.now += timedelta(days=500)
    assert await both.upkeep.run() == 2


async def test_the_public_zone_publishes_no_list_and_says_when_there_will_be_one() -> None:
    """A list that is missing is the signing zones' to make."""
    both = await zones()

    class NoBlobs:
        async def get(self, _container: str, _name: str) -> None:
            return None

    nothing: Any = NoService()
    blobs: Any = NoBlobs()
    lists = RevocationLists(
        records=Authorities(both.scene.table),
        certificates=nothing,
        authorities=both.public_authorities(),
        blobs=blobs,
        settings=both.scene.settings,
        clock=both.scene.clock,
        reads_only=True,
        log=nothing,
    )
    with pytest.raises(Deferred, match=f"^the CRL of '{CA}' is about to be published"):
        await lists.read(CA)


async def test_a_zone_without_keys_reads_chains_and_signs_nothing() -> None:
    """The public half comes from the certificate; a signature is refused by name."""
    both = await zones()
    authorities = both.public_authorities()
    issuer = await authorities.load(CA)
    assert issuer.certificate.public_key() == issuer.signing_key.public_key()
    with pytest.raises(Misconfigured, match=r"^this trust zone reaches no key of a CA"):
        issuer.signing_key.sign(b"", ec.ECDSA(hashes.SHA256()))  # type: ignore[call-arg, arg-type]


async def test_readiness_wants_one_responder_that_opens() -> None:
    """A new CA that waits for its responder takes no answers away from the others."""
    both = await zones()
    responders = KeptResponders(rows=both.rows, vault=both.status_vault)
    with pytest.raises(Deferred, match=r"^the OCSP responder of 'root' is about to be made$"):
        await responders.check(both.public_authorities())
    await both.upkeep.run()
    await both.scene.issuing("line-ca3", "root")
    await responders.check(both.public_authorities())


async def test_a_deployment_without_a_ca_is_ready() -> None:
    """The public zone is deployed before there is a CA whose certificates it could be asked about."""
    scene = AuthorityScene()
    both = Zones(scene)
    await KeptResponders(rows=both.rows, vault=both.status_vault).check(both.public_authorities())


async def test_nobody_answers_for_a_ca_that_has_ended() -> None:
    """Its responder has ended with it, so clients are not told to try later."""
    both = await zones()
    await both.upkeep.run()
    authority = await both.public_authorities().loaded(CA)
    both.scene.now = authority.issuer.certificate.not_valid_after_utc + timedelta(seconds=1)
    with pytest.raises(Rejected, match=r"^'.*line-ca1.*' has expired$"):
        await KeptResponders(rows=both.rows, vault=both.status_vault).of(authority, both.scene.now)


@pytest.mark.parametrize("days", [0, 2], ids=["none was there", "one past half its life"])
async def test_of_two_workers_that_make_a_responder_at_once_the_first_one_s_counts(days: int) -> None:
    """The public zone may have it already; the other one's was signed in vain."""
    both = await zones()
    if days:
        await both.upkeep.run()
    both.scene.now += timedelta(days=days)
    made, first = list[int](), dict[str, Any]()

    class Late(ResponderRows):
        async def renew(self, known: Versioned[ResponderRecord] | None, record: ResponderRecord) -> bool:
            made.append(await both.upkeep.run())
            first[record.issuer] = await both.rows.get(record.issuer)
            return await super().renew(known, record)

    assert await replace(both.upkeep, rows=Late(both.table)).run() == 0
    assert made == [3]
    assert {name: await both.rows.get(name) for name in first} == first


async def test_one_ca_whose_responder_can_not_be_made_does_not_stop_the_others() -> None:
    """What failed is raised with the CA's name when all were tried."""
    both = await zones()

    class Throttled(ResponderRows):
        async def renew(self, known: Versioned[ResponderRecord] | None, record: ResponderRecord) -> bool:
            if record.issuer == CA:
                raise ConnectionError("the table is throttled")
            return await super().renew(known, record)

    table = FakeTable()
    throttled = replace(both.upkeep, rows=Throttled(table))
    with pytest.raises(ExceptionGroup) as failed:
        await throttled.run()
    [reason] = failed.value.exceptions
    assert str(reason) == f"the OCSP responder of '{CA}': the table is throttled"
    kept = ResponderRows(table)
    assert await kept.get("root") is not None
    assert await kept.get(CA) is None
    assert await replace(both.upkeep, rows=kept).run() == 1


async def test_the_vault_of_wrapping_keys_is_asked_where_responders_are_kept_alone() -> None:
    """Readiness says that a role is missing before the first responder can't be wrapped."""
    both = await zones()

    class Closed(FakeVault):
        async def holds(self, name: str) -> bool:
            raise Misconfigured(f"the identity may not read the key {name!r}")

    closed: Any = Closed()
    with pytest.raises(Misconfigured, match=f"may not read the key '{WRAPPING_KEY}'"):
        await replace(both.upkeep, vault=closed).check()
    await both.upkeep.check()
    without = replace(both.upkeep, vault=None)
    await without.check()
    assert await without.run() == 0
