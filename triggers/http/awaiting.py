"""Calls that wait for a second person, and are sent again by their callers once they are approved."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from shared.contracts.answers_approvals import AwaitingApproval
from shared.errors import AwaitsApproval
from triggers.openapi import JSON, Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.services import Services

    type Handler = Callable[[Services, func.HttpRequest], Awaitable[func.HttpResponse]]

AWAITING = Answer(
    202,
    "awaits a second person: send it again once it is approved",
    (AwaitingApproval,),
    (("Location", "the approval"),),
)


def gated(handler: Handler) -> Handler:
    """Answer a call that waits for a second person by saying so."""

    async def answer(services: Services, request: func.HttpRequest) -> func.HttpResponse:
        try:
            return await handler(services, request)
        except AwaitsApproval as awaited:
            location = f"/api/approvals/{awaited.approval_id}"
            body = AwaitingApproval(
                status="awaitingApproval",
                location=location,
                approval_id=awaited.approval_id,
                waiting_for=str(awaited),
            )
            text = json.dumps(body.model_dump(mode="json", by_alias=True))
            return func.HttpResponse(
                text, status_code=HTTPStatus.ACCEPTED, mimetype=JSON, headers={"Location": location}
            )

    return answer
