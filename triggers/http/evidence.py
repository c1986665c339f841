"""The log, for auditors and witnesses: its checkpoint, its tiles and its keys (C2SP tlog-tiles)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import azure.functions as func

from shared.contracts.answers_evidence import LogKey, LogKeyList
from shared.domain.callers import Role
from shared.errors import NotFound
from shared.reading.numbers import digits
from triggers.http.endpoints import endpoint, json_answer
from triggers.openapi import Answer

if TYPE_CHECKING:
    from shared.domain.checkpoints import CheckpointRecord
    from shared.services import Services
    from shared.workflows.evidence.key_changes import KeyChanges
    from shared.workflows.evidence.reading import LogReader

_TEXT = "text/plain"
_DIGITS = 9
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
    answers=[Answer(200, "the keys, a line each (C2SP signed-note)", (_TEXT,), _CACHED)],
    refuses={404},
    role=Role.AUDIT_READ,
)
async def get_log_key(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the keys that verify the log's checkpoints; behind one that was retired stands until how many entries."""
    del request
    record = await _log_of(services).checkpoint()
    return func.HttpResponse(record.keys_text(), mimetype=_TEXT, charset="utf-8", headers={"Cache-Control": _CHANGES})


@endpoint(
    "GET",
    "log/handover/{number}",
    answers=[Answer(200, "the checkpoint, a signed note", (_TEXT,), _CACHED)],
    refuses={404},
    role=Role.AUDIT_READ,
)
async def get_log_handover(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Give the last checkpoint of a key that was retired, which the next key has signed as well; the first is 1."""
    text = request.route_params["number"]
    number = digits(text)
    if number is None or len(text) > _DIGITS:
        raise NotFound.because(f"{text[:40]!r} is not the number of a change of the log's key")
    note = await _log_of(services).handover(number)
    return func.HttpResponse(note, mimetype=_TEXT, charset="utf-8", headers={"Cache-Control": _STAYS})


@endpoint(
    "POST",
    "log/key/renew",
    answers=[Answer(200, "both keys sign", (LogKeyList,))],
    refuses={404},
    role=Role.AUTHORITIES_MANAGE,
    act="renewLogKey",
)
async def renew_log_key(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have a next key announced in the log, and sign its checkpoints beside the present one."""
    del request
    return _shown(await _changes_of(services).begin())


@endpoint(
    "POST",
    "log/key/retire",
    answers=[Answer(200, "the next key signs alone", (LogKeyList,))],
    refuses={404, 409},
    role=Role.AUTHORITIES_MANAGE,
    act="retireLogKey",
)
async def retire_log_key(services: Services, request: func.HttpRequest) -> func.HttpResponse:
    """Have the next key of the log sign alone; what the one before has signed stays verifiable."""
    del request
    return _shown(await _changes_of(services).end())


def _changes_of(services: Services) -> KeyChanges:
    _log_of(services)
    upkeep = services.evidence.upkeep
    if upkeep is None:
        raise NotFound.because("the zone of issuing signs the log; ask it")
    return upkeep.keys


def _shown(record: CheckpointRecord) -> func.HttpResponse:
    states: tuple[Literal["signs", "next"], ...] = ("signs", "next")
    signing = zip(record.signing, states, strict=False)
    keys = [LogKey(key=key, state=state, until=None) for (_, key), state in signing]
    keys += [LogKey(key=each.verifier_key, state="retired", until=each.until) for each in reversed(record.retired)]
    return json_answer(LogKeyList(origin=record.origin, keys=keys))


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
