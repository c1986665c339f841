"""The HTTP API. Reads answer from the ledger and the services; what takes long is queued and answered with 202."""

from __future__ import annotations

import json
import uuid
from datetime import date, datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import azure.functions as func
from cryptography.hazmat.primitives.serialization import Encoding

from shared import webhooks
from shared.contracts import (
    MESSAGE_LIMIT,
    AuthorityCertificate,
    AuthorityImport,
    CertificateCheck,
    CertificateKind,
    CertificateRequest,
    Contract,
    DeviceOrder,
    DeviceOrderSchema,
    DeviceState,
    EnrollmentCheck,
    EnrollmentGroupDefinition,
    EnrollmentGroupRequest,
    EnrollmentGroupRoll,
    GroupAction,
    IdentityChange,
    IndividualEnrollmentDefinition,
    Queue,
    Renewal,
    RenewalRequest,
    Revocation,
    RevocationAction,
    RevocationRequest,
    VerificationCode,
    decoded,
    octets,
    parse,
    path_value,
)
from shared.errors import NotFound, Rejected
from shared.pki import names
from shared.workflows.status_answers import CONTENT_TYPE as OCSP_RESPONSE
from shared.workflows.status_answers import is_successful
from triggers import outcomes, preconditions
from triggers.openapi import Operation, document

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from shared.services import Services
    from shared.workflows.revocation_lists import ListDescription

    type Handler = Callable[[Services, func.HttpRequest], Awaitable[func.HttpResponse]]

blueprint = func.Blueprint()
_operations: list[Operation] = []
_PAGING = (("pageSize", "1 to 1000, default 100"), ("continuationToken", "of the page before"))
_OK = (200, "found")
_QUEUED = (202, "queued; Location names where the outcome will be")
_PAGE_LIMIT = 1000
_CRL_SECONDS = 3600
_FILE_LIMIT = 128 * 1024
"""Bytes of a body that goes through no queue: 64 KiB of PKCS#12 in base64, and what is around it."""


def _endpoint(
    method: str,
    route: str,
    *,
    success: tuple[int, str] = _OK,
    body: type[Contract] | None = None,
    parameters: tuple[tuple[str, str], ...] = (),
    anonymous: bool = False,
) -> Callable[[Handler], Handler]:
    """Register a handler as an HTTP function, and as an operation of the OpenAPI document."""
    level = func.AuthLevel.ANONYMOUS if anonymous else func.AuthLevel.FUNCTION

    def register(handler: Handler) -> Handler:
        name = handler.__name__
        summary = (handler.__doc__ or "").splitlines()[0].rstrip(".")
        _operations.append(
            Operation(name, method, route, summary, anonymous, success, body=body, parameters=parameters)
        )

        @blueprint.function_name(name)
        @blueprint.route(route=route, methods=[method], auth_level=level)
        async def entry(req: func.HttpRequest) -> func.HttpResponse:
            return await outcomes.answer(req, handler)

        return handler

    return register


# --- shapes of requests and answers ---


