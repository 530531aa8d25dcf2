"""What the compiler would refuse: every declaration held to its types, across files."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.bicep_check.conformity import conform
from tools.bicep_check.declared import UnknownType, declared_type, module_params, param_type, resource_body
from tools.bicep_check.inference import Scope
from tools.bicep_check.placement import misplaced, named, undeployed
from tools.bicep_check.program import Finding, Program, Template
from tools.bicep_check.start import late_values
from tools.bicep_check.tokens import Unreadable
from tools.bicep_check.tree import Condition, Declaration, Loop, Node, Object

if TYPE_CHECKING:
    from collections.abc import Callable

_MODULE_PROPERTIES = frozenset({"name", "scope", "params", "dependsOn", "identity", "extensionConfigs"})


@dataclass(frozen=True, slots=True)
class Unit:
    """A template on the desk."""

    program: Program
    template: Template
    findings: list[Finding]

    @property
    def scope(self) -> Scope:
        """Where the expressions of its declarations are read."""
        return Scope(self.program, self.template, self.report)

    def report(self, node: Node, message: str) -> None:
        """Note what is wrong, once."""
        finding = Finding(self.template.path, node.line, message)
        if finding not in self.findings:
            self.findings.append(finding)


def compile_program(program: Program) -> list[Finding]:
    """What is wrong with the kinds of values in all files."""
    findings: list[Finding] = []
    for path in (*program.names(".bicep"), *program.names(".bicepparam")):
        try:
            template = program.template(path)
        except Unreadable as error:
            findings.append(Finding(path, error.line, error.message))
            continue
        unit = Unit(program, template, findings)
        try:
            _using(unit) if path.endswith(".bicepparam") else _template(unit)
        except Unreadable as error:  # in a file that this one calls, where it is reported
            findings.append(Finding(path, 1, f"calls a file that cannot be read: {error.message}"))
    return findings


def _template(unit: Unit) -> None:
    checks: dict[str, Callable[[Unit, Declaration], None]] = {
        "param": _param,
        "var": _value,
        "metadata": _value,
        "type": _type,
        "output": _output,
        "module": _module,
    }
    for declared in unit.template.declarations:
        if declared.keyword in checks:
            checks[declared.keyword](unit, declared)
    for declared in unit.template.resources:
        _resource(unit, declared)


def _param(unit: Unit, declared: Declaration) -> None:
    if declared.type is None:
        unit.report(declared, f"param {declared.name!r} has no type (BCP014)")
    try:
        kind = param_type(declared, unit.template)
    except UnknownType as error:
        unit.report(declared, f"param {declared.name!r}: {error} (BCP302)")
        return
    if declared.value is not None:
        unit.scope.kind(declared.value)
        conform(unit.scope, declared.value, kind, declared.name)


def _value(unit: Unit, declared: Declaration) -> None:
    if declared.value is not None:
        unit.scope.kind(declared.value)


def _type(unit: Unit, declared: Declaration) -> None:
    try:
        declared_type(declared.type, unit.template)
    except UnknownType as error:
        unit.report(declared, f"type {declared.name!r}: {error} (BCP302)")


def _output(unit: Unit, declared: Declaration) -> None:
    if declared.value is None:
        unit.report(declared, f"output {declared.name!r} has no value")
        return
    unit.scope.kind(declared.value)
    try:
        conform(unit.scope, declared.value, declared_type(declared.type, unit.template), declared.name)
    except UnknownType as error:
        unit.report(declared, f"output {declared.name!r}: {error} (BCP302)")


def _resource(unit: Unit, declared: Declaration) -> None:
    resource = unit.template.resource_type(declared)
    kind = resource_body(resource)
    if kind is None:
        unit.report(declared, f"the type {resource!r} is not among the published types at hand")
    scope, body = _opened(unit, declared)
    if body is None:
        unit.report(declared, f"resource {declared.name!r} has no body")
        return
    for node, message in misplaced(unit.template, declared, body):
        unit.report(node, message)
    if declared.existing:
        if body.get("name") is None:
            unit.report(declared, f"{declared.name} lacks the property 'name' (BCP035)")
    elif kind is not None:
        conform(scope, body, named(kind, body), declared.name)
    for late in late_values(unit.template, declared):
        unit.report(late.node, f"{declared.name}: {late.message} (BCP120)")


def _module(unit: Unit, declared: Declaration) -> None:
    path = unit.program.resolve(unit.template.path, declared.path)
    scope, body = _opened(unit, declared)
    if path not in unit.program.texts:
        unit.report(declared, f"module {declared.name!r} calls a file that is not there: {declared.path} (BCP091)")
        return
    if body is None:
        unit.report(declared, f"module {declared.name!r} has no body")
        return
    for found in body.properties:
        if found.key.literal not in _MODULE_PROPERTIES:
            unit.report(found, f"a module has no property {found.key.literal!r} (BCP037)")
    called = unit.program.template(path)
    params = body.get("params") or Object(declared.line, ())
    conform(scope, params, module_params(called), f"{declared.name}.params")
    _module_scope(unit, declared, body, called)
    for node, message in undeployed(unit.template, body):
        unit.report(node, message)
    for late in late_values(unit.template, declared):
        unit.report(late.node, f"{declared.name}: {late.message} (BCP120)")


def _module_scope(unit: Unit, declared: Declaration, body: Object, called: Template) -> None:
    scope = body.get("scope")
    if scope is None:
        if called.scope != unit.template.scope:
            unit.report(declared, f"module {declared.name!r} is for a {called.scope}: give it a scope (BCP134)")
        return
    target = unit.scope.declared(getattr(scope, "name", ""))
    is_group = getattr(scope, "function", "") == "resourceGroup" or (
        target is not None and target.path.lower().startswith("microsoft.resources/resourcegroups@")
    )
    if called.scope == "resourceGroup" and not is_group:
        unit.report(scope, f"module {declared.name!r} is for a resource group, which its scope is not (BCP134)")


def _opened(unit: Unit, declared: Declaration) -> tuple[Scope, Object | None]:
    """The scope and the object inside a declaration's loop and condition; all of its expressions are read once."""
    scope, value = unit.scope, declared.value
    while isinstance(value, Loop | Condition):
        if isinstance(value, Loop):
            scope = scope.of_loop(value)
        else:
            scope.expect_flag(value.condition)
        value = value.body
    if not isinstance(value, Object):
        return scope, None
    scope.kind(value)
    return scope, value


def _using(unit: Unit) -> None:
    """Hold a .bicepparam to the template that it is for."""
    using = unit.template.of("using")
    if len(using) != 1:
        unit.report(unit.template.declarations[0], "a .bicepparam has one `using`")
        return
    path = unit.program.resolve(unit.template.path, using[0].path)
    if path not in unit.program.texts:
        unit.report(using[0], f"uses a file that is not there: {using[0].path} (BCP091)")
        return
    wanted = module_params(unit.program.template(path))
    given = unit.template.of("param")
    for declared in given:
        asked = wanted.fields.get(declared.name)
        if asked is None:
            unit.report(declared, f"{path} has no param {declared.name!r} (BCP259)")
        elif declared.value is not None:
            unit.scope.kind(declared.value)
            conform(unit.scope, declared.value, asked.type, declared.name)
    for name in wanted.fields.keys() - {declared.name for declared in given}:
        if wanted.fields[name].required:
            unit.report(using[0], f"gives no value to the param {name!r} (BCP258)")
