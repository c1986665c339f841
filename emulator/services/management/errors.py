"""Refusals of Azure Resource Manager: ``{"error": {"code", "message"}}``."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from emulator.protocols.wire import WireError


def refusal(status: int, code: str, message: str) -> WireError:
    """Give a refusal."""
    return WireError(status, {"error": {"code": code, "message": message}})


def bad_request(message: str) -> WireError:
    """400: the request breaks a rule."""
    return refusal(400, "BadRequest", message)


def not_found(what: str) -> WireError:
    """404: the resource does not exist."""
    return refusal(404, "ResourceNotFound", f"{what} was not found.")


def precondition_failed() -> WireError:
    """412: the ETag is another, or missing.

    Form and words are the resource provider's own (crossplane-contrib/provider-upjet-azure#299 quotes them, from a PUT
    without If-Match over a certificate that is there; Azure/azure-cli#13098 from a stale ETag).
    """
    at = datetime.now(UTC)
    message = (
        "Invalid ETag supplied. If you contact a support representative please include this correlation identifier: "
        f"{uuid.uuid4()}, timestamp: {at:%Y-%m-%d %H:%M:%SZ}, errorcode: IH412001."
    )
    return WireError(412, {"code": 412001, "httpStatusCode": "PreconditionFailed", "message": message})
