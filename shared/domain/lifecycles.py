"""What may follow which state: one table for each kind of record.

A record names its table, and :meth:`shared.domain.record.Part.changed` refuses a step that is not in it. Besides the
states that are shown there is ``onHold``: revoked for now (RFC 5280 section 5.3.1). The diagrams in docs/lifecycles.md
are made from these tables by ``python -m shared.domain.lifecycles``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN = ""
"""The state before there is a record."""

END = ""
"""The state when there is none any more."""


class By(StrEnum):
    """Who causes a step."""

    ERP = "an order or a request"
    APP = "the app"
    DEVICE = "the device"
    SECURITY = "a revocation request"
    OPERATOR = "an operator"
    TIME = "time"


class IllegalStep(RuntimeError):
    """A state does not follow another: a mistake of the app's, never of a request."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        before: the state it leads from; :data:`BEGIN` for a new record.
        event: what happens.
        after: the state it leads to; :data:`END` if nothing is left.
        by: who causes it.
    """

    before: str
    event: str
    after: str
    by: By


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The steps of one kind of record.

    Attributes:
        kind: names it, as in ``device``.
        steps: all that there are.
        note: what decides where several steps lead on from one state, for the document.
    """

    kind: str
    steps: tuple[Step, ...]
    note: str = ""

    @property
    def states(self) -> frozenset[str]:
        """All states."""
        return frozenset(step.after for step in self.steps)

    def follows(self, before: str, after: str) -> bool:
        """Tell whether a state may follow another."""
        return any((step.before, step.after) == (before, after) for step in self.steps)

    def check(self, before: str, after: str) -> None:
        """Refuse a step that is not in the table. A state that stays is not a step.

        Raises:
            IllegalStep: it is not.
        """
        if before != after and not self.follows(before, after):
            raise IllegalStep(f"a {self.kind} that is {before or 'new'} does not become {after or 'none'}")

    def reachable(self, before: str, *, without: frozenset[str] = frozenset()) -> frozenset[str]:
        """Give the states that a record can get into, on ways that leave some states out."""
        found: set[str] = set()
        ahead = [before]
        while ahead:
            state = ahead.pop()
            following = {step.after for step in self.steps if step.before == state} - without - found
            found |= following
            ahead += following
        return frozenset(found)

    def diagram(self) -> Iterator[str]:
        """Give the lines of a Mermaid state diagram."""
        yield "stateDiagram-v2"
        for step in self.steps:
            yield f"    {step.before or '[*]'} --> {step.after or '[*]'}: {step.event}"


def _steps(*rows: tuple[str, str, str, By]) -> tuple[Step, ...]:
    """Write several states that a step leads from as ``a | b``."""
    return tuple(
        Step(before.strip(), event, after, by) for befores, event, after, by in rows for before in befores.split("|")
    )


DEVICE = Lifecycle(
    "device",
    _steps(
        (BEGIN, "ordered", "ordered", By.ERP),
        (BEGIN, "refused", "failed", By.APP),
        ("ordered", "certificate issued", "issued", By.APP),
        ("ordered | issued", "refused", "failed", By.APP),
        ("issued", "registered", "registered", By.DEVICE),
        ("registered", "successor issued", "renewing", By.ERP),
        ("renewing", "registered with the successor", "registered", By.DEVICE),
        ("issued | registered | renewing", "certificate ended", "expired", By.TIME),
        ("ordered | issued | registered | renewing | expired | failed", "put on hold", "onHold", By.SECURITY),
        ("ordered | issued | registered | renewing | expired | failed", "revoked", "revoked", By.SECURITY),
        ("onHold", "revoked", "revoked", By.SECURITY),
        ("onHold", "reinstated", "ordered", By.SECURITY),
        ("onHold", "reinstated", "issued", By.SECURITY),
        ("onHold", "reinstated", "registered", By.SECURITY),
        ("onHold", "reinstated", "renewing", By.SECURITY),
        ("onHold", "reinstated", "expired", By.SECURITY),
        ("onHold", "reinstated", "failed", By.SECURITY),
        (
            "ordered | issued | registered | renewing | expired | failed | onHold | revoked",
            "deleted",
            "deleted",
            By.OPERATOR,
        ),
        ("failed | expired | deleted", "ordered anew", "ordered", By.ERP),
    ),
    note="""A device that is reinstated is what it was before the hold, which its record keeps, or `expired` if
what it uses has ended meanwhile.
""",
)

