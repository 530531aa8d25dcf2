"""The checker itself: it accepts what the compiler accepts, and refuses what the compiler refuses."""

import pytest

from tests.infra.samples import BAD, GOOD, MODULE, PARAMS, PREFIX, USING
from tools.bicep_check.check import check
from tools.bicep_check.program import Program


def faults(text: str) -> list[str]:
    """What the checker says of a template that begins as all samples do, beside a module and a text file."""
    texts = {"main.bicep": PREFIX + text, "modules/other.bicep": MODULE, "query.kql": "traces"}
    return [found.message for found in check(Program(texts)).findings]


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_what_the_compiler_accepts_is_accepted(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD.keys())
def test_what_the_compiler_refuses_is_refused(text: str, told: str) -> None:
    assert any(told in fault for fault in faults(text)), faults(text)


@pytest.mark.parametrize(("text", "told"), PARAMS.values(), ids=PARAMS.keys())
def test_parameters_are_held_to_their_template(text: str, told: str) -> None:
    good = Program({"main.bicep": PREFIX, "params/one.bicepparam": USING + "param location = 'x'\nparam count = 4"})
    assert check(good).findings == ()
    found = [fault.message for fault in check(good.changed("params/one.bicepparam", text)).findings]
    assert any(told in fault for fault in found), found


def test_a_subscription_hands_a_module_its_resource_group() -> None:
    entry = """
targetScope = 'subscription'
resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = { name: 'rg', location: deployment().location }
module main 'main.bicep' = {
  scope: group
  params: { location: group.location }
}
"""
    texts = {"main.bicep": PREFIX, "entry.bicep": entry}
    assert [found.message for found in check(Program(texts)).findings if "no-loc" not in found.message] == []
    for wrong, told in (("", "give it a scope"), ("scope: subscription()", "which its scope is not")):
        found = check(Program(texts | {"entry.bicep": entry.replace("scope: group", wrong)})).findings
        assert any(told in fault.message for fault in found), found
