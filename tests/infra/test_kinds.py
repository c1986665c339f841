"""Types in infra/: every expression is computed, and each kind of fault that Bicep's compiler would find is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.bicep import FILES, INFRA, Source, line, parse, source, text
from tests.infra.deployment import Deployment, deploy_file
from tests.infra.kinds import FaultError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

HUB = "/subscriptions/s/resourceGroups/rg-of-others/providers/Microsoft.Devices/IotHubs/old-hub"
CHOICES: list[dict[str, Any]] = [
    {},
    {"zones": "single", "frontDoor": True, "publicHostName": "pki.example.com", "caVaultSku": "premium"},
    {"existingHubIds": [HUB], "uploadRootsToHubs": True, "eventTopic": True, "appSettings": ["CA_COUNTRY=DE"]},
    {"privateNetwork": True, "frontDoor": True, "publicHostName": "pki.example.com", "principalId": "p", "hubCount": 2},
    {
        "queueAccounts": ["device-orders"],
        "queueSenders": "device-orders=ERP",
        "privateNetwork": True,
        "principalId": "p",
    },
    {"entraClientId": "c", "entraTenantId": "t", "alertEmails": ["a@example.com"], "evidenceImmutableDays": 365},
]
"""Choices under which every part of infra/ is deployed."""

COMPUTED = {"call_expression", "interpolation", "member_expression", "subscript_expression", "unary_expression"}


def expressions(node: Node) -> Iterator[Node]:
    """Give what is computed in a node: decorators and texts without ``${`` are not."""
    if node.type == "decorators":
        return
    if node.type in COMPUTED:
        yield node
    for child in node.named_children:
        yield from expressions(child)


def test_every_expression_of_infra_is_computed_under_some_choice() -> None:
    """So every one has been looked at: functions, arguments, properties, parameters, outputs and what resources get."""
    deployed = Deployment()
    for choice in CHOICES:
        deploy_file(source(INFRA / "main.bicep"), deployed, environmentName="plant-1", location="westeurope", **choice)
    left = [
        f"{path.name}:{line(each)}: {text(each)[:80]}"
        for path in FILES
        for each in expressions(source(path).root)
        if each.id not in deployed.computed
    ]
    assert left == []


def faults(folder: Path, **files: str) -> str:
    """Deploy ``main`` of some files, and give the fault."""
    for name, content in files.items():
        (folder / f"{name}.bicep").write_text(content, encoding="utf-8")
    path = folder / "main.bicep"
    with pytest.raises(FaultError) as found:
        deploy_file(Source(path, parse(path.read_bytes())), Deployment())
    return str(found.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("var x = toLowerCase('A')\noutput o string = x\n", "1: there is no function 'toLowerCase', or nobody has"),
        ("output o string = replace('a', 'b')\n", "1: replace does not take 2 arguments"),
        ("output o string = toLower('A', 'B')\n", "1: toLower does not take 2 arguments"),
        ("output o string = uniqueString()\n", "1: uniqueString does not take 0 arguments"),
        ("output o string = join('a', ',')\n", "1: argument 1 of join is string, expected array"),
        ("output o string = take('abc', '2')\n", "1: argument 2 of take is string, expected int"),
        ("output o array = map(['a'], 'a')\n", "1: argument 2 of map is string, expected lambda"),
        ("output o bool = empty(4)\n", "1: argument 1 of empty is int, expected array|null|object|string"),
        ("output o int = 'a'\n", "1: o is string, expected int"),
        ("output o string[] = ['a', true]\n", "1: o[1] is bool, expected string"),
        ("param a int = 'a'\n", "1: a is string, expected int"),
        ("@allowed(['a', 'b'])\nparam a string = 'c'\n", "2: a is 'c', and ['a', 'b'] are allowed"),
        ("@minValue(3)\nparam a int = 2\n", "2: a is 2, against its minValue 3"),
        ("@maxLength(2)\nparam a string = 'abc'\n", "2: a is 'abc', against its maxLength 2"),
        ("var x = { a: 1 }\noutput o int = x.b\n", "2: it has no 'b'; it has a"),
        ("var x = { a: 1 }\noutput o int = x['b']\n", "2: it has no 'b'; it has a"),
        ("var x = ['a']\noutput o string = x[1]\n", "2: there is no 1 in it"),
        ("var x = 'a'\noutput o string = x.b\n", "2: it has no 'b', since it is 'a'"),
        ("output o string = subscription().name\n", "1: it has no 'name'; it has id, subscriptionId"),
    ],
)
def test_a_wrong_function_argument_property_or_type_is_found(tmp_path: Path, wrong: str, said: str) -> None:
    assert faults(tmp_path, main=wrong).startswith(f"at main.bicep:{said}")


VAULT = "resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {\n  name: 'v'\n  location: 'l'\n  properties: {\n%s  }\n}\n"
GOOD = "    tenantId: tenant().tenantId\n    sku: {\n      family: 'A'\n      name: 'standard'\n    }\n"
DAYS = "var days = '90'\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            VAULT % GOOD + "output o string = vault.properties.vaultUrl\n",
            "12: Microsoft.KeyVault/vaults@2026-02-01 has no property 'properties.vaultUrl'; looked up are "
            "properties.vaultUri",
        ),
        (
            VAULT % GOOD + "output o string = vault.propertys.vaultUri\n",
            "12: Microsoft.KeyVault/vaults@2026-02-01 has no property 'propertys'; looked up are properties.vaultUri",
        ),
        (
            DAYS + VAULT % f"{GOOD}    softDeleteRetentionInDays: days\n",
            "2: vaults.properties.softDeleteRetentionInDays is string, expected int",
        ),
        (
            VAULT % f"{GOOD}    enablePurgeProtection: empty('') ? 'true' : true\n",
            "1: vaults.properties.enablePurgeProtection is string, expected bool",
        ),
        (
            VAULT % GOOD.replace("'standard'", "toLower('PLATINUM')"),
            "1: vaults.properties.sku.name is 'platinum', expected one of ['premium', 'standard']",
        ),
        (
            "var more = { retention: 90 }\n" + VAULT.replace("{\n%s  }", "union({ createMode: 'default' }, more)"),
            "2: vaults.properties.retention: Azure does not know this property",
        ),
    ],
)
def test_what_a_resource_does_not_have_or_does_not_take_is_found(tmp_path: Path, wrong: str, said: str) -> None:
    """Also where the value is computed, so that it can't be seen where it is written."""
    assert faults(tmp_path, main=wrong) == f"at main.bicep:{said}"


PART = "param count int\noutput twice int = count + count\n"
CALL = (
    "resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {\n  name: 'g'\n  location: 'l'\n}\n"
    "module part 'part.bicep' = [\n  for i in range(0, 2): {\n    scope: group\n    params: {\n      count: %s\n    }\n  }\n]\n"
)


@pytest.mark.parametrize(
    ("given", "output", "said"),
    [
        ("'two'", "", "at part.bicep:1: count is string, expected int"),
        ("empty('')", "", "at part.bicep:1: count is bool, expected int"),
        ("i", "output o int = part[i_of(0)].outputs.twice\n", "at main.bicep:13: there is no function 'i_of', or"),
        ("i", "output o int = part[0 + 1].outputs.thrice\n", "at main.bicep:13: it has no 'thrice'; it has twice"),
        ("i", "output o string = part[0].outputs.twice\n", "at main.bicep:13: o is int, expected string"),
        ("i", "output o int = part[2].outputs.twice\n", "at main.bicep:13: there is no 2 in it"),
        ("i", "output o int = part[0].output.twice\n", "at main.bicep:13: it has no 'output'"),
    ],
)
def test_what_a_module_does_not_take_or_give_is_found(tmp_path: Path, given: str, output: str, said: str) -> None:
    assert faults(tmp_path, main=CALL % given + output, part=PART).startswith(said)


def test_what_is_right_is_let_through(tmp_path: Path) -> None:
    """The same files with no fault in them."""
    (tmp_path / "part.bicep").write_text(PART, encoding="utf-8")
    path = tmp_path / "main.bicep"
    path.write_text(CALL % "i" + VAULT % GOOD + "output o string = vault.properties.vaultUri\n", encoding="utf-8")
    deployed = Deployment()
    outputs = deploy_file(Source(path, parse(path.read_bytes())), deployed)
    assert outputs == {"o": "<v.properties.vaultUri>"}
    assert [each.kind for each in deployed.resources] == [
        "Microsoft.Resources/resourceGroups",
        "Microsoft.KeyVault/vaults",
    ]


def test_every_fact_about_a_property_is_of_one_that_is_read() -> None:
    facts = json.loads((Path(__file__).parent / "facts" / "read_properties.json").read_text(encoding="utf-8"))["types"]
    everything = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    assert set(facts) <= {each.what for path in FILES for each in source(path).resources}
    assert [path for read in facts.values() for path in read if path not in everything] == []
