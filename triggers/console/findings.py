"""Findings: what differs between the ledger and the services, what can be done about it, and who looks for more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.contracts.answers_findings import DriftFindingClosing, ReconciliationRequest
from shared.contracts.ids import path_value
from shared.contracts.parsing import parse
from shared.domain.callers import Role
from shared.domain.findings import FindingState, SubjectKind
from shared.domain.treatments import FindingKind, Policy, Severity
from shared.errors import Conflict
from shared.rules.zones import Zone
from shared.workflows.reconciliation.answers import shown_finding, shown_pass
from triggers import callers
from triggers.console.pages import ROOT, form_of, page, redirect, rendered, segment
from triggers.http.endpoints import chosen, continuation_of, shown_continuation
from triggers.http.paths import finding_id_of
from triggers.http.scopes import by_enrollment_group, group_of_device, of_finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import azure.functions as func

    from shared.domain.findings import FindingRecord
    from shared.services import Services

_SHOWN = 50
_PASSES = 48
"""Passes that are listed: those of two days, if one begins each hour."""

_AT_ONCE = timedelta(seconds=5)
"""So long a browser waits for a pass that may be done by then; a timer carries on what is not."""

_DONE = {"mend": "mended", "adopt": "adopted"}


@page("findings", known=("state", "severity", "enrollmentGroup", "continuationToken"), scope=by_enrollment_group)
async def console_findings(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List what differs, the worst first; all of one severity in pages."""
    state = chosen(request, "state", tuple(FindingState)) or FindingState.OPEN
    severity = chosen(request, "severity", tuple(Severity))
    group = (request.params.get("enrollmentGroup") or "").strip()
    filters = {"state": state, "enrollmentGroup": path_value("enrollmentGroup", group) if group else None}
    wanted = [Severity(severity)] if severity else [*Severity]
    pages = await asyncio.gather(
        *(
            services.reconciler.findings.page(
                {**filters, "severity": each.value},
                size=_SHOWN,
                continuation=continuation_of(request) if severity else None,
            )
            for each in wanted
        )
    )
    return rendered(
        "findings.html",
        state_wanted=state,
        states=list(FindingState),
        severity_wanted=severity or "",
        severities=list(Severity),
        group=group,
        found=[
            (each, [_listed(record) for record in found], shown_continuation(following))
            for each, (found, following) in zip(wanted, pages, strict=True)
            if found or following
        ],
        acts_here=services.settings.zone is Zone.ALL,
    )


