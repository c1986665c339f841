"""Acts that the log has and the ledger does not: what has to be done again after an older copy is the ledger again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.domain.audit_entries import AuditedAct, AuditOutcome, SubjectKind
from shared.domain.authorities import OVER, AuthorityState
from shared.domain.certificates import CertificateState
from shared.domain.groups import GroupState
from shared.domain.held_certificates import HOLD
from shared.domain.words import DeviceState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from shared.domain.devices import DeviceRecord
    from shared.ledger.audit_log import AuditTable
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.groups import Groups
    from shared.workflows.authorities.loading import CertificateAuthorities

_CHANGE_NOTHING = frozenset(
    {
        "adopt",
        "approve",
        "close",
        "confirmBundle",
        "deleteIdentity",
        "handOutBundle",
        "limit",
        "mend",
        "prove",
        "reconcile",
        "refuse",
        "replay",
        "revokeDevices",
    }
)
"""Acts after which the same is wanted as before, or that a pass finds again, or that are part of others."""

_ENDING = frozenset({"delete", "hold", "revoke"})
"""Acts after which a device gets no certificate, unless it is ordered anew, or reinstated."""

_FAMILIES = ({"disable", "enable"}, {"hold", "reinstate"}, {"putEnrollment", "disableEnrollment", "deleteEnrollment"})
"""Of such acts on the same thing the last one counts."""

_NAMES = {
    SubjectKind.GROUP: "the enrollment group",
    SubjectKind.AUTHORITY: "the CA",
    SubjectKind.DEVICE: "the device",
    SubjectKind.ORDER: "the order",
    SubjectKind.CERTIFICATE: "the certificate",
    SubjectKind.REQUEST: "the request",
}
_MADE_AGAIN = "delete it in DPS, make it again, and take back its devices (docs/recover.md)"
_ADVICE = {
    (SubjectKind.GROUP, "create"): _MADE_AGAIN,
    (SubjectKind.GROUP, "put"): f"if it was new: {_MADE_AGAIN}; else do it again",
    (
        SubjectKind.GROUP,
        "roll",
    ): "delete it in DPS, make it again as it was before, and roll it (docs/recover.md)",
    (SubjectKind.AUTHORITY, "create"): "ask for it again under its name: it gets another certificate for the same key",
    (SubjectKind.ORDER, "order"): "send it again: devices of it that are known again stay as they are",
}
_AUTHORITIES = {
    "create": frozenset(AuthorityState) - {AuthorityState.DELETED},
    "import": frozenset(AuthorityState) - {AuthorityState.DELETED},
    "disable": frozenset({AuthorityState.DISABLED}),
    "enable": frozenset({AuthorityState.ACTIVE}),
    "retire": frozenset({AuthorityState.RETIRED}),
    "revoke": OVER,
    "delete": frozenset({AuthorityState.DELETED}),
}
_GROUPS = {
    "create": frozenset({GroupState.ENABLED, GroupState.DISABLED}),
    "disable": frozenset({GroupState.DISABLED}),
    "enable": frozenset({GroupState.ENABLED}),
    "delete": frozenset({GroupState.DELETED}),
}
"""States in which an act has nothing left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAct:
    """An act as the log tells it, from all of its entries.

    Attributes:
        actor: who asked, by name or id.
        place: of its last entry in the log, the oldest being the first.
    """

    entry_id: str
    at: datetime
    action: str
    kind: SubjectKind
    subject: str
    outcome: AuditOutcome
    request_id: str | None
    actor: str
    place: int

    @property
    def family(self) -> tuple[str, str, str]:
        """What it is about; of acts with the same, the last one counts."""
        switch = next(("|".join(sorted(each)) for each in _FAMILIES if self.action in each), None)
        return self.kind, self.subject, switch or f"{self.action}|{self.entry_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenActs:
    """Compares the log's acts with what the ledger knows, and with what was taken back.

    Attributes:
        audit: the audit log of the ledger: what it has as done was in the copy.
    """

    audit: AuditTable
    devices: Devices
    certificates: Certificates
    groups: Groups
    authorities: CertificateAuthorities

    async def told(self, logged: Iterable[Mapping[str, Any]]) -> AsyncIterator[str]:
        """Say of each act that has to be done again what it was, and what to do.

        Args:
            logged: entries of the log, the oldest first.
        """
        entries = list(logged)
        made = {str(each["serialNumber"]): n for n, each in enumerate(entries) if each["type"] == "certificate"}
        for act in acts_of(entries):
            known = await self.audit.outcome(AuditedAct(entry_id=act.entry_id, at=act.at))
            if known is not AuditOutcome.DONE and not await self._is_so(act, made):
                yield _words(act)

    async def _is_so(self, act: LoggedAct, made: Mapping[str, int]) -> bool:
        """Tell whether the ledger has what an act has led to, by whatever it was taken back.

        Args:
            act: the act.
            made: where certificates were logged, by their serial numbers.
        """
        match act.kind:
            case SubjectKind.DEVICE:
                device = await self.devices.get(act.subject)
                if device is None:
                    return False
                return _is_so_of_device(act, device.record) or _is_undone(act, device.record, made)
            case SubjectKind.CERTIFICATE:
                row = await self.certificates.get(act.subject)
                return act.action == "revoke" and row is not None and row.record.state is CertificateState.REVOKED
            case SubjectKind.GROUP:
                group = await self.groups.get(act.subject)
                return group is not None and group.record.state in _GROUPS.get(act.action, ())
            case SubjectKind.AUTHORITY:
                found = [each.state async for each in self.authorities.list() if each.name == act.subject]
                return any(each in _AUTHORITIES.get(act.action, ()) for each in found)
        return False


