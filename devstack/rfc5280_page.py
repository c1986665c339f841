"""Write docs/rfc5280.md from what the code says of its rules: ``python -m devstack.rfc5280_page``.

A docstring, a comment or a message that names a section of RFC 5280 is where a rule of that section stands.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "rfc5280.md"
ENGINE = "shared/pki"

TITLES: Mapping[str, str] = {
    "3.2": "Certification Paths and Trust",
    "3.3": "Revocation",
    "4": "Certificate and Certificate Extensions Profile",
    "4.1": "Basic Certificate Fields",
    "4.1.2.2": "Serial Number",
    "4.1.2.4": "Issuer",
    "4.1.2.5": "Validity",
    "4.1.2.7": "Subject Public Key Info",
    "4.1.2.9": "Extensions",
    "4.2": "Certificate Extensions",
    "4.2.1.1": "Authority Key Identifier",
    "4.2.1.2": "Subject Key Identifier",
    "4.2.1.3": "Key Usage",
    "4.2.1.4": "Certificate Policies",
    "4.2.1.5": "Policy Mappings",
    "4.2.1.9": "Basic Constraints",
    "4.2.1.10": "Name Constraints",
    "4.2.1.12": "Extended Key Usage",
    "4.2.1.13": "CRL Distribution Points",
    "4.2.2.1": "Authority Information Access",
    "5": "CRL and CRL Extensions Profile",
    "5.1": "CRL Fields",
    "5.1.2.4": "This Update",
    "5.1.2.5": "Next Update",
    "5.1.2.6": "Revoked Certificates",
    "5.2.3": "CRL Number",
    "5.3.1": "Reason Code",
    "6": "Certification Path Validation",
    "6.1": "Basic Path Validation",
    "6.1.1": "Inputs",
    "6.1.2": "Initialization",
    "6.1.3": "Basic Certificate Processing",
    "6.1.4": "Preparation for Certificate i+1",
    "6.1.5": "Wrap-Up Procedure",
    "6.3.3": "CRL Processing",
    "7.1": "Internationalized Names in Distinguished Names",
    "8": "Security Considerations",
    "A.1": "Explicitly Tagged Module, 1988 Syntax",
}
"""The sections that the code names, with their headings (RFC 5280, table of contents)."""

_NUMBER = r"(?:A|\d)(?:\.\d+)*"
_SEVERAL = rf"{_NUMBER}(?:(?:,| and|, and) {_NUMBER})*"
_NAMED = re.compile(rf"RFC 5280,? (?:(?:[Ss]ections?|appendix) )?({_SEVERAL})")
_BARE = re.compile(rf"(?<!\w)[Ss]ections? ({_SEVERAL})")
_OTHER = re.compile(r"(?:RFC|X\.|SEC|SP|FIPS|draft)[\w .-]*$")

_HEAD = """# RFC 5280

<!-- Made from the code by `make docs`. Do not edit this page. -->

Where a rule of [RFC 5280](https://www.rfc-editor.org/rfc/rfc5280) stands: [by module](#by-module) of the certificate
engine, and [by section](#by-section) of the RFC. The engine does no I/O, and has no clock.

## By module

| module | holds |
| --- | --- |
"""

_SECTIONS = """
## By section

| section | heading | where |
| --- | --- | --- |
"""


def rfc5280_page() -> str:
    """Give the page, in Markdown."""
    found = _named()
    rows = [f"| {each} | {_title(each, found[each])} | {_where(found[each])} |\n" for each in sorted(found, key=_order)]
    return "".join([_HEAD, *_modules(), _SECTIONS, *rows])


@cache
def _named() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Give the sections that the app names, with the places at which each module does so."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted([*(REPOSITORY / "shared").rglob("*.py"), *(REPOSITORY / "triggers").rglob("*.py")]):
        file = path.relative_to(REPOSITORY).as_posix()
        for section, name in places(path.read_text(encoding="utf-8")):
            if name not in found[section][file]:
                found[section][file].append(name)
    return found


def _title(section: str, files: Iterable[str]) -> str:
    if section not in TITLES:
        raise LookupError(
            f"section {section} of RFC 5280, named in {', '.join(files)}, has no heading: add it to TITLES in "
            f"{Path(__file__).relative_to(REPOSITORY).as_posix()}, as the RFC's table of contents has it"
        )
    return TITLES[section]


def places(source: str) -> Iterator[tuple[str, str]]:
    """Give what of RFC 5280 a module names: each section, and the function, class or constant that names it.

    What names the module as a whole is the empty name. A section without the name of a document is one of RFC 5280 if
    the module's docstring names that RFC.
    """
    tree = ast.parse(source)
    pattern = _BARE if "RFC 5280" in (ast.get_docstring(tree) or "") else None
    for line, text in _texts(tree, source):
        named = [*_NAMED.finditer(text)]
        if pattern is not None:
            named += [each for each in pattern.finditer(text) if not _OTHER.search(text[: each.start()])]
        for each in named:
            for section in re.findall(_NUMBER, each[1]):
                yield section, _name_at(tree, line)


def _texts(tree: ast.Module, source: str) -> Iterator[tuple[int, str]]:
    """Give the strings and the comments of a module, each on one line, with the line where it begins."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _name_at(tree: ast.Module, line: int) -> str:
    """Give the name of what stands there: a definition, or the constant that a line is about."""
    name, before = "", ""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            before = target.id if isinstance(target, ast.Name) else ""
        if node.lineno <= line <= (node.end_lineno or line):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = node.name
            elif node is not tree.body[0]:
                name = before
    return name


def _modules() -> Iterator[str]:
    for path in sorted((REPOSITORY / ENGINE).glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if path.stem != "__init__":
            first = text.split("\n\n")[0].replace("\n", " ").replace("``", "`")
            yield f"| {_link(f'{ENGINE}/{path.name}')} | {first} |\n"


def _where(files: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(
        _link(file) + (f" {', '.join(f'`{each}`' for each in names if each)}" if any(names) else "")
        for file, names in files.items()
    )


def _link(file: str) -> str:
    return f"[{file.removeprefix('shared/')}](../{file})"


def _order(section: str) -> list[tuple[bool, int]]:
    return [(not each.isdigit(), int(each) if each.isdigit() else 0) for each in section.split(".")]


if __name__ == "__main__":
    PAGE.write_text(rfc5280_page(), encoding="utf-8")
