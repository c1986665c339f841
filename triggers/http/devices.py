"""Devices, their identities in the hubs, and what revokes them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Literal

import azure.functions as func
from pydantic import Field

from shared.contracts.answers_devices import Device, Identity, RevocationPreview
from shared.contracts.devices import (
    IdentityChange,
    Renewal,
    RenewalRequest,
    Revocation,
    RevocationAction,
    RevocationCall,
    RevocationRequest,
)
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.callers import Role
from shared.errors import Rejected
from triggers.http.endpoints import (
    DRY_RUN,
    QUEUED,
    authenticated,
    body_of,
    endpoint,
    holder_of,
    is_dry,
    is_new,
    json_answer,
    queued,
    request_id_of,
    request_of,
)
from triggers.http.paths import registration_id_of
from triggers.http.scopes import of_device, of_revocation
from triggers.openapi import IDEMPOTENCY_KEY, SIGNATURE, Answer, Parameter

if TYPE_CHECKING:
    from shared.services import Services


@endpoint(
    "GET",
    "devices/{registrationId}",
    answers=[Answer(200, "the device", (Device,))],
    refuses={404},
    role=Role.FLEET_READ,
    scope=of_device,
)
async def get_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a device, with its history."""
    return json_answer(await services.devices.describe(registration_id_of(request)))


_FORMATS = {"pem": "application/x-pem-file", "pfx": "application/x-pkcs12"}


