"""Changes the workflows and the domain in small ways, and sees whether the unit tests notice: ``python -m tests.mutants``.

mutmut makes the changes ("mutants") in a copy of the repository, and runs the tests of ``tests/unit`` that reach the
changed function; those of ``tests/world`` notice more, and take too long. What it has judged it keeps: a run that was
ended goes on where it was, and only mutants of changed functions and survivors are judged again. A full run takes hours;
``--sample 200 --seed 7`` judges 200 of them.

A survivor that no test can or should kill stands in ``surviving_mutants.toml`` with its reason. The run fails if fewer
than ``FLOOR`` percent are killed, if a survivor is not listed there, and if one that is listed there is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

REPOSITORY = Path(__file__).parents[1]
COPY = REPOSITORY / ".devstack" / "mutants"
SURVIVORS = REPOSITORY / "tests" / "surviving_mutants.toml"
FLOOR = 85.0
"""Percent of the mutants that the tests must kill."""

MUTATED = ("shared/workflows/*", "shared/domain/*")
_REACHING = re.compile(
    r"^(from|import) (shared\.(workflows|domain|services)|tests\.world|tests\.unit\."
    r"(adopting|authorities|devices|evidence\.(stored|timed_orders)|explained|fakes|groups)\b)",
    re.MULTILINE,
)
UNIT = re.compile(r"tests/unit/(\w+/)?test_\w+\.py")
KILLED = frozenset({1, 3})
"""Exit codes of pytest where a test has failed; also those of a mutant that hangs, which ``tests.hanging`` ends."""

_PATIENCE = 100
"""So many times what its tests take otherwise mutmut lets a mutant go on, by the clock."""

_GIVEN_UP = frozenset({None, 24, -24, 36, 152, 255})
"""Exit codes, as mutmut writes them, of what was not judged, or was ended by the clock: the machine did other things."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant that no test has noticed.

    Attributes:
        function: dotted name of the function that was changed.
        change: the lines that are out, after ``-``, and those that are in, after ``+``.
    """

    function: str
    change: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a run has found.

    Attributes:
        killed: how many mutants a test noticed.
        survived: how many none did.
        unlisted: survivors that have no reason.
        needless: listed as survivors, and killed.
    """

    killed: int
    survived: int
    unlisted: tuple[Survivor, ...]
    needless: tuple[Survivor, ...]

    @property
    def percent(self) -> float:
        """How many of the mutants were killed."""
        return 100 * self.killed / max(1, self.killed + self.survived)

    @property
    def is_well(self) -> bool:
        """Whether enough are killed, and all others have a reason."""
        return self.percent >= FLOOR and not self.unlisted and not self.needless


def judge(
    killed: int, noticed: Collection[Survivor], survivors: Sequence[Survivor], listed: Collection[Survivor]
) -> Judgement:
    """Hold the outcome of a run against the list of survivors that have a reason.

    Args:
        killed: how many mutants a test noticed.
        noticed: those of them that change a function of which survivors are listed.
        survivors: the others.
        listed: survivors that have a reason.
    """
    return Judgement(
        killed=killed,
        survived=len(survivors),
        unlisted=tuple(each for each in survivors if each not in listed),
        # Two mutants of a function may change lines that read alike.
        needless=tuple(each for each in listed if each in noticed and each not in survivors),
    )


def read_survivors(text: str) -> dict[Survivor, str]:
    """Read the list; each with its reason.

    Raises:
        ValueError: one has no reason.
    """
    listed = {
        Survivor(each["function"], tuple(each["change"])): each["reason"].strip()
        for each in tomllib.loads(text).get("survivor", ())
    }
    for survivor, reason in listed.items():
        if not reason:
            raise ValueError(f"the survivor in {survivor.function} has no reason; say why no test kills it")
    return listed


