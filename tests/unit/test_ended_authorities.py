"""CAs that have ended take nothing in any more, and leave nothing where they were known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from shared.acting import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.parsing import parse
from shared.domain.approvals import ApprovalAct
from shared.domain.authorities import AuthorityState, ProofOfPossession
from shared.domain.words import CertificateKind
from shared.errors import Conflict
from shared.pki.identities import authority_identity
from shared.workflows.authorities.convergence import IMPORT_ENDS
from shared.workflows.authorities.records import AuthorityDefinition
from tests.pki.foreign import KEY, authority, name_of
from tests.records import authority_record
from tests.unit.fakes import Killed
from tests.unit.test_owned_authorities import AskingService, Scene, brought, written
from tests.world.approving import ADA

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cryptography import x509

    from shared.domain.authorities import AuthorityRecord
    from shared.ports.ca_certificates import UploadedAuthority

ROOT, RENEWED = authority("corporate"), authority("corporate")
TOP_KEY = ec.generate_private_key(ec.SECP256R1())
TOP = authority("top", key=TOP_KEY, signed_by=TOP_KEY)
ELSEWHERE = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, externally_signed=True)


async def act(scene: Scene, name: str, action: str, **fields: Any) -> None:
    body = {"requestId": f"{action}-{name}", "name": name, "action": action, **fields}
    await scene.subject.acts.carry_out(parse(AuthorityAct, body))


async def left_in_the_middle(scene: Scene, **fields: Any) -> AuthorityRecord:
    """Have a CA there whose import broke off, as the sweep leaves it."""
    identity = authority_identity(ROOT.subject, KEY.public_key())
    fields = {"problem": "its import broke off", **fields}
    known = await scene.records.try_insert(
        authority_record(
            "corporate",
            scene.now,
            kind=CertificateKind.ROOT,
            state=AuthorityState.REQUESTED,
            fingerprint=f"imported|{identity}",
            identity=identity,
            **fields,
        )
    )
    assert known is not None
    return known.record


async def ended(how: str) -> Scene:
    """Give a scene whose CA has ended, as its name says: by a deletion before it was whole, or of one that was."""
    scene = Scene()
    if how == "deleted in the middle":
        await left_in_the_middle(scene)
    else:
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
        if how == "revoked":
            await act(scene, "corporate", "revoke", reason="keyCompromise")
        else:
            await act(scene, "corporate", "retire")
            scene.now += timedelta(hours=1)
    if how.startswith("deleted"):
        await act(scene, "corporate", "delete")
    scene.vault.keys.clear()  # its owner has purged it
    return scene


OVER = {
    "deleted in the middle": "deleted, so nothing is taken in for it: that is final: have another CA made, under another name",
    "deleted": "deleted, so nothing is taken in for it: that is final: have another CA made, under another name",
    "revoked": "revoked, so nothing is taken in for it: that is final: have another CA made, and roll its groups to that one",
}


@pytest.mark.parametrize("how", OVER)
@pytest.mark.parametrize("name", ["corporate", "other"])
@pytest.mark.parametrize("certificate", [ROOT, RENEWED], ids=["as before", "renewed"])
async def test_an_import_of_a_ca_that_has_ended_is_refused_before_its_key_is_kept(
    how: str, name: str, certificate: Any
) -> None:
    """Nor does it wait for a second person, who would approve what can't be."""
    scene = await ended(how)
    before = [record async for record in scene.subject.authorities.list()]
    scene.wanted[ApprovalAct.IMPORT_AUTHORITY] = 0
    with acting(ADA), pytest.raises(Conflict) as refused:
        await scene.subject.installation.take_over(name, brought(certificate), cause="r2")
    assert str(refused.value) == f"name: the certificate authority 'corporate' is {OVER[how]}"
    assert scene.vault.keys == {}
    assert [record async for record in scene.subject.authorities.list()] == before


async def test_an_import_beside_the_deletion_of_its_ca_is_refused_before_its_key_is_kept() -> None:
    """It has looked at the CA before it was deleted."""
    scene = Scene()
    await left_in_the_middle(scene)
    subject = scene.subject

    class Approving:
        async def allow(self, *_: Any) -> None:
            await act(scene, "corporate", "delete")

    approving: Any = Approving()
    with pytest.raises(Conflict, match="'corporate' is deleted, so nothing is taken in for it"):
        await replace(subject.installation, approvals=approving).take_over("corporate", brought(ROOT), cause="r2")
    assert scene.vault.keys == {}
    assert (await subject.authorities.get("corporate")).state is AuthorityState.DELETED


async def test_a_certificate_of_a_ca_that_was_deleted_while_it_waited_for_it_is_refused() -> None:
    """Whether it was deleted before, or while the certificate is looked at."""
    scene = Scene()
    await scene.subject.creation.ensure(ELSEWHERE, cause="r1")
    key = scene.vault.keys["line"]
    answer = written(authority(name_of("line", "Ex"), parent=TOP, key=key, signed_by=TOP_KEY, length=0), TOP).encode()

    class Approving:
        async def allow(self, *_: Any) -> None:
            await act(scene, "line", "delete")

    approving: Any = Approving()
    for installation in (replace(scene.subject.installation, approvals=approving), scene.subject.installation):
        with pytest.raises(Conflict, match="'line' is deleted, so nothing is taken in for it"):
            await installation.install("line", answer)
    assert (await scene.subject.authorities.get("line")).certificate is None