CERTIFICATE = Lifecycle(
    "certificate",
    _steps(
        (BEGIN, "serial number drawn", "reserved", By.APP),
        (BEGIN, "brought along by its owner", "active", By.OPERATOR),
        ("reserved", "signed and committed", "active", By.APP),
        ("reserved", "given up", "abandoned", By.APP),
        ("active | expired", "replaced by its successor", "superseded", By.DEVICE),
        ("active", "ended", "expired", By.TIME),
        ("active | superseded | expired", "put on hold", "onHold", By.SECURITY),
        ("active | superseded | expired | onHold", "revoked", "revoked", By.SECURITY),
        ("onHold", "reinstated", "active", By.SECURITY),
        ("onHold", "reinstated", "superseded", By.SECURITY),
        ("onHold", "reinstated", "expired", By.SECURITY),
    ),
    note="""The record decides what a certificate is when it is reinstated: `expired` after its end, `superseded` if it
has a `successor`, and only otherwise `active`. So a former certificate does not come back as `active` by a hold that is
undone.
""",
)

AUTHORITY = Lifecycle(
    "certificate authority",
    _steps(
        (BEGIN, "asked for", "requested", By.OPERATOR),
        ("requested", "key made, to be signed elsewhere", "awaitingCertificate", By.APP),
        ("requested", "signed", "signed", By.APP),
        ("awaitingCertificate", "certificate installed", "signed", By.OPERATOR),
        ("signed", "open to its group, and proved to DPS", "active", By.APP),
        ("active", "disabled", "disabled", By.OPERATOR),
        ("disabled", "enabled", "active", By.OPERATOR),
        ("active | disabled", "retired", "retired", By.OPERATOR),
        ("active | disabled | retired", "revoked", "revoked", By.OPERATOR),
        ("requested | awaitingCertificate | signed | disabled | retired | revoked", "deleted", "deleted", By.OPERATOR),
    ),
)

GROUP = Lifecycle(
    "enrollment group",
    _steps(
        (BEGIN, "asked for", "requested", By.OPERATOR),
        ("requested", "entered in DPS", "enabled", By.APP),
        ("requested", "could not be made", "deleted", By.APP),
        ("enabled", "disabled", "disabled", By.OPERATOR),
        ("disabled", "enabled", "enabled", By.OPERATOR),
        ("requested | enabled | disabled", "deleted", "deleted", By.OPERATOR),
        ("deleted", "asked for anew", "requested", By.OPERATOR),
    ),
)

ROLLOVER = Lifecycle(
    "rollover",
    _steps(
        (BEGIN, "asked for", "preparing", By.OPERATOR),
        ("preparing", "the next CA signs", "rolling", By.APP),
        ("preparing", "refused", END, By.APP),
        ("preparing", "refused, and the roll that it was to replace goes on", "rolling", By.APP),
        ("rolling", "no certificate of the old CA is left", "retired", By.TIME),
        ("rolling", "the next roll, when the new CA is revoked", "preparing", By.OPERATOR),
        ("retired", "the next roll", "preparing", By.OPERATOR),
    ),
)

