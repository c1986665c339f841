"""docs/deploy.md says what is deployed: each resource, each choice, each role."""

from __future__ import annotations

import json
import re

import pytest

from devstack.deploy_page import PAGE, with_table
from tests.infra.bicep import FILES, INFRA, source

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_table_of_roles_is_the_one_that_zones_json_makes() -> None:
    """Who changes a role runs `make docs`."""
    assert with_table(TEXT) == TEXT
    assert "| `status` | Device Factory Responder Key Unwrapper (custom) |" in TEXT
    assert "| `each` | Storage Blob Data Owner |" in TEXT


@pytest.mark.parametrize(
    "kind",
    sorted({each.what.split("@")[0] for path in FILES for each in source(path).resources if not each.existing}),
)
def test_the_page_names_every_type_of_resource_that_is_created(kind: str) -> None:
    """In full, or by its last part beside its parent's."""
    assert f"`{kind}`" in TEXT or (
        f"`.../{kind.rsplit('/', 1)[1]}`" in TEXT and f"`{'/'.join(kind.split('/')[:2])}" in TEXT
    )


def test_the_page_names_every_choice_with_its_default() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    choices = [re.fullmatch(r"\$\{(FACTORY_\w+)(?:=(.*))?\}", each["value"]) for each in given.values()]
    wanted = {found[1]: f"`{found[2]}`" if found[2] else "none" for found in choices if found}
    assert len(wanted) > 15
    said = dict(re.findall(r"^\| `(FACTORY_\w+)` \| (\S+) \|", TEXT, re.MULTILINE))
    assert said == wanted


def test_the_page_tells_who_deploys_what_they_get() -> None:
    roles = (INFRA / "modules" / "senderRoles.bicep").read_text(encoding="utf-8")
    for name in re.findall(r"// (Storage .+)", roles):
        assert name in TEXT, name


def test_the_page_says_what_it_costs_about() -> None:
    """As docs/cost.md has it, which is made."""
    cost = (PAGE.parent / "cost.md").read_text(encoding="utf-8")
    made = re.search(r"\*\*together\*\* \| \*\*([\d,]+)\*\* \| \*\*([\d,]+)\*\*", cost)
    said = re.search(r"About (\d+) US dollars a year for 10,000 devices, or ([\d,]+) for 1,000,000", TEXT)
    assert made
    assert said
    for about, computed in zip(said.groups(), made.groups(), strict=True):
        assert float(about.replace(",", "")) == pytest.approx(float(computed.replace(",", "")), rel=0.1)
