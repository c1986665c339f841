"""Runs acts beside the restoration of a ledger, in every order of their steps; then an auditor looks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from shared.errors import LedgerBehind
from shared.workflows.status.revocation_lists import NotPublished
from tests.world.prover import Proof
from tests.world.restored_acts import call, message
from tests.world.restored_auditor import audit_restored
from tests.world.restored_world import RestoredWorld

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from shared.contracts.messages import Queue


class RestoredProof(Proof[RestoredWorld]):
    """What was tried in worlds whose ledger was put back."""

    of: ClassVar[str] = "of ledgers put back "

    def begin(self, world: RestoredWorld, actor: str, name: str, *, host: int = 0) -> None:
        """Have an actor stand before the first step of an act."""
        world.meanwhile |= {name}
        super().begin(world, actor, name, host=host)

    async def _found(self, world: RestoredWorld) -> list[str]:
        return [*await audit_restored(world), *(repr(bug) for bug in world.bugs if not _is_expected(bug))]

    def _call(self, world: RestoredWorld, name: str) -> Coroutine[None, None, None] | None:
        return call(world, name)

    def _message(self, world: RestoredWorld, name: str) -> tuple[Queue, Mapping[str, Any]] | None:
        return message(world, name)

    def _ask(self, world: RestoredWorld, name: str, queue: Queue, body: Mapping[str, Any]) -> None:
        world.now += timedelta(seconds=2)
        world.ask(name, queue, body)


def _is_expected(bug: BaseException | None) -> bool:
    """Tell whether all that a timer was ended by is that the ledger was an older one, or that an answer was lost."""
    if isinstance(bug, ExceptionGroup):
        return all(map(_is_expected, bug.exceptions))
    cause = bug.__cause__ if isinstance(bug, NotPublished) else bug
    return isinstance(cause, LedgerBehind | ConnectionError)
