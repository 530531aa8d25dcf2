"""Checks each declaration against its types, across files, as the compiler does."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.bicep_check.assignment import check_assignment
from tools.bicep_check.declared_types import (
    UnknownTypeError,
    declared_type,
    module_params,
    param_type,
    resource_body,
)
from tools.bicep_check.deployment_start import late_values
from tools.bicep_check.inference import Scope
from tools.bicep_check.placement import check_depends_on, check_placement, without_name_rule
from tools.bicep_check.program import Finding, Program, Template
from tools.bicep_check.tokens import BicepSyntaxError
from tools.bicep_check.tree import Condition, Declaration, Loop, Node, Object

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULE_PROPERTIES = frozenset({"name", "scope", "params", "dependsOn", "identity", "extensionConfigs"})


@dataclass(frozen=True, slots=True)
class Check:
    """The check of one file; it collects the findings."""

    program: Program
    template: Template
    findings: list[Finding]

    @property
    def scope(self) -> Scope:
        """The scope of expressions at the top level of the file."""
        return Scope(self.program, self.template, self.report)

    def report(self, node: Node, message: str) -> None:
        """Add a finding, unless it is there already."""
        finding = Finding(self.template.path, node.line, message)
        if finding not in self.findings:
            self.findings.append(finding)


def check_declarations(program: Program) -> list[Finding]:
    """Return what is wrong with the declarations of all templates and parameter files, syntax errors included."""
    findings: list[Finding] = []
    for path in (*program.names(".bicep"), *program.names(".bicepparam")):
        try:
            template = program.template(path)
        except BicepSyntaxError as error:
            findings.append(Finding(path, error.line, error.message))
            continue
        check = Check(program, template, findings)
        try:
            _parameter_file(check) if path.endswith(".bicepparam") else _template(check)
        except BicepSyntaxError as error:  # in a file that this one uses; it is reported there
            findings.append(Finding(path, 1, f"uses a file that has a syntax error: {error.message}"))
    return findings


def _template(check: Check) -> None:
    by_keyword: dict[str, Callable[[Check, Declaration], None]] = {
        "param": _param,
        "var": _value,
        "metadata": _value,
        "type": _type,
        "output": _output,
        "module": _module,
    }
    for declared in check.template.declarations:
        if declared.keyword in by_keyword:
            by_keyword[declared.keyword](check, declared)
    for declared in check.template.resources:
        _resource(check, declared)


def _param(check: Check, declared: Declaration) -> None:
    if declared.type is None:
        check.report(declared, f"param {declared.name!r} has no type (BCP014)")
    try:
        type_ = param_type(declared, check.template)
    except UnknownTypeError as error:
        check.report(declared, f"param {declared.name!r}: {error} (BCP302)")
        return
    if declared.value is not None:
        check.scope.type_of(declared.value)
        check_assignment(check.scope, declared.value, type_, declared.name)


def _value(check: Check, declared: Declaration) -> None:
    if declared.value is not None:
        check.scope.type_of(declared.value)


def _type(check: Check, declared: Declaration) -> None:
    try:
        declared_type(declared.type, check.template)
    except UnknownTypeError as error:
        check.report(declared, f"type {declared.name!r}: {error} (BCP302)")


def _output(check: Check, declared: Declaration) -> None:
    if declared.value is None:
        check.report(declared, f"output {declared.name!r} has no value")
        return
    check.scope.type_of(declared.value)
    try:
        check_assignment(check.scope, declared.value, declared_type(declared.type, check.template), declared.name)
    except UnknownTypeError as error:
        check.report(declared, f"output {declared.name!r}: {error} (BCP302)")


def _resource(check: Check, declared: Declaration) -> None:
    resource = check.template.resource_type(declared)
    type_ = resource_body(resource)
    if type_ is None:
        check.report(declared, f"{resource!r} is not in published_types.json: add it as the README says")
    scope, body = _opened(check, declared)
    if body is None:
        check.report(declared, f"resource {declared.name!r} has no body")
        return
    for node, message in check_placement(check.template, declared, body):
        check.report(node, message)
    if declared.existing:
        if body.get("name") is None:
            check.report(declared, f"{declared.name} lacks the property 'name' (BCP035)")
    elif type_ is not None:
        check_assignment(scope, body, without_name_rule(type_, body), declared.name)
    for node, message in late_values(check.template, declared):
        check.report(node, f"{declared.name}: {message}")


def _module(check: Check, declared: Declaration) -> None:
    path = check.program.resolve(check.template.path, declared.path)
    scope, body = _opened(check, declared)
    if path not in check.program.texts:
        check.report(declared, f"module {declared.name!r} uses a file that does not exist: {declared.path} (BCP091)")
        return
    if body is None:
        check.report(declared, f"module {declared.name!r} has no body")
        return
    for found in body.properties:
        if found.key.literal not in _MODULE_PROPERTIES:
            check.report(found, f"a module has no property {found.key.literal!r} (BCP037)")
    called = check.program.template(path)
    params = body.get("params") or Object(declared.line, ())
    check_assignment(scope, params, module_params(called), f"{declared.name}.params")
    _module_scope(check, declared, body, called)
    for node, message in check_depends_on(check.template, body):
        check.report(node, message)
    for node, message in late_values(check.template, declared):
        check.report(node, f"{declared.name}: {message}")


def _module_scope(check: Check, declared: Declaration, body: Object, called: Template) -> None:
    """Check that a module's scope is the one that its file is written for."""
    scope = body.get("scope")
    if scope is None:
        if called.scope != check.template.scope:
            check.report(declared, f"module {declared.name!r} is for a {called.scope}: give it a scope (BCP134)")
        return
    target = check.scope.declared(getattr(scope, "name", ""))
    is_group = getattr(scope, "function", "") == "resourceGroup" or (
        target is not None and target.path.lower().startswith("microsoft.resources/resourcegroups@")
    )
    if called.scope == "resourceGroup" and not is_group:
        check.report(scope, f"module {declared.name!r} is for a resource group, but its scope is none (BCP134)")


def _opened(check: Check, declared: Declaration) -> tuple[Scope, Object | None]:
    """Return the scope and the object inside a declaration's loop and condition; check all expressions in it once."""
    scope, value = check.scope, declared.value
    while isinstance(value, Loop | Condition):
        if isinstance(value, Loop):
            scope = scope.of_loop(value)
        else:
            scope.expect_boolean(value.condition)
        value = value.body
    if not isinstance(value, Object):
        return scope, None
    scope.type_of(value)
    return scope, value


def _parameter_file(check: Check) -> None:
    """Check the params of a .bicepparam file against the template that it uses."""
    using = check.template.of("using")
    if len(using) != 1:
        check.report(Node(1), "a .bicepparam file has exactly one `using`")
        return
    path = check.program.resolve(check.template.path, using[0].path)
    if path not in check.program.texts:
        check.report(using[0], f"uses a file that does not exist: {using[0].path} (BCP091)")
        return
    expected = module_params(check.program.template(path))
    given = check.template.of("param")
    for declared in given:
        field = expected.fields.get(declared.name)
        if field is None:
            check.report(declared, f"{path} has no param {declared.name!r} (BCP259)")
        elif declared.value is not None:
            check.scope.type_of(declared.value)
            check_assignment(check.scope, declared.value, field.type, declared.name)
    for name in expected.fields.keys() - {declared.name for declared in given}:
        if expected.fields[name].required:
            check.report(using[0], f"gives no value to the param {name!r} (BCP258)")
