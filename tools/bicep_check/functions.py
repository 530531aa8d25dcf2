"""Bicep's functions, with their numbers of arguments and types of results, and Bicep's decorators."""

from collections.abc import Mapping
from dataclasses import dataclass

from tools.bicep_check.value_types import (
    ANY,
    ANY_OBJECT,
    ArrayType,
    BooleanType,
    Field,
    IntegerType,
    ObjectType,
    StringType,
    Type,
)

_UNLIMITED = 1000


@dataclass(frozen=True, slots=True)
class Function:
    """A function of Bicep: how many arguments it takes, and the type of its result."""

    min_arguments: int
    max_arguments: int
    result: Type


def _object(name: str, /, **properties: Type) -> ObjectType:
    return ObjectType({key: Field(type_) for key, type_ in properties.items()}, name=name)


def _to_string(min_arguments: int, max_arguments: int, *, max_length: int | None = None) -> Function:
    return Function(min_arguments, max_arguments, StringType(max_length=max_length))


_STRING = StringType()
_SUFFIXES = ("acrLoginServer", "azureDatalakeAnalyticsCatalogAndJob", "azureDatalakeStoreFileSystem", "keyvaultDns")
_ENVIRONMENT = _object(
    "environment()",
    name=_STRING,
    authentication=ANY_OBJECT,
    resourceManager=_STRING,
    portal=_STRING,
    suffixes=_object("suffixes", storage=_STRING, sqlServerHostname=_STRING, **dict.fromkeys(_SUFFIXES, _STRING)),
)
_GROUP_STRINGS = dict.fromkeys(("id", "name", "location", "type"), _STRING)
_GROUP = _object("resourceGroup()", tags=ANY_OBJECT, properties=ANY_OBJECT, **_GROUP_STRINGS)
_SUBSCRIPTION = _object("subscription()", id=_STRING, subscriptionId=_STRING, tenantId=_STRING, displayName=_STRING)
_DEPLOYER = _object("deployer()", objectId=_STRING, tenantId=_STRING, userPrincipalName=_STRING)
_ENTRIES = ArrayType(_object("items()", key=_STRING, value=ANY))

# Microsoft: "Bicep functions" pages. uniqueString gives 13 characters, guid 36.
FUNCTIONS: Mapping[str, Function] = {
    **dict.fromkeys(("any", "json", "loadJsonContent", "loadYamlContent"), Function(1, 3, ANY)),
    **dict.fromkeys(("coalesce", "max", "min", "intersection", "reference"), Function(1, _UNLIMITED, ANY)),
    **dict.fromkeys(("first", "last"), Function(1, 1, ANY)),
    **dict.fromkeys(("reduce",), Function(3, 3, ANY)),
    **dict.fromkeys(("map", "filter", "sort"), Function(2, 2, ArrayType(ANY))),
    **dict.fromkeys(("take", "skip"), Function(2, 2, ANY)),
    **dict.fromkeys(("toLower", "toUpper", "trim", "base64", "uri", "dateTimeAdd"), _to_string(1, 3)),
    **dict.fromkeys(("format", "resourceId", "subscriptionResourceId", "tenantResourceId"), _to_string(1, _UNLIMITED)),
    **dict.fromkeys(("extensionResourceId", "managementGroupResourceId"), _to_string(2, _UNLIMITED)),
    **dict.fromkeys(("contains", "startsWith", "endsWith"), Function(2, 2, BooleanType())),
    **dict.fromkeys(("replace", "padLeft"), _to_string(2, 3)),
    "cidrHost": _to_string(2, 2),
    "cidrSubnet": _to_string(3, 3),
    "array": Function(1, 1, ArrayType(ANY)),
    "bool": Function(1, 1, BooleanType()),
    "concat": Function(1, _UNLIMITED, ANY),
    "deployer": Function(0, 0, _DEPLOYER),
    "deployment": Function(0, 0, _object("deployment()", name=_STRING, properties=ANY_OBJECT, location=_STRING)),
    "empty": Function(1, 1, BooleanType()),
    "environment": Function(0, 0, _ENVIRONMENT),
    "fail": Function(1, 1, ANY),
    "flatten": Function(1, 1, ArrayType(ANY)),
    "guid": _to_string(1, _UNLIMITED, max_length=36),
    "indexOf": Function(2, 2, IntegerType()),
    "int": Function(1, 1, IntegerType()),
    "items": Function(1, 1, _ENTRIES),
    "join": _to_string(2, 2),
    "length": Function(1, 1, IntegerType()),
    "loadTextContent": _to_string(1, 2),
    "newGuid": _to_string(0, 0, max_length=36),
    "objectKeys": Function(1, 1, ArrayType(_STRING)),
    "range": Function(2, 2, ArrayType(IntegerType())),
    "readEnvironmentVariable": _to_string(1, 2),
    "resourceGroup": Function(0, 2, _GROUP),
    "shallowMerge": Function(1, 1, ANY_OBJECT),
    "split": Function(2, 2, ArrayType(_STRING)),
    "string": _to_string(1, 1),
    "subscription": Function(0, 1, _SUBSCRIPTION),
    "substring": _to_string(2, 3),
    "tenant": Function(0, 0, _object("tenant()", tenantId=_STRING, displayName=_STRING)),
    "toObject": Function(2, 3, ANY_OBJECT),
    "union": Function(1, _UNLIMITED, ANY),
    "uniqueString": Function(1, _UNLIMITED, StringType(min_length=13, max_length=13)),
    "utcNow": _to_string(0, 1),
}

# Functions that read a secret. Our templates work without secrets, so each use is reported.
SECRET_FUNCTIONS = frozenset({"listKeys", "listSecrets", "listAccountSas", "listServiceSas", "getSecret"})

# Microsoft: "Decorators" sections of the pages on each declaration. A decorator, and the declarations that take it.
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