def _json(body: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    return func.HttpResponse(
        json.dumps(body, default=_plain), status_code=status, mimetype="application/json", headers=dict(headers or {})
    )


def _plain(value: Any) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _body(request: func.HttpRequest, *, optional: bool = False, limit: int = MESSAGE_LIMIT, way_out: str = "") -> Any:
    raw = request.get_body()
    if not raw and optional:
        return {}
    if len(raw) > limit:
        raise Rejected.because(f"the body has {len(raw)} bytes, at most {limit} are taken{way_out}")
    return decoded(raw, "the body")


def _registration_id(request: func.HttpRequest) -> str:
    return path_value("registrationId", request.route_params["registrationId"])


def _group_id(request: func.HttpRequest) -> str:
    return path_value("enrollmentGroup", request.route_params["id"])


def _request_id(request: func.HttpRequest) -> str:
    """Take the caller's Idempotency-Key as the request's id, or make one."""
    given = request.headers.get("Idempotency-Key")
    return path_value("requestId", given) if given else uuid.uuid4().hex


def _page_size(request: func.HttpRequest) -> int:
    text = request.params.get("pageSize", "100")
    if not text.isdecimal() or not 1 <= int(text) <= _PAGE_LIMIT:
        raise Rejected.because(f"{text!r} is no page size; give 1 to {_PAGE_LIMIT}", field="pageSize")
    return int(text)


def _page(items: Any, continuation: str | None) -> func.HttpResponse:
    return _json({"items": items, "continuationToken": continuation})


async def _queued(
    services: Services, queue: Queue, request: Contract, location: str, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    await services.outbox.order(queue, request)
    ids = request.model_dump(by_alias=True, include={"request_id", "order_id"})
    body = {"status": "queued", "location": location, **ids}
    return _json(body, HTTPStatus.ACCEPTED, {"Location": location, **(headers or {})})


# --- health and description ---


@_endpoint("GET", "health/live", success=(200, "the worker runs"), anonymous=True)
async def health_live(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Tell that the worker runs."""
    return _json({"status": "ok"})


@_endpoint("GET", "health/ready", success=(200, "every dependency answers; 503 if one does not"))
async def health_ready(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Tell of each dependency whether it answers and lets the app in."""
    report = await services.readiness.report()
    ready = all(outcome == "ok" for outcome in report.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return _json({"status": "ok" if ready else "unavailable", "dependencies": report}, status)


@_endpoint("GET", "openapi.json", success=(200, "this document"))
async def openapi(_services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Describe this API."""
    return _json(document(_operations))


# --- certificate authorities and certificates ---


def _authority(record: Any) -> dict[str, Any]:
    return {
        "name": record.name,
        "kind": record.kind,
        "state": record.state,
        "issuer": record.signed_by,
        "enrollmentGroup": record.enrollment_group,
        "keyAlgorithm": record.key_algorithm,
        "custody": record.custody,
        "keyId": record.key_id,
        "pathLength": record.path_length,
        "serialNumber": record.serial_number,
        "thumbprint": record.thumbprint,
        "notBefore": record.not_before,
        "notAfter": record.not_after,
        "proofOfPossession": record.proof_of_possession,
        "crlNumber": record.crl_number,
    }


@_endpoint("GET", "certificate-authorities")
async def list_certificate_authorities(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """List the certificate authorities."""
    return _page([_authority(record) async for record in services.authorities.list()], None)


@_endpoint("POST", "certificate-authorities", success=_QUEUED, body=CertificateRequest)
async def create_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a root or an issuing CA made."""
    body = _body(request)
    if isinstance(body, dict):
        body = {"requestId": _request_id(request), **body}
    wanted = parse(CertificateRequest, body)
    if wanted.kind not in {CertificateKind.ROOT, CertificateKind.INTERMEDIATE}:
        raise Rejected.because(f"'{wanted.kind}' is no CA; give 'root' or 'intermediate'", field="kind")
    return await _queued(services, Queue.CERTIFICATE_REQUESTS, wanted, f"/api/certificate-authorities/{wanted.name}")


@_endpoint("GET", "certificate-authorities/{name}", parameters=(("format", "json, the default, or pem for the chain"),))
async def get_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a certificate authority, or give its chain up to the root as PEM."""
    name = request.route_params["name"]
    wants_pem = "application/x-pem-file" in request.headers.get("Accept", "")
    if wants_pem or request.params.get("format") == "pem":
        chain = (await services.authorities.load(name)).chain
        return func.HttpResponse("".join(map(names.pem, chain)), mimetype="application/x-pem-file")
    record = await services.authorities.get(name)
    return _json({**_authority(record), "certificate": record.certificate})


@_endpoint(
    "POST",
    "certificate-authorities/{name}/verification-certificates",
    success=(201, "the verification certificate, in PEM"),
    body=VerificationCode,
)
async def create_verification_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Prove possession of a CA's key to DPS or IoT Hub by hand: sign the code that the service gave."""
    code = parse(VerificationCode, _body(request)).verification_code
    certificate = await services.authorities.verification_certificate(
        request.route_params["name"], code, cause=_request_id(request)
    )
    serial = names.serial_text(certificate.serial_number)
    return _json({"serialNumber": serial, "certificate": names.pem(certificate)}, HTTPStatus.CREATED)


@_endpoint("GET", "certificate-authorities/{name}/signing-request", success=(200, "the PKCS#10 request, in PEM"))
async def get_signing_request(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the signing request of a CA that is signed elsewhere."""
    name = request.route_params["name"]
    record = await services.authorities.get(name)
    if record.signing_request is None:
        raise NotFound.because(f"{name!r} has no signing request; only a CA made with externallySigned has one")
    return func.HttpResponse(record.signing_request, mimetype="application/x-pem-file")


@_endpoint("PUT", "certificate-authorities/{name}/certificate", success=(200, "installed"), body=AuthorityCertificate)
async def install_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Install the certificate of a CA that was signed elsewhere, with the chain up to its root."""
    certificates = parse(AuthorityCertificate, _body(request, limit=_FILE_LIMIT)).certificate
    record = await services.authorities.install(request.route_params["name"], certificates.encode())
    return _json(_authority(record))


@_endpoint("POST", "certificate-authorities/{name}/import", success=(201, "imported"), body=AuthorityImport)
async def import_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Import an owner's root or issuing CA with its key, as PFX or PEM."""
    name = path_value("name", request.route_params["name"])
    wanted = parse(AuthorityImport, _body(request, limit=_FILE_LIMIT))
    record = await services.authorities.take_over(name, wanted, cause=_request_id(request))
    return _json(_authority(record), HTTPStatus.CREATED, {"Location": f"/api/certificate-authorities/{name}"})


@_endpoint("POST", "certificates", success=_QUEUED, body=CertificateRequest)
async def create_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have one certificate made."""
    body = _body(request)
    if isinstance(body, dict):
        body = {"requestId": _request_id(request), **body}
    wanted = parse(CertificateRequest, body)
    locations = {
        CertificateKind.DEVICE: f"/api/devices/{wanted.name.lower()}",
        CertificateKind.VERIFICATION: f"/api/certificate-authorities/{wanted.issuer}",
    }
    location = locations.get(wanted.kind, f"/api/certificate-authorities/{wanted.name}")
    return await _queued(services, Queue.CERTIFICATE_REQUESTS, wanted, location)


@_endpoint("GET", "certificates/{serialNumber}")
async def get_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a certificate by its serial number."""
    serial = path_value("serialNumber", request.route_params["serialNumber"])
    return _json(await services.certificate_requests.describe(serial))


@_endpoint("POST", "certificates/check", success=(200, "what DPS would answer, and why"), body=CertificateCheck)
async def check_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Tell whether DPS would accept a chain, from anybody's CA, and every reason why it would not."""
    wanted = parse(CertificateCheck, _body(request, limit=_FILE_LIMIT))
    return _json(await services.previews.check(wanted.enrollment_group, wanted.registration_id, wanted.chain))


# --- enrollment groups ---


@_endpoint("GET", "enrollment-groups")
async def list_enrollment_groups(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """List the enrollment groups."""
    return _page(await services.enrollment_groups.list_groups(), None)


@_endpoint("GET", "enrollment-groups/{id}")
async def get_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an enrollment group, with what DPS holds of it; its ETag guards changes."""
    described = await services.enrollment_groups.describe(_group_id(request))
    return _json(described, headers=_etag(described))


@_endpoint("PUT", "enrollment-groups/{id}", success=_QUEUED, body=EnrollmentGroupDefinition)
async def put_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have an enrollment group created, or changed if it exists; If-Match guards the change."""
    definition = parse(EnrollmentGroupDefinition, _body(request, optional=True))
    return await _group_request(services, request, GroupAction.PUT, definition)


@_endpoint("DELETE", "enrollment-groups/{id}", success=_QUEUED)
async def delete_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have an enrollment group deleted; its devices stay in their hubs."""
    return await _group_request(services, request, GroupAction.DELETE)


@_endpoint("POST", "enrollment-groups/{id}/disable", success=_QUEUED)
async def disable_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have new devices of an enrollment group refused."""
    return await _group_request(services, request, GroupAction.DISABLE)


@_endpoint("POST", "enrollment-groups/{id}/enable", success=_QUEUED)
async def enable_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have new devices of an enrollment group accepted again."""
    return await _group_request(services, request, GroupAction.ENABLE)


@_endpoint("POST", "enrollment-groups/{id}/roll", success=_QUEUED, body=EnrollmentGroupRoll)
async def roll_enrollment_group(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a new issuing CA take over in an enrollment group."""
    roll = parse(EnrollmentGroupRoll, _body(request, optional=True))
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
    group = _group_id(request)
    body = {
        **(definition.model_dump(mode="json", by_alias=True, exclude_unset=True) if definition else {}),
        "requestId": _request_id(request),
        "enrollmentGroup": group,
        "action": action.value,
        "ifMatch": request.headers.get("If-Match"),
        "ifNoneMatch": request.headers.get("If-None-Match") if action is GroupAction.PUT else None,
    }
    wanted = parse(EnrollmentGroupRequest, body)
    headers = {}
    if not await services.enrollment_groups.is_repeated(wanted):
        headers = await _foreseen(services, request, wanted)
    location = f"/api/enrollment-groups/{group}"
    return await _queued(services, Queue.ENROLLMENT_GROUP_REQUESTS, wanted, location, headers)


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
    return _etag(described)


def _etag(described: Mapping[str, Any]) -> dict[str, str]:
    return {"ETag": preconditions.quoted(described["etag"])} if described.get("etag") else {}


@_endpoint("GET", "enrollment-groups/{id}/registrations", parameters=_PAGING)
async def list_registrations(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List the registration records of an enrollment group in DPS."""
    items, following = await services.enrollment_groups.registrations(
        _group_id(request), size=_page_size(request), continuation=request.params.get("continuationToken")
    )
    return _page(items, following)


@_endpoint(
    "POST",
    "enrollment-groups/{id}/check",
    success=(200, "the entry that DPS would match, its answer, and every reason"),
    body=EnrollmentCheck,
)
async def check_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Tell what DPS would answer to a device with this chain, and why."""
    wanted = parse(EnrollmentCheck, _body(request, limit=_FILE_LIMIT))
    return _json(await services.previews.check(_group_id(request), wanted.registration_id, wanted.chain))


# --- individual enrollments ---


@_endpoint("GET", "enrollments/{registrationId}")
async def get_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show the individual enrollment of a device, as DPS holds it; its ETag guards changes."""
    entry = await services.individual_enrollments.get(_registration_id(request))
    return _json(entry, headers=_etag(entry))


@_endpoint(
    "PUT",
    "enrollments/{registrationId}",
    success=(200, "changed; 201 if it was created"),
    body=IndividualEnrollmentDefinition,
)
async def put_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Create the individual enrollment of a device, or change it; If-Match guards the change."""
    registration_id = _registration_id(request)
    definition = parse(IndividualEnrollmentDefinition, _body(request, optional=True))
    if_match = await _enrollment_expected(services, request, registration_id)
    entry, created = await services.individual_enrollments.put(registration_id, definition, if_match=if_match)
    return _json(entry, HTTPStatus.CREATED if created else HTTPStatus.OK, _etag(entry))


@_endpoint("POST", "enrollments/{registrationId}/disable", success=(200, "shut out of DPS"))
async def disable_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Shut one device out of DPS, whatever its group says; its hub still lets it in."""
    registration_id = _registration_id(request)
    if_match = await _enrollment_expected(services, request, registration_id)
    entry = await services.individual_enrollments.disable(registration_id, if_match=if_match)
    return _json(entry, headers=_etag(entry))


@_endpoint("DELETE", "enrollments/{registrationId}", success=(204, "there is none; a group decides"))
async def delete_enrollment(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Delete the individual enrollment of a device: its group, if it has one, decides about it again."""
    registration_id = _registration_id(request)
    if_match = await _enrollment_expected(services, request, registration_id)
    await services.individual_enrollments.delete(registration_id, if_match=if_match)
    return func.HttpResponse(status_code=HTTPStatus.NO_CONTENT)


async def _enrollment_expected(services: Services, request: func.HttpRequest, registration_id: str) -> str | None:
    """Check the request's conditions, if it has any."""
    if not (request.headers.get("If-Match") or request.headers.get("If-None-Match")):
        return None
    entry = await services.individual_enrollments.find(registration_id)
    what = f"the individual enrollment {registration_id!r}"
    return preconditions.check(request.headers, what, entry["etag"] if entry else None)


# --- orders and devices ---


@_endpoint("POST", "device-orders", success=_QUEUED, body=DeviceOrderSchema)
async def create_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Order devices; orderId is the idempotency key."""
    way_out = ": put the devices of a large order into a blob and name it in devicesUrl"
    order = parse(DeviceOrder, _body(request, way_out=way_out))
    if await services.device_orders.check_unchanged(order) is None:
        await services.registrations.usable_group(order.enrollment_group)
    return await _queued(services, Queue.DEVICE_ORDERS, order, f"/api/device-orders/{order.order_id}")


@_endpoint("GET", "device-orders/{orderId}")
async def get_device_order(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show an order: its progress, and every device."""
    return _json(await services.device_orders.describe(request.route_params["orderId"]))


@_endpoint(
    "GET", "devices", parameters=(("enrollmentGroup", "only of this group"), ("state", "only in this state"), *_PAGING)
)
async def list_devices(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List devices."""
    group, state = request.params.get("enrollmentGroup"), request.params.get("state")
    if state is not None and state not in list(DeviceState):
        raise Rejected.because(f"{state!r} is no state; states are {', '.join(DeviceState)}", field="state")
    items, following = await services.devices.page(
        enrollment_group=path_value("enrollmentGroup", group) if group else None,
        state=DeviceState(state) if state else None,
        size=_page_size(request),
        continuation=request.params.get("continuationToken"),
    )
    return _page(items, following)


@_endpoint("GET", "devices/{registrationId}")
async def get_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a device, with its history."""
    return _json(await services.devices.describe(_registration_id(request)))


_FORMATS = {"pem": "application/x-pem-file", "pfx": "application/x-pkcs12"}


@_endpoint(
    "GET",
    "devices/{registrationId}/bundle",
    success=(200, "the bundle; x-password-secret names the vault secret with its password"),
    parameters=(("format", "pem, the default, or pfx"),),
)
async def get_bundle(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Hand out a device's bundle; one with a service-made key is handed out once."""
    wanted = request.params.get("format", "pem")
    if wanted not in _FORMATS:
        raise Rejected.because(f"{wanted!r} is no format; give pem or pfx", field="format")
    registration_id = _registration_id(request)
    bundle = await services.devices.hand_out(registration_id, wanted=wanted)
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{registration_id}.{wanted}"',
        "x-serial-number": bundle.serial_number,
    }
    if bundle.password_secret:
        headers["x-password-secret"] = bundle.password_secret
    return func.HttpResponse(bundle.content, mimetype=_FORMATS[wanted], headers=headers)


@_endpoint("POST", "devices/{registrationId}/revoke", success=_QUEUED, body=Revocation)
async def revoke_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a device revoked."""
    reason = parse(Revocation, _body(request, optional=True)).reason
    return await _revocation(services, request, reason=reason)


@_endpoint("POST", "devices/{registrationId}/reinstate", success=_QUEUED)
async def reinstate_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a hold undone."""
    return await _revocation(services, request, action=RevocationAction.REINSTATE)


async def _revocation(services: Services, request: func.HttpRequest, **fields: Any) -> func.HttpResponse:
    registration_id = _registration_id(request)
    await services.devices.describe(registration_id)
    wanted = RevocationRequest(request_id=_request_id(request), registration_id=registration_id, **fields)
    return await _queued(services, Queue.REVOCATION_REQUESTS, wanted, f"/api/devices/{registration_id}")


@_endpoint("POST", "devices/{registrationId}/renew", success=_QUEUED, body=Renewal)
async def renew_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a device's certificate renewed."""
    registration_id = _registration_id(request)
    csr = parse(Renewal, _body(request, optional=True)).csr
    await services.devices.describe(registration_id)
    wanted = RenewalRequest(request_id=_request_id(request), registration_id=registration_id, csr=csr)
    return await _queued(services, Queue.RENEWAL_REQUESTS, wanted, f"/api/devices/{registration_id}")


@_endpoint("DELETE", "devices/{registrationId}", success=(204, "out of service"))
async def delete_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Take a device out of service: revoked, and gone from its hub."""
    await services.devices.delete(_registration_id(request), cause=_request_id(request))
    return func.HttpResponse(status_code=HTTPStatus.NO_CONTENT)


# --- device identities ---


@_endpoint("GET", "devices/{registrationId}/identity")
async def get_identity(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show the identity of a device in the hub that DPS has assigned to it."""
    return _json(await services.identities.describe(_registration_id(request)))


@_endpoint("DELETE", "devices/{registrationId}/identity", success=(204, "gone from its hub"))
async def delete_identity(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Delete the identity of a device in its hub; it gets a new one when it registers again."""
    await services.identities.delete(_registration_id(request))
    return func.HttpResponse(status_code=HTTPStatus.NO_CONTENT)


@_endpoint("POST", "devices/{registrationId}/disable", success=(200, "the identity"), body=IdentityChange)
async def disable_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Keep a device out of its hub and end its connection; its certificate stays valid."""
    return await _switched(services, request, enabled=False)


@_endpoint("POST", "devices/{registrationId}/enable", success=(200, "the identity"), body=IdentityChange)
async def enable_device(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Let a device that was disabled into its hub again."""
    return await _switched(services, request, enabled=True)


async def _switched(services: Services, request: func.HttpRequest, *, enabled: bool) -> func.HttpResponse:
    given = parse(IdentityChange, _body(request, optional=True)).reason
    reason = given or f"{'enabled' if enabled else 'disabled'} by an operator"
    return _json(await services.identities.switch(_registration_id(request), enabled=enabled, reason=reason))


# --- revocations ---


@_endpoint("POST", "revocations", success=_QUEUED, body=RevocationRequest)
async def create_revocation(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Take a webhook that revokes or reinstates; signed after Standard Webhooks where a secret is set."""
    identifier = await _authenticated(services, request)
    body = _body(request)
    if isinstance(body, dict):
        body = {"requestId": identifier or _request_id(request), **body}
    wanted = parse(RevocationRequest, body)
    location = f"/api/devices/{wanted.registration_id}" if wanted.registration_id else "/api/devices"
    return await _queued(services, Queue.REVOCATION_REQUESTS, wanted, location)


async def _authenticated(services: Services, request: func.HttpRequest) -> str | None:
    """Check the webhook's signature, if this deployment wants one, and give its id."""
    name = services.settings.webhook_secret_name
    if name is None:
        return None
    secret = await services.clients.secrets.get(name)
    if secret is None:
        raise RuntimeError(f"the vault has no secret {name!r}, which WEBHOOK_SECRET_NAME names")
    headers = {header.lower(): value for header, value in request.headers.items()}
    identifier = webhooks.verify(secret, headers, request.get_body(), services.clock())
    return path_value("requestId", identifier)


def _file_name(request: func.HttpRequest, suffix: str) -> str:
    name: str = request.route_params["file"]
    if not name.endswith(suffix):
        raise NotFound.because(f"{name!r} is not here; files end with {suffix}")
    return name.removesuffix(suffix)


@_endpoint("GET", "crl/{file}", success=(200, "the CRL, in DER"), anonymous=True)
async def get_crl(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the newest CRL of a certificate authority, as {issuer}.crl."""
    issuer = _file_name(request, ".crl")
    if request.headers.get("If-None-Match") or request.headers.get("If-Modified-Since"):
        present = await services.revocation_lists.describe(issuer)  # without reading it: a list may have megabytes
        if _is_unchanged(request, present.etag, present.this_update):
            headers = _list_headers(present, services.clock())
            return func.HttpResponse(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    described, content = await services.revocation_lists.read(issuer)
    return func.HttpResponse(
        content, mimetype="application/pkix-crl", headers=_list_headers(described, services.clock())
    )


def _list_headers(described: ListDescription, now: datetime) -> dict[str, str]:
    left = int((described.next_update - now).total_seconds())
    return {
        "ETag": described.etag,
        "Last-Modified": format_datetime(described.this_update, usegmt=True),
        # Never longer than the list is good for; and a revocation is to be seen soon.
        "Cache-Control": f"public, max-age={max(0, min(left, _CRL_SECONDS))}",
    }


def _is_unchanged(request: func.HttpRequest, etag: str, modified: datetime) -> bool:
    """Tell whether a caller has what is there (RFC 9110 section 13): If-None-Match counts before If-Modified-Since."""
    tags = request.headers.get("If-None-Match")
    if tags is not None:
        return tags.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in tags.split(","))
    since = request.headers.get("If-Modified-Since")
    try:
        return since is not None and modified <= parsedate_to_datetime(since)
    except (ValueError, TypeError):
        return False


@_endpoint("GET", "ca/{file}", success=(200, "the certificate, in DER"), anonymous=True)
async def get_ca_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the certificate of a certificate authority, as {issuer}.cer (RFC 5280 section 4.2.2.1)."""
    issuer = await services.authorities.load(_file_name(request, ".cer"))
    return func.HttpResponse(issuer.certificate.public_bytes(Encoding.DER), mimetype="application/pkix-cert")


@_endpoint("POST", "ocsp/{issuer}", success=(200, "the answer, in DER (RFC 6960)"), anonymous=True)
async def post_ocsp(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Answer an OCSP request about a certificate of a CA."""
    return await _ocsp(services, request, request.get_body())


@_endpoint("GET", "ocsp/{issuer}/{*request}", success=(200, "the answer, in DER (RFC 6960)"), anonymous=True)
async def get_ocsp(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Answer an OCSP request that stands in the path, in base64 (RFC 6960 appendix A.1)."""
    encoded = unquote(request.route_params["request"])
    answer = await _ocsp(services, request, octets("request", encoded))
    if is_successful(answer.get_body()):
        # RFC 5019 section 6.2; as for CRLs, a revocation is to be seen soon. An error is not kept.
        answer.headers["Cache-Control"] = "public, no-transform, must-revalidate, max-age=300"
    return answer


async def _ocsp(services: Services, request: func.HttpRequest, content: bytes) -> func.HttpResponse:
    answer = await services.status_answers.answer(request.route_params["issuer"], content)
    return func.HttpResponse(answer, mimetype=OCSP_RESPONSE)


# --- rejections ---


@_endpoint("GET", "rejections", parameters=_PAGING)
async def list_rejections(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """List what was refused or set aside, with the reasons and the message itself."""
    items, following = await services.rejected_messages.page(
        size=_page_size(request), continuation=request.params.get("continuationToken")
    )
    return _page(items, following)


@_endpoint("POST", "rejections/{id}/replay", success=(202, "put back into its queue"))
async def replay_rejection(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Put a refused message back into its queue."""
    return _json(await services.rejected_messages.replay(request.route_params["id"]), HTTPStatus.ACCEPTED)
