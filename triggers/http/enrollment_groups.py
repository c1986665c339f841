"""Enrollment groups."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from shared.contracts.answers_certificates import Check
from shared.contracts.answers_groups import DeviceLeftPage, Group, GroupPage, MissedRenewalPage, RegistrationPage
from shared.contracts.certificates import EnrollmentCheck
from shared.contracts.devices import GroupRenewal, GroupRenewing
from shared.contracts.groups import EnrollmentGroupDefinition, EnrollmentGroupRequest, EnrollmentGroupRoll, GroupAction
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.callers import Role
from shared.domain.words import RenewalNeeds
from shared.errors import NotFound
from triggers import preconditions
from triggers.http.endpoints import (
    ETAG,
    FILE_LIMIT,
    PAGING,
    QUEUED,
    body_of,
    chosen,
    continuation_of,
    endpoint,
    etag_header,
    is_new,
    json_answer,
    page_answer,
    page_size_of,
    queued,
    request_id_of,
)
from triggers.http.paths import group_id_of
from triggers.http.scopes import of_group
from triggers.openapi import CONDITIONS, IDEMPOTENCY_KEY, Answer, Parameter

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_QUEUED = Answer(QUEUED.status, QUEUED.meaning, QUEUED.content, (*QUEUED.headers, *ETAG))
_change = partial(
    endpoint,
    answers=[_QUEUED],
    refuses={404, 409, 412},
    body_required=False,
    parameters=(IDEMPOTENCY_KEY, CONDITIONS[0]),
    role=Role.GROUPS_MANAGE,
    scope=of_group,
)


@endpoint("GET", "enrollment-groups", answers=[Answer(200, "all of them", (GroupPage,))], role=Role.FLEET_READ)
async def list_enrollment_groups(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """List the enrollment groups."""
    return page_answer(GroupPage, await services.groups.directory.list_groups(), None)


@endpoint(
    "GET",
    "enrollment-groups/{id}",
    answers=[Answer(200, "the group", (Group,), ETAG)],
    refuses={404},
    role=Role.FLEET_READ,
    scope=of_group,
)
async def get_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an enrollment group, with what DPS holds of it; its ETag guards changes."""
    described = await services.groups.directory.describe(group_id_of(request))
    return json_answer(described, headers=etag_header(described.etag))


@endpoint(
    "PUT",
    "enrollment-groups/{id}",
    answers=[_QUEUED],
    refuses={404, 409, 412},
    body=EnrollmentGroupDefinition,
    body_required=False,
    parameters=(IDEMPOTENCY_KEY, *CONDITIONS),
    role=Role.GROUPS_MANAGE,
    scope=of_group,
)
async def put_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have an enrollment group created, or changed if it exists; If-Match guards the change."""
    definition = parse(EnrollmentGroupDefinition, body_of(request, optional=True))
    return await _group_request(services, request, GroupAction.PUT, definition)


@_change("DELETE", "enrollment-groups/{id}")
async def delete_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have an enrollment group deleted; its devices stay in their hubs."""
    return await _group_request(services, request, GroupAction.DELETE)


@_change("POST", "enrollment-groups/{id}/disable")
async def disable_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have new devices of an enrollment group refused."""
    return await _group_request(services, request, GroupAction.DISABLE)


@_change("POST", "enrollment-groups/{id}/enable")
async def enable_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have new devices of an enrollment group accepted again."""
    return await _group_request(services, request, GroupAction.ENABLE)


@_change("POST", "enrollment-groups/{id}/roll", body=EnrollmentGroupRoll)
async def roll_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a new issuing CA take over in an enrollment group."""
    roll = parse(EnrollmentGroupRoll, body_of(request, optional=True))
    definition = EnrollmentGroupDefinition(issuer=roll.issuer, custody=roll.custody)
    return await _group_request(services, request, GroupAction.ROLL, definition)


@endpoint(
    "GET",
    "enrollment-groups/{id}/rollover/devices",
    answers=[Answer(200, "a page of devices, by serial number", (DeviceLeftPage,))],
    refuses={404},
    parameters=PAGING,
    role=Role.FLEET_READ,
    scope=of_group,
)
async def list_rollover_devices(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List the devices whose certificates keep the old CA of a rollover in use."""
    items, following = await services.groups.directory.left_on_old_ca(
        group_id_of(request), size=page_size_of(request), continuation=continuation_of(request)
    )
    return page_answer(DeviceLeftPage, items, following)


