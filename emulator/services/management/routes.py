"""A DPS and the IoT hubs as Azure resources: what they are, their CA certificates and the proof of possession.

Paths and shapes: Azure/azure-rest-api-specs, deviceprovisioningservices/resource-manager and iothub/resource-manager,
as Microsoft's azure-mgmt-iothubprovisioningservices and azure-mgmt-iothub use them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from emulator.platform.certificates import read_certificate, sha1_thumbprint
from emulator.platform.identity.errors import Forbidden, Refusal
from emulator.platform.identity.tokens import MANAGEMENT_AUDIENCE
from emulator.protocols.wire import json_body, not_implemented
from emulator.services.management import errors, permissions, versions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from emulator.platform.context import Context
    from emulator.services.management.ca_certificates import CaCertificates

    Operation = Callable[["Resource", web.Request], Awaitable[web.Response]]


_DPS = "ProvisioningServices"


@dataclass(frozen=True, slots=True)
class Resource:
    """One Azure resource that holds CA certificates.

    Attributes:
        resource_id: ``/subscriptions/.../providers/Microsoft.Devices/{kind}/{name}``.
        kind: type of the resource, as answers spell it.
        properties: gives what a GET of the resource shows.
        certificates: its CA certificates.
        created_status: status of a PUT that makes one.
    """

    resource_id: str
    kind: str
    properties: Callable[[], Mapping[str, Any]]
    certificates: CaCertificates
    created_status: int

    @property
    def name(self) -> str:
        """The resource's own name."""
        return self.resource_id.rsplit("/", 1)[1]


def routes(context: Context, resources: Sequence[Resource]) -> list[web.RouteDef]:
    """All routes of the resources."""
    by_id = {each.resource_id.lower(): each for each in resources}
    table: list[tuple[str, str, Operation]] = [
        ("GET", "", _show),
        ("GET", "/certificates", _list),
        ("GET", "/certificates/{name}", _get),
        ("PUT", "/certificates/{name}", _put),
        ("DELETE", "/certificates/{name}", _delete),
        ("POST", "/certificates/{name}/generateVerificationCode", _verification_code),
        ("POST", "/certificates/{name}/verify", _verify),
    ]
    kinds = dict.fromkeys(each.resource_id.split("/")[-2] for each in resources)
    return [
        *(
            web.route(method, path, _missing(context, f"{kind}: {what}"))
            for kind in kinds
            for method, path, what in _not_offered(kind)
        ),
        *(
            web.route(method, f"{_collection(kind)}/{{resource}}{path}", _guarded(context, by_id, kind, operation))
            for kind in kinds
            for method, path, operation in table
        ),
    ]


def _collection(kind: str) -> str:
    return f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/Microsoft.Devices/{kind}"


def _not_offered(kind: str) -> list[tuple[str, str, str]]:
    """What is documented of the resources themselves: here they come with the emulator, and go with it."""
    group, resource = _collection(kind), f"{_collection(kind)}/{{resource}}"
    return [
        ("PUT", resource, "creating one"),
        ("PATCH", resource, "changing one"),
        ("DELETE", resource, "deleting one"),
        ("GET", group, "listing them"),
        ("GET", f"/subscriptions/{{subscription}}/providers/Microsoft.Devices/{kind}", "listing them"),
        ("POST", f"{resource}/listkeys", "their keys"),
        ("POST", f"{resource}/keys/{{key}}/listkeys", "their keys"),
        ("POST", f"{resource}/IotHubKeys/{{key}}/listkeys", "their keys"),
    ]


