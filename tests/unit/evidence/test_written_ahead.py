"""What signs, logs first."""

from __future__ import annotations

import ast

from tests.sources import sources

SIGNING = {
    "shared/workflows/authorities/issuance.py",
    "shared/workflows/devices/issuing.py",
    "shared/workflows/status/revocation_lists.py",
}


def _signs(source: str) -> bool:
    names = {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return bool(names & {("shared.pki.issuance", "issue"), ("shared.pki.revocation_lists", "build_crl")})


def test_each_module_that_signs_certificates_or_lists_appends_to_the_log() -> None:
    """Whoever adds another one has it log, and names it here."""
    found = {path: source for path, source in sources("shared").items() if "/pki/" not in path and _signs(source)}
    assert set(found) == SIGNING
    assert [name for name, source in found.items() if "await self.log.append(" not in source] == []