def written(survivor: Survivor) -> str:
    """Write a survivor as it goes into the list, where its reason is to be filled in."""
    change = "".join(f"    {json.dumps(line, ensure_ascii=False)},\n" for line in survivor.change)
    return f'[[survivor]]\nfunction = "{survivor.function}"\nchange = [\n{change}]\nreason = ""\n'


def change_of(diff: str) -> tuple[str, ...]:
    """Take the changed lines out of a unified diff."""
    lines = diff.splitlines()
    return tuple(
        f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in {"-", "+"} and line[:3] not in {"---", "+++"}
    )


def function_of(mutant: str) -> str:
    """Give the dotted name of a mutant's function: of ``a.xǁBǁc__mutmut_1`` it is ``a.B.c``, of ``a.x_c__mutmut_1`` ``a.c``."""
    module, _, mangled = mutant.partition("__mutmut_")[0].rpartition(".")
    if mangled.startswith("xǁ"):
        return f"{module}.{mangled[2:].replace('ǁ', '.')}"
    return f"{module}.{mangled.removeprefix('x_')}"


def copy_repository() -> None:
    """Bring the copy up to date, and touch nothing in it that is."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    files = {name for name in listed if name and name != "pyproject.toml" and (REPOSITORY / name).is_file()}
    changed = [name for name in files if _write(COPY / name, (REPOSITORY / name).read_bytes())]
    _write(COPY / "pyproject.toml", (REPOSITORY / "pyproject.toml").read_bytes() + _configuration(files).encode())
    link = COPY / "mutants" / "node_modules"  # where tests read published schemas
    if not link.is_symlink():
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(REPOSITORY / "node_modules")
    for known in [*COPY.glob("shared/**/*.py"), *COPY.glob("tests/**/*.py")]:
        name = str(known.relative_to(COPY))
        if name not in files:
            for gone in (known, COPY / "mutants" / name, COPY / "mutants" / f"{name}.meta"):
                gone.unlink(missing_ok=True)
    if any(name.startswith("tests/") for name in changed):
        # Which tests reach which function: mutmut would run those by name that are not there any more.
        (COPY / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)


def _write(file: Path, content: bytes) -> bool:
    """Write a file, if it is another one; tell whether it was."""
    if file.is_file() and file.read_bytes() == content:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return True


def selected(tests: Mapping[str, str]) -> list[str]:
    """Choose the files of unit tests that reach what is mutated; others would only take time.

    Args:
        tests: their texts by their names.
    """
    return sorted(name for name, text in tests.items() if _REACHING.search(text))


def _configuration(files: Collection[str]) -> str:
    tests = selected({name: (REPOSITORY / name).read_text() for name in files if UNIT.fullmatch(name)})
    settings = {
        "source_paths": ["shared"],
        "only_mutate": list(MUTATED),
        "also_copy": sorted({name.split("/")[0] for name in files} - {"shared"}),
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "tests.hanging"],
        "pytest_add_cli_args_test_selection": tests,
        "timeout_multiplier": _PATIENCE,
        "use_git_change_detection": False,
        "on_dependency_change": "ignore",
    }
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    return "\n[tool.mutmut]\n" + "".join(lines)


def mutants_like(patterns: Sequence[str]) -> list[str]:
    """Name the mutants that can be made, in a fixed order; to be called in the copy."""
    return sorted(
        name
        for folder in MUTATED
        for file in Path(folder.removesuffix("/*")).rglob("*.py")
        if any(_may_match(file, pattern) for pattern in patterns)
        for name in _mutants_of(file)
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    )


def _mutants_of(file: Path) -> list[str]:
    """Name the mutants of a file: as mutmut has made them already, unless the file was changed since."""
    made = Path("mutants", f"{file}.meta")
    if made.is_file() and made.stat().st_mtime >= file.stat().st_mtime:
        return list(json.loads(made.read_text())["exit_code_by_key"])
    from mutmut.mutation.file_mutation import mutate_file_contents  # noqa: PLC0415 - reads the folder's configuration
    from mutmut.utils.format_utils import get_mutant_name  # noqa: PLC0415

    return [get_mutant_name(file, each) for each in mutate_file_contents(str(file), file.read_text()).mutant_names]


def _may_match(file: Path, pattern: str) -> bool:
    """Tell whether a mutant of a file can have a name like this: to make all takes a minute."""
    module, fixed = ".".join(file.with_suffix("").parts), re.split(r"[*?\[]", pattern)[0]
    return module.startswith(fixed) or fixed.startswith(module)


def judged() -> dict[str, int | None]:
    """Read what mutmut has found so far: exit codes by mutant; to be called in the copy."""
    found: dict[str, int | None] = {}
    for file in Path("mutants/shared").rglob("*.py.meta"):
        found |= json.loads(file.read_text())["exit_code_by_key"]
    return found


def is_judged(exit_code: int | None) -> bool:
    """Tell whether the tests of a mutant have come to an end; ``None`` is the exit code of one that was not run."""
    return exit_code not in _GIVEN_UP


def described(mutant: str) -> Survivor:
    """Say what a mutant changes; to be called in the copy."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # noqa: PLC0415 - reads the folder's configuration

    return Survivor(function_of(mutant), change_of(get_diff_for_mutant(mutant)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge mutants, and report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="See which changes no test notices.")
    parser.add_argument("patterns", nargs="*", help="mutants' names, as in 'shared.workflows.intake.*'; all by default")
    parser.add_argument("--sample", type=int, metavar="N", help="judge only N of them")
    parser.add_argument("--seed", type=int, default=1, help="which N (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), metavar="N", help="processes (%(default)s)")
    parser.add_argument("--anew", action="store_true", help="forget what was judged before")
    given = parser.parse_args(arguments)
    if given.anew:
        shutil.rmtree(COPY, ignore_errors=True)
    copy_repository()
    with contextlib.chdir(COPY):
        patterns = given.patterns or ["*"]
        chosen = mutants_like(patterns)
        if not chosen:
            print(f"no mutant has a name like {' or '.join(patterns)}; give one as in 'shared.workflows.intake.*'")
            return 2
        if given.sample is not None:
            draw = random.Random(given.seed)  # noqa: S311 - which mutants are judged is no secret
            chosen = draw.sample(chosen, min(given.sample, len(chosen)))
        _run(chosen, given.at_once)
        return _report(chosen)


def _run(chosen: Sequence[str], at_once: int) -> None:
    before = judged()
    # Tests may have been written for those that survived.
    waiting = [name for name in chosen if before.get(name) not in KILLED]
    print(f"{len(chosen)} mutants, {len(waiting)} to be judged", flush=True)
    if waiting:
        mutmut = Path(sys.executable).with_name("mutmut")
        subprocess.run([mutmut, "run", "--max-children", str(at_once), *waiting], check=True)


def _report(chosen: Sequence[str]) -> int:
    found = judged()
    pending = [name for name in chosen if not is_judged(found.get(name))]
    if pending:
        print(f"{len(pending)} of {len(chosen)} mutants were not judged; run it again to go on")
        return 1
    listed = read_survivors(SURVIVORS.read_text())
    functions = {each.function for each in listed}
    survivors = [described(name) for name in chosen if found[name] not in KILLED]
    killed = [name for name in chosen if found[name] in KILLED]
    noticed = {described(name) for name in killed if function_of(name) in functions}
    judgement = judge(len(killed), noticed, survivors, listed)
    for each in judgement.unlisted:
        print(written(each))
    for each in judgement.needless:
        print(f"listed as a survivor, and killed; take it out of {SURVIVORS.name}:\n{written(each)}")
    print(
        f"{len(killed)} of {len(chosen)} mutants killed, {judgement.percent:.1f} %; the floor is {FLOOR} %; "
        f"{len(survivors)} survived, {len(judgement.unlisted)} of them without a reason in {SURVIVORS.name}"
    )
    return 0 if judgement.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
