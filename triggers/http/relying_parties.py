"""What relying parties ask without a key: CRLs, certificates of CAs, OCSP."""

from __future__ import annotations

from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

import azure.functions as func
from cryptography.hazmat.primitives.serialization import Encoding

from shared.contracts.ids import path_value
from shared.errors import NotFound, Rejected
from shared.reading.base64_text import octets
from shared.workflows.status.answers import CONTENT_TYPE as OCSP_RESPONSE
from shared.workflows.status.answers import is_successful
from triggers.http.endpoints import endpoint
from triggers.openapi import Answer, Parameter

if TYPE_CHECKING:
    from datetime import datetime

    from shared.services import Services
    from shared.workflows.status.revocation_lists import ListDescription


_CRL_SECONDS = 3600
_LIST_HEADERS = (
    ("ETag", "of the list"),
    ("Last-Modified", "when it was made"),
    ("Cache-Control", "an hour at most, never beyond nextUpdate"),
)


def _file_name(request: func.HttpRequest, suffix: str) -> str:
    name: str = request.route_params["file"]
    if not name.endswith(suffix):
        raise NotFound.because(f"{name[:140]!r} does not exist; file names end with {suffix}")
    return _issuer(name.removesuffix(suffix))


def _issuer(name: str) -> str:
    try:
        return path_value("name", name)
    except Rejected as rejection:
        raise NotFound(*rejection.reasons) from None


@endpoint(
    "GET",
    "crl/{file}",
    answers=[
        Answer(200, "the CRL, in DER", ("application/pkix-crl",), _LIST_HEADERS),
        Answer(304, "unchanged since", (), _LIST_HEADERS),
    ],
    refuses={404, 409},
    parameters=(
        Parameter("If-None-Match", "the ETag of the CRL that is there", str, "header"),
        Parameter("If-Modified-Since", "when the CRL that is there was made", str, "header"),
    ),
    anonymous=True,
)
async def get_crl(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the newest CRL of a certificate authority, as {issuer}.crl."""
    issuer = _file_name(request, ".crl")
    if request.headers.get("If-None-Match") or request.headers.get("If-Modified-Since"):
        present = await services.served_lists.describe(issuer)  # without reading it: a list may have megabytes
        if _is_unchanged(request, present.etag, present.made_at):
            headers = _list_headers(present, services.clock())
            return func.HttpResponse(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    described, content = await services.served_lists.read(issuer)
    return func.HttpResponse(
        content, mimetype="application/pkix-crl", headers=_list_headers(described, services.clock())
    )


def _list_headers(described: ListDescription, now: datetime) -> dict[str, str]:
    left = int((described.next_update - now).total_seconds())
    return {
        "ETag": described.etag,
        "Last-Modified": format_datetime(described.made_at, usegmt=True),
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
    except (ValueError, TypeError, OverflowError):  # of a zone that is a century away
        return False


@endpoint(
    "GET",
    "ca/{file}",
    answers=[Answer(200, "the certificate, in DER", ("application/pkix-cert",))],
    refuses={404, 409},
    anonymous=True,
)
async def get_ca_certificate(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the certificate of a certificate authority, as {issuer}.cer (RFC 5280 section 4.2.2.1)."""
    issuer = await services.authorities.load(_file_name(request, ".cer"))
    return func.HttpResponse(issuer.certificate.public_bytes(Encoding.DER), mimetype="application/pkix-cert")


_ANSWERED = Answer(200, "the answer, in DER (RFC 6960)", (OCSP_RESPONSE,))


@endpoint(
    "POST",
    "ocsp/{issuer}",
    answers=[_ANSWERED],
    refuses={404, 409},
    body="application/ocsp-request",
    anonymous=True,
)
async def post_ocsp(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Answer an OCSP request about a certificate of a CA."""
    return await _ocsp(services, request, request.get_body())


@endpoint("GET", "ocsp/{issuer}/{*request}", answers=[_ANSWERED], refuses={404, 409}, anonymous=True)
async def get_ocsp(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Answer an OCSP request that stands in the path, in base64 (RFC 6960 appendix A.1)."""
    answer = await _ocsp(services, request, octets("request", base64_in_path(request.route_params.get("request", ""))))
    if is_successful(answer.get_body()):
        # RFC 5019 section 6.2; as for CRLs, a revocation is to be seen soon. An error is not kept.
        answer.headers["Cache-Control"] = "public, no-transform, must-revalidate, max-age=300"
    return answer


def base64_in_path(text: str) -> str:
    """Give the base64 that stands in a path in any of the forms that clients send.

    The host leaves ``%2F`` escaped, some escape twice, some leave the padding out or write base64url (RFC 4648 section
    5), and what passed for a query on its way has spaces in the place of ``+``.
    """
    # A request begins with "M", so a slash before it is not part of it; the last character of one in 64 is a slash.
    plain = unquote(unquote(text)).lstrip("/").translate(_STANDARD_ALPHABET)
    if plain.endswith("=/") or len(plain) % 4 == 1:
        plain = plain.removesuffix("/")
    return plain + "=" * (-len(plain) % 4)


_STANDARD_ALPHABET = str.maketrans(" -_", "++/")


async def _ocsp(services: Services, request: func.HttpRequest, content: bytes) -> func.HttpResponse:
    answer = await services.status_answers.answer(_issuer(request.route_params["issuer"]), content)
    return func.HttpResponse(answer, mimetype=OCSP_RESPONSE)