@endpoint(
    "GET",
    "devices/{registrationId}/bundle",
    answers=[
        Answer(
            200,
            "the bundle",
            tuple(_FORMATS.values()),
            (
                ("x-serial-number", "of the certificate"),
                ("x-password-secret", "the vault secret with the bundle's password, where it holds a key"),
            ),
        )
    ],
    refuses={404, 409, 410},
    parameters=(
        Parameter("format", "what it is wanted as", Annotated[Literal["pem", "pfx"], Field(default="pem")]),
        IDEMPOTENCY_KEY,
    ),
    head=False,
    role=Role.BUNDLES_READ,
    scope=of_device,
    act="handOutBundle",
)
async def get_bundle(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Hand out a device's bundle.

    One with a service-made key goes to one caller, who gets it again until the receipt is confirmed or a while is over.
    A caller is known by the function key, and by the Idempotency-Key where there is one.
    """
    wanted = request.params.get("format", "pem")
    if wanted not in _FORMATS:
        raise Rejected.because(f"{wanted!r} is not a format; give pem or pfx", field="format")
    registration_id = registration_id_of(request)
    bundle = await services.devices.hand_out(registration_id, wanted=wanted, caller=holder_of(request))
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{registration_id}.{wanted}"',
        "x-serial-number": bundle.serial_number,
    }
    if bundle.password_secret:
        headers["x-password-secret"] = bundle.password_secret
    return func.HttpResponse(bundle.content, mimetype=_FORMATS[wanted], headers=headers)


@endpoint(
    "DELETE",
    "devices/{registrationId}/bundle",
    answers=[Answer(204, "the private key in it is deleted")],
    refuses={404, 409, 410},
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.BUNDLES_READ,
    scope=of_device,
    act="confirmBundle",
)
async def confirm_bundle(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Confirm the receipt of a device's bundle: its private key is deleted here."""
    await services.devices.confirm(registration_id_of(request), caller=holder_of(request))
    return func.HttpResponse(status_code=HTTPStatus.NO_CONTENT)


@endpoint(
    "POST",
    "devices/{registrationId}/revoke",
    answers=[QUEUED],
    refuses={404, 409},
    body=Revocation,
    parameters=(IDEMPOTENCY_KEY, *SIGNATURE),
    role=Role.DEVICES_REVOKE,
    scope=of_device,
)
async def revoke_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a device revoked; signed as a webhook is, where a secret is set."""
    return await _about_device(services, request, RevocationAction.REVOKE)


@endpoint(
    "POST",
    "devices/{registrationId}/reinstate",
    answers=[QUEUED],
    refuses={404, 409},
    parameters=(IDEMPOTENCY_KEY, *SIGNATURE),
    role=Role.DEVICES_REVOKE,
    scope=of_device,
)
async def reinstate_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a hold undone; signed as a webhook is, where a secret is set."""
    return await _about_device(services, request, RevocationAction.REINSTATE)


@endpoint(
    "DELETE",
    "devices/{registrationId}",
    answers=[QUEUED],
    refuses={404, 409},
    parameters=(IDEMPOTENCY_KEY, *SIGNATURE),
    role=Role.DEVICES_REVOKE,
    scope=of_device,
)
async def delete_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a device revoked and taken out of its hub; signed as a webhook is, where a secret is set."""
    return await _about_device(services, request, RevocationAction.DELETE)


async def _about_device(services: Services, request: func.HttpRequest, action: RevocationAction) -> func.HttpResponse:
    identifier = await authenticated(services, request)
    registration_id = registration_id_of(request)
    body = {
        "requestId": identifier or request_id_of(request),
        "registrationId": registration_id,
        "action": action.value,
    }
    if action is RevocationAction.REVOKE:
        body["reason"] = parse(Revocation, body_of(request, optional=True)).reason.value
    wanted = parse(RevocationRequest, body)
    return await _queued_revocation(services, wanted)


@endpoint(
    "POST",
    "devices/{registrationId}/renew",
    answers=[QUEUED],
    refuses={404, 409},
    body=Renewal,
    body_required=False,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.ORDERS_WRITE,
    scope=of_device,
)
async def renew_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a device's certificate renewed."""
    registration_id = registration_id_of(request)
    csr = parse(Renewal, body_of(request, optional=True)).csr
    wanted = RenewalRequest(request_id=request_id_of(request), registration_id=registration_id, csr=csr)
    if await is_new(services, Queue.RENEWAL_REQUESTS, wanted):
        await services.renewals.check(wanted)
    return await queued(services, Queue.RENEWAL_REQUESTS, wanted)


# --- device identities ---

_IDENTITY = Answer(200, "the identity", (Identity,))


@endpoint(
    "GET",
    "devices/{registrationId}/identity",
    answers=[_IDENTITY],
    refuses={404},
    role=Role.FLEET_READ,
    scope=of_device,
)
async def get_identity(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show the identity of a device in the hub that DPS has assigned to it."""
    return json_answer(await services.identities.describe(registration_id_of(request)))


@endpoint(
    "DELETE",
    "devices/{registrationId}/identity",
    answers=[Answer(204, "gone from its hub")],
    refuses={404, 409},
    role=Role.DEVICES_REVOKE,
    scope=of_device,
    act="deleteIdentity",
)
async def delete_identity(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Delete the identity of a device in its hub; it gets a new one when it registers again."""
    await services.identities.delete(registration_id_of(request))
    return func.HttpResponse(status_code=HTTPStatus.NO_CONTENT)


@endpoint(
    "POST",
    "devices/{registrationId}/disable",
    answers=[_IDENTITY],
    refuses={404, 409},
    body=IdentityChange,
    body_required=False,
    role=Role.DEVICES_REVOKE,
    scope=of_device,
    act="disable",
)
async def disable_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Keep a device out of its hub and end its connection; its certificate stays valid."""
    return await _switched(services, request, enabled=False)


@endpoint(
    "POST",
    "devices/{registrationId}/enable",
    answers=[_IDENTITY],
    refuses={404, 409},
    body=IdentityChange,
    body_required=False,
    role=Role.DEVICES_REVOKE,
    scope=of_device,
    act="enable",
)
async def enable_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Let a device that was disabled into its hub again."""
    return await _switched(services, request, enabled=True)


async def _switched(services: Services, request: func.HttpRequest, *, enabled: bool) -> func.HttpResponse:
    given = parse(IdentityChange, body_of(request, optional=True)).reason
    reason = given or f"{'enabled' if enabled else 'disabled'} by an operator"
    identity = await services.identities.switch(registration_id_of(request), enabled=enabled, reason=reason)
    return json_answer(identity)


# --- revocations ---


@endpoint(
    "POST",
    "revocations",
    answers=[QUEUED, Answer(200, "what it would do (dryRun)", (RevocationPreview,))],
    refuses={404, 409},
    body=RevocationCall,
    parameters=(IDEMPOTENCY_KEY, DRY_RUN, *SIGNATURE),
    role=Role.DEVICES_REVOKE,
    scope=of_revocation,
)
async def create_revocation(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Take a webhook that revokes, reinstates or deletes; signed after Standard Webhooks where a secret is set."""
    identifier = await authenticated(services, request)
    wanted = request_of(RevocationCall, request, request_id=identifier).request()
    if is_dry(request):
        return json_answer(await services.revocations.foresee(wanted))
    return await _queued_revocation(services, wanted)


async def _queued_revocation(services: Services, wanted: RevocationRequest) -> func.HttpResponse:
    if await is_new(services, Queue.REVOCATION_REQUESTS, wanted):
        await services.revocations.check(wanted)
    return await queued(services, Queue.REVOCATION_REQUESTS, wanted)
