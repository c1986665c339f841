"""Why a caller is turned away; each service puts this into its own 401 or 403 body."""

from __future__ import annotations


class Refusal(Exception):
    """A caller that is turned away.

    Attributes:
        reason: one sentence; it never holds a token, a signature or a key.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unauthenticated(Refusal):
    """401: the service does not know who is calling."""


class Forbidden(Refusal):
    """403: the caller is known and may not do this."""
