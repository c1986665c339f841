"""What one worker process holds: its settings and its services."""

from __future__ import annotations

import functools
import logging
import os

from shared.log_lines import keep_to_lines
from shared.services import Services, build
from shared.settings import Settings
from shared.tracing import TraceFilter

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
    """Keep each record to one line, put the trace into those of the app, and keep the SDKs to warnings."""
    keep_to_lines()
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    log.addFilter(TraceFilter())


log = logging.getLogger("device_identity_factory")
"""The app's log."""
