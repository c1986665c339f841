"""What stands in for App Service authentication: it checks bearer tokens, and tells the app who calls.

As the real one it takes the headers in which it does so away from every request ("External requests aren't allowed to
set these headers": azure/app-service/configure-authentication-user-identities), lets requests without a token through
(``AllowAnonymous``), and refuses those whose token does not hold.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt

if TYPE_CHECKING:
    from collections.abc import Mapping

ME = "/.auth/me"
_HEADERS = "x-ms-client-principal"
_TOKENS = "x-ms-token-"
_CLAIMS = "http://schemas.microsoft.com/identity/claims/"
_SOAP = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
_MAPPED = {
    "oid": f"{_CLAIMS}objectidentifier",
    "scp": f"{_CLAIMS}scope",
    "tid": f"{_CLAIMS}tenantid",
    "sub": f"{_SOAP}nameidentifier",
    "upn": f"{_SOAP}upn",
}
"""Names that claims get on their way (the page above: "default claims-mapping process")."""

_ALGORITHMS = ["RS256"]
_REQUIRED = ["aud", "iss", "exp", "nbf", "oid"]


class Refused(Exception):
    """A token that does not hold; the message says why."""


@dataclass(slots=True)
class Authentication:
    """Checks tokens.

    Attributes:
        keys_url: where the issuer's keys are.
        audience: that a token must be for.
    """

    keys_url: str
    audience: str
    _keys: dict[str, Any] = field(default_factory=dict)

    async def headers(self, given: Mapping[str, str]) -> dict[str, str]:
        """Give the headers of a request as the app gets them.

        Raises:
            Refused: it has a token that does not hold.
        """
        kept = without_claims(given)
        claims = await self.claims(given)
        if claims is not None:
            said = principal(claims)
            kept[_HEADERS] = b64encode(json.dumps(said).encode()).decode()
            kept[f"{_HEADERS}-id"] = claims["oid"]
            kept[f"{_HEADERS}-name"] = str(claims.get("upn") or claims.get("appid") or claims["oid"])
            kept[f"{_HEADERS}-idp"] = "aad"
        return kept

    async def claims(self, given: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Give what the token of a request says; ``None`` if it has none.

        Raises:
            Refused: the token does not hold.
        """
        scheme, _, token = given.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid", ""))
            options: Any = {"require": _REQUIRED}
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=_ALGORITHMS, audience=self.audience, options=options
            )
        except jwt.PyJWTError as error:
            raise Refused(str(error)) from None
        return claims

    async def _key(self, name: str) -> Any:
        if name not in self._keys:
            async with aiohttp.ClientSession() as session, session.get(self.keys_url) as answer:
                found = jwt.PyJWKSet.from_dict(await answer.json())
            self._keys = {str(each.key_id): each for each in found.keys}
        if name not in self._keys:
            raise Refused("the token was not signed with a key of its issuer")
        return self._keys[name]


def without_claims(given: Mapping[str, str]) -> dict[str, str]:
    """Take away what nobody outside may say."""
    return {name: value for name, value in given.items() if not name.startswith((_HEADERS, _TOKENS))}


def principal(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Give what ``X-MS-CLIENT-PRINCIPAL`` holds, before it is put into base64."""
    return {
        "auth_typ": "aad",
        "name_typ": f"{_SOAP}emailaddress",
        "role_typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
        "claims": [
            {"typ": _MAPPED.get(name, name), "val": str(each)}
            for name, value in claims.items()
            for each in (value if isinstance(value, list) else [value])
        ],
    }


def me(claims: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give what ``/.auth/me`` answers."""
    said = principal(claims)
    return [{"provider_name": "aad", "user_id": str(claims.get("upn") or claims["oid"]), "user_claims": said["claims"]}]