@page("findings/{id}", scope=of_finding)
async def console_finding(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a finding: what the ledger says, what the service says, and what can be done."""
    record = await services.reconciler.describe_finding(finding_id_of(request))
    return rendered(
        "finding.html",
        finding=shown_finding(record),
        about=subject_page(record),
        further=[*_further(record)],
        acts_here=services.settings.zone is Zone.ALL,
    )


def _listed(record: FindingRecord) -> Mapping[str, object]:
    return {**shown_finding(record).shown(), "about": subject_page(record)}


_OF_NOBODY = frozenset({FindingKind.UNKNOWN_DEVICE, FindingKind.ENROLLMENT_UNKNOWN})


def subject_page(record: FindingRecord) -> str | None:
    """Give the page of what a finding is about, if the ledger has it."""
    subject = segment(record.subject)
    match record.subject_kind:
        case SubjectKind.DEVICE if record.kind not in _OF_NOBODY and record.identity is None:
            return f"{ROOT}/devices/{subject}"
        case SubjectKind.GROUP if record.kind is not FindingKind.GROUP_UNKNOWN:
            return f"{ROOT}/groups/{subject}"
        case SubjectKind.AUTHORITY:
            return f"{ROOT}/authorities#ca-{subject}"
    return None


def _further(record: FindingRecord) -> Sequence[tuple[str, str, Role]]:
    """Give acts beside mending and adopting: what each does, its page, and the role that it needs."""
    if record.kind is not FindingKind.ROGUE_CERTIFICATE:
        return []
    group, authority = record.enrollment_group, record.certificate_authority
    found = []
    if group is not None:
        what = f"Let no device in by the enrollment group {group}"
        found.append((what, f"{ROOT}/groups/{segment(group)}/disable", Role.GROUPS_MANAGE))
    if authority is not None:
        page_of_act = f"{ROOT}/authorities/{segment(authority)}/revoke"
        found.append((f"Revoke the CA {authority}", page_of_act, Role.AUTHORITIES_MANAGE))
    return found


# --- acts ---


@page("findings/{id}/mend", role=Role.GROUPS_MANAGE, scope=of_finding)
async def console_mend(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what mending a finding will do, and ask."""
    return await _asked(services, request, "mend")


@page("findings/{id}/mend", method="POST", role=Role.GROUPS_MANAGE, scope=of_finding, act="mend")
async def console_mended(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Make the services follow the ledger."""
    return await _acted(services, request, Policy.MEND)


@page("findings/{id}/adopt", role=Role.GROUPS_MANAGE, scope=of_finding)
async def console_adopt(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what adopting a finding will do, and ask."""
    return await _asked(services, request, "adopt")


@page("findings/{id}/adopt", method="POST", role=Role.GROUPS_MANAGE, scope=of_finding, act="adopt")
async def console_adopted(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Make the ledger follow the services."""
    return await _acted(services, request, Policy.ADOPT)


@page("findings/{id}/close", role=Role.GROUPS_MANAGE, scope=of_finding)
async def console_finding_close(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what closing a finding will do, and ask why."""
    return await _asked(services, request, "close")


@page("findings/{id}/close", method="POST", role=Role.GROUPS_MANAGE, scope=of_finding, act="close")
async def console_finding_closed(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say of a finding that it may stay as it is, as long as it lasts."""
    identifier = finding_id_of(request)
    comment = parse(DriftFindingClosing, {"comment": form_of(request).get("comment", "")}).comment
    await services.reconciler.close(identifier, comment)
    return redirect(f"{ROOT}/findings/{segment(identifier)}")


async def _asked(services: Services, request: func.HttpRequest, act: str) -> func.HttpResponse:
    """Show what an act on a finding will do.

    Raises:
        Conflict: it can't be done about a finding of its kind.
    """
    record = await services.reconciler.describe_finding(finding_id_of(request))
    effect = {"mend": record.treatment.mending, "adopt": record.treatment.adopting, "close": ""}[act]
    if effect is None:
        raise Conflict.because(f"a finding of kind {record.kind.value!r} can't be {_DONE[act]} by the app")
    possible = {FindingState.OPEN} if act == "close" else {FindingState.OPEN, FindingState.CLOSED}
    return rendered(
        "finding_act.html",
        act=act,
        effect=effect,
        finding=shown_finding(record),
        is_possible=record.state in possible,
    )


async def _acted(services: Services, request: func.HttpRequest, policy: Policy) -> func.HttpResponse:
    identifier = finding_id_of(request)
    await services.reconciler.act(identifier, policy)
    return redirect(f"{ROOT}/findings/{segment(identifier)}")


# --- passes ---


@page("reconciliations")
async def console_reconciliations(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """List passes of reconciliation, the latest first."""
    known = await services.reconciler.passes.all()
    return rendered(
        "reconciliations.html",
        passes=[shown_pass(each, services.reconciler.share) for each in reversed(known[-_PASSES:])],
        acts_here=services.settings.zone is Zone.ALL,
    )


async def _of_query(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the group that the query names, or that of the device."""
    return await _group_of(services, request.params)


async def _of_form(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the group that the form names, or that of the device."""
    return await _group_of(services, form_of(request))


async def _group_of(services: Services, given: Mapping[str, str]) -> str | None:
    wanted = _scope_of(given)
    if wanted.registration_id is not None:
        return await group_of_device(services, wanted.registration_id)
    return wanted.enrollment_group


@page("reconcile", known=("enrollmentGroup", "registrationId"), role=Role.GROUPS_MANAGE, scope=_of_query)
async def console_reconcile(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what a pass of reconciliation will do, and to how many, and ask."""
    wanted = _scope_of(request.params)
    if wanted.registration_id is not None:
        await services.devices.describe(wanted.registration_id)
        count = 1
    else:
        count = (await services.devices.counts(wanted.enrollment_group)).total
    by_itself = [
        (kind.value, policy.value)
        for kind in FindingKind
        if (policy := services.reconciler.policy_of(kind)) is not Policy.REPORT
    ]
    device, group = wanted.registration_id, wanted.enrollment_group
    return rendered("reconcile.html", device=device, group=group, count=count, by_itself=by_itself)


@page("reconcile", method="POST", role=Role.GROUPS_MANAGE, scope=_of_form, act="reconcile")
async def console_reconciled(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Begin a pass, beside those that begin by themselves."""
    wanted = _scope_of(form_of(request))
    await services.reconciler.begin_at_once(
        enrollment_group=wanted.enrollment_group, registration_id=wanted.registration_id, lasting=_AT_ONCE
    )
    return redirect(f"{ROOT}/{_found_on(wanted)}")


def _found_on(wanted: ReconciliationRequest) -> str:
    """Give the page where somebody sees what a pass has found; that of all passes is for who may see everything."""
    if wanted.registration_id is not None:
        return f"devices/{segment(wanted.registration_id)}"
    if wanted.enrollment_group is not None and not callers.current().may(Role.FLEET_READ, None):
        return f"findings?enrollmentGroup={segment(wanted.enrollment_group)}"
    return "reconciliations"


def _scope_of(given: Mapping[str, str]) -> ReconciliationRequest:
    named = {name: given.get(name, "").strip() for name in ("enrollmentGroup", "registrationId")}
    return parse(ReconciliationRequest, {name: value for name, value in named.items() if value})