def _missing(context: Context, what: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        _authenticate(context, request)
        _check_version(request.query.get("api-version"), what.partition(":")[0])
        raise not_implemented(f"Microsoft.Devices/{what}")

    return refuse


def _authenticate(context: Context, request: web.Request) -> None:
    try:
        caller = context.tokens.verify(request.headers.get("Authorization"), MANAGEMENT_AUDIENCE)
        context.roles.check(caller, permissions.needed(request.method, request.path))
    except Forbidden as refusal:
        raise errors.refusal(403, "AuthorizationFailed", refusal.reason) from None
    except Refusal as refusal:
        raise errors.refusal(401, "AuthenticationFailed", refusal.reason) from None


def _guarded(
    context: Context, by_id: Mapping[str, Resource], kind: str, operation: Operation
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        _authenticate(context, request)
        _check_version(request.query.get("api-version"), kind)
        asked = _collection(kind).format_map(request.match_info) + f"/{request.match_info['resource']}"
        resource = by_id.get(asked.lower())
        if resource is None:
            here = ", ".join(each.resource_id for each in by_id.values())
            raise errors.refusal(404, "ResourceNotFound", f"The resource {asked} was not found; here are {here}.")
        return await operation(resource, request)

    return handle


def _check_version(given: str | None, kind: str) -> None:
    """See that a request says which version it speaks, and that the resource provider has it.

    Raises:
        WireError: 400, in the words of Azure Resource Manager.
    """
    if not given:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise errors.refusal(400, "MissingApiVersionParameter", message)
    if given not in versions.SUPPORTED[kind.lower()]:
        supported = ", ".join(versions.SUPPORTED[kind.lower()])
        message = (
            f"No registered resource provider found for location 'local' and API version '{given}' for type '{kind}'. "
            f"The supported api-versions are '{supported}'."
        )
        raise errors.refusal(400, "NoRegisteredProviderFound", message)


async def _show(resource: Resource, _: web.Request) -> web.Response:
    return web.json_response(
        {
            "id": resource.resource_id,
            "name": resource.name,
            "type": f"Microsoft.Devices/{resource.kind}",
            "location": "local",
            "sku": {"name": "S1", "tier": "Standard", "capacity": 1},
            "properties": resource.properties(),
        }
    )


async def _list(resource: Resource, _: web.Request) -> web.Response:
    return web.json_response({"value": [_described(resource, each) for each in resource.certificates.list()]})


async def _get(resource: Resource, request: web.Request) -> web.Response:
    return web.json_response(_described(resource, resource.certificates.get(request.match_info["name"])))


async def _put(resource: Resource, request: web.Request) -> web.Response:
    body = await _object(request)
    # Up to 2021-10-15 the fields of a certificate of DPS were not below "properties", and so Azure CLI sends them.
    properties = body.get("properties", body if resource.kind == _DPS else None)
    if not isinstance(properties, dict) or not properties.get("certificate"):
        raise errors.bad_request("properties.certificate is required: PEM, or base64 of PEM or DER.")
    record, new = resource.certificates.put(
        request.match_info["name"],
        str(properties["certificate"]),
        request.headers.get("If-Match"),
        verified=bool(properties.get("isVerified")),
    )
    return web.json_response(_described(resource, record), status=resource.created_status if new else 200)


async def _delete(resource: Resource, request: web.Request) -> web.Response:
    present = resource.certificates.delete(request.match_info["name"], request.headers.get("If-Match"))
    return web.Response(status=200 if present else 204)


async def _verification_code(resource: Resource, request: web.Request) -> web.Response:
    record = resource.certificates.verification_code(request.match_info["name"], request.headers.get("If-Match"))
    described = _described(resource, record)
    described["properties"]["verificationCode"] = record["verificationCode"]
    return web.json_response(described)


async def _verify(resource: Resource, request: web.Request) -> web.Response:
    proof = str((await _object(request)).get("certificate") or "")
    record = resource.certificates.verify(request.match_info["name"], proof, request.headers.get("If-Match"))
    return web.json_response(_described(resource, record))


def _described(resource: Resource, record: Mapping[str, Any]) -> dict[str, Any]:
    certificate = read_certificate(record["certificate"])
    return {
        "id": f"{resource.resource_id}/certificates/{record['name']}",
        "name": record["name"],
        "type": f"Microsoft.Devices/{resource.kind}/Certificates",
        "etag": record["etag"].strip('"'),
        "properties": {
            "subject": certificate.subject.rfc4514_string(),
            "expiry": format_datetime(certificate.not_valid_after_utc, usegmt=True),
            "thumbprint": sha1_thumbprint(certificate),
            "isVerified": record["isVerified"],
            "created": _rfc1123(record["created"]),
            "updated": _rfc1123(record["updated"]),
            "certificate": base64.b64encode(certificate.public_bytes(Encoding.DER)).decode(),
        },
    }


def _rfc1123(iso: str) -> str:
    return format_datetime(datetime.fromisoformat(iso), usegmt=True)


async def _object(request: web.Request) -> dict[str, Any]:
    body = await json_body(request, on_error=errors.bad_request)
    if not isinstance(body, dict):
        raise errors.bad_request("The body must be a JSON object.")
    return body
