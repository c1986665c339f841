"""What signs, logs first."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.side_by_side import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

SIGNING = {
    "shared/workflows/authorities/issuance.py",
    "shared/workflows/devices/issuing.py",
    "shared/workflows/status/revocation_lists.py",
}


def _signs(path: Path) -> bool:
    names = {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return bool(names & {("shared.pki.issuance", "issue"), ("shared.pki.revocation_lists", "build_crl")})


def test_each_module_that_signs_certificates_or_lists_appends_to_the_log() -> None:
    """Whoever adds another one has it log, and names it here."""
    found = {
        str(path.relative_to(REPOSITORY)): path.read_text()
        for path in (REPOSITORY / "shared").rglob("*.py")
        if "pki" not in path.parts and _signs(path)
    }
    assert set(found) == SIGNING
    assert [name for name, source in found.items() if "await self.log.append(" not in source] == []
