"""What differs between the ledger and the services, and the passes that look for it."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from shared.contracts.answers_findings import (
    DriftFinding,
    DriftFindingClosing,
    DriftFindingPage,
    Reconciliation,
    ReconciliationPage,
    ReconciliationRequest,
)
from shared.contracts.parsing import parse
from shared.domain.callers import Role
from shared.domain.findings import FindingState, SubjectKind
from shared.domain.treatments import FindingKind, Policy, Severity
from shared.workflows.reconciliation.answers import shown_finding, shown_pass
from triggers.http.endpoints import (
    PAGING,
    body_of,
    chosen,
    continuation_of,
    endpoint,
    json_answer,
    page_answer,
    page_size_of,
)
from triggers.http.paths import finding_id_of, reconciliation_id_of
from triggers.http.scopes import by_enrollment_group, of_body, of_finding
from triggers.openapi import Answer, Parameter

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_ALL = "all"
_AT_ONCE = timedelta(seconds=20)
"""So long the caller waits for a pass that may be done by then; a timer carries on what is not."""


@endpoint(
    "GET",
    "findings",
    answers=[Answer(200, "a page of findings", (DriftFindingPage,))],
    parameters=(
        Parameter("state", "which ones; `open` if it is left out, `all` for all", str),
        Parameter("kind", "only those of this kind", FindingKind),
        Parameter("severity", "only those of this severity", Severity),
        Parameter("subjectKind", "only those about a device, a group or a CA", SubjectKind),
        Parameter("subject", "only those about this device, group or CA"),
        Parameter("enrollmentGroup", "only those about this group and its devices"),
        *PAGING,
    ),
    role=Role.FLEET_READ,
    scope=by_enrollment_group,
)
async def list_findings(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List what differs between the ledger and the services."""
    state = chosen(request, "state", (_ALL, *FindingState)) or FindingState.OPEN
    filters = {
        "state": None if state == _ALL else state,
        "kind": chosen(request, "kind", tuple(FindingKind)),
        "severity": chosen(request, "severity", tuple(Severity)),
        "subjectKind": chosen(request, "subjectKind", tuple(SubjectKind)),
        "subject": request.params.get("subject"),
        "enrollmentGroup": request.params.get("enrollmentGroup"),
    }
    found, following = await services.reconciler.findings.page(
        filters, size=page_size_of(request), continuation=continuation_of(request)
    )
    return page_answer(DriftFindingPage, [shown_finding(each) for each in found], following)


@endpoint(
    "GET",
    "findings/{id}",
    answers=[Answer(200, "the finding", (DriftFinding,))],
    refuses={404},
    role=Role.FLEET_READ,
    scope=of_finding,
)
async def get_finding(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a finding."""
    found = await services.reconciler.describe_finding(finding_id_of(request))
    return json_answer(shown_finding(found))


@endpoint(
    "POST",
    "findings/{id}/mend",
    answers=[Answer(200, "the finding", (DriftFinding,))],
    refuses={404, 409},
    role=Role.GROUPS_MANAGE,
    scope=of_finding,
    act="mend",
)
async def mend_finding(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Make the services follow the ledger where they differ."""
    return await _act(services, request, Policy.MEND)


@endpoint(
    "POST",
    "findings/{id}/adopt",
    answers=[Answer(200, "the finding", (DriftFinding,))],
    refuses={404, 409},
    role=Role.GROUPS_MANAGE,
    scope=of_finding,
    act="adopt",
)
async def adopt_finding(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Make the ledger follow the services where they differ."""
    return await _act(services, request, Policy.ADOPT)


async def _act(services: Services, request: func.HttpRequest, policy: Policy) -> func.HttpResponse:
    done = await services.reconciler.act(finding_id_of(request), policy)
    return json_answer(shown_finding(done))


@endpoint(
    "POST",
    "findings/{id}/close",
    answers=[Answer(200, "the finding", (DriftFinding,))],
    refuses={404, 409},
    body=DriftFindingClosing,
    role=Role.GROUPS_MANAGE,
    scope=of_finding,
    act="close",
)
async def close_finding(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say of a finding that it may stay as it is, as long as it lasts."""
    identifier = finding_id_of(request)
    comment = parse(DriftFindingClosing, body_of(request)).comment
    return json_answer(shown_finding(await services.reconciler.close(identifier, comment)))


@endpoint(
    "POST",
    "reconciliations",
    answers=[
        Answer(202, "begun; a small one is done by now", (Reconciliation,), (("Location", "where it can be followed"),))
    ],
    refuses={404},
    body=ReconciliationRequest,
    body_required=False,
    role=Role.GROUPS_MANAGE,
    scope=of_body,
    act="reconcile",
)
async def create_reconciliation(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Compare everything, a group or a device with the services, beside the passes that begin by themselves."""
    scope = parse(ReconciliationRequest, body_of(request, optional=True))
    begun = await services.reconciler.begin_at_once(
        enrollment_group=scope.enrollment_group, registration_id=scope.registration_id, lasting=_AT_ONCE
    )
    headers = {"Location": f"/api/reconciliations/{begun.reconciliation_id}"}
    described = await _described(services, begun.reconciliation_id)
    return json_answer(described, HTTPStatus.ACCEPTED, headers)


@endpoint(
    "GET",
    "reconciliations",
    answers=[Answer(200, "the passes of the last weeks", (ReconciliationPage,))],
    role=Role.FLEET_READ,
)
async def list_reconciliations(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """List passes, the latest first."""
    known = await services.reconciler.passes.all()
    shown = [shown_pass(each, services.reconciler.share) for each in reversed(known)]
    return page_answer(ReconciliationPage, shown, None)


@endpoint(
    "GET",
    "reconciliations/{id}",
    answers=[Answer(200, "the pass", (Reconciliation,))],
    refuses={404},
    role=Role.FLEET_READ,
)
async def get_reconciliation(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show how far a pass is, and what it found."""
    return json_answer(await _described(services, reconciliation_id_of(request)))


async def _described(services: Services, identifier: str) -> Reconciliation:
    return shown_pass(await services.reconciler.describe(identifier), services.reconciler.share)
