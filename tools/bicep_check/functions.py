"""Bicep's functions and decorators: how many arguments they take, and what kind they give."""

from collections.abc import Mapping
from dataclasses import dataclass

from tools.bicep_check.types import ANYTHING, OPEN, Field, Flag, Record, Several, Type, Whole, Words

_MANY = 1000


@dataclass(frozen=True, slots=True)
class Function:
    """From `least` to `most` arguments; the kind of the result."""

    least: int
    most: int
    result: Type


def _record(name: str, /, **fields: Type) -> Record:
    return Record({key: Field(kind) for key, kind in fields.items()}, name=name)


def _text(least: int, most: int, *, longest: int | None = None) -> Function:
    return Function(least, most, Words(longest=longest))


_WORDS = Words()
_SUFFIXES = ("acrLoginServer", "azureDatalakeAnalyticsCatalogAndJob", "azureDatalakeStoreFileSystem", "keyvaultDns")
_ENVIRONMENT = _record(
    "environment()",
    name=_WORDS,
    authentication=OPEN,
    resourceManager=_WORDS,
    portal=_WORDS,
    suffixes=_record("suffixes", storage=_WORDS, sqlServerHostname=_WORDS, **dict.fromkeys(_SUFFIXES, _WORDS)),
)
_GROUP = _record("resourceGroup()", id=_WORDS, name=_WORDS, location=_WORDS, type=_WORDS, tags=OPEN, properties=OPEN)
_SUBSCRIPTION = _record("subscription()", id=_WORDS, subscriptionId=_WORDS, tenantId=_WORDS, displayName=_WORDS)
_DEPLOYER = _record("deployer()", objectId=_WORDS, tenantId=_WORDS, userPrincipalName=_WORDS)
_ENTRIES = Several(_record("items()", key=_WORDS, value=ANYTHING))

# Microsoft: "Bicep functions" pages. uniqueString gives 13 characters, guid 36.
FUNCTIONS: Mapping[str, Function] = {
    **dict.fromkeys(("any", "json", "loadJsonContent", "loadYamlContent"), Function(1, 3, ANYTHING)),
    **dict.fromkeys(("coalesce", "max", "min", "intersection", "reference"), Function(1, _MANY, ANYTHING)),
    **dict.fromkeys(("first", "last"), Function(1, 1, ANYTHING)),
    **dict.fromkeys(("reduce",), Function(3, 3, ANYTHING)),
    **dict.fromkeys(("map", "filter", "sort"), Function(2, 2, Several(ANYTHING))),
    **dict.fromkeys(("take", "skip"), Function(2, 2, ANYTHING)),
    **dict.fromkeys(("toLower", "toUpper", "trim", "base64", "uri", "dateTimeAdd"), _text(1, 3)),
    **dict.fromkeys(("format", "resourceId", "subscriptionResourceId", "tenantResourceId"), _text(1, _MANY)),
    **dict.fromkeys(("extensionResourceId", "managementGroupResourceId"), _text(2, _MANY)),
    **dict.fromkeys(("contains", "startsWith", "endsWith"), Function(2, 2, Flag())),
    **dict.fromkeys(("replace", "padLeft"), _text(2, 3)),
    "cidrHost": _text(2, 2),
    "cidrSubnet": _text(3, 3),
    "array": Function(1, 1, Several(ANYTHING)),
    "bool": Function(1, 1, Flag()),
    "concat": Function(1, _MANY, ANYTHING),
    "deployer": Function(0, 0, _DEPLOYER),
    "deployment": Function(0, 0, _record("deployment()", name=_WORDS, properties=OPEN, location=_WORDS)),
    "empty": Function(1, 1, Flag()),
    "environment": Function(0, 0, _ENVIRONMENT),
    "fail": Function(1, 1, ANYTHING),
    "flatten": Function(1, 1, Several(ANYTHING)),
    "guid": _text(1, _MANY, longest=36),
    "indexOf": Function(2, 2, Whole()),
    "int": Function(1, 1, Whole()),
    "items": Function(1, 1, _ENTRIES),
    "join": _text(2, 2),
    "length": Function(1, 1, Whole()),
    "loadTextContent": _text(1, 2),
    "newGuid": _text(0, 0, longest=36),
    "objectKeys": Function(1, 1, Several(_WORDS)),
    "range": Function(2, 2, Several(Whole())),
    "readEnvironmentVariable": _text(1, 2),
    "resourceGroup": Function(0, 2, _GROUP),
    "shallowMerge": Function(1, 1, OPEN),
    "split": Function(2, 2, Several(_WORDS)),
    "string": _text(1, 1),
    "subscription": Function(0, 1, _SUBSCRIPTION),
    "substring": _text(2, 3),
    "tenant": Function(0, 0, _record("tenant()", tenantId=_WORDS, displayName=_WORDS)),
    "toObject": Function(2, 3, OPEN),
    "union": Function(1, _MANY, ANYTHING),
    "uniqueString": Function(1, _MANY, Words(shortest=13, longest=13)),
    "utcNow": _text(0, 1),
}

# What reads a secret: none of them may stand in a template that has no secret to read.
SECRET_READERS = frozenset({"listKeys", "listSecrets", "listAccountSas", "listServiceSas", "getSecret"})

DECORATORS: Mapping[str, frozenset[str]] = {
    "description": frozenset({"param", "output", "var", "type", "resource", "module"}),
    "allowed": frozenset({"param"}),
    "secure": frozenset({"param", "output"}),
    "minLength": frozenset({"param", "type", "output"}),
    "maxLength": frozenset({"param", "type", "output"}),
    "minValue": frozenset({"param", "type", "output"}),
    "maxValue": frozenset({"param", "type", "output"}),
    "metadata": frozenset({"param", "type", "output"}),
    "sealed": frozenset({"param", "type", "output"}),
    "export": frozenset({"type", "var"}),
    "batchSize": frozenset({"resource", "module"}),
    "onlyIfNotExists": frozenset({"resource"}),
}