@pytest.mark.parametrize("how", ["deleted", "revoked"])
async def test_a_further_certificate_of_a_ca_that_has_ended_is_refused(how: str) -> None:
    """It would be in force, and on no list. One that is there already changes nothing."""
    scene = await ended(how)
    before = await scene.subject.authorities.get("corporate")
    scene.vault.keys["corporate"] = KEY
    again = await scene.subject.installation.install("corporate", written(ROOT).encode())
    assert again == before
    scene.wanted[ApprovalAct.INSTALL_CERTIFICATE] = 0
    with acting(ADA), pytest.raises(Conflict, match=f"'corporate' is {how}, so nothing is taken in for it"):
        await scene.subject.installation.install("corporate", written(RENEWED).encode())
    assert await scene.subject.authorities.get("corporate") == before
    assert await scene.certificates.get(f"{RENEWED.serial_number:040x}") is None


@pytest.mark.parametrize("call", ["import", "install"])
async def test_a_further_certificate_that_comes_beside_the_revocation_of_its_ca_is_refused(call: str) -> None:
    """It has looked at the CA before it was revoked."""
    scene = Scene()
    await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")

    class Approving:
        async def allow(self, *_: Any) -> None:
            await act(scene, "corporate", "revoke", reason="keyCompromise")

    approving: Any = Approving()
    installation = replace(scene.subject.installation, approvals=approving)
    calls = {
        "import": partial(installation.take_over, "corporate", brought(RENEWED), cause="r2"),
        "install": partial(installation.install, "corporate", written(RENEWED).encode()),
    }
    with pytest.raises(Conflict, match="'corporate' is revoked, so nothing is taken in for it"):
        await calls[call]()
    assert (await scene.subject.authorities.get("corporate")).further_certificates is None
    assert await scene.certificates.get(f"{RENEWED.serial_number:040x}") is None


@pytest.mark.parametrize("how", ["deleted", "revoked"])
async def test_a_ca_that_has_ended_is_not_given_to_who_asks_for_it_anew(how: str) -> None:
    """They would be told that it is made. Its own request, delivered again, has been carried out."""
    scene = Scene()
    await scene.root("dpsCa")
    definition = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, parent="dpsCa", path_length=0)
    await scene.subject.creation.ensure(definition, cause="r1")
    if how == "revoked":
        await act(scene, "line", "revoke", reason="keyCompromise")
    else:
        await act(scene, "line", "retire")
        scene.now += timedelta(hours=1)
        await act(scene, "line", "delete")
    ended = await scene.subject.creation.ensure(definition, cause="r1")
    assert ended.state.value == how
    taken = f"^name: the certificate authority 'line' exists and is {how}, which is final; choose another name$"
    with pytest.raises(Conflict, match=taken):
        await scene.subject.creation.ensure(definition, cause="r2")
    with pytest.raises(Conflict, match=taken):
        await scene.subject.creation.check_definition(definition)


async def test_a_ca_that_was_deleted_before_it_was_made_is_not_said_to_be_made() -> None:
    """Its request was refused, and comes once more since its worker was killed before it said so."""
    scene = Scene()
    await scene.root("dpsCa")
    definition = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, parent="dpsCa", path_length=0)
    known = await scene.records.try_insert(
        definition.record(cause="r1", at=scene.now).changed(problem="it can't be made")
    )
    assert known is not None
    await act(scene, "line", "delete")
    with pytest.raises(Conflict, match="'line' exists and is deleted, which is final; choose another name"):
        await scene.subject.creation.ensure(definition, cause="r1")


async def deleted_while_it_was_proved() -> Scene:
    """Give a root that was deleted before it was open; the delivery that proves it is refused."""
    service = Interrupted(kills=False)
    scene = Scene(verifiers=[service])
    service.meanwhile = partial(act, scene, "dpsCa", "delete")
    with pytest.raises(Conflict, match="'dpsCa' is deleted and signs nothing any more"):
        await scene.root("dpsCa")
    return scene


async def test_a_ca_that_was_deleted_while_it_was_proved_is_not_said_to_be_made() -> None:
    """Neither by the delivery that proves it nor by the next one of its request; nor was it ever open."""
    scene = await deleted_while_it_was_proved()
    with pytest.raises(Conflict, match=r"^name: the certificate authority 'dpsCa' was deleted before it was ready; "):
        await scene.root("dpsCa")


async def test_a_ca_that_was_deleted_twice_while_it_was_proved_is_not_said_to_be_made() -> None:
    """The second deletion changes nothing."""
    scene = await deleted_while_it_was_proved()
    await act(scene, "dpsCa", "delete", requestId="again")
    with pytest.raises(Conflict, match=r"^name: the certificate authority 'dpsCa' was deleted before it was ready; "):
        await scene.root("dpsCa")