@endpoint(
    "POST",
    "enrollment-groups/{id}/renew",
    answers=[QUEUED],
    refuses={404, 409},
    body=GroupRenewing,
    body_required=False,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.GROUPS_MANAGE,
    scope=of_group,
)
async def renew_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have the devices of an enrollment group renewed, so many a minute."""
    given = parse(GroupRenewing, body_of(request, optional=True))
    wanted = GroupRenewal(
        request_id=request_id_of(request),
        enrollment_group=group_id_of(request),
        per_minute=given.per_minute,
        only_issuer=given.only_issuer,
    )
    if await is_new(services, Queue.RENEWAL_REQUESTS, wanted):
        await services.lifetimes.group_renewals.check(wanted)
    return await queued(services, Queue.RENEWAL_REQUESTS, wanted)


@endpoint(
    "GET",
    "enrollment-groups/{id}/missed-renewals",
    answers=[Answer(200, "a page of devices, by registration id", (MissedRenewalPage,))],
    refuses={404},
    parameters=(Parameter("needs", "only those for which this one has to act", RenewalNeeds), *PAGING),
    role=Role.FLEET_READ,
    scope=of_group,
)
async def list_missed_renewals(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List the devices that should be renewed by now, and can't be before somebody acts."""
    items, following = await services.lifetimes.missed_renewals.page(
        group_id_of(request),
        needs=chosen(request, "needs", tuple(RenewalNeeds)),
        size=page_size_of(request),
        continuation=continuation_of(request),
    )
    return page_answer(MissedRenewalPage, items, following)


async def _group_request(
    services: Services,
    request: func.HttpRequest,
    action: GroupAction,
    definition: EnrollmentGroupDefinition | None = None,
) -> func.HttpResponse:
    """Queue an action on a group, unless it can be seen that it would not succeed.

    The message is made of the request alone, so that a request that comes again is known as the same one.
    """
    group = group_id_of(request)
    body = {
        **(definition.model_dump(mode="json", by_alias=True, exclude_unset=True) if definition else {}),
        "requestId": request_id_of(request),
        "enrollmentGroup": group,
        "action": action.value,
        "ifMatch": request.headers.get("If-Match"),
        "ifNoneMatch": request.headers.get("If-None-Match") if action is GroupAction.PUT else None,
    }
    wanted = parse(EnrollmentGroupRequest, body)
    headers = {}
    if await is_new(services, Queue.ENROLLMENT_GROUP_REQUESTS, wanted):
        headers = await _foreseen(services, request, wanted)
    return await queued(services, Queue.ENROLLMENT_GROUP_REQUESTS, wanted, headers)


async def _foreseen(services: Services, request: func.HttpRequest, wanted: EnrollmentGroupRequest) -> dict[str, str]:
    """Check a request against the group as it is, and give the group's present ETag."""
    etag = None
    try:
        etag = (await services.groups.directory.describe(wanted.enrollment_group)).etag
    except NotFound:
        if wanted.action is not GroupAction.PUT:
            raise
    what = f"the enrollment group {wanted.enrollment_group!r}"
    preconditions.check(request.headers, what, etag)
    await services.groups.checks.foresee(wanted)
    return etag_header(etag)


@endpoint(
    "GET",
    "enrollment-groups/{id}/registrations",
    answers=[Answer(200, "a page of registrations", (RegistrationPage,))],
    refuses={404},
    parameters=PAGING,
    role=Role.FLEET_READ,
    scope=of_group,
)
async def list_registrations(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List the registration records of an enrollment group in DPS."""
    items, following = await services.groups.directory.registrations(
        group_id_of(request), size=page_size_of(request), continuation=continuation_of(request)
    )
    return page_answer(RegistrationPage, items, following)


@endpoint(
    "POST",
    "enrollment-groups/{id}/check",
    answers=[Answer(200, "the entry that DPS would match, its answer, and every reason", (Check,))],
    refuses={404},
    body=EnrollmentCheck,
    role=Role.FLEET_READ,
    scope=of_group,
)
async def check_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Tell what DPS would answer to a device with this chain, and why."""
    wanted = parse(EnrollmentCheck, body_of(request, limit=FILE_LIMIT))
    found = await services.groups.previews.check(group_id_of(request), wanted.registration_id, wanted.chain)
    return json_answer(found)
