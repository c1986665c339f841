"""Acts on certificate authorities that are there: disabled for a while, or brought to their end."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.authorities import (
    AuthorityAct,
    AuthorityActing,
    AuthorityCrossSigning,
    AuthorityList,
    AuthorityPreview,
    AuthorityRenewing,
    AuthorityRevoking,
    ImportedListAnswer,
)
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.authorities import AuthorityAction
from shared.domain.callers import Role
from shared.domain.words import RevocationReason
from shared.errors import Rejected
from triggers.http.endpoints import (
    DRY_RUN,
    QUEUED,
    authenticated,
    body_of,
    endpoint,
    is_dry,
    is_new,
    json_answer,
    queued,
    request_id_of,
)
from triggers.http.paths import authority_name_of
from triggers.http.scopes import of_authority
from triggers.openapi import IDEMPOTENCY_KEY, SIGNATURE, Answer

if TYPE_CHECKING:
    import azure.functions as func

    from shared.contracts.base import Contract
    from shared.services import Services

CRL = "application/pkix-crl"
LIST_LIMIT = 1024 * 1024
"""Bytes of a list that is imported: of an offline root it has some hundred entries."""

_act = partial(
    endpoint,
    answers=[QUEUED, Answer(200, "what it would do (dryRun)", (AuthorityPreview,))],
    refuses={404, 409},
    body=AuthorityActing,
    body_required=False,
    parameters=(IDEMPOTENCY_KEY, DRY_RUN),
    role=Role.AUTHORITIES_MANAGE,
    scope=of_authority,
)


@_act("POST", "certificate-authorities/{name}/disable")
async def disable_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a CA sign nothing until it is enabled; its lists and OCSP go on."""
    return await _acted(services, request, AuthorityAction.DISABLE)


@_act("POST", "certificate-authorities/{name}/enable")
async def enable_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a CA that is disabled sign again."""
    return await _acted(services, request, AuthorityAction.ENABLE)


@_act("POST", "certificate-authorities/{name}/retire")
async def retire_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a CA sign nothing any more; its lists and OCSP go on until its end."""
    return await _acted(services, request, AuthorityAction.RETIRE)


@_act("DELETE", "certificate-authorities/{name}")
async def delete_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a CA deleted of which no certificate is in force; its record stays."""
    return await _acted(services, request, AuthorityAction.DELETE)


@_act(
    "POST",
    "certificate-authorities/{name}/revoke",
    body=AuthorityRevoking,
    parameters=(IDEMPOTENCY_KEY, DRY_RUN, *SIGNATURE),
)
async def revoke_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a CA revoked, with the CAs below it and all devices; signed as a webhook is, where a secret is set."""
    if is_dry(request):
        return await _previewed(services, request, AuthorityAction.REVOKE, _planned(request))
    request_id = await authenticated(services, request)
    given = parse(AuthorityRevoking, body_of(request, optional=True))
    return await _queued(services, request, AuthorityAction.REVOKE, given, request_id=request_id)


@endpoint(
    "POST",
    "certificate-authorities/{name}/renew",
    answers=[QUEUED],
    refuses={404, 409},
    body=AuthorityRenewing,
    body_required=False,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.AUTHORITIES_MANAGE,
    scope=of_authority,
)
async def renew_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a CA get a new certificate for its name and key, or its groups the next CA, with a new key."""
    given = parse(AuthorityRenewing, body_of(request, optional=True))
    return await _queued(services, request, AuthorityAction.RENEW, given)


@endpoint(
    "POST",
    "certificate-authorities/{name}/cross-sign",
    answers=[QUEUED],
    refuses={404, 409},
    body=AuthorityCrossSigning,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.AUTHORITIES_MANAGE,
)
async def cross_sign_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have another CA sign a certificate for a CA's name and key, which is kept beside the first."""
    given = parse(AuthorityCrossSigning, body_of(request))
    return await _queued(services, request, AuthorityAction.CROSS_SIGN, given)


@endpoint(
    "PUT",
    "certificate-authorities/{name}/crl",
    answers=[Answer(200, "kept, and served from now on", (ImportedListAnswer,))],
    refuses={404, 409},
    body=AuthorityList,
    other_bodies=(CRL,),
    role=Role.AUTHORITIES_MANAGE,
    act="importList",
)
async def import_crl(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Import the newest CRL of a CA whose key is not here, such as an offline root, as PEM in JSON or as a file."""
    media = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if media == CRL:
        content = request.get_body()
        if len(content) > LIST_LIMIT:
            raise Rejected.because(f"the list has {len(content)} bytes, at most {LIST_LIMIT} are taken")
    else:
        content = parse(AuthorityList, body_of(request, limit=LIST_LIMIT)).crl.encode()
    found = await services.served_lists.imported.take_in(authority_name_of(request), content)
    return json_answer(found)


async def _acted(services: Services, request: func.HttpRequest, action: AuthorityAction) -> func.HttpResponse:
    given = parse(AuthorityActing, body_of(request, optional=True))
    return await (_previewed if is_dry(request) else _queued)(services, request, action, given)


def _planned(request: func.HttpRequest) -> AuthorityRevoking:
    """Read what is planned; the reason, which makes no difference to a plan, may be left out."""
    given = body_of(request, optional=True)
    planned = {"reason": RevocationReason.UNSPECIFIED, **given} if isinstance(given, dict) else given
    return parse(AuthorityRevoking, planned)


def _act_of(request: func.HttpRequest, action: AuthorityAction, given: Contract, request_id: str) -> AuthorityAct:
    """Give the act that a call asks for, whether it is to be done or only foreseen.

    Raises:
        Rejected: such an act is not possible.
    """
    return parse(
        AuthorityAct,
        {
            **given.model_dump(mode="json", by_alias=True, exclude_none=True),
            "requestId": request_id,
            "name": authority_name_of(request),
            "action": action.value,
        },
    )


async def _previewed(
    services: Services, request: func.HttpRequest, action: AuthorityAction, given: Contract
) -> func.HttpResponse:
    act = _act_of(request, action, given, "dry-run")
    found = await services.authority_workflows.acts.preview(act.name, action)
    plan = None
    if action is AuthorityAction.REVOKE:
        plan = await services.revocations.foresee_authorities(found.authorities, per_minute=act.per_minute)
    return json_answer(found.model_copy(update={"plan": plan}))


async def _queued(
    services: Services,
    request: func.HttpRequest,
    action: AuthorityAction,
    given: Contract,
    *,
    request_id: str | None = None,
) -> func.HttpResponse:
    """Queue an act, unless it can be seen that it would not succeed."""
    act = _act_of(request, action, given, request_id or request_id_of(request))
    if await is_new(services, Queue.ENROLLMENT_GROUP_REQUESTS, act):
        await services.authority_workflows.acts.foresee(act)
    return await queued(services, Queue.ENROLLMENT_GROUP_REQUESTS, act)
