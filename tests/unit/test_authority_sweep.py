"""What is left of a CA whose act broke off: the sweep finishes it, or gives its name back."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared.domain.authorities import AuthorityState
from shared.domain.words import CertificateKind
from shared.errors import Conflict
from shared.workflows.authorities.convergence import IMPORT_ENDS
from shared.workflows.authorities.records import AuthorityDefinition
from tests.pki.foreign import authority
from tests.unit.authorities import AuthorityScene
from tests.unit.test_owned_authorities import brought

if TYPE_CHECKING:
    from shared.pki.signing_keys import PrivateKey

LINE = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, parent="root")
CORPORATE = authority("corporate")


async def no_answer(*_: Any, **__: Any) -> Any:
    """Stand for a service that is down."""
    raise ConnectionError("no answer")


def names(scene: AuthorityScene) -> list[str]:
    return [row for partition, row in scene.table.rows if partition == "issuer"]


async def test_a_ca_whose_message_is_gone_is_made_by_the_sweep() -> None:
    """Once its row is there it is decided that it is made; within a minute it is its own message's work."""
    scene = AuthorityScene()
    await scene.root("root")
    create, scene.vault.get_or_create = scene.vault.get_or_create, no_answer  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.worker().creation.ensure(LINE, cause="r1")
    scene.vault.get_or_create = create  # type: ignore[method-assign]
    assert await scene.worker().converger.sweep() == 0
    scene.now += timedelta(minutes=1)
    assert await scene.worker().converger.sweep() == 1
    assert (await scene.worker().authorities.get("line")).state is AuthorityState.ACTIVE


async def test_a_ca_whose_key_was_taken_by_others_in_between_leaves_no_trace() -> None:
    """It is refused, and its name is free for a CA of another key."""
    scene = AuthorityScene()
    await scene.root("root")
    check = scene.vault.check_free

    async def taken_meanwhile(name: str, algorithm: str | None = None) -> None:
        await check(name, algorithm)
        scene.vault.foreign.add("line")

    scene.vault.check_free = taken_meanwhile  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="the vault has a key 'line' already"):
        await scene.worker().creation.ensure(LINE, cause="r1")
    assert names(scene) == ["root"]


async def test_a_ca_that_was_refused_when_it_had_its_key_says_why_and_is_left_to_its_owner() -> None:
    """Its sender was told that it was refused: the sweep does not make it after all, and asking again does."""
    scene = AuthorityScene()
    await scene.root("root")
    identity = scene.records.claim_identity

    async def claimed(*_: Any) -> str:
        return "other"

    scene.records.claim_identity = claimed  # type: ignore[method-assign,assignment]
    with pytest.raises(Conflict, match="this CA is here as 'other'"):
        await scene.worker().creation.ensure(LINE, cause="r1")
    scene.records.claim_identity = identity  # type: ignore[method-assign]
    scene.now += timedelta(hours=1)
    assert await scene.worker().converger.sweep() == 0
    problem = (await scene.worker().authorities.get("line")).problem
    assert problem is not None
    assert problem.startswith("name: this CA is here as 'other'")
    record = await scene.worker().creation.ensure(LINE, cause="r1")
    assert (record.state, record.problem) == (AuthorityState.ACTIVE, None)


async def test_an_import_that_broke_off_before_its_key_was_kept_gives_its_name_back() -> None:
    """The key went with the worker; half an hour later the CA can be imported under any name, this one included."""
    for later in ("corporate", "other"):
        scene = AuthorityScene()
        keep, scene.vault.import_key = scene.vault.import_key, no_answer  # type: ignore[method-assign]
        with pytest.raises(ConnectionError):
            await scene.worker().installation.take_over("corporate", brought(CORPORATE), cause="r1")
        scene.now += timedelta(minutes=30)
        assert await scene.worker().converger.sweep() == 0
        assert names(scene) == ["corporate"]
        scene.now += timedelta(seconds=1)
        assert await scene.worker().converger.sweep() == 0
        assert names(scene) == []
        scene.vault.import_key = keep  # type: ignore[method-assign]
        record = await scene.worker().installation.take_over(later, brought(CORPORATE), cause="r2")
        assert record.state is AuthorityState.ACTIVE


async def test_an_import_that_broke_off_when_its_key_was_kept_says_how_to_go_on() -> None:
    """The vault's key is the CA's: the name stays, and the same import finishes it."""
    scene = AuthorityScene()
    keep = scene.vault.import_key

    async def kept(name: str, key: PrivateKey) -> str:
        await keep(name, key)
        raise ConnectionError("no answer")

    scene.vault.import_key = kept  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await scene.worker().installation.take_over("corporate", brought(CORPORATE), cause="r1")
    scene.now += timedelta(minutes=31)
    assert await scene.worker().converger.sweep() == 0
    record = await scene.worker().authorities.get("corporate")
    assert (record.state, record.problem) == (
        AuthorityState.REQUESTED,
        "its import broke off when its key was in the vault; import it again as before",
    )
    scene.vault.import_key = keep  # type: ignore[method-assign]
    record = await scene.worker().installation.take_over("corporate", brought(CORPORATE), cause="r2")
    assert (record.state, record.problem, record.cause) == (AuthorityState.ACTIVE, None, "r2")


def test_no_worker_is_at_an_import_whose_name_is_given_back() -> None:
    """Else its key would be kept for a CA that is not here: the host has ended the worker's process long before."""
    hours, minutes, seconds = map(int, json.loads(Path("host.json").read_text())["functionTimeout"].split(":"))
    assert 2 * timedelta(hours=hours, minutes=minutes, seconds=seconds) < IMPORT_ENDS


async def test_an_import_that_is_tried_again_is_not_taken_for_one_that_broke_off() -> None:
    """Half an hour is counted from the last attempt."""
    scene = AuthorityScene()
    keep, scene.vault.import_key = scene.vault.import_key, no_answer  # type: ignore[method-assign]
    for request in ("r1", "r2"):
        with pytest.raises(ConnectionError):
            await scene.worker().installation.take_over("corporate", brought(CORPORATE), cause=request)
        scene.now += timedelta(minutes=29)
    await scene.worker().converger.sweep()
    assert names(scene) == ["corporate"]
    scene.vault.import_key = keep  # type: ignore[method-assign]
    assert (await scene.worker().installation.take_over("corporate", brought(CORPORATE), cause="r3")).cause == "r3"


async def test_the_first_list_of_a_ca_is_there_before_anybody_is_told_of_it() -> None:
    """So nobody who asks for it needs the CA's key."""
    scene = AuthorityScene()
    told: list[int] = []
    publish = scene.lists.publish

    async def noted(name: str) -> bool:
        told.append(len(scene.queues.sent))
        return await publish(name)

    scene.lists.publish = noted  # type: ignore[method-assign]
    await scene.root("root")
    await scene.issuing("line", "root")
    assert (scene.lists.published, told) == (["root", "line"], [0, 1])
