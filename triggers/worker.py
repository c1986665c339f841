"""What one worker process holds: its settings and its services."""

from __future__ import annotations

import functools
import json
import logging
import os
from pathlib import Path

from shared.adapters.identity import Identity
from shared.log_lines import keep_to_lines
from shared.services import Services, build
from shared.settings import Settings
from triggers.log_levels import log_levels

HOST_JSON = Path(__file__).parents[1] / "host.json"

_QUIET = ("azure.core.pipeline.policies.http_logging_policy", "azure.identity", "azure.iot.device", "uamqp")
"""Loggers of the SDKs that write a line or more per call."""


@functools.cache
def settings() -> Settings:
    """Read the settings once; a worker with wrong settings does not start."""
    return Settings.from_environment(os.environ)


@functools.cache
def services() -> Services:
    """Build the services on first use, on the worker's event loop."""
    return build(settings())


def set_up_logging() -> None:
    """Keep each record to one line, with what it is about; take the levels from host.json."""
    keep_to_lines()
    host = json.loads(HOST_JSON.read_text(encoding="utf-8"))
    for name, level in log_levels(host, os.environ).items():
        logging.getLogger(name).setLevel(level)
    for name in _QUIET:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))


def set_up_telemetry() -> None:
    """Have spans, metrics and the log go out, if a setting says where; else nothing of it is so much as imported."""
    known = settings()
    if known.application_insights is None and known.otlp_endpoint is None:
        return
    from shared.telemetry import exporting  # noqa: PLC0415 - takes half a second, which is for those who use it

    exporting.start(
        connection_string=known.application_insights,
        otlp=known.otlp_endpoint is not None,
        credential=Identity.managed(known.managed_identity_client_id).synchronous,
        name=log.name,
    )


log = logging.getLogger("device_identity_factory")
"""The app's log."""
