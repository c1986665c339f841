"""Conditional requests (RFC 9110 section 13): the ETags that callers read, and what they expect them to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import PreconditionFailed

if TYPE_CHECKING:
    from collections.abc import Mapping


def quoted(etag: str) -> str:
    """Give an entity tag as a header has it."""
    return f'"{etag.strip('"')}"'


def check(headers: Mapping[str, str], what: str, etag: str | None) -> None:
    """Compare ``If-Match`` and ``If-None-Match`` with what is there.

    Args:
        headers: of the request.
        what: names the resource, for the message.
        etag: its present entity tag, ``None`` if the resource does not exist.

    Raises:
        PreconditionFailed: the caller expects something else.
    """
    expected, unwanted = _tags(headers.get("If-Match")), _tags(headers.get("If-None-Match"))
    if unwanted and etag is not None and ("*" in unwanted or quoted(etag) in unwanted):
        raise PreconditionFailed.because(
            f"{what} exists, with ETag {quoted(etag)}, and If-None-Match says {', '.join(unwanted)}",
            field="If-None-Match",
        )
    if not expected:
        return
    if etag is None:
        raise PreconditionFailed.because(
            f"{what} does not exist, and If-Match says {', '.join(expected)}: leave it out to create one",
            field="If-Match",
        )
    if "*" not in expected and quoted(etag) not in expected:
        raise PreconditionFailed.because(
            f"{what} was changed since it was read: its ETag is {quoted(etag)}, and If-Match says "
            f"{', '.join(expected)}; read it again and decide anew",
            field="If-Match",
        )


def _tags(header: str | None) -> list[str]:
    """Split a list of entity tags. A weak one stays weak, and so matches none (RFC 9110 section 13.1.1)."""
    return [tag.strip() for tag in (header or "").split(",") if tag.strip()]