async def test_a_ca_that_was_deleted_when_its_proof_was_given_is_not_said_to_be_made() -> None:
    """The service has taken the proof, and the ledger does not say so yet."""

    class Late(AskingService):
        async def verify(self, name: str, proof: x509.Certificate, etag: str) -> UploadedAuthority:
            uploaded = await super().verify(name, proof, etag)
            await act(scene, name, "delete")
            self.certificates.setdefault(name, uploaded)
            return uploaded

        async def delete(self, name: str, _etag: str) -> None:
            del self.certificates[name]

    service = Late()
    scene = Scene(verifiers=[service])
    with pytest.raises(Conflict, match=r"^name: the certificate authority 'dpsCa' was deleted before it was ready; "):
        await scene.root("dpsCa")
    assert service.certificates == {}


async def test_a_request_for_a_ca_s_own_signing_request_is_done_though_the_ca_is_deleted_since() -> None:
    """Its owner was given what was asked for."""
    scene = Scene()
    first = await scene.subject.creation.ensure(ELSEWHERE, cause="r1")
    await act(scene, "line", "delete")
    again = await scene.subject.creation.ensure(ELSEWHERE, cause="r1")
    assert (again.state, again.signing_request) == (AuthorityState.DELETED, first.signing_request)


# --- places at services ---


@dataclass
class Interrupted(AskingService):
    """A service that the worker reaches late: meanwhile its CA ends, and after that the worker is killed.

    Attributes:
        meanwhile: ends the CA before its upload.
        kills: whether the worker is killed after it.
        killed: whether it was, so that nothing else that it does counts.
    """

    meanwhile: Callable[[], Awaitable[None]] | None = None
    kills: bool = True
    killed: bool = False

    async def get(self, name: str) -> UploadedAuthority | None:
        if self.killed:
            raise Killed
        return await super().get(name)

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        if self.meanwhile is None:
            return await super().upload(name, certificate)
        meanwhile, self.meanwhile = self.meanwhile, None
        await meanwhile()
        uploaded = await super().upload(name, certificate)
        if self.kills:
            self.killed = True
            raise Killed
        return uploaded

    async def delete(self, name: str, etag: str) -> None:
        assert self.certificates[name].etag == etag
        del self.certificates[name]


async def test_a_place_that_was_taken_for_a_ca_after_its_deletion_is_freed() -> None:
    """Whoever proved possession of it was killed, and a service has 25 places."""
    service = Interrupted()
    scene = Scene(verifiers=[service])
    service.meanwhile = partial(act, scene, "dpsCa", "delete")
    with pytest.raises(Killed):
        await scene.root("dpsCa")
    assert [*service.certificates] == ["dpsCa"]
    service.killed = False
    await scene.subject.converger.sweep()
    assert service.certificates == {}
    record = await scene.subject.authorities.get("dpsCa")
    assert (record.state, record.proof_of_possession) == (AuthorityState.DELETED, ProofOfPossession.PENDING)
    scene.now += IMPORT_ENDS + timedelta(seconds=1)
    await scene.subject.converger.sweep()
    assert (await scene.subject.authorities.get("dpsCa")).proof_of_possession is None


async def test_a_proof_whose_answer_is_lost_frees_the_place_of_a_ca_that_was_deleted_meanwhile() -> None:
    """At once, and not by the next sweep."""

    class Lost(Interrupted):
        async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
            await super().upload(name, certificate)
            raise ConnectionError("the answer was lost")

    service = Lost(kills=False)
    scene = Scene(verifiers=[service])
    service.meanwhile = partial(act, scene, "dpsCa", "delete")
    with pytest.raises(ConnectionError, match="the answer was lost"):
        await scene.root("dpsCa")
    assert service.certificates == {}


async def open_root(service: Interrupted) -> Scene:
    """Give a scene with a root that a service has forgotten."""
    scene = Scene(verifiers=[service])
    await scene.root("dpsCa")
    service.certificates.clear()
    service.meanwhile = partial(act, scene, "dpsCa", "revoke", reason="keyCompromise")
    return scene


async def test_a_place_that_was_taken_again_for_a_ca_after_its_revocation_is_freed() -> None:
    """As a finding is mended: what it proves again was proved before, and nobody waits for that any more."""
    service = Interrupted()
    scene = await open_root(service)
    record = await scene.subject.authorities.get("dpsCa")
    with pytest.raises(Killed):
        await scene.subject.possession.prove_again(record, scene.now)
    assert [*service.certificates] == ["dpsCa"]
    service.killed = False
    await scene.subject.converger.sweep()
    assert service.certificates == {}


async def test_who_proves_a_ca_again_that_ends_meanwhile_frees_its_place() -> None:
    """At once, and not by the next sweep."""
    service = Interrupted(kills=False)
    scene = await open_root(service)
    record = await scene.subject.authorities.get("dpsCa")
    with pytest.raises(Conflict, match="'dpsCa' is revoked and signs nothing any more"):
        await scene.subject.possession.prove_again(record, scene.now)
    assert service.certificates == {}
