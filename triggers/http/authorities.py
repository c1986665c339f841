"""Certificate authorities and single certificates."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Literal

import azure.functions as func
from pydantic import Field

from shared.contracts.answers_certificates import (
    Authority,
    AuthorityPage,
    AuthoritySummary,
    Certificate,
    Check,
    VerificationCertificate,
)
from shared.contracts.certificates import (
    AuthorityCertificate,
    AuthorityImport,
    CertificateCheck,
    CertificateRequest,
    VerificationCode,
)
from shared.contracts.ids import path_value
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.callers import Role
from shared.domain.words import CertificateKind
from shared.errors import NotFound, Rejected
from shared.pki import names
from triggers import callers
from triggers.http.awaiting import AWAITING
from triggers.http.endpoints import (
    FILE_LIMIT,
    QUEUED,
    body_of,
    endpoint,
    idempotency_key_of,
    is_new,
    json_answer,
    page_answer,
    queued,
    request_id_of,
    request_of,
)
from triggers.http.paths import authority_name_of
from triggers.http.scopes import of_authority, of_body, of_certificate, of_new_certificate
from triggers.openapi import IDEMPOTENCY_KEY, Answer, Parameter

if TYPE_CHECKING:
    from shared.domain.authorities import AuthorityRecord
    from shared.services import Services

PEM = "application/x-pem-file"


def _summary(record: AuthorityRecord) -> AuthoritySummary:
    return AuthoritySummary(
        name=record.name,
        kind=record.kind,
        state=record.state,
        issuer=record.signed_by,
        enrollment_group=record.enrollment_group,
        key_algorithm=record.key_algorithm,
        custody=record.custody,
        key_id=record.key_id,
        path_length=record.path_length,
        serial_number=record.serial_number,
        thumbprint=record.thumbprint,
        not_before=record.not_before,
        not_after=record.not_after,
        proof_of_possession=record.proof_of_possession,
        problem=record.problem,
        crl_number=record.crl_number,
    )


@endpoint(
    "GET", "certificate-authorities", answers=[Answer(200, "all of them", (AuthorityPage,))], role=Role.FLEET_READ
)
async def list_certificate_authorities(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """List the certificate authorities."""
    return page_answer(AuthorityPage, [_summary(record) async for record in services.authorities.list()], None)


@endpoint(
    "POST",
    "certificate-authorities",
    answers=[QUEUED],
    refuses={404, 409},
    body=CertificateRequest,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.AUTHORITIES_MANAGE,
)
async def create_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a root or an issuing CA made."""
    wanted = request_of(CertificateRequest, request)
    if wanted.kind not in {CertificateKind.ROOT, CertificateKind.INTERMEDIATE}:
        raise Rejected.because(f"'{wanted.kind}' is not a kind of CA; give 'root' or 'intermediate'", field="kind")
    return await _queued(services, wanted)


@endpoint(
    "GET",
    "certificate-authorities/{name}",
    answers=[Answer(200, "the CA, or its chain in PEM", (Authority, PEM))],
    refuses={404, 409},
    parameters=(Parameter("format", "pem: the chain", Annotated[Literal["json", "pem"], Field(default="json")]),),
    role=Role.FLEET_READ,
    scope=of_authority,
)
async def get_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a certificate authority, or give its chain up to the root as PEM."""
    name = authority_name_of(request)
    wants_pem = "application/x-pem-file" in request.headers.get("Accept", "")
    if wants_pem or request.params.get("format") == "pem":
        chain = (await services.authorities.load(name)).chain
        return func.HttpResponse("".join(map(names.pem, chain)), mimetype=PEM)
    record = await services.authorities.get(name)
    asked = record.devices_request
    # Before its row is there, whoever sees the id could take it for something else.
    if asked is not None and await services.requests.find(Queue.REVOCATION_REQUESTS, asked) is None:
        asked = None
    shown = Authority(
        **dict(_summary(record)),
        certificate=record.certificate,
        further_certificates=record.further_certificates,
        devices_request=asked,
    )
    return json_answer(shown)


@endpoint(
    "POST",
    "certificate-authorities/{name}/verification-certificates",
    answers=[Answer(201, "the verification certificate, in PEM", (VerificationCertificate,))],
    refuses={404, 409},
    body=VerificationCode,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.AUTHORITIES_MANAGE,
    scope=of_authority,
    act="prove",
)
async def create_verification_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Prove possession of a CA's key to DPS or IoT Hub by hand: sign the code that the service gave."""
    code = parse(VerificationCode, body_of(request)).verification_code
    certificate = await services.possession.verification_certificate(
        authority_name_of(request), code, cause=request_id_of(request)
    )
    serial = names.serial_text(certificate.serial_number)
    answer = VerificationCertificate(serial_number=serial, certificate=names.pem(certificate))
    return json_answer(answer, HTTPStatus.CREATED)