ORDER = Lifecycle(
    "order",
    _steps(
        (BEGIN, "accepted", "accepted", By.ERP),
        (BEGIN, "refused", "rejected", By.APP),
        ("accepted", "every line is on its way", "processing", By.APP),
        ("accepted", "its list can't be read any more", "rejected", By.APP),
        ("processing", "what is left waits for first boots", "waiting", By.APP),
        ("waiting", "a line does not wait for its device any more", "processing", By.APP),
        ("processing | waiting", "every line is done", "completed", By.APP),
        ("processing | waiting", "every line is done, and some failed", "completedWithFailures", By.APP),
        ("accepted | processing | waiting", "cancelled, and no line is under way", "cancelled", By.OPERATOR),
        ("completedWithFailures", "failed lines are tried again", "processing", By.OPERATOR),
        ("rejected", "sent again", "accepted", By.ERP),
    ),
)

REQUEST = Lifecycle(
    "request",
    _steps(
        (BEGIN, "accepted over HTTP", "queued", By.ERP),
        (BEGIN, "came by its queue", "running", By.ERP),
        (BEGIN, "refused", "rejected", By.APP),
        ("queued", "tried", "running", By.APP),
        ("waiting", "its next batch is carried out, or its parts are under way", "running", By.APP),
        ("waiting", "replayed after it was set aside", "running", By.OPERATOR),
        ("queued | running", "can't go on yet", "waiting", By.APP),
        ("queued | running | waiting", "carried out", "done", By.APP),
        ("queued | running | waiting", "refused", "rejected", By.APP),
        ("running", "needs a second person", "awaitingApproval", By.APP),
        ("awaitingApproval", "approved", "running", By.OPERATOR),
        ("awaitingApproval", "approved, and carried out by another delivery", "done", By.APP),
        ("awaitingApproval", "can't be looked at now", "waiting", By.APP),
        ("awaitingApproval", "refused, or not approved in time", "rejected", By.OPERATOR),
        ("waiting", "closed after it was set aside", "rejected", By.OPERATOR),
        ("rejected", "sent again over HTTP", "queued", By.ERP),
        ("rejected", "sent again by its queue", "running", By.ERP),
    ),
)

APPROVAL = Lifecycle(
    "approval",
    _steps(
        (BEGIN, "an act needs a second person", "open", By.APP),
        ("open", "approved by somebody else than who asked", "approved", By.OPERATOR),
        ("open", "refused", "refused", By.OPERATOR),
        ("open", "not decided in time", "expired", By.TIME),
    ),
)

FINDING = Lifecycle(
    "finding",
    _steps(
        (BEGIN, "found", "open", By.APP),
        ("open | closed", "the services follow the ledger again", "mended", By.APP),
        ("open | closed", "the ledger follows the services", "adopted", By.OPERATOR),
        ("open | closed", "not there any more", "gone", By.APP),
        ("open", "closed with a comment", "closed", By.OPERATOR),
        ("mended | adopted | gone", "found again", "open", By.APP),
    ),
)

RECONCILIATION = Lifecycle(
    "reconciliation",
    _steps((BEGIN, "begun", "running", By.TIME), ("running", "everything was compared", "done", By.APP)),
)

LIFECYCLES = (DEVICE, CERTIFICATE, AUTHORITY, GROUP, ROLLOVER, ORDER, REQUEST, APPROVAL, FINDING, RECONCILIATION)


_INTRODUCTION = """What may follow which state. Made from `shared/domain/lifecycles.py`; a test keeps it so. `onHold` is
shown as `revoked`, with the reason `certificateHold`.
"""


def document() -> str:
    """Give docs/lifecycles.md."""
    parts = ["# Lifecycles\n\n" + _INTRODUCTION]
    for each in LIFECYCLES:
        rows = [f"| {s.before or '(new)'} | {s.event} | {s.after or '(none)'} | {s.by} |" for s in each.steps]
        table = "\n".join(["| state | event | next state | caused by |", "| --- | --- | --- | --- |", *rows])
        diagram = "\n".join(each.diagram())
        note = f"{each.note}\n" if each.note else ""
        parts.append(f"## {each.kind[0].upper()}{each.kind[1:]}\n\n{note}```mermaid\n{diagram}\n```\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document())
