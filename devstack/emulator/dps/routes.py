"""The service API on the wire (api-version 2021-10-01; Azure/azure-rest-api-specs, deviceprovisioningservices)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from aiohttp import web

from devstack.emulator.dps import errors
from devstack.emulator.dps.entries import ENROLLMENTS, GROUPS, Collection
from devstack.emulator.dps.errors import ProvisioningError
from devstack.emulator.identity.errors import Refusal
from devstack.emulator.identity.sas import verify_sas
from devstack.emulator.identity.tokens import DPS_AUDIENCE
from devstack.emulator.wire import json_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devstack.emulator.context import Context
    from devstack.emulator.dps.state import Provisioning

    Operation = Callable[[web.Request], Awaitable[web.Response]]

PAGE, PAGE_LIMIT = 100, 1000
_BULK_LIMIT = 10
_QUERY = "SELECT * FROM enrollments"


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
        context.tokens.verify(header, DPS_AUDIENCE)


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
            return web.json_response(self._provisioning.get(kind, request.match_info["id"])["attestation"])

        return operation

    def query(self, kind: Collection) -> Operation:
        async def operation(request: web.Request) -> web.Response:
            _check_query(str((await _json(request)).get("query", "")))
            after, size = _paging(request)
            items, following = self._provisioning.page(kind, after=after, size=size)
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


def _check_query(query: str) -> None:
    """See that all entries are asked for: ``SELECT * FROM ...``, or ``*`` as the samples of the Node.js SDK have it.

    Raises:
        ProvisioningError: 400, it is no query; 501, it asks for some of the entries, or some of their fields.
    """
    words = query.lower().split()
    if words == ["*"] or (words[:-1] == ["select", "*", "from"] and words[-1] in {"enrollments", "enrollmentgroups"}):
        return
    if words[:1] == ["select"]:
        raise errors.not_offered(f"the query {query!r}: only all entries can be asked for")
    raise errors.bad_request(f"The query {query!r} is not of the form {_QUERY}.")


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
        raise errors.bad_request("x-ms-continuation is none that this service gave.") from None


def _page(items: list[dict[str, Any]], following: str | None, item_type: str) -> web.Response:
    headers = {"x-ms-max-item-count": str(len(items)), "x-ms-item-type": item_type}
    if following is not None:
        headers["x-ms-continuation"] = base64.urlsafe_b64encode(following.encode()).decode()
    return web.json_response(items, headers=headers)
