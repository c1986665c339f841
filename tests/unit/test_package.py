"""The package that is deployed: what is in it, and that the app starts from it and the pinned requirements alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devstack import functions_host, package
from tests.sources import sources

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
INDEXING = """
import asyncio, gc, json, sys
from pathlib import Path
from devstack.functions_host.worker import Worker

async def main():
    worker = Worker(Path(sys.argv[1]), 60.0)
    functions = await worker.start()
    assert gc.isenabled() and gc.get_freeze_count() > 100_000
    print(json.dumps({function.name: function.kind for function in functions}))
    worker.stop()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "app.zip"
    package.write(path)
    return path


def test_the_package_has_the_app_and_nothing_else(built: Path) -> None:
    """No tests, no local cloud, no settings, of the infrastructure the table of zones; of pages what they are made of."""
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        *(".funcignore", "LICENSE", "function_app.py", "host.json", "infra", "requirements.txt", "shared", "triggers"),
    }
    assert [name for name in names if name.startswith("infra/")] == ["infra/zones.json"]
    others = [name for name in names if not name.endswith((".py", ".json", ".txt"))]
    page = [name for name in others if name.startswith("triggers/console/")]
    assert [name for name in others if name not in page] == [".funcignore", "LICENSE"]
    assert {name.rpartition("/")[0] for name in page if name.endswith(".html")} == {"triggers/console/templates"}
    assert [name for name in page if not name.endswith(".html")] == ["triggers/console/assets/console.css"]


def test_one_adapter_alone_knows_what_keeps_the_app_from_the_next_python() -> None:
    """azure-iot-hub brings uamqp, which has no wheel for Python 3.14; docs/facts.md says what it is needed for."""
    found = {
        path
        for path, source in sources("shared", "triggers").items()
        if re.search(r"^\s*(from|import) (azure\.iot\.hub|uamqp)\b", source, re.MULTILINE)
    }
    assert found == {"shared/adapters/iot_hub.py"}


def test_the_same_files_make_the_same_package(built: Path, tmp_path: Path) -> None:
    """Whoever builds it again can compare its hash."""
    again = tmp_path / "again.zip"
    package.write(again)
    assert again.read_bytes() == built.read_bytes()


def pinned() -> Iterator[tuple[str, str]]:
    for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([\w.-]+)==([^\s;]+)", line):
            yield found[1], found[2]


@pytest.mark.long
def test_the_app_starts_from_the_package_and_its_pinned_requirements_alone(built: Path, tmp_path: Path) -> None:
    """Nothing else can be imported: the packages are those of requirements.txt, in the versions that it names."""
    app, packages, harness = tmp_path / "app", tmp_path / "packages", tmp_path / "harness"
    with zipfile.ZipFile(built) as archive:
        archive.extractall(app)
    packages.mkdir()
    for name, version in pinned():
        installed = distribution(name)
        assert (name, installed.version) == (name, version)
        for file in installed.files or ():
            if ".." not in file.parts and Path(str(installed.locate_file(file))).exists():
                shown = packages / file
                shown.parent.mkdir(parents=True, exist_ok=True)
                shown.symlink_to(Path(str(installed.locate_file(file))))
    host = Path(functions_host.__file__).parent
    for name in ("__init__.py", "worker.py", "protocol.py"):
        (harness / "devstack" / "functions_host").mkdir(parents=True, exist_ok=True)
        shutil.copy(host / name, harness / "devstack" / "functions_host" / name)
    (harness / "devstack" / "__init__.py").touch()
    settings = json.loads((REPOSITORY / "local.settings.example.json").read_text(encoding="utf-8"))["Values"]
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-c", INDEXING, str(app)],
        env={"PATH": os.environ["PATH"], **settings, "PYTHONPATH": os.pathsep.join(map(str, (packages, harness)))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    functions = json.loads(done.stdout)
    assert functions["device_orders"] == "queueTrigger"
    assert len([kind for kind in functions.values() if kind == "httpTrigger"]) > 40
