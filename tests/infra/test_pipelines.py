"""The pipelines are as GitHub and Azure Pipelines take them, keep no secret, and do the same four things."""

from __future__ import annotations

import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # it has no annotations

from devstack.package import PACKAGE
from tests.infra.bicep import INFRA

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = INFRA.parent
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
TESTING = REPOSITORY / ".github" / "workflows" / "test.yml"
AZURE_PIPELINE = REPOSITORY / ".ci" / "azure-pipelines.yml"
AZURE_SCHEMA = Draft7Validator(
    json.loads(
        files("check_jsonschema").joinpath("builtin_schemas/vendor/azure-pipelines.json").read_text(encoding="utf-8")
    )
)
DEPLOYING = (REPOSITORY / ".github" / "workflows" / "deploy.yml", AZURE_PIPELINE)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What actionlint says of each workflow, and of a wrong one, by file name. It takes seconds to start, so it runs once."""
    wrong = tmp_path_factory.mktemp("workflows") / "wrong.yml"
    wrong.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ nothing.x }}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        ["node", str(Path(__file__).parent / "actionlint.cjs"), *map(str, (*WORKFLOWS, wrong))],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    faults: dict[str, list[str]] = {path.name: [] for path in (*WORKFLOWS, wrong)}
    for each in json.loads(done.stdout):
        faults[Path(each["file"]).name].append(f"{each['line']}: {each['message']}")
    return faults


def azure_faults(content: str) -> set[str]:
    """Say where a pipeline breaks Azure Pipelines' published schema, which check-jsonschema carries.

    Of the many alternatives of a schema, those are told that fitted longest.
    """
    faults = [each for fault in AZURE_SCHEMA.iter_errors(yaml.safe_load(content)) for each in with_causes(fault)]
    depth = max((len(each.absolute_path) for each in faults), default=0)
    return {".".join(map(str, each.absolute_path)) for each in faults if len(each.absolute_path) == depth}


def with_causes(fault: Any) -> Iterator[Any]:
    """Give a fault, and all that stand behind it."""
    yield fault
    for each in fault.context or ():
        yield from with_causes(each)


@pytest.mark.long
def test_actionlint_finds_nothing(found: dict[str, list[str]]) -> None:
    ours = {name: faults for name, faults in found.items() if name != "wrong.yml"}
    assert ours == {"deploy.yml": [], "prove.yml": [], "test.yml": []}


def test_actionlint_finds_what_is_wrong(found: dict[str, list[str]]) -> None:
    (fault,) = found["wrong.yml"]
    assert fault.startswith('6: undefined variable "nothing"')


def test_the_azure_pipeline_is_as_the_schema_has_it() -> None:
    assert azure_faults(AZURE_PIPELINE.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("right", "wrong", "where"),
    [
        ("task: NodeTool@0", "task: NodeTool@99", "stages.0.jobs.0.steps.1.task"),
        ('timeoutInMinutes: "30"', "timeoutInMinutes: [30]", "stages.1.jobs.0.timeoutInMinutes"),
    ],
)
def test_a_wrong_azure_pipeline_is_found(right: str, wrong: str, where: str) -> None:
    content = AZURE_PIPELINE.read_text(encoding="utf-8")
    assert right in content
    assert where in azure_faults(content.replace(right, wrong, 1))


@pytest.mark.parametrize("path", DEPLOYING, ids=lambda path: path.name)
def test_a_pipeline_tests_packages_previews_and_deploys_in_this_order(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    steps = (
        "make test",
        "make package",
        "azd provision --preview --no-prompt",
        "azd provision --no-prompt",
        "azd deploy ",
    )
    if "uses: ./.github/workflows/test.yml" in content:
        content = content.replace("uses: ./.github/workflows/test.yml", "make test")
    places = [content.index(step) for step in steps]
    assert places == sorted(places)


@pytest.mark.parametrize("path", [TESTING, AZURE_PIPELINE], ids=lambda path: path.name)
def test_the_end_to_end_tests_run_in_both_forms_at_the_same_time(path: Path) -> None:
    """All tests with one app for everything, and in a job beside it the end-to-end tests in four zones."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = content["jobs"].values() if "jobs" in content else content["stages"][0]["jobs"]
    run = {step.get("run") or step.get("script") for job in jobs for step in job["steps"]}
    assert {"make test COVERAGE=1", "make test ZONES=4"} <= run
    assert all("needs" not in job and "dependsOn" not in job for job in jobs)


def test_a_job_waits_for_the_one_before() -> None:
    jobs = yaml.safe_load(DEPLOYING[0].read_text(encoding="utf-8"))["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "test": None,
        "package": "test",
        "preview": "package",
        "deploy": "preview",
    }
    stages = yaml.safe_load(AZURE_PIPELINE.read_text(encoding="utf-8"))["stages"]
    assert {stage["stage"]: stage.get("dependsOn") for stage in stages} == {
        "test": None,
        "preview": "test",
        "deploy": "preview",
    }


@pytest.mark.parametrize("path", DEPLOYING, ids=lambda path: path.name)
def test_a_pipeline_deploys_the_zip_that_make_package_writes(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    assert str(PACKAGE.relative_to(REPOSITORY)) in content
    assert f"/package/{PACKAGE.name}" in content


@pytest.mark.parametrize("path", [*WORKFLOWS, AZURE_PIPELINE], ids=lambda path: path.name)
def test_no_pipeline_keeps_a_secret(path: Path) -> None:
    """They sign in with workload identity federation; what they are told are ids, which are no secrets."""
    content = path.read_text(encoding="utf-8")
    assert not re.search(r"secrets\.|CLIENT_SECRET|password|AZURE_CREDENTIALS|publish.profile", content, re.IGNORECASE)


def test_what_an_environment_says_is_asked_for_in_the_jobs_of_the_environment() -> None:
    """Variables of a GitHub environment are seen by the jobs that name it, and not by the workflow as a whole."""
    workflow: dict[str, Any] = yaml.safe_load(DEPLOYING[0].read_text(encoding="utf-8"))
    assert "env" not in workflow
    asking = {name for name, job in workflow["jobs"].items() if "vars." in str(job)}
    assert asking == {name for name, job in workflow["jobs"].items() if "environment" in job} == {"preview", "deploy"}


def test_only_the_jobs_that_sign_in_get_a_token_to_sign_in_with() -> None:
    """By `id-token: write`; and nothing may write to the repository."""
    workflow: dict[str, Any] = yaml.safe_load(DEPLOYING[0].read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    allowed = {name for name, job in workflow["jobs"].items() if job.get("permissions", {}).get("id-token") == "write"}
    assert allowed == {"preview", "deploy"}
    for path in WORKFLOWS:
        assert "contents: write" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DEPLOYING, ids=lambda path: path.name)
def test_a_pipeline_deploys_to_every_app_that_there_may_be(path: Path) -> None:
    """Who is asked goes before who asks, so that nothing is asked for that an older app can't carry out."""
    services = yaml.safe_load((REPOSITORY / "azure.yaml").read_text(encoding="utf-8"))["services"]
    assert re.findall(r'apps="([a-z ]+)"', path.read_text(encoding="utf-8")) == [
        "factory",
        "revocation issuing status intake",
    ]
    assert {"factory", "issuing", "revocation", "status", "intake"} == set(services)
