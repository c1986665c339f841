"""Enrollment groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.contracts.certificates import EnrollmentCheck
from shared.contracts.groups import EnrollmentGroupDefinition, EnrollmentGroupRequest, EnrollmentGroupRoll, GroupAction
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.errors import NotFound
from triggers import preconditions
from triggers.http.endpoints import (
    FILE_LIMIT,
    PAGING,
    QUEUED,
    body_of,
    continuation_of,
    endpoint,
    etag_header,
    group_id_of,
    is_new,
    json_answer,
    page_answer,
    page_size_of,
    queued,
    request_id_of,
)

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services


@endpoint("GET", "enrollment-groups")
async def list_enrollment_groups(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """List the enrollment groups."""
    return page_answer(await services.enrollment_groups.list_groups(), None)


@endpoint("GET", "enrollment-groups/{id}")
async def get_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an enrollment group, with what DPS holds of it; its ETag guards changes."""
    described = await services.enrollment_groups.describe(group_id_of(request))
    return json_answer(described, headers=etag_header(described))


@endpoint("PUT", "enrollment-groups/{id}", success=QUEUED, body=EnrollmentGroupDefinition)
async def put_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have an enrollment group created, or changed if it exists; If-Match guards the change."""
    definition = parse(EnrollmentGroupDefinition, body_of(request, optional=True))
    return await _group_request(services, request, GroupAction.PUT, definition)


@endpoint("DELETE", "enrollment-groups/{id}", success=QUEUED)
async def delete_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have an enrollment group deleted; its devices stay in their hubs."""
    return await _group_request(services, request, GroupAction.DELETE)


@endpoint("POST", "enrollment-groups/{id}/disable", success=QUEUED)
async def disable_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have new devices of an enrollment group refused."""
    return await _group_request(services, request, GroupAction.DISABLE)


@endpoint("POST", "enrollment-groups/{id}/enable", success=QUEUED)
async def enable_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have new devices of an enrollment group accepted again."""
    return await _group_request(services, request, GroupAction.ENABLE)


@endpoint("POST", "enrollment-groups/{id}/roll", success=QUEUED, body=EnrollmentGroupRoll)
async def roll_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a new issuing CA take over in an enrollment group."""
    roll = parse(EnrollmentGroupRoll, body_of(request, optional=True))
    definition = EnrollmentGroupDefinition(issuer=roll.issuer, custody=roll.custody)
    return await _group_request(services, request, GroupAction.ROLL, definition)


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
    location = f"/api/enrollment-groups/{group}"
    return await queued(services, Queue.ENROLLMENT_GROUP_REQUESTS, wanted, location, headers)


async def _foreseen(services: Services, request: func.HttpRequest, wanted: EnrollmentGroupRequest) -> dict[str, str]:
    """Check a request against the group as it is, and give the group's present ETag."""
    described: dict[str, Any] = {}
    try:
        described = await services.enrollment_groups.describe(wanted.enrollment_group)
    except NotFound:
        if wanted.action is not GroupAction.PUT:
            raise
    what = f"the enrollment group {wanted.enrollment_group!r}"
    preconditions.check(request.headers, what, described.get("etag"))
    await services.enrollment_groups.foresee(wanted)
    return etag_header(described)


@endpoint("GET", "enrollment-groups/{id}/registrations", parameters=PAGING)
async def list_registrations(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List the registration records of an enrollment group in DPS."""
    items, following = await services.enrollment_groups.registrations(
        group_id_of(request), size=page_size_of(request), continuation=continuation_of(request)
    )
    return page_answer(items, following)


@endpoint(
    "POST",
    "enrollment-groups/{id}/check",
    success=(200, "the entry that DPS would match, its answer, and every reason"),
    body=EnrollmentCheck,
)
async def check_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Tell what DPS would answer to a device with this chain, and why."""
    wanted = parse(EnrollmentCheck, body_of(request, limit=FILE_LIMIT))
    return json_answer(await services.previews.check(group_id_of(request), wanted.registration_id, wanted.chain))
