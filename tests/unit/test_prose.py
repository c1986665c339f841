"""Messages, docstrings and documents say things in the usual words, and links in the documents lead somewhere."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.sources import sources

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    *REPOSITORY.glob("*.md"),
    *(REPOSITORY / "docs").rglob("*.md"),
    REPOSITORY / "emulator" / "README.md",
]
SPOKEN = ("shared", "triggers", "emulator", "devstack")
INVERTED = re.compile(
    r"\b(?:is|was) no (?!longer\b|more\b|less\b|other\b|later\b)|\b[Tt]here (?:is|are|was|were) no\b"
    r"|(?<!\b[Tt]here )\b(?:is|are) none\b|\bcan be none\b"
)


def inverted_in(source: str) -> list[str]:
    """Give the texts of a module, messages, docstrings and comments, that say "is no x", "is none" or "there is no x"."""
    texts = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    texts += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return [text for text in texts if INVERTED.search(" ".join(text.split()))]


@pytest.mark.parametrize("folder", SPOKEN)
def test_what_the_code_says_is_said_in_the_usual_words(folder: str) -> None:
    """Say that 'x' is not a valid id, and that the order 'x' does not exist."""
    found = {
        path: texts
        for path, source in sources(folder).items()
        if "/tests/" not in path and (texts := inverted_in(source))
    }
    assert found == {}


def test_a_message_that_is_said_the_other_way_round_is_found() -> None:
    """Split over lines and around a value, too; "is no longer" is the usual word."""
    source = 'a = f"{x!r} is " "no id: give one"\nb = "there is\\n  no order"\nc = "it is no longer here"\n'
    assert inverted_in(source) == ["there is\n  no order", " is no id: give one"]
    assert inverted_in('a = "if there is none"\nb = "a tab is none"  # which is no error\n') == [
        "a tab is none",
        "# which is no error",
    ]


def named_in(source: str) -> list[str]:
    """Give the classes and types that a module makes."""
    made = ast.parse(source).body
    classes = [each.name for each in made if isinstance(each, ast.ClassDef)]
    aliases = [each.name.id for each in made if isinstance(each, ast.TypeAlias)]
    assigned = [each.targets[0] for each in made if isinstance(each, ast.Assign)]
    return [*classes, *aliases, *(each.id for each in assigned if isinstance(each, ast.Name) and not each.id.isupper())]


def test_only_what_pki_signs_with_is_called_an_issuer() -> None:
    """What signs is a certificate authority everywhere else; ``issuer`` is a field that has a CA's name."""
    elsewhere = {path: source for path, source in sources("shared", "triggers").items() if "/pki/" not in path}
    assert len(elsewhere) > 100
    names = {Path(path).stem for path in elsewhere} | {name for each in elsewhere.values() for name in named_in(each)}
    assert {name for name in names if "issuer" in name.lower()} == set()
    assert named_in("class IssuerName: pass\ntype Issuers = list[str]\nIssuerId = str\n_ISSUER = 0\n") == [
        "IssuerName",
        "Issuers",
        "IssuerId",
    ]


def test_the_emulator_does_not_name_the_app() -> None:
    """It is a program of its own, for whatever app."""
    files = [path for path in (REPOSITORY / "emulator").rglob("*") if path.suffix in {".py", ".md", ".toml"}]
    assert files
    assert [str(path) for path in files if "device-identity-factory" in path.read_text(encoding="utf-8")] == []


def test_a_word_is_defined_once() -> None:
    """A second definition may say something else."""
    words = re.findall(
        r"^\| ([^|]+?) \|", (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    defined = [word for word in words if word not in {"Word", "word", "---"} and not word.startswith("-")]
    assert len(defined) > 20
    assert sorted(defined) == sorted(set(defined))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_that_exist(document: Path) -> None:
    """Each link to a file of the repository has a file at its end."""
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [
        target for target in targets if "://" not in target and not (document.parent / target).resolve().exists()
    ] == []


def test_every_document_is_in_the_index() -> None:
    """Whoever adds a page names it in docs/README.md; decisions are named in the architecture."""
    index = (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"README.md"}
    assert [page for page in sorted(pages) if f"({page})" not in index] == []
    architecture = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    decisions = (REPOSITORY / "docs" / "decisions").glob("*.md")
    assert [path.name for path in decisions if f"(decisions/{path.name})" not in architecture] == []
