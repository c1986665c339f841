"""Why a device is as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.explanations import Explanation, Question
from shared.contracts.parsing import parse
from shared.domain.callers import Role
from triggers.http.endpoints import FILE_LIMIT, body_of, endpoint, json_answer
from triggers.http.paths import registration_id_of
from triggers.http.scopes import of_device
from triggers.openapi import Answer

if TYPE_CHECKING:
    import azure.functions as func

    from shared.services import Services

_ANSWER = Answer(200, "the cause, what to do, the doors and what happened", (Explanation,))


@endpoint(
    "GET",
    "devices/{registrationId}/explanation",
    answers=[_ANSWER],
    refuses={404},
    role=Role.FLEET_READ,
    scope=of_device,
)
async def get_explanation(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say why a device is as it is, and what to do."""
    return json_answer(await services.explaining.of_device(registration_id_of(request)))


@endpoint("POST", "explanations", answers=[_ANSWER], body=Question, role=Role.FLEET_READ)
async def create_explanation(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Say what a chain, a thumbprint or lines of a device's log mean, and why their device is as it is.

    Whose device it is shows in the answer alone, so the role is needed for all groups.
    """
    asked = parse(Question, body_of(request, limit=FILE_LIMIT))
    explaining = services.explaining
    if asked.certificate is not None:
        found = await explaining.of_certificate(asked.certificate, asked.registration_id)
    elif asked.thumbprint is not None:
        found = await explaining.of_thumbprint(asked.thumbprint, asked.registration_id)
    else:
        found = await explaining.of_log(asked.log or "", asked.registration_id)
    return json_answer(found)
