"""Paths as Azure reads them: fixed parts in any case of letters, with or without a slash at the end.

Clients rely on it: Microsoft's azure-iot-provisioning-service of Node.js posts to
``/enrollmentgroups/{id}/attestationmechanism`` and ``/enrollments/``, its azure-iothub gets ``/devices/``.
"""

from __future__ import annotations

import re

_PART = re.compile(r"\{[^{}]*\}|(?P<fixed>[^/{}]+)")
_RULE = re.compile(r"\{(\w+):[^{}]*\}")
_END = "{_end:/?}"


def pattern(template: str) -> str:
    """Give the route, as aiohttp reads it, that takes every spelling of a path.

    Args:
        template: such as ``/keys/{name}/{version:[^/]*}``.
    """
    return _PART.sub(_in_any_case, template) + _END


def _in_any_case(part: re.Match[str]) -> str:
    return part[0] if part["fixed"] is None else f"{{_{part.start()}:(?i:{re.escape(part['fixed'])})}}"


def plain(template: str) -> str:
    """Give a template without the rules of its parameters: ``/keys/{name}/{version}``."""
    return _RULE.sub(r"{\1}", template)
