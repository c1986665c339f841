"""The vault's own error codes and texts (learn.microsoft.com/azure/key-vault/general/rest-error-codes)."""

from __future__ import annotations

from emulator.platform.identity.tokens import KEY_VAULT_AUDIENCE
from emulator.protocols.wire import WireError

RECOVERY_HINT = (
    "If you recently deleted this {noun} you may be able to recover it using the correct recovery command. "
    "For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"
)


def _error(status: int, code: str, message: str, inner: str | None = None) -> WireError:
    error: dict[str, object] = {"code": code, "message": message}
    if inner is not None:
        error["innererror"] = {"code": inner}
    return WireError(status, {"error": error})


def unauthorized(reason: str, tenant_id: str) -> WireError:
    """401 with the challenge that tells a client where to get which token.

    An empty body of the first, tokenless request is normal: the SDKs find out tenant and resource that way.
    """
    challenge = f'Bearer authorization="https://login.microsoftonline.com/{tenant_id}", resource="{KEY_VAULT_AUDIENCE}"'
    body = {"error": {"code": "Unauthorized", "message": f"The request was not authenticated: {reason}."}}
    return WireError(401, body, {"WWW-Authenticate": challenge})


def forbidden(reason: str) -> WireError:
    """403: known, and without a role."""
    message = f"Caller is not authorized to perform action on resource: {reason}."
    return _error(403, "Forbidden", message, "ForbiddenByRbac")


def throttled(retry_after: int) -> WireError:
    """429: too many transactions."""
    error = _error(
        429,
        "Throttled",
        "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
    )
    return WireError(error.status, error.body, {"Retry-After": str(retry_after)})


def bad_parameter(message: str) -> WireError:
    """400: something in the request breaks a rule."""
    return _error(400, "BadParameter", message)


def not_found(noun: str, identifier: str) -> WireError:
    """404: no such key or secret, or none of that version."""
    message = f"A {noun} with (name/id) {identifier} was not found in this key vault. {RECOVERY_HINT}"
    return _error(404, f"{noun.capitalize()}NotFound", message.format(noun=noun))


def deleted_not_found(noun: str, name: str) -> WireError:
    """404: nothing of that name among what was deleted."""
    return _error(404, f"{noun.capitalize()}NotFound", f"Deleted {noun.capitalize()} not found: {name}")


def deleted_but_recoverable(noun: str, name: str) -> WireError:
    """409: the name belongs to something deleted that can still be recovered."""
    message = (
        f"{noun.capitalize()} {name} is currently in a deleted but recoverable state, and its name cannot be reused; "
        f"in this state, the {noun} can only be recovered or purged."
    )
    return _error(409, "Conflict", message, "ObjectIsDeletedButRecoverable")


def disabled(noun: str, operation: str) -> WireError:
    """403: the version is disabled."""
    message = f"Operation {operation} is not allowed on a disabled {noun}."
    return _error(403, "Forbidden", message, f"{noun.capitalize()}Disabled")


def not_yet_valid(operation: str) -> WireError:
    """403: the key's nbf lies ahead."""
    message = f"Operation {operation} is not allowed on a key that is not yet valid."
    return _error(403, "Forbidden", message, "KeyNotYetValid")


def expired(operation: str) -> WireError:
    """403: the key's exp has passed."""
    return _error(403, "Forbidden", f"Operation {operation} is not allowed on an expired key.", "KeyExpired")


def operation_not_permitted(operation: str) -> WireError:
    """403: not among the key's own operations."""
    message = f"Operation {operation} is not permitted on this key."
    return _error(403, "Forbidden", message, "KeyOperationForbidden")
