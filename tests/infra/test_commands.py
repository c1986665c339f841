"""The documents call az and azd by commands and options that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.infra.bicep import INFRA, source
from tests.infra.deployment import deploy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = Path(__file__).parents[2]
FACTS = json.loads((Path(__file__).parent / "facts" / "commands.json").read_text(encoding="utf-8"))
COMMANDS: Mapping[str, list[str]] = FACTS["commands"]
PAGES = (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"))
PIPELINES = (REPOSITORY / ".ci" / "azure-pipelines.yml", *(REPOSITORY / ".github" / "workflows").glob("*.yml"))


def code_of(path: Path) -> str:
    """Give what is code in a page: blocks, and what is between backticks; of a pipeline all but names and comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", text)
        return "\n".join([*blocks, *(" ".join(span.split()) for span in spans)])
    return re.sub(r"^ *(?:#|- name:|name:|displayName:).*", "", text, flags=re.MULTILINE)


def calls(code: str) -> Iterator[str]:
    """Give each call of az or azd, with what it goes on with in the next line."""
    for found in re.finditer(r"(?<![\w./-])(azd? [a-z][^`\n|#)&;]*)", code.replace("\\\n", " ")):
        call = " ".join(found[1].split())
        if call != "az storage":  # named as a group of commands
            yield call


def command_of(call: str) -> str | None:
    """Give the command: the longest one that the call begins with."""
    words = call.split()
    names = (" ".join(words[:count]) for count in range(len(words), 1, -1))
    return next((name for name in names if name in COMMANDS), None)


def faults(text: str) -> list[str]:
    """Say which calls are not as the commands are."""
    found = []
    for call in calls(text):
        command = command_of(call)
        if command is None:
            found.append(f"{call}: there is no such command, or nobody has looked it up yet")
        else:
            used = re.findall(r"(?<=\s)--?[a-zA-Z][\w-]*", call.removeprefix(command))
            found += [f"{command} has no {each}" for each in used if each not in COMMANDS[command]]
    return found


@pytest.mark.parametrize("path", [*PAGES, *PIPELINES], ids=lambda path: path.name)
def test_a_page_calls_what_there_is(path: Path) -> None:
    assert faults(code_of(path)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "az keyvault restore -n x",
            ["az keyvault restore -n x: there is no such command, or nobody has looked it up yet"],
        ),
        ("az group create --nam x \\\n  -l here\n", ["az group create has no --nam"]),
        ("key=$(az functionapp keys list --resource x | jq)", ["az functionapp keys list has no --resource"]),
        ("azd deploy app --from-packages x", ["azd deploy has no --from-packages"]),
        ("azd up && azd env get-value X --output x", ["azd env get-value has no --output"]),
        ("azd up && azd env get-value X", []),
    ],
)
def test_a_command_or_an_option_that_does_not_exist_is_found(text: str, said: list[str]) -> None:
    assert faults(text) == said


def test_every_fact_is_of_a_command_that_is_called() -> None:
    called = {command_of(call) for path in (*PAGES, *PIPELINES) for call in calls(code_of(path))}
    assert set(COMMANDS) - called == set()


def test_what_deploy_md_says_that_azd_shows_is_an_output() -> None:
    """`azd env get-value NAME` gives a choice or an output of main.bicep."""
    outputs = set(source(INFRA / "main.bicep").outputs)
    for path in (*PAGES, *PIPELINES):
        for name in re.findall(r"azd env get-value (\w+)", path.read_text(encoding="utf-8")):
            assert name in outputs, (path.name, name)


def test_what_is_set_for_azd_is_a_choice_or_one_of_azure_yaml() -> None:
    given = (INFRA / "main.parameters.json").read_text(encoding="utf-8")
    given += (REPOSITORY / "azure.yaml").read_text(encoding="utf-8")
    known = set(re.findall(r"\$\{(\w+)", given))
    for path in PAGES:
        for name in re.findall(r"azd env set (\w+)", path.read_text(encoding="utf-8")):
            assert name in known or name == "NAME", (path.name, name)


def test_a_name_of_a_resource_is_one_that_is_deployed() -> None:
    """`<token>` stands for what follows from subscription, environment and region."""
    everything = {"privateNetwork": True, "frontDoor": True, "publicHostName": "pki.example.com", "eventTopic": True}
    resources, _ = deploy(environmentName="plant-1", location="westeurope", **everything)
    [service] = [each.name for each in resources if each.kind == "Microsoft.Devices/provisioningServices"]
    token = service.removeprefix("dps-")
    names = {each.name.replace(token, "<token>") for each in resources}
    for path in PAGES:
        for name in re.findall(r"(?<![\w>-])[\w-]+<token>", path.read_text(encoding="utf-8")):
            assert name in names, (path.name, name)
