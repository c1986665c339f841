"""One setting: what it is called, what it says, what values it takes, and how it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from shared.reading.numbers import digits
from shared.rules.zones import Zone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet


class InvalidSettings(ValueError):
    """One or more settings are missing or wrong; the message lists all of them."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("invalid settings:\n" + "\n".join(f"  - {problem}" for problem in problems))


@dataclass(frozen=True, slots=True)
class AzureResource:
    """A DPS or an IoT hub as an Azure resource, for its management API (Azure Resource Manager).

    Attributes:
        subscription_id: id of the subscription.
        resource_group: name of the resource group.
        name: of the resource.
    """

    subscription_id: str
    resource_group: str
    name: str


@dataclass(frozen=True, slots=True)
class Kind[T]:
    """What values a setting takes.

    Attributes:
        takes: says it, for docs/settings.md.
        read: reads a value that is not empty. Raises ``ValueError`` with one argument for each thing that is wrong;
            each of them goes on after the setting's name.
    """

    takes: str
    read: Callable[[str], T]


def _https_url(value: str) -> str:
    parts, problems = urlsplit(value), list[str]()
    if parts.scheme != "https" or not parts.hostname:
        problems.append(f"is {value!r}; it must be an https:// URL, since tokens travel over it")
    if parts.query or "@" in parts.netloc:
        problems.append("must be a bare URL without credentials or a query (no SAS)")
    if problems:
        raise ValueError(*problems)
    return value.rstrip("/")


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "http" or not parts.hostname or parts.query:
        raise ValueError(f"is {value!r}; it must be an http:// URL: RFC 5280 section 8 warns of https")
    return value.rstrip("/")


def _web_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"is {value!r}; it must be an http:// or https:// URL")
    if parts.query or "@" in parts.netloc:
        raise ValueError("must be a bare URL without credentials or a query")
    return value.rstrip("/")


_NAME_IN_VAULT = re.compile(r"[0-9a-z-]{1,127}")


def _secret_name(value: str) -> str:
    if not _NAME_IN_VAULT.fullmatch(value.lower()):
        # Not repeated: it may be the secret itself.
        raise ValueError("must be the name of a vault secret: 1 to 127 letters, digits and dashes")
    return value


def _vault_names(value: str) -> frozenset[str]:
    found = frozenset(each.lower() for each in _listed(value))
    wrong = sorted(each for each in found if not _NAME_IN_VAULT.fullmatch(each))
    if wrong:
        rule = "names in a vault have letters, digits and dashes, 127 at most"
        raise ValueError(*(f"has {each!r}; {rule}" for each in wrong))
    return found


def _flag(value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise ValueError(f"is {value.lower()!r}; it must be true or false")
    return value.lower() == "true"


_HOST = re.compile(r"(?:[0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(f"is {value!r}; it must be a host name, which :port may follow")
    return value


def _country(value: str) -> str:
    if not re.fullmatch("[A-Z]{2}", value):
        raise ValueError(f"is {value!r}; it must be two capital letters (ISO 3166-1 alpha-2)")
    return value


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(";") if part.strip()]


_RESOURCE_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.Devices/(?P<type>[^/]+)/(?P<name>[^/]+)",
    re.IGNORECASE,
)


def _resource(value: str, kind: str) -> AzureResource:
    match = _RESOURCE_ID.fullmatch(value)
    if match is None or match["type"].lower() != kind.lower():
        raise ValueError(
            f"is {value!r}; it must be /subscriptions/<id>/resourceGroups/<name>/providers/"
            f"Microsoft.Devices/{kind}/<name>"
        )
    return AzureResource(match["subscription"], match["group"], match["name"])


def _dps_resource(value: str) -> AzureResource:
    return _resource(value, "provisioningServices")


def _hub_resources(value: str) -> tuple[AzureResource, ...]:
    found, problems = list[AzureResource](), list[str]()
    for each in _listed(value):
        try:
            found.append(_resource(each, "IotHubs"))
        except ValueError as error:
            problems.extend(error.args)
    if problems:
        raise ValueError(*problems)
    return tuple(found)