@endpoint(
    "GET",
    "certificate-authorities/{name}/signing-request",
    answers=[Answer(200, "the PKCS#10 request, in PEM", (PEM,))],
    refuses={404},
    role=Role.FLEET_READ,
    scope=of_authority,
)
async def get_signing_request(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the signing request of a CA that is signed elsewhere."""
    name = authority_name_of(request)
    record = await services.authorities.get(name)
    if record.signing_request is None:
        raise NotFound.because(f"{name!r} has no signing request; only a CA made with externallySigned has one")
    return func.HttpResponse(record.signing_request, mimetype=PEM)


@endpoint(
    "PUT",
    "certificate-authorities/{name}/certificate",
    answers=[Answer(200, "installed", (AuthoritySummary,)), AWAITING],
    refuses={404, 409},
    body=AuthorityCertificate,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.AUTHORITIES_MANAGE,
    scope=of_authority,
    act="install",
)
async def install_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Install the certificate of a CA that was signed elsewhere, or a further one, with the chain up to its root."""
    certificates = parse(AuthorityCertificate, body_of(request, limit=FILE_LIMIT)).certificate
    record = await services.authority_workflows.installation.install(
        authority_name_of(request), certificates.encode(), request_id=idempotency_key_of(request)
    )
    return json_answer(_summary(record))


@endpoint(
    "POST",
    "certificate-authorities/{name}/import",
    answers=[Answer(201, "imported", (AuthoritySummary,), (("Location", "where it is shown"),)), AWAITING],
    refuses={404, 409},
    body=AuthorityImport,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.AUTHORITIES_MANAGE,
    scope=of_authority,
    act="import",
)
async def import_certificate_authority(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Import an owner's root or issuing CA with its key, as PFX or PEM."""
    name = authority_name_of(request)
    wanted = parse(AuthorityImport, body_of(request, limit=FILE_LIMIT))
    record = await services.authority_workflows.installation.take_over(
        name, wanted, cause=request_id_of(request), request_id=idempotency_key_of(request)
    )
    location = {"Location": f"/api/certificate-authorities/{name}"}
    return json_answer(_summary(record), HTTPStatus.CREATED, location)


@endpoint(
    "POST",
    "certificates",
    answers=[QUEUED],
    refuses={404, 409},
    body=CertificateRequest,
    parameters=(IDEMPOTENCY_KEY,),
    role=Role.ORDERS_WRITE,
    scope=of_new_certificate,
)
async def create_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have one certificate made; one that is not a device's needs the role for CAs as well."""
    wanted = request_of(CertificateRequest, request)
    if wanted.kind is not CertificateKind.DEVICE:
        callers.require(Role.AUTHORITIES_MANAGE, None)
    return await _queued(services, wanted)


async def _queued(services: Services, wanted: CertificateRequest) -> func.HttpResponse:
    """Queue a request, unless it can be seen that it would not succeed."""
    if await is_new(services, Queue.CERTIFICATE_REQUESTS, wanted):
        await services.certificate_requests.foresee(wanted)
    return await queued(services, Queue.CERTIFICATE_REQUESTS, wanted)


@endpoint(
    "GET",
    "certificates/{serialNumber}",
    answers=[Answer(200, "the certificate", (Certificate,))],
    refuses={404},
    role=Role.FLEET_READ,
    scope=of_certificate,
)
async def get_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Show a certificate by its serial number."""
    serial = path_value("serialNumber", request.route_params["serialNumber"])
    return json_answer(await services.certificate_requests.describe(serial))


@endpoint(
    "POST",
    "certificates/check",
    answers=[Answer(200, "what DPS would answer, and why", (Check,))],
    refuses={404},
    body=CertificateCheck,
    role=Role.FLEET_READ,
    scope=of_body,
)
async def check_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Tell whether DPS would accept a chain, from anybody's CA, and every reason why it would not."""
    wanted = parse(CertificateCheck, body_of(request, limit=FILE_LIMIT))
    found = await services.groups.previews.check(wanted.enrollment_group, wanted.registration_id, wanted.chain)
    return json_answer(found)