def _is_so_of_device(act: LoggedAct, record: DeviceRecord) -> bool:
    has_certificate = any(each.cause == act.request_id for each in record.held if each.issued)
    return {
        "revoke": record.shut_out and not record.on_hold,
        "hold": record.shut_out,
        "reinstate": not record.shut_out,
        "delete": record.state is DeviceState.DELETED,
        "disable": record.disabled,
        "enable": not record.disabled,
        "issue": has_certificate,
        "renew": has_certificate,
    }.get(act.action, False)


def _is_undone(act: LoggedAct, record: DeviceRecord, made: Mapping[str, int]) -> bool:
    """Tell whether a device has got a certificate after an act after which it gets none until the act is undone."""
    latest = max((made.get(each.serial_number, -1) for each in record.held if each.issued), default=-1)
    return act.action in _ENDING and act.outcome is AuditOutcome.DONE and latest > act.place


def acts_of(logged: Iterable[Mapping[str, Any]]) -> list[LoggedAct]:
    """Give the acts that changed what is wanted, each once with what came of it, in the order in which they were begun.

    One that was refused or denied is left out. Of those that undo each other the last one counts.
    """
    found = dict[str, LoggedAct]()
    for place, each in enumerate(logged):
        if each["type"] != "act" or each["action"] in _CHANGE_NOTHING:
            continue
        act = _read(each, place)
        before = found.get(act.entry_id)
        if before is None:
            found[act.entry_id] = act
        elif before.outcome is not AuditOutcome.DONE:  # of one that failed the last entry has another reason
            found[act.entry_id] = replace(act, action=before.action)
    done = [act for act in found.values() if act.outcome not in {AuditOutcome.REFUSED, AuditOutcome.DENIED}]
    last = {act.family: act for act in done}
    return [act for act in done if last[act.family] is act]


def _read(entry: Mapping[str, Any], place: int) -> LoggedAct:
    actor, is_hold = entry["actor"], entry["action"] == "revoke" and entry.get("reason") == HOLD
    return LoggedAct(
        entry_id=entry["entryId"],
        at=datetime.fromisoformat(entry["at"]),
        action="hold" if is_hold else entry["action"],
        kind=SubjectKind(entry["subjectKind"]),
        subject=entry["subject"],
        outcome=AuditOutcome(entry["outcome"]),
        request_id=entry.get("requestId"),
        actor=actor.get("name") or actor["id"],
        place=place,
    )


def _words(act: LoggedAct) -> str:
    what = f"{_NAMES.get(act.kind, f'the {act.kind}')} {act.subject!r}"
    by = f"asked for by {act.actor!r} on {act.at:%Y-%m-%d %H:%M:%S} UTC"
    advice = _ADVICE.get((act.kind, act.action), "do it again")
    if act.outcome is AuditOutcome.DONE:
        return f"not in the copy: {act.action} of {what}, {by}, done: {advice}"
    return f"not in the copy: {act.action} of {what}, {by}; no end of it was logged. If it is not so, {advice}"
