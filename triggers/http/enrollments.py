"""Individual enrollments."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from shared.contracts.answers_groups import Enrollment
from shared.contracts.groups import IndividualEnrollmentDefinition
from shared.contracts.parsing import parse
from shared.domain.callers import Role
from triggers import preconditions
from triggers.http.endpoints import ETAG, body_of, endpoint, etag_header, json_answer
from triggers.http.paths import registration_id_of
from triggers.http.scopes import of_device
from triggers.openapi import CONDITIONS, Answer

if TYPE_CHECKING:
    from shared.services import Services
    from shared.workflows.devices.enrollments import Expectation


_ENTRY = Answer(200, "the enrollment", (Enrollment,), ETAG)


@endpoint("GET", "enrollments/{registrationId}", answers=[_ENTRY], refuses={404}, role=Role.FLEET_READ, scope=of_device)
async def get_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show the individual enrollment of a device, as DPS holds it; its ETag guards changes."""
    shown = await services.individual_enrollments.get(registration_id_of(request))
    return json_answer(shown, headers=etag_header(shown.etag))


@endpoint(
    "PUT",
    "enrollments/{registrationId}",
    answers=[Answer(200, "changed", (Enrollment,), ETAG), Answer(201, "created", (Enrollment,), ETAG)],
    refuses={404, 409, 412},
    body=IndividualEnrollmentDefinition,
    body_required=False,
    parameters=CONDITIONS,
    role=Role.GROUPS_MANAGE,
    scope=of_device,
    act="putEnrollment",
)
async def put_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Create the individual enrollment of a device, or change it; If-Match guards the change."""
    registration_id = registration_id_of(request)
    definition = parse(IndividualEnrollmentDefinition, body_of(request, optional=True))
    expects = _expectation(request, registration_id)
    shown, created = await services.individual_enrollments.put(registration_id, definition, expects=expects)
    return json_answer(shown, HTTPStatus.CREATED if created else HTTPStatus.OK, etag_header(shown.etag))


@endpoint(
    "POST",
    "enrollments/{registrationId}/disable",
    answers=[_ENTRY],
    refuses={404, 409, 412},
    parameters=CONDITIONS,
    role=Role.DEVICES_REVOKE,
    scope=of_device,
    act="disableEnrollment",
)
async def disable_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Shut one device out of DPS, whatever its group says; its hub still lets it in."""
    registration_id = registration_id_of(request)
    expects = _expectation(request, registration_id)
    shown = await services.individual_enrollments.disable(registration_id, expects=expects)
    return json_answer(shown, headers=etag_header(shown.etag))


@endpoint(
    "DELETE",
    "enrollments/{registrationId}",
    answers=[Answer(204, "it does not exist any more; a group decides")],
    refuses={404, 409, 412},
    parameters=CONDITIONS,
    role=Role.GROUPS_MANAGE,
    scope=of_device,
    act="deleteEnrollment",
)
async def delete_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Delete the individual enrollment of a device: its group, if it has one, decides about it again."""
    registration_id = registration_id_of(request)
    await services.individual_enrollments.delete(registration_id, expects=_expectation(request, registration_id))
    return func.HttpResponse(status_code=HTTPStatus.NO_CONTENT)


def _expectation(request: func.HttpRequest, registration_id: str) -> Expectation:
    """Give what the request's conditions expect of the entry."""
    return partial(preconditions.check, request.headers, f"the individual enrollment {registration_id!r}")
