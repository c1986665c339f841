"""The emulator as a package of its own: built, installed into an empty environment, and started there."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from emulator.tests.running import REPOSITORY, own_address

PROJECT = REPOSITORY / "emulator"
SOURCES = [path for path in PROJECT.rglob("*.py") if path.relative_to(PROJECT).parts[0] != "tests"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built package; nothing is asked of a registry."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    subprocess.run([*pip(), "wheel", "--quiet", *offline, "--wheel-dir", folder, PROJECT], check=True)
    [built] = folder.iterdir()
    return built


def pip(*options: str) -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *options]


def test_the_package_holds_every_module_and_no_test(wheel: Path) -> None:
    """What lies in the folder is what gets installed, below the name by which it is imported."""
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
    assert packed == {path.relative_to(REPOSITORY).as_posix() for path in SOURCES}
    assert "emulator/services/dps/state.py" in packed


def test_the_package_names_what_it_imports() -> None:
    """Each package that a module imports is among the dependencies, and no other is."""
    imported = {name for path in SOURCES for name in imports(path)} - sys.stdlib_module_names - {"emulator"}
    distributions = packages_distributions()
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {distributions[name][0].lower() for name in imported} == set(declared)


def imports(path: Path) -> set[str]:
    """The top-level packages of a module's imports."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    whole = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in whole | parts}


def test_the_installed_command_starts_an_emulator(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has the dependencies and not this repository: it serves, is controlled, and ends by a signal."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    subprocess.run([*pip("--python", str(python)), "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    ports = [f"--{name}-port=0" for name in ("https", "mqtt", "amqp", "identity", "admin")]
    program = str(environment / "bin" / "azure-iot-emulator")
    command = [program, "--state-dir", "state", "--address", own_address(), *ports]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=tmp_path) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (tmp_path / "log").read_text()
        control = [program, "assigning", "set", "2.5", "--admin-url", json.loads(line)["adminUrl"]]
        said = subprocess.run(control, capture_output=True, text=True, cwd=tmp_path, check=True).stdout
        process.terminate()
        assert process.wait(20) == 0
    assert json.loads(said) == {"seconds": 2.5}
    code = "import emulator; print(emulator.__file__)"
    imported = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert Path(imported.strip()).is_relative_to(packages)
