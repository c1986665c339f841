"""Levels of the log, as host.json has them (``logging.logLevel``), for what the worker logs and sends by itself.

The host applies them to what it writes. With ``PYTHON_ENABLE_OPENTELEMETRY`` the worker's records no longer pass
through the host, so they are applied here, too. As in .NET, a category counts for what begins with its name, and a
setting ``AzureFunctionsJobHost__logging__logLevel__<category>`` overrides host.json (Microsoft: "host.json reference
for Azure Functions", section "Override host.json values").
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_OVERRIDE = "azurefunctionsjobhost__logging__loglevel__"
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}
"""Microsoft.Extensions.Logging.LogLevel, by name in lower case."""


def log_levels(host: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, int]:
    """Give the level of each logger that host.json or a setting names; the root logger is ``""``.

    Args:
        host: content of host.json.
        environment: of the process.

    Raises:
        ValueError: a level is not one of Microsoft.Extensions.Logging.
    """
    said: dict[str, str] = {
        **host.get("logging", {}).get("logLevel", {}),
        **{
            name[len(_OVERRIDE) :].replace("__", "."): value
            for name, value in environment.items()
            if name.lower().startswith(_OVERRIDE)
        },
    }
    levels = dict[str, int]()
    for category, level in said.items():
        if level.lower() not in _LEVELS:
            raise ValueError(f"logLevel {category!r} is {level!r}; it must be one of {', '.join(_LEVELS)}")
        levels["" if category.lower() == "default" else category.lower()] = _LEVELS[level.lower()]
    return levels
