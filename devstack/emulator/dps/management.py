"""The provisioning service as an Azure resource: its CA certificates and their proof of possession.

Paths and shapes: Azure/azure-rest-api-specs, deviceprovisioningservices/resource-manager, as Microsoft's
azure-mgmt-iothubprovisioningservices uses them.
"""

from __future__ import annotations

from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography import x509

from devstack.emulator.dps import attestation, errors
from devstack.emulator.dps.errors import ProvisioningError
from devstack.emulator.identity.errors import Refusal
from devstack.emulator.identity.tokens import MANAGEMENT_AUDIENCE
from devstack.emulator.wire import WireError, json_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devstack.emulator.context import Context
    from devstack.emulator.dps.state import Provisioning

    Operation = Callable[[web.Request], Awaitable[web.Response]]

_SERVICE = (
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Devices/provisioningServices/{service}"
)


def routes(context: Context, provisioning: Provisioning) -> list[web.RouteDef]:
    """All routes of the resource."""
    resource = _Resource(context, provisioning)
    certificate = f"{_SERVICE}/certificates/{{name}}"
    table: list[tuple[str, str, Operation]] = [
        ("GET", _SERVICE, resource.show),
        ("GET", f"{_SERVICE}/certificates", resource.list_certificates),
        ("GET", certificate, resource.get),
        ("PUT", certificate, resource.put),
        ("DELETE", certificate, resource.delete),
        ("POST", f"{certificate}/generateVerificationCode", resource.verification_code),
        ("POST", f"{certificate}/verify", resource.verify),
    ]
    return [web.route(method, path, _guarded(context, operation)) for method, path, operation in table]


def _arm_error(status: int, code: str, message: str) -> WireError:
    return WireError(status, {"error": {"code": code, "message": message}})


def _guarded(context: Context, operation: Operation) -> Operation:
    async def handle(request: web.Request) -> web.Response:
        try:
            context.tokens.verify(request.headers.get("Authorization"), MANAGEMENT_AUDIENCE)
        except Refusal as refusal:
            raise _arm_error(401, "AuthenticationFailed", refusal.reason) from None
        if not request.query.get("api-version"):
            message = "The api-version query parameter (?api-version=) is required for all requests."
            raise _arm_error(400, "MissingApiVersionParameter", message)
        configuration = context.configuration
        asked = [request.match_info[name].lower() for name in ("subscription", "group", "service")]
        known = [configuration.subscription_id, configuration.resource_group, configuration.dps_name]
        if asked != [name.lower() for name in known]:
            message = f"The resource {request.path} was not found; here is {configuration.dps_resource_id}."
            raise _arm_error(404, "ResourceNotFound", message)
        try:
            return await operation(request)
        except ProvisioningError as error:
            raise _arm_error(error.status, str(error.code), error.message) from None

    return handle


class _Resource:
    def __init__(self, context: Context, provisioning: Provisioning) -> None:
        self._configuration = context.configuration
        self._provisioning = provisioning

    async def show(self, _: web.Request) -> web.Response:
        configuration = self._configuration
        properties = {
            "state": "Active",
            "provisioningState": "Succeeded",
            "serviceOperationsHostName": f"{configuration.host_name}:{configuration.https_port}",
            "deviceProvisioningHostName": configuration.host_name,
            "idScope": configuration.id_scope,
            "allocationPolicy": "Hashed",
            "iotHubs": [{"name": hub.host_name, "location": "local"} for hub in configuration.hubs],
        }
        return web.json_response(
            {
                "id": configuration.dps_resource_id,
                "name": configuration.dps_name,
                "type": "Microsoft.Devices/ProvisioningServices",
                "location": "local",
                "sku": {"name": "S1", "tier": "Standard", "capacity": 1},
                "properties": properties,
            }
        )

    async def list_certificates(self, _: web.Request) -> web.Response:
        return web.json_response({"value": [self._described(each) for each in self._provisioning.authorities()]})

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self._described(self._provisioning.authority(request.match_info["name"])))

    async def put(self, request: web.Request) -> web.Response:
        properties = (await _object(request)).get("properties") or {}
        record = self._provisioning.put_authority(
            request.match_info["name"],
            str(properties.get("certificate") or ""),
            request.headers.get("If-Match"),
            verified=bool(properties.get("isVerified")),
        )
        return web.json_response(self._described(record))

    async def delete(self, request: web.Request) -> web.Response:
        self._provisioning.delete_authority(request.match_info["name"], request.headers.get("If-Match"))
        return web.Response(status=200)

    async def verification_code(self, request: web.Request) -> web.Response:
        record = self._provisioning.verification_code(request.match_info["name"], request.headers.get("If-Match"))
        described = self._described(record)
        described["properties"]["verificationCode"] = record["verificationCode"]
        return web.json_response(described)

    async def verify(self, request: web.Request) -> web.Response:
        proof = str((await _object(request)).get("certificate") or "")
        record = self._provisioning.verify_authority(request.match_info["name"], proof, request.headers.get("If-Match"))
        return web.json_response(self._described(record))

    def _described(self, record: dict[str, Any]) -> dict[str, Any]:
        certificate = x509.load_pem_x509_certificate(record["certificate"].encode())
        return {
            "id": f"{self._configuration.dps_resource_id}/certificates/{record['name']}",
            "name": record["name"],
            "type": "Microsoft.Devices/ProvisioningServices/Certificates",
            "etag": record["etag"].strip('"'),
            "properties": {
                "subject": certificate.subject.rfc4514_string(),
                "expiry": format_datetime(certificate.not_valid_after_utc, usegmt=True),
                "thumbprint": attestation.sha1_thumbprint(certificate),
                "isVerified": record["isVerified"],
                "created": _rfc1123(record["created"]),
                "updated": _rfc1123(record["updated"]),
            },
        }


def _rfc1123(iso: str) -> str:
    return format_datetime(datetime.fromisoformat(iso), usegmt=True)


async def _object(request: web.Request) -> dict[str, Any]:
    body = await json_body(request, on_error=lambda text: _arm_error(400, "BadRequest", text))
    if not isinstance(body, dict):
        raise errors.bad_request("The body must be a JSON object.")
    return body
