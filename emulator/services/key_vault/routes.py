"""The vault on the wire: paths, JSON shapes, paging, and the challenge that comes before everything else.

Paths and shapes are those of the Key Vault REST reference, keys 7.x to 2025-07-01 and secrets 7.x to 2026-04-01.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from aiohttp import web

from emulator.platform.identity.errors import Forbidden, Unauthenticated
from emulator.platform.identity.tokens import KEY_VAULT_AUDIENCE
from emulator.protocols.wire import json_body, not_implemented
from emulator.services.key_vault import algorithms, errors, permissions
from emulator.services.key_vault.objects import RECOVERY_LEVEL, RETENTION_DAYS
from emulator.services.key_vault.state import Keys, Secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from emulator.platform.context import Context
    from emulator.services.key_vault.objects import Deleted, Version, VersionedObjects

    Answer = dict[str, Any] | None
    Operation = Callable[[web.Request], Awaitable[Answer]]

PAGE = 25
HEADERS = {
    "Cache-Control": "no-cache",
    "x-ms-keyvault-region": "local",
    "x-ms-keyvault-service-version": "1.9.0.0",
    "x-ms-keyvault-network-info": "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;",
    "Strict-Transport-Security": "max-age=31536000;includeSubDomains",
    "X-Content-Type-Options": "nosniff",
}
MISSING = (
    ("POST", "/keys/{name}/backup", "backup of keys"),
    ("POST", "/keys/restore", "restoring keys"),
    ("POST", "/keys/{name}/{version:[^/]*}/release", "release of exportable keys"),
    ("GET", "/keys/{name}/{version:[^/]*}/attestation", "attestation of HSM keys"),
    ("GET", "/keys/{name}/rotationpolicy", "rotation policies: rotate a key yourself"),
    ("PUT", "/keys/{name}/rotationpolicy", "rotation policies: rotate a key yourself"),
    ("POST", "/rng", "random bytes"),
    ("POST", "/secrets/{name}/backup", "backup of secrets"),
    ("POST", "/secrets/restore", "restoring secrets"),
)


def routes(context: Context) -> list[web.RouteDef]:
    """All routes of the vault. The order matters where a version could be taken for a verb."""
    missing = [(method, path, _missing(what)) for method, path, what in MISSING]
    table = [*missing, *_KeyOperations(context).table(), *_SecretOperations(context).table()]
    return [web.route(method, path, _guarded(context, operation)) for method, path, operation in table]


def _guarded(context: Context, operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Check token and api-version before the operation, and write its answer after it; no answer is a 204."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            caller = context.tokens.verify(request.headers.get("Authorization"), KEY_VAULT_AUDIENCE)
            context.roles.check(caller, permissions.needed(request.method, request.path))
        except Unauthenticated as refusal:
            raise errors.unauthorized(refusal.reason, context.configuration.tenant_id) from None
        except Forbidden as refusal:
            raise errors.forbidden(refusal.reason) from None
        if not request.query.get("api-version"):
            raise errors.bad_parameter("api-version must be specified, e.g. ?api-version=7.5")
        if (wait := context.throttled("key_vault.transactions")) is not None:
            raise errors.throttled(wait)
        answer = await operation(request)
        if answer is None:
            return web.Response(status=204, headers=HEADERS)
        return web.json_response(answer, headers=HEADERS)

    return handle


def _missing(what: str) -> Operation:
    async def refuse(_: web.Request) -> Answer:
        raise not_implemented(f"Key Vault's {what}")

    return refuse


class _KeyOperations:
    def __init__(self, context: Context) -> None:
        self._url = context.configuration.https_url
        self._keys = Keys(context)

    def table(self) -> list[tuple[str, str, Operation]]:
        version = "/keys/{name}/{version:[^/]*}"
        return [
            ("GET", "/keys", self.list_names),
            ("GET", "/keys/{name}/versions", self.list_versions),
            ("POST", "/keys/{name}/create", self.create),
            ("POST", "/keys/{name}/rotate", self.rotate),
            ("POST", f"{version}/sign", self.sign),
            ("POST", f"{version}/verify", self.verify),
            ("POST", f"{version}/encrypt", self.encrypt),
            ("POST", f"{version}/decrypt", self.decrypt),
            ("POST", f"{version}/wrapkey", self.wrap),
            ("POST", f"{version}/unwrapkey", self.unwrap),
            ("GET", version, self.get),
            ("PATCH", version, self.update),
            ("GET", "/keys/{name}", self.get),
            ("PATCH", "/keys/{name}", self.update),
            ("PUT", "/keys/{name}", self.import_key),
            ("DELETE", "/keys/{name}", self.delete),
            *_deleted_table(self._keys, self._url, self.bundle),
        ]

    def bundle(self, version: Version) -> dict[str, Any]:
        """A key as it is given out: its public half."""
        content = version.content
        kid = f"{self._url}/keys/{version.name}/{version.version}"
        key = {"kid": kid, "kty": content["kty"], "key_ops": content["key_ops"], **content["public"]}
        return {"key": key, "attributes": _attributes(version), "tags": version.tags}

    async def create(self, request: web.Request) -> Answer:
        return self.bundle(await self._keys.create(request.match_info["name"], await _object(request)))

    async def import_key(self, request: web.Request) -> Answer:
        return self.bundle(self._keys.import_key(request.match_info["name"], await _object(request)))

    async def rotate(self, request: web.Request) -> Answer:
        return self.bundle(await self._keys.rotate(request.match_info["name"]))

    async def get(self, request: web.Request) -> Answer:
        return self.bundle(self._keys.get(*_name_and_version(request)))

    async def update(self, request: web.Request) -> Answer:
        return self.bundle(self._keys.update(*_name_and_version(request), await _object(request)))

    async def delete(self, request: web.Request) -> Answer:
        deleted = self._keys.delete(request.match_info["name"])
        return self.bundle(deleted.newest) | _deletion(self._keys, self._url, deleted)

    async def list_names(self, request: web.Request) -> Answer:
        return _list_names(request, self._keys, self._url)

    async def list_versions(self, request: web.Request) -> Answer:
        return _list_versions(request, self._keys, self._url)

    async def sign(self, request: web.Request) -> Answer:
        body = await _object(request)
        version, key = self._keys.usable(*_name_and_version(request), "sign")
        return self._result(version, algorithms.sign(key, _text(body, "alg"), _octets(body, "value")))

    async def verify(self, request: web.Request) -> Answer:
        body = await _object(request)
        _, key = self._keys.usable(*_name_and_version(request), "verify")
        digest, signature = _octets(body, "digest"), _octets(body, "value")
        return {"value": algorithms.verify(key, _text(body, "alg"), digest, signature)}

    async def encrypt(self, request: web.Request) -> Answer:
        return await self._with_key(request, "encrypt", algorithms.encrypt)

    async def decrypt(self, request: web.Request) -> Answer:
        return await self._with_key(request, "decrypt", algorithms.decrypt)

    async def wrap(self, request: web.Request) -> Answer:
        return await self._with_key(request, "wrapKey", algorithms.encrypt)

    async def unwrap(self, request: web.Request) -> Answer:
        return await self._with_key(request, "unwrapKey", algorithms.decrypt)

    async def _with_key(
        self, request: web.Request, operation: str, compute: Callable[[algorithms.PrivateKey, str, bytes], bytes]
    ) -> Answer:
        body = await _object(request)
        version, key = self._keys.usable(*_name_and_version(request), operation)
        return self._result(version, compute(key, _text(body, "alg"), _octets(body, "value")))

    def _result(self, version: Version, value: bytes) -> Answer:
        return {"kid": f"{self._url}/keys/{version.name}/{version.version}", "value": _base64url(value)}


class _SecretOperations:
    def __init__(self, context: Context) -> None:
        self._url = context.configuration.https_url
        self._secrets = Secrets(context)

    def table(self) -> list[tuple[str, str, Operation]]:
        version = "/secrets/{name}/{version:[^/]*}"
        return [
            ("GET", "/secrets", self.list_names),
            ("GET", "/secrets/{name}/versions", self.list_versions),
            ("GET", version, self.get),
            ("PATCH", version, self.update),
            ("GET", "/secrets/{name}", self.get),
            ("PATCH", "/secrets/{name}", self.update),
            ("PUT", "/secrets/{name}", self.set),
            ("DELETE", "/secrets/{name}", self.delete),
            *_deleted_table(self._secrets, self._url, self.bundle),
        ]

    def bundle(self, version: Version) -> dict[str, Any]:
        """A secret without its value."""
        bundle: dict[str, Any] = {"id": f"{self._url}/secrets/{version.name}/{version.version}"}
        if "contentType" in version.content:
            bundle["contentType"] = version.content["contentType"]
        return bundle | {"attributes": _attributes(version), "tags": version.tags}

    async def set(self, request: web.Request) -> Answer:
        version = self._secrets.set(request.match_info["name"], await _object(request))
        return {"value": version.content["value"], **self.bundle(version)}

    async def get(self, request: web.Request) -> Answer:
        version = self._secrets.read(*_name_and_version(request))
        return {"value": version.content["value"], **self.bundle(version)}

    async def update(self, request: web.Request) -> Answer:
        return self.bundle(self._secrets.update(*_name_and_version(request), await _object(request)))

    async def delete(self, request: web.Request) -> Answer:
        deleted = self._secrets.delete(request.match_info["name"])
        return self.bundle(deleted.newest) | _deletion(self._secrets, self._url, deleted)

    async def list_names(self, request: web.Request) -> Answer:
        return _list_names(request, self._secrets, self._url)

    async def list_versions(self, request: web.Request) -> Answer:
        return _list_versions(request, self._secrets, self._url)


def _deleted_table(
    objects: VersionedObjects, url: str, bundle: Callable[[Version], dict[str, Any]]
) -> list[tuple[str, str, Operation]]:
    """What can be done with deleted objects; the same for keys and secrets."""

    async def list_deleted(request: web.Request) -> Answer:
        page = objects.deleted_names(*_page_wanted(request))
        items = [
            (position, _item(objects, url, deleted.newest) | _deletion(objects, url, deleted))
            for position, deleted in page
        ]
        return _paged(request, url, items)

    async def get_deleted(request: web.Request) -> Answer:
        deleted = objects.get_deleted(request.match_info["name"])
        return bundle(deleted.newest) | _deletion(objects, url, deleted)

    async def recover(request: web.Request) -> Answer:
        return bundle(objects.recover(request.match_info["name"]))

    async def purge(request: web.Request) -> Answer:
        objects.purge(request.match_info["name"])
        return None

    collection = f"/{objects.noun.deleted_collection}"
    return [
        ("GET", collection, list_deleted),
        ("GET", f"{collection}/{{name}}", get_deleted),
        ("DELETE", f"{collection}/{{name}}", purge),
        ("POST", f"{collection}/{{name}}/recover", recover),
    ]


def _list_names(request: web.Request, objects: VersionedObjects, url: str) -> dict[str, Any]:
    page = objects.names(*_page_wanted(request))
    return _paged(request, url, [(position, _item(objects, url, version)) for position, version in page])


def _list_versions(request: web.Request, objects: VersionedObjects, url: str) -> dict[str, Any]:
    page = objects.versions(request.match_info["name"], *_page_wanted(request))
    items = [
        (position, _item(objects, url, version, identifier=f"{version.name}/{version.version}"))
        for position, version in page
    ]
    return _paged(request, url, items)


def _item(objects: VersionedObjects, url: str, version: Version, identifier: str | None = None) -> dict[str, Any]:
    """An entry of a list; without ``identifier`` it names the object and no version."""
    named = "kid" if objects.noun.collection == "keys" else "id"
    item = {named: f"{url}/{objects.noun.collection}/{identifier or version.name}"}
    if "contentType" in version.content:
        item["contentType"] = version.content["contentType"]
    return item | {"attributes": _attributes(version), "tags": version.tags}


def _attributes(version: Version) -> dict[str, Any]:
    return {**version.attributes, "recoveryLevel": RECOVERY_LEVEL, "recoverableDays": RETENTION_DAYS}


def _deletion(objects: VersionedObjects, url: str, deleted: Deleted) -> dict[str, Any]:
    return {
        "recoveryId": f"{url}/{objects.noun.deleted_collection}/{deleted.newest.name}",
        "deletedDate": deleted.deleted_date,
        "scheduledPurgeDate": deleted.scheduled_purge_date,
    }


def _page_wanted(request: web.Request) -> tuple[str, int]:
    """After which position, and how many: one more than the page, to know whether there is a next one."""
    wanted = request.query.get("maxresults", str(PAGE))
    if not wanted.isdecimal() or not 1 <= int(wanted) <= PAGE:
        raise errors.bad_parameter(f"maxresults is {wanted!r}; it must be a number from 1 to {PAGE}.")
    token = request.query.get("$skiptoken", "")
    try:
        return base64.urlsafe_b64decode(token).decode(), int(wanted) + 1
    except ValueError:
        raise errors.bad_parameter("$skiptoken is not one of this vault's; take nextLink as it is.") from None


def _paged(request: web.Request, url: str, items: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    limit = int(request.query.get("maxresults", PAGE))
    next_link = None
    if len(items) > limit:
        position = base64.urlsafe_b64encode(items[limit - 1][0].encode()).decode()
        query = {"api-version": request.query["api-version"], "$skiptoken": position, "maxresults": limit}
        next_link = f"{url}{request.path}?{urlencode(query)}"
    return {"value": [item for _, item in items[:limit]], "nextLink": next_link}


def _name_and_version(request: web.Request) -> tuple[str, str]:
    return request.match_info["name"], request.match_info.get("version", "")


async def _object(request: web.Request) -> Mapping[str, Any]:
    body = await json_body(request, on_error=errors.bad_parameter)
    if not isinstance(body, dict):
        raise errors.bad_parameter("The request body is not a JSON object.")
    return body


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise errors.bad_parameter(f"{name} is missing or no text.")
    return value


def _octets(body: Mapping[str, Any], name: str) -> bytes:
    text = _text(body, name)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise errors.bad_parameter(f"{name} is not base64url text (RFC 4648 section 5).") from None


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
