"""Routes, matched as the real host matches them.

Sources: WebJobsRouteBuilder and WebJobsRouter of Azure/azure-webjobs-sdk-extensions put the routes into an ASP.NET Core
``RouteCollection``, in which the first match wins; WebScriptHostHttpRoutesManager of Azure/azure-functions-host adds a
constraint for the methods; FunctionMetadataManager sorts functions by name, without regard to case. Templates are
matched by RoutePatternMatcher, paths are decoded by Kestrel's PathDecoder (both dotnet/aspnetcore).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from devstack.functions_host.configuration import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from devstack.functions_host.worker import Function

_PART = re.compile(r"(?P<literal>[^{}/]+)|{(?P<rest>\*{0,2})(?P<name>\w+)}")


@dataclass(frozen=True, slots=True)
class _Segment:
    """One part of a template: a literal, a parameter, or what takes the rest of the path."""

    text: str
    is_parameter: bool = False
    takes_rest: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """The route of one function.

    Attributes:
        methods: in capitals; empty for all.
    """

    function: Function
    methods: frozenset[str]
    segments: tuple[_Segment, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """Match a decoded path, and give the route's parameters.

        Literals match without regard to case, and a slash at the end counts for nothing. A parameter needs a value; an
        empty segment matches nothing. ``{*rest}`` takes whatever follows, slashes included; if nothing follows, it
        matches all the same and has no value at all.
        """
        begins = [found.end() for found in re.finditer("/", path)]
        if begins and begins[-1] == len(path):
            begins.pop()
        values: dict[str, str] = {}
        for index, begin in enumerate(begins):
            text = path[begin:].partition("/")[0]
            if not text or index >= len(self.segments):
                return None
            segment = self.segments[index]
            if segment.takes_rest:
                return {**values, segment.text: path[begin:]}
            if segment.is_parameter:
                values[segment.text] = text
            elif segment.text.lower() != text.lower():
                return None
        missing = self.segments[len(begins) :]
        return values if all(segment.takes_rest for segment in missing) else None


def routes(functions: Iterable[Function], prefix: str) -> list[Route]:
    """Give the routes of the HTTP functions in the order in which they are tried.

    Args:
        functions: all of the app's.
        prefix: ``routePrefix`` of host.json.

    Raises:
        ConfigurationError: a template has what this host does not offer, such as constraints.
    """
    found = []
    for function in sorted(functions, key=lambda function: function.name.lower()):
        if function.kind == "httpTrigger":
            template = "/".join(filter(None, (prefix, str(function.trigger.get("route") or function.name))))
            methods = function.trigger.get("methods") or ()
            found.append(Route(function, frozenset(str(each).upper() for each in methods), _segments(template)))
    return found


def _segments(template: str) -> tuple[_Segment, ...]:
    segments: list[_Segment] = []
    for text in template.strip("/").split("/"):
        part = _PART.fullmatch(text)
        if part is None or (segments and segments[-1].takes_rest):
            raise ConfigurationError(f"the route {template!r} has {text!r}, which this host does not offer")
        segments.append(
            _Segment(part["literal"])
            if part["literal"]
            else _Segment(part["name"], is_parameter=True, takes_rest=bool(part["rest"]))
        )
    return tuple(segments)


def found(tried: Iterable[Route], method: str, path: str) -> tuple[Function, dict[str, str]] | None:
    """Find the function for a request, and its route's parameters; none is a 404, for a wrong method as well."""
    for route in tried:
        if not route.methods or method.upper() in route.methods:
            values = route.match(path)
            if values is not None:
                return route.function, values
    return None


def decoded_path(target: str) -> str | None:
    """Decode the path of a request's target as Kestrel does; ``None`` for what it refuses.

    ``%2F`` stays as it is, and so does what is not UTF-8. Dot segments are taken out after that.
    """
    path = target.partition("?")[0].partition("#")[0]
    if not path.isascii() or re.search(r"%00|[\x00-\x20\x7f]", path):
        return None
    decoded = re.sub(r"(?:%(?!2[Ff])[0-9A-Fa-f]{2})+", lambda run: _unescaped(run[0]), path)
    return _without_dots(decoded)


def _unescaped(run: str) -> str:
    """Decode what is UTF-8, and leave the rest escaped."""
    text = bytes.fromhex(run.replace("%", "")).decode(errors="surrogateescape")
    return "".join(f"%{ord(each) - 0xDC00:02X}" if 0xDC80 <= ord(each) <= 0xDCFF else each for each in text)  # noqa: PLR2004


def _without_dots(path: str) -> str:
    """Take ``.`` and ``..`` out of a path (RFC 3986 section 5.2.4)."""
    if not re.search(r"/\.{1,2}(?:/|$)", path):
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


def query(target: str) -> dict[str, str]:
    """Read a target's query as functions get it (GrpcMessageConversionExtensions of azure-functions-host).

    Names are compared without regard to case, values of one name are joined with commas, empty values are left out.
    """
    values: dict[str, tuple[str, list[str]]] = {}
    for name, value in parse_qsl(target.partition("?")[2], keep_blank_values=True, errors="replace"):
        values.setdefault(name.lower(), (name, []))[1].append(value)
    joined = {name: _joined(each) for name, each in values.values()}
    return {name: value for name, value in joined.items() if value}


def headers(raw: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Give headers as functions get them: names in lower case, values of one name joined with commas."""
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.lower(), []).append(value)
    return {name: _joined(each) for name, each in values.items()}


def _joined(values: Iterable[str]) -> str:
    """Join values as ``StringValues.ToString`` of .NET does: empty ones are skipped."""
    return ",".join(filter(None, values))
