"""What can be wrong with a chain, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HARMLESS = frozenset({"serial-number", "policy"})
"""Codes of findings that DPS does not refuse a CA for, and others may: RFC 5280 asks to take unusual serial numbers
(section 4.1.2.2), and DPS asks for no policies."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why DPS would refuse a chain.

    Attributes:
        code: a word for it, for programs.
        message: what is wrong and what would be right.
    """

    code: str
    message: str


def refusals(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Leave out what is harmless."""
    return tuple(each for each in findings if each.code not in HARMLESS)
