"""Evaluates expressions of the templates without Azure, so that tests can check which parameters they refuse."""

import json
from collections.abc import Callable, Mapping
from operator import eq, ge, gt, le, lt, ne

from tools.bicep_check.program import Program, Template
from tools.bicep_check.tree import (
    Array,
    ArrayAccess,
    Binary,
    Boolean,
    Call,
    Integer,
    Lambda,
    Name,
    Node,
    Null,
    Object,
    PropertyAccess,
    String,
    Ternary,
    Unary,
)

type Value = str | int | bool | list["Value"] | dict[str, "Value"] | None

# What functions return in a deployment to the global cloud.
_AZURE: Mapping[str, Value] = {
    "environment": {"name": "AzureCloud", "suffixes": {"storage": "core.windows.net"}},
    "resourceGroup": {"id": "/subscriptions/s/resourceGroups/calls", "location": "westeurope"},
    "tenant": {"tenantId": "22222222-2222-2222-2222-222222222222"},
}
_COMPARED: Mapping[str, Callable[..., bool]] = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


class Refused(Exception):
    """The template called `fail()`; the message is its argument."""


class Evaluation:
    """Evaluates the names of one template, for these parameters and environment variables.

    Parameters
    ----------
    template
        A `.bicep` or a `.bicepparam` file.
    given
        The values of parameters, by name. The others have their defaults.
    environment
        The variables that `readEnvironmentVariable()` reads.
    """

    def __init__(
        self, template: Template, given: Mapping[str, Value] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._template = template
        self._given = dict(given or {})
        self._environment = environment or {}

    def of(self, name: str) -> Value:
        """Return the value of a param or var.

        Raises
        ------
        Refused
            Its expression calls `fail()`.
        """
        if name not in self._given:
            self._given[name] = self.value(self._template.symbols[name].value)
        return self._given[name]

    def value(self, node: Node | None) -> Value:  # noqa: PLR0911 one return a sort of expression
        """Return the value of an expression. `&&` and `||` evaluate both sides, a ternary only one branch."""
        match node:
            case String(pieces=pieces):
                return "".join(piece if isinstance(piece, str) else str(self.value(piece)) for piece in pieces)
            case Integer(value=value) | Boolean(value=value):
                return value
            case Null():
                return None
            case Name(name=name):
                return self.of(name)
            case PropertyAccess(target=target, name=name, safe=safe):
                found = self.value(target)
                assert isinstance(found, dict)
                return found.get(name) if safe else found[name]
            case ArrayAccess(target=target, index=index):
                position = self.value(index)
                assert isinstance(position, int)
                return _items(self.value(target))[position]
            case Ternary(condition=condition, yes=yes, no=no):
                return self.value(yes if self.value(condition) else no)
            case Unary(operator="!", operand=operand):
                return not self.value(operand)
            case Binary(operator=operator, left=left, right=right):
                return _binary(operator, self.value(left), self.value(right))
            case _:
                return self._composed(node)

    def _composed(self, node: Node | None) -> Value:
        match node:
            case Array(items=items):
                return [self.value(item) for item in items]
            case Object(properties=properties):
                return {str(self.value(found.key)): self.value(found.value) for found in properties}
            case Call(function="filter", arguments=(source, Lambda() as holds)):
                return [found for found in _items(self.value(source)) if self._applied(holds, found)]
            case Call(function="map", arguments=(source, Lambda() as made)):
                return [self._applied(made, found) for found in _items(self.value(source))]
            case Call(function=function, arguments=arguments):
                return self._call(function, *map(self.value, arguments))
            case _:
                raise NotImplementedError(f"line {node.line if node else 0}: {type(node).__name__}")

    def _applied(self, function: Lambda, value: Value) -> Value:
        (name,) = function.parameters
        return Evaluation(self._template, {**self._given, name: value}, self._environment).value(function.body)

    def _call(self, function: str, *arguments: Value) -> Value:
        if function == "fail":
            raise Refused(str(arguments[0]))
        if function == "readEnvironmentVariable":
            return self._environment.get(str(arguments[0]), arguments[1])
        return _AZURE[function] if function in _AZURE else _FUNCTIONS[function](*arguments)


def of_parameters(program: Program, path: str, environment: Mapping[str, str]) -> Evaluation:
    """Return the evaluation of a template with the parameters of a `.bicepparam` file."""
    parameters = program.template(path)
    (using,) = parameters.of("using")
    read = Evaluation(parameters, environment=environment)
    given = {declared.name: read.value(declared.value) for declared in parameters.of("param")}
    return Evaluation(program.template(program.resolve(path, using.path)), given)


def _binary(operator: str, left: Value, right: Value) -> Value:
    if operator in _COMPARED:
        return _COMPARED[operator](left, right)
    return {"&&": bool(left and right), "||": bool(left or right), "??": right if left is None else left}[operator]


def _items(value: Value) -> list[Value]:
    assert isinstance(value, list)
    return value


def _text(value: Value) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _union(*values: Value) -> Value:
    """Return the properties of all objects, of which later ones win, or the items of all arrays, each of them once."""
    if all(isinstance(value, dict) for value in values):
        return {name: found for value in values if isinstance(value, dict) for name, found in value.items()}
    found: list[Value] = []
    for item in (item for value in values for item in _items(value)):
        found += [] if item in found else [item]
    return found


# An empty variable is not unset: readEnvironmentVariable() returns it, not the default.
_FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "contains": lambda whole, part: part in whole,
    "empty": lambda value: not value,
    "items": lambda value: [{"key": key, "value": value[key]} for key in sorted(value)],
    "join": lambda items, divider: divider.join(items),
    "length": len,
    "replace": lambda text, old, new: text.replace(old, new),
    "split": lambda text, divider: text.split(divider),
    "startsWith": lambda text, start: text.lower().startswith(start.lower()),
    "string": _text,
    "take": lambda text, count: text[:count],
    "toLower": str.lower,
    "union": _union,
}