def _hubs(value: str) -> Mapping[str, str]:
    hubs, problems = dict[str, str](), list[str]()
    for entry in _listed(value):
        host, _, url = entry.partition("=")
        url = url or f"https://{host}"
        if urlsplit(url).scheme != "https":
            problems.append(f"has {entry!r}; an entry is hostName or hostName=https://serviceUrl")
        hubs[host.strip().lower()] = url.strip().rstrip("/")
    if problems:
        raise ValueError(*problems)
    return hubs


def number(unit: str, low: int, high: int) -> Kind[timedelta]:
    """Take a time as a whole number of ``unit`` (as ``timedelta`` calls it), from ``low`` to ``high``."""
    count = whole(unit, low, high)
    return Kind(count.takes, lambda value: timedelta(**{unit: count.read(value)}))


def whole(what: str, low: int, high: int) -> Kind[int]:
    """Take a whole number of ``what``, from ``low`` to ``high``."""

    def read(value: str) -> int:
        found = digits(value)
        if found is None or not low <= found <= high:
            raise ValueError(f"is {value!r}; it must be a whole number from {low} to {high}")
        return found

    return Kind(f"a whole number of {what} from {low} to {high}", read)


def several(what: str, low: int, high: int) -> Kind[tuple[int, ...]]:
    """Take one or more whole numbers of ``what``, separated by ``;``; gives each once, the greatest first."""
    kind = whole(what, low, high)

    def read(value: str) -> tuple[int, ...]:
        return tuple(sorted({kind.read(each) for each in _listed(value)}, reverse=True)) or (kind.read(value),)

    return Kind(f"whole numbers of {what} from {low} to {high}, separated by `;`", read)


def one_of[T: str](*values: T) -> Kind[T]:
    """Take one of these words."""

    def read(value: str) -> T:
        for each in values:
            if value == each:
                return each
        raise ValueError(f"is {value!r}; it must be {' or '.join(values)}")

    return Kind(" or ".join(f"`{each}`" for each in values), read)


TEXT = Kind("text", str)
HTTPS_URL = Kind("an `https://` URL without a query", _https_url)
HTTP_URL = Kind("an `http://` URL without a query", _http_url)
WEB_URL = Kind("an `http://` or `https://` URL without a query", _web_url)
SECRET_NAME = Kind("1 to 127 letters, digits and dashes", _secret_name)
VAULT_NAMES = Kind("names separated by `;`, each of 1 to 127 letters, digits and dashes", _vault_names)
FLAG = Kind("`true` or `false`", _flag)
HOST = Kind("a host name, which `:port` may follow", _host)
COUNTRY = Kind("two capital letters (ISO 3166-1 alpha-2)", _country)
DPS_RESOURCE = Kind("a resource id of type `Microsoft.Devices/provisioningServices`", _dps_resource)
HUB_RESOURCES = Kind("resource ids of type `Microsoft.Devices/IotHubs`, separated by `;`", _hub_resources)
HUBS = Kind("entries separated by `;`, each `hostName` or `hostName=https://serviceUrl`", _hubs)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: in the environment.
        kind: what values it takes.
        meaning: what it says, in a sentence or a few.
        example: a value that it takes.
        default: what counts when it is not set; ``None`` when it must be set.
        otherwise: what happens when it is not set and the default is empty.
        zones: that use it; in the others it need not be set.
    """

    name: str
    kind: Kind[Any]
    meaning: str
    example: str
    default: str | None = None
    otherwise: str = ""
    zones: AbstractSet[Zone] = frozenset(Zone)

    def read(self, environment: Mapping[str, str], zone: Zone = Zone.ALL) -> Any:
        """Give the value, or ``None`` if it is not set and has no default. A zone that does not use it has the default.

        Raises:
            ValueError: with every problem, each beginning with the setting's name.
        """
        is_used = zone in self.zones
        value = (environment.get(self.name, "").strip() if is_used else "") or self.default
        if value is None and is_used:
            raise ValueError(f"{self.name} is not set")
        if not value:
            return None
        try:
            return self.kind.read(value)
        except ValueError as error:
            raise ValueError(*(f"{self.name} {problem}" for problem in error.args)) from error
