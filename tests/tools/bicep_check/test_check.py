"""The checks: they accept what Microsoft's compiler accepts, and report what it refuses."""

import pytest

from tests.tools.bicep_check.samples import BAD, GOOD, MODULE, PARAMS, PREFIX, USING
from tools.bicep_check.check import check
from tools.bicep_check.program import Program


def messages(text: str) -> list[str]:
    """Check a template that begins with the common part of all samples, beside a module and a text file."""
    texts = {"main.bicep": PREFIX + text, "modules/other.bicep": MODULE, "query.kql": "traces"}
    return [found.message for found in check(Program(texts)).findings]


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_a_correct_template_has_no_finding(text: str) -> None:
    assert messages(text) == []


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD.keys())
def test_a_fault_in_a_template_is_reported(text: str, expected: str) -> None:
    assert any(expected in message for message in messages(text)), messages(text)


@pytest.mark.parametrize(("text", "expected"), PARAMS.values(), ids=PARAMS.keys())
def test_a_fault_in_a_parameter_file_is_reported(text: str, expected: str) -> None:
    good = Program({"main.bicep": PREFIX, "params/one.bicepparam": USING + "param location = 'x'\nparam count = 4"})
    assert check(good).findings == ()
    found = [finding.message for finding in check(good.changed("params/one.bicepparam", text)).findings]
    assert any(expected in message for message in found), found


ENTRY = """
targetScope = 'subscription'
resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = { name: 'rg', location: deployment().location }
module main 'main.bicep' = {
  scope: group
  params: { location: group.location }
}
"""


def test_a_template_for_a_subscription_gives_its_module_a_resource_group() -> None:
    found = check(Program({"main.bicep": PREFIX, "entry.bicep": ENTRY})).findings
    assert [finding.message for finding in found if "no-loc" not in finding.message] == []


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        pytest.param("", "give it a scope", id="no scope"),
        pytest.param("scope: subscription()", "is for a resource group, but its scope is none", id="a subscription"),
    ],
)
def test_a_module_for_a_resource_group_has_no_other_scope(scope: str, expected: str) -> None:
    entry = ENTRY.replace("scope: group", scope)
    found = check(Program({"main.bicep": PREFIX, "entry.bicep": entry})).findings
    assert any(expected in finding.message for finding in found), found


def test_a_finding_has_the_line_of_the_property_that_is_wrong() -> None:
    text = "resource app 'Microsoft.Web/sites@2025-03-01' = {\n  name: 'func'\n  location: 'global'\n  kimd: 'x'\n}\n"
    assert [str(finding) for finding in check(Program({"main.bicep": text})).findings] == [
        "main.bicep:4: app has a property 'kimd' that Microsoft.Web/sites does not have (BCP037)"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("var x = 'a", "main.bicep:1: a string is not closed on its line", id="string"),
        pytest.param("var x = '${a'", "main.bicep:1: a string is not closed on its line", id="interpolation"),
        pytest.param("var x = '\\q'", "main.bicep:1: a string has no escape \\q", id="escape"),
        pytest.param("\nvar x = ~1", "main.bicep:2: the character '~' is not allowed here", id="character"),
        pytest.param("import 'x'", "main.bicep:1: 'import' begins no declaration", id="declaration"),
    ],
)
def test_a_syntax_error_is_a_finding(text: str, expected: str) -> None:
    (finding,) = check(Program({"main.bicep": text})).findings
    assert str(finding).startswith(expected)


def test_a_file_that_uses_one_with_a_syntax_error_is_reported_too() -> None:
    program = Program({"main.bicep": "module x 'x.bicep' = {}", "x.bicep": "var"})
    assert [finding.path for finding in check(program).findings if "syntax error" in finding.message] == ["main.bicep"]


@pytest.mark.parametrize("declaration", ["param x strin", "output x strin = 'a'"], ids=["param", "output"])
def test_an_unknown_type_in_a_module_is_reported_once_in_the_module(declaration: str) -> None:
    main = "module x 'x.bicep' = { params: { x: 'a' } }\n@description('X.')\noutput y string = x.outputs.x\n"
    texts = {"main.bicep": main, "x.bicep": declaration}
    found = [str(finding) for finding in check(Program(texts)).findings if "'strin' is no type" in finding.message]
    assert found == [f"x.bicep:1: {declaration.split(maxsplit=1)[0]} 'x': 'strin' is no type (BCP302)"]


def test_an_empty_parameter_file_needs_a_using() -> None:
    (finding,) = check(Program({"a.bicepparam": ""})).findings
    assert "exactly one `using`" in finding.message
