"""The service API on the wire (api-version 2021-10-01; Azure/azure-rest-api-specs, deviceprovisioningservices)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from emulator.platform import query_language
from emulator.platform.identity.errors import Refusal
from emulator.platform.identity.sas import verify_sas
from emulator.platform.identity.tokens import DPS_AUDIENCE
from emulator.platform.query_language import QueryRefused
from emulator.protocols.wire import json_body
from emulator.services.dps import errors, permissions
from emulator.services.dps.entries import ENROLLMENTS, GROUPS, Collection
from emulator.services.dps.errors import ProvisioningError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from emulator.platform.context import Context
    from emulator.services.dps.state import Provisioning

    Operation = Callable[[web.Request], Awaitable[web.Response]]

PAGE, PAGE_LIMIT = 100, 1000
_BULK_LIMIT = 10
_QUERY = "SELECT * FROM enrollments [WHERE condition]"
_SOURCES = ("enrollments", "enrollmentgroups")
_OBJECT = re.compile(r"""\{.*['"]query['"]:\s*(['"])(?P<query>[^'"]*)\1.*\}""", re.DOTALL)


def routes(context: Context, provisioning: Provisioning) -> list[web.RouteDef]:
    """All routes of the service API."""
    api = _ServiceApi(provisioning)
    table: list[tuple[str, str, Operation]] = [
        ("POST", "/enrollmentGroups/query", api.query(GROUPS)),
        ("POST", "/enrollments/query", api.query(ENROLLMENTS)),
        ("POST", "/enrollmentGroups", api.bulk(GROUPS)),
        ("POST", "/enrollments", api.bulk(ENROLLMENTS)),
        ("POST", "/registrations/{id}/query", api.query_registrations),
        ("GET", "/registrations/{id}", api.get_registration),
        ("DELETE", "/registrations/{id}", api.delete_registration),
    ]
    for path, kind in (("/enrollmentGroups/{id}", GROUPS), ("/enrollments/{id}", ENROLLMENTS)):
        table += [
            ("POST", f"{path}/attestationmechanism", api.attestation(kind)),
            ("GET", path, api.get(kind)),
            ("PUT", path, api.put(kind)),
            ("DELETE", path, api.delete(kind)),
        ]
    return [web.route(method, path, _guarded(context, operation)) for method, path, operation in table]


def _guarded(context: Context, operation: Operation) -> Operation:
    """Let in who has a token or a shared access signature, and put refusals on the wire."""

    async def handle(request: web.Request) -> web.Response:
        try:
            _authenticate(context, request)
            errors.check_version(request.query.get("api-version"))
            if (wait := context.throttled("dps.operations")) is not None:
                raise errors.throttled(wait)
            return await operation(request)
        except Refusal as refusal:
            raise errors.ProvisioningError(401, 401003, f"Unauthorized: {refusal.reason}").on_the_wire() from None
        except ProvisioningError as refusal:
            raise refusal.on_the_wire() from None

    return handle


def _authenticate(context: Context, request: web.Request) -> None:
    header = request.headers.get("Authorization")
    if header is not None and header.startswith("SharedAccessSignature "):
        verify_sas(header, resource=request.host, keys=context.sas_keys.dps, now=context.clock())
    else:
        caller = context.tokens.verify(header, DPS_AUDIENCE)
        context.roles.check(caller, permissions.needed(request.method, request.path))


class _ServiceApi:
    def __init__(self, provisioning: Provisioning) -> None:
        self._provisioning = provisioning

    def get(self, kind: Collection) -> Operation:
        async def operation(request: web.Request) -> web.Response:
            return _entry(self._provisioning.get(kind, request.match_info["id"]))

        return operation

    def put(self, kind: Collection) -> Operation:
        async def operation(request: web.Request) -> web.Response:
            body = await _json(request)
            return _entry(self._provisioning.put(kind, request.match_info["id"], body, request.headers.get("If-Match")))

        return operation

    def delete(self, kind: Collection) -> Operation:
        async def operation(request: web.Request) -> web.Response:
            self._provisioning.delete(kind, request.match_info["id"], request.headers.get("If-Match"))
            return web.Response(status=204)

        return operation

    def attestation(self, kind: Collection) -> Operation:
        async def operation(request: web.Request) -> web.Response:
            return web.json_response(self._provisioning.attestation_mechanism(kind, request.match_info["id"]))

        return operation

    def query(self, kind: Collection) -> Operation:
        async def operation(request: web.Request) -> web.Response:
            wanted = _wanted(str((await _json(request)).get("query", "")))
            after, size = _paging(request)
            items, following = self._provisioning.page(kind, wanted, after=after, size=size)
            return _page(items, following, "enrollmentGroup" if kind is GROUPS else "enrollment")

        return operation

    def bulk(self, kind: Collection) -> Operation:
        async def operation(request: web.Request) -> web.Response:
            body = await _json(request)
            mode, entries = body.get("mode"), body.get("enrollmentGroups" if kind is GROUPS else "enrollments")
            if mode not in {"create", "update", "updateIfMatchETag", "delete"} or not isinstance(entries, list):
                raise errors.bad_request("A bulk operation has a mode and a list of entries.")
            if len(entries) > _BULK_LIMIT:
                raise errors.bad_request(f"A bulk operation has at most {_BULK_LIMIT} entries.")
            failures = [failure for entry in entries if (failure := self._one_of_many(kind, mode, entry))]
            return web.json_response({"isSuccessful": not failures, "errors": failures})

        return operation

    def _one_of_many(self, kind: Collection, mode: str, entry: dict[str, Any]) -> dict[str, Any] | None:
        identifier, etag = str(entry.get(kind.id_field, "")), entry.get("etag")
        try:
            if mode == "delete":
                self._provisioning.delete(kind, identifier, etag)
            else:
                if_match = {"create": None, "update": "*"}.get(mode, etag)
                self._provisioning.put(kind, identifier, entry, if_match)
        except ProvisioningError as error:
            return {kind.id_field: identifier, "errorCode": error.code, "errorStatus": error.message}
        return None

    async def get_registration(self, request: web.Request) -> web.Response:
        return _entry(self._provisioning.registration(request.match_info["id"]))

    async def delete_registration(self, request: web.Request) -> web.Response:
        self._provisioning.delete_registration(request.match_info["id"], request.headers.get("If-Match"))
        return web.Response(status=204)

    async def query_registrations(self, request: web.Request) -> web.Response:
        after, size = _paging(request)
        items, following = self._provisioning.registrations_of(request.match_info["id"], after=after, size=size)
        return _page(items, following, "registration")


async def _json(request: web.Request) -> dict[str, Any]:
    body = await json_body(request, on_error=lambda text: errors.bad_request(text).on_the_wire())
    if not isinstance(body, dict):
        raise errors.bad_request("The body must be a JSON object.")
    return body


def _wanted(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Read a query of entries, and give its condition.

    No grammar is public, and clients send what they like: ``*`` alone (samples of azure-iot-sdk-node), ``SELECT *``
    without a collection, and that within the text of a Python object (``az iot dps enrollment list`` of
    azure-iot-cli-extension 0.25: ``{'additional_properties': {}, 'query': 'SELECT *'}``). All of these
    mean all entries. Conditions are those of IoT Hub's query language: an assumption.

    Raises:
        ProvisioningError: 400, it can't be read; 501, it asks for some of the entries' fields, or groups of them.
    """
    inner = _OBJECT.fullmatch(text.strip())
    words = (inner["query"] if inner else text).strip()
    if words.lower().split() in (["*"], ["select", "*"]):
        return lambda _: True
    try:
        query = query_language.parse(words, _QUERY)
    except QueryRefused as refused:
        raise errors.bad_request(str(refused)) from None
    if query.source not in _SOURCES:
        raise errors.bad_request(f"The collection {query.source!r} does not exist; there are {', '.join(_SOURCES)}.")
    if query.columns is not None or query.groups or query.top is not None:
        raise errors.not_offered(f"the query {words!r}: only whole entries can be asked for, by SELECT *")
    return query.matches


def _entry(body: dict[str, Any]) -> web.Response:
    return web.json_response(body, headers={"ETag": body["etag"]})


def _paging(request: web.Request) -> tuple[str, int]:
    size = request.headers.get("x-ms-max-item-count", str(PAGE))
    if not size.isdecimal() or not 1 <= int(size) <= PAGE_LIMIT:
        raise errors.bad_request(f"x-ms-max-item-count {size!r} is not from 1 to {PAGE_LIMIT}.")
    token = request.headers.get("x-ms-continuation", "")
    try:
        return base64.urlsafe_b64decode(token).decode(), int(size)
    except (binascii.Error, UnicodeDecodeError):
        raise errors.bad_request("x-ms-continuation was not given by this service.") from None


def _page(items: list[dict[str, Any]], following: str | None, item_type: str) -> web.Response:
    headers = {"x-ms-max-item-count": str(len(items)), "x-ms-item-type": item_type}
    if following is not None:
        headers["x-ms-continuation"] = base64.urlsafe_b64encode(following.encode()).decode()
    return web.json_response(items, headers=headers)
