"""CAs of a ledger that is older than it was: what shuts goes through, and nothing is made, proved, opened or deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.messages import Queue
from shared.domain.authorities import AuthorityAction, AuthorityState, ProofOfPossession
from shared.domain.words import CertificateKind
from shared.errors import LedgerBehind
from shared.ledger.epochs import EpochRows
from shared.pki.names import pem, thumbprint
from shared.ports.ca_certificates import UploadedAuthority
from shared.workflows.authorities.convergence import IMPORT_ENDS
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.epochs import Epochs
from tests.pki.foreign import authority
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeTable
from tests.unit.test_authority_acts import FreedService, act, asked, record_of, scene_with_line, state_of
from tests.unit.test_authority_sweep import no_answer
from tests.unit.test_epochs import at
from tests.unit.test_owned_authorities import brought

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    type Act = Callable[[AuthorityScene], Awaitable[Any]]

CORPORATE = authority("corporate")
ELSEWHERE = AuthorityDefinition(name="elsewhere", kind=CertificateKind.INTERMEDIATE, externally_signed=True)
MINUTE = timedelta(minutes=1)


def epochs(scene: AuthorityScene) -> Epochs:
    """Give what a worker that has seen nothing yet asks: the ledger has no epoch."""
    return Epochs(rows=EpochRows(FakeTable()), vault=scene.vault, mark="ledger-epoch", clock=scene.clock)


async def fall_behind(scene: AuthorityScene) -> None:
    """Have the vault say that the ledger had come further than it has."""
    await at(scene.vault, 5)
    scene.epochs = epochs(scene)


async def catch_up(scene: AuthorityScene) -> None:
    """Have what the ledger lacks taken back."""
    scene.epochs = epochs(scene)
    await scene.epochs.accept()


def everything(scene: AuthorityScene) -> Any:
    """Give what there is in ledger, vault, services and queues."""
    services = [dict(each.certificates) for each in scene.verifiers]
    tables = (scene.table, scene.certificate_rows, scene.revocation_rows)
    return [dict(each.rows) for each in tables], set(scene.vault.keys), services, list(scene.queues.sent)


async def scene() -> AuthorityScene:
    """A root that the DPS knows, the CA ``line`` below it, ``resting`` that is disabled, and one that waits."""
    found = await scene_with_line(verifiers=[FreedService()])
    await found.issuing("resting", "root", path_length=0, custody="wrapped")
    await act(found, "resting", AuthorityAction.DISABLE)
    await found.worker().creation.ensure(ELSEWHERE, cause="make-elsewhere")
    found.queues.sent.clear()
    found.now += timedelta(hours=1)
    return found


def creation(definition: AuthorityDefinition) -> Act:
    return lambda scene: scene.worker().creation.ensure(definition, cause="r1")


def asked_for(name: str, action: AuthorityAction, **fields: Any) -> Act:
    return lambda scene: act(scene, name, action, **fields)


OPENING: dict[str, Act] = {
    "make a root": creation(AuthorityDefinition(name="new", kind=CertificateKind.ROOT)),
    "make an issuing CA": creation(AuthorityDefinition(name="new", kind=CertificateKind.INTERMEDIATE, parent="root")),
    "ask for a certificate from elsewhere": creation(
        AuthorityDefinition(name="new", kind=CertificateKind.INTERMEDIATE, externally_signed=True)
    ),
    "import": lambda scene: scene.worker().installation.take_over("corporate", brought(CORPORATE), cause="r1"),
    "install": lambda scene: scene.worker().installation.install("elsewhere", pem(CORPORATE).encode()),
    "enable": asked_for("resting", AuthorityAction.ENABLE),
    "delete": asked_for("resting", AuthorityAction.DELETE),
    "renew": asked_for("root", AuthorityAction.RENEW),
    "renew with a new key": asked_for("line", AuthorityAction.RENEW, key="new"),
    "cross-sign": asked_for("resting", AuthorityAction.CROSS_SIGN, issuer="line"),
}


@pytest.mark.parametrize("name", OPENING)
async def test_an_older_ledger_makes_opens_and_deletes_no_ca(name: str) -> None:
    """It may not know that the CA has ended since, who has its name by now, or who needs it. Nothing is written."""
    subject = await scene()
    await fall_behind(subject)
    before = everything(subject)
    with pytest.raises(LedgerBehind, match="the ledger is empty, and the vault says that it had reached epoch 5"):
        await OPENING[name](subject)
    assert everything(subject) == before


async def test_what_an_older_ledger_kept_waiting_goes_on_when_it_is_accepted() -> None:
    subject = await scene()
    await fall_behind(subject)
    with pytest.raises(LedgerBehind):
        await act(subject, "resting", AuthorityAction.ENABLE)
    await catch_up(subject)
    await act(subject, "resting", AuthorityAction.ENABLE)
    assert await state_of(subject, "resting") == "active"


@pytest.mark.parametrize(
    ("action", "state"),
    [(AuthorityAction.DISABLE, "disabled"), (AuthorityAction.RETIRE, "retired"), (AuthorityAction.REVOKE, "revoked")],
)
async def test_an_older_ledger_lets_a_ca_sign_less_all_the_same(action: AuthorityAction, state: str) -> None:
    """Everything follows: those below a revoked one and its devices are to be revoked, and its place is freed."""
    subject = await scene()
    await fall_behind(subject)
    reason = {"reason": "keyCompromise"} if action is AuthorityAction.REVOKE else {}
    await act(subject, "root", action, **reason)
    record = await record_of(subject, "root")
    assert (record.state, record.change) == (state, None)
    if action is AuthorityAction.REVOKE:
        below = [(each["name"], each["action"]) for each in asked(subject, Queue.ENROLLMENT_GROUP_REQUESTS)]
        assert below == [("line", "revoke"), ("resting", "revoke")]
        assert [each["issuer"] for each in asked(subject, Queue.REVOCATION_REQUESTS)] == ["root"]
        assert subject.verifiers[0].certificates == {}


async def proving() -> AuthorityScene:
    """A root that was signed, and that the DPS has not taken yet: its ledger was copied at that moment."""
    service = FreedService(refusal="the DPS does not answer")
    subject = AuthorityScene(verifiers=[service])
    with pytest.raises(Exception, match="the DPS does not answer"):
        await subject.root("root")
    service.refusal = ""
    subject.now += timedelta(hours=1)
    assert (await record_of(subject, "root")).proof_of_possession is ProofOfPossession.PENDING
    return subject


async def test_an_older_ledger_puts_no_ca_into_dps() -> None:
    """It was proved and revoked since. The sweep, which goes on with what lies there, would bring it back."""
    subject = await proving()
    await fall_behind(subject)
    before = everything(subject)
    assert await subject.worker().converger.sweep() == 0
    assert everything(subject) == before
    await catch_up(subject)
    assert await subject.worker().converger.sweep() == 1
    assert set(subject.verifiers[0].certificates) == {"root"}


async def test_an_older_ledger_takes_no_ca_for_proved_that_dps_has_verified() -> None:
    """Else it would be opened, and told of, though nobody knows what has become of it."""
    subject = await proving()
    certificate = (await subject.worker().authorities.load("root")).certificate
    subject.verifiers[0].certificates["root"] = UploadedAuthority(
        verified=True, etag="1", thumbprint=thumbprint(certificate)
    )
    await fall_behind(subject)
    assert await subject.worker().converger.sweep() == 0
    record = await record_of(subject, "root")
    assert (record.state, record.proof_of_possession) == (AuthorityState.SIGNED, ProofOfPossession.PENDING)


async def test_an_older_ledger_does_not_go_on_making_a_ca() -> None:
    """Neither its key nor its certificate, nor the books and the event of one that is signed."""
    for service, is_made in (("vault", False), ("queues", True)):
        subject = AuthorityScene()
        call = "get_or_create" if service == "vault" else "send"
        real = getattr(getattr(subject, service), call)
        setattr(getattr(subject, service), call, no_answer)
        with pytest.raises(ConnectionError):
            await subject.root("root")
        setattr(getattr(subject, service), call, real)
        subject.now += timedelta(hours=1)
        await fall_behind(subject)
        before = everything(subject)
        assert await subject.worker().converger.sweep() == 0
        assert everything(subject) == before
        assert ("root" in subject.vault.keys) is is_made
        await catch_up(subject)
        assert await subject.worker().converger.sweep() == 1


async def test_an_older_ledger_gives_no_name_back_that_an_import_has_taken() -> None:
    """The import has ended since, and its CA is in use."""
    subject = AuthorityScene()
    subject.vault.import_key = no_answer  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await subject.worker().installation.take_over("corporate", brought(CORPORATE), cause="r1")
    subject.now += IMPORT_ENDS + MINUTE
    await fall_behind(subject)
    before = everything(subject)
    assert await subject.worker().converger.sweep() == 0
    assert everything(subject) == before
    await catch_up(subject)
    assert await subject.worker().converger.sweep() == 0
    assert await subject.records.get("corporate") is None


async def renewed(subject: AuthorityScene) -> None:
    """Have the root renewed; its worker is gone before anything follows."""
    send, subject.queues.send = subject.queues.send, no_answer  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await act(subject, "root", AuthorityAction.RENEW)
    subject.queues.send = send  # type: ignore[method-assign]
    record = await record_of(subject, "root")
    assert record.change is not None
    assert record.proof_of_possession is ProofOfPossession.PENDING


async def test_a_revocation_is_not_held_up_by_what_an_older_ledger_keeps_waiting() -> None:
    """A renewal is under way in the copy. What it has entered is entered; that services know it has to wait."""
    subject = await scene()
    await renewed(subject)
    await fall_behind(subject)
    await act(subject, "root", AuthorityAction.REVOKE, reason="keyCompromise")
    record = await record_of(subject, "root")
    assert (record.state, record.change, record.acts) == ("revoked", None, ("renew-root", "revoke-root"))
    assert subject.verifiers[0].certificates == {}


@pytest.mark.parametrize("action", [AuthorityAction.DISABLE, AuthorityAction.RETIRE, AuthorityAction.REVOKE])
async def test_an_act_that_shuts_is_not_refused_since_a_service_refuses_a_proof(action: AuthorityAction) -> None:
    """A renewed certificate has no place there. That is told where it is asked for, and concerns nobody else."""
    subject = await scene()
    await renewed(subject)
    subject.verifiers[0].refusal = "it has 25 CA certificates"
    reason = {"reason": "keyCompromise"} if action is AuthorityAction.REVOKE else {}
    await act(subject, "root", action, **reason)
    record = await record_of(subject, "root")
    assert (record.change, record.acts) == (None, ("renew-root", f"{action}-root"))


async def test_what_ends_a_ca_and_was_begun_before_the_copy_is_carried_on() -> None:
    """It was decided when the ledger was the present one, and it opens nothing."""
    subject = await scene()
    service = subject.verifiers[0]
    free, service.delete = service.delete, no_answer
    with pytest.raises(ConnectionError):
        await act(subject, "root", AuthorityAction.REVOKE, reason="keyCompromise")
    service.delete = free
    subject.now += MINUTE
    await fall_behind(subject)
    assert await subject.worker().converger.sweep() == 3, "with the two below it"
    assert (await record_of(subject, "root")).change is None
    assert service.certificates == {}


async def test_a_certificate_that_an_older_ledger_does_not_know_keeps_its_place_when_its_root_is_revoked() -> None:
    """The root was renewed after the copy: the place of its newer certificate is to be freed by hand."""
    subject = await scene()
    copy = dict(subject.table.rows)
    await act(subject, "root", AuthorityAction.RENEW)
    newer = (await record_of(subject, "root")).place
    subject.table.rows = copy
    await fall_behind(subject)
    await act(subject, "root", AuthorityAction.REVOKE, request="v1", reason="keyCompromise")
    assert set(subject.verifiers[0].certificates) == {newer}


def test_every_act_that_is_possible_was_tried() -> None:
    tried = {each.split()[0].replace("cross-sign", "crossSign") for each in OPENING}
    assert set(AuthorityAction) <= tried | {"disable", "retire", "revoke"}
