"""The device API over HTTPS.

Sources: Microsoft, "How to use X.509 certificates over HTTPS without an SDK" and "How to use symmetric keys over HTTPS
without an SDK".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from emulator.platform.identity.sas import SCHEME
from emulator.services.dps import errors
from emulator.services.dps.attestation import Proof
from emulator.services.dps.device_api import Answer, Device, DeviceApi

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from emulator.platform.context import Context

    Operation = Callable[[DeviceApi, Device, web.Request], Awaitable[web.Response]]

_DEVICE = "/{idScope}/registrations/{registrationId}"


def routes(context: Context, api: DeviceApi) -> list[web.RouteDef]:
    """All routes of the device API; they stand after those of the services, whose paths are more definite."""
    id_scope = context.configuration.id_scope

    def bound(operation: Operation) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            refusal = _refusal(request, id_scope)
            if refusal is not None:
                return _response(refusal)
            header = request.headers.get("Authorization", "")
            signature = header if header.startswith(f"{SCHEME} ") else None
            proof = Proof(request.get_extra_info("peer_chain", ()), signature)
            device = Device(proof, request.match_info["registrationId"])
            return await operation(api, device, request)

        return handle

    return [
        web.put(f"{_DEVICE}/register", bound(_register)),
        web.get(f"{_DEVICE}/operations/{{operationId}}", bound(_operation_status)),
        web.post(_DEVICE, bound(_registration_state)),
    ]


def _refusal(request: web.Request, id_scope: str) -> Answer | None:
    asked = request.match_info["idScope"]
    if asked != id_scope:
        error = errors.unknown_scope(asked, id_scope)
        return Answer(error.status, error.body())
    try:
        errors.check_version(request.query.get("api-version"))
    except errors.ProvisioningError as error:
        return Answer(error.status, error.body())
    return None


async def _register(api: DeviceApi, device: Device, request: web.Request) -> web.Response:
    answer = await api.register(device, await request.read())
    location = {"Location": f"https://{request.host}{request.path}"} if answer.status == 202 else {}  # noqa: PLR2004
    return _response(answer, location)


async def _operation_status(api: DeviceApi, device: Device, request: web.Request) -> web.Response:
    return _response(await api.operation_status(device, request.match_info["operationId"]))


async def _registration_state(api: DeviceApi, device: Device, request: web.Request) -> web.Response:
    return _response(await api.registration_state(device, await request.read()))


def _response(answer: Answer, headers: dict[str, str] | None = None) -> web.Response:
    more = dict(headers or {})
    if answer.retry_after is not None:
        more["Retry-After"] = str(answer.retry_after)
    if "errorCode" in answer.body:
        more["x-ms-error-code"] = str(answer.body["errorCode"])
    return web.json_response(answer.body, status=answer.status, headers=more)
