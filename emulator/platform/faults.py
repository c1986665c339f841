"""Planned faults: what goes wrong, when and how often, by schedule or by seed and never by chance.

A rule picks calls by service and operation, and says what becomes of them. Services are ``identity``, ``key_vault``,
``dps``, ``management``, ``iot_hub`` (HTTP), ``dps_device``, ``iot_hub_device`` (MQTT) and ``iot_hub_service`` (AMQP).
The operation of an HTTP call is its method and path template, such as ``POST /keys/{name}/{version}/sign``; both are
shell patterns (``*``).
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler, Middleware

Drop = Literal["request", "response"]
NAMES = {
    "service": "service",
    "operation": "operation",
    "skip": "skip",
    "count": "count",
    "probability": "probability",
    "latencyMilliseconds": "latency_ms",
    "status": "status",
    "retryAfterSeconds": "retry_after",
    "drop": "drop",
}
MAX_LATENCY_MS = 600_000


class FaultError(ValueError):
    """A fault plan that can't be read; the text names the rule, the field and what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which calls, and what becomes of them.

    Attributes:
        service: pattern over the service's name.
        operation: pattern over the operation's name.
        skip: so many matching calls are let through first.
        count: so many calls after those are hit; None for all of them.
        probability: of a call among those to be hit, 0..1, decided by the plan's seed.
        latency_ms: wait before anything else, in milliseconds.
        status: answer with this HTTP status instead of acting.
        retry_after: seconds for the ``Retry-After`` header of that answer.
        drop: ``request`` closes the connection before anything took place, ``response`` after the effect took place.
    """

    service: str = "*"
    operation: str = "*"
    skip: int = 0
    count: int | None = None
    probability: float = 1.0
    latency_ms: int = 0
    status: int | None = None
    retry_after: int | None = None
    drop: Drop | None = None

    @classmethod
    def parse(cls, body: Any, where: str) -> Self:
        """Read a rule from JSON.

        Raises:
            FaultError: a field is unknown, or its value breaks its rule.
        """
        if not isinstance(body, dict):
            raise FaultError(f"{where} is not an object; fields: {', '.join(NAMES)}")
        unknown = sorted(set(body) - set(NAMES))
        if unknown:
            raise FaultError(f"{where} has the unknown field {unknown[0]!r}; known are: {', '.join(NAMES)}")
        rule = cls(**{NAMES[name]: value for name, value in body.items()})
        for name, holds, rule_text in (
            ("service", isinstance(rule.service, str), "a pattern, e.g. 'key_vault' or '*'"),
            ("operation", isinstance(rule.operation, str), "a pattern, e.g. 'POST /keys/*/sign' or '*'"),
            ("skip", _whole(rule.skip, 0), "a whole number from 0"),
            ("count", rule.count is None or _whole(rule.count, 1), "a whole number from 1, or null"),
            ("probability", _number(rule.probability) and 0 <= rule.probability <= 1, "a number from 0 to 1"),
            ("latencyMilliseconds", _whole(rule.latency_ms, 0, MAX_LATENCY_MS), f"from 0 to {MAX_LATENCY_MS}"),
            (
                "status",
                rule.status is None or _whole(rule.status, 400, 599),
                "an error status, 400 to 599, or null",
            ),
            ("retryAfterSeconds", rule.retry_after is None or _whole(rule.retry_after, 0), "whole seconds, or null"),
            ("drop", rule.drop in (None, *get_args(Drop)), "'request', 'response' or null"),
        ):
            if not holds:
                raise FaultError(f"{where}: {name} is {body[name]!r}; it must be {rule_text}")
        if not (rule.latency_ms or rule.status or rule.drop):
            raise FaultError(f"{where} has no effect: give latencyMilliseconds, status or drop")
        return rule

    def to_json(self) -> dict[str, Any]:
        """The rule as it is written in JSON, without what was left at its default."""
        defaults = {field.name: field.default for field in fields(self)}
        return {
            name: getattr(self, attribute)
            for name, attribute in NAMES.items()
            if getattr(self, attribute) != defaults[attribute]
        }


@dataclass(slots=True)
class _Planned:
    rule: Rule
    matched: int = 0
    applied: int = 0


class Faults:
    """The present plan; calls are counted from the moment it was set."""

    def __init__(self) -> None:
        self._seed = 0
        self._planned: list[_Planned] = []

    def plan(self, body: Any) -> None:
        """Replace the plan by ``{"seed": int, "rules": [...]}``.

        Raises:
            FaultError: it can't be read; the present plan stays.
        """
        if not isinstance(body, dict) or set(body) - {"seed", "rules"} or not isinstance(body.get("rules"), list):
            raise FaultError('a fault plan is an object {"seed": whole number, "rules": [rule, ...]}')
        seed = body.get("seed", 0)
        if not _whole(seed, 0):
            raise FaultError(f"seed is {seed!r}; it must be a whole number from 0")
        rules = [Rule.parse(rule, f"rules[{index}]") for index, rule in enumerate(body["rules"])]
        self._seed = seed
        self._planned = [_Planned(rule) for rule in rules]

    def clear(self) -> None:
        """Nothing goes wrong from now on."""
        self._planned = []

    def to_json(self) -> dict[str, Any]:
        """The plan, with how many calls each rule ``matched`` and to how many it was ``applied``."""
        rules = [
            planned.rule.to_json() | {"matched": planned.matched, "applied": planned.applied}
            for planned in self._planned
        ]
        return {"seed": self._seed, "rules": rules}

    def next(self, service: str, operation: str) -> Rule | None:
        """Count a call; return the rule that hits it, if one does: the first in the plan's order."""
        hit: _Planned | None = None
        for index, planned in enumerate(self._planned):
            rule = planned.rule
            if not (fnmatchcase(service, rule.service) and fnmatchcase(operation, rule.operation)):
                continue
            number = planned.matched
            planned.matched += 1
            due = rule.skip <= number and (rule.count is None or number < rule.skip + rule.count)
            if hit is None and due and self._draw(index, number) < rule.probability:
                hit = planned
        if hit is None:
            return None
        hit.applied += 1
        return hit.rule

    def _draw(self, rule: int, call: int) -> float:
        """A number in [0, 1) that depends on seed, rule and call alone, whatever happened in between."""
        digest = hashlib.sha256(f"{self._seed}/{rule}/{call}".encode()).digest()
        return int.from_bytes(digest[:6]) / (1 << 48)


def middleware(
    faults: Faults, service_of: Callable[[web.Request], str], operation_of: Callable[[web.Request], str]
) -> Middleware:
    """Apply the plan to HTTP calls.

    Args:
        faults: the plan.
        service_of: which service a request belongs to.
        operation_of: method and path template of a request; the path itself when no route matches.
    """

    @web.middleware
    async def apply(request: web.Request, handler: Handler) -> web.StreamResponse:
        rule = faults.next(service_of(request), operation_of(request))
        if rule is None:
            return await handler(request)
        if rule.latency_ms:
            await asyncio.sleep(rule.latency_ms / 1000)
        if rule.drop == "request":
            return _cut(request)
        if rule.status is not None:
            return _planned_status(rule.status, rule.retry_after)
        response = await handler(request)
        return _cut(request) if rule.drop == "response" else response

    return apply


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # goes nowhere: the connection is gone


def _planned_status(status: int, retry_after: int | None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    error = {"code": str(status), "message": "A planned fault of the emulator; see GET /faults at its admin port."}
    return web.json_response({"error": error}, status=status, headers=headers)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any, least: int, most: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value and (most is None or value <= most)
