"""Reads which witnesses of the log are trusted."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.evidence.verify import COSIGNATURE, NotProved, VerifierKey


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness.

    Attributes:
        key: with which it signs.
        url: to which checkpoints are sent: its submission prefix.
    """

    key: VerifierKey
    url: str


def read_witnesses(text: str) -> tuple[Witness, ...]:
    """Read entries separated by ``;``: a key and a URL, with a blank between them.

    Raises:
        ValueError: with an argument for each entry that is wrong.
    """
    found, problems = list[Witness](), list[str]()
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        key, _, url = entry.partition(" ")
        parts = urlsplit(url.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            problems.append(f"has {entry[:140]!r}; an entry is a key and a URL, with a blank between them")
            continue
        try:
            read = VerifierKey.read(key)
        except NotProved as error:
            problems.append(f"has {entry[:140]!r}: {error}")
            continue
        if read.kind != COSIGNATURE:
            problems.append(f"has the key of {read.name!r} of type {read.kind:#04x}; a witness has one of type 0x04")
            continue
        found.append(Witness(read, url.strip().rstrip("/")))
    if problems:
        raise ValueError(*problems)
    return tuple(found)
