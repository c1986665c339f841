"""The log, for auditors and witnesses: its checkpoint, its tiles and its key (C2SP tlog-tiles)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from shared.domain.callers import Role
from shared.errors import NotFound
from triggers.http.endpoints import endpoint
from triggers.openapi import Answer

if TYPE_CHECKING:
    from shared.services import Services
    from shared.workflows.evidence.reading import LogReader

_TEXT = "text/plain"
_CHANGES = "no-cache"
_STAYS = "private, max-age=31536000, immutable"
_CACHED = (("Cache-Control", "how long it can be kept"),)


def _log_of(services: Services) -> LogReader:
    reader = services.evidence.reader
    if reader is None:
        raise NotFound.because("this deployment keeps no log: EVIDENCE_LOG is off")
    return reader


@endpoint(
    "GET",
    "log/checkpoint",
    answers=[Answer(200, "the checkpoint, a signed note (C2SP tlog-checkpoint)", (_TEXT,), _CACHED)],
    refuses={404},
    role=Role.AUDIT_READ,
)
async def get_log_checkpoint(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the log's newest checkpoint, with the signatures of witnesses."""
    del request
    record = await _log_of(services).checkpoint()
    return func.HttpResponse(record.note, mimetype=_TEXT, charset="utf-8", headers={"Cache-Control": _CHANGES})


@endpoint(
    "GET",
    "log/key",
    answers=[Answer(200, "the key (C2SP signed-note)", (_TEXT,), _CACHED)],
    refuses={404},
    role=Role.AUDIT_READ,
)
async def get_log_key(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the key that verifies the log's checkpoints."""
    del request
    record = await _log_of(services).checkpoint()
    return func.HttpResponse(
        f"{record.verifier_key}\n", mimetype=_TEXT, charset="utf-8", headers={"Cache-Control": _CHANGES}
    )


@endpoint(
    "GET",
    "log/tile/{*path}",
    answers=[Answer(200, "hashes, or entries after their lengths", ("application/octet-stream",), _CACHED)],
    refuses={404},
    role=Role.AUDIT_READ,
)
async def get_log_tile(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give a tile of the log, or a bundle of its entries."""
    content = await _log_of(services).tile(f"tile/{request.route_params.get('path', '')}")
    return func.HttpResponse(content, mimetype="application/octet-stream", headers={"Cache-Control": _STAYS})
